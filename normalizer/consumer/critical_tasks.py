"""Runs tasks that must last as long as the service. If one ends early, the service ends."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from normalizer.errors import ProcessStuckError


def start_critical_tasks(
    tasks: asyncio.TaskGroup,
    stopping: asyncio.Event,
    works: Mapping[str, Callable[[], Awaitable[None]]],
) -> list[asyncio.Task[None]]:
    """Start each task by name. It may end only once `stopping` is set.

    A task that ends earlier raises ProcessStuckError in its group. Otherwise a task would end
    silently if, for example, a future inside aiokafka was cancelled.
    """
    return [
        tasks.create_task(_run_critical(name, work, stopping), name=name)
        for name, work in works.items()
    ]


async def _run_critical(
    name: str, work: Callable[[], Awaitable[None]], stopping: asyncio.Event
) -> None:
    try:
        await work()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
    if not stopping.is_set():
        raise ProcessStuckError(
            f"the task {name!r} ended unexpectedly, and the process cannot continue without it"
        )

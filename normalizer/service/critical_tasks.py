"""Work that lasts as long as the service runs: where it ends by itself, the service does."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from normalizer.errors import FatalError


def start_critical_tasks(
    tasks: asyncio.TaskGroup,
    stopping: asyncio.Event,
    works: Mapping[str, Callable[[], Awaitable[None]]],
) -> None:
    """Start each work, by name, as a task that may end once `stopping` is set.

    One that ends before raises FatalError in its group: a client's future that was cancelled inside
    it would end it without a word.
    """
    for name, work in works.items():
        tasks.create_task(_run_critical(name, work, stopping), name=name)


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
        raise FatalError(f"the task {name!r} ended by itself: the process cannot go on without it")

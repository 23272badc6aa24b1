"""Runs tasks without which the service can't continue. If one ends early, the service ends."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from normalizer.errors import RestartNeededError


def start_critical_tasks(
    tasks: asyncio.TaskGroup,
    stopping: asyncio.Event,
    functions: Mapping[str, Callable[[], Awaitable[None]]],
) -> list[asyncio.Task[None]]:
    """Start a named task for each function. None of them may end before `stopping` is set.

    If one does, RestartNeededError is raised in the task group. A task can end early even without
    an error, for example because a future inside aiokafka was cancelled, and otherwise nobody would
    notice that.
    """
    return [
        tasks.create_task(_run_critical(name, work, stopping), name=name)
        for name, work in functions.items()
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
        raise RestartNeededError(
            f"the task {name!r} ended unexpectedly. The process can't work without this task, so "
            "it exits. Once restarted, it continues from the last commit"
        )

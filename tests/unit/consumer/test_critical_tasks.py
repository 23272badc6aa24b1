"""Work that lasts as long as the service: its end before the stop is never silent."""

import asyncio

import pytest

from normalizer.consumer.critical_tasks import start_critical_tasks
from normalizer.errors import FatalError, RestartNeededError, pick_error_by_kind_order


async def end() -> None:
    """Do nothing."""


async def be_cancelled() -> None:
    raise asyncio.CancelledError


async def go_on() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise KeyError


@pytest.mark.parametrize("work", [end, be_cancelled])
async def test_work_that_ends_before_the_stop_is_fatal_and_ends_the_others(work: object) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.TaskGroup() as tasks:
            start_critical_tasks(tasks, asyncio.Event(), {"heartbeat": work, "others": go_on})  # type: ignore[dict-item]

    (error,) = raised.value.exceptions
    assert isinstance(error, RestartNeededError)
    assert "'heartbeat' ended unexpectedly" in str(error)


@pytest.mark.parametrize("work", [end, be_cancelled])
async def test_work_may_end_after_the_stop(work: object) -> None:
    stopping = asyncio.Event()
    stopping.set()

    async with asyncio.TaskGroup() as tasks:
        start_critical_tasks(tasks, stopping, {"heartbeat": work})  # type: ignore[dict-item]


async def test_a_critical_task_raises_its_own_error() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.TaskGroup() as tasks:
            start_critical_tasks(tasks, asyncio.Event(), {"heartbeat": fail, "others": go_on})

    assert [type(error) for error in raised.value.exceptions] == [KeyError]


def test_of_a_group_of_errors_the_worst_kind_is_raised_else_the_first() -> None:
    bug, fatal = ValueError("a bug"), FatalError("a setting")
    nested = BaseExceptionGroup("", [bug, BaseExceptionGroup("", [KeyError("later"), fatal])])

    assert pick_error_by_kind_order(nested, FatalError) is fatal
    assert pick_error_by_kind_order(nested) is bug

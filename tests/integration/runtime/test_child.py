"""A child process keeps the exit code that it ended with."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from normalizer.runtime.child import ChildProcess
from tests.support.stack import skip_or_fail
from tests.support.waiting import moment

CHILDREN = 30


@pytest.fixture
def two_cores() -> Iterator[tuple[int, int]]:
    """One for this process, whose interpreter stays in this thread, and one for its child.

    Then no other thread of this process notices that a child ends, unless this one waits.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        skip_or_fail("one core only")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1.0)
    yield cores[0], cores[-1]
    sys.setswitchinterval(interval)
    hold_on(cores)


def hold_on(cores: Sequence[int]) -> None:
    """Run every thread of this process on these cores."""
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


async def test_a_signal_to_a_child_that_ends_takes_its_exit_code_from_nobody(
    two_cores: tuple[int, int],
) -> None:
    own, other = two_cores
    codes = []
    for _ in range(CHILDREN):
        child = await ChildProcess.start("sleep", ["/bin/sleep", "60"], env={})
        for _ in range(5):
            await moment()
        os.sched_setaffinity(child.pid, {other})
        hold_on([own])
        os.kill(child.pid, signal.SIGKILL)
        for _ in range(30):
            child.send_signal(signal.SIGTERM)
            for _ in range(3_000):
                pass
        codes.append(await asyncio.wait_for(child.wait(), timeout=20))

    assert codes == [-signal.SIGKILL] * CHILDREN

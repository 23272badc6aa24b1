"""Ends the process if a test hangs for longer than its timeout.

pytest-timeout raises an exception once, which may not help: a callback of asyncio swallows it,
hypothesis takes it for a failure and tries the same steps again, and a teardown after it has no
timeout. So here a thread of faulthandler waits beside each phase of a test. It prints where every
thread is, and ends the process. xdist then says which test it was, and runs the others.
"""

import faulthandler
import os
import sys
from collections.abc import Generator
from typing import Final

import pytest

GRACE_S: Final = 60.0


class EndsHangs:
    """`grace_s`: how much longer than its timeout one phase of a test may take."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        # While a test runs, pytest holds back what it prints there.
        self._stderr = os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        yield from self._watched(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        yield from self._watched(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        yield from self._watched(item)

    def _watched(self, item: pytest.Item) -> Generator[None, None, None]:
        mark = item.get_closest_marker("timeout")
        timeout_s = float(mark.args[0] if mark else item.config.getini("timeout"))
        faulthandler.dump_traceback_later(timeout_s + self._grace_s, file=self._stderr, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

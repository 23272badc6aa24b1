"""Waits for a condition, with a deadline; never for time to pass."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

DEADLINE_S: Final = 20.0
_PAUSE_S: Final = 0.01

_T = TypeVar("_T")


async def until(
    ask: Callable[[], Awaitable[_T]],
    *,
    is_so: Callable[[_T], bool] = bool,
    deadline_s: float = DEADLINE_S,
) -> _T:
    """Repeat until the answer is as wanted, and return it; fails after the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        answer = await ask()
        if is_so(answer):
            return answer
        assert time.monotonic() < end, f"still {answer!r} after {deadline_s} s"
        await moment()


async def moment() -> None:
    """Let other tasks run for a moment."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PAUSE_S):
            await asyncio.Event().wait()

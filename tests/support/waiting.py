"""Waiting for something to be so, with a deadline; never for time to pass."""

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
    """Ask again and again until the answer is as wanted, and give it; fails after the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        answer = await ask()
        if is_so(answer):
            return answer
        assert time.monotonic() < end, f"still {answer!r} after {deadline_s} s"
        await moment()


async def moment() -> None:
    """Let others run, then come back soon."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PAUSE_S):
            await asyncio.Event().wait()

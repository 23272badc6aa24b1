"""Waits for a condition, with a deadline, but never for time to pass."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

DEADLINE_S: Final = 20.0
_PAUSE_S: Final = 0.01
_SOON_S: Final = 0.5
_LATER_PAUSE_S: Final = 0.1

_T = TypeVar("_T")


async def until(
    ask: Callable[[], Awaitable[_T]],
    otherwise: Callable[[], Awaitable[object]] | None = None,
    *,
    is_so: Callable[[_T], bool] = bool,
    deadline_s: float = DEADLINE_S,
) -> _T:
    """Call until the result is as wanted, and return it.

    After half a second it calls only ten times a second, because each call takes work. After the
    deadline it fails with what `otherwise` returns, or else with the last result.
    """
    began_s = time.monotonic()
    while True:
        answer = await ask()
        if is_so(answer):
            return answer
        waited_s = time.monotonic() - began_s
        if waited_s >= deadline_s:
            have = await otherwise() if otherwise else answer
            raise AssertionError(f"still {have!r} after {deadline_s} s")
        await moment(_PAUSE_S if waited_s < _SOON_S else _LATER_PAUSE_S)


async def moment(pause_s: float = _PAUSE_S) -> None:
    """Let other tasks run for a moment."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(pause_s):
            await asyncio.Event().wait()

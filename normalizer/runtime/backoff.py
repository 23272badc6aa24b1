"""Waits for an event with a time limit, and computes the backoff before a retry.

Every loop that retries waits with these functions, so that stopping the process ends the wait at
once.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Final

INITIAL_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 2.0
"""It's short, because a batch that waited for a lock must be stored within five seconds after the
lock was released."""


def backoff_delay_s(
    tries: int,
    draw: Callable[[], float] = random.random,
    *,
    longest_s: float = MAX_BACKOFF_S,
) -> float:
    """Return how many seconds to wait after this many failures in a row.

    The wait doubles with each failure, up to `longest_s`. A random part of up to half is taken off,
    so that processes that failed together don't all retry at the same moment.
    """
    return min(longest_s, INITIAL_BACKOFF_S * 2.0 ** min(tries, 10)) * (0.5 + draw() / 2)


async def wait_at_most(event: asyncio.Event, wait_s: float) -> bool:
    """Wait for the event, at most this long. Returns whether it's set.

    Use it in a loop that retries, so that a stop ends the wait:

        while not await wait_at_most(stopping, backoff_delay_s(tries)):
            ...
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await event.wait()
    return event.is_set()

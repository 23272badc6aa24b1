"""Waits for an event, but no longer than a given time."""

import asyncio
import contextlib


async def wait_at_most(event: asyncio.Event, wait_s: float) -> bool:
    """Wait for the event, at most this long; return whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await event.wait()
    return event.is_set()

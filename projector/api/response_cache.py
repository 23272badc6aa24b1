"""One query for all who ask the same within a second: many open pages cost as much as one."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakValueDictionary

import msgspec

FRESH_S: Final = 1.0
"""How long an answer is given to others who ask the same."""
MOST_BYTES: Final = 16 << 20


class CachedResponse(msgspec.Struct, frozen=True):
    """An answer as it is sent, and its ETag: equal when nothing but the clock has moved."""

    body: bytes
    etag: str
    made_s: float


class ResponseCache:
    """The answers of the last second, by what was asked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: dict[str, CachedResponse] = {}
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._bytes = 0

    async def get(
        self, key: str, run: Callable[[], Awaitable[tuple[bytes, str]]]
    ) -> tuple[CachedResponse, bool]:
        """The answer, and whether it is another's. An error is its asker's alone."""
        async with self._asking.setdefault(key, asyncio.Lock()):
            known = self._answers.get(key)
            if known is not None and self._clock() - known.made_s < FRESH_S:
                return known, True
            body, etag = await run()
            made = CachedResponse(body, etag, self._clock())
            self._keep(key, made)
            return made, False

    def _keep(self, key: str, made: CachedResponse) -> None:
        """What is over a second old goes, and beyond MOST_BYTES the oldest."""
        self._drop(key)
        self._answers[key] = made
        self._bytes += len(made.body)
        for other, old in list(self._answers.items()):
            if made.made_s - old.made_s < FRESH_S and self._bytes <= MOST_BYTES:
                break
            self._drop(other)

    def _drop(self, key: str) -> None:
        dropped = self._answers.pop(key, None)
        if dropped is not None:
            self._bytes -= len(dropped.body)

"""Caches responses for one second, so that many open pages cost the database as much as one.

Every open dashboard sends the same requests every few seconds. Identical requests that arrive while
the first is still in progress share its query.
"""

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

FRESH_FOR_S: Final = 1.0
"""How long to reuse a response for identical requests."""
_MAX_CACHE_BYTES: Final = 16 << 20
_MIN_COMPRESSED_BYTES: Final = 1_024
"""Shorter bodies fit into one packet uncompressed."""
_LEVEL: Final = 5


class CachedResponse(msgspec.Struct, frozen=True):
    """A response body, plain and compressed with gzip, and its ETag.

    The ETag changes only if the rows change. Fields that change all the time, such as `read_at`,
    don't affect it, so `clock` has their values separately, as JSON. `next_page` is the cursor of
    the next page, or None.
    """

    body: bytes
    packed: bytes | None
    etag: str
    clock: str
    next_page: str | None
    made_s: float


class ResponseCache:
    """The responses of the last second, by path and query string."""

    def __init__(self) -> None:
        self._answers: dict[str, CachedResponse] = {}
        self._running: dict[str, asyncio.Future[CachedResponse]] = {}
        self._bytes = 0

    async def get(
        self, key: str, run: Callable[[], Awaitable[tuple[bytes, str, str, str | None]]]
    ) -> tuple[CachedResponse, bool]:
        """Return the response for `key`, and whether it came from the cache or another request.

        If an identical request is in progress, this one waits for that request's response. If `run`
        raises an error, all waiting requests raise it too, and nothing is cached. If each of them
        ran the query again instead, the last one would have to wait for the timeouts of all others.
        """
        known = self._answers.get(key)
        if known is not None and time.monotonic() - known.made_s < FRESH_FOR_S:
            return known, True
        if key in self._running:
            return await asyncio.shield(self._running[key]), True
        running = self._running[key] = asyncio.get_running_loop().create_future()
        try:
            body, etag, clock, next_page = await run()
            made = CachedResponse(
                body, await _packed(body), etag, clock, next_page, time.monotonic()
            )
        except Exception as error:
            running.set_exception(error)
            running.exception()  # read the error, even if no request waits
            raise
        else:
            self._keep(key, made)
            running.set_result(made)
            return made, False
        finally:
            running.cancel()  # has an effect only if this request was cancelled
            del self._running[key]

    def _keep(self, key: str, made: CachedResponse) -> None:
        """Keep the response, and drop those older than FRESH_FOR_S.

        If all together are larger than _MAX_CACHE_BYTES, drop the oldest ones.
        """
        self._drop(key)
        self._answers[key] = made
        self._bytes += _size(made)
        for other, old in list(self._answers.items()):
            if made.made_s - old.made_s < FRESH_FOR_S and self._bytes <= _MAX_CACHE_BYTES:
                break
            self._drop(other)

    def _drop(self, key: str) -> None:
        dropped = self._answers.pop(key, None)
        if dropped is not None:
            self._bytes -= _size(dropped)


async def _packed(body: bytes) -> bytes | None:
    """Compress the body once for all requests, or return None if that's not worth it."""
    if len(body) < _MIN_COMPRESSED_BYTES:
        return None
    # Compression releases the interpreter's lock, so other requests continue.
    return await asyncio.to_thread(gzip.compress, body, compresslevel=_LEVEL, mtime=0)


def _size(response: CachedResponse) -> int:
    return len(response.body) + len(response.packed or b"")

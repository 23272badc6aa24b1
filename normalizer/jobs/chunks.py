"""The whole log of events in, stretches of ids out: each of few rows, read page by page."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NamedTuple

import asyncpg

from normalizer.jobs import statements
from normalizer.jobs.pages import fetch_page

Ask = Callable[[Callable[[asyncpg.Connection], Awaitable[Any]]], Awaitable[Any]]
"""Does work on a connection, as `Session.at_once`."""


BEFORE_ALL: Final = -(1 << 63) - 1
"""No id is below the one that follows it."""


class Chunk(NamedTuple):
    """Ids from `low` to `high`, both included."""

    low: int
    high: int


async def fetch_rows(
    connection: asyncpg.Connection, statement: str, chunk: Chunk, *values: object
) -> tuple[list[asyncpg.Record], int]:
    """The first rows of a chunk, as far as they fit in memory, and up to which id they are all."""
    rows, are_all = await fetch_page(connection, statement, *chunk, *values)
    return rows, chunk.high if are_all else rows[-1]["event_id"]


class Chunks:
    """Walks the partitions in the order of ids, so many stored ids at a time."""

    def __init__(self, ask: Ask, rows: int) -> None:
        self._ask = ask
        self._rows = rows
        self._walked = 0
        self._all = 0

    def share(self) -> float | None:
        """How much was walked, by statistics; None before the first chunk."""
        return min(self._walked / self._all, 1.0) if self._all else None

    async def after(self, event_id: int) -> AsyncIterator[Chunk]:
        """Chunks of all ids above this one. Raises what asking raises; can be walked again then."""
        partitions = await self._fetch(statements.PARTITIONS)
        self._all = sum(partition["rows"] for partition in partitions)
        self._walked = 0
        for partition in partitions:
            low = max(partition["low"], event_id + 1)
            left = partition["rows"]
            while low <= partition["high"]:
                bounds = (low, partition["high"])
                end = await self._fetch(statements.CHUNK_END, *bounds, self._rows - 1)
                high = end[0]["event_id"] if end else partition["high"]
                yield Chunk(low, high)
                low = high + 1
                self._walked += min(self._rows, left)
                left -= min(self._rows, left)
            self._walked += left

    async def _fetch(self, statement: str, *values: int) -> list[asyncpg.Record]:
        async def fetch(connection: asyncpg.Connection) -> list[asyncpg.Record]:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *values)
            return rows

        rows: list[asyncpg.Record] = await self._ask(fetch)
        return rows

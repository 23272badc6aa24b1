"""Walks all stored events in ranges of ids, each of few rows, read page by page."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, NamedTuple

import asyncpg

from normalizer.jobs.engine import job_statements
from normalizer.jobs.sources.row_pages import fetch_page

Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]
"""Returns the rows of a statement, as `Session.fetch` does."""


BELOW_ALL_IDS: Final = -(1 << 63) - 1
"""A lower bound: every event id is above it."""


class IdRange(NamedTuple):
    """Ids from `low` to `high`, both included."""

    low: int
    high: int


async def fetch_rows(
    connection: asyncpg.Connection, statement: str, ids: IdRange, *values: object
) -> tuple[list[asyncpg.Record], int]:
    """Return rows of a range that fit in memory, and the id up to which they are complete."""
    rows, are_all = await fetch_page(connection, statement, *ids, *values)
    return rows, ids.high if are_all else rows[-1]["event_id"]


class IdRangeWalk:
    """Walks the partitions in the order of ids, this many stored ids at a time."""

    def __init__(self, fetch: Fetch, rows: int) -> None:
        self._fetch = fetch
        self._rows = rows
        self._rows_in_all = 0
        self._left: dict[int, int] = {}
        """Rows left of each partition, by its first id; kept when the walk begins again."""

    def share(self) -> float | None:
        """The share walked so far, by statistics; None before the first range."""
        return 1 - sum(self._left.values()) / self._rows_in_all if self._rows_in_all else None

    async def after(self, event_id: int) -> AsyncGenerator[IdRange, None]:
        """Yield ranges of ids above this one. Propagates database errors; safe to restart."""
        partitions = await self._fetch(job_statements.PARTITIONS)
        for partition in partitions:
            if partition["low"] not in self._left:
                self._left[partition["low"]] = partition["rows"]
                self._rows_in_all += partition["rows"]
        for partition in partitions:
            low = max(partition["low"], event_id + 1)
            while low <= partition["high"]:
                bounds = (low, partition["high"])
                end = await self._fetch(job_statements.CHUNK_END, *bounds, self._rows - 1)
                high = end[0]["event_id"] if end else partition["high"]
                yield IdRange(low, high)
                low = high + 1
                left = self._left[partition["low"]]
                self._left[partition["low"]] = max(0, left - self._rows)
            self._left[partition["low"]] = 0

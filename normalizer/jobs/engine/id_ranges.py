"""Divides all stored events into ranges of ids, with a limited number of rows each.

A job or a check over all events reads them range by range, so that no statement takes long.
Together the ranges cover every possible id, so a row that's inserted in the meantime is read too,
unless its range has already been read.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import asyncpg

from normalizer.jobs.sources.row_pages import fetch_page
from normalizer.store.retrying_session import RetryingSession
from normalizer.store.stored_rows import ENVELOPE_COLUMNS_SQL

FetchRows = Callable[..., Awaitable[list[asyncpg.Record]]]
"""Returns the rows of a statement, as `Session.fetch` does."""

BELOW_ALL_IDS: Final = -(1 << 63) - 1
"""A lower bound. Every event id is above it."""
_GREATEST_ID: Final = (1 << 63) - 1


class IdRange(NamedTuple):
    """Ids from `low` to `high`, including both."""

    low: int
    high: int


ALL_IDS: Final = IdRange(BELOW_ALL_IDS + 1, _GREATEST_ID)

READ_EVENTS_IN_RANGE_SQL: Final = f"""
    select   {ENVELOPE_COLUMNS_SQL}
    from     normalizer.events
    where    event_id between $1::bigint and $2::bigint
    order by event_id
"""  # noqa: S608 - column names of this project


async def read_pages(
    session: RetryingSession, statement: str, ids: IdRange, values: Sequence[object]
) -> AsyncGenerator[list[asyncpg.Record], None]:
    """Yield the rows of a range, as many at once as fit in memory, each time in a new transaction.

    The last page of a range may be empty.
    """
    last_id = ids.low - 1
    while last_id < ids.high:
        rest = IdRange(last_id + 1, ids.high)
        rows, last_id = await session.run(
            partial(fetch_fitting_rows_and_end, statement, rest, values)
        )
        yield rows


async def fetch_fitting_rows_and_end(
    statement: str, ids: IdRange, values: Sequence[object], connection: asyncpg.Connection
) -> tuple[list[asyncpg.Record], int]:
    """Return as many rows of a range as fit in memory, and the id up to which none is missing."""
    rows, are_all = await fetch_page(connection, statement, *ids, *values)
    return rows, ids.high if are_all else rows[-1]["event_id"]


# An estimate from the server's counters.
ESTIMATE_ROW_COUNT_SQL: Final = """
    select greatest(pg_stat_get_live_tuples('normalizer.events'::regclass), 1)
"""

# Finds the end of a range of $2 events that begins at the id $1. Returns the id of the first event
# after the range, or no row if the range reaches to the last event.
_CHUNK_END: Final = """
    select   event_id
    from     normalizer.events
    where    event_id >= $1::bigint
    order by event_id
    limit    1
    offset   $2::bigint
"""


class IdRangeWalk:
    """Yields ranges of ids that cover all stored events, in ascending order."""

    def __init__(self, fetch: FetchRows, rows: int) -> None:
        self._fetch = fetch
        self._rows = rows
        self._rows_in_all = 0
        self._rows_walked = 0

    def progress_ratio(self) -> float | None:
        """Return the share of rows in the ranges so far, or None before the first range.

        The total is the server's estimate.
        """
        return min(self._rows_walked / self._rows_in_all, 1.0) if self._rows_in_all else None

    async def ranges_above(
        self, event_id: int, *, rows_walked: int = 0
    ) -> AsyncGenerator[IdRange, None]:
        """Yield ranges that together cover all ids above `event_id`. May be called again.

        To resume after an interruption, pass the last id that was handled. Also pass the number of
        rows up to that id as `rows_walked`, so that `progress_ratio` continues from there. Raises
        the database's errors.
        """
        ((self._rows_in_all,),) = await self._fetch(ESTIMATE_ROW_COUNT_SQL)
        self._rows_walked = rows_walked
        low = event_id + 1
        while low <= _GREATEST_ID:
            end = await self._fetch(_CHUNK_END, low, self._rows - 1)
            high = end[0]["event_id"] if end else _GREATEST_ID
            yield IdRange(low, high)
            low = high + 1
            self._rows_walked += self._rows

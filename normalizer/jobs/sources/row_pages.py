"""Fetches the rows of a statement in pages that fit in memory, because a row may have megabytes.

A page is fetched in several steps. The first step fetches only a few rows, because nobody knows yet
how large they are. As long as the rows turn out to be small, each further step fetches more of
them. The page is complete when its rows have BYTES_PER_PAGE or more.
"""

from collections.abc import Sequence
from typing import Final

import asyncpg

BYTES_PER_PAGE: Final = 8 << 20
"""End a page at this many bytes of JSON and text, estimated from the rows read so far."""
ROWS_IN_FIRST_FETCH: Final = 16
_MAX_ROWS_PER_FETCH: Final = 100
"""Fetch at most this many rows at once, because large rows may follow small ones. Fetching more
would save little."""


class PageBudget:
    """Counts the rows of a page and their bytes, and decides how many rows to fetch next."""

    def __init__(self, max_rows: int = _MAX_ROWS_PER_FETCH) -> None:
        self._max_rows = max_rows
        self._rows = 0
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Return whether the page ends here."""
        return self._bytes >= BYTES_PER_PAGE

    def rows_to_fetch(self) -> int:
        """Return how many rows to fetch next."""
        if not self._rows:
            return ROWS_IN_FIRST_FETCH
        fitting = (BYTES_PER_PAGE - self._bytes) * self._rows // max(self._bytes, 1)
        return min(max(fitting, 1), self._rows, self._max_rows)

    def add_rows(self, rows: Sequence[asyncpg.Record]) -> None:
        """Count these rows."""
        self._rows += len(rows)
        self._bytes += sum(
            len(value) for row in rows for value in row if isinstance(value, (str, bytes))
        )


async def fetch_page(
    connection: asyncpg.Connection, statement: str, *values: object
) -> tuple[list[asyncpg.Record], bool]:
    """Return rows in order, and whether these are all. Call it within a transaction."""
    rows: list[asyncpg.Record] = []
    page = PageBudget()
    # Prepare the statement without a name, which `connection.cursor` can't do. Behind a connection
    # pooler, another client may already have used a name such as `__asyncpg_stmt_1__` in the same
    # server session. A second statement with that name would fail.
    cursor = await (await connection.prepare(statement)).cursor(*values)
    while True:
        fetched = await cursor.fetch(fetch_size := page.rows_to_fetch())
        rows += fetched
        if len(fetched) < fetch_size:
            return rows, True
        page.add_rows(fetched)
        if page.is_full:
            return rows, False

"""Fetches rows of a statement in pages that fit in memory: one row may hold megabytes."""

from typing import Final

import asyncpg

BYTES_A_PAGE: Final = 8 << 20
"""Bytes of JSON and text at which a page ends, estimated from the rows read so far."""
FIRST_ROWS: Final = 16
MAX_ROWS: Final = 100
"""Rows fetched at once: large ones may follow small ones. More would save little."""

_SIZED: Final = (str, bytes)


async def fetch_page(
    connection: asyncpg.Connection, statement: str, *values: object
) -> tuple[list[asyncpg.Record], bool]:
    """Return rows in the statement's order, and whether they are all; call within a transaction."""
    rows: list[asyncpg.Record] = []
    page_bytes = 0
    fetch_size = FIRST_ROWS
    # Not `connection.cursor`: that statement has a name, which others behind a pooler may have too.
    cursor = await (await connection.prepare(statement)).cursor(*values)
    while True:
        fetched = await cursor.fetch(fetch_size)
        rows += fetched
        if len(fetched) < fetch_size:
            return rows, True
        page_bytes += sum(
            len(value) for row in fetched for value in row if isinstance(value, _SIZED)
        )
        if page_bytes >= BYTES_A_PAGE:
            return rows, False
        fitting = (BYTES_A_PAGE - page_bytes) * len(rows) // max(page_bytes, 1)
        fetch_size = min(max(fitting, 1), len(rows), MAX_ROWS)

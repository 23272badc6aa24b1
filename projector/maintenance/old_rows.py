"""Deletes the old rows of a table in short statements, or counts them for a dry run."""

from datetime import datetime
from typing import Final

import asyncpg

ROWS_A_STEP: Final = 5_000


async def delete_old(
    connection: asyncpg.Connection, count: str, delete: str, before: datetime, *, dry_run: bool
) -> int:
    """Run `delete` until it finds no row from before `before`; returns how many it deleted.

    With `dry_run` it runs `count` instead. Both statements return a number of rows; `delete` takes
    the most rows of one step as well.
    """
    if dry_run:
        counted: int = await connection.fetchval(count, before)
        return counted
    gone = 0
    while deleted := await connection.fetchval(delete, before, ROWS_A_STEP):
        gone += deleted
    return gone

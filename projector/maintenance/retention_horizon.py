"""Raises the retention horizon: the time before which records are ignored as expired.

A transaction that began before the horizon was raised may still store an older record. So this
module also waits for such transactions to end, and only then may an execution be deleted.
"""

from datetime import datetime
from typing import Final

import asyncpg

from normalizer.postgres.database import wait_for_table_readers

_PATIENCE_S: Final = 60.0


async def raise_retention_horizon(connection: asyncpg.Connection, to: datetime) -> bool:
    """Raise the horizon. Returns whether all transactions that may have read the old one ended."""
    await connection.execute(_RAISE_HORIZON, to)
    return await wait_for_table_readers(
        connection.fetch, "normalizer.retention_horizon", _PATIENCE_S
    )


_RAISE_HORIZON: Final = """
    update normalizer.retention_horizon
    set    expired_before = $1::timestamptz
    where  expired_before < $1::timestamptz
"""

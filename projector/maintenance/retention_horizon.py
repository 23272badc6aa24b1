"""Raises the retention horizon: records from before it are ignored as expired."""

import asyncio
from datetime import datetime
from typing import Final

import asyncpg

_PATIENCE_S: Final = 60.0
_POLL_S: Final = 0.05


async def raise_horizon(connection: asyncpg.Connection, to: datetime) -> bool:
    """Raise the horizon. Returns whether all transactions that may have read the old one ended."""
    await connection.execute(_RAISE_HORIZON, to)
    readers = await connection.fetchval(_HORIZON_READERS)
    for _ in range(int(_PATIENCE_S / _POLL_S)):
        if not await connection.fetchval(_STILL_THERE, readers):
            return True
        await asyncio.sleep(_POLL_S)
    return False


_RAISE_HORIZON: Final = """
    update normalizer.retention_horizon
    set    expired_before = $1::timestamptz
    where  expired_before < $1::timestamptz
"""

# A transaction that reads the horizon holds the weakest lock on its table until it ends.
_HORIZON_READERS: Final = """
    select coalesce(array_agg(virtualtransaction), '{}')
    from   pg_locks
    where  relation = 'normalizer.retention_horizon'::regclass and pid <> pg_backend_pid()
"""

_STILL_THERE: Final = """
    select exists (
        select
        from   pg_locks
        where  relation = 'normalizer.retention_horizon'::regclass
        and    virtualtransaction = any($1::text[])
    )
"""

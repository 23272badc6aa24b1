"""Opens short connections that only read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from normalizer.store.sqlstate import FOREIGN_ERRORS, connect_error, translated

_SESSION: Final = {
    "application_name": "normalizer command",
    "default_transaction_read_only": "on",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "10s",
    "search_path": "normalizer, public",
    "TimeZone": "UTC",
}


async def connect_read_only(database_url: str) -> asyncpg.Connection:
    """Open a connection that only reads. The caller closes it, and handles asyncpg's errors."""
    return await asyncpg.connect(database_url, timeout=10, server_settings=_SESSION)


@asynccontextmanager
async def read_only_connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Open one, and close it at the end. Raises StoreUnavailable and FatalError, by SQLSTATE."""
    try:
        connection = await connect_read_only(database_url)
    except FOREIGN_ERRORS as error:
        raise connect_error(error) from error
    try:
        try:
            yield connection
        finally:
            await connection.close(timeout=5)
    except FOREIGN_ERRORS as error:
        raise translated(error) from error

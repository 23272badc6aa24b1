"""Opens connections with the projector's time limits, and translates the errors of asyncpg."""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from normalizer.errors import ConfigurationError, FatalError, StoreUnavailableError
from normalizer.postgres import database
from normalizer.postgres.database import (
    COMMAND_TIMEOUT_S,
    check_database_url,
    describe_server_error,
)

_STATEMENT_TIMEOUT_S: Final = 10
"""The longest that a statement may keep its snapshot. Until it ends, vacuum can't remove dead rows,
and every writer slows down."""

ONE_DAY_TIMEOUT_S: Final = 86_400.0
"""The timeout of a statement that may take any time. Every other one waits COMMAND_TIMEOUT_S."""

_RETRY_PAUSE_S: Final = 0.5

_SESSION: Final = {
    "statement_timeout": f"{_STATEMENT_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": f"{_STATEMENT_TIMEOUT_S}s",
    "lock_timeout": "5s",
    "search_path": "projector, normalizer, public",
    # A generic plan would keep filters that are null.
    "plan_cache_mode": "force_custom_plan",
}
OUTAGE_SQLSTATE_CLASSES: Final = frozenset({"08", "40", "53", "55", "57", "58", "XX"})
"""SQLSTATE classes of temporary errors."""

AUTH_SQLSTATE_CLASSES: Final = frozenset({"28", "3D"})
"""SQLSTATE classes of a rejected user or password, and of a missing database."""

CONNECTION_ERRORS: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Temporary errors without a SQLSTATE. InternalClientError means that a connection was used while
it was ending."""


def database_url_from_env() -> str:
    """Return the variable DATABASE_URL.

    Raises ConfigurationError if it isn't set or isn't an address.
    """
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise ConfigurationError(
            "DATABASE_URL is not set. Set it to the address of the database, for example:\n"
            "  export DATABASE_URL=postgresql://reader:secret@db/noetl"
        )
    check_database_url(url, "DATABASE_URL")
    return url


@asynccontextmanager
async def open_connection(url: str, **settings: str) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection with the projector's time limits, and close it after the block.

    `settings` override those of the session, for example `statement_timeout="0"`. A database error
    in the block is raised as StoreUnavailableError if the same work may succeed later, for example
    after a restart of PostgreSQL, and otherwise as FatalError. Its SQLSTATE decides which.
    """
    try:
        async with database.open_connection(
            url,
            application_name="projector",
            session=_SESSION | settings,
            command_timeout_s=COMMAND_TIMEOUT_S,
        ) as connection:
            yield connection
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "")[:2] in OUTAGE_SQLSTATE_CLASSES:
            raise StoreUnavailableError(error_sentence(error)) from error
        raise FatalError(
            f"{error_sentence(error)}: {error.args[0] if error.args else ''}"
        ) from error
    except CONNECTION_ERRORS as error:
        raise StoreUnavailableError(f"database: {type(error).__name__}") from error


def error_sentence(error: Exception) -> str:
    """Return one line about the error: PostgreSQL's condition, or else its message."""
    if isinstance(error, asyncpg.PostgresError):
        return describe_server_error(error)
    return str(error)


async def transact_with_lock_retry(
    connection: asyncpg.Connection,
    work: Callable[[], Awaitable[None]],
    *,
    for_s: float = math.inf,
) -> None:
    """Run `work` in a transaction, and run it again if another session holds a lock that it needs.

    Each attempt waits for a lock for at most one second. If it doesn't get the lock, or after a
    deadlock, it rolls back, so that writers waiting for its own locks can continue. Then it pauses
    and tries again. After `for_s` seconds it raises the last error instead. `work` may run several
    times, so it must not do anything that a rollback can't undo.
    """
    ends_at = time.monotonic() + for_s
    while True:
        try:
            async with connection.transaction():
                await connection.execute("set local lock_timeout = '1s'")
                await work()
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if time.monotonic() > ends_at:
                raise
            await asyncio.sleep(_RETRY_PAUSE_S)
        else:
            return

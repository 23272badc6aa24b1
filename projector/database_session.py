"""A database URL in, a connection with its limits out; foreign errors die at this border."""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from normalizer.errors import ConfigurationError, FatalError, StoreUnavailable

SNAPSHOT_S: Final = 10
"""No statement of ours holds its snapshot longer: PostgreSQL cannot clean up dead rows meanwhile,
and every writer slows down."""

_LET_BY_S: Final = 0.5

_SESSION: Final = {
    "application_name": "projector",
    "statement_timeout": f"{SNAPSHOT_S}s",
    "idle_in_transaction_session_timeout": f"{SNAPSHOT_S}s",
    "lock_timeout": "5s",
    "search_path": "projector, normalizer, public",
    "TimeZone": "UTC",
    # Compiling costs more than any of our queries.
    "jit": "off",
    # A plan for any bounds would lock every partition of events, with all indexes.
    "plan_cache_mode": "force_custom_plan",
}
_MOMENT_CLASSES: Final = frozenset({"08", "40", "53", "55", "57", "58", "XX"})


def database_url() -> str:
    """DATABASE_URL. Raises ConfigurationError where it is not set."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise ConfigurationError("DATABASE_URL is not set: type export DATABASE_URL=postgresql://…")
    return url


@asynccontextmanager
async def connected(url: str, **settings: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection; `settings` go before ours.

    Raises StoreUnavailable (try again) and FatalError (it would not help) by SQLSTATE.
    """
    try:
        connection = await asyncpg.connect(url, timeout=10, server_settings=_SESSION | settings)
        try:
            yield connection
        finally:
            await connection.close(timeout=5)
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "")[:2] in _MOMENT_CLASSES:
            raise StoreUnavailable(sentence(error)) from error
        raise FatalError(f"{sentence(error)}: {error.args[0] if error.args else ''}") from error
    except (asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"database: {type(error).__name__}") from error


def sentence(error: Exception) -> str:
    """What went wrong: SQLSTATE and class of what the database raised, else the error's words."""
    if isinstance(error, asyncpg.PostgresError):
        return f"database: SQLSTATE {error.sqlstate} ({type(error).__name__})"
    return str(error)


async def with_lock_retry(
    connection: asyncpg.Connection,
    work: Callable[[], Awaitable[None]],
    *also: type[asyncpg.PostgresError],
    for_s: float = math.inf,
) -> None:
    """Do the work in a transaction that waits a second for a lock, then lets others by.

    Again and again, until it was in nobody's way; `also` are errors that say it was. Raises what
    says so last, once it was tried for so long.
    """
    ends_at = time.monotonic() + for_s
    while True:
        try:
            async with connection.transaction():
                await connection.execute("set local lock_timeout = '1s'")
                await work()
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, *also):
            if time.monotonic() > ends_at:
                raise
            await asyncio.sleep(_LET_BY_S)
        else:
            return

"""Opens every connection to PostgreSQL, for the normalizer and the projector.

This is the place for settings that every connection needs. A test in tests/rules fails if any other
module calls asyncpg's functions to connect.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
from asyncpg.transaction import Transaction

from normalizer.config.passwords import DATABASE_URL_HINT, is_database_url
from normalizer.config.tls_files import find_tls_file_error, ssl_context_if_system_ca
from normalizer.errors import ConfigurationError
from normalizer.postgres.database_connection import (
    CLOSE_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    DATABASE_ERRORS,
    NO_SESSION_SETTINGS,
    PoolerSafeConnection,
)

COMMAND_TIMEOUT_S: Final = 90.0
"""This is longer than any statement_timeout that we set. So a network that drops responses can't
block us indefinitely."""
_HOST_S: Final = 2.0
"""If the address has several hosts, try the next one after this long."""

_ALWAYS: Final = {
    "TimeZone": "UTC",
    # JIT compilation takes longer than any of our queries.
    "jit": "off",
}
_SINCE_17: Final = {
    # A verify or a job may take as long as it needs.
    "transaction_timeout": "0",
}
_POLL_S: Final = 0.05
_READERS: Final = """
    select coalesce(array_agg(virtualtransaction), '{}')
    from   pg_locks
    where  relation = $1::text::regclass and pid <> pg_backend_pid()
    -- Check the database too, because two databases made from one template have tables with the
    -- same oid.
    and    database = (select oid from pg_database where datname = current_database())
"""
_THOSE_LEFT: Final = """
    select from pg_locks
    where  relation = $1::text::regclass and virtualtransaction = any($2::text[])
"""

_MISTAKES: Final = (
    asyncpg.ClientConfigurationError,
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    ssl.SSLError,
)
_opened: Final[set[str]] = set()
"""The addresses that this process has connected to before."""


class TlsFileError(OSError):
    """A TLS file that worked before can't be loaded now, perhaps because it's being renewed."""


def check_database_url(database_url: str, name: str = "the database's address") -> None:
    """Raise ConfigurationError, whose message begins with `name`, if this isn't an address."""
    if not is_database_url(database_url):
        raise ConfigurationError(f"{name}: {DATABASE_URL_HINT}")


class PoolerRejectedError(asyncpg.ProtocolViolationError):  # type: ignore[misc]
    """A pooler rejected the connection, before any statement ran.

    The pooler's own message may be shown to operators. It contains no secrets, only names of users
    and databases, and what the pooler is waiting for.
    """


async def connect(
    database_url: str,
    *,
    application_name: str,
    session: Mapping[str, str] = NO_SESSION_SETTINGS,
    command_timeout_s: float | None = None,
    **pool_options: Any,
) -> PoolerSafeConnection:
    """Open a connection. The caller closes it and handles asyncpg's errors.

    `session` has server settings to apply in each transaction, in addition to UTC and no JIT, which
    always apply. Without `command_timeout_s`, a statement may wait as long as the server is
    reachable. `pool_options` are the arguments that asyncpg's pool adds.

    Raises ConfigurationError if the address is invalid, or if the client or a pooler rejects an
    option in it. Raises TlsFileError if a TLS file can't be loaded any more. Callers treat that
    as an outage, because somebody may just be replacing the file.
    """
    check_database_url(database_url)
    options = {
        **pool_options,
        "command_timeout": command_timeout_s,
        # Every pooler knows this setting and sets it for each client.
        "server_settings": {"application_name": application_name},
        "connection_class": PoolerSafeConnection,
    }
    try:
        options["ssl"] = ssl_context_if_system_ca(database_url)
        connection = await _connect(database_url, options)
    except asyncpg.ProtocolViolationError as error:
        if "startup parameter" not in str(error):
            raise
        message = f"a connection pooler rejects a setting in DATABASE_URL: {error}"
        raise ConfigurationError(message) from error
    except _MISTAKES as error:
        # This error has several causes. A file that DATABASE_URL names, such as a certificate, may
        # be unreadable, so check these files first. The address itself may be wrong. If it's
        # neither, the server is down or its certificate isn't trusted, so raise the error
        # unchanged.
        mistake = find_tls_file_error(database_url)
        if mistake is None and isinstance(error, asyncpg.ClientConfigurationError):
            mistake = ConfigurationError(f"the database's address: {' '.join(str(error).split())}")
        if mistake is None:
            raise
        if database_url in _opened:
            raise TlsFileError(str(mistake)) from error
        raise mistake from error
    _opened.add(database_url)
    try:
        if await connection.is_behind_pooler():
            await connection.close()
            # The next transaction may run in another session, which lacks our prepared statements.
            connection = await _connect(database_url, {**options, "statement_cache_size": 0})
            connection.is_pooled = True
    except BaseException:
        connection.terminate()
        raise
    newest = _SINCE_17 if connection.get_server_version() >= (17,) else NO_SESSION_SETTINGS
    connection.settings = {**_ALWAYS, **newest, **session}
    return connection


@contextlib.asynccontextmanager
async def open_connection(database_url: str, **options: Any) -> AsyncIterator[PoolerSafeConnection]:
    """Open a connection for a block. Takes the options of `connect`, and raises the same errors."""
    async with closing(await connect(database_url, **options)) as connection:
        yield connection


@contextlib.asynccontextmanager
async def closing(connection: PoolerSafeConnection) -> AsyncIterator[PoolerSafeConnection]:
    """Close the connection after the block, and ignore a failure to close it."""
    try:
        yield connection
    finally:
        with contextlib.suppress(*DATABASE_ERRORS):
            await connection.close(timeout=CLOSE_TIMEOUT_S)


def describe_server_error(error: asyncpg.PostgresError) -> str:
    """Describe the error without the server's own text, which may quote a record."""
    if isinstance(error, PoolerRejectedError):
        return f"database: sign-in through a pooler: {error.args[0]} (SQLSTATE {error.sqlstate})"
    if error.sqlstate in {"08003", "08006"}:
        return f"database: the connection ended (SQLSTATE {error.sqlstate})"
    return f"database: SQLSTATE {error.sqlstate} ({type(error).__name__})"


async def roll_back_lock_transaction(lock: Transaction) -> None:
    """Roll back a transaction that holds a lock, so that the lock is released at once.

    Closing the connection isn't enough, because the server or a pooler may notice that much later
    and hold the lock until then. This waits for the rollback for at most CLOSE_TIMEOUT_S, and
    ignores a failure.
    """
    with contextlib.suppress(*DATABASE_ERRORS):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await lock.rollback()


async def wait_for_table_readers(
    fetch: Callable[..., Awaitable[Sequence[asyncpg.Record]]], table: str, within_s: float
) -> bool:
    """Wait until every transaction that may have read the table before now has ended.

    Call this after a change that only later transactions see, to be sure that nobody still works
    with the old state. A transaction that has read a table holds a lock on it until it ends, so the
    list of locks shows which transactions to wait for. Returns False if they haven't ended within
    `within_s`.
    """
    until_s = time.monotonic() + within_s
    ((readers,),) = await fetch(_READERS, table)
    while await fetch(_THOSE_LEFT, table, readers):
        if time.monotonic() > until_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def _connect(database_url: str, options: Mapping[str, Any]) -> PoolerSafeConnection:
    """Connect, and skip hosts that are silent or still starting.

    asyncpg itself skips hosts that reject the connection or don't match target_session_attrs.
    """
    *others, last = _rotations(database_url)
    timeout = _HOST_S if others else CONNECT_TIMEOUT_S
    connection: PoolerSafeConnection
    for url in others:
        try:
            connection = await asyncpg.connect(url, timeout=timeout, **options)
        except (TimeoutError, asyncpg.CannotConnectNowError):
            continue
        return connection
    try:
        connection = await asyncpg.connect(last, timeout=timeout, **options)
    except asyncpg.ProtocolViolationError as error:
        raise PoolerRejectedError(str(error)) from error
    return connection


def _rotations(database_url: str) -> list[str]:
    """Return the address once per host, each time with another host first."""
    parts = urlsplit(database_url)
    login, at, hosts = parts.netloc.rpartition("@")
    names = hosts.split(",")
    if len(names) == 1:
        return [database_url]
    return [
        parts._replace(netloc=login + at + ",".join(names[first:] + names[:first])).geturl()
        for first in range(len(names))
    ]

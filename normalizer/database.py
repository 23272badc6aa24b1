"""Opens connections to PostgreSQL: every one of the normalizer and of the projector.

What holds for all of them is decided here. A rule test finds calls of asyncpg elsewhere.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from normalizer.errors import ConfigurationError
from normalizer.passwords import DATABASE_URL_FORM, is_database_url
from normalizer.tls_files import system_tls, unfit_file

CONNECT_S: Final = 10.0
"""How long opening a connection may take, with its authentication."""
_HOST_S: Final = 2.0
"""The same where the address has several hosts: the next one is tried then."""

NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})

_ALWAYS: Final = {
    "TimeZone": "UTC",
    # JIT compilation takes longer than any of these queries.
    "jit": "off",
}
_OTHER_PROCESS: Final = "select from (values (1)) as one where pg_backend_pid() <> {}"
_CLOSE_S: Final = 2.0
"""How long closing waits for the server: to cancel a statement, to release locks."""
_OUTSIDE: Final = ("vacuum", "create database")
"""PostgreSQL refuses these in a transaction."""
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""A server that vanished is noticed after a minute: seconds of silence, seconds between probes,
probes. A statement that takes long is not ended: the server's system answers the probes."""

_POLL_S: Final = 0.05
_READERS: Final = """
    select coalesce(array_agg(virtualtransaction), '{}')
    from   pg_locks
    where  relation = $1::text::regclass and pid <> pg_backend_pid()
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
"""Addresses that a connection of this process was opened to."""


class UnfitFile(OSError):  # noqa: N818 - a state, not a mistake
    """A file that the address names held before: it may be halfway through being renewed."""


class _Transaction(asyncpg.transaction.Transaction):  # type: ignore[misc]
    """A transaction that is over with its connection: its error is what ended the block."""

    async def __aexit__(self, kind: object, *error: object) -> None:
        if kind is None or not self._connection.is_closed():
            await super().__aexit__(kind, *error)


class Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection whose settings hold for each transaction, and not for the session.

    Behind a pooler in transaction mode the session belongs to others too, and the next transaction
    may be in another one. So every statement runs in a transaction, if need be in one of its own;
    only VACUUM, which must not, runs with the settings of its role.
    """

    is_pooled = False
    """Whether a pooler is between: then the server's session is not ours alone."""
    settings: Mapping[str, str] = NO_SETTINGS
    _server_pid: int | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # asyncpg turns JIT off for the session while it looks up a type; ours is off already.
        self._server_caps = self._server_caps._replace(jit=False)  # type: ignore[has-type]
        _probe(self._transport.get_extra_info("socket"))

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> asyncpg.transaction.Transaction:
        """A transaction, or a savepoint in the open one, for a block."""
        return _Transaction(self, isolation, readonly, deferrable)

    def get_server_pid(self) -> int:
        """The process of the server that runs the transaction; without one, the last one's."""
        return self._server_pid or int(super().get_server_pid())

    async def execute(self, query: str, *args: Any, **options: Any) -> Any:
        """Execute statements in a transaction; VACUUM outside."""
        if query.startswith("BEGIN"):
            # asyncpg begins a transaction by this statement: the settings travel with it.
            return await self._begin(query, **options)
        if query.startswith(_OUTSIDE):
            return await super().execute(query, **options)
        return await self._in_transaction(super().execute, query, *args, **options)

    async def fetch(self, *args: Any, **options: Any) -> Any:
        """Fetch rows, in a transaction."""
        return await self._in_transaction(super().fetch, *args, **options)

    async def fetchrow(self, *args: Any, **options: Any) -> Any:
        """Fetch the first row, in a transaction."""
        return await self._in_transaction(super().fetchrow, *args, **options)

    async def fetchval(self, *args: Any, **options: Any) -> Any:
        """Fetch a value of the first row, in a transaction."""
        return await self._in_transaction(super().fetchval, *args, **options)

    def get_reset_query(self) -> str:
        """Nothing: no state is left in the session."""
        return ""

    async def is_of_a_pooler(self) -> bool:
        """Whether a statement runs in another server process than the one this connection named.

        A pooler cannot name one that stays: it gives each client a number of its own.
        """
        other = _OTHER_PROCESS.format(self.get_server_pid())
        return str(await super().execute(other, timeout=CONNECT_S)) == "SELECT 1"

    async def _in_transaction(
        self, call: Callable[..., Awaitable[Any]], *args: Any, **options: Any
    ) -> Any:
        """The call's result, in the open transaction or in one of its own."""
        if self.is_in_transaction():
            return await self._answered(call(*args, **options))
        transaction = self.transaction()
        await transaction.start()
        try:
            result = await self._answered(call(*args, **options))
        except BaseException:
            try:
                await transaction.rollback()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                self.terminate()
            raise
        await transaction.commit()
        return result

    async def _answered(self, answer: Awaitable[Any]) -> Any:
        """The answer; who gives up waiting for it ends the connection.

        Closing has the server cancel the statement. Else the rollback would wait for its answer.
        """
        try:
            return await answer
        except (asyncio.CancelledError, TimeoutError):
            with contextlib.suppress(Exception):
                await self.close(timeout=_CLOSE_S)
            raise

    async def _begin(self, query: str, **options: Any) -> str:
        calls = ", ".join(
            f"set_config({_quoted(name)}, {_quoted(value)}, true)"
            for name, value in self.settings.items()
        )
        try:
            begin = f"{query} select {calls}" if calls else query
            begun = await self._answered(super().execute(begin, **options))
        except asyncpg.PostgresError:
            # The server has begun a transaction that asyncpg does not know of.
            self.terminate()
            raise
        if self.is_pooled:
            self._server_pid = await super().fetchval("select pg_backend_pid()")
        return str(begun)


def check_url(database_url: str, name: str = "the database's address") -> None:
    """Raise ConfigurationError, which begins with `name`, for what is no address."""
    if not is_database_url(database_url):
        raise ConfigurationError(f"{name}: {DATABASE_URL_FORM}")


async def connect(
    database_url: str,
    *,
    application_name: str,
    session: Mapping[str, str] = NO_SETTINGS,
    command_timeout_s: float | None = None,
    **of_pool: Any,
) -> Connection:
    """Open a connection. The caller closes it, and handles asyncpg's errors.

    Raises ConfigurationError for what is no address, and for a setting in it that the client or a
    pooler refuses; UnfitFile, an outage, where its files held before.

    `session` are the server settings of each transaction, besides UTC and no JIT. Without
    `command_timeout_s` a statement waits for its answer for as long as the server can be reached.
    `of_pool` is what asyncpg's pool adds.
    """
    check_url(database_url)
    options = {
        **of_pool,
        "command_timeout": command_timeout_s,
        # Every pooler knows this one, and sets it for each client.
        "server_settings": {"application_name": application_name},
        "connection_class": Connection,
    }
    try:
        options["ssl"] = system_tls(database_url)
        connection = await _connect(database_url, options)
    except asyncpg.ProtocolViolationError as error:
        if "startup parameter" not in str(error):
            raise
        message = f"a connection pooler refuses a setting in DATABASE_URL: {error}"
        raise ConfigurationError(message) from error
    except _MISTAKES as error:
        # Else it is the socket of a server that is away, or one whose certificate is not trusted.
        is_named = isinstance(error, asyncpg.ClientConfigurationError)
        mistake = error if is_named else unfit_file(database_url)
        if mistake is None:
            raise
        message = f"the database's address: {mistake}"
        if database_url in _opened:
            raise UnfitFile(message) from error
        raise ConfigurationError(message) from error
    _opened.add(database_url)
    try:
        if await connection.is_of_a_pooler():
            await connection.close()
            # The next transaction may be in a session that knows no statement of ours.
            connection = await _connect(database_url, {**options, "statement_cache_size": 0})
            connection.is_pooled = True
    except BaseException:
        connection.terminate()
        raise
    connection.settings = {**_ALWAYS, **session}
    return connection


@contextlib.asynccontextmanager
async def connected(database_url: str, **options: Any) -> AsyncIterator[Connection]:
    """A connection for a block, with the options of `connect`, which raises what that raises."""
    async with closing(await connect(database_url, **options)) as connection:
        yield connection


@contextlib.asynccontextmanager
async def closing(connection: Connection) -> AsyncIterator[Connection]:
    """Close the connection after the block; raise nothing where that fails."""
    try:
        yield connection
    finally:
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await connection.close(timeout=_CLOSE_S)


async def readers_end(
    fetch: Callable[..., Awaitable[Sequence[asyncpg.Record]]], table: str, within_s: float
) -> bool:
    """Wait until every other transaction that may have read the table has ended.

    Returns whether they did in time. One that has read it holds the weakest lock on it till then.
    """
    until_s = time.monotonic() + within_s
    ((readers,),) = await fetch(_READERS, table)
    while await fetch(_THOSE_LEFT, table, readers):
        if time.monotonic() > until_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def _connect(database_url: str, options: Mapping[str, Any]) -> Connection:
    """Connect; of several hosts, pass over those that are silent or just starting.

    asyncpg passes over those that refuse, or that are not as target_session_attrs asks.
    """
    *others, last = _rotations(database_url)
    timeout = _HOST_S if others else CONNECT_S
    connection: Connection
    for url in others:
        try:
            connection = await asyncpg.connect(url, timeout=timeout, **options)
        except (TimeoutError, asyncpg.CannotConnectNowError):
            continue
        return connection
    connection = await asyncpg.connect(last, timeout=timeout, **options)
    return connection


def _rotations(database_url: str) -> list[str]:
    """The address with each of its hosts as the first one."""
    parts = urlsplit(database_url)
    login, at, hosts = parts.netloc.rpartition("@")
    names = hosts.split(",")
    if len(names) == 1:
        return [database_url]
    return [
        parts._replace(netloc=login + at + ",".join(names[first:] + names[:first])).geturl()
        for first in range(len(names))
    ]


def _probe(connected: socket.socket) -> None:
    """Have the system probe the other end, so that nobody waits for ever for one that vanished."""
    if connected.family == socket.AF_UNIX:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        # Not every system has all three.
        if option := getattr(socket, name, None):
            connected.setsockopt(socket.IPPROTO_TCP, option, value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

"""A connection to PostgreSQL that also works behind a pooler.

asyncpg's own connection relies on its session, for example for settings and prepared statements.
This one relies on nothing that outlives a transaction.
"""

import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import asyncpg

from normalizer.errors import ConfigurationError

CONNECT_TIMEOUT_S: Final = 10.0
"""The longest that opening a connection may take, including authentication."""

NO_SESSION_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})

_OTHER_PROCESS: Final = "select from (values (1)) as one where pg_backend_pid() <> {}"
CLOSE_TIMEOUT_S: Final = 2.0
"""How long closing waits for the server to cancel a statement or release locks."""
_OUTSIDE: Final = ("vacuum", "create database")
"""PostgreSQL doesn't allow these in a transaction."""
_STATEMENT_POOLING: Final = (
    "DATABASE_URL leads to a connection pooler in statement mode, which refuses transactions: set "
    "its pool_mode to transaction or session"
)
DATABASE_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""The errors that ending a transaction or a connection can raise."""
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""TCP keepalive: seconds of silence, seconds between probes, and the number of probes. So a server
that's gone is noticed after a minute. A slow statement isn't ended, because the server's kernel
responds to the probes."""


class _Transaction(asyncpg.transaction.Transaction):  # type: ignore[misc]
    """A transaction that raises its block's own error, even if the rollback fails too."""

    async def __aexit__(self, kind: object, *error: object) -> None:
        connection = self._connection
        await connection.close_if_cancelled()
        if kind is not None and connection.is_closed():
            return
        try:
            await super().__aexit__(kind, *error)
        except BaseException as failed:
            await connection.close_if_cancelled()
            if kind is None or not isinstance(failed, DATABASE_ERRORS):
                raise
            connection.terminate()


class PoolerSafeConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that also works behind a pooler, because it needs no session.

    Behind a pooler in transaction mode, our next transaction may run in another session, which
    other clients use too. So settings are applied in each transaction, and a statement outside of a
    transaction gets its own transaction. Only VACUUM can't run in a transaction, so it uses the
    settings of its role.
    """

    is_pooled = False
    """Whether a pooler is in between, so that other clients share the server's session."""
    settings: Mapping[str, str] = NO_SESSION_SETTINGS
    _server_pid: int | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # While asyncpg looks up a type, it turns JIT off for the whole session. Behind a connection
        # pooler, that would affect the other clients that share the session. Our transactions turn
        # JIT off themselves, so make asyncpg believe that the server has no JIT. It then leaves the
        # setting alone.
        self._server_caps = self._server_caps._replace(jit=False)  # type: ignore[has-type]
        _probe(self._transport.get_extra_info("socket"))

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> asyncpg.transaction.Transaction:
        """Run a block in a transaction, or in a savepoint of the open transaction."""
        self._check_open()
        return _Transaction(self, isolation, readonly, deferrable)

    async def close_if_cancelled(self) -> None:
        """Close the connection if a statement was cancelled, because a rollback would wait for it.

        Closing makes the server end the statement.
        """
        if not self.is_closed() and self._protocol._is_cancelling():  # noqa: SLF001 - not public
            with contextlib.suppress(Exception):
                await self.close(timeout=CLOSE_TIMEOUT_S)

    def get_server_pid(self) -> int:
        """Return the server process of the current transaction, or of the last one."""
        return self._server_pid or int(super().get_server_pid())

    async def execute(self, query: str, *args: Any, **options: Any) -> Any:
        """Execute statements in a transaction, except VACUUM and CREATE DATABASE."""
        if query.startswith("BEGIN"):
            # asyncpg begins a transaction with this statement, so send the settings with it.
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
        """Return nothing, because we leave no state in the session."""
        return ""

    async def is_behind_pooler(self) -> bool:
        """Find out whether there's a pooler between us and the server.

        When a client connects, the server tells it the id of the process that will run its
        statements. A pooler doesn't know that process yet, so it makes up an id. If a statement
        then runs in a process with a different id, there must be a pooler.
        """
        other = _OTHER_PROCESS.format(self.get_server_pid())
        return str(await super().execute(other, timeout=CONNECT_TIMEOUT_S)) == "SELECT 1"

    async def _in_transaction(
        self, call: Callable[..., Awaitable[Any]], *args: Any, **options: Any
    ) -> Any:
        """Return the call's result, in the open transaction or in a new one."""
        self._check_open()
        if self.is_in_transaction():
            return await call(*args, **options)
        async with self.transaction():
            return await call(*args, **options)

    async def _begin(self, query: str, **options: Any) -> str:
        calls = ", ".join(
            f"set_config({_quoted(name)}, {_quoted(value)}, true)"
            for name, value in self.settings.items()
        )
        begin = f"{query} select {calls}" if calls else query
        try:
            begun = await super().execute(begin, **options)
            if self.is_pooled:
                self._server_pid = await super().fetchval("select pg_backend_pid()")
        except asyncpg.ConnectionDoesNotExistError as error:
            self.terminate()
            if "statement pooling" not in str(error):
                raise
            raise ConfigurationError(_STATEMENT_POOLING) from error
        except BaseException:
            # The server may have begun a transaction that asyncpg doesn't know about.
            self.terminate()
            raise
        return str(begun)


def _probe(connected: socket.socket) -> None:
    """Turn on TCP keepalive, so that nobody waits indefinitely for a server that's gone."""
    if connected.family == socket.AF_UNIX:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        # Not every operating system has all three.
        if option := getattr(socket, name, None):
            connected.setsockopt(socket.IPPROTO_TCP, option, value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

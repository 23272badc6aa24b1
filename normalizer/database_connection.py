"""A connection to PostgreSQL whose settings hold for each transaction, also behind a pooler."""

import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import asyncpg

CONNECT_S: Final = 10.0
"""How long opening a connection may take, with its authentication."""

NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})

_OTHER_PROCESS: Final = "select from (values (1)) as one where pg_backend_pid() <> {}"
CLOSE_S: Final = 2.0
"""How long closing waits for the server: to cancel a statement, to release locks."""
_OUTSIDE: Final = ("vacuum", "create database")
"""PostgreSQL refuses these in a transaction."""
DATABASE_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""What ending a transaction or a connection can raise."""
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""A server that vanished is noticed after a minute: seconds of silence, seconds between probes,
probes. A statement that takes long is not ended: the server's system answers the probes."""


class _Transaction(asyncpg.transaction.Transaction):  # type: ignore[misc]
    """A transaction whose block, if it fails, fails by its own error and not by the rollback's."""

    async def __aexit__(self, kind: object, *error: object) -> None:
        connection = self._connection
        await connection.end_what_was_given_up()
        if kind is not None and connection.is_closed():
            return
        try:
            await super().__aexit__(kind, *error)
        except BaseException as failed:
            await connection.end_what_was_given_up()
            if kind is None or not isinstance(failed, DATABASE_ERRORS):
                raise
            connection.terminate()


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
        self._check_open()
        return _Transaction(self, isolation, readonly, deferrable)

    async def end_what_was_given_up(self) -> None:
        """Close the connection if a statement was cancelled: a rollback would wait for its answer.

        Closing has the server end the statement.
        """
        if not self.is_closed() and self._protocol._is_cancelling():  # noqa: SLF001 - no other way
            with contextlib.suppress(Exception):
                await self.close(timeout=CLOSE_S)

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
        except BaseException:
            # The server may have begun a transaction that asyncpg does not know of.
            self.terminate()
            raise
        return str(begun)


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

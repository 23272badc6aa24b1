"""One connection to PostgreSQL, opened when it's needed, and again after an outage."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from normalizer.postgres.database import COMMAND_TIMEOUT_S, connect
from normalizer.runtime.logging_setup import describe_error_without_secrets, get_logger
from normalizer.store.sqlstate import STATEMENT_ERRORS, VALUE_ENCODING_ERRORS

_CLOSE_S: Final = 2.0
"""How long closing a connection may take, before it's ended without the server's response."""

_log: Final = get_logger()


class ReconnectingConnection:
    """One database connection for several tasks, which take turns. It reopens after an outage.

    Each new connection is passed to `prepare` before its first use, and is closed if `prepare`
    raises. A failure isn't followed by a pause here, because the caller decides how long to back
    off (`runtime.backoff.backoff_delay_s`).
    """

    def __init__(
        self,
        database_url: str,
        *,
        application_name: str,
        session: Mapping[str, str],
        command_timeout_s: float | None = COMMAND_TIMEOUT_S,
        prepare: Callable[[asyncpg.Connection], Awaitable[None]] | None = None,
    ) -> None:
        self._database_url = database_url
        self._application_name = application_name
        self._session = session
        self._command_timeout_s = command_timeout_s
        self._prepare = prepare
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()
        self._failures = 0

    @property
    def server_pid(self) -> int | None:
        """Return the process id of the server's session, or None. Safe to call from any thread."""
        connection = self._connection
        if connection is None or connection.is_closed():
            return None
        pid: int = connection.get_server_pid()
        return pid

    @property
    def is_behind_pooler(self) -> bool | None:
        """Return whether the connection goes through a pooler, or None without a connection."""
        connection = self._connection
        return None if connection is None or connection.is_closed() else connection.is_pooled

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[asyncpg.Connection]:
        """Use the connection for one block. Raises what asyncpg and `prepare` raise.

        If an error leaves the connection in an unknown state, or shows that the server has become a
        standby, the connection is closed. The next block opens a new one.
        """
        async with self._turn:
            connection = await self._opened()
            try:
                yield connection
            except BaseException as error:
                # If DATABASE_URL names several hosts, another one may be the primary now.
                is_standby = isinstance(error, asyncpg.ReadOnlySQLTransactionError)
                if breaks_connection(error) or is_standby:
                    self.terminate()
                raise

    async def close(self) -> None:
        """Close the connection, and ask the server to cancel its statement.

        Otherwise the statement would continue, and keep its locks.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*STATEMENT_ERRORS):
                await connection.close(timeout=_CLOSE_S)

    def terminate(self) -> None:
        """End the connection at once, without waiting for the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _opened(self) -> asyncpg.Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        try:
            self._connection = await self._open()
        except STATEMENT_ERRORS as error:
            self._failures += 1
            _log.debug(
                "database.connection_failed",
                application=self._application_name,
                why=describe_error_without_secrets(error),
                tries=self._failures,
            )
            raise
        if self._failures:
            _log.info(
                "database.reconnected", application=self._application_name, tries=self._failures
            )
            self._failures = 0
        return self._connection

    async def _open(self) -> asyncpg.Connection:
        connection = await connect(
            self._database_url,
            application_name=self._application_name,
            session=self._session,
            command_timeout_s=self._command_timeout_s,
        )
        try:
            if self._prepare:
                await self._prepare(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection


def breaks_connection(error: BaseException) -> bool:
    """Return whether the state of a connection is unknown after this error.

    That's the case after a broken connection, a timeout, or a cancellation. An error that the
    server reported, or that asyncpg raised before it sent anything, leaves the connection usable.
    """
    return isinstance(error, (*STATEMENT_ERRORS, asyncio.CancelledError)) and not isinstance(
        error, (asyncpg.PostgresError, *VALUE_ENCODING_ERRORS)
    )

"""Work in, one READ COMMITTED transaction out; the database's errors die here."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

import asyncpg

from normalizer.errors import StoreUnavailable
from normalizer.store import store_statements
from normalizer.store.grid import Grid
from normalizer.store.rows import RowRefused
from normalizer.store.sqlstate import (
    CLIENT_REFUSALS,
    FOREIGN_ERRORS,
    LOCK_NOT_AVAILABLE,
    Fault,
    fault_of,
    translated,
)
from normalizer.telemetry import get_logger

_T = TypeVar("_T")
_Work = Callable[[asyncpg.Connection], Awaitable[_T]]

_SETTINGS: Final = {
    # A frozen process must not hold its positions for ever, nor a statement wait for ever.
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
    # Longer than deadlock_timeout, so that a deadlock is found as one; short, for a stop and a
    # rebalance are heeded between two tries only.
    "lock_timeout": "5s",
    # A plan for any bounds would lock every partition of events, with all indexes.
    "plan_cache_mode": "force_custom_plan",
    "search_path": "normalizer, public",
    "TimeZone": "UTC",
}


COMMAND_TIMEOUT_S: Final = 90.0
"""Longer than any statement may take: a network that swallows answers must not hold us for ever."""

_CONNECT_S: Final = 10.0
_JSONB_VERSION: Final = b"\x01"
"""What stands before JSON text in jsonb's binary form."""
_CLOSE_S: Final = 2.0


_log: Final = get_logger()


class RetryTransaction(Exception):  # noqa: N818 - never leaves the store
    """Another writer was first: the batch is done again at once."""


class Session:
    """One connection, made when it is needed and again after an outage; not for two tasks.

    Waits `command_timeout_s` at most for an answer; whatever leaves a connection in doubt ends it.
    """

    def __init__(
        self,
        database_url: str,
        *,
        application_name: str,
        grid: Grid,
        command_timeout_s: float,
        settings: Mapping[str, str],
    ) -> None:
        self._database_url = database_url
        self._command_timeout_s = command_timeout_s
        self._settings = {**_SETTINGS, "application_name": application_name, **settings}
        self._grid = grid
        self._connection: asyncpg.Connection | None = None
        self.commit_s = 0.0
        """How long the last COMMIT took."""

    async def transaction(self, work: _Work[_T], *, rolled_back: bool = False) -> _T:
        """Do the work in a READ COMMITTED transaction; foreign errors die here.

        Raises RowRefused, OnceMore, StoreUnavailable or FatalError; nothing is written then.
        """
        try:
            return await self._in_transaction(work, rolled_back=rolled_back)
        except FOREIGN_ERRORS as error:
            if getattr(error, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                await self._end_stalled_copies()
            match fault_of(error, copying=False):
                case Fault.RECORD:
                    raise RowRefused(getattr(error, "sqlstate", None)) from error
                case Fault.RACE:
                    raise RetryTransaction from error
                case Fault.PROJECTION | Fault.TRANSIENT | Fault.FATAL:
                    raise translated(error) from error

    async def run_once(self, work: _Work[_T], *, rolled_back: bool = False) -> _T:
        """Work that has no rows of a batch: what a batch would do again, the caller does."""
        try:
            return await self.transaction(work, rolled_back=rolled_back)
        except (RowRefused, RetryTransaction) as error:
            message = "database: another writer was first"
            raise StoreUnavailable(message) from error

    def terminate(self) -> None:
        """End the connection at once."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _in_transaction(self, work: _Work[_T], *, rolled_back: bool) -> _T:
        """The work's answer, committed or rolled back; a connection left in doubt is ended."""
        try:
            connection = await self._connected()
            transaction = connection.transaction()
            try:
                await transaction.start()
            except FOREIGN_ERRORS:
                # The client takes it for begun all the same, and would nest the next one in it.
                self.terminate()
                raise
            try:
                answer = await work(connection)
            except BaseException as error:
                if not _is_in_doubt_after(error):
                    await self._roll_back(transaction)
                raise
            begun_s = time.monotonic()
            await (transaction.rollback() if rolled_back else transaction.commit())
            self.commit_s = time.monotonic() - begun_s
        except BaseException as error:
            if _is_in_doubt_after(error):
                await self._close_connection()
            raise
        return answer

    @property
    def server_pid(self) -> int | None:
        """The server process that serves it; None while there is no connection."""
        connection = self._connection
        if connection is None or connection.is_closed():
            return None
        pid: int = connection.get_server_pid()
        return pid

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        return self._connection

    async def _connect(self) -> asyncpg.Connection:
        """A connection that takes jsonb as bytes; one that is half set up is given up."""
        connection = await asyncpg.connect(
            self._database_url,
            server_settings=self._settings,
            timeout=_CONNECT_S,
            command_timeout=self._command_timeout_s,
        )
        try:
            await connection.set_type_codec(
                "jsonb",
                schema="pg_catalog",
                encoder=_JSONB_VERSION.__add__,
                decoder=_decode_jsonb,
                format="binary",
            )
            rows = await connection.fetch(store_statements.PARTITIONS)
            self._grid.load([(low, high) for low, high in rows])
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _close_connection(self) -> None:
        """End a connection in doubt; the server is asked to stop what it may still be doing.

        It would go on by itself, and hold the positions of the partitions meanwhile.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*FOREIGN_ERRORS):
                await connection.close(timeout=_CLOSE_S)

    async def _end_stalled_copies(self) -> None:
        """End the COPY of a frozen process, which may hold the rows that we wait for.

        PostgreSQL looks at no time limit while it waits for the next bytes of a COPY, so a process
        that is frozen inside one would hold its positions for as long as it is frozen.
        """
        with contextlib.suppress(*FOREIGN_ERRORS):
            connection = await self._connected()
            for row in await connection.fetch(store_statements.END_STALLED_COPIES):
                _log.warning("stalled_copy_ended", pid=row["pid"], application=row["application"])

    async def _roll_back(self, transaction: asyncpg.transaction.Transaction) -> None:
        """Roll back, or give the connection up: then the server does."""
        try:
            await transaction.rollback()
        except FOREIGN_ERRORS:
            self.terminate()


def _is_in_doubt_after(error: BaseException) -> bool:
    """Whether the connection may be anywhere: left in the middle, silent, or gone."""
    return isinstance(error, (*FOREIGN_ERRORS, asyncio.CancelledError)) and not isinstance(
        error, (asyncpg.PostgresError, *CLIENT_REFUSALS)
    )


def _decode_jsonb(value: bytes) -> bytes:
    return bytes(value[1:])

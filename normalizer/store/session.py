"""Runs work in READ COMMITTED transactions, and translates the database's errors.

If this process is frozen, the server rolls its transaction back after a minute (`_SETTINGS`), so
that its locks don't stop others. It can't if a statement is waiting for the frozen process itself.
Another process then ends that session (`_END_STALLED_SESSIONS`).
"""

import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

import asyncpg

from normalizer.errors import StoreUnavailableError
from normalizer.postgres.database import COMMAND_TIMEOUT_S
from normalizer.runtime.logging_setup import get_logger
from normalizer.store.connect_error import translate_connect_error
from normalizer.store.event_rows import RowRejectedError
from normalizer.store.reconnecting_connection import (
    ReconnectingConnection,
    breaks_connection,
)
from normalizer.store.sqlstate import (
    LOCK_NOT_AVAILABLE,
    STATEMENT_ERRORS,
    ErrorCause,
    classify_database_error,
    translate_error,
)

_T = TypeVar("_T")
_Work = Callable[[asyncpg.Connection], Awaitable[_T]]

_SETTINGS: Final = {
    # A frozen process must not keep its positions locked, and no statement may wait indefinitely,
    # so the server ends both after a minute.
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
    # Wait longer than deadlock_timeout, so that PostgreSQL can detect a deadlock before we give up.
    # But don't wait much longer, because a stop or a rebalance is noticed only between two tries.
    "lock_timeout": "5s",
    "search_path": "normalizer, public",
}

READ_ONLY_TRANSACTION_SETTINGS: Final = {"transaction_read_only": "on"}
"""Settings of a session that only reads."""

_JSONB_VERSION: Final = b"\x01"
"""The byte that comes before the JSON text in the binary format of jsonb."""

_log: Final = get_logger()


# Returns which sessions block each of these server processes. The state of another role's session
# is left out unless we have the right pg_read_all_stats, because PostgreSQL hides it.
LOCK_HOLDERS_SQL: Final = """
    select   waiting.pid,
             string_agg(
                 'pid ' || holder.pid || ' (' || concat_ws(', ',
                     holder.usename, nullif(holder.application_name, ''), holder.state
                 ) || ')', ', ' order by holder.pid
             ) as holders
    from     unnest($1::integer[])                          as waiting (pid)
    cross join lateral unnest(pg_blocking_pids(waiting.pid)) as blocking (pid)
    join     pg_stat_activity                               as holder on holder.pid = blocking.pid
    group by waiting.pid
"""


class RetryTransactionError(Exception):
    """Another writer was first, so this transaction was rolled back. Run it again at once."""


# Ends our own sessions that have stalled. A session has stalled if it has written something, and
# has been waiting for its client for longer than the statement_timeout. The client may be gone, but
# the session still holds its locks. Sessions of other programs are left alone, even if they use the
# same role. Ending the sessions of one's own role needs no special right.
_END_STALLED_SESSIONS: Final = """
    with stalled as materialized (
        select pid, application_name as application
        from   pg_stat_activity
        where  datname = current_database()
        and    usename = current_user
        and    split_part(application_name, ' ', 1) in ('normalizer', 'projector')
        and    state = 'active'
        and    wait_event_type = 'Client'
        and    backend_xid is not null
        and    query_start < clock_timestamp() - current_setting('statement_timeout')::interval
    )
    select pid, application
    from   stalled
    where  pg_terminate_backend(pid)
"""


class Session:
    """Runs transactions on one connection, one after the other.

    `statement_timeout` is the limit for a statement that the server enforces, and
    `command_timeout_s` is how long to wait for the server's response. Pass "0s" and None for
    statements that may take any time.
    """

    def __init__(
        self,
        database_url: str,
        *,
        application_name: str,
        command_timeout_s: float | None = COMMAND_TIMEOUT_S,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._database_url = database_url
        session = {**_SETTINGS, **settings}
        self._statement_timeout_s = _seconds(session["statement_timeout"])
        self._connection = ReconnectingConnection(
            database_url,
            application_name=application_name,
            session=session,
            command_timeout_s=command_timeout_s,
            prepare=self._prepare,
        )
        self._is_beginning = False
        """Whether a transaction waits for its connection or for the response to BEGIN."""
        self.commit_s = 0.0
        """How long the last COMMIT took."""

    async def run_in_transaction(self, work: _Work[_T], *, rolled_back: bool = False) -> _T:
        """Run the work in a READ COMMITTED transaction, and return its result.

        Errors are translated into RowRejectedError, RetryTransactionError, StoreUnavailableError,
        or FatalError. After an error nothing was written, unless the connection broke during
        COMMIT. With `rolled_back`, the transaction is rolled back even if the work succeeds.
        """
        begun_s = time.monotonic()
        try:
            return await self._in_transaction(work, rolled_back=rolled_back)
        except STATEMENT_ERRORS as error:
            timed_out = time.monotonic() - begun_s >= self._statement_timeout_s
            if getattr(error, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                await self._end_stalled_sessions()
            match classify_database_error(error, copying=False):
                case ErrorCause.RECORD:
                    raise RowRejectedError(getattr(error, "sqlstate", None)) from error
                case ErrorCause.RACE:
                    raise RetryTransactionError from error
                case ErrorCause.PROJECTION | ErrorCause.TRANSIENT | ErrorCause.FATAL:
                    raise translate_error(error, timed_out=timed_out) from error

    async def run(self, work: _Work[_T], *, rolled_back: bool = False) -> _T:
        """Run work that isn't a batch.

        It raises StoreUnavailableError where `run_in_transaction` would raise RetryTransactionError
        or RowRejectedError, so that the caller waits and retries. Otherwise it raises the same
        errors.
        """
        try:
            return await self.run_in_transaction(work, rolled_back=rolled_back)
        except RowRejectedError as error:
            why = f"SQLSTATE {error.sqlstate}" if error.sqlstate else "it can't be encoded"
            raise StoreUnavailableError(
                f"database: PostgreSQL rejected a value, so its transaction was rolled back: {why}",
                sqlstate=error.sqlstate,
            ) from error
        except RetryTransactionError as error:
            message = (
                "database: another transaction changed the same rows first, so this one was "
                "rolled back"
            )
            raise StoreUnavailableError(message) from error

    async def fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """Run one statement as `run` does, and return its rows."""

        async def fetch(connection: asyncpg.Connection) -> list[asyncpg.Record]:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *values)
            return rows

        return await self.run(fetch)

    def terminate(self) -> None:
        """End the connection at once."""
        self._connection.terminate()

    async def _in_transaction(self, work: _Work[_T], *, rolled_back: bool) -> _T:
        async with contextlib.AsyncExitStack() as used:
            self._is_beginning = True
            used.callback(self._has_begun)
            try:
                connection = await used.enter_async_context(self._connection.acquire())
            except STATEMENT_ERRORS as error:
                raise translate_connect_error(error, self._database_url) from error
            try:
                return await self._committed(connection, work, rolled_back=rolled_back)
            except BaseException as error:
                if breaks_connection(error):
                    # Cancel the statement, because it may hold the locks of the positions.
                    await self._connection.close()
                raise

    async def _committed(
        self, connection: asyncpg.Connection, work: _Work[_T], *, rolled_back: bool
    ) -> _T:
        """Run the work, then commit or roll back."""
        # The database's default may be another isolation level. A statement must see earlier
        # commits.
        transaction = connection.transaction(isolation="read_committed")
        try:
            await transaction.start()
        except STATEMENT_ERRORS:
            # asyncpg now believes that the transaction has begun, and would nest the next one in
            # it. So end the connection.
            self.terminate()
            raise
        self._has_begun()
        try:
            answer = await work(connection)
        except BaseException as error:
            if not breaks_connection(error):
                await self._roll_back(transaction)
            raise
        begun_s = time.monotonic()
        await (transaction.rollback() if rolled_back else transaction.commit())
        self.commit_s = time.monotonic() - begun_s
        return answer

    @property
    def server_pid(self) -> int | None:
        """Return the process id of the server's session, or None without a connection."""
        return self._connection.server_pid

    @property
    def why_transaction_not_begun(self) -> str:
        """Return what the transaction waits for before it can begin, or '' if it doesn't wait.

        A server responds to BEGIN at once, but a pooler such as PgBouncer delays the response until
        one of its server connections is free.
        """
        if not self._is_beginning:
            return ""
        match self._connection.is_behind_pooler:
            case None:
                return "a new connection to the database"
            case True:
                return "a server connection of the pooler, because all are in use"
            case False:
                return "the server's answer to BEGIN"

    def _has_begun(self) -> None:
        self._is_beginning = False

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        """Make the connection read and write jsonb as bytes."""
        await connection.set_type_codec(
            "jsonb",
            schema="pg_catalog",
            encoder=_JSONB_VERSION.__add__,
            decoder=_decode_jsonb,
            format="binary",
        )

    async def _end_stalled_sessions(self) -> None:
        """End the sessions of frozen processes, because they may hold the locks that we wait for.

        PostgreSQL has no timeout for a statement that waits for its client, for example for the
        next bytes of a COPY or for room to send a response. So a process that freezes at such a
        point would keep its locks indefinitely.
        """
        with contextlib.suppress(*STATEMENT_ERRORS):
            async with self._connection.acquire() as connection:
                ended = await connection.fetch(_END_STALLED_SESSIONS)
            for row in ended:
                _log.warning(
                    "database.stalled_session_ended", pid=row["pid"], application=row["application"]
                )

    async def _roll_back(self, transaction: asyncpg.transaction.Transaction) -> None:
        """Roll back. If that fails, close the connection, so that the server rolls back."""
        try:
            await transaction.rollback()
        except STATEMENT_ERRORS:
            self.terminate()


def _seconds(span: str) -> float:
    """Parse a time limit as these settings write it, such as 60s or 300ms, into seconds."""
    return int(span[:-2]) / 1000 if span.endswith("ms") else float(span[:-1])


def _decode_jsonb(value: bytes) -> bytes:
    return bytes(value[1:])

"""Reads the views in one snapshot of the database, so that the parts of an answer fit together.

All connections act as the role projector_reader, which may only read views. A snapshot also knows
how fresh the views were when it was taken, so that every answer can say so.
"""

import math
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final, Self, TypeVar

import asyncpg
import structlog

from normalizer.errors import ConfigurationError
from normalizer.postgres.database import PoolerRejectedError, connect
from projector.api.api_errors import (
    ApiError,
    BusyError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    TooSlowError,
)
from projector.database_session import (
    AUTH_SQLSTATE_CLASSES,
    CONNECTION_ERRORS,
    OUTAGE_SQLSTATE_CLASSES,
)

_READER_ROLE: Final = "projector_reader"
"""The role of every connection, which can read only views."""

_WAIT_S: Final = 5.0
_IDLE_S: Final = 60.0
_STAMP: Final = """
    select statement_timestamp() as read_at,
           case when bool_and(as_of is not null) then min(as_of) end as as_of
    from   projector.freshness
"""
_TABLES: Final = """
    select exists (
        select from pg_class     as relation
        join        pg_namespace as schema on schema.oid = relation.relnamespace
        where       schema.nspname in ('normalizer', 'projector')
        and         relation.relkind in ('r', 'p', 'm')
        and         has_table_privilege(relation.oid, 'select')
    )
"""

_KEY_TYPES: Final = {"timestamptz": datetime, "bigint": int, "integer": int, "text": str}

_Row = TypeVar("_Row")

_log = structlog.get_logger()


class Statement:
    """A SQL statement with named parameters (`:name::type`), whose values are sent separately.

    A statement that lists rows page by page also has parameters such as `:after_id`, for the last
    row of the previous page. Its last columns have the same names, so that the last row of a page
    provides the values for the next one. `keyset` maps each of these parameters to its type.
    """

    def __init__(self, text: str) -> None:
        self._names: list[str] = []
        self.keyset: Final[dict[str, type]] = {
            name: _KEY_TYPES[type_]
            for name, type_ in re.findall(r":(after_[a-z]+)::([a-z]+)", text)
        }
        self.text: Final = re.sub(r"(?<!:):([a-z_]+)", self._number, text)

    def _number(self, name: re.Match[str]) -> str:
        if name[1] not in self._names:
            self._names.append(name[1])
        return f"${self._names.index(name[1]) + 1}"

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values of its parameters, in the order of their numbers."""
        return [values[name] for name in self._names]


class Snapshot:
    """A repeatable-read transaction: everything that is read through it is from the same moment.

    All of its statements share one deadline, `ends_at_s`, which is a time of the monotonic clock.
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        read_at: datetime,
        as_of: datetime | None,
        *,
        ends_at_s: float,
    ) -> None:
        self._connection = connection
        self._ends_at_s = ends_at_s
        self.read_at = read_at
        self.as_of = as_of

    @property
    def freshness_fields(self) -> dict[str, Any]:
        """Return the fields of an answer that say how fresh it is (see ApiAnswer)."""
        behind_s = (
            None if self.as_of is None else max(0.0, (self.read_at - self.as_of).total_seconds())
        )
        return {"as_of": self.as_of, "behind_s": behind_s, "read_at": self.read_at}

    async def untyped_rows(
        self, statement: Statement, values: Mapping[str, Any]
    ) -> list[asyncpg.Record]:
        """Return the records of the statement."""
        await self._limit_next()
        found: list[asyncpg.Record] = await self._connection.fetch(
            statement.text, *statement.arguments(values)
        )
        return found

    async def open_stream(
        self, statement: Statement, values: Mapping[str, Any], *, at_once: int
    ) -> AsyncIterator[asyncpg.Record]:
        """Yield the records one after the other, with `at_once` of them in memory."""
        await self._limit_next()
        # `connection.cursor` would give its statement a name, and behind a connection pooler
        # another client may already use that name.
        prepared = await self._connection.prepare(statement.text)
        records: AsyncIterator[asyncpg.Record] = aiter(
            prepared.cursor(*statement.arguments(values), prefetch=at_once)
        )
        return records

    async def count_rows(
        self, statement: Statement, values: Mapping[str, Any], *, within_s: float
    ) -> int | None:
        """Return the number of rows of the statement, or None if counting takes too long."""
        try:
            async with self._connection.transaction():
                await self._limit_next(within_s)
                counted: int = await self._connection.fetchval(
                    f"select count(*) from ({statement.text}) as listed",  # noqa: S608 - a constant
                    *statement.arguments(values),
                )
                return counted
        except asyncpg.QueryCanceledError:
            return None

    async def rows(
        self, statement: Statement, values: Mapping[str, Any], kind: type[_Row]
    ) -> list[_Row]:
        """Return the records as instances of `kind`, whose fields are named like the columns."""
        return [kind(**record) for record in await self.untyped_rows(statement, values)]

    async def _limit_next(self, within_s: float = math.inf) -> None:
        """Limit the next statement to the time that is left, and at most to `within_s`."""
        left_s = min(self._ends_at_s - time.monotonic(), within_s)
        # 0 would mean no limit.
        limit_ms = math.ceil(max(left_s * 1000, 1))
        await self._connection.execute(f"set local statement_timeout = {limit_ms}")


class ReaderPool:
    """A small pool of connections that may only read views. Use it with `async with`.

    A connection is opened only when a request needs one, so the server can start even while the
    database is down.
    """

    def __init__(self, url: str, *, connections: int, timeout_s: float) -> None:
        self._url = url
        self._connections = connections
        self._timeout_s = timeout_s
        self._pool: asyncpg.Pool | None = None
        self._logged: str | None = None

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._connections,
            max_inactive_connection_lifetime=_IDLE_S,
            init=_refuse_tables,
            connect=partial(
                connect,
                application_name="projector serve",
                session=self._session(),
                command_timeout_s=self._timeout_s + _WAIT_S,
            ),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._pool
        self._pool.terminate()

    @property
    def in_use(self) -> int:
        """Return the number of connections in use."""
        return self._pool.get_size() - self._pool.get_idle_size() if self._pool else 0

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Open a snapshot, and close it after the block.

        A database error in the block is raised as the ApiError that fits its SQLSTATE. If the
        database can't be used, the reason is also logged, but not again as long as it stays the
        same. Otherwise every request would log it.
        """
        try:
            async with self._snapshot() as snapshot:
                self._logged = None
                yield snapshot
        except (DatabaseRefusedError, DatabaseUnavailableError) as error:
            cause = error.__cause__
            why = str(cause) if isinstance(cause, ConfigurationError) else str(error)
            if why != self._logged:
                _log.warning("api.database_unusable", why=why, error=type(cause or error).__name__)
            self._logged = why
            raise

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Snapshot]:
        assert self._pool
        ends_at_s = time.monotonic() + self._timeout_s
        try:
            async with (
                self._acquired(self._pool) as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                ends_at_s = time.monotonic() + self._timeout_s
                stamp = await connection.fetchrow(_STAMP)
                yield Snapshot(connection, stamp["read_at"], stamp["as_of"], ends_at_s=ends_at_s)
        except asyncpg.PostgresError as error:
            timed_out = time.monotonic() >= ends_at_s
            raise _translated(error, self._timeout_s, timed_out=timed_out) from error
        except ConfigurationError as error:
            # Don't send this error to the client, because it may name a file of this machine. Only
            # the log has the details.
            raise DatabaseRefusedError(
                "the server can't connect to the database, because its DATABASE_URL is wrong. The "
                "log of `projector serve` has the details"
            ) from error
        except CONNECTION_ERRORS as error:
            raise DatabaseUnavailableError("the database does not answer") from error

    @asynccontextmanager
    async def _acquired(self, pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
        try:
            connection = await pool.acquire(timeout=_WAIT_S)
        except TimeoutError as error:
            if pool.get_size() < self._connections:
                raise DatabaseUnavailableError("the database does not answer") from error
            raise BusyError(
                "all database connections of the server are in use. Try again in a few seconds"
            ) from error
        try:
            yield connection
        finally:
            await pool.release(connection)

    def _session(self) -> dict[str, str]:
        return {
            "role": _READER_ROLE,
            "transaction_read_only": "on",
            "statement_timeout": f"{self._timeout_s * 1000:.0f}",
            "idle_in_transaction_session_timeout": "10s",
            "lock_timeout": "2s",
            "search_path": "projector",
            # A generic plan would keep filters that are null.
            "plan_cache_mode": "force_custom_plan",
            # Parallel workers would slow down the normalizer on the same server.
            "max_parallel_workers_per_gather": "0",
        }


async def _refuse_tables(connection: asyncpg.Connection) -> None:
    if await connection.fetchval(_TABLES):
        raise DatabaseRefusedError(
            f"the role {_READER_ROLE} can read tables, but it may only read views. "
            "Revoke that right"
        )


def _translated(error: asyncpg.PostgresError, timeout_s: float, *, timed_out: bool) -> ApiError:
    """Translate an error of PostgreSQL into one that clients may see, by its SQLSTATE.

    PostgreSQL's own message isn't passed on, because it may contain event content. SQLSTATE 57014
    means that the statement was cancelled: by its timeout if `timed_out` is True, and otherwise by
    somebody else.
    """
    code = error.sqlstate or ""
    if code == "57014" and timed_out:
        return TooSlowError(
            f"the query was stopped after {timeout_s:g} s. Request less data, such as a shorter "
            "window"
        )
    if code in ("42501", "22023") and "role" in str(error):
        return DatabaseRefusedError(
            f"the user of DATABASE_URL may not act as {_READER_ROLE}. Grant that role to the user"
        )
    if code[:2] in AUTH_SQLSTATE_CLASSES or isinstance(error, PoolerRejectedError):
        return DatabaseRefusedError(
            f"the sign-in was rejected (SQLSTATE {code}). Check the user, the password, and the "
            "name of the database in DATABASE_URL"
        )
    if code[:2] in OUTAGE_SQLSTATE_CLASSES:
        return DatabaseUnavailableError(
            "the database could not answer, for example because it is restarting or has too many "
            f"connections (SQLSTATE {code}). Try again in a few seconds"
        )
    if code[:2] == "42":
        return DatabaseRefusedError(
            f"a view is missing or can't be read (SQLSTATE {code}). Run `normalizer migrate` to "
            "create the views"
        )
    return DatabaseRefusedError(
        f"the database rejected the query (SQLSTATE {code}, {type(error).__name__}). PostgreSQL's "
        "log has the details"
    )

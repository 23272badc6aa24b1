"""A database URL in, snapshots out: rows, and how fresh they are, as of one moment."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, Self, TypeVar

import asyncpg

from projector.api.api_errors import (
    ApiError,
    BusyError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    TooSlowError,
)

READER: Final = "projector_reader"
"""The role that every connection takes: it sees the views, and nothing else."""

_WAIT_S: Final = 5.0
_IDLE_S: Final = 60.0
_STAMP: Final = """
    select statement_timestamp() as read_at,
           min(as_of) as as_of
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
_MOMENT_CLASSES: Final = frozenset({"08", "40", "53", "55", "57", "58", "XX"})

_Row = TypeVar("_Row")


class Statement:
    """SQL with named parameters (`:name::type`): values never become part of its text."""

    def __init__(self, text: str) -> None:
        self._names: list[str] = []
        self.text: Final = re.sub(r"(?<!:):([a-z_]+)", self._number, text)

    def _number(self, name: re.Match[str]) -> str:
        if name[1] not in self._names:
            self._names.append(name[1])
        return f"${self._names.index(name[1]) + 1}"

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The values that it names, in the order of their numbers."""
        return [values[name] for name in self._names]


class Snapshot:
    """One moment of the database; everything read through it agrees."""

    def __init__(
        self, connection: asyncpg.Connection, read_at: datetime, as_of: datetime | None
    ) -> None:
        self._connection = connection
        self.read_at = read_at
        self.as_of = as_of

    @property
    def behind_s(self) -> float | None:
        """From as_of to the reading."""
        return None if self.as_of is None else max(0.0, (self.read_at - self.as_of).total_seconds())

    async def records(
        self, statement: Statement, values: Mapping[str, Any]
    ) -> list[asyncpg.Record]:
        """What the statement gives."""
        found: list[asyncpg.Record] = await self._connection.fetch(
            statement.text, *statement.arguments(values)
        )
        return found

    async def rows(
        self, statement: Statement, values: Mapping[str, Any], kind: type[_Row]
    ) -> list[_Row]:
        """What the statement gives, as rows of this kind: its columns are their fields."""
        return [kind(**record) for record in await self.records(statement, values)]


class Reader:
    """A small pool of connections that read views only.

    They are made when they are asked for: it starts while the database is away.
    """

    def __init__(self, url: str, *, connections: int, timeout_s: float) -> None:
        self._url = url
        self._connections = connections
        self._timeout_s = timeout_s
        self._pool: asyncpg.Pool | None = None

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._connections,
            max_inactive_connection_lifetime=_IDLE_S,
            timeout=_WAIT_S,
            command_timeout=self._timeout_s + _WAIT_S,
            init=_refuse_tables,
            server_settings=self._session(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._pool
        self._pool.terminate()

    @property
    def in_use(self) -> int:
        """Connections that answer a question now."""
        return self._pool.get_size() - self._pool.get_idle_size() if self._pool else 0

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Raises ApiError, by what the database said."""
        assert self._pool
        try:
            async with (
                self._acquired(self._pool) as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                stamp = await connection.fetchrow(_STAMP)
                yield Snapshot(connection, stamp["read_at"], stamp["as_of"])
        except asyncpg.PostgresError as error:
            raise _translated(error, self._timeout_s) from error
        except (asyncpg.InterfaceError, OSError) as error:
            raise DatabaseUnavailableError("the database does not answer") from error

    @asynccontextmanager
    async def _acquired(self, pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
        try:
            connection = await pool.acquire(timeout=_WAIT_S)
        except TimeoutError as error:
            if pool.get_size() < self._connections:
                raise DatabaseUnavailableError("the database does not answer") from error
            raise BusyError("too many questions at once: ask again") from error
        try:
            yield connection
        finally:
            await pool.release(connection)

    def _session(self) -> dict[str, str]:
        return {
            "application_name": "projector serve",
            "role": READER,
            "default_transaction_read_only": "on",
            "statement_timeout": f"{self._timeout_s * 1000:.0f}",
            "idle_in_transaction_session_timeout": "10s",
            "lock_timeout": "2s",
            "search_path": "projector",
            "TimeZone": "UTC",
            # A filter that was not given must fall out of the plan.
            "plan_cache_mode": "force_custom_plan",
            # Compiling costs more than any of our queries.
            "jit": "off",
            # The normalizer writes beside us.
            "max_parallel_workers_per_gather": "0",
        }


async def _refuse_tables(connection: asyncpg.Connection) -> None:
    if await connection.fetchval(_TABLES):
        raise DatabaseRefusedError(f"{READER} may read tables: only views are served; revoke that")


def _translated(error: asyncpg.PostgresError, timeout_s: float) -> ApiError:
    """By SQLSTATE; the server's own words may hold content and stay inside."""
    code = error.sqlstate or ""
    if code == "57014":
        return TooSlowError(f"the database needed more than {timeout_s:g} s: ask for less")
    if code in ("42501", "22023") and "role" in str(error):
        return DatabaseRefusedError(f"the user of DATABASE_URL may not act as {READER}: grant it")
    if code[:2] in _MOMENT_CLASSES:
        return DatabaseUnavailableError(f"the database does not answer now (SQLSTATE {code})")
    if code[:2] == "42":
        return DatabaseRefusedError(f"a view is missing or closed (SQLSTATE {code}): migrate")
    return DatabaseRefusedError(f"the database refused (SQLSTATE {code}, {type(error).__name__})")

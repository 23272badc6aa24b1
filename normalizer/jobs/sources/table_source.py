"""Reads the rows of a PostgreSQL table or query as records, page by page along a key.

A row gets coordinates as if it were a Kafka record: the topic is `pg:` and the table's name, and
the offset is the event_id. Two executions may have used the same event_id, so the partition is a
number that's computed from the execution's id. Source: docs/spec/wire-shapes.md#g6.
"""

import hashlib
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, Self, TypeGuard

import asyncpg
import msgspec

from normalizer.core.raw_record import RawRecord
from normalizer.core.redaction.redact_stored import redact_stored_text
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.errors import ConfigurationError, FatalError, NormalizerError, StoreUnavailableError
from normalizer.jobs.sources.field_defaults import FieldDefaults
from normalizer.jobs.sources.job_source import PartKey, ReadPosition, SourcePage, SourcePart
from normalizer.jobs.sources.row_pages import fetch_page
from normalizer.store.reconnecting_connection import ReconnectingConnection
from normalizer.store.sqlstate import (
    STATEMENT_ERRORS,
    ErrorCause,
    classify_database_error,
    translate_error,
)

_ROWS_A_PAGE: Final = 2_000

_SESSION: Final = {
    "transaction_read_only": "on",
    # The source may be somebody's production database, so keep snapshots and statements short: one
    # page each.
    "statement_timeout": "10s",
}
_EVENT_ID: Final = re.compile(r"-?[0-9]{1,19}")
_ITS_OWN: Final = frozenset(("22", "28", "3D", "3F", "42"))
"""Classes of SQLSTATE that the operator's input causes: an address, table, column, query, or cast.
"""
_REFUSALS: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InsufficientPrivilegeError,
)
"""Errors of these classes for a rejected sign-in or a missing right, which the command didn't
cause."""

_TABLE: Final = """
    select   wanted.oid::text as name,
             array(
                 select   attribute.attname::text
                 from     pg_index as index
                 cross join lateral unnest(index.indkey::smallint[]) with ordinality
                     as place (attnum, ordinal)
                 join     pg_attribute as attribute
                          on attribute.attrelid = index.indrelid and attribute.attnum = place.attnum
                 where    index.indrelid = wanted.oid and index.indisprimary
                 order by place.ordinal
             ) as key,
             (
                 select greatest(sum(greatest(leaf.reltuples, 0)), 0)::bigint
                 from   pg_partition_tree(wanted.oid) as tree
                 join   pg_class as leaf on leaf.oid = tree.relid
                 where  tree.isleaf
             ) as rows
    from     (select $1::text::regclass as oid) as wanted
"""


class TableSource:
    """Every row of a table or a query, read page by page, each in its own transaction.

    Rows are read in the order of the columns `key`, which identify a row. For a table, `key`
    defaults to the primary key. A row that's added while the table is read may sort before the
    current position. This run misses such a row, but a second run reads it.
    """

    positions_need_cursor = True
    cluster_id = None
    truncation_reason = None

    def __init__(
        self,
        database_url: str,
        *,
        table: str | None = None,
        query: str | None = None,
        name: str | None = None,
        key: Sequence[str] = (),
        defaults: FieldDefaults | None = None,
        redact_keys: Iterable[str] = (),
    ) -> None:
        self._connection = ReconnectingConnection(
            database_url, application_name="normalizer backfill source", session=_SESSION
        )
        self._table = table
        self._query = query
        self._name = name or table or "query:" + _hash(query or "").hex()
        self._key_columns = list(key)
        self._defaults = defaults or FieldDefaults({})
        self._sanitizer = Sanitizer(redact_keys)
        self._rows: int | None = None
        self._read_rows = 0
        self._first_page = self._next_page = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.terminate()

    async def list_parts(self) -> list[SourcePart]:
        """Return the only part, in which rows are numbered.

        Raises ConfigurationError and FatalError.
        """
        try:
            async with self._connection.acquire() as connection:
                await self._prepare(connection)
        except STATEMENT_ERRORS as error:
            why = self._translated(error)
            if _is_its_own(error) and not isinstance(error, _REFUSALS):
                raise ConfigurationError(str(why)) from error
            raise why from error
        return [SourcePart(key=self._part, start=0)]

    async def read(
        self, positions: Mapping[PartKey, ReadPosition]
    ) -> AsyncGenerator[SourcePage, None]:
        """Yield rows after the position's key. Raises StoreUnavailableError in an outage."""
        at = positions[self._part]
        next_offset, cursor = at.next_offset, at.cursor
        self._read_rows = next_offset
        while rows := await self._page(cursor):
            cursor = rows[-1]["key"]
            yield SourcePage(
                part=self._part,
                from_offset=next_offset,
                next_offset=next_offset + len(rows),
                records=[self._record(row) for row in rows],
            )
            next_offset += len(rows)
            self._read_rows = next_offset

    def progress_ratio(self) -> float | None:
        """Return the share of rows that was read, or None for a query or without statistics.

        The total is PostgreSQL's estimate.
        """
        return min(self._read_rows / self._rows, 1.0) if self._rows else None

    @property
    def _part(self) -> PartKey:
        return (f"pg:{self._name}", 0, 0)

    def _record(self, row: Mapping[str, Any]) -> RawRecord:
        if not _EVENT_ID.fullmatch(row["event_id"] or ""):
            raise self._failed(
                f"the row with key {row['key']} can't be read, because its event_id is not a "
                "whole number"
            )
        offset = int(row["event_id"])
        if not -(1 << 63) <= offset < (1 << 63) - 1:
            raise self._failed(
                f"the row with key {row['key']} can't be read, because its event_id has more than "
                "63 bits"
            )
        return RawRecord(
            value=self._defaults.add_missing_fields(row["value"].encode()),
            topic=f"pg:{self._name}",
            partition=_partition_for(row["execution"]),
            offset=offset,
            key=row["key"].encode(),
        )

    def _check_key(self, keys: Sequence[str]) -> None:
        """Check the keys.

        A row with a key of another row, or with null in it, could be skipped between pages.
        """
        for key, following in pairwise((*keys, "")):
            if "null" in key and None in msgspec.json.decode(key):
                raise self._failed(
                    f"a row has null in its key, {key}, so the row could be skipped. Use --key to "
                    "name columns that are never null"
                )
            if key == following:
                raise self._failed(
                    f"two rows have the same key, {key}, so one of them could be skipped. Use "
                    "--key to name columns that together identify a row"
                )

    async def _page(self, cursor: str | None) -> list[asyncpg.Record]:
        """Return the next rows. It fetches one more, to compare its key with that of the last."""
        statement = self._first_page if cursor is None else self._next_page
        values = [] if cursor is None else msgspec.json.decode(cursor, type=list[str])
        try:
            async with self._connection.acquire() as connection:
                # With `async with`, a cancelled job would wait for a silent server to respond to
                # ROLLBACK.
                transaction = connection.transaction()
                await transaction.start()
                rows, are_all = await fetch_page(connection, statement, *values)
                await transaction.rollback()
        except STATEMENT_ERRORS as error:
            self._connection.terminate()
            raise self._translated(error) from error
        self._check_key([row["key"] for row in rows])
        return rows if are_all and len(rows) <= _ROWS_A_PAGE else rows[:-1]

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        if self._table is None:
            relation, key = f"({self._query})", self._key_columns
        else:
            found = await connection.fetchrow(_TABLE, self._table)
            relation, self._rows = found["name"], found["rows"]
            key = self._key_columns or found["key"] or []
        if not key:
            raise ConfigurationError(
                f"{self._name} can't be read in order, because it has no primary key. Name the "
                "columns that identify a row, for example --key event_id"
            )
        all_of_it = f"select * from {relation} as source"  # noqa: S608 - the operator's own name for it
        columns = (await connection.prepare(all_of_it)).get_attributes()
        types = {column.name: f'"{column.type.schema}"."{column.type.name}"' for column in columns}
        if missing := [name for name in ("event_id", *key) if name not in types]:
            raise ConfigurationError(
                f"{self._name} can't be read, because it has no column {', '.join(missing)}"
            )
        self._first_page, self._next_page = _pages_along(
            relation, {name: types[name] for name in key}, has_execution="execution_id" in types
        )

    def _translated(self, error: BaseException) -> NormalizerError:
        """Translate the source's error.

        The message is kept if the operator's input caused the error.
        """
        if isinstance(error, asyncpg.QueryCanceledError):
            return FatalError(
                f"{self._name}: reading a page of rows took longer than "
                f"{_SESSION['statement_timeout']}. Create an index on the columns of its key, so "
                "that the database finds each page at once"
            )
        if classify_database_error(error, copying=False) is ErrorCause.TRANSIENT:
            return StoreUnavailableError(f"source {translate_error(error)}")
        if _is_its_own(error):
            return self._failed(f"SQLSTATE {error.sqlstate}: {error.args[0]}")
        return FatalError(f"{self._name}: source {translate_error(error)}")

    def _failed(self, why: str) -> FatalError:
        """Build the error.

        It's stored as the job's reason and may quote a row, so redact secrets.
        """
        return FatalError(f"{self._name}: {redact_stored_text(why, self._sanitizer)}")


def _is_its_own(error: BaseException) -> TypeGuard[asyncpg.PostgresError]:
    return isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "")[:2] in _ITS_OWN


def _pages_along(relation: str, key: Mapping[str, str], *, has_execution: bool) -> tuple[str, str]:
    """Build the statements for the first page, and for a page after a given key.

    The values of the key are passed as text. A row with null in its key would be skipped silently,
    because a comparison with null is never true. So both statements look for such a row too, and
    return it first, so that the caller can report it.
    """
    names = [f"source.{_quoted(name)}" for name in key]
    columns = ", ".join(names)
    texts = ", ".join(f"{name}::text" for name in names)
    values = [f"${place}::text::{kind}" for place, kind in enumerate(key.values(), 1)]
    execution = "source.execution_id::text" if has_execution else "null::text"
    select = f"""
        select   row_to_json(source)::text           as value,
                 json_build_array({texts})::text     as key,
                 source.event_id::text               as event_id,
                 {execution}                         as execution
        from     {relation} as source"""  # noqa: S608 - the operator's own query, read only
    order = f"""
        order by {columns}
        limit    {_ROWS_A_PAGE + 1}"""
    nulls = [f"{select}\n        where    {names[0]} is null limit 1"]
    for place in range(1, len(names)):
        same = " and ".join(map("{} = {}".format, names[:place], values))
        nulls.append(f"{select}\n        where    {same} and {names[place]} is null limit 1")
    after = f"{select}\n        where    ({columns}) > ({', '.join(values)}){order}"
    return _union(nulls[:1], select + order), _union(nulls[1:], after)


def _union(nulls: Sequence[str], page: str) -> str:
    return "\n        union all\n".join(f"({one})" for one in (*nulls, page))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _partition_for(execution: str | None) -> int:
    """Return 28 bits of a hash, times 8. Never change this, because it identifies stored events."""
    return int.from_bytes(_hash(execution or "")[:4], "big") >> 4 << 3


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()

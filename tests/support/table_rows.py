"""Reads what the tables hold, and opens sessions that hold locks."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import asyncpg

from normalizer.core.batch import OutcomeTotals, PartitionBatch
from normalizer.core.identity.coordinates import DedupHorizons
from normalizer.envelope import Envelope, canonical_json
from normalizer.store.claim import Claim
from normalizer.store.source_positions import AlreadyCommitted, SourcePositions
from normalizer.store.store import Store
from tests.support.factories import TOPIC
from tests.support.stack import Database
from tests.support.waiting import until

_JSON: Final = ("context", "result", "meta", "extra", "coercions", "headers")
_COLUMNS: Final = ", ".join(
    f"{name}::text" if name in _JSON else name for name in Envelope.__struct_fields__
)


PROJECTING: Final = {"search_path": "projector, normalizer, public", "TimeZone": "UTC"}
"""Settings of a session that maintains projections."""


@contextlib.asynccontextmanager
async def connected(database: Database, **settings: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's session for the test."""
    # On 15 the queries that compare everything would be compiled for longer than they run.
    settings = {"jit": "off"} | settings
    connection = await asyncpg.connect(database.admin_url, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()


async def execute(database: Database, statement: str, *values: Any) -> None:
    """Execute it as a superuser."""
    async with connected(database) as connection:
        await connection.execute(statement, *values)


async def insert_row(connection: asyncpg.Connection, table: str, **columns: Any) -> None:
    """Insert a row, with defaults for all that does not matter."""
    row = {**_ROWS[table], **columns}
    names, places = ", ".join(row), ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await connection.execute(f"insert into {table} ({names}) values ({places})", *row.values())


_ROWS: Final[Mapping[str, Mapping[str, Any]]] = {
    "normalizer.source_positions": {
        "topic": "noetl.events",
        "incarnation": 0,
        "partition": 0,
        "cluster_id": "c",
        "owner": "o",
        "start_offset": 0,
        "next_offset": 0,
    },
    "normalizer.source_heartbeats": {
        "topic": "noetl.events",
        "partition": 0,
        "incarnation": 0,
        "epoch": 1,
        "partition_count": 2,
        "log_end": 0,
        "next_offset": 0,
    },
    "normalizer.quarantine": {
        "reason": "invalid_json",
        "detail": "no JSON",
        "shape": "",
        "normalizer_version": 1,
        "source_topic": "noetl.events",
        "source_incarnation": 0,
        "source_partition": 0,
        "source_offset": 4,
        "source_index": 0,
        "value_bytes": 7,
        "batch_id": 1,
    },
    "normalizer.jobs": {
        "job_id": "j",
        "run": 1,
        "kind": "backfill",
        "spec": "",
        "owner": "o",
        "lock_key": 1,
    },
}


async def fetch_value(url: str, query: str) -> Any:
    """The first value of a query, from a session of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def open_store(database: Database, owner: str = "one", **options: Any) -> Store:
    """A store whose sessions have their owner's name; use it with `async with`."""
    return Store(database.url, owner=owner, application_name=owner, **options)


class BeforeSecondTransaction(SourcePositions):
    """Runs `step` once a batch has committed the first of its two transactions."""

    def __init__(self, step: Callable[[], Awaitable[None]]) -> None:
        self._step = step
        self.transactions = 0

    async def lock(
        self, connection: asyncpg.Connection, parts: Sequence[PartitionBatch]
    ) -> DedupHorizons | AlreadyCommitted:
        self.transactions += 1
        if self.transactions == 2:
            await self._step()
        return await super().lock(connection, parts)


async def claimed(store: Store, partition: int = 0, topic: str = TOPIC) -> Claim:
    """A claim of a partition whose log begins at 0."""
    return await store.claim_partition(topic, partition, cluster_id="cluster", log_start=0)


async def stored_events(connection: asyncpg.Connection) -> list[Envelope]:
    """Every stored event by id, its JSON in canonical bytes."""
    return [event async for event in each_stored_event(connection)]


async def each_stored_event(connection: asyncpg.Connection) -> AsyncIterator[Envelope]:
    """The same, one by one: for more events than memory should hold."""
    async with connection.transaction():
        rows = f"select {_COLUMNS} from normalizer.events order by event_id"
        async for row in connection.cursor(rows, prefetch=1_000):
            yield canonical(Envelope(**row))


def canonical(event: Envelope) -> Envelope:
    """The event with its JSON in canonical bytes."""
    said = {name: getattr(event, name) for name in Envelope.__struct_fields__}
    for name in _JSON:
        if (text := said[name]) is not None:
            said[name] = canonical_json(text.encode() if isinstance(text, str) else text)
    return Envelope(**said)


async def read_totals(connection: asyncpg.Connection, partition: int = 0) -> OutcomeTotals:
    """The running totals of the partition's latest incarnation."""
    row = await read_position(connection, partition)
    return OutcomeTotals(**{name: row[name] for name in OutcomeTotals.__struct_fields__})


async def read_position(connection: asyncpg.Connection, partition: int = 0) -> Any:
    """The row of source_positions of the partition's latest incarnation."""
    return await connection.fetchrow(
        """
        select   *
        from     normalizer.source_positions
        where    partition = $1
        order by incarnation desc
        limit    1
        """,
        partition,
    )


async def everything(connection: asyncpg.Connection) -> dict[str, str]:
    """Table -> all content of its rows as text, including bytes."""
    tables = await connection.fetch(
        "select schemaname || '.' || tablename from pg_tables "
        "where schemaname in ('projector', 'normalizer') order by 1"
    )
    return {
        table: "\n".join(
            sorted(
                str([cell.decode("latin-1") if isinstance(cell, bytes) else cell for cell in row])
                for row in await connection.fetch(f"select * from {table}")
            )
        )
        for (table,) in tables
    }


async def count(connection: asyncpg.Connection, table: str) -> int:
    """The number of rows of a table."""
    counted: int = await connection.fetchval(f"select count(*) from {table}")
    return counted


async def minutes(connection: asyncpg.Connection) -> dict[tuple[str, str, int], int]:
    """Events by (event_type, status, attempts), from the projection."""
    rows = await connection.fetch(
        """
        select   event_type, status, attempts, sum(events)::bigint as events
        from     projector.attempts_by_status
        group by event_type, status, attempts
        order by event_type, status, attempts
        """
    )
    return {(row["event_type"], row["status"], row["attempts"]): row["events"] for row in rows}


async def assert_ledger_holds(connection: asyncpg.Connection) -> None:
    """Assert that the totals agree with the tables, and the projection with the events."""
    wrong = await connection.fetch(
        """
        with stored as (
            select   source_topic as topic, source_incarnation as incarnation,
                     source_partition as partition, count(*) as rows
            from     normalizer.events
            where    source_topic <> 'sql'
            group by 1, 2, 3
        ), rejected as (
            select   source_topic as topic, source_incarnation as incarnation,
                     source_partition as partition, count(*) as rows
            from     normalizer.quarantine
            group by 1, 2, 3
        )
        select    position.topic, position.partition, position.stored, stored.rows,
                  position.quarantined, rejected.rows
        from      normalizer.source_positions as position
        full join stored  using (topic, incarnation, partition)
        full join rejected using (topic, incarnation, partition)
        where     coalesce(position.stored, -1) <> coalesce(stored.rows, 0)
        or        coalesce(position.quarantined, -1) <> coalesce(rejected.rows, 0)
        """
    )
    assert [tuple(row) for row in wrong] == []
    off = await connection.fetch(
        """
        with grained as (
            select case
                       when created_at < date_trunc('hour', now(), 'UTC') - interval '48 hours'
                       then 'hour'
                       else 'minute'
                   end as grain, *
            from   normalizer.events
        ), counted as (
            select   date_trunc(grain, created_at, 'UTC') as bucket_start,
                     case grain when 'hour' then 3600 else 60 end as bucket_s,
                     event_type, status, attempts, count(*) as events,
                     count(*) filter (where evidence < 100) as attempts_defaulted
            from     grained
            group by 1, 2, 3, 4, 5
        )
        (table counted except all table projector.attempts_by_status)
        union all
        (table projector.attempts_by_status except all table counted)
        """
    )
    assert [tuple(row) for row in off] == []


async def wait_for_lock(connection: asyncpg.Connection, owner: str | None = None) -> None:
    """Wait until a session of this owner, or of anybody, waits for a lock."""

    async def waits() -> bool:
        await connection.execute("select pg_stat_clear_snapshot()")
        found: bool = await connection.fetchval(
            """
            select exists (
                select from pg_stat_activity
                where  datname = current_database() and wait_event_type = 'Lock'
                and    application_name = coalesce($1, application_name)
            )
            """,
            owner,
        )
        return found

    await until(waits, deadline_s=60.0)


async def session_pids(connection: asyncpg.Connection, owner: str) -> list[int]:
    """The server processes of this owner's sessions."""
    rows = await connection.fetch(
        """
        select   pid from pg_stat_activity
        where    datname = current_database() and application_name = $1
        order by pid
        """,
        owner,
    )
    return [row["pid"] for row in rows]


async def pages_touched(connection: asyncpg.Connection) -> int:
    """Pages that the server has read for this database: a count, independent of the machine."""
    await connection.execute("select pg_stat_force_next_flush()")
    pages: int = await connection.fetchval(
        "select blks_hit + blks_read from pg_stat_database where datname = current_database()"
    )
    return pages

"""Lets old rows go, their counts kept, in small steps that can stop anywhere.

The horizon is raised first, then rows older than it by the margin are deleted, some thousand a
transaction: from then on no record of theirs comes in again. Source: 0009_create_retention.sql.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import asyncpg

from projector.database_session import with_lock_retry
from projector.maintenance.archive import COLUMNS, ArchiveFolder

ROWS_A_STEP: Final = 5_000
BYTES_A_STEP: Final = 4 << 20
"""Of JSON, as it is stored; and of all texts, written out, where they are read for the folder."""
_PAGES_A_LOOK: Final = 20_000
_ROWS_A_READ: Final = 20
"""At once: the largest events are 16 MiB each, written out."""
_STEPS_A_LOOK: Final = 10
"""Old rows are looked for so many steps at a time: a look goes by those that are dead already."""
_PATIENCE_S: Final = 60.0
_ASK_AGAIN_S: Final = 0.05


class _Old(NamedTuple):
    event_id: int
    execution_id: int
    stored_bytes: int


async def drop_events(
    connection: asyncpg.Connection,
    before: datetime,
    margin: timedelta,
    folder: ArchiveFolder | None,
    *,
    dry_run: bool,
) -> AsyncIterator[str]:
    """Take in no event from before then any more; let go of those older than that by the margin."""
    if dry_run:
        yield f"would take in no event from before {before:%Y-%m-%dT%H:%M}"
    elif not await _raise_horizon(connection, before):
        yield "retention of events waits: a batch that began before has not ended yet"
        return
    for partition in await connection.fetch(_PARTITIONS):
        gone = await _drop_rows(
            connection, partition["name"], before - margin, folder, dry_run=dry_run
        )
        if gone:
            done = "would archive and delete" if dry_run else "archived and deleted"
            yield f"{done} {gone:,} events of {partition['name']}"
        if gone and not dry_run and await _empty(connection, partition["name"]):
            yield f"emptied {partition['name']}"


async def _raise_horizon(connection: asyncpg.Connection, to: datetime) -> bool:
    """Whether every transaction that may have read the horizon as it was has ended."""
    await connection.execute(_RAISE_HORIZON, to)
    readers = await connection.fetchval(_HORIZON_READERS)
    asks = int(_PATIENCE_S / _ASK_AGAIN_S)
    for _ in range(asks):
        if not await connection.fetchval(_STILL_THERE, readers):
            return True
        await asyncio.sleep(_ASK_AGAIN_S)
    return False


async def _drop_rows(
    connection: asyncpg.Connection,
    partition: str,
    before: datetime,
    folder: ArchiveFolder | None,
    *,
    dry_run: bool,
) -> int:
    """How many rows of the partition went, or would. What somebody has locked waits."""
    if dry_run:
        return await _count_rows(connection, partition, before)
    gone, most = 0, ROWS_A_STEP * _STEPS_A_LOOK
    while True:
        async with connection.transaction():
            await connection.execute(_BY_ARRIVAL)
            old = await connection.fetch(_OLD_EVENTS.format(partition), before, most)
        deleted = 0
        for step in _cut(sorted(_Old(*row) for row in old)):
            left = step
            while left:
                count, left = await _archive(connection, left, before, folder)
                deleted += count
        gone += deleted
        if len(old) < most or not deleted:
            return gone


async def _count_rows(connection: asyncpg.Connection, partition: str, before: datetime) -> int:
    """So many pages of the partition at a time, as they lie."""
    count = 0
    pages = await connection.fetchval(_PAGES.format(partition))
    for first in range(0, pages, _PAGES_A_LOOK):
        within = ((first, 0), (first + _PAGES_A_LOOK, 0))
        count += await connection.fetchval(_COUNT_OLD_EVENTS.format(partition), before, *within)
    return count


def _cut(old: Sequence[_Old]) -> Iterator[Sequence[_Old]]:
    """Steps of so many rows and bytes; what is heavier by itself is a step of its own."""
    first = stored_bytes = 0
    for at, event in enumerate(old):
        stored_bytes += event.stored_bytes
        if at > first and (at - first == ROWS_A_STEP or stored_bytes > BYTES_A_STEP):
            yield old[first:at]
            first, stored_bytes = at, event.stored_bytes
    if old:
        yield old[first:]


async def _archive(
    connection: asyncpg.Connection,
    events: Sequence[_Old],
    before: datetime,
    folder: ArchiveFolder | None,
) -> tuple[int, Sequence[_Old]]:
    """Delete these, once they are in the folder, in one transaction: how many, and who is left.

    Executions first, then rows, in a later statement: so what is read is what the writer before
    has committed. A row that is locked is a writer's, who may wait for its execution: it is passed
    by. Which of the rows may go is asked once they are locked: who adds a sibling locks its holder.
    With a folder, only as many are read as fit in memory, and those that follow are left.
    """
    event_ids = [event.event_id for event in events]
    execution_ids = list({event.execution_id for event in events})
    bounds = (event_ids[0], event_ids[-1])
    deleted, left = 0, events[len(events) :]

    async def work() -> None:
        nonlocal deleted, left
        await connection.execute("select projector.lock_executions($1::bigint[])", execution_ids)
        locked = await connection.fetch(_LOCK_EVENTS, *bounds, event_ids, before)
        mine = (*bounds, [row["event_id"] for row in locked])
        if folder:
            rows, are_all = await _read_some(connection, _LOCKED_EVENTS.format(COLUMNS), *mine)
        else:
            rows = await connection.fetch(_LOCKED_EVENTS.format("event_id"), *mine)
            are_all = True
        if folder and rows:
            folder.write(rows)
        gone = [row["event_id"] for row in rows]
        deleted = await connection.fetchval("select projector.archive_events($1::bigint[])", gone)
        if not are_all:
            left = events[bisect_right(event_ids, gone[-1]) :]

    await with_lock_retry(connection, work, for_s=_PATIENCE_S)
    return deleted, left


async def _read_some(
    connection: asyncpg.Connection, statement: str, *values: object
) -> tuple[list[asyncpg.Record], bool]:
    """The first rows, until their texts are too much for memory, and whether they are all."""
    rows: list[asyncpg.Record] = []
    text = 0
    cursor = await connection.cursor(statement, *values)
    while some := await cursor.fetch(_ROWS_A_READ):
        rows += some
        text += sum(len(value) for row in some for value in row if isinstance(value, str))
        if text > BYTES_A_STEP:
            return rows, False
    return rows, True


async def _empty(connection: asyncpg.Connection, partition: str) -> bool:
    """Give back the room of a partition without rows; whoever reads it goes first."""
    if await connection.fetchval(_HAS_ROWS.format(partition)):
        return False
    await connection.execute("set statement_timeout = 0")
    try:
        await connection.execute(f"vacuum normalizer.{partition}")
        async with connection.transaction():
            await connection.execute("set local lock_timeout = '500ms'")
            await connection.execute(f"lock table normalizer.{partition} in access exclusive mode")
            if await connection.fetchval(_HAS_ROWS.format(partition)):
                return False
            await connection.execute(f"truncate table only normalizer.{partition}")
    except asyncpg.LockNotAvailableError:
        return False
    finally:
        await connection.execute("reset statement_timeout")
    return True


async def drop_executions(
    connection: asyncpg.Connection, before: datetime, *, dry_run: bool
) -> AsyncIterator[str]:
    """Forget executions of which no event is left and that were silent since before then."""
    gone, last = 0, -(1 << 63)
    while True:
        rows = await connection.fetch(_OLD_EXECUTIONS, last, before, ROWS_A_STEP // 10)
        if not rows:
            break
        execution_ids = [row["execution_id"] for row in rows if row["is_over"]]
        last = rows[-1]["execution_id"]
        if dry_run:
            gone += len(execution_ids)
        else:
            gone += await connection.fetchval(
                "select projector.forget_executions($1::bigint[])", execution_ids
            )
    if gone:
        yield f"{'would forget' if dry_run else 'forgot'} {gone:,} executions with their calls"


async def drop_quarantine(
    connection: asyncpg.Connection, before: datetime, *, dry_run: bool
) -> AsyncIterator[str]:
    """Delete entries that were refused before then; their counts stay."""
    gone = 0
    if dry_run:
        gone = await connection.fetchval(_COUNT_OLD_QUARANTINE, before)
    while not dry_run:
        deleted = await connection.fetchval(_DELETE_QUARANTINE, before, ROWS_A_STEP)
        gone += deleted
        if not deleted:
            break
    if gone:
        yield f"{'would delete' if dry_run else 'deleted'} {gone:,} quarantine entries"


async def drop_raw(
    connection: asyncpg.Connection, before: datetime, *, dry_run: bool
) -> AsyncIterator[str]:
    """Delete the refused bytes that were kept since before then, and the samples of them."""
    gone = 0
    if dry_run:
        gone = await connection.fetchval(_COUNT_OLD_RAW, before)
    while not dry_run:
        deleted = await connection.fetchval(_DELETE_RAW, before, ROWS_A_STEP)
        gone += deleted
        if not deleted:
            break
    if gone:
        yield f"{'would delete' if dry_run else 'deleted'} the bytes of {gone:,} refused records"


_RAISE_HORIZON: Final = """
    update normalizer.retention_horizon
    set    expired_before = $1::timestamptz
    where  expired_before < $1::timestamptz
"""

# Whoever reads the horizon holds its table's weakest lock until the end of the transaction.
_HORIZON_READERS: Final = """
    select coalesce(array_agg(virtualtransaction), '{}')
    from   pg_locks
    where  relation = 'normalizer.retention_horizon'::regclass and pid <> pg_backend_pid()
"""

_STILL_THERE: Final = """
    select exists (
        select
        from   pg_locks
        where  relation = 'normalizer.retention_horizon'::regclass
        and    virtualtransaction = any($1::text[])
    )
"""

_PARTITIONS: Final = """
    select   child.relname::text as name
    from     pg_inherits
    join     pg_class as child on child.oid = pg_inherits.inhrelid
    where    pg_inherits.inhparent = 'normalizer.events'::regclass
    order by child.relname
"""

# Nothing else says which rows are old: ids do not, a replay stores old ones today.
_BY_ARRIVAL: Final = "set local enable_seqscan = off; set local enable_indexscan = off"

# Of an execution that differs from the log, nothing goes before it was repaired.
_AGREES: Final = """
    not exists (
        select
        from   projector.divergences as known
        where  known.execution_id = {0}.execution_id
        and    known.ended_at is null
    )
    and not exists (
        select
        from   projector.divergences as known
        where  known.projection in ('execution_facts', 'call_facts')
        and    known.execution_id is null
        and    known.ended_at is null
    )
"""

# A holder outlives its siblings: a sibling that is told again would find the id free.
_MAY_GO: Final = f"""
    {_AGREES.format("event")}
    and (
        event.merge_flags & 8 = 0
        or not exists (
            select
            from   normalizer.events_hashed as sibling
            where  normalizer.shared_id(sibling.coercions) = to_jsonb(event.event_id)
            and    sibling.merge_flags & 8 <> 0
        )
    )
"""  # noqa: S608 - conditions of our own

# Of what is stored apart, its size is read and not itself.
_OLD_EVENTS: Final = f"""
    select event.event_id, event.execution_id,
           coalesce(pg_column_size(event.context), 0) + coalesce(pg_column_size(event.result), 0)
           + coalesce(pg_column_size(event.extra), 0) + coalesce(pg_column_size(event.coercions), 0)
           + coalesce(pg_column_size(event.headers), 0) + coalesce(pg_column_size(event.error), 0)
           + pg_column_size(event.meta) as stored_bytes
    from   normalizer.{{}} as event
    where  coalesce(event.recorded_at, event.created_at) < $1::timestamptz
    and    {_MAY_GO}
    limit  $2::integer
"""  # noqa: S608 - conditions of our own

_PAGES: Final = """
    select pg_relation_size('normalizer.{}') / current_setting('block_size')::bigint
"""

_COUNT_OLD_EVENTS: Final = f"""
    select count(*)
    from   normalizer.{{}} as event
    where  event.ctid >= $2::tid and event.ctid < $3::tid
    and    coalesce(event.recorded_at, event.created_at) < $1::timestamptz
    and    {_MAY_GO}
"""  # noqa: S608 - conditions of our own

_LOCK_EVENTS: Final = """
    select   event_id
    from     normalizer.events
    where    event_id between $1::bigint and $2::bigint
    and      event_id = any((select $3::bigint[])::bigint[])
    and      coalesce(recorded_at, created_at) < $4::timestamptz
    order by event_id
    for update skip locked
"""

_LOCKED_EVENTS: Final = f"""
    select   {{}}
    from     normalizer.events as event
    where    event.event_id between $1::bigint and $2::bigint
    and      event.event_id = any((select $3::bigint[])::bigint[])
    and      {_MAY_GO}
    order by event.event_id
"""  # noqa: S608 - conditions of our own

_HAS_ROWS: Final = "select exists (select from normalizer.{})"

_OLD_EXECUTIONS: Final = f"""
    select   execution_id,
             archived = events and last_at < $2::timestamptz
             and {_AGREES.format("execution_facts")} as is_over
    from     execution_facts
    where    execution_id > $1::bigint and archived > 0 and not forgotten
    order by execution_id
    limit    $3::integer
"""  # noqa: S608 - conditions of our own

_COUNT_OLD_QUARANTINE: Final = """
    select count(*) from normalizer.quarantine where quarantined_at < $1::timestamptz
"""

_DELETE_QUARANTINE: Final = """
    with old as materialized (
        select   quarantine_id
        from     normalizer.quarantine
        where    quarantined_at < $1::timestamptz
        order by quarantined_at
        limit    $2::integer
    ),
    gone as (
        delete from normalizer.quarantine
        where  quarantine_id in (select quarantine_id from old)
        returning source_topic, source_incarnation, source_partition, batch_id, quarantined_at,
                  reason, shape
    ),
    counted as (
        insert into quarantine_hours as counted (hour, reason, shape, shard, refused)
        select   hour_of(quarantined_at), reason, shape, -1, count(*)
        from     gone
        group by 1, 2, 3
        on conflict (hour, reason, shape, shard)
        do update set refused = counted.refused + excluded.refused
    ),
    noted as (
        insert into normalizer.archived_rows as known (
            source_topic, source_incarnation, source_partition, job_id, run, quarantined
        )
        select   source_topic, source_incarnation, source_partition, coalesce(written.job_id, ''),
                 coalesce(written.run, 0), count(*)
        from     gone
        left join normalizer.job_batches as written using (batch_id)
        group by 1, 2, 3, 4, 5
        on conflict (source_topic, source_incarnation, source_partition, job_id, run)
        do update set quarantined = known.quarantined + excluded.quarantined
    )
    select count(*) from gone
"""

_COUNT_OLD_RAW: Final = """
    select count(*) from normalizer.quarantine_raw where kept_at < $1::timestamptz
"""

_DELETE_RAW: Final = """
    with old as materialized (
        select   ctid as row_id
        from     normalizer.quarantine_raw
        where    kept_at < $1::timestamptz
        order by kept_at
        limit    $2::integer
    ),
    gone as (
        delete from normalizer.quarantine_raw
        where  ctid in (select row_id from old)
        returning source_topic, source_incarnation, source_partition, source_offset
    ),
    unsampled as (
        update normalizer.quarantine as entry
        set    sample = null
        from   gone
        where  (entry.source_topic, entry.source_incarnation, entry.source_partition,
                entry.source_offset)
               = (gone.source_topic, gone.source_incarnation, gone.source_partition,
                  gone.source_offset)
        and    entry.sample is not null
    )
    select count(*) from gone
"""

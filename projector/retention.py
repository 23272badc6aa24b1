"""Lets old rows go, their counts kept, in small steps that can stop anywhere.

The horizon is raised first, then rows older than it by the margin are deleted, some thousand a
transaction: from then on no record of theirs comes in again. Source: 0009_let_events_go.sql.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from projector.archive import COLUMNS, ArchiveFolder

ROWS_A_STEP: Final = 5_000
_STEPS_A_LOOK: Final = 10
"""Old rows are looked for so many steps at a time: a look goes by those that are dead already."""
_PATIENCE_S: Final = 60.0
_ASK_AGAIN_S: Final = 0.05
_LOOK_AGAIN: Final = timedelta(days=1)


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


async def drop_tellings(connection: asyncpg.Connection, *, dry_run: bool) -> AsyncIterator[str]:
    """Forget records that told again of rows that are gone; once a day, for all are looked at.

    They tell nothing any more: such a record is expired, or as good as new.
    """
    if dry_run or not await connection.fetchval(_LOOKED_LONG_AGO, _LOOK_AGAIN):
        return
    gone = 0
    last: tuple[str, int, int, int, int] = ("", 0, 0, 0, 0)
    while True:
        async with connection.transaction():
            await connection.execute(_BY_KEY)
            row = await connection.fetchrow(_DROP_TELLINGS, *last, ROWS_A_STEP)
        if row is None:
            break
        gone, last = gone + row[0], tuple(row)[1:]
    await connection.execute(_NOTE_LOOKED)
    if gone:
        yield f"deleted {gone:,} notes of records that told again of what is gone"


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
        count: int = await connection.fetchval(_COUNT_OLD_EVENTS.format(partition), before)
        return count
    gone, most = 0, ROWS_A_STEP * _STEPS_A_LOOK
    while True:
        async with connection.transaction():
            await connection.execute(_BY_ARRIVAL)
            old = await connection.fetch(_OLD_EVENTS.format(partition), before, most)
        deleted = 0
        events = sorted((row["event_id"], row["execution_id"]) for row in old)
        for first in range(0, len(events), ROWS_A_STEP):
            step = events[first : first + ROWS_A_STEP]
            deleted += await _archive(connection, step, before, folder)
        gone += deleted
        if len(old) < most or not deleted:
            return gone


async def _archive(
    connection: asyncpg.Connection,
    events: Sequence[tuple[int, int]],
    before: datetime,
    folder: ArchiveFolder | None,
) -> int:
    """Delete these of (event_id, execution_id), once they are in the folder, in one transaction.

    Executions first, then rows, in a later statement: so what is read is what the writer before
    has committed. A row that is locked is a writer's, who may wait for its execution: it is left.
    Which of the rows may go is asked once they are locked: who adds a sibling locks its holder.
    """
    event_ids = [event_id for event_id, _ in events]
    execution_ids = list({execution_id for _, execution_id in events})
    async with connection.transaction():
        await connection.execute("select projector.lock_executions($1::bigint[])", execution_ids)
        locked = await connection.fetch(
            _LOCK_EVENTS, event_ids[0], event_ids[-1], event_ids, before
        )
        columns = COLUMNS if folder else "event_id"
        rows = await connection.fetch(
            _LOCKED_EVENTS.format(columns),
            event_ids[0],
            event_ids[-1],
            [row["event_id"] for row in locked],
        )
        if not rows:
            return 0
        if folder:
            folder.write(rows)
        deleted: int = await connection.fetchval(
            "select projector.archive_events($1::bigint[])", [row["event_id"] for row in rows]
        )
        return deleted


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
        execution_ids = [row["execution_id"] for row in rows]
        last = execution_ids[-1]
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
    """Delete the refused bytes that were kept since before then."""
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
        from   projector.divergent as known
        where  known.execution_id = {0}.execution_id
        and    known.ended_at is null
    )
    and not exists (
        select
        from   projector.divergent as known
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

_OLD_EVENTS: Final = f"""
    select event.event_id, event.execution_id
    from   normalizer.{{}} as event
    where  coalesce(event.recorded_at, event.created_at) < $1::timestamptz
    and    {_MAY_GO}
    limit  $2::integer
"""  # noqa: S608 - conditions of our own

_COUNT_OLD_EVENTS: Final = f"""
    select count(*)
    from   normalizer.{{}} as event
    where  coalesce(event.recorded_at, event.created_at) < $1::timestamptz
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

_LOOKED_LONG_AGO: Final = """
    select looked_at < now() - $1::interval from horizon where rows_of = 'tellings'
"""

_NOTE_LOOKED: Final = "update horizon set looked_at = now() where rows_of = 'tellings'"

_BY_KEY: Final = """
    set local enable_seqscan = off;
    set local enable_hashjoin = off;
    set local enable_mergejoin = off
"""

_DROP_TELLINGS: Final = """
    with page as materialized (
        select   source_topic, source_generation, source_partition, offset_block, told_id,
                 not exists (
                     select
                     from   unnest(event_ids) as told (event_id)
                     join   normalizer.events using (event_id)
                 ) as is_over
        from     normalizer.telling
        where    (source_topic, source_generation, source_partition, offset_block, told_id)
                 > ($1::text, $2::integer, $3::integer, $4::bigint, $5::bigint)
        order by source_topic, source_generation, source_partition, offset_block, told_id
        limit    $6::integer
    ),
    gone as (
        delete from normalizer.telling as old
        using  page
        where  page.is_over
        and    (old.source_topic, old.source_generation, old.source_partition, old.offset_block,
                old.told_id)
               = (page.source_topic, page.source_generation, page.source_partition,
                  page.offset_block, page.told_id)
        returning 1
    )
    select   (select count(*) from gone), source_topic, source_generation, source_partition,
             offset_block, told_id
    from     page
    order by source_topic desc, source_generation desc, source_partition desc, offset_block desc,
             told_id desc
    limit    1
"""

_OLD_EXECUTIONS: Final = f"""
    select   execution_id
    from     execution_facts
    where    execution_id > $1::bigint and archived = events and not forgotten
    and      last_at < $2::timestamptz
    and      {_AGREES.format("execution_facts")}
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
        returning source_topic, source_generation, source_partition, batch_id, quarantined_at,
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
            source_topic, source_generation, source_partition, job_id, run, quarantined
        )
        select   source_topic, source_generation, source_partition, coalesce(written.job_id, ''),
                 coalesce(written.run, 0), count(*)
        from     gone
        left join normalizer.job_batch as written using (batch_id)
        group by 1, 2, 3, 4, 5
        on conflict (source_topic, source_generation, source_partition, job_id, run)
        do update set quarantined = known.quarantined + excluded.quarantined
    )
    select count(*) from gone
"""

_COUNT_OLD_RAW: Final = """
    select count(*) from normalizer.quarantine_raw where kept_at < $1::timestamptz
"""

_DELETE_RAW: Final = """
    with old as materialized (
        select   ctid as place
        from     normalizer.quarantine_raw
        where    kept_at < $1::timestamptz
        order by kept_at
        limit    $2::integer
    ),
    gone as (
        delete from normalizer.quarantine_raw where ctid in (select place from old) returning 1
    )
    select count(*) from gone
"""

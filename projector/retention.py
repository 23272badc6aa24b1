"""Old rows in, their counts kept and the rows gone, in small steps that can stop anywhere.

What goes is never counted twice and never un-counted: a bucket is closed before it is looked at
again, its counts are set aside before it is dropped. Source: design, section 3.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import asyncpg
import msgspec

from projector.database import patiently

ROWS_A_STEP: Final = 5_000
HASHED_FROM: Final = 1 << 62 | 1 << 61
HASHED: Final = "events_hashed"


class Bucket(msgspec.Struct, frozen=True):
    """One partition of events: its name, and the ids it holds from and up to."""

    name: str
    low: int
    high: int


async def drop_events(
    connection: asyncpg.Connection, before: datetime, *, dry_run: bool
) -> AsyncIterator[str]:
    """Let go of every bucket whose newest event was stored before then; go on with what began."""
    for bucket in await _attached(connection):
        if bucket.name != HASHED:
            async for done in _drop_bucket(connection, bucket, before, dry_run=dry_run):
                yield done
    if dry_run:
        return
    for row in await connection.fetch(_DETACHED):
        await connection.execute(f"drop table if exists normalizer.{row['bucket']}")
        await connection.execute(_MARK, row["bucket"], "dropped")
        yield f"dropped {row['bucket']}"


async def drop_hashed_events(
    connection: asyncpg.Connection, before: datetime, *, dry_run: bool
) -> AsyncIterator[str]:
    """Let go of old events whose ids have no time: archived and deleted, a few at a time."""
    gone = 0
    last = HASHED_FROM - 1
    while True:
        ids = await connection.fetch(_OLD_HASHED, last, before, ROWS_A_STEP)
        if not ids:
            break
        event_ids = [row["event_id"] for row in ids]
        last = event_ids[-1]
        gone += len(event_ids)
        if dry_run:
            continue
        async with connection.transaction():
            await connection.execute("set local projector.archiving = 'on'")
            await connection.execute("select projector.archive_events($1::bigint[])", event_ids)
            await connection.execute(_DELETE_EVENTS, event_ids)
    if gone:
        yield f"{'would archive and delete' if dry_run else 'deleted'} {gone:,} events of {HASHED}"


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
                "select projector.archive_executions($1::bigint[])", execution_ids
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
        async with connection.transaction():
            await connection.execute("set local projector.archiving = 'on'")
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


async def _drop_bucket(
    connection: asyncpg.Connection, bucket: Bucket, before: datetime, *, dry_run: bool
) -> AsyncIterator[str]:
    """Close, archive and detach it if it is due, or go on with what was begun."""
    state = await connection.fetchval(_STATE, bucket.name)
    if state is None:
        if not await _is_due(connection, bucket, before):
            return
        if dry_run:
            yield f"would close, archive and drop {bucket.name}"
            return
        await _close(connection, bucket)
        state = "closed"
    if state == "closed":
        if not await _is_due(connection, bucket, before):
            yield f"{bucket.name} is closed, and waits: an event came in just before"
            return
        if dry_run:
            yield f"would archive and drop {bucket.name}, which is closed"
            return
        yield f"archived {await _archive(connection, bucket):,} events of {bucket.name}"
    if dry_run:
        yield f"would drop {bucket.name}, which is archived"
        return
    await _detach(connection, bucket)


async def _attached(connection: asyncpg.Connection) -> list[Bucket]:
    rows = await connection.fetch(_ATTACHED)
    return [Bucket(row["name"], row["low"], row["high"]) for row in rows]


async def _is_due(connection: asyncpg.Connection, bucket: Bucket, before: datetime) -> bool:
    """Whether it has events, the newest of them stored before then.

    Ids say nothing about it: a late or replayed event has an old one. Looks at a stretch of ids
    at a time, from the newest on, so that a bucket in use is left at once.
    """
    found = False
    high = bucket.high
    while True:
        row = await connection.fetchrow(_NEWEST, bucket.low, high, 20 * ROWS_A_STEP)
        if row["events"] == 0:
            return found
        if row["newest"] >= before:
            return False
        found = True
        high = row["least"] - 1


async def _close(connection: asyncpg.Connection, bucket: Bucket) -> None:
    """No row comes in or changes from here on; waits for batches in flight."""

    async def close() -> None:
        await connection.execute(
            f"alter table normalizer.{bucket.name} "
            "add constraint events_bucket_closed check (false) not valid"
        )
        await connection.execute(_NOTE_CLOSED, bucket.name, bucket.low, bucket.high)

    await patiently(connection, close)


async def _archive(connection: asyncpg.Connection, bucket: Bucket) -> int:
    """Set aside what its events are counted as, from where the last try stopped."""
    while True:
        async with connection.transaction():
            to: int = await connection.fetchval(_ARCHIVED_TO, bucket.name)
            rows = await connection.fetch(_NEXT_EVENTS, to, bucket.high, ROWS_A_STEP)
            event_ids = [row["event_id"] for row in rows]
            if not event_ids:
                break
            await connection.execute("select projector.archive_events($1::bigint[])", event_ids)
            await connection.execute(_NOTE_ARCHIVED, bucket.name, event_ids[-1], len(event_ids))
    await connection.execute(_MARK, bucket.name, "archived")
    events: int = await connection.fetchval(_ARCHIVED, bucket.name)
    return events


async def _detach(connection: asyncpg.Connection, bucket: Bucket) -> None:
    """Take it out of events without stopping anybody; what was broken off is finished."""
    # Waits for older snapshots, without a lock that others would wait for.
    await connection.execute("set statement_timeout = 0; set lock_timeout = 0")
    try:
        await _detach_now(connection, bucket)
    finally:
        await connection.execute("reset statement_timeout; reset lock_timeout")
    await connection.execute(_MARK, bucket.name, "detached")


async def _detach_now(connection: asyncpg.Connection, bucket: Bucket) -> None:
    pending = await connection.fetchval(_DETACH_PENDING, bucket.name)
    how = "finalize" if pending else "concurrently"
    await connection.execute(
        f"alter table normalizer.events detach partition normalizer.{bucket.name} {how}"
    )


_ATTACHED: Final = """
    with bounds as (
        select child.relname::text as name,
               regexp_match(
                   pg_get_expr(child.relpartbound, child.oid),
                   'FROM \\(''?(-?\\d+)''?\\) TO \\((?:''?(\\d+)''?|MAXVALUE)\\)'
               ) as found
        from   pg_inherits
        join   pg_class as child on child.oid = pg_inherits.inhrelid
        where  pg_inherits.inhparent = 'normalizer.events'::regclass
    )
    select   name, found[1]::bigint as low,
             coalesce(found[2]::numeric - 1, 9223372036854775807)::bigint as high
    from     bounds
    order by low
"""

_STATE: Final = "select state from normalizer.closed_bucket where bucket = $1::text"

_NEWEST: Final = """
    select count(*) as events, max(ingested_at) as newest, min(event_id) as least
    from   (
               select   event_id, ingested_at
               from     normalizer.events
               where    event_id between $1::bigint and $2::bigint
               order by event_id desc
               limit    $3::integer
           ) as stretch
"""

_NOTE_CLOSED: Final = """
    insert into normalizer.closed_bucket (bucket, low, high, archived_to)
    values ($1::text, $2::bigint, $3::bigint, $2::bigint - 1)
"""

_ARCHIVED_TO: Final = """
    select archived_to from normalizer.closed_bucket where bucket = $1::text for update
"""

_NEXT_EVENTS: Final = """
    select   event_id
    from     normalizer.events
    where    event_id > $1::bigint and event_id <= $2::bigint
    order by event_id
    limit    $3::integer
"""

_NOTE_ARCHIVED: Final = """
    update normalizer.closed_bucket
    set    archived_to = $2::bigint, events = events + $3::bigint, changed_at = now()
    where  bucket = $1::text
"""

_ARCHIVED: Final = "select events from normalizer.closed_bucket where bucket = $1::text"

_MARK: Final = """
    update normalizer.closed_bucket
    set    state = $2::text, changed_at = now()
    where  bucket = $1::text
"""

# Also one that was detached by a process that died before it could say so.
_DETACHED: Final = """
    select   bucket
    from     normalizer.closed_bucket
    where    state in ('archived', 'detached')
    and      not exists (
                 select
                 from   pg_inherits
                 where  inhrelid = to_regclass('normalizer.' || bucket)
             )
    order by low
"""

_DETACH_PENDING: Final = """
    select coalesce(bool_or(inhdetachpending), false)
    from   pg_inherits
    where  inhparent = 'normalizer.events'::regclass
    and    inhrelid = ('normalizer.' || $1::text)::regclass
"""

_OLD_HASHED: Final = """
    select   event_id
    from     normalizer.events
    where    event_id > $1::bigint and ingested_at < $2::timestamptz
    order by event_id
    limit    $3::integer
"""

_DELETE_EVENTS: Final = "delete from normalizer.events where event_id = any($1::bigint[])"

_OLD_EXECUTIONS: Final = """
    select   execution_id
    from     execution_facts
    where    execution_id > $1::bigint and archived >= events and last_at < $2::timestamptz
    order by execution_id
    limit    $3::integer
"""

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
        returning source_topic, source_generation, source_partition, batch_id
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

"""Keeps the counters small, so that reading them and adding to them stays fast.

Concurrent writers add to separate rows of a counter, called shards, so that none of them waits for
another. Once writers no longer change an hour, this module replaces the hour's shards with one row
that has their sum. It also deletes old counts by minute, and counts by hour whose events are
deleted. Each step is a short statement, so you can stop a run after any of them, and the next run
continues.
"""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from projector.hours import end_of_hour, find_hours_with_rows, start_of_hour
from projector.maintenance.retention import RetentionRule, delete_old_rows

_QUIET: Final = timedelta(hours=2)
"""Only late events write to minutes and hours that are older than this."""

_LATE: Final = timedelta(hours=6)
"""How far before the last compaction the next one begins. Once a day it takes all hours."""

_FULL_SCAN_EVERY: Final = timedelta(days=1)

_HOURS_AT_ONCE: Final = 24
_BEFORE_ALL: Final = datetime(1, 1, 1, tzinfo=UTC)


_MINUTE_TABLES: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("event_minutes", "minute", ("events", "attempts_defaulted")),
    ("retry_minutes", "minute", ("first_tries", "retries")),
)
_HOUR_TABLES: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("event_hours", "hour", ("events", "without_command", "attempts_defaulted")),
    (
        "arrival_hours",
        "hour",
        ("events", "skew_us", "attempts_defaulted", "status_from_name", "time_from_log"),
    ),
    ("coercion_hours", "hour", ("coercions",)),
    ("execution_hours", "hour", ("executions",)),
    ("call_hours", "hour", ("calls", "exhausted", "inferred")),
    ("call_times", "hour", ("calls",)),
    ("worker_hours", "hour", ("calls", "timed", "duration_us")),
    ("error_hours", "hour", ("calls",)),
)
"""Sharded tables: name, time column, and the sum columns."""


async def delete_old_minute_counts(
    connection: asyncpg.Connection, before: datetime, *, dry_run: bool
) -> AsyncIterator[str]:
    """Delete counts by minute from before `before`. The counts by hour stay."""
    if not dry_run:
        # Views hide these minutes before they are deleted.
        await connection.execute(_RAISE_KEPT_FROM, before)
    for table, time, _ in _MINUTE_TABLES:
        delete = _DELETE_OLD.format(table=table, time=time)
        old = RetentionRule(table, time, delete, f"{{:,}} rows of {table}")
        async for done in delete_old_rows(connection, old, before, dry_run=dry_run):
            yield done


async def delete_hour_counts_without_events(
    connection: asyncpg.Connection, before: datetime, *, dry_run: bool
) -> AsyncIterator[str]:
    """Delete the counts by hour before `before` whose events are deleted.

    Counts of events that are still stored stay, however old they are, because `projector verify`
    compares them with the events. Rows whose count is 0 are deleted too.
    """
    until = start_of_hour(before)
    for table, time, measures in _HOUR_TABLES:
        statement = (_COUNT_ARCHIVED if dry_run else _DELETE_ARCHIVED).format(
            table=table, time=time, none=" and ".join(f"{one} = 0" for one in measures)
        )
        gone = 0
        async for hours in find_hours_with_rows(
            connection, table, time, (_BEFORE_ALL, until), _HOURS_AT_ONCE
        ):
            for hour in hours:
                gone += await connection.fetchval(statement, hour, end_of_hour(hour))
        if gone:
            yield f"{'would delete' if dry_run else 'deleted'} {gone:,} rows of {table}"


async def compact_shards(
    connection: asyncpg.Connection, now: datetime, *, dry_run: bool
) -> AsyncIterator[str]:
    """Add up the shards of each hour that writers no longer change, into shard 0."""
    until = start_of_hour(now - _QUIET)
    for subject, tables in (("minutes", _MINUTE_TABLES), ("hours", _HOUR_TABLES)):
        since, is_full_scan = await connection.fetchrow(
            _COMPACT_SINCE, subject, now - _FULL_SCAN_EVERY, _LATE
        )
        for table, time, _ in tables:
            compacted = 0
            async for hour, rows in _sharded_hours(connection, table, time, (since, until)):
                if dry_run:
                    compacted += rows
                    continue
                # If a writer has locked the shard, a later run compacts this hour.
                with contextlib.suppress(asyncpg.LockNotAvailableError):
                    compacted += await connection.fetchval(
                        _COMPACT, table, time, hour, end_of_hour(hour)
                    )
            if compacted:
                done = "would add" if dry_run else "added"
                yield f"{done} {compacted:,} rows of {table} to shard 0"
        if not dry_run:
            await connection.execute(_NOTE_COMPACTED, subject, until, now if is_full_scan else None)


async def _sharded_hours(
    connection: asyncpg.Connection, table: str, time: str, bounds: tuple[datetime, datetime]
) -> AsyncIterator[tuple[datetime, int]]:
    """Yield hours with rows in shards above 0, and the number of these rows."""
    statement = _SHARDED_HOURS.format(table=table, time=time)
    async for hours in find_hours_with_rows(connection, table, time, bounds, _HOURS_AT_ONCE):
        for hour, rows in await connection.fetch(statement, hours):
            yield hour, rows


_RAISE_KEPT_FROM: Final = """
    update maintenance_state
    set    kept_from = greatest(kept_from, $1::timestamptz)
    where  subject = 'minutes'
"""

_DELETE_OLD: Final = """
    with old as materialized (
        select ctid as row_id from {table} where {time} < $1::timestamptz limit $2::integer
    ),
    gone as (
        delete from {table} where ctid in (select row_id from old) returning 1
    )
    select count(*) from gone
"""

_COUNT_ARCHIVED: Final = """
    select count(*)
    from   {table}
    where  {time} >= $1::timestamptz and {time} < $2::timestamptz
    and    (shard < 0 or {none})
"""

# Leaves rows that a writer has locked to the next run.
_DELETE_ARCHIVED: Final = """
    with old as materialized (
        select ctid as row_id
        from   {table}
        where  {time} >= $1::timestamptz and {time} < $2::timestamptz
        and    (shard < 0 or {none})
        for update skip locked
    ),
    gone as (
        delete from {table} where ctid in (select row_id from old) returning 1
    )
    select count(*) from gone
"""

_COMPACT_SINCE: Final = """
    select case
               when full_scan_at <= $2::timestamptz then '0001-01-01 00:00:00+00'
               else compacted_to - $3::interval
           end as since,
           full_scan_at <= $2::timestamptz as is_full_scan
    from   maintenance_state
    where  subject = $1::text
"""

_SHARDED_HOURS: Final = """
    select   hour, sharded.rows
    from     unnest($1::timestamptz[]) as hour
    cross join lateral (
        select count(*) as rows
        from   {table}
        where  {time} >= hour and {time} < hour + interval '1 hour'
        and    shard > 0
    ) as sharded
    where    sharded.rows > 0
    order by hour
"""

_COMPACT: Final = """
    select compact_shards($1::text, $2::text, $3::timestamptz, $4::timestamptz)
"""

_NOTE_COMPACTED: Final = """
    update maintenance_state
    set    compacted_to = greatest(compacted_to, $2::timestamptz),
           full_scan_at = coalesce($3::timestamptz, full_scan_at)
    where  subject = $1::text
"""

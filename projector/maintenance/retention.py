"""Deletes old quarantine entries, raw records, gaps, and job runs.

Each step is a short statement, so you can stop a run anywhere, and the next run continues. The
table archived_row_counts counts what was deleted, so that the totals of a partition still account
for every offset that was read.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg

_ROWS_PER_DELETE: Final = 5_000


async def delete_old_job_runs(
    connection: asyncpg.Connection, before: datetime, *, dry_run: bool
) -> AsyncIterator[str]:
    """Delete runs that ended before `before`, once retention has deleted every row they stored."""
    runs = await connection.fetch(_OLD_RUNS, before)
    gone = len(runs) if dry_run else 0
    for job_id, run in runs if not dry_run else ():
        async with connection.transaction():
            # The same command may have resumed the run.
            if not await connection.fetchval(_LOCK_RUN, job_id, run, before):
                continue
            while await connection.fetchval(_DELETE_BATCHES, job_id, run, _ROWS_PER_DELETE):
                pass
            await connection.execute(_DELETE_RUN, job_id, run)
        gone += 1
    if gone:
        yield f"{'would delete' if dry_run else 'deleted'} {gone:,} runs of jobs"


class RetentionRule(NamedTuple):
    """A table whose rows are deleted when they reach a certain age.

    `time` is the column with the time from which a row's age is counted. `delete` is a statement
    that deletes rows from before $1 and returns their number. It deletes at most $2 rows, so that
    it takes little time. `report` is the text to print about that number, for example "{:,} rows of
    gaps".
    """

    table: str
    time: str
    delete: str
    report: str


async def delete_old_rows(
    connection: asyncpg.Connection, old: RetentionRule, before: datetime, *, dry_run: bool
) -> AsyncIterator[str]:
    """Delete these rows from before `before`, in steps."""
    gone = 0
    if dry_run:
        count = f"select count(*) from {old.table} where {old.time} < $1::timestamptz"  # noqa: S608 - constants of this package
        gone = await connection.fetchval(count, before)
    else:
        while deleted := await connection.fetchval(old.delete, before, _ROWS_PER_DELETE):
            gone += deleted
    if gone:
        yield f"{'would delete' if dry_run else 'deleted'} {old.report.format(gone)}"


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
        returning source_topic, source_incarnation, source_partition, batch_id
    ),
    noted as (
        insert into normalizer.archived_row_counts as known (
            source_topic, source_incarnation, source_partition, job_id, run, quarantined
        )
        select   source_topic, source_incarnation, source_partition, coalesce(written.job_id, ''),
                 coalesce(written.run, 0), count(*)
        from     gone
        left join normalizer.job_batches as written using (batch_id)
        group by 1, 2, 3, 4, 5
        order by 1, 2, 3, 4, 5
        on conflict (source_topic, source_incarnation, source_partition, job_id, run)
        do update set quarantined = known.quarantined + excluded.quarantined
    )
    select count(*) from gone
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

_DELETE_GAPS: Final = """
    with old as materialized (
        select   topic, incarnation, partition, reason, block
        from     normalizer.gaps
        where    found_at < $1::timestamptz
        order by found_at
        limit    $2::integer
        for update skip locked
    ),
    gone as (
        delete from normalizer.gaps as gap
        using  old
        where  (gap.topic, gap.incarnation, gap.partition, gap.reason, gap.block)
               = (old.topic, old.incarnation, old.partition, old.reason, old.block)
        returning gap.topic, gap.incarnation, gap.partition, gap.offsets
    ),
    noted as (
        insert into normalizer.archived_row_counts as known (
            source_topic, source_incarnation, source_partition, holes
        )
        select   topic, incarnation, partition, sum(offsets)
        from     gone
        group by topic, incarnation, partition
        on conflict (source_topic, source_incarnation, source_partition, job_id, run)
        do update set holes = known.holes + excluded.holes
    )
    select count(*) from gone
"""

_OLD_RUNS: Final = """
    select   job_id, run
    from     normalizer.jobs as job
    where    ended_at < $1::timestamptz
    and      (
                 select (coalesce(sum(stored), 0), coalesce(sum(quarantined), 0))
                 from   normalizer.job_parts as part
                 where  (part.job_id, part.run) = (job.job_id, job.run)
             ) = (
                 select (coalesce(sum(events), 0), coalesce(sum(quarantined), 0))
                 from   normalizer.archived_row_counts as taken
                 where  (taken.job_id, taken.run) = (job.job_id, job.run)
             )
    order by job_id, run
"""

_LOCK_RUN: Final = """
    select true
    from   normalizer.jobs
    where  job_id = $1::text and run = $2::integer and ended_at < $3::timestamptz
    for update
"""

_DELETE_BATCHES: Final = """
    with gone as (
        delete from normalizer.job_batches
        where  batch_id in (
                   select   batch_id
                   from     normalizer.job_batches
                   where    job_id = $1::text and run = $2::integer
                   order by batch_id
                   limit    $3::integer
               )
        returning 1
    )
    select count(*) from gone
"""

# Deletes in the order of the foreign keys.
_DELETE_RUN: Final = """
    with rejections as (
        delete from normalizer.job_rejections where job_id = $1::text and run = $2::integer
    ),
    taken as (
        delete from normalizer.archived_row_counts where job_id = $1::text and run = $2::integer
    ),
    parts as (
        delete from normalizer.job_parts where job_id = $1::text and run = $2::integer
    )
    delete from normalizer.jobs where job_id = $1::text and run = $2::integer
"""

QUARANTINE_RETENTION_RULE: Final = RetentionRule(
    "normalizer.quarantine", "quarantined_at", _DELETE_QUARANTINE, "{:,} quarantine entries"
)
RAW_BYTES_RETENTION_RULE: Final = RetentionRule(
    "normalizer.quarantine_raw", "kept_at", _DELETE_RAW, "the bytes of {:,} rejected records"
)
GAPS_RETENTION_RULE: Final = RetentionRule(
    "normalizer.gaps", "found_at", _DELETE_GAPS, "{:,} rows of gaps"
)

"""Deletes old gaps of the log, and runs of jobs whose rows are all deleted.

Both are off by default. The ledger stays complete: the offsets of deleted gaps stay counted.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import asyncpg

from projector.maintenance.old_rows import ROWS_A_STEP, delete_old


async def drop_gaps(
    connection: asyncpg.Connection, before: datetime, *, dry_run: bool
) -> AsyncIterator[str]:
    """Delete gaps that were found before `before`; the number of their offsets stays counted."""
    gone = await delete_old(connection, _COUNT_GAPS, _DELETE_GAPS, before, dry_run=dry_run)
    if gone:
        yield f"{'would delete' if dry_run else 'deleted'} {gone:,} rows of gaps"


async def drop_jobs(
    connection: asyncpg.Connection, before: datetime, *, dry_run: bool
) -> AsyncIterator[str]:
    """Delete runs that ended before `before`, once retention has deleted every row they stored."""
    runs = await connection.fetch(_OLD_RUNS, before)
    for job_id, run in runs if not dry_run else ():
        while await connection.fetchval(_DELETE_BATCHES, job_id, run, ROWS_A_STEP):
            pass
        await connection.execute(_DELETE_RUN, job_id, run)
    if runs:
        yield f"{'would forget' if dry_run else 'forgot'} {len(runs):,} runs of jobs"


_COUNT_GAPS: Final = "select count(*) from normalizer.gaps where found_at < $1::timestamptz"

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
        insert into normalizer.archived_rows as known (
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
                 from   normalizer.archived_rows as taken
                 where  (taken.job_id, taken.run) = (job.job_id, job.run)
             )
    order by job_id, run
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

# In the order of the foreign keys.
_DELETE_RUN: Final = """
    with refusals as (
        delete from normalizer.job_refusals where job_id = $1::text and run = $2::integer
    ),
    taken as (
        delete from normalizer.archived_rows where job_id = $1::text and run = $2::integer
    ),
    parts as (
        delete from normalizer.job_parts where job_id = $1::text and run = $2::integer
    )
    delete from normalizer.jobs where job_id = $1::text and run = $2::integer
"""

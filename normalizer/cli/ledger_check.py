"""Checks that positions, tables, and log account for every offset of each partition.

The findings:

explained        Every offset up to the position had a record or is in a known gap, and the tables
                 have as many rows as the totals say.
LOST             A record can still be read at an offset that's in a gap, or rows are missing.
MORE             There are rows that aren't in any total.
RECREATED        The topic was recreated.
ANOTHER CLUSTER  The brokers belong to another cluster than the one that was read.
UNREADABLE       The log is damaged at the position, or the batch there decompresses to more than
                 the limit.

Offsets older than the log's retention, or of an earlier incarnation of the topic, can't be checked,
so they're only counted. Rows that a job stored, for example a backfill, belong to the totals of its
run, whatever their coordinates are. Rows that retention deleted are counted in
`archived_row_counts`.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence, Set as AbstractSet
from typing import Final

import asyncpg
import msgspec

from normalizer.cli.ledger_verdicts import (
    JobRunKey,
    JobRunVerdict,
    LedgerPosition,
    PartitionKey,
    PartitionVerdict,
)
from normalizer.jobs.engine.id_ranges import BELOW_ALL_IDS, IdRangeWalk
from normalizer.kafka import (
    GrouplessClient,
    KafkaPartition,
    OffsetBounds,
    UnreadableBatchError,
    find_log_mismatch,
    no_leader_error,
)
from normalizer.kafka.lenient_reader import ONE_BATCH_FETCH_BYTES
from normalizer.store.read_only import read_only_connection

_ROWS_A_CHUNK: Final = 500_000


# Selects the position of each partition and, as `read_to`, the highest offset that the position has
# ever had. If an operator has set a position back, for example from 900 to 500, its `next_offset`
# is 500 and its `read_to` is 900. The records in between were read before, so their rows still
# count.
_POSITIONS: Final = """
    select   topic, incarnation, partition, cluster_id, start_offset, next_offset,
             greatest(next_offset, (
                 select max(from_offset)
                 from   normalizer.position_changes as change
                 where  change.topic = position.topic and change.partition = position.partition
                 and    change.incarnation = position.incarnation
             )) as read_to,
             rewound, records, holes, outcomes, stored, duplicate, merged, quarantined, ignored,
             last_offset, last_recorded_ms, last_crc,
             incarnation = max(incarnation) over (partition by topic, partition) as is_newest
    from     normalizer.source_positions as position
    order by topic, incarnation, partition
"""

# Selects the totals of each job run, and the id of the last batch that they include. A run commits
# its batches in the order of their ids, so the totals cover every batch up to `last_batch_id` and
# none after it. A comparison of the totals with the tables must therefore ignore rows of later
# batches.
_RUNS: Final = """
    select   job.job_id, job.run, job.spec, written.last_batch_id,
             sum(part.stored)::bigint as stored, sum(part.quarantined)::bigint as quarantined
    from     normalizer.jobs      as job
    join     normalizer.job_parts as part using (job_id, run)
    join     (
                 select   job_id, run, max(batch_id) as last_batch_id
                 from     normalizer.job_batches
                 group by job_id, run
             ) as written using (job_id, run)
    group by job.job_id, job.run, written.last_batch_id
    order by job.job_id, job.run
"""


async def verify_ledger(
    database_url: str, log: GrouplessClient | None
) -> AsyncIterator[PartitionVerdict | JobRunVerdict]:
    """Check every position, and yield a verdict on each partition and then on each run of a job.

    Without a `log`, positions are compared only with the tables. If the leader of a partition
    doesn't respond, that partition is compared only with the tables too, and after the last verdict
    a BrokerUnavailableError names all such partitions.

    Other processes may keep writing. The tables are read in chunks, each with its own snapshot, so
    later chunks have newer rows. To compare all of them with the positions that were read at the
    start, rows beyond those positions are ignored. Raises StoreUnavailableError, FatalError, and
    the errors of the log.
    """
    async with read_only_connection(
        database_url,
        application_name="normalizer ledger",
        command_timeout_s=150.0,
        statement_timeout="120s",
        plan_cache_mode="force_custom_plan",
    ) as connection:
        # Read positions and gaps in the same snapshot, because a batch changes both.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            positions = [LedgerPosition(**row) for row in await connection.fetch(_POSITIONS)]
            gaps = await _gaps(connection)
        runs = await connection.fetch(_RUNS)
        stored, stored_by_run, quarantined, rejected_by_run = await _rows(
            connection, positions, runs
        )
        bounds, away = await _log_bounds(log, positions)
        for position in positions:
            yield await _check_partition(
                log,
                bounds.get(position.partition_key),
                position,
                gaps[position.partition_key],
                stored[position.partition_key],
                quarantined[position.partition_key],
            )
        for run in runs:
            key = (run["job_id"], run["run"])
            wrong = _differences(
                ("stored", run["stored"], stored_by_run[key]),
                ("quarantined", run["quarantined"], rejected_by_run[key]),
            )
            yield JobRunVerdict(
                job_id=run["job_id"],
                run=run["run"],
                spec=run["spec"],
                stored=run["stored"],
                quarantined=run["quarantined"],
                wrong=tuple(wrong),
            )
        if away:
            raise no_leader_error(away)


async def _log_bounds(
    log: GrouplessClient | None, positions: Sequence[LedgerPosition]
) -> tuple[dict[PartitionKey, OffsetBounds], AbstractSet[KafkaPartition]]:
    """Return the bounds of each newest position's log, and the partitions without a leader."""
    if log is None:
        return {}, frozenset()
    newest = {
        KafkaPartition(one.topic, one.partition): one.partition_key
        for one in positions
        if one.is_newest
    }
    topics = {at.topic for at in newest}
    there = newest.keys() & {at for topic in topics for at in await log.partitions(topic)}
    bounds = await log.reachable_offset_bounds(there)
    return {newest[at]: bound for at, bound in bounds.items()}, there - bounds.keys()


class _Gaps(msgspec.Struct):
    """The gaps of one partition: how many offsets are holes, and which ranges are missing."""

    offsets: int = 0
    missing: list[tuple[int, int]] = []
    skipped: int = 0


_COUNTED: Final = """
    select   topic, incarnation, partition, sum(offsets)::bigint
    from     (
                 select topic, incarnation, partition, offsets
                 from   normalizer.gaps
                 union all
                 select source_topic, source_incarnation, source_partition, holes
                 from   normalizer.archived_row_counts
                 where  holes > 0
             ) as counted (topic, incarnation, partition, offsets)
    group by topic, incarnation, partition
"""

_MISSING: Final = """
    select   topic, incarnation, partition, reason, lower(gone), upper(gone)
    from     normalizer.gaps
    cross join unnest(missing) as gone
    order by topic, incarnation, partition, lower(gone)
"""


async def _gaps(connection: asyncpg.Connection) -> defaultdict[PartitionKey, _Gaps]:
    found: defaultdict[PartitionKey, _Gaps] = defaultdict(_Gaps)
    for *key, offsets in await connection.fetch(_COUNTED):
        found[tuple(key)].offsets = offsets
    for topic, incarnation, partition, reason, first, after in await connection.fetch(_MISSING):
        gaps = found[topic, incarnation, partition]
        if reason == "skipped":
            gaps.skipped += after - first
        elif gaps.missing and gaps.missing[-1][1] >= first:
            gaps.missing[-1] = (gaps.missing[-1][0], max(after, gaps.missing[-1][1]))
        else:
            gaps.missing.append((first, after))
    return found


async def _check_partition(
    log: GrouplessClient | None,
    bounds: OffsetBounds | None,
    position: LedgerPosition,
    gaps: _Gaps,
    stored: int,
    rejected: int,
) -> PartitionVerdict:
    wrong = _differences(
        ("stored", position.stored, stored),
        ("quarantined", position.quarantined, rejected),
        ("offsets in gaps", position.holes, gaps.offsets),
    )
    readable: list[tuple[int, int]] = []
    if log and bounds is not None:
        other_log = await find_log_mismatch(
            log,
            KafkaPartition(position.topic, position.partition),
            (position.cluster_id, await log.cluster_id()),
            next_offset=position.next_offset,
            last=position.last_record,
            bounds=bounds,
        )
        if other_log:
            wrong.append(f"{other_log.kind}: {other_log.why}")
        else:
            readable = [
                (max(first, bounds.start), after)
                for first, after in gaps.missing
                if after > bounds.start
            ]
            if found := await log.offsets_with_records(
                position.topic, position.partition, readable
            ):
                wrong.append(f"LOST: {len(found)} records in gaps, the first at offset {found[0]}")
            if why := await _why_unreadable(log, position, bounds):
                wrong.append(f"UNREADABLE: {why}")
    return PartitionVerdict(
        position=position,
        wrong=tuple(wrong),
        unverified=_length(gaps.missing) - _length(readable),
        skipped=gaps.skipped,
    )


async def _why_unreadable(
    log: GrouplessClient, position: LedgerPosition, bounds: OffsetBounds
) -> UnreadableBatchError | None:
    if not bounds.start <= position.next_offset < bounds.end:
        return None
    at = KafkaPartition(position.topic, position.partition)
    try:
        await log.fetch_chunk(at, position.next_offset, most_bytes=ONE_BATCH_FETCH_BYTES)
    except UnreadableBatchError as error:
        return error
    return None


def _length(ranges: Sequence[tuple[int, int]]) -> int:
    return sum(after - first for first, after in ranges)


def _differences(*compared: tuple[str, int, int]) -> list[str]:
    return [
        f"{'LOST' if rows < total else 'MORE'}: {name}: the totals say {total}, "
        f"the table holds {rows}"
        for name, total, rows in compared
        if total != rows
    ]


_ARCHIVED: Final = """
    select   source_topic, source_incarnation, source_partition, job_id, run, events, quarantined
    from     normalizer.archived_row_counts
    order by source_topic, source_incarnation, source_partition, job_id, run
"""

_QUARANTINED: Final = """
    select   rejected.source_topic, rejected.source_incarnation, rejected.source_partition, count(*)
    from     normalizer.quarantine as rejected
    join     unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
                 as read (topic, incarnation, partition, read_to)
             on  rejected.source_topic = read.topic
             and rejected.source_incarnation = read.incarnation
             and rejected.source_partition = read.partition
             and rejected.source_offset < read.read_to
    where    not exists (
                 select from normalizer.job_batches as written
                 where  written.batch_id = rejected.batch_id
             )
    group by 1, 2, 3
"""

_QUARANTINED_BY_RUN: Final = """
    select   written.job_id, written.run, count(*)
    from     normalizer.quarantine as rejected
    join     normalizer.job_batches  as written using (batch_id)
    join     unnest($1::text[], $2::integer[], $3::bigint[])
                 as noted (job_id, run, last_batch_id)
             on  written.job_id = noted.job_id
             and written.run = noted.run
             and written.batch_id <= noted.last_batch_id
    group by 1, 2
"""


async def _rows(
    connection: asyncpg.Connection,
    positions: Sequence[LedgerPosition],
    runs: Sequence[asyncpg.Record],
) -> tuple[Counter[PartitionKey], Counter[JobRunKey], Counter[PartitionKey], Counter[JobRunKey]]:
    """Count stored and quarantined rows by partition and by run, including archived ones.

    A row that retention archives in the meantime could be missed or counted twice. So if retention
    has deleted any rows during the count, the count starts over.
    """
    taken = await connection.fetch(_ARCHIVED)
    while True:
        stored, stored_by_run = await _stored_rows(connection, positions, runs)
        rejected = Counter(await _counts(connection, _QUARANTINED, positions))
        rejected_by_run = Counter(await _counts_by_run(connection, _QUARANTINED_BY_RUN, runs))
        before, taken = taken, await connection.fetch(_ARCHIVED)
        if before == taken:
            break
    for row in taken:
        if row["job_id"]:
            run = (row["job_id"], row["run"])
            stored_by_run[run] += row["events"]
            rejected_by_run[run] += row["quarantined"]
        else:
            key = (row["source_topic"], row["source_incarnation"], row["source_partition"])
            stored[key] += row["events"]
            rejected[key] += row["quarantined"]
    return stored, stored_by_run, rejected, rejected_by_run


_STORED: Final = """
    select   event.source_topic, event.source_incarnation, event.source_partition, count(*)
    from     normalizer.events as event
    join     unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
                 as read (topic, incarnation, partition, read_to)
             on  event.source_topic = read.topic
             and event.source_incarnation = read.incarnation
             and event.source_partition = read.partition
             and event.source_offset < read.read_to
    where    event.event_id between $5::bigint and $6::bigint
    and      not exists (
                 select from normalizer.job_batches as written
                 where  written.batch_id = event.batch_id
             )
    group by 1, 2, 3
"""

_STORED_BY_RUN: Final = """
    select   written.job_id, written.run, count(*)
    from     normalizer.events    as event
    join     normalizer.job_batches as written using (batch_id)
    join     unnest($1::text[], $2::integer[], $3::bigint[])
                 as noted (job_id, run, last_batch_id)
             on  written.job_id = noted.job_id
             and written.run = noted.run
             and written.batch_id <= noted.last_batch_id
    where    event.event_id between $4::bigint and $5::bigint
    group by 1, 2
"""


async def _stored_rows(
    connection: asyncpg.Connection,
    positions: Sequence[LedgerPosition],
    runs: Sequence[asyncpg.Record],
) -> tuple[Counter[PartitionKey], Counter[JobRunKey]]:
    """Count rows of `events` by the partition or the run that stored them.

    Rows beyond the given positions and runs don't count.
    """
    by_partition: Counter[PartitionKey] = Counter()
    by_run: Counter[JobRunKey] = Counter()

    async for chunk in IdRangeWalk(connection.fetch, _ROWS_A_CHUNK).ranges_above(BELOW_ALL_IDS):
        by_partition.update(await _counts(connection, _STORED, positions, *chunk))
        by_run.update(await _counts_by_run(connection, _STORED_BY_RUN, runs, *chunk))
    return by_partition, by_run


async def _counts(
    connection: asyncpg.Connection, query: str, positions: Sequence[LedgerPosition], *bounds: int
) -> dict[PartitionKey, int]:
    rows = await connection.fetch(
        query,
        [position.topic for position in positions],
        [position.incarnation for position in positions],
        [position.partition for position in positions],
        [position.read_to for position in positions],
        *bounds,
    )
    return {(topic, incarnation, partition): count for topic, incarnation, partition, count in rows}


async def _counts_by_run(
    connection: asyncpg.Connection, query: str, runs: Sequence[asyncpg.Record], *bounds: int
) -> dict[JobRunKey, int]:
    if not runs:
        return {}
    rows = await connection.fetch(
        query,
        [run["job_id"] for run in runs],
        [run["run"] for run in runs],
        [run["last_batch_id"] for run in runs],
        *bounds,
    )
    return {(job_id, run): count for job_id, run, count in rows}

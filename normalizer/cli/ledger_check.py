"""Checks for each partition whether every offset is accounted for, by positions, tables and log.

`explained`: every offset up to the position gave a record or is in a known gap, and the tables
hold as many rows as the totals say. `LOST`: a record can still be read inside a gap, or rows are
missing. `MORE`: there are rows that nobody counted. `ANEW`: the topic was recreated.
Offsets older than the log's retention, or of an earlier incarnation, cannot be checked and are
counted. Rows that a job stored (backfill, redrive) are in the totals of its run, whatever their
coordinates. Rows that retention deleted are counted where it noted them.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import msgspec

from normalizer.core.batch import LastRecord
from normalizer.jobs.engine.id_ranges import BELOW_ALL_IDS, IdRangeWalk
from normalizer.kafka import KafkaPartition, TopicReader, why_reset
from normalizer.service.file_replay import CLUSTER_ID as FILE
from normalizer.store.sqlstate import FOREIGN_ERRORS, translated

_ROWS_A_CHUNK: Final = 500_000

PartitionKey = tuple[str, int, int]
"""(topic, incarnation, partition)."""

JobRunKey = tuple[str, int]
"""(job_id, run)."""


class LedgerPosition(msgspec.Struct, frozen=True, kw_only=True):
    """A row of source_positions: the position of a partition, and its running totals."""

    topic: str
    incarnation: int
    partition: int
    cluster_id: str
    start_offset: int
    next_offset: int
    read_to: int
    rewound: int
    records: int
    holes: int
    outcomes: int
    stored: int
    duplicate: int
    merged: int
    quarantined: int
    ignored: int
    last_offset: int | None
    last_recorded_ms: int | None
    last_crc: int | None
    is_newest: bool

    @property
    def last(self) -> LastRecord | None:
        """The last record that was read; None before the first."""
        if self.last_offset is None or self.last_crc is None:
            return None
        return LastRecord(self.last_offset, self.last_recorded_ms, self.last_crc)

    @property
    def key(self) -> PartitionKey:
        """(topic, incarnation, partition)."""
        return (self.topic, self.incarnation, self.partition)


class PartitionFinding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about one partition.

    `wrong` are sentences, each a reason for exit code 1: LOST, MORE or ANEW. `unverified` are
    offsets in gaps that the log no longer reaches: nobody can tell whether they held a record.
    """

    position: LedgerPosition
    wrong: tuple[str, ...]
    unverified: int
    skipped: int

    def __str__(self) -> str:
        at = self.position
        again = f", {at.rewound} set back, to be read again" if at.rewound else ""
        result = [*self.wrong] or ["explained"]
        if self.unverified:
            result.append(f"{self.unverified} offsets cannot be checked: older than the log")
        if self.skipped:
            result.append(f"{self.skipped} offsets were skipped by an operator")
        return (
            f"{at.topic}[{at.partition}] incarnation {at.incarnation}: "
            f"offsets {at.start_offset} to {at.next_offset}: {at.records} records, "
            f"{at.holes} in gaps{again}; {at.outcomes} outcomes: {at.stored} stored, "
            f"{at.duplicate} duplicate, {at.merged} merged, {at.quarantined} quarantined, "
            f"{at.ignored} ignored: {'; '.join(result)}"
        )


class RunFinding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about one run of a job; `wrong` as for a partition."""

    job_id: str
    run: int
    spec: str
    stored: int
    quarantined: int
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        result = [*self.wrong] or ["explained"]
        return (
            f"job {self.job_id} run {self.run}, {self.spec}: {self.stored} stored, "
            f"{self.quarantined} quarantined: {'; '.join(result)}"
        )


async def verify_ledger(
    database_url: str, log: TopicReader | None
) -> AsyncIterator[PartitionFinding | RunFinding]:
    """Check every position, partition by partition; without a log, against the tables only.

    Runs of jobs follow, those that wrote anything.

    The tables are read in chunks, each with its own snapshot. Rows beyond the positions noted at
    the start are left out, so the chunks together are consistent. Raises StoreUnavailable,
    FatalError, and what the log raises.
    """
    async with _connection(database_url) as connection:
        # Read both at one moment: a batch adds to both.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            positions = [LedgerPosition(**row) for row in await connection.fetch(_POSITIONS)]
            gaps = await _gaps(connection)
        runs = await connection.fetch(_RUNS)
        stored, stored_by_run, quarantined, refused_by_run = await _rows(
            connection, positions, runs
        )
        for position in positions:
            yield await _check_partition(
                log, position, gaps[position.key], stored[position.key], quarantined[position.key]
            )
        for run in runs:
            key = (run["job_id"], run["run"])
            wrong = _differences(
                ("stored", run["stored"], stored_by_run[key]),
                ("quarantined", run["quarantined"], refused_by_run[key]),
            )
            yield RunFinding(
                job_id=run["job_id"],
                run=run["run"],
                spec=run["spec"],
                stored=run["stored"],
                quarantined=run["quarantined"],
                wrong=tuple(wrong),
            )


class _Gaps(msgspec.Struct):
    """Gaps of one partition: how many offsets were counted as holes, and which, by reason."""

    offsets: int = 0
    missing: list[tuple[int, int]] = []
    skipped: int = 0


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
    log: TopicReader | None, position: LedgerPosition, gaps: _Gaps, stored: int, refused: int
) -> PartitionFinding:
    wrong = _differences(
        ("stored", position.stored, stored),
        ("quarantined", position.quarantined, refused),
        ("offsets in gaps", position.holes, gaps.offsets),
    )
    readable: list[tuple[int, int]] = []
    start = None
    if log and position.is_newest and position.cluster_id != FILE:
        start = await log.log_start(position.topic, position.partition)
    if log and start is not None:
        if why := await _why_reset(log, position):
            wrong.append(f"ANEW: {why}: the topic was recreated; what was read of it is explained")
        else:
            readable = [
                (max(first, start), after) for first, after in gaps.missing if after > start
            ]
            if found := await log.data_offsets(position.topic, position.partition, readable):
                wrong.append(f"LOST: {len(found)} records in gaps, the first at offset {found[0]}")
    return PartitionFinding(
        position=position,
        wrong=tuple(wrong),
        unverified=_length(gaps.missing) - _length(readable),
        skipped=gaps.skipped,
    )


async def _why_reset(log: TopicReader, position: LedgerPosition) -> str | None:
    return await why_reset(
        log,
        KafkaPartition(position.topic, position.partition),
        (position.cluster_id, await log.cluster_id()),
        next_offset=position.next_offset,
        last=position.last,
    )


def _length(ranges: Sequence[tuple[int, int]]) -> int:
    return sum(after - first for first, after in ranges)


def _differences(*compared: tuple[str, int, int]) -> list[str]:
    return [
        f"{'LOST' if rows < total else 'MORE'}: {name}: the totals say {total}, "
        f"the table holds {rows}"
        for name, total, rows in compared
        if total != rows
    ]


async def _rows(
    connection: asyncpg.Connection,
    positions: Sequence[LedgerPosition],
    runs: Sequence[asyncpg.Record],
) -> tuple[Counter[PartitionKey], Counter[JobRunKey], Counter[PartitionKey], Counter[JobRunKey]]:
    """Rows stored, by partition and by run, and refused: present ones and archived ones.

    Counted again if retention deleted rows meanwhile: they would be missed, or counted twice.
    """
    taken = await connection.fetch(_ARCHIVED)
    while True:
        stored, stored_by_run = await _stored_rows(connection, positions, runs)
        refused = Counter(await _counts(connection, _QUARANTINED, positions))
        refused_by_run = Counter(await _counts_by_run(connection, _QUARANTINED_BY_RUN, runs))
        before, taken = taken, await connection.fetch(_ARCHIVED)
        if before == taken:
            break
    for row in taken:
        if row["job_id"]:
            run = (row["job_id"], row["run"])
            stored_by_run[run] += row["events"]
            refused_by_run[run] += row["quarantined"]
        else:
            key = (row["source_topic"], row["source_incarnation"], row["source_partition"])
            stored[key] += row["events"]
            refused[key] += row["quarantined"]
    return stored, stored_by_run, refused, refused_by_run


async def _stored_rows(
    connection: asyncpg.Connection,
    positions: Sequence[LedgerPosition],
    runs: Sequence[asyncpg.Record],
) -> tuple[Counter[PartitionKey], Counter[JobRunKey]]:
    """Rows of `events` by the partition or the run that stored them, up to those given."""
    by_partition: Counter[PartitionKey] = Counter()
    by_run: Counter[JobRunKey] = Counter()

    async def ask(work: Callable[[asyncpg.Connection], Awaitable[Any]]) -> Any:
        return await work(connection)

    async for chunk in IdRangeWalk(ask, _ROWS_A_CHUNK).after(BELOW_ALL_IDS):
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


@asynccontextmanager
async def _connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    try:
        connection = await asyncpg.connect(
            database_url,
            timeout=10,
            server_settings={
                "application_name": "normalizer ledger",
                "default_transaction_read_only": "on",
                "statement_timeout": "120s",
                "plan_cache_mode": "force_custom_plan",
            },
        )
        try:
            yield connection
        finally:
            await connection.close()
    except FOREIGN_ERRORS as error:
        raise translated(error) from error


# read_to: how far the position has ever been, also before it was set back.
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

_ARCHIVED: Final = """
    select   source_topic, source_incarnation, source_partition, job_id, run, events, quarantined
    from     normalizer.archived_rows
    order by source_topic, source_incarnation, source_partition, job_id, run
"""

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

# Batches of a run commit in ascending order, so one of them shows how far the totals reach.
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

_QUARANTINED: Final = """
    select   refused.source_topic, refused.source_incarnation, refused.source_partition, count(*)
    from     normalizer.quarantine as refused
    join     unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
                 as read (topic, incarnation, partition, read_to)
             on  refused.source_topic = read.topic
             and refused.source_incarnation = read.incarnation
             and refused.source_partition = read.partition
             and refused.source_offset < read.read_to
    where    not exists (
                 select from normalizer.job_batches as written
                 where  written.batch_id = refused.batch_id
             )
    group by 1, 2, 3
"""

_QUARANTINED_BY_RUN: Final = """
    select   written.job_id, written.run, count(*)
    from     normalizer.quarantine as refused
    join     normalizer.job_batches  as written using (batch_id)
    join     unnest($1::text[], $2::integer[], $3::bigint[])
                 as noted (job_id, run, last_batch_id)
             on  written.job_id = noted.job_id
             and written.run = noted.run
             and written.batch_id <= noted.last_batch_id
    group by 1, 2
"""

_COUNTED: Final = """
    select   topic, incarnation, partition, sum(offsets)::bigint
    from     (
                 select topic, incarnation, partition, offsets
                 from   normalizer.gaps
                 union all
                 select source_topic, source_incarnation, source_partition, holes
                 from   normalizer.archived_rows
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

"""Locks, checks, and moves the positions of one run, in the transaction of each batch.

The store uses them in place of the service's positions, through the same methods. Rows and
positions commit together, so a killed run resumes without gaps and without duplicates.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter, lt
from typing import Final

import asyncpg
import msgspec

from normalizer.core.batch import OutcomeTotals, PartitionBatch
from normalizer.core.identity.coordinates import (
    HORIZON_ABOVE_EVERY_OFFSET,
    NO_DEDUP_HORIZONS,
    DedupHorizons,
    SourceKey,
)
from normalizer.jobs.engine.job_run import JobRun
from normalizer.jobs.sources.job_source import PartKey
from normalizer.store.claim_checks import check_or_set_topic_cluster
from normalizer.store.dedup_horizon import ADD_MISSING_DEDUP_HORIZONS_SQL, LOCK_DEDUP_HORIZON_SQL
from normalizer.store.outcomes_by_kind import OutcomesByKind
from normalizer.store.session import RetryTransactionError
from normalizer.store.source_positions import AlreadyCommitted, PositionMoves, check_positions

_DEDUP_HORIZON_STEP: Final = 65_536
"""Raise the service's dedup horizon in steps of this many offsets, because each step waits for the
batch that the service has in flight."""


class _OffsetSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A batch's offsets in one partition, from `first` up to, but not including, `end`.

    `shuffled` is True if the offsets aren't in ascending order. In that case the batch may contain
    the same record twice.
    """

    first: int
    end: int
    shuffled: bool


LOCK_JOB_POSITIONS_SQL: Final = """
    select   part.topic, part.incarnation, part.partition, job.epoch, part.next_offset
    from     normalizer.job_parts as part
    join     normalizer.jobs      as job using (job_id, run)
    join     unnest($3::text[], $4::integer[], $5::integer[])
                 as wanted (topic, incarnation, partition)
             using (topic, incarnation, partition)
    where    part.job_id = $1::text and part.run = $2::integer
    order by part.topic, part.incarnation, part.partition
    for no key update of part, job
"""

_MOVE_REACHED: Final = """
    update normalizer.dedup_horizon as horizon
    set    next_offset = moved.next_offset
    from   unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
               as moved (topic, incarnation, partition, next_offset)
    where  (horizon.topic, horizon.incarnation, horizon.partition)
         = (moved.topic, moved.incarnation, moved.partition)
    and    horizon.next_offset < moved.next_offset
"""

_ADD_BATCH: Final = """
    insert into normalizer.job_batches (batch_id, job_id, run)
    values ($1::bigint, $2::text, $3::integer)
"""


class JobPositions:
    """The positions of one run. Each batch locks, checks, and moves them in its transaction.

    They work like the positions of the service (`store/source_positions.py`), except for these
    options:

    - `needs_cursor` is for a table. Its rows have no offsets of their own, only numbers in the
      order in which they were read. So a resumed run continues after the key of the last row, and
      not at an offset.
    - `cluster_id` is the Kafka cluster that the job reads. A topic that belongs to another cluster
      raises an error.

    Pass the offsets that retention has deleted to `add_expired_ranges`. They're counted when a
    batch moves the position past them.
    """

    def __init__(
        self, run: JobRun, *, needs_cursor: bool = False, cluster_id: str | None = None
    ) -> None:
        self._run = run
        self._needs_cursor = needs_cursor
        self._cluster_id = cluster_id
        self._expired: dict[PartKey, list[tuple[int, int]]] = {}
        self._spans: dict[SourceKey, _OffsetSpan] = {}
        """The offsets of the last locked batch, by source."""

    def add_expired_ranges(self, part: PartKey, ranges: Iterable[tuple[int, int]]) -> None:
        """Add ranges (first, next) that retention deleted before they could be read."""
        self._expired.setdefault(part, []).extend(ranges)

    async def lock(
        self, connection: asyncpg.Connection, parts: Sequence[PartitionBatch]
    ) -> DedupHorizons | AlreadyCommitted:
        """Lock the positions of a batch, and return its dedup horizons.

        A dedup horizon is an offset below which a record may have been written before, so such
        records have to be looked up. Returns AlreadyCommitted if the batch was. Raises
        FencedError if another runner has taken over the job, PositionMovedError, and
        AnotherClusterError.
        """
        if self._cluster_id is not None:
            for topic, partition in {part.topic: part.partition for part in parts}.items():
                await check_or_set_topic_cluster(connection, topic, partition, self._cluster_id)
        rows = await connection.fetch(
            LOCK_JOB_POSITIONS_SQL,
            self._run.spec.job_id,
            self._run.number,
            [part.topic for part in parts],
            [part.incarnation for part in parts],
            [part.partition for part in parts],
        )
        if committed := check_positions(parts, rows):
            return committed
        self._spans = _offset_spans(parts)
        return await _reached(connection, self._spans, self._cluster_id)

    async def move(self, connection: asyncpg.Connection, moves: PositionMoves) -> None:
        """Move each position past the records of the batch, and add to the run's totals.

        Call it after `lock` for the same batch, in the same transaction.
        """
        rows = [
            (
                *part.key,
                part.next_offset,
                self._cursor(part),
                self._expired_in(part),
                *self._outcome_counts(part, totals, moves.outcomes_by_kind),
            )
            for part, totals in moves.parts
        ]
        await move_positions(connection, self._run, rows)
        if self._spans:
            sources = [list(column) for column in zip(*self._spans, strict=True)]
            ends = [span.end for span in self._spans.values()]
            await connection.execute(_MOVE_REACHED, *sources, ends)
        await connection.execute(
            _ADD_BATCH, moves.batch_id, self._run.spec.job_id, self._run.number
        )

    def _outcome_counts(
        self,
        part: PartitionBatch,  # noqa: ARG002 - some jobs count records differently
        totals: OutcomeTotals,
        outcomes_by_kind: OutcomesByKind,  # noqa: ARG002 - the same
    ) -> tuple[int, ...]:
        """Return the counts in the order of MOVE_PARTS, from records to rejected.

        A backfill rewrites no row, so its counts of changed, unchanged, and rejected ones are 0.
        """
        return (*msgspec.structs.astuple(totals), 0, 0, 0)

    def _cursor(self, part: PartitionBatch) -> str | None:
        if not self._needs_cursor or not part.items:
            return None
        record, _ = part.items[-1]
        return (record.key or b"").decode()

    def _expired_in(self, part: PartitionBatch) -> int:
        return sum(
            max(0, min(after, part.next_offset) - max(first, part.from_offset))
            for first, after in self._expired.get(part.key, ())
        )


# Raises the dedup horizon before a job writes records that the service hasn't reached yet.
_ANNOUNCE_AHEAD: Final = """
    with ahead as (
        select   position.topic, position.incarnation, position.partition, wanted.next_offset
        from     normalizer.source_positions as position
        join     unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
                     as wanted (topic, incarnation, partition, next_offset)
                 using (topic, incarnation, partition)
        where    position.dedup_offset < wanted.next_offset
        order by position.topic, position.incarnation, position.partition
        for update of position
    )
    update normalizer.source_positions as position
    set    dedup_offset = ahead.next_offset + least(
               $5::bigint - ahead.next_offset % $5::bigint,
               9223372036854775807 - ahead.next_offset
           )
    from   ahead
    where  (position.topic, position.incarnation, position.partition)
         = (ahead.topic, ahead.incarnation, ahead.partition)
"""

_LIVE_REACHED: Final = """
    select position.topic, position.incarnation, position.partition, position.dedup_offset
    from   normalizer.source_positions as position
    join   unnest($1::text[], $2::integer[], $3::integer[])
               as wanted (topic, incarnation, partition)
           using (topic, incarnation, partition)
"""


async def _reached(
    connection: asyncpg.Connection,
    spans: Mapping[SourceKey, _OffsetSpan],
    cluster_id: str | None,
) -> DedupHorizons:
    """Return, for each partition, the offset below which a record may have been written before.

    The job's own position doesn't tell, because the service and other jobs read the same records.
    The service has the same problem with this batch. If the batch is ahead of the service's
    position, the service's horizon is raised before the batch is written. Otherwise the service
    would store these records a second time when it gets there, because it looks up only records
    below its horizon.
    """
    if not spans:
        return NO_DEDUP_HORIZONS
    wanted = [list(column) for column in zip(*spans, strict=True)]
    ends = [span.end for span in spans.values()]
    await connection.execute(_ANNOUNCE_AHEAD, *wanted, ends, _DEDUP_HORIZON_STEP)
    await connection.execute(ADD_MISSING_DEDUP_HORIZONS_SQL, *wanted, cluster_id)
    written = _offsets(await connection.fetch(LOCK_DEDUP_HORIZON_SQL, *wanted))
    live = _offsets(await connection.fetch(_LIVE_REACHED, *wanted))
    if any(reached < spans[source].end for source, reached in live.items()):
        raise RetryTransactionError(
            "another process has claimed a partition of this batch, so this transaction starts "
            "over and reads the partition's dedup horizon again"
        )
    if any(span.shuffled for span in spans.values()):
        return dict.fromkeys(spans, HORIZON_ABOVE_EVERY_OFFSET)
    below = {
        source: reached for source, reached in written.items() if reached > spans[source].first
    }
    return below | dict.fromkeys(live, HORIZON_ABOVE_EVERY_OFFSET)


# Returns the dedup horizons for a dry run, without locking them. A job looks up every record below
# the horizon of its partition, because that record may be stored already. If the service reads the
# partition too, it may store any record during the dry run. For such a partition the query returns
# a horizon above all offsets, so that the job looks up every record.
_READ_DEDUP_HORIZON: Final = """
    select topic, incarnation, partition,
           case when live.topic is null then horizon.next_offset else 1::bigint << 62 end
    from   normalizer.dedup_horizon as horizon
    full join normalizer.source_positions as live using (topic, incarnation, partition)
    join   unnest($1::text[], $2::integer[], $3::integer[])
               as wanted (topic, incarnation, partition)
           using (topic, incarnation, partition)
"""


async def read_dedup_horizons(
    connection: asyncpg.Connection, sources: Collection[SourceKey]
) -> DedupHorizons:
    """Return the dedup horizons of these sources, without locking them."""
    columns = [[source[at] for source in sources] for at in range(3)]
    return _offsets(await connection.fetch(_READ_DEDUP_HORIZON, *columns))


def _offset_spans(parts: Iterable[PartitionBatch]) -> dict[SourceKey, _OffsetSpan]:
    """Return the range of offsets of the records of each source."""
    records = [record for part in parts for record, _ in part.items]
    offsets: dict[SourceKey, list[int]] = defaultdict(list)
    sources = map(attrgetter("topic", "incarnation", "partition"), records)
    for source, offset in zip(sources, map(attrgetter("offset"), records), strict=True):
        offsets[source].append(offset)
    return {
        source: _OffsetSpan(
            first=min(source_offsets),
            end=max(source_offsets) + 1,
            shuffled=not all(map(lt, source_offsets, source_offsets[1:])),
        )
        for source, source_offsets in offsets.items()
    }


def _offsets(rows: Iterable[asyncpg.Record]) -> dict[SourceKey, int]:
    return {
        (topic, incarnation, partition): offset for topic, incarnation, partition, offset in rows
    }


_MOVE_PARTS: Final = """
    update normalizer.job_parts as part
    set    next_offset = moved.next_offset,
           cursor      = coalesce(moved.cursor, part.cursor),
           records     = part.records + moved.records,
           holes       = part.holes + moved.holes,
           expired     = part.expired + moved.expired,
           outcomes    = part.outcomes + moved.outcomes,
           stored      = part.stored + moved.stored,
           duplicate   = part.duplicate + moved.duplicate,
           merged      = part.merged + moved.merged,
           quarantined = part.quarantined + moved.quarantined,
           ignored     = part.ignored + moved.ignored,
           changed     = part.changed + moved.changed,
           unchanged   = part.unchanged + moved.unchanged,
           rejected     = part.rejected + moved.rejected
    from   unnest(
               $3::text[], $4::integer[], $5::integer[], $6::bigint[], $7::text[], $8::bigint[],
               $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
               $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[],
               $19::bigint[]
           ) as moved (
               topic, incarnation, partition, next_offset, cursor, expired,
               records, holes, outcomes, stored, duplicate, merged, quarantined, ignored,
               changed, unchanged, rejected
           )
    where  part.job_id = $1::text and part.run = $2::integer
    and    (part.topic, part.incarnation, part.partition)
         = (moved.topic, moved.incarnation, moved.partition)
"""


async def move_positions(
    connection: asyncpg.Connection, run: JobRun, rows: Sequence[tuple[object, ...]]
) -> None:
    """Move positions. Each row has the columns of MOVE_PARTS."""
    await connection.execute(
        _MOVE_PARTS, run.spec.job_id, run.number, *map(list, zip(*rows, strict=True))
    )

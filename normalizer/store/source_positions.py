"""Locks, checks, and moves the positions of a batch, with their running totals."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import asyncpg
import msgspec

from normalizer.core.batch import OutcomeTotals, PartitionBatch, last_record_from_raw
from normalizer.core.identity.coordinates import DedupHorizons
from normalizer.errors import FencedError, PositionError, PositionMovedError
from normalizer.store.claim import Claim
from normalizer.store.dedup_horizon import lock_and_read_dedup_horizons
from normalizer.store.outcomes_by_kind import OutcomeCounter, OutcomesByKind

OPERATOR_OWNER_PREFIX: Final = "operator:"
"""After an operator's change, a position's `owner` is this and the operator's name. Nobody owns the
partition until the next claim."""


# Selects the position of the newest incarnation of each partition of these topics.
NEWEST_POSITIONS_SQL: Final = """
    select   distinct on (topic, partition)
             topic, partition, incarnation, cluster_id, next_offset, owner,
             last_offset, last_recorded_ms, last_crc, slice_records
    from     normalizer.source_positions
    where    topic = any($1::text[])
    order by topic, partition, incarnation desc
"""


class AlreadyCommitted(msgspec.Struct, frozen=True):
    """An earlier commit of the batch succeeded although its response was lost."""


class PositionMoves(msgspec.Struct, frozen=True, kw_only=True):
    """The parts past which to move the positions, with the totals that each adds.

    `batch_id` and `outcomes_by_kind` are those of the batch. Jobs store them with their positions.
    """

    parts: Sequence[tuple[PartitionBatch, OutcomeTotals]]
    batch_id: int
    outcomes_by_kind: OutcomesByKind


class BatchPositions(Protocol):
    """The positions of a batch. Its transaction locks them first and moves them last."""

    async def lock(
        self, connection: asyncpg.Connection, parts: Sequence[PartitionBatch]
    ) -> DedupHorizons | AlreadyCommitted:
        """Lock the positions in the order of their keys, and return their dedup horizons.

        They stay locked until the transaction ends, so a claim of another process waits for it. A
        dedup horizon is an offset below which a record may have been written before (see
        `dedup_horizon`). Partitions that need no lookup are missing from the result.

        Returns AlreadyCommitted if there's nothing left to write. Raises FencedError and
        PositionMovedError.
        """

    async def move(self, connection: asyncpg.Connection, moves: PositionMoves) -> None:
        """Move each position to the end of its part, and add to its running totals.

        Call it in the transaction of `lock`, with the same parts in the same order.
        """


class SourcePositions:
    """The positions of Kafka partitions, which the service moves."""

    async def lock(
        self, connection: asyncpg.Connection, parts: Sequence[PartitionBatch]
    ) -> DedupHorizons | AlreadyCommitted:
        """Lock as `BatchPositions.lock` says."""
        return await lock_positions(connection, parts)

    async def move(self, connection: asyncpg.Connection, moves: PositionMoves) -> None:
        """Move as `BatchPositions.move` says. Holes become rows of `gaps`."""
        await store_gaps(connection, [part for part, _ in moves.parts], "hole")
        await move_positions(connection, moves.parts)


LOCK_POSITIONS_SQL: Final = """
    select   position.topic, position.incarnation, position.partition, position.epoch,
             position.next_offset, position.dedup_offset, position.owner
    from     normalizer.source_positions as position
    join     unnest($1::text[], $2::integer[], $3::integer[])
                 as wanted (topic, incarnation, partition)
             using (topic, incarnation, partition)
    order by position.topic, position.incarnation, position.partition
    for update of position
"""


async def lock_positions(
    connection: asyncpg.Connection, parts: Sequence[PartitionBatch]
) -> DedupHorizons | AlreadyCommitted:
    """Lock and check the positions of the service, and return as `BatchPositions.lock` does."""
    rows = await connection.fetch(
        LOCK_POSITIONS_SQL,
        [part.topic for part in parts],
        [part.incarnation for part in parts],
        [part.partition for part in parts],
    )
    if committed := check_positions(parts, rows):
        return committed
    return await lock_and_read_dedup_horizons(connection, rows)


def check_positions(
    parts: Sequence[PartitionBatch], rows: Sequence[Mapping[str, Any]]
) -> AlreadyCommitted | None:
    """Check that the locked positions are where this batch begins. Returns None if they are.

    Returns AlreadyCommitted if they're where it ends. An earlier commit of the batch succeeded
    then, and its response was lost in an outage, so that the batch was written again. If they're
    anywhere else, or if a claim was lost, another process or an operator has changed them, and this
    raises FencedError or PositionMovedError.
    """
    positions = {(row["topic"], row["incarnation"], row["partition"]): row for row in rows}
    for part in parts:
        if why := _why_claim_lost(part.topic, part.partition, part.epoch, positions.get(part.key)):
            raise why
    if all(positions[part.key]["next_offset"] == part.next_offset for part in parts):
        return AlreadyCommitted()
    for part in parts:
        stored = positions[part.key]["next_offset"]
        if stored != part.from_offset:
            message = (
                f"{part.topic}[{part.partition}]: the stored position is {stored}, but this batch "
                f"begins at {part.from_offset}, so it was not written"
            )
            raise PositionMovedError(message, topic=part.topic, partition=part.partition)
    return None


def _why_claim_lost(
    topic: str, partition: int, epoch: int, position: Mapping[str, Any] | None
) -> PositionError | None:
    """Return why a claim with this epoch is no longer valid, or None if it's still valid.

    A PositionMovedError means that an operator moved or deleted the position, and this process may
    claim the partition again. A FencedError means that another process owns it now.
    """
    if position is None:
        message = f"{topic}[{partition}]: the position was deleted"
        return PositionMovedError(message, topic=topic, partition=partition)
    if position["epoch"] == epoch:
        return None
    # A job's position has no owner.
    if str(position.get("owner", "")).startswith(OPERATOR_OWNER_PREFIX):
        message = f"{topic}[{partition}]: {position['owner']} moved the position"
        return PositionMovedError(message, topic=topic, partition=partition)
    message = f"{topic}[{partition}]: another process claimed it"
    return FencedError(message, topic=topic, partition=partition)


_FIND_POSITIONS: Final = """
    select   position.topic, position.incarnation, position.partition, position.epoch,
             position.owner
    from     normalizer.source_positions as position
    join     unnest($1::text[], $2::integer[], $3::integer[])
                 as wanted (topic, incarnation, partition)
             using (topic, incarnation, partition)
"""


async def find_lost_claims(
    connection: asyncpg.Connection, claims: Sequence[Claim]
) -> list[tuple[Claim, PositionError]]:
    """Return the claims that are no longer valid, each with a FencedError or PositionMovedError."""
    keys = [(claim.topic, claim.incarnation, claim.partition) for claim in claims]
    rows = await connection.fetch(_FIND_POSITIONS, *map(list, zip(*keys, strict=True)))
    positions = {tuple(row)[:3]: row for row in rows}
    reasons = [
        (claim, _why_claim_lost(claim.topic, claim.partition, claim.epoch, positions.get(key)))
        for claim, key in zip(claims, keys, strict=True)
    ]
    return [(claim, why) for claim, why in reasons if why]


# Adds the gaps of a batch, which are ranges of offsets without a record. There may be very many,
# because a transactional producer leaves one after each transaction. To save rows, all gaps in the
# same block of 1,024 offsets are stored in one row.
_ADD_GAPS: Final = """
    insert into normalizer.gaps as known (topic, incarnation, partition, reason, missing, offsets)
    select   topic, incarnation, partition, reason,
             range_agg(int8range(first_offset, next_offset)), sum(next_offset - first_offset)
    from     unnest(
                 $1::text[], $2::integer[], $3::integer[], $4::bigint[], $5::bigint[], $6::text[]
             ) as met (topic, incarnation, partition, first_offset, next_offset, reason)
    group by topic, incarnation, partition, reason, first_offset >> 10
    order by topic, incarnation, partition, reason, first_offset >> 10
    on conflict on constraint gaps_pkey do update
    set    missing = known.missing + excluded.missing,
           offsets = known.offsets + excluded.offsets
"""


async def store_gaps(
    connection: asyncpg.Connection, parts: Sequence[PartitionBatch], reason: str
) -> None:
    """Store each hole of the parts in `gaps`."""
    gaps = [(*part.key, first, after, reason) for part in parts for first, after in part.holes]
    if gaps:
        await connection.execute(_ADD_GAPS, *map(list, zip(*gaps, strict=True)))


_MOVED_COLUMNS: Final = {
    "topic": "text",
    "incarnation": "integer",
    "partition": "integer",
    "next_offset": "bigint",
    **dict.fromkeys(OutcomeTotals.__struct_fields__, "bigint"),
    "last_offset": "bigint",
    "last_recorded_ms": "bigint",
    "last_crc": "bigint",
    "slice_records": "integer",
}
"""The parameters of _MOVE_POSITIONS by name, with the type of each."""

_MOVED_ARRAYS: Final = ", ".join(
    f"${number}::{kind}[]" for number, kind in enumerate(_MOVED_COLUMNS.values(), 1)
)

_MOVE_POSITIONS: Final = f"""
    update normalizer.source_positions as position
    set    next_offset      = moved.next_offset,
           dedup_offset     = greatest(position.dedup_offset, moved.next_offset),
           records          = position.records + moved.records,
           holes            = position.holes + moved.holes,
           outcomes         = position.outcomes + moved.outcomes,
           stored           = position.stored + moved.stored,
           duplicate        = position.duplicate + moved.duplicate,
           merged           = position.merged + moved.merged,
           quarantined      = position.quarantined + moved.quarantined,
           ignored          = position.ignored + moved.ignored,
           last_offset      = coalesce(moved.last_offset, position.last_offset),
           last_recorded_ms = case when moved.last_offset is null then position.last_recorded_ms
                                   else moved.last_recorded_ms end,
           last_crc         = coalesce(moved.last_crc, position.last_crc),
           slice_records    = moved.slice_records,
           committed_at     = case when moved.last_offset is null then position.committed_at
                                   else clock_timestamp() end
    from   unnest({_MOVED_ARRAYS}) as moved ({", ".join(_MOVED_COLUMNS)})
    where  (position.topic, position.incarnation, position.partition)
         = (moved.topic, moved.incarnation, moved.partition)
"""  # noqa: S608 - constants of this module


async def move_positions(
    connection: asyncpg.Connection, moves: Sequence[tuple[PartitionBatch, OutcomeTotals]]
) -> None:
    """Move each position to the end of its part, and add to its running totals."""
    rows = [_moved_row(part, totals) for part, totals in moves]
    await connection.execute(
        _MOVE_POSITIONS, *([row[name] for row in rows] for name in _MOVED_COLUMNS)
    )


def _moved_row(part: PartitionBatch, totals: OutcomeTotals) -> dict[str, str | int | None]:
    """Return the values of _MOVED_COLUMNS by name."""
    last = last_record_from_raw(part.items[-1][0]) if part.items else None
    return {
        "topic": part.topic,
        "incarnation": part.incarnation,
        "partition": part.partition,
        "next_offset": part.next_offset,
        **msgspec.structs.asdict(totals),
        "last_offset": last and last.offset,
        "last_recorded_ms": last and last.recorded_ms,
        "last_crc": last and last.crc,
        "slice_records": part.slice_records,
    }


async def advance_past_gap(
    connection: asyncpg.Connection, claim: Claim, *, next_offset: int, reason: str
) -> Claim:
    """Advance the claimed position to `next_offset`, and store the skipped offsets as a gap.

    If an earlier call has already done so, this changes nothing. Afterwards the partition isn't a
    suspect, because no owner has read any record after the gap, so none of them can have killed a
    process.

    Raises FencedError and PositionMovedError.
    """
    part = claim.make_part(claim.next_offset, next_offset, [])
    if not isinstance(await lock_positions(connection, (part,)), AlreadyCommitted):
        await store_gaps(connection, (part,), reason)
        await move_positions(connection, [(part, OutcomeCounter().totals(part))])
    return msgspec.structs.replace(claim, next_offset=next_offset, slice_records=None)

"""Locks, checks, and moves the positions of a batch, with their running totals."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import asyncpg
import msgspec

from normalizer.core.batch import OutcomeTotals, PartitionBatch, last_record
from normalizer.core.identity.coordinates import NO_DEDUP_HORIZON, DedupHorizon
from normalizer.errors import FencedError, PositionError, PositionMovedError
from normalizer.store import store_statements
from normalizer.store.sorted_outcomes import SortedOutcomes

OPERATOR: Final = "operator:"
"""The prefix of the owner after an operator's change. Nobody owns the position until a claim."""


class Positions(Protocol):
    """The positions of a batch, which its transaction locks first and moves last."""

    async def lock(
        self, connection: asyncpg.Connection, parts: Sequence[PartitionBatch]
    ) -> DedupHorizon | None:
        """Lock the positions in key order. Returns the dedup horizon of each.

        Returns None if an earlier commit of this batch succeeded. Raises FencedError and
        PositionMovedError.
        """

    async def move(
        self,
        connection: asyncpg.Connection,
        moves: Sequence[tuple[PartitionBatch, OutcomeTotals]],
        batch_id: int,
        sorted_outcomes: SortedOutcomes,
    ) -> None:
        """Move each position to the end of its part, and add to its running totals."""


class SourcePositions:
    """The positions of Kafka partitions, which the service moves."""

    async def lock(
        self, connection: asyncpg.Connection, parts: Sequence[PartitionBatch]
    ) -> DedupHorizon | None:
        """Lock like `Positions.lock`. A record beyond every earlier position is new."""
        return await lock_positions(connection, parts)

    async def move(
        self,
        connection: asyncpg.Connection,
        moves: Sequence[tuple[PartitionBatch, OutcomeTotals]],
        batch_id: int,  # noqa: ARG002 - only jobs need it
        sorted_outcomes: SortedOutcomes,  # noqa: ARG002 - only jobs need them
    ) -> None:
        """Move like `Positions.move`. Holes become rows of `gaps`."""
        await add_gaps(connection, [part for part, _ in moves], "hole")
        await move_positions(connection, moves)


async def lock_positions(
    connection: asyncpg.Connection, parts: Sequence[PartitionBatch]
) -> DedupHorizon | None:
    """Lock the positions in key order. Returns None if an earlier commit succeeded."""
    rows = await connection.fetch(
        store_statements.LOCK_POSITIONS,
        [part.topic for part in parts],
        [part.incarnation for part in parts],
        [part.partition for part in parts],
    )
    if is_already_committed(parts, rows):
        return None
    return await lock_dedup_horizon(connection, rows)


async def lock_dedup_horizon(
    connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]
) -> DedupHorizon:
    """Lock and return the dedup horizon of locked positions."""
    dedup_horizon = {
        (topic, incarnation, partition): dedup_offset
        for topic, incarnation, partition, _, next_offset, dedup_offset, _ in rows
        if next_offset < dedup_offset
    }
    if not dedup_horizon:
        return NO_DEDUP_HORIZON
    await connection.fetch(
        store_statements.LOCK_DEDUP_HORIZON, *map(list, zip(*dedup_horizon, strict=True))
    )
    return dedup_horizon


def is_already_committed(
    parts: Sequence[PartitionBatch], rows: Sequence[Mapping[str, Any]]
) -> bool:
    """Return whether the positions are at the end of this batch, so an earlier commit succeeded.

    Returns False if they're at its beginning. Otherwise raises FencedError or PositionMovedError.
    """
    positions = {(row["topic"], row["incarnation"], row["partition"]): row for row in rows}
    for part in parts:
        if why := why_claim_lost(part.topic, part.partition, part.epoch, positions.get(part.key)):
            raise why
    if all(positions[part.key]["next_offset"] == part.next_offset for part in parts):
        return True
    for part in parts:
        stored = positions[part.key]["next_offset"]
        if stored != part.from_offset:
            message = (
                f"{part.topic}[{part.partition}]: the stored position is {stored}, but this batch "
                f"begins at {part.from_offset}"
            )
            raise PositionMovedError(message, topic=part.topic, partition=part.partition)
    return False


def why_claim_lost(
    topic: str, partition: int, epoch: int, position: Mapping[str, Any] | None
) -> PositionError | None:
    """Return why a claim of this epoch is no longer valid, or None if it is.

    After an operator has moved or deleted a position, the partition is claimed again.
    """
    if position is None:
        message = f"{topic}[{partition}]: the position was deleted"
        return PositionMovedError(message, topic=topic, partition=partition)
    if position["epoch"] == epoch:
        return None
    # A job's position has no owner.
    if str(position.get("owner", "")).startswith(OPERATOR):
        message = f"{topic}[{partition}]: {position['owner']} moved the position"
        return PositionMovedError(message, topic=topic, partition=partition)
    message = f"{topic}[{partition}]: another process claimed it"
    return FencedError(message, topic=topic, partition=partition)


async def add_gaps(
    connection: asyncpg.Connection, parts: Sequence[PartitionBatch], reason: str
) -> None:
    """Store each hole of the parts in `gaps`."""
    gaps = [(*part.key, first, after, reason) for part in parts for first, after in part.holes]
    if gaps:
        await connection.execute(store_statements.ADD_GAPS, *map(list, zip(*gaps, strict=True)))


async def move_positions(
    connection: asyncpg.Connection, moves: Sequence[tuple[PartitionBatch, OutcomeTotals]]
) -> None:
    """Move each position to the end of its part, and add to its running totals."""
    rows = [
        (
            *part.key,
            part.next_offset,
            *msgspec.structs.astuple(totals),
            *(last_record(part.items[-1][0]) if part.items else (None, None, None)),
            part.slice_records,
        )
        for part, totals in moves
    ]
    await connection.execute(store_statements.MOVE_POSITIONS, *map(list, zip(*rows, strict=True)))


async def read_file_topics(connection: asyncpg.Connection) -> frozenset[str]:
    """Return the topics that stand for files with a record read: docs/spec/wire-shapes.md#g6."""
    rows = await connection.fetch(store_statements.FILE_TOPICS)
    return frozenset(row["topic"] for row in rows)

"""Claims partitions for this process, and moves a claimed position over a gap.

Every function here works inside a transaction of its caller, on the connection that it is given.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import asyncpg
import msgspec

from normalizer.core.batch import (
    Item,
    LastRecord,
    PartitionBatch,
    holes_between,
    stored_last_record,
)
from normalizer.errors import AnotherCluster, PositionError, ShapesChanged
from normalizer.store import store_statements
from normalizer.store.migrate import refuse_other_files
from normalizer.store.protocol import check_protocol
from normalizer.store.sorted_outcomes import OutcomeCounts
from normalizer.store.source_positions import (
    add_gaps,
    lock_positions,
    move_positions,
    why_claim_lost,
)


class ShapesOfProcess(NamedTuple):
    """The fingerprint of this process's table of shapes, empty without one.

    `accepted`: an operator has accepted it for positions that have another.
    """

    fingerprint: str = ""
    accepted: bool = False


NO_TABLE: Final = ShapesOfProcess()


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A partition that this process owns from `epoch` on, with the position to read from.

    `last_offset`, `last_recorded_ms` and `last_crc` identify the last record that was read. They
    prove that the topic still holds the records of the stored position.
    """

    topic: str
    incarnation: int
    partition: int
    epoch: int
    next_offset: int
    cluster_id: str
    last_offset: int | None
    last_recorded_ms: int | None
    last_crc: int | None
    moved_epoch: int = 0

    def part(self, from_offset: int, next_offset: int, items: list[Item]) -> PartitionBatch:
        """The part of a batch with these offsets, read under this claim; the others are holes."""
        return PartitionBatch(
            topic=self.topic,
            incarnation=self.incarnation,
            partition=self.partition,
            epoch=self.epoch,
            from_offset=from_offset,
            next_offset=next_offset,
            items=items,
            holes=holes_between([record.offset for record, _ in items], from_offset, next_offset),
        )

    @property
    def last(self) -> LastRecord | None:
        """The last record that was read; None before the first."""
        return stored_last_record(self.last_offset, self.last_recorded_ms, self.last_crc)


async def claim_partition(
    connection: asyncpg.Connection,
    *,
    topic: str,
    partition: int,
    owner: str,
    cluster_id: str,
    log_start: int,
    log_end: int | None,
    shapes: ShapesOfProcess,
) -> Claim:
    """Raise the epoch of the partition's position, which the caller owns from then on.

    Waits for the owner's transaction in flight. Raises FatalError where the database has a schema
    or a protocol that this code must not write to, ShapesChanged where the records are read by
    another table of shapes.
    """
    await refuse_other_files(connection)
    claim = (store_statements.CLAIM, topic, partition, owner, log_end, *shapes)
    row = await connection.fetchrow(*claim)
    if row is None:
        incarnation = await connection.fetchval(
            store_statements.DELETED_INCARNATION, topic, partition
        )
        first = ([topic], [incarnation], [partition])
        await connection.execute(store_statements.ADD_DEDUP_HORIZON, *first, cluster_id)
        await connection.fetch(store_statements.LOCK_DEDUP_HORIZON, *first)
        # Another process may begin the position at the same moment: then its row is claimed.
        row = await connection.fetchrow(
            store_statements.BEGIN_POSITION,
            topic,
            partition,
            cluster_id,
            owner,
            log_start,
            shapes.fingerprint,
            incarnation,
        ) or await connection.fetchrow(*claim)
    await check_protocol(connection)
    position = dict(row)
    check_shapes(topic, partition, position.pop("shapes"), shapes.fingerprint)
    return Claim(topic=topic, partition=partition, **position)


async def check_cluster(
    connection: asyncpg.Connection,
    topic: str,
    partition: int,
    cluster_id: str,
    *,
    accept_reset: bool = False,
) -> None:
    """Raise AnotherCluster unless the topic is of this cluster; a new topic is from now on.

    With `accept_reset` a topic of another cluster moves to this one.
    """
    known = await connection.fetchval(store_statements.CLUSTER_OF_TOPIC, topic)
    if known is None or (accept_reset and known != cluster_id):
        await connection.execute(
            store_statements.SET_CLUSTER_OF_TOPIC, topic, cluster_id, accept_reset
        )
        known = await connection.fetchval(store_statements.CLUSTER_OF_TOPIC, topic)
    if known != cluster_id:
        raise AnotherCluster(known, cluster_id, topic=topic, partition=partition)


def check_shapes(topic: str, partition: int, stored: str, fingerprint: str) -> None:
    """Raise ShapesChanged unless the partition's records are read by this table of shapes."""
    if stored != fingerprint:
        raise ShapesChanged(
            f"{topic}[{partition}]: its records are read by {_table(stored)}, this process has "
            f"{_table(fingerprint)}; to go on by that, start once with --accept-shapes",
            topic=topic,
            partition=partition,
        )


async def find_lost_claims(
    connection: asyncpg.Connection, claims: Sequence[Claim]
) -> list[tuple[Claim, PositionError]]:
    """Find the claims that no longer hold, each with its Fenced or PositionMoved."""
    keys = [(claim.topic, claim.incarnation, claim.partition) for claim in claims]
    rows = await connection.fetch(
        store_statements.FIND_POSITIONS, *map(list, zip(*keys, strict=True))
    )
    positions = {tuple(row)[:3]: row for row in rows}
    reasons = [
        (claim, why_claim_lost(claim.topic, claim.partition, claim.epoch, positions.get(key)))
        for claim, key in zip(claims, keys, strict=True)
    ]
    return [(claim, why) for claim, why in reasons if why]


async def begin_next_incarnation(
    connection: asyncpg.Connection, claim: Claim, *, owner: str, cluster_id: str, log_start: int
) -> Claim:
    """Begin the next incarnation of the claimed partition at `log_start`, and claim it.

    Raises Fenced and PositionMoved.
    """
    await lock_positions(connection, (claim.part(claim.next_offset, claim.next_offset, []),))
    row = await connection.fetchrow(
        store_statements.BEGIN_NEXT_INCARNATION,
        claim.topic,
        claim.incarnation,
        claim.partition,
        cluster_id,
        owner,
        log_start,
    )
    return Claim(topic=claim.topic, partition=claim.partition, **row)


async def move_over_gap(
    connection: asyncpg.Connection, claim: Claim, *, next_offset: int, reason: str
) -> Claim:
    """Move the claimed position to `next_offset`, and store the offsets between as a gap.

    Does nothing if an earlier call did so already. Raises Fenced and PositionMoved.
    """
    part = claim.part(claim.next_offset, next_offset, [])
    if await lock_positions(connection, (part,)) is not None:
        await add_gaps(connection, (part,), reason)
        await move_positions(connection, [(part, OutcomeCounts().totals(part))])
    return msgspec.structs.replace(claim, next_offset=next_offset)


def _table(fingerprint: str) -> str:
    return f"the table of shapes {fingerprint}" if fingerprint else "no table of shapes"

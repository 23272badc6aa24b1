"""Claims partitions, each by raising the epoch of its position, and notes what an owner works on.

`PreviousOwner` says how the next owner reads these notes, to tell what killed the previous one.

No function here begins a transaction. Each runs on the caller's connection, in the transaction that
the caller has begun.
"""

from functools import partial
from typing import Any, Final

import asyncpg

from normalizer.core.previous_owner import SLICE_CODE_ALONE, PreviousOwner
from normalizer.errors import PositionMovedError
from normalizer.store.claim import Claim, PartitionOwner
from normalizer.store.claim_checks import (
    ShapesFingerprint,
    check_same_shapes,
    check_writer_protocol,
    find_other_group_errors,
)
from normalizer.store.dedup_horizon import ADD_MISSING_DEDUP_HORIZONS_SQL, LOCK_DEDUP_HORIZON_SQL
from normalizer.store.migrate import check_applied_migrations
from normalizer.store.source_positions import lock_positions


async def claim_partition(
    connection: asyncpg.Connection,
    *,
    topic: str,
    partition: int,
    owner: PartitionOwner,
    cluster_id: str,
    log_start: int,
    log_end: int | None,
    shapes: ShapesFingerprint,
) -> Claim:
    """Claim a partition by raising the epoch of its position, and return the claim.

    From then on the caller owns the partition, and the previous owner can no longer write it. If
    the previous owner has a transaction in flight, the claim waits until that has ended.

    Raises FatalError if this version must not write to the database, because of its migrations or
    its protocol. Raises OtherGroupError if another consumer group reads the partition, and
    ShapesChangedError if the table of shapes has changed.
    """
    await check_applied_migrations(connection)
    claim_latest = partial(
        _claim_latest,
        connection,
        (topic, partition),
        owner=owner,
        log_end=log_end,
        shapes=shapes,
    )
    position = await claim_latest()
    if position is None:
        begun = await _begin_position(
            connection,
            (topic, partition),
            owner=owner,
            cluster_id=cluster_id,
            log_start=log_start,
            shapes=shapes,
        )
        # If another process has just added the position, claim the row of that process.
        position = begun or await claim_latest()
    if position is None:
        message = (
            f"{topic}[{partition}]: another process added the position and deleted it before this "
            "process could claim it"
        )
        raise PositionMovedError(message, topic=topic, partition=partition)
    # An error here rolls the claim back.
    await check_writer_protocol(connection)
    check_same_shapes(topic, partition, position.pop("shapes"), shapes.fingerprint)
    claim = Claim(topic=topic, partition=partition, **position)
    await _write_first_heartbeat(connection, claim)
    return claim


# Locks the partition's newest position. Returns no row if a newer incarnation was deleted. If the
# present owner is in a transaction, the lock waits for its end.
#
# An owner that stops normally clears `holder`, so a `holder` that's still set means that the owner
# was killed. That's certain only within the same group. Another group may take over a partition
# while its owner is still alive, for example after an outage of the database. So `holder` is null
# in that case.
_LOCK_LATEST_POSITION: Final = """
    select   incarnation, next_offset, slice_records,
             case when group_id in ('', $3::text) then holder end as holder
    from     normalizer.source_positions
    where    topic = $1::text and partition = $2::integer
    and      incarnation >= all (
                 select incarnation
                 from   normalizer.dedup_horizon
                 where  topic = $1::text and partition = $2::integer
                 and    cluster_id is not null
             )
    order by incarnation desc
    limit    1
    for      update
"""

# Keeps the stored table of shapes, unless the operator has accepted the one of this process ($9).
_CLAIM: Final = """
    update normalizer.source_positions
    set    owner = $4::text, epoch = epoch + 1, claimed_at = clock_timestamp(),
           holder = $5::text, group_id = $6::text, slice_records = $7::integer,
           shapes = case when $9::boolean then $8::text else shapes end
    where  (topic, incarnation, partition) = ($1::text, $2::integer, $3::integer)
    returning incarnation, epoch, next_offset, cluster_id, last_offset, last_recorded_ms, last_crc,
              slice_records, shapes
"""


async def _claim_latest(
    connection: asyncpg.Connection,
    partition: tuple[str, int],
    *,
    owner: PartitionOwner,
    log_end: int | None,
    shapes: ShapesFingerprint,
) -> dict[str, Any] | None:
    """Claim the position of the latest incarnation. Returns None if there's no position."""
    found = await connection.fetchrow(_LOCK_LATEST_POSITION, *partition, owner.group_id)
    if found is None:
        return None
    for other_group in await find_other_group_errors(connection, [partition], owner.group_id):
        raise other_group
    last_try = PreviousOwner(holder=found["holder"], slice_records=found["slice_records"])
    claimed = await connection.fetchrow(
        _CLAIM,
        partition[0],
        found["incarnation"],
        partition[1],
        owner.name,
        owner.holder,
        owner.group_id,
        last_try.slice_records_for(owner.holder, next_offset=found["next_offset"], log_end=log_end),
        shapes.fingerprint,
        shapes.accepted,
    )
    return dict(claimed) | {"found_slice": last_try.slice_records}


# Returns the incarnation for a new position of a partition, which tells how often its topic was
# recreated. Normally that's 0. If an operator has deleted an earlier position of the partition, or
# a backfill has read its records, the new position continues in the newest incarnation stored for
# them.
_DELETED_INCARNATION: Final = """
    select coalesce(max(incarnation), 0)
    from   normalizer.dedup_horizon
    where  topic = $1::text and partition = $2::integer and cluster_id is not null
"""

# Returns no row if another process was first. Then the position exists, and can be claimed.
_BEGIN_POSITION: Final = """
    insert into normalizer.source_positions
           (topic, incarnation, partition, cluster_id, owner, start_offset, next_offset,
            dedup_offset, last_offset, last_recorded_ms, last_crc, shapes, holder, group_id,
            claimed_at)
    select topic, incarnation, partition, coalesce(cluster_id, $4::text), $5::text, $6::bigint,
           $6::bigint, next_offset, last_offset, last_recorded_ms, last_crc, $7::text, $8::text,
           $9::text, clock_timestamp()
    from   normalizer.dedup_horizon
    where  topic = $1::text and incarnation = $2::integer and partition = $3::integer
    on conflict on constraint source_positions_pkey do nothing
    returning incarnation, epoch, next_offset, cluster_id, last_offset, last_recorded_ms, last_crc,
              shapes
"""


async def _begin_position(
    connection: asyncpg.Connection,
    partition: tuple[str, int],
    *,
    owner: PartitionOwner,
    cluster_id: str,
    log_start: int,
    shapes: ShapesFingerprint,
) -> dict[str, Any] | None:
    """Add the first position of a partition, with epoch 1. Returns None if there is one already."""
    topic, number = partition
    incarnation = await connection.fetchval(_DELETED_INCARNATION, topic, number)
    first = ([topic], [incarnation], [number])
    await connection.execute(ADD_MISSING_DEDUP_HORIZONS_SQL, *first, cluster_id)
    await connection.fetch(LOCK_DEDUP_HORIZON_SQL, *first)
    begun = await connection.fetchrow(
        _BEGIN_POSITION,
        topic,
        incarnation,
        number,
        cluster_id,
        owner.name,
        log_start,
        shapes.fingerprint,
        owner.holder,
        owner.group_id,
    )
    return dict(begun) if begun else None


# Begins the next incarnation of a partition. The statement also raises the epoch of the earlier
# incarnation, so that its owner can't write any more.
_BEGIN_NEXT_INCARNATION: Final = """
    with earlier as (
        update    normalizer.source_positions
        set       epoch = epoch + 1
        where     topic = $1::text and incarnation = $2::integer and partition = $3::integer
        returning topic, incarnation, partition, shapes, group_id
    )
    insert into normalizer.source_positions
           (topic, incarnation, partition, cluster_id, owner, start_offset, next_offset, shapes,
            holder, group_id, claimed_at)
    select topic, incarnation + 1, partition, $4::text, $5::text, $6::bigint, $6::bigint, shapes,
           $7::text, group_id, clock_timestamp()
    from   earlier
    returning incarnation, epoch, next_offset, cluster_id, last_offset, last_recorded_ms, last_crc
"""


async def begin_next_incarnation(
    connection: asyncpg.Connection,
    claim: Claim,
    *,
    owner: PartitionOwner,
    cluster_id: str,
    log_start: int,
) -> Claim:
    """Begin the next incarnation of the claimed partition at `log_start`, and claim it.

    Raises FencedError and PositionMovedError.
    """
    # An empty part, only to check epoch and offset.
    await lock_positions(connection, (claim.make_part(claim.next_offset, claim.next_offset, []),))
    row = await connection.fetchrow(
        _BEGIN_NEXT_INCARNATION,
        claim.topic,
        claim.incarnation,
        claim.partition,
        cluster_id,
        owner.name,
        log_start,
        owner.holder,
    )
    begun = Claim(topic=claim.topic, partition=claim.partition, **row)
    await _write_first_heartbeat(connection, begun)
    return begun


# Writes a first heartbeat for the new owner, so that it doesn't look dead until its regular
# heartbeats begin. How long the partition has been behind is kept from the last owner, because the
# new owner doesn't know yet where the log ends.
#
# No heartbeat is written if a record of the partition is suspected of killing processes. Otherwise
# a process that dies at every start would write a heartbeat each time, and would look alive.
_CLAIM_HEARTBEAT: Final = """
    insert into normalizer.source_heartbeats as reported
           (topic, partition, incarnation, epoch, next_offset, heartbeat_at)
    select topic, partition, incarnation, epoch, next_offset, clock_timestamp()
    from   normalizer.source_positions
    where  (topic, incarnation, partition) = ($1::text, $2::integer, $3::integer)
    and    slice_records is null
    on conflict on constraint source_heartbeats_pkey do update
    set    (incarnation, epoch, next_offset, log_end, stopped, heartbeat_at)
         = (excluded.incarnation, excluded.epoch, excluded.next_offset, null, false,
            excluded.heartbeat_at),
           (end_seen_at, behind_since, mark_offset, mark_at) = (
               select reported.end_seen_at, reported.behind_since, reported.mark_offset,
                      reported.mark_at
               where  reported.incarnation = excluded.incarnation
           )
"""


async def _write_first_heartbeat(connection: asyncpg.Connection, claim: Claim) -> None:
    await connection.execute(_CLAIM_HEARTBEAT, claim.topic, claim.incarnation, claim.partition)


# Releases every position that this process holds, whatever its topic, because no other process has
# the same holder.
_RECORD_IDLE: Final = """
    update normalizer.source_positions
    set    holder = null
    where  holder = $1::text
"""


async def mark_owner_idle(connection: asyncpg.Connection, holder: str) -> None:
    """Record that this holder processes no record of any partition.

    A process does so when it stops, and after a rebalance has ended its claims.
    """
    await connection.execute(_RECORD_IDLE, holder)


_TAKE_ALONE: Final = """
    update normalizer.source_positions
    set    slice_records = $5::integer
    where  (topic, incarnation, partition, epoch)
         = ($1::text, $2::integer, $3::integer, $4::bigint)
"""


async def mark_working_on_one_record(connection: asyncpg.Connection, claim: Claim) -> None:
    """Record that the owner works on the partition's next record, and on nothing else."""
    await connection.execute(
        _TAKE_ALONE,
        claim.topic,
        claim.incarnation,
        claim.partition,
        claim.epoch,
        SLICE_CODE_ALONE,
    )

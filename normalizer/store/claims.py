"""Claims partitions, and advances a claimed position past offsets that no longer exist.

No function here begins a transaction. Each runs on the caller's connection, in the transaction that
the caller has begun.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec

from normalizer.core.batch import (
    Item,
    LastRecord,
    PartitionBatch,
    holes_between,
    last_record_from_columns,
)
from normalizer.core.last_try import ALONE, LastTry
from normalizer.errors import (
    AnotherClusterError,
    OtherGroupError,
    PositionError,
    PositionMovedError,
    ShapesChangedError,
)
from normalizer.store.migrate import check_applied_files
from normalizer.store.protocol import check_protocol
from normalizer.store.sorted_outcomes import OutcomeCounts
from normalizer.store.source_positions import (
    LOCK_DEDUP_HORIZON,
    add_gaps,
    lock_positions,
    move_positions,
    why_claim_lost,
)


class ShapesOfProcess(NamedTuple):
    """The fingerprint of this process's table of shapes (NORMALIZER_SHAPES), or '' without one.

    A position whose earlier records were read with another table can't be claimed, unless
    `accepted` is True. It's True if an operator has started the process with --accept-shapes.
    """

    fingerprint: str = ""
    accepted: bool = False


NO_TABLE: Final = ShapesOfProcess()


class Owner(NamedTuple):
    """Identifies this process as the owner of a partition.

    `name` is for operators. `holder` is a random name, which tells this process from an earlier one
    with the same name. `group_id` is the consumer group, or empty if the process claims partitions
    outside of a group.
    """

    name: str
    holder: str
    group_id: str = ""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A partition that this process owns, with its epoch and the position to read from.

    `last_offset`, `last_recorded_ms`, and `last_crc` identify the last record that was read. With
    them the process checks that the topic still has the records before the position. `found_slice`
    is the `slice_records` that the position had before this claim, and `slice_records` is the value
    that this claim stores there (see `LastTry`).
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
    slice_records: int | None = None
    found_slice: int | None = None

    def part(self, from_offset: int, next_offset: int, items: list[Item]) -> PartitionBatch:
        """Return a batch's part with these offsets and records, read under this claim.

        Offsets without a record are holes.
        """
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
        """Return the last record that was read, or None if none was."""
        return last_record_from_columns(self.last_offset, self.last_recorded_ms, self.last_crc)


# Returns the incarnation for a new position of a partition, which tells how often its topic was
# recreated. Normally that's 0. If an operator has deleted an earlier position of the partition, or
# a backfill has read its records, the new position continues in the newest incarnation stored for
# them.
_DELETED_INCARNATION: Final = """
    select coalesce(max(incarnation), 0)
    from   normalizer.dedup_horizon
    where  topic = $1::text and partition = $2::integer and cluster_id is not null
"""

# Adds a row for each partition that has none, only so that there's a row to lock. The first claim
# of a partition and a job that writes the partition's records both lock this row, so one of them
# has to wait for the other.
ADD_DEDUP_HORIZON: Final = """
    insert into normalizer.dedup_horizon (topic, incarnation, partition, next_offset, cluster_id)
    select   topic, incarnation, partition, 0, $4::text
    from     unnest($1::text[], $2::integer[], $3::integer[])
                 as wanted (topic, incarnation, partition)
    order by topic, incarnation, partition
    on conflict on constraint dedup_horizon_pkey do nothing
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


async def claim_partition(
    connection: asyncpg.Connection,
    *,
    topic: str,
    partition: int,
    owner: Owner,
    cluster_id: str,
    log_start: int,
    log_end: int | None,
    shapes: ShapesOfProcess,
) -> Claim:
    """Claim a partition by raising the epoch of its position, and return the claim.

    From then on the caller owns the partition, and the previous owner can no longer write it. If
    the previous owner has a transaction in flight, the claim waits until that has ended.

    Raises FatalError if this version must not write to the database, because of its migrations or
    its protocol. Raises OtherGroupError if another consumer group reads the partition, and
    ShapesChangedError if the table of shapes has changed.
    """
    await check_applied_files(connection)
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
        incarnation = await connection.fetchval(_DELETED_INCARNATION, topic, partition)
        first = ([topic], [incarnation], [partition])
        await connection.execute(ADD_DEDUP_HORIZON, *first, cluster_id)
        await connection.fetch(LOCK_DEDUP_HORIZON, *first)
        begun = await connection.fetchrow(
            _BEGIN_POSITION,
            topic,
            incarnation,
            partition,
            cluster_id,
            owner.name,
            log_start,
            shapes.fingerprint,
            owner.holder,
            owner.group_id,
        )
        # If another process has just added the position, claim the row of that process.
        position = dict(begun) if begun else await claim_latest()
    if position is None:
        message = (
            f"{topic}[{partition}]: another process added the position and deleted it before this "
            "process could claim it"
        )
        raise PositionMovedError(message, topic=topic, partition=partition)
    await check_protocol(connection)
    check_shapes(topic, partition, position.pop("shapes"), shapes.fingerprint)
    claim = Claim(topic=topic, partition=partition, **position)
    await _write_first_heartbeat(connection, claim)
    return claim


# Selects the partitions that another consumer group is reading, so that this group leaves them
# alone. A group counts as reading a partition if it has claimed the newest position, or sent a
# heartbeat for the partition, in the last ten seconds. The views use the same limit to call a
# partition dead. A heartbeat marked as `stopped` doesn't count, because its sender either has no
# record in hand or may not claim the partition.
_OTHER_GROUPS: Final = """
    select   position.topic, position.partition, position.group_id, position.owner
    from     unnest($1::text[], $2::integer[]) as wanted (topic, partition)
    cross join lateral (
        select   *
        from     normalizer.source_positions as latest
        where    (latest.topic, latest.partition) = (wanted.topic, wanted.partition)
        order by latest.incarnation desc
        limit    1
    ) as position
    left join normalizer.source_heartbeats as reported
         on  (reported.topic, reported.partition) = (wanted.topic, wanted.partition)
         and not reported.stopped
    left join normalizer.source_topics as topic on topic.topic = wanted.topic
    where    position.group_id not in ('', $3::text)
    and      coalesce(topic.cluster_id = $4::text, true)
    and      greatest(position.claimed_at, reported.heartbeat_at) > now() - interval '10 seconds'
    order by position.topic, position.partition
"""


async def find_other_groups(
    connection: asyncpg.Connection,
    partitions: Collection[tuple[str, int]],
    group_id: str,
    cluster_id: str | None = None,
) -> list[OtherGroupError]:
    """Return an error for each partition that another consumer group already reads.

    Pass a `cluster_id` to skip topics that belong to another Kafka cluster. Claiming a partition of
    such a topic raises a more helpful error, which names the wrong cluster.
    """
    if not group_id:
        return []
    wanted = map(list, zip(*partitions, strict=True))
    return [
        OtherGroupError(other, owner, group_id, topic=topic, partition=partition)
        for topic, partition, other, owner in await connection.fetch(
            _OTHER_GROUPS, *wanted, group_id, cluster_id
        )
    ]


# Locks the partition's newest position. If the present owner is in a transaction, the lock waits
# for its end. An owner that stops normally clears `holder`, so a `holder` that's still set means
# that the owner was killed. That's certain only within the same group. Another group may take over
# a partition while its owner is still alive, for example after an outage of the database, so
# `holder` is null in that case.
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
    owner: Owner,
    log_end: int | None,
    shapes: ShapesOfProcess,
) -> dict[str, Any] | None:
    """Claim the position of the latest incarnation. Returns None if there's no position."""
    found = await connection.fetchrow(_LOCK_LATEST_POSITION, *partition, owner.group_id)
    if found is None:
        return None
    for other_group in await find_other_groups(connection, [partition], owner.group_id):
        raise other_group
    last_try = LastTry(holder=found["holder"], slice_records=found["slice_records"])
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


_CLUSTER_OF_TOPIC: Final = "select cluster_id from normalizer.source_topics where topic = $1::text"

# Stores which Kafka cluster a topic is read from. If another process has just stored a cluster for
# the topic, that one is kept. It's replaced only if the operator has accepted that the topic moves
# to another cluster ($3).
_SET_CLUSTER_OF_TOPIC: Final = """
    insert into normalizer.source_topics as known (topic, cluster_id)
    values ($1::text, $2::text)
    on conflict on constraint source_topics_pkey do update
    set    cluster_id = excluded.cluster_id
    where  $3::boolean
"""


async def check_cluster(
    connection: asyncpg.Connection,
    topic: str,
    partition: int,
    cluster_id: str,
    *,
    accept_reset: bool = False,
) -> None:
    """Raise AnotherClusterError if the topic belongs to another cluster than this one.

    A topic belongs to the cluster from which it was first claimed. With `accept_reset`, it's
    reassigned to this cluster instead.
    """
    known = await connection.fetchval(_CLUSTER_OF_TOPIC, topic)
    if known is None or (accept_reset and known != cluster_id):
        await connection.execute(_SET_CLUSTER_OF_TOPIC, topic, cluster_id, accept_reset)
        known = await connection.fetchval(_CLUSTER_OF_TOPIC, topic)
    if known != cluster_id:
        raise AnotherClusterError(known, cluster_id, topic=topic, partition=partition)


def check_shapes(topic: str, partition: int, stored: str, fingerprint: str) -> None:
    """Raise ShapesChangedError if the partition was read with another table of shapes."""
    if stored != fingerprint:
        raise ShapesChangedError(
            f"{topic}[{partition}]: its records are read with {_table(stored)}, but this process "
            f"has {_table(fingerprint)}, so it can't read the partition. To continue with the "
            "table of this process, start it once with --accept-shapes",
            topic=topic,
            partition=partition,
        )


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
        (claim, why_claim_lost(claim.topic, claim.partition, claim.epoch, positions.get(key)))
        for claim, key in zip(claims, keys, strict=True)
    ]
    return [(claim, why) for claim, why in reasons if why]


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
    owner: Owner,
    cluster_id: str,
    log_start: int,
) -> Claim:
    """Begin the next incarnation of the claimed partition at `log_start`, and claim it.

    Raises FencedError and PositionMovedError.
    """
    # An empty part, only to check epoch and offset.
    await lock_positions(connection, (claim.part(claim.next_offset, claim.next_offset, []),))
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


async def record_idle(connection: asyncpg.Connection, holder: str) -> None:
    """Record that this holder processes no record of any partition."""
    await connection.execute(_RECORD_IDLE, holder)


_TAKE_ALONE: Final = """
    update normalizer.source_positions
    set    slice_records = $5::integer
    where  (topic, incarnation, partition, epoch)
         = ($1::text, $2::integer, $3::integer, $4::bigint)
"""


async def note_alone(connection: asyncpg.Connection, claim: Claim) -> None:
    """Record that the owner works on the partition's next record, and on nothing else."""
    await connection.execute(
        _TAKE_ALONE,
        claim.topic,
        claim.incarnation,
        claim.partition,
        claim.epoch,
        ALONE,
    )


async def record_gap(
    connection: asyncpg.Connection, claim: Claim, *, next_offset: int, reason: str
) -> Claim:
    """Advance the claimed position to `next_offset`, and store the skipped offsets as a gap.

    If an earlier call has already done so, this changes nothing. Afterwards the partition isn't a
    suspect, because no owner has read any record after the gap, so none of them can have killed a
    process.

    Raises FencedError and PositionMovedError.
    """
    part = claim.part(claim.next_offset, next_offset, [])
    if await lock_positions(connection, (part,)) is not None:
        await add_gaps(connection, (part,), reason)
        await move_positions(connection, [(part, OutcomeCounts().totals(part))])
    return msgspec.structs.replace(claim, next_offset=next_offset, slice_records=None)


def _table(fingerprint: str) -> str:
    return f"the table of shapes {fingerprint}" if fingerprint else "no table of shapes"

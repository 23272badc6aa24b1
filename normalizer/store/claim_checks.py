"""Checks before a claim that this process may read a partition and write to the database.

The topic must be read from the Kafka cluster that it belongs to, and with the same table of shapes
as before. No other consumer group may read the partition, because only one may write it. The
database must be migrated for the protocol version that this code writes.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

import asyncpg

from normalizer.errors import AnotherClusterError, FatalError, OtherGroupError, ShapesChangedError

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


async def find_other_group_errors(
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


async def check_or_set_topic_cluster(
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


class ShapesFingerprint(NamedTuple):
    """The fingerprint of this process's table of shapes (NORMALIZER_SHAPES), or '' without one.

    A position whose earlier records were read with another table can't be claimed, unless
    `accepted` is True. It's True if an operator has started the process with --accept-shapes.
    """

    fingerprint: str = ""
    accepted: bool = False


NO_SHAPES_FINGERPRINT: Final = ShapesFingerprint()


def check_same_shapes(topic: str, partition: int, stored: str, fingerprint: str) -> None:
    """Raise ShapesChangedError if the partition was read with another table of shapes."""
    if stored != fingerprint:
        raise ShapesChangedError(
            f"{topic}[{partition}]: its records are read with {_table(stored)}, but this process "
            f"has {_table(fingerprint)}, so it can't read the partition. To continue with the "
            "table of this process, start it once with --accept-shapes",
            topic=topic,
            partition=partition,
        )


def _table(fingerprint: str) -> str:
    return f"the table of shapes {fingerprint}" if fingerprint else "no table of shapes"


_PROTOCOL_VERSION: Final = 1
"""The version of the rules for ids and identity. normalizer.layout has the one that's in force."""


_PROTOCOL: Final = "select protocol from normalizer.layout"


async def check_writer_protocol(connection: asyncpg.Connection) -> None:
    """Raise FatalError if the database requires another protocol version than ours.

    Call this after claiming a position or a job's run. A migration that changes the protocol also
    ends all earlier claims. So once this check has succeeded, it holds for as long as the claim
    does.
    """
    in_force = await connection.fetchval(_PROTOCOL)
    if in_force != _PROTOCOL_VERSION:
        raise FatalError(
            f"the database requires protocol {in_force}, but this version of normalizer writes "
            f"protocol {_PROTOCOL_VERSION}, so it could store the same event again under another "
            "id. Run the version of normalizer that migrated this database last"
        )

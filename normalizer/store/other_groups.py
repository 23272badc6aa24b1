"""Finds partitions that another consumer group reads, because only one group may write them."""

from collections.abc import Collection
from typing import Final

import asyncpg

from normalizer.errors import OtherGroupError

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

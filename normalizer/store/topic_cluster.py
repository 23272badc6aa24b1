"""Checks that a topic is read from the Kafka cluster that it belongs to."""

from typing import Final

import asyncpg

from normalizer.errors import AnotherClusterError

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


async def check_topic_cluster(
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

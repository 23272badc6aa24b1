"""Compares a topic with what was read of it, to find out whether it was recreated."""

import asyncio
from typing import Final

from normalizer.core.batch import LastRecord, last_record
from normalizer.errors import BrokerUnavailable
from normalizer.kafka.connection import KafkaPartition
from normalizer.kafka.topic_reader import TopicReader

COMPARING_S: Final = 10.0


async def why_reset(
    log: TopicReader,
    partition: KafkaPartition,
    cluster_ids: tuple[str, str],
    *,
    next_offset: int,
    last: LastRecord | None,
) -> str | None:
    """Return how the log differs from the one read up to next_offset; None if it is the same.

    `cluster_ids`: the cluster that was read, and the one that answers. Raises BrokerUnavailable.
    Two cases go unnoticed: the last record is gone by now (retention, compaction), or the new topic
    holds the same record, with the same bytes and time.
    """
    known, cluster_id = cluster_ids
    if known != cluster_id:
        return f"cluster is {cluster_id}, the position is of cluster {known}"
    try:
        async with asyncio.timeout(COMPARING_S):
            bounds = (await log.bounds([partition]))[partition]
            if next_offset > bounds.end:
                return f"log ends at {bounds.end}, the position is {next_offset}"
            if last is None or last.offset < bounds.start:
                return None
            if last.offset >= bounds.end:
                return f"log ends at {bounds.end}, offset {last.offset} was read"
            record = await log.record_at(partition, last.offset)
    except TimeoutError as error:
        raise BrokerUnavailable(f"{partition}: no answer when it was compared") from error
    if record is None or last_record(record) == last:
        return None
    return f"offset {last.offset} holds another record than was read there"

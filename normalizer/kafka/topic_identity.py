"""Compares a topic with what was read of it: was it recreated, does another cluster answer?"""

import asyncio
from typing import Final, Literal

import msgspec

from normalizer.core.batch import LastRecord, last_record
from normalizer.errors import AnotherCluster, BrokerUnavailable
from normalizer.kafka.connection import KafkaPartition
from normalizer.kafka.topic_reader import TopicReader

COMPARING_S: Final = 10.0


class OtherLog(msgspec.Struct, frozen=True):
    """Why a log is not the one that was read, and what to do; its text says both."""

    kind: Literal["RECREATED", "ANOTHER CLUSTER"]
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.why}; {self.remedy}"


async def why_reset(
    log: TopicReader,
    partition: KafkaPartition,
    cluster_ids: tuple[str, str],
    *,
    next_offset: int,
    last: LastRecord | None,
) -> OtherLog | None:
    """Return why the log is not the one read up to next_offset; None if it is the same.

    `cluster_ids`: the cluster that was read, and the one that answers. Raises BrokerUnavailable.
    Two cases go unnoticed: the last record is gone by now (retention, compaction), or the new topic
    holds the same record, with the same bytes and time.
    """
    known, cluster_id = cluster_ids
    if known != cluster_id:
        return _another_cluster(known, cluster_id)
    try:
        async with asyncio.timeout(COMPARING_S):
            bounds = (await log.bounds([partition]))[partition]
            if next_offset > bounds.end:
                return _recreated(f"log ends at {bounds.end}, the position is {next_offset}")
            if last is None or last.offset < bounds.start:
                return None
            if last.offset >= bounds.end:
                return _recreated(f"log ends at {bounds.end}, offset {last.offset} was read")
            record = await log.record_at(partition, last.offset)
    except TimeoutError as error:
        raise BrokerUnavailable(f"{partition}: no answer when it was compared") from error
    if record is None or last_record(record) == last:
        return None
    return _recreated(f"offset {last.offset} holds another record than was read there")


def _recreated(how: str) -> OtherLog:
    return OtherLog(
        "RECREATED",
        f"{how}: the topic was recreated",
        "to read it as a new incarnation, start once with --accept-reset",
    )


def _another_cluster(known: str, cluster_id: str) -> OtherLog:
    return OtherLog(
        "ANOTHER CLUSTER",
        f"KAFKA_BOOTSTRAP_SERVERS leads to cluster {cluster_id}, the position is of cluster "
        f"{known}",
        AnotherCluster.REMEDY,
    )

"""Finds out whether a topic was recreated, or whether we're connected to another cluster.

If we continued in another log without noticing, we would store its events under the offsets of the
old one. Kafka's protocol doesn't tell a consumer that this has happened. So this module compares
three things with what the position says about them: the id of the cluster, the end of the log, and
the last record that was read.
"""

import asyncio
from typing import Final, Literal

import msgspec

from normalizer.core.batch import LastRecord, last_record_from_raw
from normalizer.errors import AnotherClusterError, BrokerUnavailableError
from normalizer.kafka.client_setup import KafkaPartition, OffsetBounds
from normalizer.kafka.groupless_client import GrouplessClient

_COMPARISON_TIMEOUT_S: Final = 10.0


class LogMismatch(msgspec.Struct, frozen=True):
    """Why a log isn't the one that was read before, and what to do. Its text says both."""

    kind: Literal["RECREATED", "ANOTHER CLUSTER"]
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.why}; {self.remedy}"


async def find_log_mismatch(
    log: GrouplessClient,
    partition: KafkaPartition,
    cluster_ids: tuple[str, str],
    *,
    next_offset: int,
    last: LastRecord | None,
    bounds: OffsetBounds | None = None,
) -> LogMismatch | None:
    """Return why the log isn't the one that was read up to next_offset, or None if it's the same.

    The log is compared with `last`, the last record that was read. `cluster_ids` are the id of the
    cluster that this record came from and the id of the cluster that we're connected to. Pass
    `bounds` only if they were read after the position. Older bounds may end before the position,
    and the topic would then seem to be recreated. Raises BrokerUnavailableError.

    A recreated topic isn't noticed if retention or compaction has deleted the last record, or if
    the new topic has a record with the same bytes and time at that offset.
    """
    known, cluster_id = cluster_ids
    if known != cluster_id:
        return LogMismatch(
            "ANOTHER CLUSTER",
            f"KAFKA_BOOTSTRAP_SERVERS leads to cluster {cluster_id}, but the position is of "
            f"cluster {known}",
            AnotherClusterError.REMEDY,
        )
    try:
        async with asyncio.timeout(_COMPARISON_TIMEOUT_S):
            bounds = bounds or (await log.offset_bounds([partition]))[partition]
            if is_shorter := _shorter(bounds, next_offset):
                return is_shorter
            if last is None or last.offset < bounds.start:
                return None
            if last.offset >= bounds.end:
                return _recreated(f"log ends at {bounds.end}, but offset {last.offset} was read")
            record = await log.record_at(partition, last.offset)
            if record is None:
                # The last record that we read is gone. Retention or compaction may have deleted it,
                # or the topic may have been recreated since `bounds` were read. New bounds tell
                # these cases apart.
                return _shorter((await log.offset_bounds([partition]))[partition], next_offset)
    except TimeoutError as error:
        raise BrokerUnavailableError(
            f"{partition}: could not check whether the topic was recreated, because the brokers "
            f"did not answer within {_COMPARISON_TIMEOUT_S:.0f} s"
        ) from error
    if last_record_from_raw(record) == last:
        return None
    return _recreated(f"offset {last.offset} holds another record than the one that was read")


def _shorter(bounds: OffsetBounds, next_offset: int) -> LogMismatch | None:
    if next_offset <= bounds.end:
        return None
    return _recreated(f"log ends at {bounds.end}, but the position is {next_offset}")


def _recreated(how: str) -> LogMismatch:
    return LogMismatch(
        "RECREATED",
        f"{how}: the topic was recreated",
        "to read it as a new incarnation, start once with --accept-reset",
    )

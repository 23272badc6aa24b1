"""Tracks how far each partition was read, and whether its topic may have been recreated.

aiokafka identifies a topic only by its name. If somebody deletes a topic and creates it again, the
consumer continues in the new log without an error, and we would store its records under the offsets
of the old one. So this module marks a partition as *unverified* whenever that could have happened:
after a failed fetch, after a response over a new connection, and after a silence of more than
MAX_FETCH_SILENCE_MS.

The reader returns no records of an unverified partition until the caller has compared the log with
the last record that was read from it. In the meantime, the other partitions continue.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec
from aiokafka.client import ConnectionGroup
from aiokafka.errors import NotLeaderForPartitionError, UnknownTopicOrPartitionError
from aiokafka.protocol.fetch import FetchRequest

from normalizer.core.batch import LastRecord, last_record_from_raw
from normalizer.kafka.client_setup import RETRY_BACKOFF_S, FetchedChunk, KafkaPartition

MAX_FETCH_SILENCE_MS: Final = 2_000
"""The client fetches every half second. If no response came for longer than this, the topic may
have been recreated, so the next records wait until the log has been compared."""

_TOPIC_CHANGES: Final = {NotLeaderForPartitionError.errno, UnknownTopicOrPartitionError.errno}
"""Error codes that a deleted topic causes. One of them makes all partitions of the topic
unverified, because a partition whose records are fetched but not yet taken has no running fetch
that could fail."""


class FetchPosition(msgspec.Struct):
    """How far one partition was read, and whether its log still has to be verified.

    `next_offset` is always the same as the consumer's own position.

    - `last` is the last record that was read.
    - `last_response_at_ms` is the time of the broker's latest response, which came over
      `response_connection`.
    - `unverified_count` is how many times the log has become unverified since it was last compared,
      so 0 means that it's verified.
    """

    incarnation: int
    next_offset: int
    last: LastRecord | None
    last_response_at_ms: int
    response_connection: Any = None
    unverified_count: int = 0

    def advance(self, chunk: FetchedChunk) -> None:
        """Move the position to the end of the chunk."""
        self.next_offset = chunk.next_offset
        if chunk.records:
            self.last = last_record_from_raw(chunk.records[-1])


class UnverifiedPartition(NamedTuple):
    """A partition whose topic may have been recreated.

    The fields are a copy from that moment, because the position may change during the comparison.
    """

    partition: KafkaPartition
    next_offset: int
    last: LastRecord | None
    unverified_count: int


class FetchPositions(dict[KafkaPartition, FetchPosition]):
    """The fetch positions of a consumer, by partition.

    Call `watch_responses` to have the brokers' responses watched. Whenever a partition becomes
    unverified after that, `on_unverified` is called, so that the caller knows that it must compare
    the log.
    """

    def __init__(self, on_unverified: Callable[[], None]) -> None:
        super().__init__()
        self._on_unverified = on_unverified

    def watch_responses(self, client: Any) -> None:
        """Watch every fetch response of this client, and every failed fetch.

        This wraps the client's `send`, because the consumer shows us neither responses nor
        failures. After a failure it simply fetches again.
        """
        send = client.send

        async def send_or_mark_unverified(node_id: Any, request: Any, **options: Any) -> Any:
            if not isinstance(request, FetchRequest):
                return await send(node_id, request, **options)
            try:
                response = await send(node_id, request, **options)
            except BaseException:
                self.mark_unverified(
                    KafkaPartition(topic, one[0])
                    for topic, partitions in request.topics
                    for one in partitions
                )
                raise
            connection = client._conns.get((node_id, ConnectionGroup.DEFAULT))  # noqa: SLF001 - the public API reports neither
            self._take(response, connection, wall_clock_ms())
            if any(code for _, partitions in response.topics for _, code, *_ in partitions):
                # Without a pause, aiokafka would send the same fetch at once and get the same
                # error.
                await asyncio.sleep(RETRY_BACKOFF_S)
            return response

        client.send = send_or_mark_unverified

    def position_if_verified(self, partition: KafkaPartition) -> FetchPosition | None:
        """Return the position of a partition that's being read and is verified, otherwise None."""
        position = self.get(partition)
        return position if position and not position.unverified_count else None

    def unverified_partitions(self) -> list[UnverifiedPartition]:
        """Return the partitions that return no more records until their log has been compared."""
        return [
            UnverifiedPartition(
                partition, position.next_offset, position.last, position.unverified_count
            )
            for partition, position in self.items()
            if position.unverified_count
        ]

    def mark_verified(self, unverified: UnverifiedPartition, *, compared_ms: int) -> None:
        """Mark a partition as verified after a comparison has found its log unchanged.

        `unverified` is the value with which the comparison began, and `compared_ms` is when it
        began. If another failure has marked the partition since then, it stays unverified, because
        the comparison may have seen the log as it was before that failure.
        """
        position = self.get(unverified.partition)
        if (
            position
            and position.unverified_count == unverified.unverified_count
            and position.last == unverified.last
        ):
            # The broker answered the comparison too. Its silence is therefore counted from
            # `compared_ms`, unless it has answered a fetch since then.
            position.unverified_count, position.last_response_at_ms = (
                0,
                max(position.last_response_at_ms, compared_ms),
            )

    def mark_unverified(self, partitions: Iterable[KafkaPartition]) -> None:
        """Mark these partitions as unverified, because their topics may have been recreated."""
        found = [position for one in partitions if (position := self.get(one))]
        for position in found:
            position.unverified_count += 1
            # This failure covers the change of the connection too.
            position.response_connection = None
        if found:
            self._on_unverified()

    def note_response(
        self, partition: KafkaPartition, responded_at_ms: int, *, connection: Any = None
    ) -> None:
        """Note the time of a response, and mark the partition as unverified if necessary.

        That's necessary if the response came too late, or over another connection than the one
        before. If the clock was set back, nobody can tell how long the broker was silent, so the
        response counts as too late.
        """
        position = self.get(partition)
        if position is None:
            return
        is_late = abs(responded_at_ms - position.last_response_at_ms) > MAX_FETCH_SILENCE_MS
        before = position.response_connection
        if is_late or (connection and before and connection is not before):
            self.mark_unverified([partition])
        position.last_response_at_ms = responded_at_ms
        position.response_connection = connection or position.response_connection

    def _take(self, response: Any, connection: Any, responded_at_ms: int) -> None:
        for topic, partitions in response.topics:
            for partition, code, *_ in partitions:
                if code in _TOPIC_CHANGES:
                    self.mark_unverified(one for one in self if one.topic == topic)
                elif code:
                    self.mark_unverified([KafkaPartition(topic, partition)])
                else:
                    self.note_response(
                        KafkaPartition(topic, partition), responded_at_ms, connection=connection
                    )


def wall_clock_ms() -> int:
    """Return the wall-clock time in milliseconds, with which all `*_ms` here are compared."""
    return round(time.time() * 1000)

"""Tracks how far each partition was read, and whether its topic may have been recreated.

The client knows a topic only by its name, and continues in a recreated topic without an error. So
we trust a broker's answer only if it came over the same connection as the previous one, soon after
it, and no fetch failed in between. Otherwise the partition is unverified until somebody has
compared its log with the last record read. Each partition is tracked separately.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec
from aiokafka.client import ConnectionGroup
from aiokafka.errors import NotLeaderForPartitionError, UnknownTopicOrPartitionError
from aiokafka.protocol.fetch import FetchRequest

from normalizer.core.batch import LastRecord, last_record
from normalizer.kafka.connection import RETRY_BACKOFF_S, FetchedChunk, KafkaPartition

MAX_SILENCE_MS: Final = 2_000
"""The client fetches every half second. After a longer silence the topic may have been recreated,
so the next records wait until the log has been compared.
"""

_TOPIC_CHANGES: Final = {NotLeaderForPartitionError.errno, UnknownTopicOrPartitionError.errno}
"""Errors that a deleted topic causes. They cover all of its partitions: if another one's records
are fetched but not yet taken, no fetch of it is running that could fail.
"""


class FetchPosition(msgspec.Struct):
    """How far one partition was read. Moves together with the consumer's own position.

    `last_answer_ms` is the time of the broker's last answer, `answered_over` its connection.
    `unverified_count` counts how often the log became unverified since it was last compared.
    """

    incarnation: int
    next_offset: int
    last: LastRecord | None
    last_answer_ms: int
    answered_over: Any = None
    unverified_count: int = 0

    def advance(self, chunk: FetchedChunk) -> None:
        """Move to the end of the chunk."""
        self.next_offset = chunk.next_offset
        if chunk.records:
            self.last = last_record(chunk.records[-1])


class UnverifiedLog(NamedTuple):
    """A partition whose topic may have been recreated, as it was when that became possible."""

    partition: KafkaPartition
    next_offset: int
    last: LastRecord | None
    unverified_count: int


class FetchPositions(dict[KafkaPartition, FetchPosition]):
    """The fetch positions of a consumer. Listens to brokers' answers and calls `on_unverified`."""

    def __init__(self, on_unverified: Callable[[], None]) -> None:
        super().__init__()
        self._on_unverified = on_unverified

    def listen(self, client: Any) -> None:
        """Watch every answer to a fetch of this client, and every failed fetch.

        The consumer reports neither. It silently fetches again.
        """
        send = client.send

        async def send_and_hear(node_id: Any, request: Any, **options: Any) -> Any:
            if not isinstance(request, FetchRequest):
                return await send(node_id, request, **options)
            try:
                answer = await send(node_id, request, **options)
            except BaseException:
                self.mark_unverified(
                    KafkaPartition(topic, one[0])
                    for topic, partitions in request.topics
                    for one in partitions
                )
                raise
            connection = client._conns.get((node_id, ConnectionGroup.DEFAULT))  # noqa: SLF001 - the public API reports neither
            self._take(answer, connection, wall_ms())
            if any(code for _, partitions in answer.topics for _, code, *_ in partitions):
                # Otherwise the fetcher would fetch again at once, and fail at once.
                await asyncio.sleep(RETRY_BACKOFF_S)
            return answer

        client.send = send_and_hear

    def trusted(self, partition: KafkaPartition) -> FetchPosition | None:
        """Return the position of a partition that's being read and verified, or None."""
        position = self.get(partition)
        return position if position and not position.unverified_count else None

    def unverified(self) -> list[UnverifiedLog]:
        """Return partitions whose log must be compared before they return more records."""
        return [
            UnverifiedLog(partition, position.next_offset, position.last, position.unverified_count)
            for partition, position in self.items()
            if position.unverified_count
        ]

    def mark_verified(self, unverified_log: UnverifiedLog, *, compared_ms: int) -> None:
        """Note that the log was the same at that moment. A later doubt remains."""
        position = self.get(unverified_log.partition)
        if (
            position
            and position.unverified_count == unverified_log.unverified_count
            and position.last == unverified_log.last
        ):
            # A long comparison must not count as silence, because answers came in the meantime.
            position.unverified_count, position.last_answer_ms = (
                0,
                max(position.last_answer_ms, compared_ms),
            )

    def mark_unverified(self, partitions: Iterable[KafkaPartition]) -> None:
        """Mark logs that are being read as unverified, because their topics may be recreated."""
        found = [position for one in partitions if (position := self.get(one))]
        for position in found:
            position.unverified_count += 1
            position.answered_over = None  # this covers the next connection too
        if found:
            self._on_unverified()

    def note_answer(self, partition: KafkaPartition, answer_ms: int, *, over: Any = None) -> None:
        """Note an answer at this moment. If the clock was set back, the log is unverified too."""
        position = self.get(partition)
        if position is None:
            return
        is_late = abs(answer_ms - position.last_answer_ms) > MAX_SILENCE_MS
        if is_late or (over and position.answered_over and over is not position.answered_over):
            self.mark_unverified([partition])
        position.last_answer_ms, position.answered_over = answer_ms, over or position.answered_over

    def _take(self, answer: Any, connection: Any, answer_ms: int) -> None:
        for topic, partitions in answer.topics:
            for partition, code, *_ in partitions:
                if code in _TOPIC_CHANGES:
                    self.mark_unverified(one for one in self if one.topic == topic)
                elif code:
                    self.mark_unverified([KafkaPartition(topic, partition)])
                else:
                    self.note_answer(KafkaPartition(topic, partition), answer_ms, over=connection)


def wall_ms() -> int:
    """Return the time, in the clock for answers."""
    return round(time.time() * 1000)

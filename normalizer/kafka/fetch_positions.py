"""How far each partition was read, and whether its log may be another one by now.

The client says a topic by its name alone, and goes on in one that was made anew as if nothing had
happened. So answers of brokers count only as long as they hang together: each came over the same
connection as the one before it, soon after it, and no fetch failed between them. Where they do not,
the log is in doubt until somebody has compared it. Each partition is so apart from the others.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec
from aiokafka.client import ConnectionGroup
from aiokafka.errors import NotLeaderForPartitionError, UnknownTopicOrPartitionError
from aiokafka.protocol.fetch import FetchRequest

from normalizer.core.batch import LastRecord
from normalizer.kafka.connection import KafkaPartition

MAX_SILENCE_MS: Final = 2_000
"""A partition is asked for every half second. So long without an answer, and the topic may have
been made anew meanwhile: whatever comes after it waits until the log was compared."""

_TOPIC_CHANGES: Final = {NotLeaderForPartitionError.errno, UnknownTopicOrPartitionError.errno}
"""Answers that a topic that is deleted gives too; what was fetched of its other partitions may not
have been taken yet, so that no fetch of those is under way that could fail."""


class FetchPosition(msgspec.Struct):
    """How far one partition was read: moves together with the consumer's own position.

    heard_ms is the broker's last answer, heard_over the connection it came over. `doubts` is how
    often the log came into doubt since it was last compared.
    """

    incarnation: int
    next_offset: int
    last: LastRecord | None
    last_answer_ms: int
    answered_over: Any = None
    unverified_count: int = 0


class UnverifiedLog(NamedTuple):
    """A partition whose log may be another one by now, as it stood when the doubt arose."""

    partition: KafkaPartition
    next_offset: int
    last: LastRecord | None
    unverified_count: int


class FetchPositions(dict[KafkaPartition, FetchPosition]):
    """The readings of a consumer, which hears what its brokers answer. Calls `on_unverified`."""

    def __init__(self, on_unverified: Callable[[], None]) -> None:
        super().__init__()
        self._on_unverified = on_unverified

    def listen(self, client: Any) -> None:
        """Hear every answer to a fetch of this client, and of every fetch that failed.

        The consumer itself tells neither, and asks again as if nothing had happened.
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
                    for topic, asked in request.topics
                    for one in asked
                )
                raise
            connection = client._conns.get((node_id, ConnectionGroup.DEFAULT))  # noqa: SLF001 - nothing public tells
            self._take(answer, connection, wall_ms())
            return answer

        client.send = send_and_hear

    def is_trusted(self, partition: KafkaPartition) -> bool:
        """Whether it is read, and its log is not in doubt."""
        position = self.get(partition)
        return position is not None and not position.unverified_count

    def unverified(self) -> list[UnverifiedLog]:
        """Partitions whose log is to be compared before anything more of it is given out."""
        return [
            UnverifiedLog(partition, position.next_offset, position.last, position.unverified_count)
            for partition, position in self.items()
            if position.unverified_count
        ]

    def mark_verified(self, unverified_log: UnverifiedLog, *, compared_ms: int) -> None:
        """The log was the same one at that moment; a doubt that came since stays."""
        position = self.get(unverified_log.partition)
        if (
            position
            and position.unverified_count == unverified_log.unverified_count
            and position.last == unverified_log.last
        ):
            # A comparison that takes long must not be a silence: answers came meanwhile.
            position.unverified_count, position.last_answer_ms = (
                0,
                max(position.last_answer_ms, compared_ms),
            )

    def mark_unverified(self, partitions: Iterable[KafkaPartition]) -> None:
        """The logs of those that are read may be others by now."""
        found = [position for one in partitions if (position := self.get(one))]
        for position in found:
            position.unverified_count += 1
            position.answered_over = None  # the next one may be another: this doubt stands for it
        if found:
            self._on_unverified()

    def note_answer(self, partition: KafkaPartition, answer_ms: int, *, over: Any = None) -> None:
        """An answer came at this moment; a clock that was set back is a doubt too."""
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
    """The time that answers are heard at."""
    return round(time.time() * 1000)

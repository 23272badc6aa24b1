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
from normalizer.kafka.connection import Partition

UNHEARD_MS: Final = 2_000
"""A partition is asked for every half second. So long without an answer, and the topic may have
been made anew meanwhile: whatever comes after it waits until the log was compared."""

_TOPIC_CHANGES: Final = {NotLeaderForPartitionError.errno, UnknownTopicOrPartitionError.errno}
"""Answers that a topic that is deleted gives too; what was fetched of its other partitions may not
have been taken yet, so that no fetch of those is under way that could fail."""


class Reading(msgspec.Struct):
    """How far one partition was read: moves together with the consumer's own position.

    heard_ms is the broker's last answer, heard_over the connection it came over. `doubts` is how
    often the log came into doubt since it was last compared.
    """

    generation: int
    next_offset: int
    last: LastRecord | None
    heard_ms: int
    heard_over: Any = None
    doubts: int = 0


class Doubt(NamedTuple):
    """A partition whose log may be another one by now, as it stood when the doubt arose."""

    partition: Partition
    next_offset: int
    last: LastRecord | None
    doubts: int


class Readings(dict[Partition, Reading]):
    """The readings of a consumer, which hears what its brokers answer. Calls `on_doubt`."""

    def __init__(self, on_doubt: Callable[[], None]) -> None:
        super().__init__()
        self._on_doubt = on_doubt

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
                self.doubt(
                    Partition(topic, one[0]) for topic, asked in request.topics for one in asked
                )
                raise
            connection = client._conns.get((node_id, ConnectionGroup.DEFAULT))  # noqa: SLF001 - nothing public tells
            self._take(answer, connection, wall_ms())
            return answer

        client.send = send_and_hear

    def is_trusted(self, partition: Partition) -> bool:
        """Whether it is read, and its log is not in doubt."""
        reading = self.get(partition)
        return reading is not None and not reading.doubts

    def in_doubt(self) -> list[Doubt]:
        """Partitions whose log is to be compared before anything more of it is given out."""
        return [
            Doubt(partition, reading.next_offset, reading.last, reading.doubts)
            for partition, reading in self.items()
            if reading.doubts
        ]

    def trust(self, doubt: Doubt, *, compared_ms: int) -> None:
        """The log was the same one at that moment; a doubt that came since stays."""
        reading = self.get(doubt.partition)
        if reading and reading.doubts == doubt.doubts and reading.last == doubt.last:
            # A comparison that takes long must not be a silence: answers came meanwhile.
            reading.doubts, reading.heard_ms = 0, max(reading.heard_ms, compared_ms)

    def doubt(self, partitions: Iterable[Partition]) -> None:
        """The logs of those that are read may be others by now."""
        found = [reading for one in partitions if (reading := self.get(one))]
        for reading in found:
            reading.doubts += 1
            reading.heard_over = None  # the next one may be another: this doubt stands for it
        if found:
            self._on_doubt()

    def hear(self, partition: Partition, answer_ms: int, *, over: Any = None) -> None:
        """An answer came at this moment; a clock that was set back is a doubt too."""
        reading = self.get(partition)
        if reading is None:
            return
        is_late = abs(answer_ms - reading.heard_ms) > UNHEARD_MS
        if is_late or (over and reading.heard_over and over is not reading.heard_over):
            self.doubt([partition])
        reading.heard_ms, reading.heard_over = answer_ms, over or reading.heard_over

    def _take(self, answer: Any, connection: Any, answer_ms: int) -> None:
        for topic, partitions in answer.topics:
            for partition, code, *_ in partitions:
                if code in _TOPIC_CHANGES:
                    self.doubt(one for one in self if one.topic == topic)
                elif code:
                    self.doubt([Partition(topic, partition)])
                else:
                    self.hear(Partition(topic, partition), answer_ms, over=connection)


def wall_ms() -> int:
    """The time that answers are heard at."""
    return round(time.time() * 1000)

"""Keeps track of partitions whose leader doesn't answer."""

from collections.abc import Iterable

from normalizer.errors import BrokerUnavailableError
from normalizer.kafka import Bounds, GroupReader, KafkaPartition, TopicReader
from normalizer.runtime.telemetry import get_logger

_log = get_logger()


class UnreachablePartitions(dict[KafkaPartition, str]):
    """Assigned partitions to claim or verify whose leader doesn't answer, and why."""

    def __init__(self, reader: GroupReader, kafka: TopicReader) -> None:
        super().__init__()
        self._reader = reader
        self._kafka = kafka

    async def reachable_bounds(
        self, partitions: Iterable[KafkaPartition]
    ) -> dict[KafkaPartition, Bounds]:
        """Return bounds of partitions whose leader answers, in order, and add the others here."""
        wanted = sorted(partitions)
        bounds = await self._kafka.reachable_bounds(wanted)
        for partition in wanted:
            if partition not in bounds:
                self.mark(partition, BrokerUnavailableError("no leader of it answers"))
        return dict(sorted(bounds.items()))

    def mark(self, partition: KafkaPartition, why: BrokerUnavailableError) -> None:
        """Note that the leader is unreachable. Logged once."""
        if partition not in self._reader.assigned:
            return
        if partition not in self:
            _log.warning("partition_unavailable", partition=str(partition), why=str(why))
        self[partition] = str(why)

    def unmark(self, partition: KafkaPartition) -> None:
        """Note that the leader answers. Logged if it was unreachable."""
        if self.pop(partition, None):
            _log.info("partition_recovered", partition=str(partition))

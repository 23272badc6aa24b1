"""Collects chunks of partitions into one batch, without partitions whose claim was lost."""

from collections.abc import Mapping, Sequence

import msgspec

from normalizer.core.batch import Batch, Item, PartitionBatch
from normalizer.errors import FatalError
from normalizer.kafka import FetchedChunk, KafkaPartition
from normalizer.store.store import Claim


class BatchBuilder:
    """Collects one batch; counts its rows (outcomes) and bytes (of values)."""

    def __init__(self) -> None:
        self._parts: dict[KafkaPartition, _PartBuilder] = {}
        self.rows = 0
        self.value_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, claim: Claim, chunk: FetchedChunk, items: Sequence[Item]) -> None:
        """Add a chunk, read under this claim, with the outcomes of its records."""
        part = self._parts.get(chunk.partition)
        if part is None or part.claim.epoch != claim.epoch:
            part = _PartBuilder(claim, chunk.from_offset, chunk.from_offset)
            self._parts[chunk.partition] = part
        if part.next_offset != chunk.from_offset:
            raise FatalError(
                f"{chunk.partition}: the batch ends at {part.next_offset}, "
                f"the next records begin at {chunk.from_offset}"
            )
        if len(items) == chunk.next_offset - chunk.from_offset:
            part.next_offset = chunk.next_offset  # every offset is a record: no hole
        else:
            for record, _ in items:
                part.skip_to(record.offset)
                part.next_offset += 1
            part.skip_to(chunk.next_offset)
        part.items.extend(items)
        self.rows += sum([len(outcomes) for _, outcomes in items])
        self.value_bytes += sum([len(record.value or b"") for record, _ in items])

    def build(self, held: Mapping[KafkaPartition, Claim]) -> Batch:
        """Return the parts whose claim is still held; a lost partition is left to its new owner."""
        return Batch(
            parts=tuple(
                PartitionBatch(
                    topic=partition.topic,
                    incarnation=part.claim.incarnation,
                    partition=partition.partition,
                    epoch=part.claim.epoch,
                    from_offset=part.from_offset,
                    next_offset=part.next_offset,
                    items=part.items,
                    holes=tuple(part.holes),
                )
                for partition, part in sorted(self._parts.items())
                if partition in held and held[partition].epoch == part.claim.epoch
            )
        )


class _PartBuilder(msgspec.Struct):
    """One partition's part of a batch while it grows."""

    claim: Claim
    from_offset: int
    next_offset: int
    items: list[Item] = []
    holes: list[tuple[int, int]] = []

    def skip_to(self, offset: int) -> None:
        """Note the offsets from here to `offset`, if any, as a hole; adjacent holes become one."""
        if offset <= self.next_offset:
            return
        first = self.next_offset
        if self.holes and self.holes[-1][1] == first:
            first, _ = self.holes.pop()
        self.holes.append((first, offset))
        self.next_offset = offset

"""Collects records of several partitions, with their outcomes, into one batch."""

from typing import Final

import msgspec

from normalizer.core.batch import Batch, Item, PartitionBatch
from normalizer.core.decode.bounds import record_size
from normalizer.errors import ProcessStuckError

MAX_RECORD_BYTES: Final = 16 << 20
"""A batch whose records have this many bytes is full."""


class BatchBuilder:
    """Collects one batch, and counts its records, rows (outcomes), and bytes."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, int, int], _OpenPart] = {}
        self.records = 0
        self.rows = 0
        self.record_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, part: PartitionBatch) -> None:
        """Add the next offsets of a partition.

        If the partition was claimed again, its part starts over, because nothing can be written
        under the old epoch. Raises ProcessStuckError if the offsets don't follow the last ones.
        """
        into = self._parts.get(part.key)
        if into is None or into.epoch != part.epoch:
            into = _OpenPart(part.epoch, part.from_offset, part.from_offset)
            self._parts[part.key] = into
        if into.next_offset != part.from_offset:
            raise ProcessStuckError(
                f"{part.topic}[{part.partition}]: the batch expects offset {into.next_offset} "
                f"next, but the next records begin at offset {part.from_offset}"
            )
        into.items.extend(part.items)
        for first, after in part.holes:
            into.add_hole(first, after)
        into.next_offset = part.next_offset
        into.slice_records = part.slice_records
        self.records += len(part.items)
        self.rows += sum([len(outcomes) for _, outcomes in part.items])
        self.record_bytes += sum([record_size(record) for record, _ in part.items])

    def is_full(self, max_rows: int) -> bool:
        """Return whether the batch has reached its maximum number of rows or bytes."""
        return self.rows >= max_rows or self.record_bytes >= MAX_RECORD_BYTES

    def build(self) -> Batch:
        """Return the batch. Its parts are in the order in which their positions are locked."""
        return Batch(
            parts=tuple(
                PartitionBatch(
                    topic=topic,
                    incarnation=incarnation,
                    partition=partition,
                    epoch=part.epoch,
                    from_offset=part.from_offset,
                    next_offset=part.next_offset,
                    items=part.items,
                    holes=tuple(part.holes),
                    slice_records=part.slice_records,
                )
                for (topic, incarnation, partition), part in sorted(self._parts.items())
            )
        )


class _OpenPart(msgspec.Struct):
    """One partition's part of a batch, while records are being added."""

    epoch: int
    from_offset: int
    next_offset: int
    items: list[Item] = []
    holes: list[tuple[int, int]] = []
    slice_records: int | None = None

    def add_hole(self, first: int, after: int) -> None:
        """Add a hole. It's joined with the last hole if it follows that directly."""
        if self.holes and self.holes[-1][1] == first:
            first, _ = self.holes.pop()
        self.holes.append((first, after))

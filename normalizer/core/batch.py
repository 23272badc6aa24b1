"""The batch that one transaction writes: a range of offsets per partition, with outcomes.

BatchBuilder collects it.
"""

import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import msgspec

from normalizer.core.decode.record_limits import record_size
from normalizer.core.encoded_events import EventOutcome
from normalizer.core.raw_record import RawRecord
from normalizer.errors import RestartNeededError

RecordWithOutcomes = tuple[RawRecord, tuple[EventOutcome, ...]]
"""A record and its outcomes, of which there's at least one."""

MAX_BATCH_BYTES: Final = 16 << 20
"""A batch whose records have this many bytes (16 MiB) is full."""


class PartitionBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The consecutive records of one partition that a transaction writes, with their outcomes.

    They cover the offsets from `from_offset` up to, but not including, `next_offset`. Each of these
    offsets either belongs to a record in `items` or lies in one of the `holes`. A hole is a range
    of offsets without a record, for example because Kafka's compaction removed it. It's written as
    (first offset, offset after the last). Both lists are in ascending order.

    If a job reads from a source without Kafka offsets, it numbers the records itself and uses these
    numbers as offsets. `epoch` is the epoch of the partition's claim. `slice_records` is stored in
    the position, where it tells the next owner how many records this one may have been working on
    (see `PreviousOwner`).
    """

    topic: str
    incarnation: int
    partition: int
    epoch: int
    from_offset: int
    next_offset: int
    items: list[RecordWithOutcomes]
    holes: tuple[tuple[int, int], ...] = ()
    slice_records: int | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """Return (topic, incarnation, partition), the primary key of the position.

        Positions are locked in the order of this key.
        """
        return (self.topic, self.incarnation, self.partition)


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The parts that one transaction writes, at most one per partition."""

    parts: tuple[PartitionBatch, ...]

    def records_with_outcomes(self) -> Iterator[RecordWithOutcomes]:
        """Yield every record of the batch with its outcomes, one partition after the other."""
        for part in self.parts:
            yield from part.items

    def split(self) -> "tuple[Batch, Batch] | None":
        """Split the batch in two at a record, or return None if it has fewer than two records."""
        count = sum(len(part.items) for part in self.parts)
        if count < 2:
            return None
        remaining = count // 2
        first: list[PartitionBatch] = []
        second: list[PartitionBatch] = []
        for part in self.parts:
            if remaining >= len(part.items):
                first.append(part)
            elif remaining <= 0:
                second.append(part)
            else:
                head, tail = _split(part, remaining)
                first.append(head)
                second.append(tail)
            remaining -= len(part.items)
        return Batch(parts=tuple(first)), Batch(parts=tuple(second))


class BatchBuilder:
    """Collects one batch, and counts its records, rows (outcomes), and bytes."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, int, int], _OpenPart] = {}
        self.records = 0
        self.rows = 0
        self.record_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add_part(self, part: PartitionBatch) -> None:
        """Add the next offsets of a partition to the batch.

        A partition can be lost and claimed again while its batch is being collected. Its earlier
        records are then dropped from the batch, because nothing can be written under the old epoch.
        Raises RestartNeededError if the offsets don't directly follow the last ones added.
        """
        into = self._parts.get(part.key)
        if into is None or into.epoch != part.epoch:
            into = _OpenPart(part.epoch, part.from_offset, part.from_offset)
            self._parts[part.key] = into
        if into.next_offset != part.from_offset:
            raise RestartNeededError(
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
        return self.why_full(max_rows) is not None

    def why_full(self, max_rows: int) -> Literal["rows", "bytes"] | None:
        """Return the limit that the batch has reached, or None if it isn't full."""
        if self.rows >= max_rows:
            return "rows"
        return "bytes" if self.record_bytes >= MAX_BATCH_BYTES else None

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


class OutcomeTotals(msgspec.Struct, frozen=True, kw_only=True):
    """How many records, offsets in holes, and outcomes of each kind a batch has."""

    records: int = 0
    holes: int = 0
    outcomes: int = 0
    stored: int = 0
    duplicate: int = 0
    merged: int = 0
    quarantined: int = 0
    ignored: int = 0

    def __add__(self, other: "OutcomeTotals") -> "OutcomeTotals":
        return OutcomeTotals(
            **{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__}
        )


class LastRecord(NamedTuple):
    """The fields that identify the last record that was read."""

    offset: int
    recorded_ms: int | None
    crc: int


def last_record_from_raw(record: RawRecord) -> LastRecord:
    """Return the fields to store, so that the record can be recognized later."""
    return LastRecord(record.offset, record.recorded_ms, record_crc(record))


def last_record_or_none(
    offset: int | None, recorded_ms: int | None, crc: int | None
) -> LastRecord | None:
    """Return the last record from a position's columns, or None if no record was read."""
    if offset is None or crc is None:
        return None
    return LastRecord(offset, recorded_ms, crc)


def record_crc(record: RawRecord) -> int:
    """Return the CRC-32 of key and value, to check later that an offset still has this record."""
    if record.cut is not None:
        return record.cut.crc
    return zlib.crc32((record.key or b"") + b"\0" + (record.value or b""))


def holes_between(
    offsets: Sequence[int], from_offset: int, next_offset: int
) -> tuple[tuple[int, int], ...]:
    """Return the holes (first, next) between two offsets, given the offsets that have records."""
    if len(offsets) == next_offset - from_offset:
        return ()
    edges = (from_offset - 1, *offsets, next_offset)
    return tuple((before + 1, after) for before, after in pairwise(edges) if before + 1 < after)


def offset_after_records_and_holes(
    records: int, from_offset: int, holes: Sequence[tuple[int, int]]
) -> int:
    """Return the offset after this many records, and after any holes that follow them."""
    boundary = from_offset + records
    for first, after in holes:
        if first <= boundary:
            boundary += after - first
    return boundary


class _OpenPart(msgspec.Struct):
    """One partition's part of a batch, while records are being added."""

    epoch: int
    from_offset: int
    next_offset: int
    items: list[RecordWithOutcomes] = []
    holes: list[tuple[int, int]] = []
    slice_records: int | None = None

    def add_hole(self, first: int, after: int) -> None:
        """Add a hole. It's joined with the last hole if it follows that directly."""
        if self.holes and self.holes[-1][1] == first:
            first, _ = self.holes.pop()
        self.holes.append((first, after))


def _split(part: PartitionBatch, count: int) -> tuple[PartitionBatch, PartitionBatch]:
    """Return the first `count` records with the holes that follow them, and the rest."""
    boundary = offset_after_records_and_holes(count, part.from_offset, part.holes)
    head = msgspec.structs.replace(
        part,
        next_offset=boundary,
        items=part.items[:count],
        holes=tuple((first, after) for first, after in part.holes if first < boundary),
    )
    tail = msgspec.structs.replace(
        part,
        from_offset=boundary,
        items=part.items[count:],
        holes=tuple((first, after) for first, after in part.holes if first >= boundary),
    )
    return head, tail

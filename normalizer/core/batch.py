"""What one transaction writes: offsets of each partition, with the outcomes of their records."""

import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from normalizer.core.encoded_events import Outcome
from normalizer.core.raw_record import RawRecord

Item = tuple[RawRecord, tuple[Outcome, ...]]
"""A record and its outcomes, at least one."""


class PartitionBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The offsets from from_offset up to, not including, next_offset of one partition.

    Every offset in between is the record of an item or lies in a hole (first, next); both ascend.
    The records of a Kafka partition have these offsets. A job's source may count its own offsets,
    and its records have others. `epoch` is that of the claim. `slice_records` is what the position
    holds once the part is committed: see `LastTry`.
    """

    topic: str
    incarnation: int
    partition: int
    epoch: int
    from_offset: int
    next_offset: int
    items: list[Item]
    holes: tuple[tuple[int, int], ...] = ()
    slice_records: int | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """(topic, incarnation, partition): the position's primary key, and the locking order."""
        return (self.topic, self.incarnation, self.partition)


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of one transaction, at most one of each partition."""

    parts: tuple[PartitionBatch, ...]

    def items(self) -> Iterator[Item]:
        """Every record of the batch with its outcomes, partition by partition."""
        for part in self.parts:
            yield from part.items

    def split(self) -> "tuple[Batch, Batch] | None":
        """The batch cut in two at a record boundary; None for a batch of one record or none."""
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


class OutcomeTotals(msgspec.Struct, frozen=True, kw_only=True):
    """How many records, hole offsets, and outcomes of each kind a batch had."""

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
    """What identifies the last record that was read."""

    offset: int
    recorded_ms: int | None
    crc: int


def last_record(record: RawRecord) -> LastRecord:
    """What to store of a record to recognize it later."""
    return LastRecord(record.offset, record.recorded_ms, record_crc(record))


def stored_last_record(
    offset: int | None, recorded_ms: int | None, crc: int | None
) -> LastRecord | None:
    """The last record from the columns of a position; None before the first."""
    if offset is None or crc is None:
        return None
    return LastRecord(offset, recorded_ms, crc)


def record_crc(record: RawRecord) -> int:
    """CRC-32 of key and value, to check that an offset still holds the same record."""
    if record.cut is not None:
        return record.cut.crc
    return zlib.crc32((record.key or b"") + b"\0" + (record.value or b""))


def holes_between(
    offsets: Sequence[int], from_offset: int, next_offset: int
) -> tuple[tuple[int, int], ...]:
    """The holes (first, next) between two offsets that hold records at these, and no other."""
    if len(offsets) == next_offset - from_offset:
        return ()
    edges = (from_offset - 1, *offsets, next_offset)
    return tuple((before + 1, after) for before, after in pairwise(edges) if before + 1 < after)


def offset_after(records: int, from_offset: int, holes: Sequence[tuple[int, int]]) -> int:
    """The offset after this many records and after the holes before the next one."""
    boundary = from_offset + records
    for first, after in holes:
        if first <= boundary:
            boundary += after - first
    return boundary


def _split(part: PartitionBatch, count: int) -> tuple[PartitionBatch, PartitionBatch]:
    """The first `count` records with the holes before the next one, and the rest."""
    boundary = offset_after(count, part.from_offset, part.holes)
    head = msgspec.structs.replace(
        part,
        next_offset=boundary,
        items=part.items[:count],
        holes=tuple(hole for hole in part.holes if hole[0] < boundary),
    )
    tail = msgspec.structs.replace(
        part,
        from_offset=boundary,
        items=part.items[count:],
        holes=tuple(hole for hole in part.holes if hole[0] >= boundary),
    )
    return head, tail

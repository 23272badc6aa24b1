"""The batch that one transaction writes: a range of offsets per partition, with outcomes."""

import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from normalizer.core.encoded_events import Outcome
from normalizer.core.raw_record import RawRecord

Item = tuple[RawRecord, tuple[Outcome, ...]]
"""A record and its outcomes, of which there's at least one."""


class PartitionBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The offsets of one partition from from_offset up to, but not including, next_offset.

    Every offset in this range either belongs to a record of `items`, or lies in a hole, given as
    (first, next). Both lists are in ascending order. For a Kafka partition these are the records'
    own offsets, and a job's source may number its records itself. `epoch` is that of the claim.
    `slice_records` is what the position stores after the commit (see `LastTry`).
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
        """Return (topic, incarnation, partition), the primary key of the position.

        Positions are locked in the order of this key.
        """
        return (self.topic, self.incarnation, self.partition)


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The parts that one transaction writes, at most one per partition."""

    parts: tuple[PartitionBatch, ...]

    def items(self) -> Iterator[Item]:
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


def last_record(record: RawRecord) -> LastRecord:
    """Return the fields to store, so that the record can be recognized later."""
    return LastRecord(record.offset, record.recorded_ms, record_crc(record))


def stored_last_record(
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


def offset_after(records: int, from_offset: int, holes: Sequence[tuple[int, int]]) -> int:
    """Return the offset after this many records, and after any holes that follow them."""
    boundary = from_offset + records
    for first, after in holes:
        if first <= boundary:
            boundary += after - first
    return boundary


def _split(part: PartitionBatch, count: int) -> tuple[PartitionBatch, PartitionBatch]:
    """Return the first `count` records with the holes that follow them, and the rest."""
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

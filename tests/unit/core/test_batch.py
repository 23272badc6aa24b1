"""Batches: cut at record boundaries, with nothing lost and no offset twice."""

import zlib

import pytest

from normalizer.core.batch import Batch, LastRecord, last_record, record_crc
from normalizer.core.raw_record import CutValue
from tests.support.factories import (
    envelope,
    make_batch,
    make_claim,
    raw_record,
    together,
)


def pieces(batch: Batch) -> list[Batch]:
    """The batch halved until nothing can be halved."""
    split = batch.split()
    return [batch] if split is None else [*pieces(split[0]), *pieces(split[1])]


@pytest.mark.parametrize("count", [0, 1])
def test_one_record_or_none_cannot_be_halved(count: int) -> None:
    batch = make_batch(*[envelope()] * count, holes=[(5, 7), (count, 5)] if count == 0 else ())

    assert batch.split() is None


@pytest.mark.parametrize("count", [2, 3, 10, 11])
def test_halving_to_the_end_gives_every_record_once_and_in_order(count: int) -> None:
    batch = make_batch(*[envelope()] * count)

    cut = pieces(batch)

    assert [list(piece.items()) for piece in cut] == [[item] for item in batch.items()]


def test_pieces_merge_on_to_each_other_and_share_out_the_holes() -> None:
    batch = make_batch(
        *[envelope()] * 5,
        claim=make_claim(next_offset=10, epoch=3, incarnation=2),
        holes=[(10, 12), (13, 14), (16, 20), (22, 23)],
    )

    parts = [part for piece in pieces(batch) for part in piece.parts]

    assert parts[0].from_offset == 10
    assert parts[-1].next_offset == batch.parts[0].next_offset == 23
    assert [a.next_offset for a in parts[:-1]] == [b.from_offset for b in parts[1:]]
    assert [hole for part in parts for hole in part.holes] == list(batch.parts[0].holes)
    assert {(part.epoch, part.key) for part in parts} == {(3, ("noetl.events", 2, 0))}


def test_halving_takes_whole_partitions_where_it_can() -> None:
    batch = together(
        make_batch(envelope(), envelope(), claim=make_claim(0)),
        make_batch(envelope(), envelope(), claim=make_claim(1)),
    )

    first, second = batch.split() or (batch, batch)

    assert first.parts == batch.parts[:1]
    assert second.parts == batch.parts[1:]


def test_a_partition_of_holes_alone_stays_whole_and_is_in_one_half_only() -> None:
    batch = together(
        make_batch(claim=make_claim(0), holes=[(0, 4)]),
        make_batch(envelope(), envelope(), claim=make_claim(1)),
        make_batch(claim=make_claim(2), holes=[(0, 9)]),
    )

    parts = [part for piece in pieces(batch) for part in piece.parts]

    assert [part.partition for part in parts] == [0, 1, 1, 2]
    assert parts[0] == batch.parts[0]
    assert parts[-1] == batch.parts[2]


def test_a_record_is_known_again_by_its_offset_time_and_crc() -> None:
    record = raw_record(7, recorded_ms=5, key=b"a", value=b"b")

    assert last_record(record) == LastRecord(7, 5, zlib.crc32(b"a\0b"))


def test_the_crc_tells_key_from_value() -> None:
    assert record_crc(raw_record(key=b"a", value=b"b")) == zlib.crc32(b"a\0b")
    assert record_crc(raw_record(key=b"ab", value=b"")) != record_crc(
        raw_record(key=b"a", value=b"b")
    )


def test_a_record_that_was_cut_has_the_checksum_of_the_whole_one() -> None:
    cut = CutValue(value_bytes=9, record_bytes=9, sha256=b"s", crc=7)

    assert record_crc(raw_record(value=b"begin", cut=cut)) == 7

"""Batches: what must stay out of them, and cut with nothing lost and no offset twice."""

import zlib

import pytest

from normalizer.consumer.chunk_normalizer import only_current_claims
from normalizer.core.batch import (
    MAX_BATCH_BYTES,
    Batch,
    BatchBuilder,
    LastRecord,
    RecordWithOutcomes,
    last_record_from_raw,
    record_crc,
)
from normalizer.core.raw_record import OversizedRecordFacts
from normalizer.errors import RestartNeededError
from normalizer.kafka import KafkaPartition
from normalizer.store.claim import Claim
from tests.support.factories import (
    TOPIC,
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

    assert [list(piece.records_with_outcomes()) for piece in cut] == [
        [item] for item in batch.records_with_outcomes()
    ]


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

    assert last_record_from_raw(record) == LastRecord(7, 5, zlib.crc32(b"a\0b"))


def test_the_crc_tells_key_from_value() -> None:
    assert record_crc(raw_record(key=b"a", value=b"b")) == zlib.crc32(b"a\0b")
    assert record_crc(raw_record(key=b"ab", value=b"")) != record_crc(
        raw_record(key=b"a", value=b"b")
    )


def test_a_record_that_was_cut_has_the_checksum_of_the_whole_one() -> None:
    cut = OversizedRecordFacts(value_bytes=9, record_bytes=9, sha256=b"s", crc=7)

    assert record_crc(raw_record(value=b"begin", cut=cut)) == 7


ZERO = KafkaPartition(TOPIC, 0)


def add(builder: BatchBuilder, *offsets: int, first: int, after: int, epoch: int = 1) -> None:
    items: list[RecordWithOutcomes] = [
        (raw_record(offset), (envelope(offset),)) for offset in offsets
    ]
    builder.add_part(make_claim(epoch=epoch).make_part(first, after, items))


def test_records_in_a_row_leave_no_hole() -> None:
    builder = BatchBuilder()

    add(builder, 0, 1, first=0, after=2)
    add(builder, 2, first=2, after=3)

    (part,) = builder.build().parts
    assert (part.from_offset, part.next_offset, part.holes) == (0, 3, ())
    assert [record.offset for record, _ in part.items] == [0, 1, 2]


def test_holes_that_touch_are_one() -> None:
    builder = BatchBuilder()

    add(builder, 0, first=0, after=3)
    add(builder, first=3, after=5)
    add(builder, 6, first=5, after=7)

    (part,) = builder.build().parts
    assert part.holes == ((1, 6),)
    assert part.next_offset == 7


def test_an_offset_range_without_a_record_is_a_part_too() -> None:
    builder = BatchBuilder()

    add(builder, first=3, after=5)

    (part,) = builder.build().parts
    assert (part.items, part.holes) == ([], ((3, 5),))


@pytest.mark.parametrize("held", [{}, {ZERO: make_claim(epoch=2)}])
def test_records_of_a_lost_claim_are_left_out(held: dict[KafkaPartition, Claim]) -> None:
    builder = BatchBuilder()

    add(builder, 0, first=0, after=1)

    assert len(only_current_claims(builder.build(), {ZERO: make_claim()}).parts) == 1
    assert only_current_claims(builder.build(), held).parts == ()


def test_a_partition_claimed_again_begins_again() -> None:
    builder = BatchBuilder()

    add(builder, 0, 1, first=0, after=2)
    add(builder, 0, first=0, after=1, epoch=2)

    (part,) = builder.build().parts
    assert (part.epoch, part.from_offset, part.next_offset) == (2, 0, 1)


def test_offsets_that_do_not_meet_are_rejected() -> None:
    builder = BatchBuilder()
    add(builder, 0, first=0, after=1)

    with pytest.raises(RestartNeededError, match="expects offset 1 next"):
        add(builder, 2, first=2, after=3)


def test_it_is_full_of_rows_or_of_bytes() -> None:
    builder = BatchBuilder()
    add(builder, 0, 1, first=0, after=2)

    assert builder.record_bytes > 0
    assert builder.is_full(2)
    assert not builder.is_full(3)
    builder.record_bytes = MAX_BATCH_BYTES
    assert builder.is_full(3)

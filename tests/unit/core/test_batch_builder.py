"""A batch while it fills: holes between records, and what must stay out of it."""

import pytest

from normalizer.consumer.intake import claimed_parts
from normalizer.core.batch import Item
from normalizer.core.batch_builder import MAX_RECORD_BYTES, BatchBuilder
from normalizer.errors import ProcessStuckError
from normalizer.kafka import KafkaPartition
from normalizer.store.store import Claim
from tests.support.factories import TOPIC, envelope, make_claim, raw_record

ZERO = KafkaPartition(TOPIC, 0)


def add(builder: BatchBuilder, *offsets: int, first: int, after: int, epoch: int = 1) -> None:
    items: list[Item] = [(raw_record(offset), (envelope(offset),)) for offset in offsets]
    builder.add(make_claim(epoch=epoch).part(first, after, items))


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

    assert len(claimed_parts(builder.build(), {ZERO: make_claim()}).parts) == 1
    assert claimed_parts(builder.build(), held).parts == ()


def test_a_partition_claimed_again_begins_again() -> None:
    builder = BatchBuilder()

    add(builder, 0, 1, first=0, after=2)
    add(builder, 0, first=0, after=1, epoch=2)

    (part,) = builder.build().parts
    assert (part.epoch, part.from_offset, part.next_offset) == (2, 0, 1)


def test_offsets_that_do_not_meet_are_rejected() -> None:
    builder = BatchBuilder()
    add(builder, 0, first=0, after=1)

    with pytest.raises(ProcessStuckError, match="expects offset 1 next"):
        add(builder, 2, first=2, after=3)


def test_it_is_full_of_rows_or_of_bytes() -> None:
    builder = BatchBuilder()
    add(builder, 0, 1, first=0, after=2)

    assert builder.record_bytes > 0
    assert builder.is_full(2)
    assert not builder.is_full(3)
    builder.record_bytes = MAX_RECORD_BYTES
    assert builder.is_full(3)

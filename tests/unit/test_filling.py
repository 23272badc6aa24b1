"""A batch while it fills: holes between records, and what must stay out of it."""

import pytest

from normalizer.core.batch import Item
from normalizer.errors import FatalError
from normalizer.kafka import Chunk, Partition
from normalizer.service.filling import Filling
from normalizer.store.store import Claim
from tests.factories import TOPIC, envelope, raw_record

ZERO = Partition(TOPIC, 0)


def claim(epoch: int = 1, *, next_offset: int = 0) -> Claim:
    return Claim(
        topic=TOPIC,
        generation=0,
        partition=0,
        epoch=epoch,
        next_offset=next_offset,
        cluster_id="c",
        last_offset=None,
        last_recorded_ms=None,
        last_crc=None,
    )


def add(filling: Filling, *offsets: int, first: int, after: int, epoch: int = 1) -> None:
    items: list[Item] = [(raw_record(offset), (envelope(offset),)) for offset in offsets]
    chunk = Chunk(
        partition=ZERO,
        from_offset=first,
        next_offset=after,
        records=[record for record, _ in items],
    )
    filling.add(claim(epoch), chunk, items)


def test_an_empty_filling_seals_to_an_empty_batch() -> None:
    filling = Filling()

    assert not filling
    assert filling.sealed({ZERO: claim()}).parts == ()


def test_records_in_a_row_leave_no_hole() -> None:
    filling = Filling()

    add(filling, 0, 1, first=0, after=2)
    add(filling, 2, first=2, after=3)

    (part,) = filling.sealed({ZERO: claim()}).parts
    assert (part.from_offset, part.next_offset, part.holes) == (0, 3, ())
    assert [record.offset for record, _ in part.items] == [0, 1, 2]


def test_every_jump_of_offsets_is_a_hole() -> None:
    filling = Filling()

    add(filling, 7, 10, first=5, after=14)

    (part,) = filling.sealed({ZERO: claim()}).parts
    assert part.holes == ((5, 7), (8, 10), (11, 14))


def test_holes_that_touch_are_one() -> None:
    filling = Filling()

    add(filling, 0, first=0, after=3)
    add(filling, first=3, after=5)
    add(filling, 6, first=5, after=7)

    (part,) = filling.sealed({ZERO: claim()}).parts
    assert part.holes == ((1, 6),)
    assert part.next_offset == 7


def test_a_stretch_without_a_record_is_a_part_too() -> None:
    filling = Filling()

    add(filling, first=3, after=5)

    (part,) = filling.sealed({ZERO: claim()}).parts
    assert (part.items, part.holes) == ([], ((3, 5),))


def test_rows_count_outcomes_and_bytes_count_values() -> None:
    filling = Filling()
    record = raw_record(0, b"x" * 10)
    chunk = Chunk(partition=ZERO, from_offset=0, next_offset=1, records=[record])

    filling.add(claim(), chunk, [(record, (envelope(), envelope(), envelope()))])

    assert (filling.rows, filling.value_bytes) == (3, 10)


@pytest.mark.parametrize("held", [{}, {ZERO: claim(2)}])
def test_what_was_read_under_a_lost_claim_stays_out(held: dict[Partition, Claim]) -> None:
    filling = Filling()

    add(filling, 0, first=0, after=1)

    assert filling.sealed(held).parts == ()


def test_a_partition_claimed_again_begins_anew() -> None:
    filling = Filling()

    add(filling, 0, 1, first=0, after=2)
    add(filling, 0, first=0, after=1, epoch=2)

    (part,) = filling.sealed({ZERO: claim(2)}).parts
    assert (part.epoch, part.from_offset, part.next_offset) == (2, 0, 1)


def test_chunks_that_do_not_meet_are_refused() -> None:
    filling = Filling()
    add(filling, 0, first=0, after=1)

    with pytest.raises(FatalError, match="ends at 1"):
        add(filling, 2, first=2, after=3)

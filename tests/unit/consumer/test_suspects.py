"""How few owners die of one record, and how few slices a false alarm costs."""

from collections.abc import Iterator
from typing import Final

import msgspec
import pytest

from normalizer.consumer.suspects import (
    BLAMED_RECORD_WAIT_S,
    MAX_SLICE_RECORDS,
    RECORDS_UNTIL_CLEARED,
    SuspectPartitions,
)
from normalizer.core.previous_owner import (
    SLICE_CODE_ALONE,
    SLICE_CODE_BLAMED,
    SLICE_CODE_ONE_RECORD,
    PreviousOwner,
)
from normalizer.kafka import KafkaPartition
from tests.support.factories import TOPIC, make_claim

WHERE: Final = KafkaPartition(TOPIC, 0)
BATCH: Final = 5_000
LOG_END: Final = 20_000


class Partition:
    """A partition, its stored position, and owners that read it one after the other."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self.last_try = PreviousOwner()
        self.owners = 0
        self.slices: list[int] = []
        """The sizes of all transactions of the last owner."""

    def read(self, *, dies_at: int | None = None, dies_after: int | None = None) -> bool:
        """Let another owner read to the end. Returns whether it survived.

        It dies with the record at this offset in hand, or after that number of transactions.
        """
        self.owners += 1
        holder = f"owner {self.owners}"
        found = self.last_try.slice_records
        stored = self.last_try.slice_records_for(holder, next_offset=self.position, log_end=LOG_END)
        self.last_try = PreviousOwner(holder=holder, slice_records=stored)
        claim = make_claim(next_offset=self.position, slice_records=stored, found_slice=found)
        now_s = [0.0]
        suspects = SuspectPartitions(lambda: now_s[0])
        suspects.add_if_suspect(WHERE, claim, LOG_END)
        now_s[0] += BLAMED_RECORD_WAIT_S
        self.slices = []
        while self.position < LOG_END:
            size = self._take(suspects, len(self.slices) == dies_after)
            if len(self.slices) == dies_after:
                return False
            end = min(self.position + size, LOG_END)
            if dies_at is not None and self.position <= dies_at < end:
                return False
            self.slices.append(end - self.position)
            self._set(suspects.add_to_slice(claim, end - self.position, end))
            suspects.note_commit(WHERE, end - self.position, end)
            self.position = end
        return True

    def _take(self, suspects: SuspectPartitions, is_last: bool) -> int:
        for alone in (True, False):
            for _, size in suspects.due_suspects(alone=alone):
                if alone and not suspects[WHERE].is_blamed:
                    self._set(SLICE_CODE_ALONE)
                return size
        assert not suspects or is_last
        return BATCH

    def _set(self, slice_records: int | None) -> None:
        self.last_try = msgspec.structs.replace(self.last_try, slice_records=slice_records)


def _killers() -> Iterator[int]:
    yield from range(2_001)
    yield from range(2_001, 6_000, 97)


@pytest.mark.parametrize("start", [0, 7])
def test_at_most_five_owners_die_until_the_record_is_named(start: int) -> None:
    worst = 0
    for killer in _killers():
        partition = Partition(start)
        deaths = 0
        while not (partition.position == killer + start and _is_named(partition)):
            assert not partition.read(dies_at=killer + start)
            deaths += 1
            assert deaths < 20
        worst = max(worst, deaths if killer <= 2_000 else 0)

    assert worst == 5


def _is_named(partition: Partition) -> bool:
    """Whether the next owner names the record."""
    position, last_try = partition.position, partition.last_try
    return (
        last_try.slice_records_for("next", next_offset=position, log_end=LOG_END)
        == SLICE_CODE_BLAMED
    )


def test_suspect_is_read_in_growing_slices_until_2000_records_are_committed() -> None:
    partition = Partition()
    partition.read(dies_after=0)

    assert partition.read()

    suspected = [size for size in partition.slices if size != BATCH][:-1]
    assert suspected[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert max(suspected) == MAX_SLICE_RECORDS
    assert RECORDS_UNTIL_CLEARED <= sum(suspected) < RECORDS_UNTIL_CLEARED + MAX_SLICE_RECORDS
    assert partition.last_try.slice_records is None


@pytest.mark.parametrize("slices", range(16))
def test_owner_after_a_kill_at_any_moment_reads_in_few_slices(slices: int) -> None:
    """Whether it was killed within a large slice or within one of a single record."""
    partition = Partition()
    partition.read(dies_after=0)
    partition.read(dies_after=slices)

    assert partition.read()

    assert len(partition.slices) <= 90
    assert partition.slices[:1] == [1]


def test_record_is_cleared_that_was_in_hand_alone_and_kills_nobody() -> None:
    partition = Partition()
    for _ in range(3):
        partition.read(dies_after=0)
    assert _is_named(partition)

    assert partition.read()

    assert partition.slices[:3] == [1, 2, 4]


def test_blamed_record_waits_while_others_are_read() -> None:
    now_s = [0.0]
    suspects = SuspectPartitions(lambda: now_s[0])
    suspects.add_if_suspect(
        WHERE, make_claim(slice_records=SLICE_CODE_BLAMED, found_slice=SLICE_CODE_ALONE), LOG_END
    )

    assert [*suspects.due_suspects(alone=True), *suspects.due_suspects(alone=False)] == []
    now_s[0] = BLAMED_RECORD_WAIT_S
    assert [*suspects.due_suspects(alone=True)] == [(WHERE, 1)]


def test_one_slice_is_in_hand_at_a_time_and_the_next_turn_is_anothers() -> None:
    suspects = SuspectPartitions(lambda: 0.0)
    both = [KafkaPartition(TOPIC, 0), KafkaPartition(TOPIC, 1)]
    claims = [make_claim(one.partition, slice_records=SLICE_CODE_ONE_RECORD) for one in both]
    for where, claim in zip(both, claims, strict=True):
        suspects.add_if_suspect(where, claim, LOG_END)

    suspects.begin_slice(both[0])
    assert [where for where, _ in suspects.due_suspects(alone=False)] == [both[1]]
    assert suspects.add_to_slice(claims[0], 1, 1) == SLICE_CODE_ONE_RECORD + 1
    suspects.note_commit(both[0], 1, 1)

    assert [*suspects.due_suspects(alone=False)] == [(both[1], 1), (both[0], 2)]


def test_holes_commit_no_record_and_make_no_slice_larger() -> None:
    suspects = SuspectPartitions(lambda: 0.0)
    claim = make_claim(slice_records=SLICE_CODE_ONE_RECORD)
    suspects.add_if_suspect(WHERE, claim, LOG_END)

    suspects.note_commit(WHERE, 0, 5)

    assert [*suspects.due_suspects(alone=False)] == [(WHERE, 1)]


def test_records_of_an_earlier_claim_count_for_nothing() -> None:
    suspects = SuspectPartitions(lambda: 0.0)
    suspects.add_if_suspect(WHERE, make_claim(slice_records=SLICE_CODE_ONE_RECORD), LOG_END)

    assert suspects.add_to_slice(make_claim(epoch=0), 1, 1) is None
    assert [*suspects.due_suspects(alone=False)] == [(WHERE, 1)]


@pytest.mark.parametrize(
    ("last_try", "next_offset", "log_end", "stored"),
    [
        (PreviousOwner(), 5, 9, None),
        (PreviousOwner(holder="killed"), 5, 9, SLICE_CODE_ONE_RECORD),
        (PreviousOwner(holder="killed"), 9, 9, None),  # it had nothing to read
        (PreviousOwner(holder="killed"), 5, None, None),  # a caller that doesn't judge
        (PreviousOwner(holder="me"), 5, 9, None),  # the answer to the COMMIT of its claim was lost
        (PreviousOwner(holder="killed", slice_records=64), 5, 9, SLICE_CODE_ONE_RECORD),
        (PreviousOwner(holder=None, slice_records=64), 5, 9, SLICE_CODE_ONE_RECORD),
        (PreviousOwner(holder="killed", slice_records=SLICE_CODE_ALONE), 5, 9, SLICE_CODE_BLAMED),
        (PreviousOwner(holder="me", slice_records=SLICE_CODE_ALONE), 5, 9, SLICE_CODE_ONE_RECORD),
        (PreviousOwner(holder=None, slice_records=SLICE_CODE_ALONE), 5, 9, SLICE_CODE_ONE_RECORD),
        (PreviousOwner(holder=None, slice_records=SLICE_CODE_BLAMED), 5, 9, SLICE_CODE_BLAMED),
    ],
)
def test_claim_keeps_what_the_last_try_says_and_adds_that_its_owner_was_killed(
    last_try: PreviousOwner, next_offset: int, log_end: int | None, stored: int | None
) -> None:
    assert last_try.slice_records_for("me", next_offset=next_offset, log_end=log_end) == stored

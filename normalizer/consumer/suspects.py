"""Suspects: partitions whose last owner was killed, perhaps by a record that it was processing.

A suspect is read in slices of 1, 2, 4, ... records. Each batch has at most one slice of each
suspect, besides the records of healthy partitions. If the owner is killed while it works on a
slice, the next owner reads the same records in smaller slices. In the end one record is processed
alone, and if that kills the owner too, the record is to blame. The position stores the size of the
slice, so that the next owner knows it (see `PreviousOwner`).
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from normalizer.core.previous_owner import SLICE_CODE_BLAMED, SLICE_CODE_ONE_RECORD
from normalizer.kafka import KafkaPartition
from normalizer.runtime.logging_setup import get_logger
from normalizer.store.claim import Claim

RECORDS_UNTIL_CLEARED: Final = 2_000
"""After this many committed records, a partition is no longer a suspect."""
MAX_SLICE_RECORDS: Final = 512
"""The most records of a slice. A slice that was committed is followed by one twice as large."""
SLICE_SPLIT_PARTS: Final = 64
"""If an owner died in a slice, split the slice into about this many smaller ones."""
BLAMED_RECORD_WAIT_S: Final = 2.0
"""How long to wait before a record that's to blame. Meanwhile the process reads its other
partitions, and /readyz names the record, because the record may kill the process."""

_log: Final = get_logger()


class _SuspectPartition(msgspec.Struct, frozen=True, kw_only=True):
    """A partition that is read in small slices, because its last owner was killed.

    - `size` is the number of records in the next slice.
    - `within` is how many of the next records are under suspicion, because the one that killed an
      owner may be among them. Slices of these records have at most `most` records.
    - `must_be_alone` means that the process may work on nothing else at the same time.
    - `due_s` is the time from which on it may be fetched.
    - `left` is how many more records must be committed until the partition is no longer a suspect.
    - `end` is where the log ended when the partition was claimed. No earlier owner can have read
      further, so once everything before it is committed, the partition is no longer a suspect
      either.
    """

    claim: Claim
    end: int
    due_s: float
    most: int
    within: int
    must_be_alone: bool
    size: int = 1
    left: int = RECORDS_UNTIL_CLEARED

    @property
    def is_blamed(self) -> bool:
        """Return whether an owner died while it processed the next record and nothing else."""
        return self.claim.slice_records == SLICE_CODE_BLAMED and self.left == RECORDS_UNTIL_CLEARED

    @property
    def must_run_alone(self) -> bool:
        """Return whether the next record must be processed alone."""
        return self.must_be_alone and self.within > 0

    def after(self, records: int, next_offset: int) -> "_SuspectPartition | None":
        """Return the suspect once this many more records are committed, or None if it's cleared."""
        if records >= self.left or next_offset >= self.end:
            return None
        within = max(self.within - records, 0)
        grown = 2 * self.size if records else self.size
        return msgspec.structs.replace(
            self,
            within=within,
            size=min(grown, self.most if within else MAX_SLICE_RECORDS),
            left=self.left - records,
        )


class SuspectPartitions(dict[KafkaPartition, _SuspectPartition]):
    """The suspects among the claimed partitions. The one that has waited longest comes first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._in_hand: dict[KafkaPartition, int] = {}
        """How many records of each suspect's slice were added to a batch so far, from its fetch to
        its commit."""

    def add_if_suspect(self, partition: KafkaPartition, claim: Claim, log_end: int) -> None:
        """Add a partition if its claim says that its last owner was killed."""
        self.drop(partition)
        if claim.slice_records is None:
            return
        found = claim.found_slice
        # SLICE_CODE_BLAMED, SLICE_CODE_ALONE, and SLICE_CODE_ONE_RECORD all mean that the last
        # owner worked on one record at most.
        must_be_alone = found is not None and found <= SLICE_CODE_ONE_RECORD
        wait_s = BLAMED_RECORD_WAIT_S if claim.slice_records == SLICE_CODE_BLAMED else 0.0
        self[partition] = _SuspectPartition(
            claim=claim,
            end=log_end,
            due_s=self._clock() + wait_s,
            most=max((found or 0) // SLICE_SPLIT_PARTS, 1),
            within=1 if must_be_alone else found or 0,
            must_be_alone=must_be_alone,
        )
        if self[partition].is_blamed:
            _log.error(
                "record.blamed",
                partition=str(partition),
                offset=claim.next_offset,
                why="a process was killed while it processed this record and no other",
            )

    def drop(self, partition: KafkaPartition) -> None:
        """Forget a partition whose claim has ended, or that is no longer a suspect."""
        self.pop(partition, None)
        self._in_hand.pop(partition, None)

    def clear(self) -> None:
        """Forget all partitions."""
        super().clear()
        self._in_hand.clear()

    def due_suspects(self, *, alone: bool) -> Iterator[tuple[KafkaPartition, int]]:
        """Yield each suspect that may be fetched now, with the size of its next slice.

        If `alone` is True, only suspects whose next record must be processed alone are yielded.
        Otherwise all others are.
        """
        now_s = self._clock()
        for partition, suspect in [*self.items()]:
            is_free = partition not in self._in_hand and suspect.due_s <= now_s
            if is_free and suspect.must_run_alone == alone:
                yield partition, suspect.size

    def begin_slice(self, partition: KafkaPartition) -> None:
        """Begin the partition's next slice, which was fetched.

        Nothing more of the partition is fetched until the slice is committed.
        """
        self._in_hand[partition] = 0

    def add_to_slice(self, claim: Claim, records: int, next_offset: int) -> int | None:
        """Add records to the partition's current slice, and return the number to store with them.

        It's stored in the position as `slice_records` (see `PreviousOwner`). Returns None if the
        partition is no longer a suspect once these records are committed.
        """
        partition = KafkaPartition(claim.topic, claim.partition)
        suspect = self.get(partition)
        if suspect is None or suspect.claim is not claim:
            return None
        self._in_hand[partition] = taken = self._in_hand.get(partition, 0) + records
        after = suspect.after(taken, next_offset)
        if after is None:
            return None
        # After this commit the process works on the next slice, so store that one's size. A slice
        # of two records is stored as 3, because 2 is SLICE_CODE_ONE_RECORD.
        return (
            SLICE_CODE_ONE_RECORD if after.size == 1 else max(after.size, SLICE_CODE_ONE_RECORD + 1)
        )

    def note_commit(self, partition: KafkaPartition, records: int, next_offset: int) -> None:
        """Note that a slice with this number of records was committed."""
        suspect = self.get(partition)
        if suspect is None:
            return
        self.drop(partition)
        # Drop the suspect and add it again. That puts it behind the others, so each of them gets
        # its turn.
        if after := suspect.after(records, next_offset):
            self[partition] = after

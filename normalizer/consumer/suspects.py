"""Partitions whose last owner was killed, perhaps by one of the records that it was processing.

A suspect is read in slices of 1, 2, 4, ... records, at most one of its slices in each batch.
Suspects share batches with each other and with healthy partitions. If an owner dies within a slice,
the next one takes a fraction of that slice at a time, until one record remains that was processed
alone. That record is to blame. The position remembers the size (see `LastTry`).
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from normalizer.core.last_try import BLAMED, SHARED
from normalizer.kafka import KafkaPartition
from normalizer.runtime.telemetry import get_logger
from normalizer.store.store import Claim

RECORDS_UNTIL_CLEARED: Final = 2_000
LARGEST_SLICE: Final = 512
PARTS: Final = 64
"""Split a slice in which an owner died into about this many parts."""
BLAMED_WAIT_S: Final = 2.0
"""How long to wait before a record that's to blame. The process reads its other partitions in the
meantime, and /readyz names the record, because it may kill the process."""

_log: Final = get_logger()


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """A partition whose next slice has `size` records, at most `most` of the next `within`.

    With `must_be_alone`, the process may work on nothing else at the same time. The partition is
    cleared once `left` more of its records are committed, or all before `end`, the end of the log
    at its claim, because no earlier owner has read further.
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
        """Return whether an owner died while it processed the next record and no other."""
        return self.claim.slice_records == BLAMED and self.left == RECORDS_UNTIL_CLEARED

    @property
    def is_alone(self) -> bool:
        """Return whether the next record must be processed alone."""
        return self.must_be_alone and self.within > 0

    def after(self, records: int, next_offset: int) -> "Suspect | None":
        """Return the suspect after this many more committed records, or None if it's cleared."""
        if records >= self.left or next_offset >= self.end:
            return None
        within = max(self.within - records, 0)
        grown = 2 * self.size if records else self.size
        return msgspec.structs.replace(
            self,
            within=within,
            size=min(grown, self.most if within else LARGEST_SLICE),
            left=self.left - records,
        )


class Suspects(dict[KafkaPartition, Suspect]):
    """The suspects among the claimed partitions. The one that has waited longest comes first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._in_hand: dict[KafkaPartition, int] = {}
        """The number of each slice's records that are being processed, from fetch to commit."""

    def add(self, partition: KafkaPartition, claim: Claim, log_end: int) -> None:
        """Add a partition if its claim says that it's a suspect."""
        self.drop(partition)
        if claim.slice_records is None:
            return
        found = claim.found_slice
        must_be_alone = found is not None and found <= SHARED
        wait_s = BLAMED_WAIT_S if claim.slice_records == BLAMED else 0.0
        self[partition] = Suspect(
            claim=claim,
            end=log_end,
            due_s=self._clock() + wait_s,
            most=max((found or 0) // PARTS, 1),
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
        """Forget a partition whose claim was lost."""
        self.pop(partition, None)
        self._in_hand.pop(partition, None)

    def clear(self) -> None:
        """Forget all partitions."""
        super().clear()
        self._in_hand.clear()

    def due(self, *, alone: bool) -> Iterator[tuple[KafkaPartition, int]]:
        """Yield the suspects that may be fetched, and the most records to fetch from each."""
        now_s = self._clock()
        for partition, suspect in [*self.items()]:
            is_free = partition not in self._in_hand and suspect.due_s <= now_s
            if is_free and suspect.is_alone == alone:
                yield partition, suspect.size

    def note_fetched(self, partition: KafkaPartition) -> None:
        """Note that a slice was fetched. The partition gets no other one until its commit."""
        self._in_hand[partition] = 0

    def take(self, claim: Claim, records: int, next_offset: int) -> int | None:
        """Add records to the current slice. Returns what the position holds after their commit."""
        partition = KafkaPartition(claim.topic, claim.partition)
        suspect = self.get(partition)
        if suspect is None or suspect.claim is not claim:
            return None
        self._in_hand[partition] = taken = self._in_hand.get(partition, 0) + records
        after = suspect.after(taken, next_offset)
        if after is None:
            return None
        return SHARED if after.size == 1 else max(after.size, SHARED + 1)

    def note_commit(self, partition: KafkaPartition, records: int, next_offset: int) -> None:
        """Note that a slice of this number of records was committed."""
        suspect = self.get(partition)
        if suspect is None:
            return
        self.drop(partition)
        if after := suspect.after(records, next_offset):
            self[partition] = after

"""Partitions that made no progress under several claims; their records may kill the process."""

from typing import Final

import msgspec

from normalizer.kafka import KafkaPartition
from normalizer.store.store import Claim
from normalizer.telemetry import get_logger

CLAIMS_WITHOUT_A_MOVE: Final = 3
"""After this many claims without progress its records may kill, or seem to kill, the process."""
RECORDS_ONE_BY_ONE: Final = 2_000

_log: Final = get_logger()


class Suspect(msgspec.Struct):
    """A partition without progress: its next offset, and where reading by single records ends."""

    offset: int
    until: int


class Suspects(dict[KafkaPartition, Suspect]):
    """The suspect partitions of this process; their records are written one by one."""

    def __init__(self) -> None:
        super().__init__()
        self._own_claims: dict[KafkaPartition, tuple[int, int]] = {}
        """The offset at which this process claimed each partition last, and how often."""

    def note_progress(self, partition: KafkaPartition, next_offset: int) -> None:
        """Note that a batch was written up to this offset."""
        suspect = self.get(partition)
        if suspect is not None and next_offset >= suspect.until:
            del self[partition]

    def note_claim(self, partition: KafkaPartition, claim: Claim) -> None:
        """Note that this process claimed the partition, whatever comes of the claim."""
        offset, times = self._own_claims.get(partition, (claim.next_offset, 0))
        times = times if offset == claim.next_offset else 0
        self._own_claims[partition] = claim.next_offset, times + 1

    def add_if_stalled(self, partition: KafkaPartition, claim: Claim, log_end: int) -> None:
        """Mark a partition that has records, but made no progress under several claims.

        Of this process's claims one counts: it lives, so its records have not ended it.
        """
        _, times = self._own_claims[partition]
        claims = claim.epoch - claim.moved_epoch - times + 1
        if claims < CLAIMS_WITHOUT_A_MOVE or claim.next_offset >= log_end:
            return
        until = min(log_end, claim.next_offset + RECORDS_ONE_BY_ONE)
        self[partition] = Suspect(offset=claim.next_offset, until=until)
        _log.error(
            "partition_stalled",
            partition=str(partition),
            next_offset=claim.next_offset,
            claims=claims,
            why="each owner ended, or seemed dead, while it had these records: "
            "they are read one by one",
        )

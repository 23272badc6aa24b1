"""The results of the ledger check: a verdict on each partition, and on each run of a job.

`str` of a verdict is the line that `normalizer ledger verify` prints.
"""

import msgspec

from normalizer.core.batch import LastRecord, OutcomeTotals, last_record_or_none

PartitionKey = tuple[str, int, int]
"""(topic, incarnation, partition)."""


JobRunKey = tuple[str, int]
"""(job_id, run)."""


class LedgerPosition(OutcomeTotals, frozen=True, kw_only=True):
    """A row of source_positions: the position of a partition, and its running totals."""

    topic: str
    incarnation: int
    partition: int
    cluster_id: str
    start_offset: int
    next_offset: int
    read_to: int
    rewound: int
    last_offset: int | None
    last_recorded_ms: int | None
    last_crc: int | None
    is_newest: bool

    @property
    def last_record(self) -> LastRecord | None:
        """Return the last record that was read, or None if none was."""
        return last_record_or_none(self.last_offset, self.last_recorded_ms, self.last_crc)

    @property
    def partition_key(self) -> PartitionKey:
        """Return (topic, incarnation, partition)."""
        return (self.topic, self.incarnation, self.partition)


class PartitionVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger check found out about one partition.

    Each sentence in `wrong` begins with its kind (LOST, MORE, RECREATED, ANOTHER CLUSTER, or
    UNREADABLE) and makes the command exit with 1. `unverified` counts offsets in gaps that are
    older than the log's beginning, where nobody can tell any more whether there was a record.
    """

    position: LedgerPosition
    wrong: tuple[str, ...]
    unverified: int
    skipped: int

    def __str__(self) -> str:
        at = self.position
        again = f", {at.rewound} set back, to be read again" if at.rewound else ""
        result = [*self.wrong] or ["explained"]
        if self.unverified:
            result.append(
                f"{self.unverified} offsets cannot be checked, because they are older than the log"
            )
        if self.skipped:
            result.append(f"{self.skipped} offsets were skipped by an operator")
        return (
            f"{at.topic}[{at.partition}] incarnation {at.incarnation}: "
            f"offsets {at.start_offset} to {at.next_offset}: {at.records} records, "
            f"{at.holes} in gaps{again}; {at.outcomes} outcomes: {at.stored} stored, "
            f"{at.duplicate} duplicate, {at.merged} merged, {at.quarantined} quarantined, "
            f"{at.ignored} ignored: {'; '.join(result)}"
        )


class JobRunVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one run of a job. `wrong` is as in a PartitionVerdict."""

    job_id: str
    run: int
    spec: str
    stored: int
    quarantined: int
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        result = [*self.wrong] or ["explained"]
        return (
            f"job {self.job_id} run {self.run}, {self.spec}: {self.stored} stored, "
            f"{self.quarantined} quarantined: {'; '.join(result)}"
        )

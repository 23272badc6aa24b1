"""Keeps the state of each partition: whether this process may read and write it, and why not.

`partition_state` has the table of states, and `partition_claimer` talks to PostgreSQL and Kafka.
Nothing in this module awaits, so each change is complete before another task runs, and other
threads may read the state at any time.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from normalizer.consumer.partition_state import PartitionEvent, PartitionState, TrackedPartition
from normalizer.consumer.suspects import SuspectPartitions
from normalizer.errors import (
    BrokerUnavailableError,
    FencedError,
    OtherGroupError,
    PositionError,
)
from normalizer.kafka import GroupReader, KafkaPartition
from normalizer.runtime.logging_setup import ServiceCounters, get_logger
from normalizer.store.claim import Claim

_NEW: Final = TrackedPartition()

_log: Final = get_logger()


class PartitionOwnership:
    """The partitions of this process, and the state of each."""

    def __init__(
        self,
        reader: GroupReader,
        *,
        counters: ServiceCounters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._counters = counters
        self._clock = clock
        self._partitions: dict[KafkaPartition, TrackedPartition] = {}
        self.suspects = SuspectPartitions(clock)

    @property
    def current_claims(self) -> Mapping[KafkaPartition, Claim]:
        """Return the claims in force. Batches may be written only under these."""
        claimed = self.partitions_in_state(PartitionState.CLAIMED)
        return {one: known.claim for one, known in claimed.items() if known.claim}

    @property
    def last_claims(self) -> Mapping[KafkaPartition, Claim]:
        """Return the last claim of each partition, including claims that have ended."""
        everything = {**self._partitions}
        return {one: known.last_claim for one, known in everything.items() if known.last_claim}

    @property
    def stop_reasons_by_partition(self) -> Mapping[KafkaPartition, str]:
        """Return why each stopped partition was stopped, sorted by partition."""
        stopped = self.partitions_in_state(PartitionState.STOPPED)
        return {one: known.why_stopped for one, known in sorted(stopped.items())}

    @property
    def unreachable_reasons_by_partition(self) -> Mapping[KafkaPartition, str]:
        """Return why each unreachable partition's leader doesn't respond, sorted by partition."""
        everything = sorted({**self._partitions}.items())
        return {one: known.why_unreachable for one, known in everything if known.why_unreachable}

    @property
    def other_group_partitions_by_reason(self) -> Mapping[str, Sequence[KafkaPartition]]:
        """Return the partitions that are left to another consumer group, by the reason."""
        partitions = defaultdict[str, list[KafkaPartition]](list)
        for one, known in sorted({**self._partitions}.items()):
            if known.why_other_group:
                partitions[known.why_other_group].append(one)
        return partitions

    @property
    def last_expired_ranges(self) -> Mapping[KafkaPartition, tuple[int, int]]:
        """Return each partition's last range that retention deleted before it was read, sorted."""
        everything = sorted({**self._partitions}.items())
        return {one: known.gap for one, known in everything if known.gap}

    def partitions_in_state(
        self, *states: PartitionState
    ) -> dict[KafkaPartition, TrackedPartition]:
        """Return the partitions that are in one of these states."""
        return {one: known for one, known in {**self._partitions}.items() if known.state in states}

    def unclaimed_partitions(self) -> list[KafkaPartition]:
        """Return the assigned partitions that aren't claimed yet, sorted."""
        assigned = self._reader.assigned
        return sorted(one for one in assigned if self[one].state is PartitionState.ASSIGNED)

    def fenced_s_by_partition(self) -> dict[KafkaPartition, float]:
        """Return how long each assigned partition has been claimed by another process."""
        now_s = self._clock()
        fenced = sorted(self.partitions_in_state(PartitionState.FENCED).items())
        return {one: now_s - known.since_s for one, known in fenced}

    def is_current_claim(self, claim: Claim) -> bool:
        """Return whether records may be read under this claim."""
        known = self[KafkaPartition(claim.topic, claim.partition)]
        return known.state is PartitionState.CLAIMED and known.claim is claim

    def is_claim_set_aside(self, claim: Claim) -> bool:
        """Return whether a part of a batch that was read under this claim is set aside."""
        known = self[KafkaPartition(claim.topic, claim.partition)]
        return known.state is PartitionState.SET_ASIDE and known.claim is claim

    def update_fields(self, partition: KafkaPartition, **facts: Any) -> None:
        """Set fields of a partition that don't change its state."""
        self._partitions[partition] = replace(self[partition], **facts)

    def note_claim(self, partition: KafkaPartition, claim: Claim, log_end: int) -> None:
        """Note a new claim of this process. `log_end` is the end of the partition's log now."""
        self.mark_reachable(partition)
        if self._apply(PartitionEvent.CLAIM, partition):
            self.update_fields(partition, claim=claim, was_claimed=True)
            self.suspects.add_if_suspect(partition, claim, log_end)

    def drop_claim(self, partition: KafkaPartition, epoch: int, why: PositionError) -> None:
        """Drop the claim with this epoch, because it's no longer valid. Ignores any other epoch."""
        if isinstance(why, FencedError):
            if self._apply(PartitionEvent.FENCE, partition, epoch) is PartitionState.FENCED:
                self._counters.fenced += 1
                _log.warning("partition.fenced", partition=str(partition), why=str(why))
        elif self._apply(PartitionEvent.MOVE, partition, epoch):
            _log.warning("partition.position_moved", partition=str(partition), why=str(why))

    def release_for_new_claim(self, partition: KafkaPartition, epoch: int) -> None:
        """Release the claim with this epoch, so that it's claimed again.

        Ignores any other epoch.
        """
        self._apply(PartitionEvent.RELEASE, partition, epoch)

    def set_partition_aside(self, partition: KafkaPartition, epoch: int) -> None:
        """Stop reading a claimed partition until its claim is released."""
        self._apply(PartitionEvent.SET_ASIDE, partition, epoch)

    def stop_partition(self, partition: KafkaPartition, why: PositionError) -> None:
        """Stop reading the partition, while the other partitions continue.

        The partition is claimed again after the next assignment. If this process had already
        claimed it, an operator can also have it claimed again by moving its position.
        """
        if self._apply(PartitionEvent.STOP, partition):
            self.update_fields(partition, why_stopped=str(why))
            self._counters.stopped += 1
            _log.error("partition.stopped", partition=str(partition), why=str(why))

    def make_stopped_partitions_claimable(self) -> None:
        """Let stopped partitions be claimed after an assignment.

        Their causes may be fixed by now.
        """
        for partition in [*self._partitions]:
            self._apply(PartitionEvent.ASSIGN, partition)

    def revoke_all_claims(self) -> None:
        """Drop every claim at a rebalance. Stopped partitions stay stopped until the assignment."""
        for partition in [*self._partitions]:
            self._apply(PartitionEvent.REVOKE, partition)

    def mark_unreachable(self, partition: KafkaPartition, why: BrokerUnavailableError) -> None:
        """Note that the partition's leader doesn't respond.

        It's logged once, until it responds again.
        """
        if partition not in self._reader.assigned:
            return
        if not self[partition].why_unreachable:
            _log.warning("partition.unavailable", partition=str(partition), why=str(why))
        self.update_fields(partition, why_unreachable=str(why))

    def mark_reachable(self, partition: KafkaPartition) -> None:
        """Note that the partition's leader responds. It's logged if it didn't before."""
        if self[partition].why_unreachable:
            self.update_fields(partition, why_unreachable="")
            _log.info("partition.recovered", partition=str(partition))

    def mark_partitions_of_other_groups(
        self, unclaimed: Iterable[KafkaPartition], found: Iterable[OtherGroupError]
    ) -> None:
        """Note which unclaimed partitions another consumer group reads. Logged once."""
        errors = {KafkaPartition(error.topic, error.partition): error for error in found}
        known = set(self.other_group_partitions_by_reason)
        for partition in unclaimed:
            error = errors.get(partition)
            why = error.why if error else ""
            if why != self[partition].why_other_group:
                self.update_fields(partition, why_other_group=why)
        for why, partitions in self.other_group_partitions_by_reason.items():
            if why not in known:
                names = [*map(str, partitions)]
                _log.warning("group.another_reads", partitions=names, why=why)

    def __getitem__(self, partition: KafkaPartition) -> TrackedPartition:
        """Return what this process knows about a partition."""
        return self._partitions.get(partition, _NEW)

    def _apply(
        self, event: PartitionEvent, partition: KafkaPartition, epoch: int | None = None
    ) -> PartitionState | None:
        """Move the partition to the next state, and return that state.

        Returns None and changes nothing if the event doesn't apply to the present state, or if
        `epoch` is the epoch of an earlier claim.
        """
        before = self[partition]
        if epoch is not None and (before.claim is None or before.claim.epoch != epoch):
            return None
        after = before.apply_event(event, self._clock())
        if after is None:
            return None
        self._partitions[partition] = after
        if before.state is PartitionState.CLAIMED:
            self.suspects.drop(partition)
            self._reader.stop_reading(partition)
        return after.state

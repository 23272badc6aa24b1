"""Partitions the group assigned in, partitions claimed in Postgres out.

Assigned is not owned: a partition is read only after its claim, which waits for a batch in flight
of the last owner, and after a look at the log: is it still the one that the position speaks of?
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from normalizer.errors import (
    BrokerUnavailable,
    Fenced,
    PositionError,
    StoreUnavailable,
    TopicReset,
)
from normalizer.kafka import Bounds, GroupReader, KafkaPartition, TopicReader, wall_ms, why_reset
from normalizer.store.sqlstate import LOCK_NOT_AVAILABLE
from normalizer.store.store import Claim, Store
from normalizer.telemetry import ServiceCounters, get_logger

CLAIMS_WITHOUT_A_MOVE: Final = 3
"""Then whoever claimed the partition died of what it read there, or was taken for dead."""
RECORDS_ONE_BY_ONE: Final = 2_000

_log: Final = get_logger()


class Suspect(msgspec.Struct):
    """A partition that does not move: the offset in hand, and up to which it is read one by one."""

    offset: int
    until: int


class Ownership:
    """Which of the assigned partitions are ours to write, and which lane writes each."""

    def __init__(
        self,
        reader: GroupReader,
        log: TopicReader,
        store: Store,
        *,
        writers: int,
        accept_reset: bool,
        counters: ServiceCounters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._kafka = log
        self._store = store
        self._writers: list[set[KafkaPartition]] = [set() for _ in range(writers)]
        self._accept_reset = accept_reset
        self._counters = counters
        self._clock = clock
        self._held: dict[KafkaPartition, Claim] = {}
        self._claimed: dict[KafkaPartition, Claim] = {}
        self.fenced: dict[KafkaPartition, float] = {}
        self.unreachable: dict[KafkaPartition, str] = {}
        """Partitions that are to be claimed or compared, and whose leader does not answer."""
        self.stopped: dict[KafkaPartition, str] = {}
        self._claims_of_stopped: dict[KafkaPartition, Claim] = {}
        self.suspects: dict[KafkaPartition, Suspect] = {}
        self.gaps: dict[KafkaPartition, tuple[int, int]] = {}
        """The last stretch of each partition, first and next offset, that retention took unread."""

    @property
    def held(self) -> Mapping[KafkaPartition, Claim]:
        """The claims that batches may be written under."""
        return self._held

    @property
    def claimed(self) -> Mapping[KafkaPartition, Claim]:
        """The last claim of each partition, also of those that are not held now."""
        return self._claimed

    def partitions_of(self, writer: int) -> frozenset[KafkaPartition]:
        """The held partitions that one lane reads and writes; lanes share none."""
        return frozenset(self._writers[writer])

    def unclaimed(self) -> list[KafkaPartition]:
        """Assigned partitions that are to be claimed, in order."""
        known = self._held.keys() | self.fenced.keys() | self.stopped.keys()
        return sorted(self._reader.assigned - known)

    async def drop_lost_claims(self) -> None:
        """Give up what others claimed, and what an operator moved: that is claimed again.

        A batch finds this out by itself; a partition without records would never.
        """
        stopped = self._claims_of_stopped
        for claim, why in await self._store.lost_claims([*self._held.values(), *stopped.values()]):
            partition = KafkaPartition(claim.topic, claim.partition)
            if stopped.get(partition) == claim:
                del stopped[partition]
                if not isinstance(why, Fenced):
                    del self.stopped[partition]
                    _log.warning("position_moved", partition=str(partition), why=str(why))
            else:
                self.drop_claim(partition, claim.epoch, why)

    def drop_claim(self, partition: KafkaPartition, epoch: int, why: PositionError) -> None:
        """The claim of this epoch is none any more; nothing where it is not held."""
        if isinstance(why, Fenced):
            self.fence(partition, epoch, why)
        elif self.release(partition, epoch):
            _log.warning("position_moved", partition=str(partition), why=str(why))

    async def claim_unclaimed(self) -> None:
        """Claim what is assigned and not claimed yet, and begin to read it.

        A partition whose offset the log no longer has is not read any more: it is claimed again.
        One whose leader is away stops no other: it is in `unreachable`, and tried again. Nor does
        one whose position somebody has locked: the others are claimed before its error is raised.
        Raises RetryableError where database or cluster is away: what was claimed until then stays.
        """
        for partition in [one for one in self._held if not self._reader.is_reading(one)]:
            self._drop(partition)
        to_claim = self.unclaimed()
        if not to_claim:
            return
        assignment = self._reader.assignments
        cluster_id = await self._kafka.cluster_id()
        bounds = await self._reachable_bounds(to_claim)
        next_offsets_begun: dict[str, int] = {}
        locked: StoreUnavailable | None = None
        for partition in bounds:
            compared_ms = wall_ms()
            try:
                claim = await self._claim_unless_away(partition, cluster_id, bounds[partition])
            except StoreUnavailable as error:
                if error.sqlstate != LOCK_NOT_AVAILABLE:
                    raise
                locked = error
                continue
            if claim is None:
                continue
            self._mark_reachable(partition)
            if self._reader.assignments != assignment:
                return
            self._held[partition] = claim
            self._suspect(partition, claim, bounds[partition].end)
            min(self._writers, key=len).add(partition)
            self._reader.start_reading(
                partition,
                incarnation=claim.incarnation,
                offset=claim.next_offset,
                last=claim.last,
                compared_ms=compared_ms,
            )
            next_offsets_begun[str(partition)] = claim.next_offset
        if next_offsets_begun:
            _log.info("partitions_claimed", next_offsets=next_offsets_begun)
        if locked is not None:
            raise locked

    async def verify_logs(self) -> None:
        """Look whether the logs in doubt are still the ones we read; one that is not is stopped.

        One whose leader is away, or that is not there now, stays in doubt and is in `unreachable`.
        Raises BrokerUnavailable where the cluster is away.
        """
        unverified_logs = {one.partition: one for one in self._reader.unverified_logs()}
        if not unverified_logs:
            return
        cluster_id = await self._kafka.cluster_id()
        for partition in await self._reachable_bounds(unverified_logs):
            unverified_log, claim = unverified_logs[partition], self._held.get(partition)
            if claim is None:
                continue
            compared_ms = wall_ms()
            try:
                reset = await why_reset(
                    self._kafka,
                    partition,
                    (claim.cluster_id, cluster_id),
                    next_offset=unverified_log.next_offset,
                    last=unverified_log.last,
                )
            except BrokerUnavailable as error:
                self._mark_unreachable(partition, error)
                continue
            self._mark_reachable(partition)
            if not reset:
                self._reader.mark_verified(unverified_log, compared_ms=compared_ms)
            elif self._held.get(partition) is claim:
                self.stop(partition, _topic_reset(partition, reset))

    def note_progress(self, partition: KafkaPartition, next_offset: int) -> None:
        """A batch of the partition was written up to there."""
        suspect = self.suspects.get(partition)
        if suspect is not None and next_offset >= suspect.until:
            del self.suspects[partition]

    def release(self, partition: KafkaPartition, epoch: int) -> bool:
        """Give up the claim of this epoch; the partition will be claimed again. False: not held."""
        claim = self._held.get(partition)
        if claim is None or claim.epoch != epoch:
            return False
        self._drop(partition)
        return True

    def fence(self, partition: KafkaPartition, epoch: int, why: Fenced) -> None:
        """Another process claimed it: leave it alone until the group assigns it again."""
        if not self.release(partition, epoch):
            return
        self.fenced[partition] = self._clock()
        self._counters.fenced += 1
        _log.warning("partition_fenced", partition=str(partition), why=str(why))

    def stop(self, partition: KafkaPartition, why: PositionError) -> None:
        """Leave it alone until an operator moves its position; others go on."""
        if partition in self._held:
            self._claims_of_stopped[partition] = self._held[partition]
            self._drop(partition)
        self.unreachable.pop(partition, None)
        self.stopped[partition] = str(why)
        self._counters.stopped += 1
        _log.error("partition_stopped", partition=str(partition), why=str(why))

    def forget_stopped(self) -> None:
        """The group assigned partitions: those that were stopped may be sound by now."""
        self.stopped.clear()
        self._claims_of_stopped.clear()

    def revoke_all(self) -> None:
        """The group took every partition: a rebalance. Stopped ones stay so until the next."""
        self._held.clear()
        self.suspects.clear()
        self.fenced.clear()
        self.unreachable.clear()
        for writer in self._writers:
            writer.clear()

    async def _reachable_bounds(
        self, partitions: Iterable[KafkaPartition]
    ) -> dict[KafkaPartition, Bounds]:
        """Bounds of those whose leader answers, in order; the others are noted as away."""
        to_claim = sorted(partitions)
        bounds = await self._kafka.reachable_bounds(to_claim)
        for partition in to_claim:
            if partition not in bounds:
                self._mark_unreachable(
                    partition, BrokerUnavailable("it has no leader that answers")
                )
        return dict(sorted(bounds.items()))

    def _mark_unreachable(self, partition: KafkaPartition, why: BrokerUnavailable) -> None:
        """Its leader is away: said once."""
        if partition not in self._reader.assigned:
            return
        if partition not in self.unreachable:
            _log.warning("partition_unavailable", partition=str(partition), why=str(why))
        self.unreachable[partition] = str(why)

    def _mark_reachable(self, partition: KafkaPartition) -> None:
        """Its leader is there; said where it was away."""
        if self.unreachable.pop(partition, None):
            _log.info("partition_recovered", partition=str(partition))

    async def _claim_unless_away(
        self, partition: KafkaPartition, cluster_id: str, bounds: Bounds
    ) -> Claim | None:
        """None where the partition is stopped, was claimed by another meanwhile, or is away."""
        try:
            return await self._claim(partition, cluster_id, bounds)
        except TopicReset as reset:
            self.stop(partition, reset)
        except PositionError as moved:
            _log.warning("claim_superseded", partition=str(partition), why=str(moved))
        except BrokerUnavailable as error:
            self._mark_unreachable(partition, error)
        return None

    async def _claim(self, partition: KafkaPartition, cluster_id: str, bounds: Bounds) -> Claim:
        topic, number = partition
        claim = await self._store.claim(
            topic, number, cluster_id=cluster_id, log_start=bounds.start, log_end=bounds.end
        )
        first_claim = partition not in self._claimed
        self._claimed[partition] = claim
        # After the claim: before it, the last owner could still move the position.
        reset = await why_reset(
            self._kafka,
            partition,
            (claim.cluster_id, cluster_id),
            next_offset=claim.next_offset,
            last=claim.last,
        )
        if reset and not (self._accept_reset and first_claim):
            raise _topic_reset(partition, reset)
        if reset:
            claim = await self._store.begin_incarnation(
                claim, cluster_id=cluster_id, log_start=bounds.start
            )
            _log.warning(
                "incarnation_begun",
                partition=str(partition),
                incarnation=claim.incarnation,
                next_offset=claim.next_offset,
                why=reset,
            )
            self._claimed[partition] = claim
        elif claim.next_offset < bounds.start:
            self._counters.gaps += 1
            self.gaps[partition] = (claim.next_offset, bounds.start)
            _log.warning(
                "gap",
                partition=str(partition),
                first_offset=claim.next_offset,
                next_offset=bounds.start,
                why="retention took these records before they were read",
            )
            claim = await self._store.record_gap(claim, bounds.start, "expired")
        return claim

    def _suspect(self, partition: KafkaPartition, claim: Claim, log_end: int) -> None:
        """Notice a partition that has records, and did not move under several claims."""
        claims = claim.epoch - claim.moved_epoch
        if claims < CLAIMS_WITHOUT_A_MOVE or claim.next_offset >= log_end:
            return
        until = min(log_end, claim.next_offset + RECORDS_ONE_BY_ONE)
        self.suspects[partition] = Suspect(offset=claim.next_offset, until=until)
        _log.error(
            "partition_stalled",
            partition=str(partition),
            next_offset=claim.next_offset,
            claims=claims,
            why="each owner ended, or was taken for dead, with these records in hand: "
            "they are read one by one",
        )

    def _drop(self, partition: KafkaPartition) -> None:
        del self._held[partition]
        self.suspects.pop(partition, None)
        self.unreachable.pop(partition, None)
        for writer in self._writers:
            writer.discard(partition)
        self._reader.stop_reading(partition)


def _topic_reset(partition: KafkaPartition, why: str) -> TopicReset:
    return TopicReset(
        f"{partition}: {why}: the topic was made anew; to read it as a new incarnation, "
        "start again with --accept-reset",
        topic=partition.topic,
        partition=partition.partition,
    )

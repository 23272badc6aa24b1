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
from normalizer.kafka import Bounds, GroupReader, LogReader, Partition, wall_ms, why_reset
from normalizer.store.sqlstate import LOCK_NOT_AVAILABLE
from normalizer.store.store import Claim, Store
from normalizer.telemetry import Counters, get_logger

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
        log: LogReader,
        store: Store,
        *,
        lanes: int,
        accept_reset: bool,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._kafka = log
        self._store = store
        self._lanes: list[set[Partition]] = [set() for _ in range(lanes)]
        self._accept_reset = accept_reset
        self._counters = counters
        self._clock = clock
        self._held: dict[Partition, Claim] = {}
        self._claimed: dict[Partition, Claim] = {}
        self.fenced: dict[Partition, float] = {}
        self.away: dict[Partition, str] = {}
        """Partitions that are to be claimed or compared, and whose leader does not answer."""
        self.stopped: dict[Partition, str] = {}
        self._claims_of_stopped: dict[Partition, Claim] = {}
        self.suspects: dict[Partition, Suspect] = {}
        self.gaps: dict[Partition, tuple[int, int]] = {}
        """The last stretch of each partition, first and next offset, that retention took unread."""

    @property
    def held(self) -> Mapping[Partition, Claim]:
        """The claims that batches may be written under."""
        return self._held

    @property
    def claimed(self) -> Mapping[Partition, Claim]:
        """The last claim of each partition, also of those that are not held now."""
        return self._claimed

    def lane(self, number: int) -> frozenset[Partition]:
        """The held partitions that one lane reads and writes; lanes share none."""
        return frozenset(self._lanes[number])

    def missing(self) -> list[Partition]:
        """Assigned partitions that are to be claimed, in order."""
        known = self._held.keys() | self.fenced.keys() | self.stopped.keys()
        return sorted(self._reader.assigned - known)

    async def let_go_lost(self) -> None:
        """Give up what others claimed, and what an operator moved: that is claimed again.

        A batch finds this out by itself; a partition without records would never.
        """
        stopped = self._claims_of_stopped
        for claim, why in await self._store.lost([*self._held.values(), *stopped.values()]):
            partition = Partition(claim.topic, claim.partition)
            if stopped.get(partition) == claim:
                del stopped[partition]
                if not isinstance(why, Fenced):
                    del self.stopped[partition]
                    _log.warning("position_moved", partition=str(partition), why=str(why))
            else:
                self.lose(partition, claim.epoch, why)

    def lose(self, partition: Partition, epoch: int, why: PositionError) -> None:
        """The claim of this epoch is none any more; nothing where it is not held."""
        if isinstance(why, Fenced):
            self.fence(partition, epoch, why)
        elif self.release(partition, epoch):
            _log.warning("position_moved", partition=str(partition), why=str(why))

    async def claim_missing(self) -> None:
        """Claim what is assigned and not claimed yet, and begin to read it.

        A partition whose offset the log no longer has is not read any more: it is claimed again.
        One whose leader is away stops no other: it is in `away`, and tried again. Nor does one
        whose position somebody has locked: the others are claimed before its error is raised.
        Raises RetryableError where database or cluster is away: what was claimed until then stays.
        """
        for partition in [one for one in self._held if not self._reader.reads(one)]:
            self._drop(partition)
        wanted = self.missing()
        if not wanted:
            return
        assignment = self._reader.assignments
        cluster_id = await self._kafka.cluster_id()
        bounds = await self._answered(wanted)
        begun: dict[str, int] = {}
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
            self._find(partition)
            if self._reader.assignments != assignment:
                return
            self._held[partition] = claim
            self._suspect(partition, claim, bounds[partition].end)
            min(self._lanes, key=len).add(partition)
            self._reader.begin(
                partition,
                generation=claim.generation,
                offset=claim.next_offset,
                last=claim.last,
                compared_ms=compared_ms,
            )
            begun[str(partition)] = claim.next_offset
        if begun:
            _log.info("partitions_claimed", next_offsets=begun)
        if locked is not None:
            raise locked

    async def compare(self) -> None:
        """Look whether the logs in doubt are still the ones we read; one that is not is stopped.

        One whose leader is away, or that is not there now, stays in doubt and is in `away`. Raises
        BrokerUnavailable where the cluster is.
        """
        doubts = {one.partition: one for one in self._reader.doubts()}
        if not doubts:
            return
        cluster_id = await self._kafka.cluster_id()
        for partition in await self._answered(doubts):
            doubt, claim = doubts[partition], self._held.get(partition)
            if claim is None:
                continue
            compared_ms = wall_ms()
            try:
                reset = await why_reset(
                    self._kafka,
                    partition,
                    (claim.cluster_id, cluster_id),
                    next_offset=doubt.next_offset,
                    last=doubt.last,
                )
            except BrokerUnavailable as error:
                self._miss(partition, error)
                continue
            self._find(partition)
            if not reset:
                self._reader.trust(doubt, compared_ms=compared_ms)
            elif self._held.get(partition) is claim:
                self.stop(partition, _topic_reset(partition, reset))

    def moved(self, partition: Partition, next_offset: int) -> None:
        """A batch of the partition was written up to there."""
        suspect = self.suspects.get(partition)
        if suspect is not None and next_offset >= suspect.until:
            del self.suspects[partition]

    def release(self, partition: Partition, epoch: int) -> bool:
        """Give up the claim of this epoch; the partition will be claimed again. False: not held."""
        claim = self._held.get(partition)
        if claim is None or claim.epoch != epoch:
            return False
        self._drop(partition)
        return True

    def fence(self, partition: Partition, epoch: int, why: Fenced) -> None:
        """Another process claimed it: leave it alone until the group assigns it again."""
        if not self.release(partition, epoch):
            return
        self.fenced[partition] = self._clock()
        self._counters.fenced += 1
        _log.warning("partition_fenced", partition=str(partition), why=str(why))

    def stop(self, partition: Partition, why: PositionError) -> None:
        """Leave it alone until an operator moves its position; others go on."""
        if partition in self._held:
            self._claims_of_stopped[partition] = self._held[partition]
            self._drop(partition)
        self.away.pop(partition, None)
        self.stopped[partition] = str(why)
        self._counters.stopped += 1
        _log.error("partition_stopped", partition=str(partition), why=str(why))

    def look_anew(self) -> None:
        """The group assigned partitions: those that were stopped may be sound by now."""
        self.stopped.clear()
        self._claims_of_stopped.clear()

    def revoke_all(self) -> None:
        """The group took every partition: a rebalance. Stopped ones stay so until the next."""
        self._held.clear()
        self.suspects.clear()
        self.fenced.clear()
        self.away.clear()
        for lane in self._lanes:
            lane.clear()

    async def _answered(self, partitions: Iterable[Partition]) -> dict[Partition, Bounds]:
        """Bounds of those whose leader answers, in order; the others are noted as away."""
        wanted = sorted(partitions)
        bounds = await self._kafka.answered_bounds(wanted)
        for partition in wanted:
            if partition not in bounds:
                self._miss(partition, BrokerUnavailable("it has no leader that answers"))
        return dict(sorted(bounds.items()))

    def _miss(self, partition: Partition, why: BrokerUnavailable) -> None:
        """Its leader is away: said once."""
        if partition not in self._reader.assigned:
            return
        if partition not in self.away:
            _log.warning("partition_away", partition=str(partition), why=str(why))
        self.away[partition] = str(why)

    def _find(self, partition: Partition) -> None:
        """Its leader is there; said where it was away."""
        if self.away.pop(partition, None):
            _log.info("partition_back", partition=str(partition))

    async def _claim_unless_away(
        self, partition: Partition, cluster_id: str, bounds: Bounds
    ) -> Claim | None:
        """None where the partition is stopped, was claimed by another meanwhile, or is away."""
        try:
            return await self._claim(partition, cluster_id, bounds)
        except TopicReset as reset:
            self.stop(partition, reset)
        except PositionError as moved:
            _log.warning("claim_overtaken", partition=str(partition), why=str(moved))
        except BrokerUnavailable as error:
            self._miss(partition, error)
        return None

    async def _claim(self, partition: Partition, cluster_id: str, bounds: Bounds) -> Claim:
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
            claim = await self._store.new_generation(
                claim, cluster_id=cluster_id, log_start=bounds.start
            )
            _log.warning(
                "generation_begun",
                partition=str(partition),
                generation=claim.generation,
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

    def _suspect(self, partition: Partition, claim: Claim, log_end: int) -> None:
        """Notice a partition that has records, and did not move under several claims."""
        claims = claim.epoch - claim.moved_epoch
        if claims < CLAIMS_WITHOUT_A_MOVE or claim.next_offset >= log_end:
            return
        until = min(log_end, claim.next_offset + RECORDS_ONE_BY_ONE)
        self.suspects[partition] = Suspect(offset=claim.next_offset, until=until)
        _log.error(
            "partition_does_not_move",
            partition=str(partition),
            next_offset=claim.next_offset,
            claims=claims,
            why="each owner ended, or was taken for dead, with these records in hand: "
            "they are read one by one",
        )

    def _drop(self, partition: Partition) -> None:
        del self._held[partition]
        self.suspects.pop(partition, None)
        self.away.pop(partition, None)
        for lane in self._lanes:
            lane.discard(partition)
        self._reader.leave(partition)


def _topic_reset(partition: Partition, why: str) -> TopicReset:
    return TopicReset(
        f"{partition}: {why}: the topic was made anew; to read it as a new generation, "
        "start again with --accept-reset",
        topic=partition.topic,
        partition=partition.partition,
    )

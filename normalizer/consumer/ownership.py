"""Decides which assigned partitions this process owns, by claims in PostgreSQL.

The group's assignment isn't enough. Reading a partition begins only after its claim, which waits
for the last owner's batch in flight, and after a check that the topic is still the one of the
position.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from normalizer.consumer.record_store import RecordStore
from normalizer.consumer.suspects import Suspects
from normalizer.consumer.unreachable import UnreachablePartitions
from normalizer.errors import (
    BrokerUnavailableError,
    FencedError,
    PositionError,
    ShapesChangedError,
    StoreUnavailableError,
    TopicResetError,
)
from normalizer.kafka import Bounds, GroupReader, KafkaPartition, TopicReader, wall_ms, why_reset
from normalizer.runtime.telemetry import ServiceCounters, get_logger
from normalizer.store.sqlstate import LOCK_NOT_AVAILABLE
from normalizer.store.store import Claim, ShapesOfProcess

_log: Final = get_logger()


class Ownership:
    """The assigned partitions that this process owns."""

    def __init__(
        self,
        reader: GroupReader,
        log: TopicReader,
        store: RecordStore,
        *,
        accept_reset: bool,
        shapes: ShapesOfProcess,
        counters: ServiceCounters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._kafka = log
        self._store = store
        self._claim_position = partial(store.claim, shapes=shapes)
        self._accept_reset = accept_reset
        self._counters = counters
        self._clock = clock
        self._held: dict[KafkaPartition, Claim] = {}
        self._claimed: dict[KafkaPartition, Claim] = {}
        self._ever_held: set[KafkaPartition] = set()
        self.fenced: dict[KafkaPartition, float] = {}
        self.unreachable = UnreachablePartitions(reader, log)
        self.stopped: dict[KafkaPartition, str] = {}
        self._claims_of_stopped: dict[KafkaPartition, Claim] = {}
        self.set_aside: dict[KafkaPartition, int] = {}
        """Partitions that aren't read while one of their parts or records waits, with its epoch."""
        self.suspects = Suspects(clock)
        self.gaps: dict[KafkaPartition, tuple[int, int]] = {}
        """Each partition's last range (first and next offset) that retention deleted unread."""

    @property
    def held(self) -> Mapping[KafkaPartition, Claim]:
        """Return the claims under which batches may be written."""
        return self._held

    @property
    def claimed(self) -> Mapping[KafkaPartition, Claim]:
        """Return the last claim of each partition, including those that ended."""
        return self._claimed

    def unclaimed(self) -> list[KafkaPartition]:
        """Return assigned partitions that aren't claimed yet, in order."""
        others = (self._held, self.fenced, self.stopped, self.set_aside)
        return sorted(self._reader.assigned.difference(*others))

    def fenced_for_s(self) -> dict[KafkaPartition, float]:
        """Return how long each partition assigned here has belonged to another process."""
        return {one: self._clock() - at_s for one, at_s in sorted({**self.fenced}.items())}

    async def drop_lost_claims(self) -> None:
        """Drop claims that other processes took over, or whose position an operator moved.

        The next batch would notice too, but a partition without records has no next batch.
        """
        stopped = self._claims_of_stopped
        for claim, why in await self._store.lost_claims([*self._held.values(), *stopped.values()]):
            partition = KafkaPartition(claim.topic, claim.partition)
            if stopped.get(partition) == claim:
                del stopped[partition]
                if not isinstance(why, FencedError):
                    del self.stopped[partition]
                    _log.warning("position_moved", partition=str(partition), why=str(why))
            else:
                self.drop_claim(partition, claim.epoch, why)

    def drop_claim(self, partition: KafkaPartition, epoch: int, why: PositionError) -> None:
        """Drop the claim of this epoch because it's no longer valid. Does nothing without one."""
        if isinstance(why, FencedError):
            self.fence(partition, epoch, why)
        elif self.release(partition, epoch):
            _log.warning("position_moved", partition=str(partition), why=str(why))

    async def claim_unclaimed(self) -> None:
        """Claim assigned partitions that are not claimed yet, and start to read them.

        A partition whose offset is gone from the log is claimed again. A partition whose leader is
        unreachable doesn't stop the others. It goes into `unreachable` and is retried. A locked
        position doesn't stop them either, because its error is raised after they're claimed. Raises
        RetryableError if the database or cluster is unreachable. Earlier claims stay.
        """
        for partition in [one for one in self._held if not self._reader.is_reading(one)]:
            self._drop(partition)
        if not (to_claim := self.unclaimed()):
            return
        assignment = self._reader.assignments
        cluster_id = await self._kafka.cluster_id()
        bounds = await self.unreachable.reachable_bounds(to_claim)
        begun: dict[str, int] = {}
        locked: StoreUnavailableError | None = None
        for partition in bounds:
            compared_ms = wall_ms()
            try:
                claim = await self._claim_unless_away(partition, cluster_id, bounds[partition])
            except StoreUnavailableError as error:
                if error.sqlstate != LOCK_NOT_AVAILABLE:
                    raise
                locked = error
                continue
            if claim is None:
                continue
            self.unreachable.unmark(partition)
            if self._reader.assignments != assignment:
                return
            self._held[partition] = claim
            self._ever_held.add(partition)
            self.suspects.add(partition, claim, bounds[partition].end)
            self._reader.start_reading(
                partition,
                incarnation=claim.incarnation,
                offset=claim.next_offset,
                last=claim.last,
                compared_ms=compared_ms,
            )
            begun[str(partition)] = claim.next_offset
        if begun:
            _log.info("partitions_claimed", next_offsets=begun, suspects=[*map(str, self.suspects)])
        if locked is not None:
            raise locked

    async def verify_logs(self) -> None:
        """Compare unverified logs with the last record read. Stops a partition with another log.

        A partition whose leader is unreachable, or that doesn't exist now, stays unverified and
        goes into `unreachable`. Raises BrokerUnavailableError if the cluster is unreachable.
        """
        unverified_logs = {one.partition: one for one in self._reader.unverified_logs()}
        if not unverified_logs:
            return
        cluster_id = await self._kafka.cluster_id()
        all_bounds = await self.unreachable.reachable_bounds(unverified_logs)
        for partition, bounds in all_bounds.items():
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
                    bounds=bounds,
                )
            except BrokerUnavailableError as error:
                self.unreachable.mark(partition, error)
                continue
            self.unreachable.unmark(partition)
            if not reset:
                self._reader.mark_verified(unverified_log, compared_ms=compared_ms)
            elif self._held.get(partition) is claim:
                self.stop(partition, _topic_reset(partition, reset))

    def release(self, partition: KafkaPartition, epoch: int) -> bool:
        """Release the claim of this epoch, to claim it again. Returns False without one."""
        if self.set_aside.get(partition) == epoch:
            del self.set_aside[partition]
            return True
        claim = self._held.get(partition)
        if claim is None or claim.epoch != epoch:
            return False
        self._drop(partition)
        return True

    def put_aside(self, partition: KafkaPartition, epoch: int) -> None:
        """Stop reading a claimed partition until its claim is released."""
        self._drop(partition)
        self.set_aside[partition] = epoch

    def fence(self, partition: KafkaPartition, epoch: int, why: FencedError) -> None:
        """Leave a partition that another process claimed, until the group assigns it again."""
        if not self.release(partition, epoch):
            return
        self.fenced[partition] = self._clock()
        self._counters.fenced += 1
        _log.warning("partition_fenced", partition=str(partition), why=str(why))

    def stop(self, partition: KafkaPartition, why: PositionError) -> None:
        """Don't read the partition until an operator moves its position. The others continue."""
        if partition in self._held:
            self._claims_of_stopped[partition] = self._held[partition]
            self._drop(partition)
        self.unreachable.pop(partition, None)
        self.stopped[partition] = str(why)
        self._counters.stopped += 1
        _log.error("partition_stopped", partition=str(partition), why=str(why))

    def forget_stopped(self) -> None:
        """Retry stopped partitions after an assignment. Their causes may be fixed by now."""
        self.stopped.clear()
        self._claims_of_stopped.clear()

    def revoke_all(self) -> None:
        """Drop every claim at a rebalance. Stopped partitions stay stopped until the assignment."""
        self._held.clear()
        self.set_aside.clear()
        self.suspects.clear()
        self.fenced.clear()
        self.unreachable.clear()

    async def _claim_unless_away(
        self, partition: KafkaPartition, cluster_id: str, bounds: Bounds
    ) -> Claim | None:
        """Claim a partition. Returns None if it's stopped, unreachable, or claimed by another."""
        try:
            return await self._claim(partition, cluster_id, bounds)
        except (TopicResetError, ShapesChangedError) as changed:
            self.stop(partition, changed)
        except PositionError as moved:
            _log.warning("claim_superseded", partition=str(partition), why=str(moved))
        except BrokerUnavailableError as error:
            self.unreachable.mark(partition, error)
        return None

    async def _claim(self, partition: KafkaPartition, cluster_id: str, bounds: Bounds) -> Claim:
        start, end = bounds
        accepts = self._accept_reset and partition not in self._ever_held
        claim = await self._claim_position(
            *partition, cluster_id=cluster_id, log_start=start, log_end=end, accept_reset=accepts
        )
        self._claimed[partition] = claim
        # After the claim, because before it the last owner could still move the position.
        reset = await why_reset(
            self._kafka,
            partition,
            (claim.cluster_id, cluster_id),
            next_offset=claim.next_offset,
            last=claim.last,
        )
        if reset and not accepts:
            raise _topic_reset(partition, reset)
        if reset:
            claim = await self._store.begin_incarnation(
                claim, cluster_id=cluster_id, log_start=start
            )
            _log.warning(
                "incarnation_begun",
                partition=str(partition),
                incarnation=claim.incarnation,
                next_offset=claim.next_offset,
                why=reset.why,
            )
            self._claimed[partition] = claim
        elif claim.next_offset < start:
            self._counters.gaps += 1
            self.gaps[partition] = (claim.next_offset, start)
            _log.warning(
                "gap",
                partition=str(partition),
                first_offset=claim.next_offset,
                next_offset=start,
                why="Kafka's retention deleted these records before they were read",
            )
            claim = await self._store.record_gap(claim, start, "expired")
        return claim

    def _drop(self, partition: KafkaPartition) -> None:
        del self._held[partition]
        self.suspects.drop(partition)
        self.unreachable.pop(partition, None)
        self._reader.stop_reading(partition)


def _topic_reset(partition: KafkaPartition, why: object) -> TopicResetError:
    return TopicResetError(
        f"{partition}: {why}", topic=partition.topic, partition=partition.partition
    )

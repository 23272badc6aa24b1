"""Claims assigned partitions in PostgreSQL, and checks that their topics weren't recreated.

Being assigned a partition by the consumer group isn't enough to read it. The process also claims
it, and the claim waits until the previous owner's batch in flight has ended. After that, the
process checks that the topic is still the one that the stored position belongs to.
"""

from collections.abc import Iterable
from functools import partial
from typing import Final

from normalizer.consumer.ownership import PartitionOwnership
from normalizer.consumer.partition_state import PartitionState
from normalizer.consumer.record_store import RecordStore
from normalizer.errors import (
    BrokerUnavailableError,
    PositionError,
    ShapesChangedError,
    StoreUnavailableError,
    TopicResetError,
)
from normalizer.kafka import (
    GrouplessClient,
    GroupReader,
    KafkaPartition,
    OffsetBounds,
    find_log_mismatch,
    wall_clock_ms,
)
from normalizer.runtime.logging_setup import ServiceCounters, get_logger
from normalizer.store.claim import Claim
from normalizer.store.claim_checks import ShapesFingerprint
from normalizer.store.sqlstate import LOCK_NOT_AVAILABLE

_log: Final = get_logger()


class PartitionClaimer:
    """Claims partitions, and notes their states in `ownership`."""

    def __init__(
        self,
        reader: GroupReader,
        kafka: GrouplessClient,
        store: RecordStore,
        ownership: PartitionOwnership,
        *,
        group_id: str,
        accept_reset: bool,
        shapes: ShapesFingerprint,
        counters: ServiceCounters,
    ) -> None:
        self._reader = reader
        self._kafka = kafka
        self._store = store
        self._ownership = ownership
        self._claim_position = partial(store.claim_partition, group_id=group_id, shapes=shapes)
        self._group_id = group_id
        self._accept_reset = accept_reset
        self._counters = counters

    async def drop_lost_claims(self) -> None:
        """Drop the claims of partitions that another process took over, or an operator moved.

        This check is needed for partitions of which no batch is being written. If one is, the
        process notices the lost claim anyway, because the batch can't be committed.
        """
        states = (PartitionState.CLAIMED, PartitionState.SET_ASIDE, PartitionState.STOPPED)
        known = self._ownership.partitions_in_state(*states)
        claims = [one.claim for one in known.values() if one.claim]
        for claim, why in await self._store.find_lost_claims(claims):
            self._ownership.drop_claim(
                KafkaPartition(claim.topic, claim.partition), claim.epoch, why
            )

    async def claim_unclaimed_partitions(self) -> None:
        """Claim the assigned partitions that aren't claimed yet, and start to read them.

        A partition whose next offset is gone from the log is claimed again. A partition whose
        leader is unreachable, or that another consumer group reads, is skipped and retried later.
        Neither keeps the other partitions from being claimed.

        If another session holds the lock on a position, the error is raised only after the other
        partitions were claimed. Raises RetryableError if the database or the cluster is
        unreachable. Claims that were made before that stay valid.
        """
        ownership = self._ownership
        self._release_unread()
        if not (unclaimed := ownership.unclaimed_partitions()):
            return
        group_changes = self._reader.group_changes
        cluster_id = await self._kafka.cluster_id()
        others = await self._store.find_other_group_errors(unclaimed, self._group_id, cluster_id)
        ownership.mark_partitions_of_other_groups(unclaimed, others)
        to_claim = [one for one in unclaimed if not ownership[one].why_other_group]
        bounds = await self._reachable_bounds(to_claim)
        begun: dict[str, int] = {}
        locked: StoreUnavailableError | None = None
        for partition in bounds:
            compared_ms = wall_clock_ms()
            try:
                new = await self._try_to_claim(partition, cluster_id, bounds[partition])
            except StoreUnavailableError as error:
                if error.sqlstate != LOCK_NOT_AVAILABLE:
                    raise
                locked = error
                continue
            if new is None:
                continue
            if self._reader.group_changes != group_changes:
                return  # a rebalance has ended this claim too, so `GroupMembership` releases it
            ownership.note_claim(partition, new, bounds[partition].end)
            self._reader.start_reading(
                partition,
                incarnation=new.incarnation,
                offset=new.next_offset,
                last=new.last_record,
                compared_ms=compared_ms,
            )
            begun[str(partition)] = new.next_offset
        if begun:
            suspects = [*map(str, ownership.suspects)]
            _log.info("group.partitions_claimed", next_offsets=begun, suspects=suspects)
        if locked is not None:
            raise locked

    async def verify_logs(self) -> None:
        """Check that the logs of unverified partitions still contain the last record that was read.

        If a log has another record at that offset, the topic was recreated, and the partition is
        stopped. If a partition doesn't exist at the moment or its leader is unreachable, it stays
        unverified until a later check. Raises BrokerUnavailableError if the cluster is unreachable.
        """
        unverified_partitions = {one.partition: one for one in self._reader.unverified_partitions()}
        if not unverified_partitions:
            return
        cluster_id = await self._kafka.cluster_id()
        all_bounds = await self._reachable_bounds(unverified_partitions)
        for partition, bounds in all_bounds.items():
            unverified = unverified_partitions[partition]
            claim = self._ownership.current_claims.get(partition)
            if claim is None:
                continue
            compared_ms = wall_clock_ms()
            try:
                reset = await find_log_mismatch(
                    self._kafka,
                    partition,
                    (claim.cluster_id, cluster_id),
                    next_offset=unverified.next_offset,
                    last=unverified.last,
                    bounds=bounds,
                )
            except BrokerUnavailableError as error:
                self._ownership.mark_unreachable(partition, error)
                continue
            self._ownership.mark_reachable(partition)
            if not reset:
                self._reader.mark_verified(unverified, compared_ms=compared_ms)
            elif self._ownership.is_current_claim(claim):
                self._ownership.stop_partition(partition, _topic_reset(partition, reset))

    def _release_unread(self) -> None:
        """Release claims whose partition the reader has given back, to claim them again.

        It does so if the next offset is gone from the log.
        """
        for partition, claim in self._ownership.current_claims.items():
            if not self._reader.is_reading(partition):
                self._ownership.release_for_new_claim(partition, claim.epoch)

    async def _reachable_bounds(
        self, partitions: Iterable[KafkaPartition]
    ) -> dict[KafkaPartition, OffsetBounds]:
        """Return the bounds of each partition, and mark those whose leader doesn't respond."""
        wanted = sorted(partitions)
        bounds = await self._kafka.reachable_offset_bounds(wanted)
        for partition in wanted:
            if partition not in bounds:
                why = BrokerUnavailableError("the broker that leads this partition doesn't answer")
                self._ownership.mark_unreachable(partition, why)
        return dict(sorted(bounds.items()))

    async def _try_to_claim(
        self, partition: KafkaPartition, cluster_id: str, bounds: OffsetBounds
    ) -> Claim | None:
        """Claim a partition, or return None if it can't be read now.

        It can't be read if it was stopped, if its leader is unreachable, or if another process
        claimed it at the same time.
        """
        try:
            return await self._claim(partition, cluster_id, bounds)
        except (TopicResetError, ShapesChangedError) as changed:
            self._ownership.stop_partition(partition, changed)
        except PositionError as moved:
            _log.warning("partition.claim_superseded", partition=str(partition), why=str(moved))
        except BrokerUnavailableError as error:
            self._ownership.mark_unreachable(partition, error)
        return None

    async def _claim(
        self, partition: KafkaPartition, cluster_id: str, bounds: OffsetBounds
    ) -> Claim:
        """Claim a partition, and return the claim from which reading may begin.

        Raises TopicResetError if the topic was recreated, unless the operator accepts that. If
        retention has deleted unread records, the position moves past them.
        """
        start, end = bounds
        # The operator's consent is for the first claim only. If the topic is recreated after that,
        # the partition stops.
        accepts = self._accept_reset and not self._ownership[partition].was_claimed
        claim = await self._claim_position(
            *partition, cluster_id=cluster_id, log_start=start, log_end=end, accept_reset=accepts
        )
        self._ownership.update_fields(partition, last_claim=claim)
        # Compare the log after the claim, because until then the previous owner could still move
        # the position.
        reset = await find_log_mismatch(
            self._kafka,
            partition,
            (claim.cluster_id, cluster_id),
            next_offset=claim.next_offset,
            last=claim.last_record,
        )
        if reset and not accepts:
            raise _topic_reset(partition, reset)
        if reset:
            claim = await self._store.begin_next_incarnation(
                claim, cluster_id=cluster_id, log_start=start
            )
            _log.warning(
                "partition.incarnation_begun",
                partition=str(partition),
                incarnation=claim.incarnation,
                next_offset=claim.next_offset,
                why=reset.why,
            )
            self._ownership.update_fields(partition, last_claim=claim)
        elif claim.next_offset < start:
            self._counters.gaps += 1
            self._ownership.update_fields(partition, gap=(claim.next_offset, start))
            _log.warning(
                "partition.gap",
                partition=str(partition),
                first_offset=claim.next_offset,
                next_offset=start,
                why="Kafka's retention deleted these records before they were read",
            )
            claim = await self._store.advance_past_gap(claim, start, "expired")
        return claim


def _topic_reset(partition: KafkaPartition, why: object) -> TopicResetError:
    return TopicResetError(
        f"{partition}: {why}", topic=partition.topic, partition=partition.partition
    )

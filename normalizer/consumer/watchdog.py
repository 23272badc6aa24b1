"""Finds partitions that have unread records but make no progress.

For example, aiokafka can hang after a failed rebalance without raising an error, or another process
can have claimed a partition that Kafka has assigned to this one, so that neither reads it. In both
cases the consumer rejoins the group.

While the brokers or the database are unreachable, no partition counts as stuck, because rejoining
wouldn't help.
"""

import contextlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

from normalizer.consumer.ownership import PartitionOwnership
from normalizer.consumer.partition_state import PartitionState
from normalizer.errors import RetryableError
from normalizer.kafka import GrouplessClient, GroupReader, KafkaPartition, UnreadableBatchError

_STUCK_GROUP: Final = "the group"
"""The name that stands for the group itself if its rebalance doesn't end."""


class ProgressWatchdog:
    """Measures how long assigned partitions make no progress. `limit_s` is the limit."""

    def __init__(
        self,
        reader: GroupReader,
        kafka: GrouplessClient,
        ownership: PartitionOwnership,
        *,
        limit_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._kafka = kafka
        self._ownership = ownership
        self._limit_s = limit_s
        self._clock = clock
        self._busy_since_s: dict[str, float] = {}
        self._moved_at_s: dict[KafkaPartition, float] = {}
        self._rebalancing_since_s = clock()
        self.stuck_earlier: set[str] = set()
        """The partitions of the last call of `note_and_check_stuck_again` that are still stuck."""

    def note_progress(self, partition: KafkaPartition) -> None:
        """Note that records of the partition have arrived."""
        self._moved_at_s[partition] = self._clock()
        self.stuck_earlier.discard(str(partition))

    def note_rebalance_begun(self) -> None:
        """Note that a rebalance has begun."""
        self._rebalancing_since_s = self._clock()

    def note_rebalance_ended(self) -> None:
        """Note that a rebalance has ended."""
        self.stuck_earlier.discard(_STUCK_GROUP)
        self.restart_clock()

    @contextlib.contextmanager
    def suspend(self, worker: str) -> Iterator[None]:
        """Mark `worker` as busy within the block. While it's busy, no partition counts as stuck."""
        self._busy_since_s[worker] = self._clock()
        try:
            yield
        finally:
            del self._busy_since_s[worker]

    def is_busy_for_long(self) -> bool:
        """Return whether a worker, for example a write, has been busy for half of the limit."""
        now_s = self._clock()
        return any(now_s - at_s > self._limit_s / 2 for at_s in self._busy_since_s.values())

    def restart_clock(self) -> None:
        """Count the time without progress from now on, for the group and all its partitions."""
        self._moved_at_s = dict.fromkeys(self._reader.assigned, self._clock())
        self._rebalancing_since_s = self._clock()

    def note_and_check_stuck_again(self, stuck: set[str]) -> bool:
        """Note which partitions are stuck. Returns True if rejoining the group hasn't helped them.

        That's the case if each of them was already stuck at the last call. Their time without
        progress starts again from zero, so that the next call isn't due at once.
        """
        is_stuck_again = stuck <= self.stuck_earlier
        self.stuck_earlier = stuck
        self.restart_clock()
        return is_stuck_again

    async def find_stuck_partitions(self) -> set[str] | None:
        """Return the partitions that have unread records but no progress for `limit_s`, or None.

        If a rebalance takes that long, _STUCK_GROUP is returned instead. A partition's time begins
        at the last call that found everything in it read, or its leader unreachable.
        """
        if self._reader.rebalancing:
            is_late = self._clock() - self._rebalancing_since_s >= self._limit_s
            return {_STUCK_GROUP} if is_late else None
        unread = self._ownership.partitions_in_state(
            PartitionState.STOPPED, PartitionState.SET_ASIDE
        )
        left_to_others = chain(*self._ownership.other_group_partitions_by_reason.values())
        to_read = self._reader.assigned - unread.keys() - {*left_to_others}
        try:
            bounds = await self._kafka.reachable_offset_bounds(to_read)
        except RetryableError:
            bounds = {}
        now_s = self._clock()
        waiting = {one for one, at in bounds.items() if at.end > self._reader.next_offset(one)}
        self._moved_at_s |= dict.fromkeys(self._reader.assigned - waiting, now_s)
        # A partition that has advanced since the last check isn't stuck.
        self.stuck_earlier &= set(map(str, waiting))
        late = {one for one in waiting if now_s - self._moved_at_s.get(one, now_s) >= self._limit_s}
        again = {one for one in late if str(one) in self.stuck_earlier}
        unreadable = {one for one in again if await self._stop_if_unreadable(one)}
        return set(map(str, late - unreadable)) or None

    async def _stop_if_unreadable(self, partition: KafkaPartition) -> bool:
        """Stop the partition if no client can decode its next batch, and return whether it stopped.

        An empty response also means that the batch is unreadable, because that's what a broker
        sends if a damaged log has no batch at the offset.
        """
        if (offset := self._reader.next_offset(partition)) < 0:
            return False
        try:
            chunk = await self._kafka.fetch_chunk(partition, offset)
            if chunk is None or chunk.next_offset > offset:
                return False
            if (await self._kafka.offset_bounds([partition]))[partition].end <= offset:
                return False
        except UnreadableBatchError as error:
            why = error
        except RetryableError:
            return False
        else:
            why = UnreadableBatchError(partition, offset, "the broker returns no records from it")
        self._ownership.stop_partition(partition, why)
        return True

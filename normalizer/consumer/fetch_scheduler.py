"""Decides which partitions a fetch reads.

Normally a fetch reads slices of suspects first, and then records of healthy partitions. But if a
suspect's next record must be processed alone, the fetch reads only that record.
"""

import contextlib
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Final

from normalizer.consumer.membership import GroupMembership
from normalizer.consumer.record_store import RecordStore
from normalizer.errors import BrokerUnavailableError, PositionError, RetryableError
from normalizer.kafka import FetchedChunk, KafkaPartition, UnreadableBatchError
from normalizer.store.claim import Claim

_SUSPECT_WAIT_S: Final = 0.01
"""While no suspect has records, wait no longer than this for healthy partitions."""

ClaimedChunk = tuple[Claim, FetchedChunk]


class FetchScheduler:
    """Fetches records for this process, each with the claim under which it was read.

    `store` is the one that writes batches. Its connection is idle when a record is to be processed
    alone, whereas the one for claims may be waiting for another owner's transaction to end.
    `measure_stage` measures a stage of a batch.
    """

    def __init__(
        self,
        membership: GroupMembership,
        store: RecordStore,
        measure_stage: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._membership = membership
        self._ownership = membership.ownership
        self._store = store
        self._measure_stage = measure_stage
        self._unreadable = ""
        """The last error about a batch of the log that can't be decoded, to notice a repetition."""

    @property
    def has_suspects(self) -> bool:
        """Return whether any partition is a suspect."""
        return bool(self._ownership.suspects)

    async def fetch(self, room: int, wait_s: float) -> list[ClaimedChunk] | None:
        """Return at most `room` records, and wait up to `wait_s` for the first one.

        Suspects get at most half of the room, so that healthy partitions are read too. While there
        are any, the wait is shorter than `wait_s`, because the loop must come back to them.

        Returns None if the caller should write what it has collected so far before it fetches
        again. That's the case if the broker is unreachable, because the process then has to rejoin
        the group, or if a partition is about to stop. Either would end claims of partitions in the
        batch.
        """
        healthy = self._ownership.current_claims.keys() - self._ownership.suspects.keys()
        if not self.has_suspects:
            return await self._fetch(healthy, room, wait_s)
        slices: list[ClaimedChunk] = []
        left = max(room // 2, 1) if healthy else room
        for partition, size in self._ownership.suspects.due_suspects(alone=False):
            if left <= 0:
                break
            chunks = await self._fetch([partition], min(size, left), 0.0)
            # If the fetch has failed, continue. The next one of this partition reports it again.
            if chunks:
                self._ownership.suspects.begin_slice(partition)
                left -= sum([len(chunk.records) for _, chunk in chunks])
                slices += chunks
        room -= sum([len(chunk.records) for _, chunk in slices])
        if room <= 0:
            return slices
        others = await self._fetch(healthy, room, 0.0 if slices else _SUSPECT_WAIT_S)
        if others is None:
            return slices or None
        return slices + others

    async def fetch_one_suspect_record(self) -> list[ClaimedChunk]:
        """Return one record that must be processed alone, or nothing if there's none.

        Before that, a note in the position says that this record is processed alone. If the note
        can't be stored, the record is returned nevertheless. But if the record then kills the
        process, the next owner can't know that it was alone. One more process has to be killed
        before the record is blamed.
        """
        suspects = self._ownership.suspects
        for partition, size in suspects.due_suspects(alone=True):
            chunks = await self._fetch([partition], size, 0.0)
            if not chunks:
                continue
            suspects.begin_slice(partition)
            if not suspects[partition].is_blamed:
                (claim, _), *_ = chunks
                with contextlib.suppress(RetryableError, PositionError):
                    await self._store.mark_working_on_one_record(claim)
            return chunks
        return []

    async def _fetch(
        self, partitions: Collection[KafkaPartition], room: int, wait_s: float
    ) -> list[ClaimedChunk] | None:
        """Fetch chunks of records, and return each with the claim that was in force then.

        A claim that is made later doesn't apply to these records. Returns None if the broker is
        unreachable, or if a partition has reached a batch that can't be decoded. The caller then
        writes the records before that batch. If the next fetch fails in the same way, the partition
        is stopped.
        """
        try:
            with self._measure_stage("fetch"):
                chunks = await self._membership.fetch(
                    frozenset(partitions), max_records=room, timeout_s=wait_s
                )
        except BrokerUnavailableError as error:
            self._membership.request_rejoin(str(error))
            return None
        except UnreadableBatchError as error:
            if str(error) != self._unreadable:
                self._unreadable = str(error)
                return None
            self._unreadable = ""
            self._ownership.stop_partition(KafkaPartition(error.topic, error.partition), error)
            return []
        claims = self._ownership.current_claims
        return [(claims[one.partition], one) for one in chunks if one.partition in claims]

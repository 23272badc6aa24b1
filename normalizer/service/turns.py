"""Fetches records in turns: slices of suspects, then healthy partitions.

A record that must be in hand alone has a turn of its own, in which nothing else is read.
"""

import contextlib
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Final

from normalizer.errors import BrokerUnavailable, PositionError, RetryableError
from normalizer.kafka import FetchedChunk, KafkaPartition, UnreadableBatch
from normalizer.service.membership import Membership
from normalizer.service.record_store import RecordStore
from normalizer.store.store import Claim

SUSPECT_WAIT_S: Final = 0.01
"""While no suspect has records, those of healthy partitions are waited for no longer than this."""

ClaimedChunk = tuple[Claim, FetchedChunk]


class Turns:
    """Fetches for this process. `timed` measures a stage of a batch."""

    def __init__(
        self,
        membership: Membership,
        store: RecordStore,
        timed: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._membership = membership
        self._ownership = membership.ownership
        self._store = store
        self._timed = timed
        self._unreadable = ""

    @property
    def has_suspects(self) -> bool:
        """Whether any partition is a suspect."""
        return bool(self._ownership.suspects)

    async def fetch(self, room: int, wait_s: float) -> list[ClaimedChunk] | None:
        """Return at most `room` records; wait for the first, at most `wait_s`.

        None at once: write what there is first. The broker is away, and the process joins the group
        again, or a partition is about to be stopped. Suspects take half of the room at most, so
        that healthy partitions are read beside them.
        """
        healthy = self._ownership.held.keys() - self._ownership.suspects.keys()
        if not self.has_suspects:
            return await self._fetch(healthy, room, wait_s)
        slices: list[ClaimedChunk] = []
        left = max(room // 2, 1) if healthy else room
        for partition, size in self._ownership.suspects.due(alone=False):
            if left <= 0:
                break
            chunks = await self._fetch([partition], min(size, left), 0.0)
            if chunks:
                self._ownership.suspects.note_fetched(partition)
                left -= sum([len(chunk.records) for _, chunk in chunks])
                slices += chunks
        room -= sum([len(chunk.records) for _, chunk in slices])
        if room <= 0:
            return slices
        others = await self._fetch(healthy, room, 0.0 if slices else SUSPECT_WAIT_S)
        return slices + others if others is not None else slices or None

    async def fetch_alone(self) -> list[ClaimedChunk]:
        """Return one record that must be in hand alone, if there's one; the store knows then.

        If the store doesn't answer, the record is read all the same: an owner that's killed by it
        leaves no word of it then, so that one more owner is.
        """
        suspects = self._ownership.suspects
        for partition, size in suspects.due(alone=True):
            chunks = await self._fetch([partition], size, 0.0)
            if not chunks:
                continue
            suspects.note_fetched(partition)
            if not suspects[partition].is_blamed:
                with contextlib.suppress(RetryableError, PositionError):
                    await self._store.take_alone(chunks[0][0])
            return chunks
        return []

    async def _fetch(
        self, partitions: Collection[KafkaPartition], room: int, wait_s: float
    ) -> list[ClaimedChunk] | None:
        """Return chunks with the claims held at that moment: a later claim must not cover them.

        None where the broker is away, or where a partition comes to a batch that nobody can read.
        What was read before that batch is written first. The partition is stopped when the fetch
        after that fails in the same way.
        """
        try:
            with self._timed("fetch"):
                chunks = await self._membership.reader.fetch(
                    frozenset(partitions), max_records=room, timeout_s=wait_s
                )
        except BrokerUnavailable as error:
            self._membership.rejoin(str(error))
            return None
        except UnreadableBatch as error:
            if str(error) != self._unreadable:
                self._unreadable = str(error)
                return None
            self._unreadable = ""
            self._ownership.stop(KafkaPartition(error.topic, error.partition), error)
            return []
        held = self._ownership.held
        return [(held[one.partition], one) for one in chunks if one.partition in held]

"""Commits stored positions to the consumer group, for lag tools only."""

import asyncio
from collections.abc import Mapping
from typing import Final

from normalizer.consumer.ownership import PartitionOwnership
from normalizer.consumer.record_store import RecordStore
from normalizer.errors import NormalizerError
from normalizer.kafka import GroupReader, KafkaPartition
from normalizer.runtime.backoff import wait_at_most
from normalizer.runtime.logging_setup import get_logger
from normalizer.store.claim import Claim

_COMMIT_EVERY_S: Final = 1.0
_COMMIT_TIMEOUT_S: Final = 5.0
"""How long one commit may take."""

_log: Final = get_logger()


class GroupOffsetCommitter:
    """Commits stored positions, and the offsets at which new claims begin.

    A failed commit is repeated with the next one. Nothing is lost if it never succeeds, because no
    process reads these offsets to find its position.
    """

    def __init__(
        self, reader: GroupReader, ownership: PartitionOwnership, store: RecordStore
    ) -> None:
        self._reader = reader
        self._ownership = ownership
        self._store = store
        self._noted: dict[KafkaPartition, int] = {}
        """The positions that were stored since the last commit began."""
        self._to_commit: dict[KafkaPartition, int] = {}
        """The offsets of the last commit, unless it succeeded."""
        self._claims_noted: Mapping[KafkaPartition, Claim] = {}
        """The claims at the last commit. The others are new, so their offsets are committed too."""

    def note_position(self, partition: KafkaPartition, next_offset: int) -> None:
        """Note that this position was stored, so that the next commit includes it."""
        self._noted[partition] = next_offset

    async def keep_committing(self, stopping: asyncio.Event) -> None:
        """Commit every second until the service stops."""
        while not await wait_at_most(stopping, _COMMIT_EVERY_S):
            await self.commit()

    async def commit(self) -> None:
        """Commit the noted positions.

        A store whose positions are the group's offsets needs no commit.
        """
        if self._store.positions_are_group_offsets:
            return
        known, claims = self._claims_noted, self._ownership.current_claims
        begun = {one: claim.next_offset for one, claim in claims.items() if known.get(one) != claim}
        self._claims_noted = claims
        # The later one counts: a new claim after what failed before it, and then its own positions.
        self._to_commit |= begun | self._noted
        self._noted = {}
        try:
            await self._reader.commit(self._to_commit, timeout_s=_COMMIT_TIMEOUT_S)
        except NormalizerError as error:
            _log.debug("group.commit_failed", why=str(error))
        else:
            self._to_commit = {}

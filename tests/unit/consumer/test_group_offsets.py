"""Which offsets are committed to the group, also after commits that failed."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec

from normalizer.consumer.group_offsets import GroupOffsetCommitter
from normalizer.errors import BrokerUnavailableError
from normalizer.kafka import KafkaPartition
from tests.support.factories import TOPIC, make_claim

PARTITION = KafkaPartition(TOPIC, 0)


class Group:
    """A consumer group, the claims of its only member, and what that commits."""

    def __init__(self) -> None:
        self.current_claims = {PARTITION: make_claim(0)}
        self.is_away = False
        self.offset = 0
        self.noted_meanwhile: int | None = None
        self.committer = GroupOffsetCommitter(
            cast("Any", self),
            cast("Any", self),
            cast("Any", SimpleNamespace(positions_are_group_offsets=False)),
        )

    async def commit(self, offsets: dict[KafkaPartition, int], *, timeout_s: float) -> None:  # noqa: ARG002 - as in GroupReader
        if self.is_away:
            message = "away"
            raise BrokerUnavailableError(message)
        self.offset = offsets.get(PARTITION, self.offset)
        if self.noted_meanwhile is not None:
            self.committer.note_position(PARTITION, self.noted_meanwhile)
            self.noted_meanwhile = None


async def test_a_position_whose_commit_failed_gives_way_to_a_new_claim() -> None:
    """Another owner has gone on from it, or an operator has moved it."""
    group = Group()
    group.is_away = True
    group.committer.note_position(PARTITION, 100)
    await group.committer.commit()

    group.current_claims = {PARTITION: msgspec.structs.replace(make_claim(0), next_offset=500)}
    group.is_away = False
    await group.committer.commit()

    assert group.offset == 500


async def test_a_position_is_committed_once_a_commit_succeeds() -> None:
    group = Group()
    await group.committer.commit()
    group.is_away = True
    group.committer.note_position(PARTITION, 100)
    await group.committer.commit()

    group.is_away = False
    group.noted_meanwhile = 200
    await group.committer.commit()
    assert group.offset == 100
    await group.committer.commit()

    assert group.offset == 200

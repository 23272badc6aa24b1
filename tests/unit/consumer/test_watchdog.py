"""When a partition counts as stuck: once its records have waited for the whole limit."""

from collections.abc import Iterable
from typing import Any, cast

import pytest

from normalizer.consumer.partition_state import PartitionState
from normalizer.consumer.watchdog import ProgressWatchdog
from normalizer.errors import BrokerUnavailableError
from normalizer.kafka import KafkaPartition, OffsetBounds

LIMIT_S = 60.0
ONE, TWO = KafkaPartition("topic", 0), KafkaPartition("topic", 1)


class Log:
    """A reader, the logs that it reads, and their watchdog."""

    def __init__(self) -> None:
        self.assigned = frozenset({ONE, TWO})
        self.states: dict[KafkaPartition, PartitionState] = {}
        self.other_group_partitions_by_reason: dict[str, list[KafkaPartition]] = {}
        self.rebalancing = False
        self.read = {ONE: 5, TWO: 5}
        self.ends = {ONE: 5, TWO: 5}
        self.now_s = 0.0
        self.is_away = False
        self.watchdog = ProgressWatchdog(
            cast("Any", self),
            cast("Any", self),
            cast("Any", self),
            limit_s=LIMIT_S,
            clock=lambda: self.now_s,
        )
        self.watchdog.note_rebalance_ended()

    def partitions_in_state(self, *states: PartitionState) -> dict[KafkaPartition, PartitionState]:
        return {one: state for one, state in self.states.items() if state in states}

    def next_offset(self, partition: KafkaPartition) -> int:
        return self.read.get(partition, -1)

    async def reachable_offset_bounds(
        self, partitions: Iterable[KafkaPartition]
    ) -> dict[KafkaPartition, OffsetBounds]:
        if self.is_away:
            message = "away"
            raise BrokerUnavailableError(message)
        return {one: OffsetBounds(0, self.ends[one]) for one in partitions if one in self.ends}

    async def stuck_after(self, seconds: float) -> set[str] | None:
        """Return what's stuck that much later, checked as often as in the service."""
        end_s, stuck = self.now_s + seconds, None
        while self.now_s < end_s:
            self.now_s = min(end_s, self.now_s + LIMIT_S / 8)
            stuck = await self.watchdog.find_stuck_partitions()
        return stuck


async def test_records_that_wait_for_the_limit_are_stuck() -> None:
    log = Log()
    log.ends[ONE] = 9

    assert await log.stuck_after(LIMIT_S - 1) is None
    assert await log.stuck_after(1) == {str(ONE)}


@pytest.mark.parametrize("is_claimed", [True, False], ids=["a new record", "claimed again"])
@pytest.mark.parametrize("idle_s", [LIMIT_S, 1.5 * LIMIT_S, 3600.0])
async def test_an_idle_partition_with_something_new_to_do_is_not_stuck_at_once(
    idle_s: float, *, is_claimed: bool
) -> None:
    log = Log()
    await log.stuck_after(idle_s)
    if is_claimed:
        log.ends[ONE] = 6
    else:
        del log.read[ONE]

    assert await log.stuck_after(1) is None
    assert await log.stuck_after(LIMIT_S) == {str(ONE)}


@pytest.mark.parametrize("state", [PartitionState.STOPPED, PartitionState.SET_ASIDE])
async def test_moving_stopped_and_set_aside_partitions_are_not_stuck(state: PartitionState) -> None:
    log = Log()
    log.ends = {ONE: 99, TWO: 99}
    log.states[TWO] = state

    for _ in range(8):
        assert await log.stuck_after(LIMIT_S / 4) is None
        log.watchdog.note_progress(ONE)


async def test_partition_left_to_another_group_is_not_stuck() -> None:
    log = Log()
    log.ends = {ONE: 5, TWO: 99}
    log.other_group_partitions_by_reason = {"consumer group first": [TWO]}

    assert await log.stuck_after(2 * LIMIT_S) is None


async def test_nothing_is_stuck_whose_leader_or_whole_cluster_is_away() -> None:
    log = Log()
    log.read = {ONE: 0, TWO: 0}
    del log.ends[ONE]
    log.watchdog.note_progress(TWO)
    assert await log.stuck_after(LIMIT_S - 1) is None
    log.is_away = True

    assert await log.stuck_after(2 * LIMIT_S) is None
    log.is_away, log.ends[ONE] = False, 5
    assert await log.stuck_after(LIMIT_S / 8) is None


async def test_a_partition_that_another_process_advanced_is_not_stuck() -> None:
    """The first time it rejoins the group, and only the second time in a row it ends."""
    log = Log()
    log.ends[ONE] = 9
    assert not log.watchdog.note_and_check_stuck_again(await log.stuck_after(LIMIT_S) or set())
    log.watchdog.note_rebalance_ended()
    log.ends[TWO] = 9
    await log.stuck_after(LIMIT_S / 8)
    still = {*log.watchdog.stuck_earlier}

    log.assigned = frozenset({TWO})
    await log.stuck_after(LIMIT_S / 8)

    assert still == {str(ONE)}
    assert log.watchdog.stuck_earlier == set()

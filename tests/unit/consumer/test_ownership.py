"""Which events change the state of a partition, and what a state keeps of the claim."""

from collections.abc import Callable
from typing import Any, cast

from normalizer.consumer.ownership import PartitionOwnership
from normalizer.consumer.partition_state import STATE_TRANSITIONS, PartitionState
from normalizer.errors import BrokerUnavailableError, FencedError, PositionMovedError
from normalizer.kafka import KafkaPartition
from normalizer.runtime.logging_setup import ServiceCounters
from normalizer.store.claim import Claim

ONE = KafkaPartition("topic", 0)
FENCED = FencedError("another process claimed it", topic="topic", partition=0)
MOVED = PositionMovedError("an operator moved it", topic="topic", partition=0)


class Reader:
    """A reader to which the group has assigned one partition."""

    def __init__(self) -> None:
        self.assigned = frozenset({ONE})
        self.stopped_reading: list[KafkaPartition] = []

    def stop_reading(self, partition: KafkaPartition) -> None:
        self.stopped_reading.append(partition)


def _ownership() -> PartitionOwnership:
    return PartitionOwnership(cast("Any", Reader()), counters=ServiceCounters(), clock=lambda: 5.0)


def _claim(epoch: int) -> Claim:
    return Claim(
        topic="topic",
        incarnation=1,
        partition=0,
        epoch=epoch,
        next_offset=0,
        cluster_id="cluster",
        last_offset=None,
        last_recorded_ms=None,
        last_crc=None,
        slice_records=1,
    )


def test_a_partition_is_unclaimed_until_its_claim_and_after_its_release() -> None:
    ownership = _ownership()
    before = ownership.unclaimed_partitions()

    ownership.note_claim(ONE, _claim(1), log_end=9)
    while_claimed = ownership.unclaimed_partitions()
    ownership.release_for_new_claim(ONE, epoch=1)

    assert (before, while_claimed, ownership.unclaimed_partitions()) == ([ONE], [], [ONE])


def test_a_batch_of_an_older_claim_changes_nothing() -> None:
    ownership = _ownership()
    ownership.note_claim(ONE, newer := _claim(2), log_end=9)

    ownership.release_for_new_claim(ONE, epoch=1)
    ownership.set_partition_aside(ONE, epoch=1)
    ownership.drop_claim(ONE, 1, FENCED)

    assert ownership.current_claims == {ONE: newer}


def test_a_partition_that_leaves_claimed_is_neither_read_nor_a_suspect() -> None:
    ownership = _ownership()
    reader = cast("Any", ownership)._reader
    leaves: tuple[Callable[[], None], ...] = (
        lambda: ownership.release_for_new_claim(ONE, 1),
        lambda: ownership.set_partition_aside(ONE, 1),
        lambda: ownership.drop_claim(ONE, 1, FENCED),
        lambda: ownership.stop_partition(ONE, MOVED),
        ownership.revoke_all_claims,
    )
    for leave in leaves:
        ownership.make_stopped_partitions_claimable()
        ownership.revoke_all_claims()
        ownership.note_claim(ONE, _claim(1), log_end=9)
        reader.stopped_reading.clear()
        assert [*ownership.suspects] == [ONE]

        leave()

        assert (dict(ownership.suspects), reader.stopped_reading) == ({}, [ONE])
        assert dict(ownership.current_claims) == {}


def test_a_stopped_partition_is_claimed_again_once_an_operator_moves_its_position() -> None:
    ownership = _ownership()
    ownership.note_claim(ONE, _claim(1), log_end=9)
    ownership.stop_partition(ONE, MOVED)

    ownership.release_for_new_claim(ONE, epoch=1)
    after_rollback = ownership.unclaimed_partitions()
    ownership.drop_claim(ONE, 1, MOVED)

    assert (after_rollback, ownership.unclaimed_partitions()) == ([], [ONE])


def test_a_stopped_partition_that_another_process_claimed_waits_for_an_assignment() -> None:
    ownership = _ownership()
    ownership.note_claim(ONE, _claim(1), log_end=9)
    ownership.stop_partition(ONE, MOVED)
    ownership.drop_claim(ONE, 1, FENCED)
    ownership.drop_claim(ONE, 1, MOVED)
    ownership.revoke_all_claims()
    during_rebalance = [*ownership.stop_reasons_by_partition]
    ownership.make_stopped_partitions_claimable()

    assert (during_rebalance, ownership.unclaimed_partitions()) == ([ONE], [ONE])


def test_only_a_partition_to_claim_or_verify_is_unreachable() -> None:
    ownership = _ownership()
    ownership.mark_unreachable(ONE, BrokerUnavailableError("its leader doesn't answer"))
    to_claim = dict(ownership.unreachable_reasons_by_partition)
    ownership.note_claim(ONE, _claim(1), log_end=9)
    claimed = dict(ownership.unreachable_reasons_by_partition)
    ownership.mark_unreachable(ONE, BrokerUnavailableError("its leader doesn't answer"))
    ownership.drop_claim(ONE, 1, FENCED)

    assert to_claim == {ONE: "its leader doesn't answer"}
    assert (claimed, dict(ownership.unreachable_reasons_by_partition)) == ({}, {})
    assert ownership.fenced_s_by_partition() == {ONE: 0.0}


def test_every_state_has_transitions() -> None:
    assert STATE_TRANSITIONS.keys() == {*PartitionState}

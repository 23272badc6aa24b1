"""The results of a poll from positions, bounds, and records, without a broker."""

import time

import pytest

from normalizer.config.settings import Settings
from normalizer.kafka import KafkaPartition, OffsetBounds
from normalizer.monitoring.gauges import _database_values, _lag_values
from normalizer.monitoring.lag import LOG_END_MAX_AGE_S, LagMonitor
from normalizer.monitoring.partition_lag import PartitionLag
from normalizer.observability.service_metrics import metric_family

PARTITION = KafkaPartition("noetl.events", 0)


def make_lag(next_offset: int, bounds: OffsetBounds) -> PartitionLag:
    return PartitionLag(
        next_offset=next_offset, bounds=bounds, oldest_unread_ms=None, retention_ms=1.0
    )


@pytest.mark.parametrize(
    ("next_offset", "bounds", "unread"),
    [
        (0, OffsetBounds(0, 0), 0),
        (7, OffsetBounds(0, 10), 3),
        (7, OffsetBounds(9, 10), 1),
        (12, OffsetBounds(0, 10), 0),
    ],
)
def test_a_position_stays_as_it_is_stored_and_deleted_records_are_no_lag(
    next_offset: int, bounds: OffsetBounds, unread: int
) -> None:
    """Where Kafka deletes what nobody reads, a position that moved would look like progress."""
    lag = make_lag(next_offset, bounds)

    assert (lag.next_offset, lag.lag_records) == (next_offset, unread)


async def test_nothing_is_unread_nor_unverified_before_the_database_was_read() -> None:
    """A process that starts in an outage would report the whole log as unverified lag."""
    lag_monitor = LagMonitor(
        Settings(
            kafka_bootstrap_servers=("none:1",),
            kafka_topics=(PARTITION.topic,),
            database_url="postgresql://nobody@127.0.0.1:1/none",
        )
    )
    lag_monitor._bounds, lag_monitor._bounds_at_s = (
        {PARTITION: OffsetBounds(3, 9)},
        {PARTITION: time.monotonic()},
    )

    await lag_monitor._poll_database()

    assert not lag_monitor.database_up
    assert lag_monitor.lag_by_partition == {}
    values = _lag_values(lag_monitor) | _database_values(lag_monitor)
    for name in (
        "work_remaining_records",
        "unverified_seconds",
        "divergent_rows",
        "divergent_seconds",
    ):
        family = metric_family(f"normalizer_{name}", values[f"normalizer_{name}"])
        assert family.samples == [], name
    await lag_monitor.close()


def measured(ages_s: dict[int, float]) -> LagMonitor:
    """A monitor that has measured each partition so long ago, and whose position is 5 of 9."""
    lag_monitor = LagMonitor(
        Settings(kafka_bootstrap_servers=("none:1",), kafka_topics=(PARTITION.topic,))
    )
    partitions = {KafkaPartition(PARTITION.topic, number): age for number, age in ages_s.items()}
    lag_monitor._existing = frozenset(partitions)
    lag_monitor._bounds = dict.fromkeys(partitions, OffsetBounds(3, 9))
    now_s = time.monotonic()
    lag_monitor._bounds_at_s = {one: now_s - age_s for one, age_s in partitions.items()}
    lag_monitor._positions = dict.fromkeys(partitions, 5)
    return lag_monitor


def samples(lag_monitor: LagMonitor) -> dict[str, dict[str, float]]:
    """The value of each lag metric, by partition, or '' for one without."""
    return {
        name: {
            each.labels.get("partition", ""): each.value
            for each in metric_family(name, values).samples
        }
        for name, values in _lag_values(lag_monitor).items()
    }


async def test_the_lag_is_the_sum_while_the_end_of_every_partition_is_known() -> None:
    lag_monitor = measured({0: 0.0, 1: LOG_END_MAX_AGE_S / 2})

    assert lag_monitor.lag_records == 8
    assert lag_monitor.unmeasured_partitions == []
    assert samples(lag_monitor)["normalizer_work_remaining_records"] == {"": 8}
    await lag_monitor.close()


async def test_lag_that_nobody_could_measure_lately_is_left_out_and_not_0() -> None:
    """Its leader is unreachable: what it holds since is not known, and the sum is not either."""
    lag_monitor = measured({0: 0.0, 1: LOG_END_MAX_AGE_S + 1})

    shown = samples(lag_monitor)

    assert lag_monitor.lag_records is None
    assert lag_monitor.unmeasured_partitions == [KafkaPartition(PARTITION.topic, 1)]
    assert shown["normalizer_work_remaining_records"] == {}
    assert shown["normalizer_lag_records"] == {"0": 4}
    await lag_monitor.close()


async def test_the_lag_of_a_partition_whose_end_was_never_seen_is_unknown() -> None:
    lag_monitor = measured({0: 0.0})
    unseen = KafkaPartition(PARTITION.topic, 1)
    lag_monitor._existing |= {unseen}

    assert lag_monitor.lag_records is None
    assert lag_monitor.unmeasured_partitions == [unseen]
    await lag_monitor.close()


async def test_the_age_of_unread_records_is_unknown_before_the_first_was_looked_at() -> None:
    lag_monitor = measured({0: 0.0})
    lag_monitor._retention_ms = {PARTITION.topic: 3_600_000.0}

    shown = samples(lag_monitor)

    assert shown["normalizer_lag_records"] == {"0": 4}
    assert shown["normalizer_lag_seconds"] == {}
    assert shown["normalizer_time_to_expiry_seconds"] == {}
    await lag_monitor.close()


async def test_a_batch_that_nobody_can_read_is_unread_since_it_was_first_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lag_monitor = LagMonitor(
        Settings(kafka_bootstrap_servers=("none:1",), kafka_topics=(PARTITION.topic,))
    )

    async def nothing(*_: object) -> None:
        """What the reader finds of it."""

    monkeypatch.setattr(lag_monitor._log, "first_record_in_range", nothing)
    lag_monitor._bounds, lag_monitor._bounds_at_s = (
        {PARTITION: OffsetBounds(3, 9)},
        {PARTITION: time.monotonic()},
    )
    lag_monitor._positions = {}
    lag_monitor._retention_ms = {PARTITION.topic: 3_600_000.0}
    lag_monitor.broker_up = True

    seen_s = time.time()
    await lag_monitor.poll_oldest_unread()
    await lag_monitor.poll_oldest_unread()
    (lag,) = lag_monitor.lag_by_partition.values()

    assert lag.lag_s(seen_s + 600) == pytest.approx(600, abs=5)
    assert lag.time_to_expiry_s(seen_s + 600) == pytest.approx(3_000, abs=5)
    await lag_monitor.close()

"""What a poll makes of positions, bounds and records, without a broker."""

import time

import pytest

from normalizer.kafka import Bounds, KafkaPartition
from normalizer.service.gauges import database_families, lag_families
from normalizer.service.lag import LagMonitor
from normalizer.service.partition_lag import PartitionLag
from normalizer.settings import Settings

PARTITION = KafkaPartition("noetl.events", 0)


def lag_of(next_offset: int, bounds: Bounds) -> PartitionLag:
    return PartitionLag(
        next_offset=next_offset, bounds=bounds, oldest_unread_ms=None, retention_ms=1.0
    )


@pytest.mark.parametrize(
    ("next_offset", "bounds", "unread"),
    [(0, Bounds(0, 0), 0), (7, Bounds(0, 10), 3), (7, Bounds(9, 10), 1), (12, Bounds(0, 10), 0)],
)
def test_a_position_stays_as_it_is_stored_and_deleted_records_are_no_lag(
    next_offset: int, bounds: Bounds, unread: int
) -> None:
    """Where Kafka deletes what nobody reads, a position that moved would look like progress."""
    lag = lag_of(next_offset, bounds)

    assert (lag.next_offset, lag.lag_records) == (next_offset, unread)


async def test_nothing_is_unread_nor_unverified_before_the_database_was_read() -> None:
    """One that starts in an outage would report the whole log, and that nobody ever verified."""
    lag_monitor = LagMonitor(
        Settings(
            kafka_bootstrap_servers=("none:1",),
            kafka_topics=(PARTITION.topic,),
            database_url="postgresql://nobody@127.0.0.1:1/none",
        )
    )
    lag_monitor._bounds = {PARTITION: Bounds(3, 9)}

    await lag_monitor._poll_database()

    assert not lag_monitor.database_up
    assert lag_monitor.partitions == {}
    names = {one.name: one.samples for one in lag_families(lag_monitor)}
    assert names["normalizer_work_remaining_records"] == []
    names = {one.name: one.samples for one in database_families(lag_monitor)}
    for name in ("unverified_seconds", "divergent_rows", "divergent_seconds"):
        assert names[f"normalizer_{name}"] == [], name
    await lag_monitor.close()


async def test_a_batch_that_nobody_can_read_is_unread_since_it_was_first_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lag_monitor = LagMonitor(
        Settings(kafka_bootstrap_servers=("none:1",), kafka_topics=(PARTITION.topic,))
    )

    async def nothing(*_: object) -> None:
        """What the reader finds of it."""

    monkeypatch.setattr(lag_monitor._log, "first_record", nothing)
    lag_monitor._bounds, lag_monitor._bounds_at_s = {PARTITION: Bounds(3, 9)}, {PARTITION: 0.0}
    lag_monitor._positions = {}
    lag_monitor._retention_ms = {PARTITION.topic: 3_600_000.0}
    lag_monitor.broker_up = True

    seen_s = time.time()
    await lag_monitor.find_oldest_unread()
    await lag_monitor.find_oldest_unread()
    (lag,) = lag_monitor.partitions.values()

    assert lag.lag_s(seen_s + 600) == pytest.approx(600, abs=5)
    assert lag.expires_s(seen_s + 600) == pytest.approx(3_000, abs=5)
    await lag_monitor.close()

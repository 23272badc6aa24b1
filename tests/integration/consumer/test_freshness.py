"""Quiet, behind, dead, broker away, claimed by nobody: SQL alone distinguishes them."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from normalizer.cli.ledger_check import verify_ledger
from normalizer.cli.partition_positions import read_positions, retire_partition
from normalizer.config.settings import Settings
from normalizer.embedded import KafkaBroker
from normalizer.kafka import KafkaPartition
from normalizer.monitoring.monitoring_server import MonitoringServer
from normalizer.monitoring.source_heartbeat import HeartbeatWriter, ObservedLogEnd
from normalizer.store.position_changes import PositionChange
from tests.support.api_client import api_client
from tests.support.factories import TOPIC, after, envelope, make_batch, recorded_at
from tests.support.feed import Feed
from tests.support.service_runs import (
    Watcher,
    process,
    running,
    settings_for,
    until,
    watching,
)
from tests.support.stack import Database
from tests.support.table_rows import claimed, open_store

ONE_PARTITION = pytest.mark.parametrize("topic", [1], indirect=True)


@contextlib.asynccontextmanager
async def monitored(settings: Settings) -> AsyncIterator[Any]:
    async with running(settings) as service:
        with MonitoringServer(settings, service):
            yield service


async def freshness(watcher: Watcher) -> dict[int, dict[str, Any]]:
    rows = await watcher.connection.fetch("select * from projector.freshness order by partition")
    return {row["partition"]: dict(row) for row in rows}


async def until_state(watcher: Watcher, state: str, partition: int = 0) -> dict[str, Any]:
    async def so() -> bool:
        row = (await freshness(watcher)).get(partition)
        return bool(row and row["state"] == state)

    await until(so, lambda: freshness(watcher))
    return (await freshness(watcher))[partition]


async def until_heartbeat(watcher: Watcher) -> dict[str, Any]:
    """Wait for two heartbeats: the first may have been on its way already."""
    for _ in range(2):
        before = (await freshness(watcher))[0]["heartbeat_at"]

        async def is_another_sent(before: Any = before) -> bool:
            return bool((await freshness(watcher))[0]["heartbeat_at"] != before)

        await until(is_another_sent, lambda: freshness(watcher))
    return (await freshness(watcher))[0]


@ONE_PARTITION
async def test_a_quiet_log_is_quiet_and_up_to_date_though_nothing_comes(feed: Feed) -> None:
    await feed.send(range(3))
    async with monitored(feed.settings()):
        await feed.until_read({0: 3})
        await until_state(feed.watcher, "caught_up")

        # The first heartbeat after the last write may still count from the mark before it.
        async def nothing_is_behind() -> bool:
            row = (await freshness(feed.watcher))[0]
            read = (row["next_offset"], row["log_end"], row["unread"], row["behind_s"])
            return read == (3, 3, 0, 0)

        await until(nothing_is_behind, lambda: freshness(feed.watcher))
        before = (await freshness(feed.watcher))[0]["as_of"]

        async def moves() -> bool:
            row = (await freshness(feed.watcher))[0]
            return bool(row["as_of"] > before and row["behind_s"] == 0)

        await until(moves, lambda: freshness(feed.watcher))


@ONE_PARTITION
async def test_a_claim_is_the_first_heartbeat_of_its_owner(feed: Feed) -> None:
    """Nothing here sends a later one. A process that ends at each start does not seem alive."""
    settings = feed.settings()

    async def state() -> str:
        return str((await freshness(feed.watcher))[0]["state"])

    async with running(settings):
        await feed.until_claimed()
        first = await state()
        await feed.send(range(3))
        await feed.until_read({0: 3})
    await feed.connection.execute(
        """
        update normalizer.source_heartbeats
        set    (partition_count, log_end, end_seen_at, stopped, heartbeat_at)
             = (1, 3, now() - interval '1 hour', true, now() - interval '1 hour')
        """
    )
    async with running(settings):
        await feed.until_claimed(epoch=2)
        after_an_hour = await state()
    reclaimed = (await freshness(feed.watcher))[0]
    await feed.connection.execute(
        """
        update normalizer.source_heartbeats set heartbeat_at = heartbeat_at - interval '10 seconds';
        update normalizer.source_positions set holder = 'killed'
        """
    )
    later = await state()
    await feed.send(range(3, 6))
    async with running(settings):
        await feed.until_claimed(epoch=3)
        suspected = await state()

    assert (first, after_an_hour) == ("reading", "reading")
    assert (later, suspected) == ("dead", "dead")
    # The new owner has not seen the end of the log yet. What was known of it an hour ago stays.
    assert (reclaimed["log_end"], reclaimed["unread"]) == (None, None)
    assert reclaimed["as_of"] == reclaimed["end_seen_at"] < reclaimed["heartbeat_at"]
    assert reclaimed["behind_s"] > 3_590


@ONE_PARTITION
async def test_a_process_at_a_wrong_address_stops_a_partition_only_once_its_owner_is_dead(
    feed: Feed, kafka_broker: KafkaBroker
) -> None:
    """It has no claim to report, so it reports on the heartbeat that the owner left."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(feed.name, 1, 1)])
    await admin.close()
    right = feed.settings()
    wrong = settings_for(feed.database, feed.topic, kafka_broker.bootstrap_servers)
    await feed.send(range(3))

    async with monitored(wrong) as foreign:
        async with monitored(right):
            await feed.until_read({0: 3})
            await until_state(feed.watcher, "caught_up")
            await until(lambda: bool(foreign.ownership.stop_reasons_by_partition))
            beside = await until_heartbeat(feed.watcher)
        stopped = await until_state(feed.watcher, "stopped")
        later = await until_heartbeat(feed.watcher)
        async with monitored(right):
            await until_state(feed.watcher, "caught_up")
            after_the_repair = await until_heartbeat(feed.watcher)

    assert (beside["state"], after_the_repair["state"]) == ("caught_up", "caught_up")
    assert later["state"] == "stopped"
    assert stopped["as_of"] == later["as_of"] == stopped["end_seen_at"]


@ONE_PARTITION
async def test_a_position_that_was_deleted_leaves_no_word_of_an_earlier_process(feed: Feed) -> None:
    settings = feed.settings()
    await feed.send(range(3))
    async with monitored(settings):
        await feed.until_read({0: 3})
        await until_state(feed.watcher, "caught_up")
    await feed.connection.execute("update normalizer.source_heartbeats set epoch = epoch + 5")

    await feed.connection.execute("delete from normalizer.source_positions")

    async with monitored(settings):
        await feed.until_read({0: 3})
        assert (await until_state(feed.watcher, "caught_up"))["next_offset"] == 3


async def test_a_topic_that_was_retired_is_not_waited_for_until_it_is_read_again(
    feed: Feed,
) -> None:
    """Its partitions that nobody ever claimed are not waited for either."""
    settings = feed.settings()
    await feed.send(range(3), partition=0)
    async with monitored(settings):
        await feed.until_read({0: 3})
        await until_state(feed.watcher, "caught_up")
    for partition in range(1, feed.topic.partitions):
        await feed.connection.execute(
            "delete from normalizer.source_positions where partition = $1", partition
        )
    await feed.connection.execute(
        """
        update normalizer.source_heartbeats set heartbeat_at = now() - interval '1 hour'
        """
    )
    before = await freshness(feed.watcher)
    change = PositionChange(action="retire", who="me", why="renamed")
    positions = await read_positions(settings, None, feed.name, 0)

    retired = await retire_partition(
        settings, None, positions[0].kafka_partition, change=change, dry_run=False
    )

    assert {row["state"] for row in before.values()} == {"dead", "unclaimed"}
    assert str(retired).startswith(f"{feed.name}[0]: from 3 to 3: retired until")
    assert await freshness(feed.watcher) == {}
    assert [one.wrong async for one in verify_ledger(feed.database.url, None)] == [()]
    async with api_client(feed.database.url) as api:
        assert (await api.get("/api/v1/freshness")).json()["rows"] == []
    async with monitored(settings):
        await until_state(feed.watcher, "caught_up")


@ONE_PARTITION
async def test_a_log_whose_batch_waits_is_behind_and_others_are_not_stuck_for_it(
    feed: Feed,
) -> None:
    await feed.send(range(3))
    async with (
        monitored(feed.settings()),
        watching(feed.database.url) as other,
    ):
        await feed.until_read({0: 3})
        level = await until_state(feed.watcher, "caught_up")
        lock = other.connection.transaction()
        await lock.start()
        await other.connection.execute("lock table normalizer.events in share mode")
        await feed.send(range(3, 8))
        behind = await until_state(feed.watcher, "behind")
        await lock.rollback()
        await until_state(feed.watcher, "caught_up")

    assert behind["unread"] == 5
    assert behind["behind_s"] > 10
    assert level["as_of"] <= behind["as_of"]


async def test_a_log_that_was_never_read_to_an_end_is_as_old_as_the_last_record_read(
    database: Database, watcher: Watcher
) -> None:
    """Or of no known time: what follows may be of any age, also older than the first heartbeat."""
    heartbeat, seen = HeartbeatWriter(database.url), []

    async with open_store(database) as store:
        claim = await claimed(store)

        async def report(log_end: int, *, stopped: bool = False) -> None:
            partition = KafkaPartition(TOPIC, 0)
            log = ObservedLogEnd(log_end=log_end, partition_count=1, age_s=0)
            await heartbeat.send({partition: claim}, {partition: log}, [partition] * stopped)
            seen.append((await freshness(watcher))[0])

        await report(3)
        await store.write(first := make_batch(envelope(0), claim=claim))
        await report(4)
        await report(0, stopped=True)
        await store.write(make_batch(envelope(1), envelope(2), claim=after(claim, first)))
        await report(4)
    heartbeat.close()

    states, times, behind_s = (
        [row[column] for row in seen] for column in ("state", "as_of", "behind_s")
    )
    assert states == ["reading", "behind", "stopped", "reading"]
    assert times == [None, recorded_at(0), recorded_at(0), seen[0]["end_seen_at"]]
    assert behind_s[0] is None
    assert behind_s[1:] == [
        (row["heartbeat_at"] - row["as_of"]).total_seconds() for row in seen[1:]
    ]


@ONE_PARTITION
async def test_a_killed_process_is_dead_and_makes_nothing_stuck(feed: Feed) -> None:
    settings = feed.settings()
    await feed.send(range(3))
    async with process(settings) as killed:
        await feed.until_read({0: 3})
        await until_state(feed.watcher, "caught_up")
        killed.kill()
        await killed.wait()
    await feed.connection.execute(
        """
        update normalizer.source_heartbeats
        set    heartbeat_at = heartbeat_at - interval '10 s',
               end_seen_at  = end_seen_at  - interval '10 s';
        update projector.execution_facts
        set    last_at = end_seen_at - interval '4 min 57 s'
        from   normalizer.source_heartbeats
        """
    )
    row = await until_state(feed.watcher, "dead")
    stuck = await feed.connection.fetchval("select count(*) from projector.stuck_executions")
    async with api_client(feed.database.url) as client:
        answer = (await client.get("/api/v1/freshness")).json()
        metrics = (await client.get("/metrics")).text

    assert stuck == 0
    assert [one["state"] for one in answer["rows"]] == ["dead"]
    assert answer["behind_s"] >= 10
    assert 'projector_partitions{state="dead"} 1.0' in metrics
    assert row["as_of"] == row["end_seen_at"]


@ONE_PARTITION
async def test_a_claim_after_an_outage_does_not_make_old_figures_fresh(feed: Feed) -> None:
    settings = feed.settings()
    await feed.send(range(3))
    await feed.read_to({0: 3}, settings)
    committed = (await freshness(feed.watcher))[0]["last_committed_at"]

    async with running(settings):
        await feed.until_claimed(epoch=2)

    assert (await freshness(feed.watcher))[0]["last_committed_at"] == committed

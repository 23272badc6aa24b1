"""A topic is recreated at every moment at which nobody looks: no record is read from its middle."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from normalizer.config.settings import Settings
from normalizer.consumer import partition_claimer
from normalizer.core.batch import LastRecord
from normalizer.errors import BrokerUnavailableError
from normalizer.kafka import GrouplessClient, LogMismatch, OffsetBounds, find_log_mismatch
from normalizer.kafka.fetch_positions import MAX_FETCH_SILENCE_MS
from tests.support.commands import typed
from tests.support.factories import snowflake
from tests.support.feed import Feed
from tests.support.service_runs import (
    Watcher,
    process,
    recreate_topic,
    running,
    send,
    until,
    watching,
)
from tests.support.stack import Topic

ONE_PARTITION = pytest.mark.parametrize("topic", [1], indirect=True)
OLD, NEW = range(30), range(1_000, 1_200)


async def fill(bootstrap_servers: str, topic: Topic, numbers: range) -> None:
    """By a producer of its own: one that knew the old topic would wait for its metadata."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer:
        await send(producer, topic, numbers)


def passed(seconds: float) -> Callable[[], bool]:
    """Whether so much time has passed: what is tested is a silence."""
    end_s = time.monotonic() + seconds
    return lambda: time.monotonic() >= end_s


async def until_stopped(service: asyncio.subprocess.Process) -> str:
    """Why it stopped a partition, as its log says."""
    assert service.stdout
    async with asyncio.timeout(30):
        async for line in service.stdout:
            said = json.loads(line)
            if said["event"] == "partition.stopped":
                return str(said["why"])
    raise AssertionError("the process ended")


async def assert_accepted(settings: Settings, topic: Topic, watcher: Watcher) -> None:
    """Nothing of the new topic was read, and --accept-reset reads all of it."""
    assert await watcher.events() == len(OLD)
    assert (await watcher.positions(topic))[0]["next_offset"] == len(OLD)
    code, said = await typed(settings, "ledger", "verify")
    assert (code, "RECREATED" in said, "LOST" in said) == (1, True, False), said

    async with running(settings, accept_reset=True):
        await watcher.until_claimed(topic, incarnation=1)
        await watcher.until_read(topic, {0: len(NEW)})

    assert await watcher.events() == len(OLD) + len(NEW)
    code, said = await typed(settings, "ledger", "verify")
    assert code == 0, said


@ONE_PARTITION
@pytest.mark.parametrize("frozen_s", [pytest.param(0.0, marks=pytest.mark.soak), 2.0])
async def test_under_a_frozen_process_it_stops_the_partition(
    feed: Feed, admin: AIOKafkaAdminClient, frozen_s: float
) -> None:
    """Frozen for less than its session: no rebalance tells it that anything happened."""
    settings = feed.settings(kafka_session_timeout_ms=30_000)
    await fill(feed.bootstrap_servers, feed.topic, OLD)
    async with process(settings) as frozen:
        await feed.until_read({0: len(OLD)})
        frozen.send_signal(signal.SIGSTOP)
        await recreate_topic(admin, feed.topic)
        await fill(feed.bootstrap_servers, feed.topic, NEW)
        await until(passed(frozen_s))
        frozen.send_signal(signal.SIGCONT)
        why = await until_stopped(frozen)

    assert "offset 29 holds another record than the one that was read" in why
    assert "--accept-reset" in why
    await assert_accepted(settings, feed.topic, feed.watcher)


@ONE_PARTITION
async def test_while_the_database_holds_the_writer_up_it_stops_the_partition(
    feed: Feed, admin: AIOKafkaAdminClient
) -> None:
    """Both hands are full, so nothing is fetched: no fetch can fail."""
    settings = feed.settings(batch_rows=10)
    await fill(feed.bootstrap_servers, feed.topic, range(10))
    async with running(settings), watching(feed.database.url) as other:
        await feed.until_read({0: 10})
        lock = other.connection.transaction()
        await lock.start()
        await other.connection.execute("lock table normalizer.events")
        await fill(feed.bootstrap_servers, feed.topic, range(10, 30))
        await feed.until_blocked()
        with structlog.testing.capture_logs() as lines:
            await recreate_topic(admin, feed.topic)
            await fill(feed.bootstrap_servers, feed.topic, NEW)
            await until(passed(MAX_FETCH_SILENCE_MS / 1000))
            await lock.rollback()
            await until(lambda: any(one["event"] == "partition.stopped" for one in lines))

    stored = await feed.connection.fetch("select event_id from normalizer.events")
    assert {row["event_id"] for row in stored} <= {snowflake(number) for number in OLD}
    async with running(settings, accept_reset=True):
        await feed.until_claimed(incarnation=1)
        await feed.until_read({0: len(NEW)})


@ONE_PARTITION
async def test_it_is_accepted_also_if_the_first_comparison_fails(
    feed: Feed, admin: AIOKafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topic that has just been recreated is slow to get its leader."""
    settings = feed.settings()
    await fill(feed.bootstrap_servers, feed.topic, OLD)
    await feed.read_to({0: len(OLD)}, settings)
    await recreate_topic(admin, feed.topic)
    await fill(feed.bootstrap_servers, feed.topic, NEW)
    failures = [BrokerUnavailableError("its leader does not answer")]

    async def fail_once(*where: Any, **what: Any) -> LogMismatch | None:
        if failures:
            raise failures.pop()
        return await find_log_mismatch(*where, **what)

    monkeypatch.setattr(partition_claimer, "find_log_mismatch", fail_once)

    async with running(settings, accept_reset=True) as service:
        await until(
            lambda: bool(
                service.ownership.current_claims or service.ownership.stop_reasons_by_partition
            )
        )
        assert service.ownership.stop_reasons_by_partition == {}
        await feed.until_read({0: len(NEW)})

    assert (await feed.position())["incarnation"] == 1


@ONE_PARTITION
async def test_a_log_that_got_shorter_after_its_bounds_were_read_is_noticed(feed: Feed) -> None:
    """The bounds of several logs are read together, before the first of them is compared."""
    await fill(feed.bootstrap_servers, feed.topic, range(5))
    partition, last = feed.partition(), LastRecord(29, 0, 0)

    async with GrouplessClient(feed.settings()) as log:
        cluster_id = await log.cluster_id()
        other_log = await find_log_mismatch(
            log,
            partition,
            (cluster_id, cluster_id),
            next_offset=30,
            last=last,
            bounds=OffsetBounds(0, 30),
        )

    assert other_log
    assert other_log.kind == "RECREATED"
    assert "log ends at 5, but the position is 30" in other_log.why

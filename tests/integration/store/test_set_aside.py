"""A lock on rows of one partition holds up that partition, and no other of its process."""

import asyncio
from typing import Any

import asyncpg
import msgspec
import pytest
import structlog
from aiokafka import AIOKafkaProducer

from normalizer.monitoring.monitor import Monitor
from normalizer.store.session import _SETTINGS
from tests.support.factories import EXECUTION_ID, raw_event
from tests.support.probe_client import http_get, metric_value, scrape_metrics
from tests.support.service_runs import running, settings_for, watching
from tests.support.service_runs import until as until_running
from tests.support.stack import Database, Topic
from tests.support.table_rows import assert_ledger_holds, connected, count
from tests.support.waiting import until

LOCK_TIMEOUT_S = float(_SETTINGS["lock_timeout"].removesuffix("s"))


@pytest.mark.parametrize("topic", [3], indirect=True)
async def test_a_locked_row_holds_up_its_partition_and_no_other(
    database: Database, topic: Topic, bootstrap_servers: str, producer: AIOKafkaProducer
) -> None:
    settings = settings_for(database, topic, bootstrap_servers)
    with structlog.testing.capture_logs() as lines:
        async with (
            running(settings) as service,
            watching(database.url) as watcher,
            connected(database) as holder,
        ):
            await _send(producer, topic, 0, range(1))
            await watcher.until_read(topic, {0: 1})
            holding = holder.transaction()
            await holding.start()
            await _lock_execution(holder)
            holder_pid = holder.get_server_pid()

            await _send(producer, topic, 0, range(1, 30))
            await watcher.until_blocked()
            await _send(producer, topic, 0, range(30, 40))
            await _send(producer, topic, 1, range(100, 130), execution_id=7)
            await watcher.until_read(topic, {1: 30})
            # It no longer waits for the lock at all: not even once for the lock timeout.
            begun_s = asyncio.get_running_loop().time()
            await _send(producer, topic, 2, range(200, 230), execution_id=8)
            await watcher.until_read(topic, {2: 30})
            waited_s = asyncio.get_running_loop().time() - begun_s

            with Monitor(settings, service) as monitor:

                async def reasons() -> list[str]:
                    _, body = await http_get(f"{monitor.url}/readyz")
                    return [one for one in body["reasons"] if "batch open for" in one]

                (said,) = await until(reasons, is_so=lambda found: "held by pid" in str(found))
                values = await scrape_metrics(monitor.url)
            await until_running(lambda: any("held by pid" in line for line in _blocked(lines)))
            positions = await watcher.positions(topic)
            await holding.rollback()

            await watcher.until_read(topic, {0: 40})
            await until_running(lambda: service.partitions()["claimed"] == topic.partitions)
            await _send(producer, topic, 0, range(40, 50))
            await watcher.until_read(topic, {0: 50})
            rejected = await count(watcher.connection, "normalizer.quarantine")
            stored = await watcher.events()
            await assert_ledger_holds(watcher.connection)
            assert service.partitions()["set_aside"] == 0

    holders = f"it waits for a lock held by pid {holder_pid} (postgres"
    assert (positions[0]["next_offset"], positions[1]["epoch"], positions[2]["epoch"]) == (1, 1, 1)
    assert waited_s < LOCK_TIMEOUT_S
    assert f"{topic.name}[0]@1" in said
    assert holders in said
    assert holders in str(_blocked(lines))
    assert metric_value(values, "normalizer_open_batch_seconds") >= 10
    assert metric_value(values, "normalizer_partitions", state="set_aside") == 1
    assert (rejected, stored) == (0, 110)


@pytest.mark.parametrize("topic", [2], indirect=True)
async def test_a_partition_set_aside_alone_leaves_the_batch_that_comes_after_it(
    database: Database, topic: Topic, bootstrap_servers: str, producer: AIOKafkaProducer
) -> None:
    """Both records are of the locked execution: two partitions wait at once, and lose nothing."""
    settings = settings_for(database, topic, bootstrap_servers)
    async with (
        running(settings) as service,
        watching(database.url) as watcher,
        connected(database) as holder,
    ):
        await _send(producer, topic, 0, range(1))
        await watcher.until_read(topic, {0: 1})
        async with holder.transaction():
            await _lock_execution(holder)
            await _send(producer, topic, 0, range(1, 9))
            await until_running(lambda: service.partitions()["set_aside"] == 1)
            await _send(producer, topic, 1, range(10, 19))
            await until_running(lambda: service.partitions()["set_aside"] == 2)
            assert service.partitions()["claimed"] == 0

        await watcher.until_read(topic, {0: 9, 1: 9})
        await until_running(lambda: service.partitions()["claimed"] == 2)
        assert await watcher.events() == 18
        await assert_ledger_holds(watcher.connection)


@pytest.mark.parametrize("topic", [2], indirect=True)
async def test_a_stop_and_another_owner_find_what_was_set_aside(
    database: Database, topic: Topic, bootstrap_servers: str, producer: AIOKafkaProducer
) -> None:
    settings = settings_for(database, topic, bootstrap_servers)
    async with watching(database.url) as watcher, connected(database) as holder:
        async with holder.transaction():
            async with running(settings) as service:
                await holder.execute("lock table projector.execution_facts in share mode")
                await _send(producer, topic, 0, range(9))
                await until_running(lambda: service.partitions()["set_aside"] == 1)
                begun_s = asyncio.get_running_loop().time()
            stopped_s = asyncio.get_running_loop().time() - begun_s
            assert await watcher.events() == 0
        async with running(settings):
            await watcher.until_read(topic, {0: 9})
        assert await watcher.events() == 9
        await assert_ledger_holds(watcher.connection)

    assert stopped_s < settings.stop_timeout_s


async def _lock_execution(holder: asyncpg.Connection) -> None:
    await holder.execute(
        "select 1 from projector.execution_facts where execution_id = $1 for update", EXECUTION_ID
    )


async def _send(
    producer: AIOKafkaProducer, topic: Topic, partition: int, numbers: range, **fields: Any
) -> None:
    for number in numbers:
        value = msgspec.json.encode(raw_event(number, **fields))
        await producer.send(topic.name, value, partition=partition)
    await producer.flush()


def _blocked(lines: list[Any]) -> list[str]:
    return [line["why"] for line in lines if line["event"] == "batch.blocked"]

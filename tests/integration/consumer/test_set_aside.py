"""A lock on rows of one partition holds up that partition, and no other of its process."""

import asyncio
from typing import Any

import asyncpg
import pytest
import structlog

from normalizer.monitoring.monitoring_server import MonitoringServer
from normalizer.store.session import _SETTINGS
from tests.support.factories import EXECUTION_ID
from tests.support.feed import Feed
from tests.support.probe_client import http_get, metric_value, scrape_metrics
from tests.support.service_runs import running, until as until_running
from tests.support.table_rows import assert_ledger_holds, connected, count
from tests.support.waiting import until

LOCK_TIMEOUT_S = float(_SETTINGS["lock_timeout"].removesuffix("s"))


@pytest.mark.parametrize("topic", [3], indirect=True)
async def test_a_locked_row_holds_up_its_partition_and_no_other(feed: Feed) -> None:
    settings = feed.settings()
    with structlog.testing.capture_logs() as lines:
        async with running(settings) as service, connected(feed.database) as holder:
            await feed.send(range(1), partition=0)
            await feed.until_read({0: 1})
            holding = holder.transaction()
            await holding.start()
            await _lock_execution(holder)
            holder_pid = holder.get_server_pid()

            await feed.send(range(1, 30), partition=0)
            await feed.until_blocked()
            await feed.send(range(30, 40), partition=0)
            await feed.send(range(100, 130), partition=1, execution_id=7)
            await feed.until_read({1: 30})
            # It no longer waits for the lock at all: not even once for the lock timeout.
            begun_s = asyncio.get_running_loop().time()
            await feed.send(range(200, 230), partition=2, execution_id=8)
            await feed.until_read({2: 30})
            waited_s = asyncio.get_running_loop().time() - begun_s

            with MonitoringServer(settings, service) as monitor:

                async def reasons() -> list[str]:
                    _, body = await http_get(f"{monitor.url}/readyz")
                    return [one for one in body["reasons"] if "batch open for" in one]

                (said,) = await until(reasons, is_so=lambda found: "held by pid" in str(found))
                values = await scrape_metrics(monitor.url)
            await until_running(lambda: any("held by pid" in line for line in _blocked(lines)))
            positions = await feed.positions()
            await holding.rollback()

            await feed.until_read({0: 40})
            await until_running(
                lambda: service.count_partitions()["claimed"] == feed.topic.partitions
            )
            await feed.send(range(40, 50), partition=0)
            await feed.until_read({0: 50})
            rejected = await count(feed.connection, "normalizer.quarantine")
            stored = await feed.events()
            await assert_ledger_holds(feed.connection)
            assert service.count_partitions()["set_aside"] == 0

    holders = f"it waits for a lock held by pid {holder_pid} (postgres"
    assert (positions[0]["next_offset"], positions[1]["epoch"], positions[2]["epoch"]) == (1, 1, 1)
    assert waited_s < LOCK_TIMEOUT_S
    assert f"{feed.partition(0)}@1" in said
    assert holders in said
    assert holders in str(_blocked(lines))
    assert metric_value(values, "normalizer_open_batch_seconds") >= 10
    assert metric_value(values, "normalizer_partitions", state="set_aside") == 1
    assert (rejected, stored) == (0, 110)


@pytest.mark.parametrize("topic", [2], indirect=True)
async def test_a_partition_set_aside_alone_leaves_the_batch_that_comes_after_it(feed: Feed) -> None:
    """Both records are of the locked execution: two partitions wait at once, and lose nothing."""
    settings = feed.settings()
    async with running(settings) as service, connected(feed.database) as holder:
        await feed.send(range(1), partition=0)
        await feed.until_read({0: 1})
        async with holder.transaction():
            await _lock_execution(holder)
            await feed.send(range(1, 9), partition=0)
            await until_running(lambda: service.count_partitions()["set_aside"] == 1)
            await feed.send(range(10, 19), partition=1)
            await until_running(lambda: service.count_partitions()["set_aside"] == 2)
            assert service.count_partitions()["claimed"] == 0

        await feed.until_read({0: 9, 1: 9})
        await until_running(lambda: service.count_partitions()["claimed"] == 2)
        assert await feed.events() == 18
        await assert_ledger_holds(feed.connection)


@pytest.mark.parametrize("topic", [2], indirect=True)
async def test_a_stop_and_another_owner_find_what_was_set_aside(feed: Feed) -> None:
    settings = feed.settings()
    async with connected(feed.database) as holder:
        async with holder.transaction():
            async with running(settings) as service:
                await holder.execute("lock table projector.execution_facts in share mode")
                await feed.send(range(9), partition=0)
                await until_running(lambda: service.count_partitions()["set_aside"] == 1)
                begun_s = asyncio.get_running_loop().time()
            stopped_s = asyncio.get_running_loop().time() - begun_s
            assert await feed.events() == 0
        await feed.read_to({0: 9}, settings)
        assert await feed.events() == 9
        await assert_ledger_holds(feed.connection)

    assert stopped_s < settings.stop_timeout_s


async def _lock_execution(holder: asyncpg.Connection) -> None:
    await holder.execute(
        "select 1 from projector.execution_facts where execution_id = $1 for update", EXECUTION_ID
    )


def _blocked(lines: list[Any]) -> list[str]:
    return [line["why"] for line in lines if line["event"] == "batch.blocked"]

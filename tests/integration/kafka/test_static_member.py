"""A process with a name keeps its place in the consumer group while it restarts."""

import asyncio

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from normalizer.consumer.service import Service
from normalizer.errors import FatalError
from normalizer.kafka import consumer_factory
from tests.support.feed import Feed
from tests.support.service_runs import (
    process,
    running,
    until,
)

LONG_MS = 600_000
"""A session that no test waits for."""
TWO_PARTITIONS = pytest.mark.parametrize("topic", [2], indirect=True)


@TWO_PARTITIONS
async def test_a_named_process_that_was_killed_takes_its_partitions_back_without_a_rebalance(
    feed: Feed,
) -> None:
    one = feed.settings(instance="one", kafka_session_timeout_ms=LONG_MS)
    two = msgspec.structs.replace(one, instance="two")
    async with running(one) as service:
        async with process(two) as killed:
            await feed.until_owned({"one", "two"})
            await feed.send(range(20))
            await feed.until_read({0: 10, 1: 10})
            rebalances = service.counters.rebalances
            killed.kill()
            await killed.wait()

        async with process(two):
            await feed.send(range(20, 40))
            await feed.until_read({0: 20, 1: 20})

        assert service.counters.rebalances == rebalances

    assert await feed.events() == 40


@TWO_PARTITIONS
async def test_a_named_process_that_stops_in_order_gives_its_partitions_up_at_once(
    feed: Feed,
) -> None:
    one = feed.settings(instance="one", kafka_session_timeout_ms=LONG_MS)
    async with running(one):
        async with running(msgspec.structs.replace(one, instance="two")):
            await feed.until_owned({"one", "two"})
        await feed.until_owned({"one"})
        await feed.send(range(20))
        await feed.until_read({0: 10, 1: 10})


async def test_of_two_processes_with_one_name_the_first_ends_and_says_why(feed: Feed) -> None:
    settings = feed.settings(instance="twin")
    first = Service(settings)
    running_first = asyncio.create_task(first.run())
    await until(lambda: running_first.done() or len(first.ownership.current_claims) == 3)

    async with running(settings) as second:
        await until(running_first.done)
        with pytest.raises(FatalError, match=r"another process joined group .* as twin"):
            await running_first

        await feed.send(range(9))
        await feed.until_read({0: 3, 1: 3, 2: 3})
        assert second.counters.rejoins == 0


@TWO_PARTITIONS
async def test_a_leader_that_was_killed_and_restarted_still_notices_new_partitions(
    feed: Feed, admin: AIOKafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group counts it as the leader, but its client doesn't know."""
    monkeypatch.setattr(consumer_factory, "METADATA_MAX_AGE_MS", 500)
    settings = feed.settings(instance="one", kafka_session_timeout_ms=LONG_MS)
    async with process(settings) as leader:
        await feed.until_owned({"one"})
        leader.kill()
        await leader.wait()

    async with running(settings):
        await admin.create_partitions({feed.name: NewPartitions(total_count=3)})
        await feed.send(range(3), partition=0)
        await feed.until_claimed(partition=2)

"""A topic replayed: by itself, before and beside the service, by range, and when it is gone."""

from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from normalizer.cli.ledger_check import verify_ledger
from normalizer.config.settings import Settings
from normalizer.errors import FatalError
from normalizer.jobs.engine.known_sources import read_known_sources
from normalizer.jobs.sources.job_source import ReadPosition
from normalizer.jobs.sources.topic_source import TopicRange, TopicSource
from normalizer.kafka import GrouplessClient
from tests.support.feed import Feed
from tests.support.job_runs import backfill_topic
from tests.support.service_runs import recreate_topic, running, send
from tests.support.stack import Topic

ONE_PARTITION = pytest.mark.parametrize("topic", [1], indirect=True)


async def wrong(settings: Settings) -> list[str]:
    """What `ledger verify` finds wrong, the log included."""
    async with GrouplessClient(settings) as log:
        found = verify_ledger(settings.required_database_url, log)
        return [text async for one in found for text in one.wrong]


async def test_a_range_of_offsets_or_times_is_read_and_no_more(
    feed: Feed, settings: Settings
) -> None:
    for number in range(60):
        await feed.producer.send(
            feed.name,
            msgspec.json.encode({"event_id": number + 1, "execution_id": 7, "name": "step.enter"}),
            partition=number % 3,
            timestamp_ms=1_764_000_000_000 + number * 1000,
        )
    await feed.producer.flush()

    by_offset = await backfill_topic(
        settings, feed.topic, partitions=(1,), from_offset=5, to_offset=8
    )
    by_time = await backfill_topic(
        settings, feed.topic, from_ms=1_764_000_030_000, to_ms=1_764_000_045_000
    )

    offsets = await feed.connection.fetch(
        "select source_partition, source_offset from normalizer.events order by 1, 2"
    )
    assert (by_offset.totals.stored, by_time.totals.stored) == (3, 15)
    assert [tuple(row) for row in offsets] == sorted(
        {(1, offset) for offset in range(5, 8)}
        | {(number % 3, number // 3) for number in range(30, 45)}
    )


@ONE_PARTITION
async def test_expired_offsets_are_counted_and_named_in_the_result(
    settings: Settings, topic: Topic, producer: Any, admin: AIOKafkaAdminClient
) -> None:
    await send(producer, topic, range(20))
    await admin.delete_records({TopicPartition(topic.name, 0): RecordsToDelete(before_offset=8)})

    verdict = await backfill_topic(settings, topic, from_offset=0)
    await send(producer, topic, range(20, 25))
    again = await backfill_topic(settings, topic, from_offset=0)

    assert verdict.state == "truncated"
    assert f"{topic.name}[0] 0 to 8" in verdict.reason
    assert (verdict.totals.stored, verdict.totals.expired) == (12, 8)
    assert (again.run, again.state) == (verdict.run + 1, "truncated")
    assert (again.totals.stored, again.totals.duplicate) == (5, 12)
    assert await wrong(settings) == []


@ONE_PARTITION
async def test_a_topic_recreated_is_not_taken_for_the_one_that_the_service_read(
    feed: Feed, settings: Settings
) -> None:
    await feed.send(range(10))
    await feed.read_to({0: 10}, settings)
    await feed.connection.execute("update normalizer.source_positions set last_crc = 1")

    with pytest.raises(FatalError, match="the topic was recreated"):
        await backfill_topic(settings, feed.topic)


@ONE_PARTITION
async def test_a_job_goes_on_in_the_incarnation_of_a_deleted_position(
    feed: Feed, settings: Settings, admin: AIOKafkaAdminClient
) -> None:
    """Under that of the topic before it, its records would pass for others, and be lost."""
    await feed.send(range(10))
    await feed.read_to({0: 10}, settings)
    await recreate_topic(admin, feed.topic)
    async with AIOKafkaProducer(bootstrap_servers=feed.bootstrap_servers) as another:
        await send(another, feed.topic, range(10, 12))
        async with running(settings, accept_reset=True):
            await feed.until_claimed(incarnation=1)
            await feed.until_read({0: 2})
        await send(another, feed.topic, range(12, 20))
    await feed.connection.execute("delete from normalizer.source_positions")

    verdict = await backfill_topic(settings, feed.topic)

    incarnations = (await read_known_sources(settings.required_database_url)).incarnations
    assert (verdict.totals.stored, verdict.totals.duplicate) == (8, 2)
    assert incarnations[feed.name, 0] == (1, 2)


@ONE_PARTITION
async def test_unread_offsets_of_a_recreated_topic_are_named_in_the_result(
    feed: Feed, settings: Settings
) -> None:
    await feed.send(range(3))
    await feed.read_to({0: 3}, settings)
    await feed.connection.execute("update normalizer.source_positions set incarnation = 1")
    live = (await read_known_sources(settings.required_database_url)).live

    async with TopicSource(settings, feed.name, TopicRange(), live=live) as source:
        (part,) = await source.list_parts()
        left = {
            (feed.name, 0, 0): ReadPosition(next_offset=5, end=10),
            (feed.name, 0, 1): ReadPosition(next_offset=10, end=10),
            part.key: ReadPosition(next_offset=part.start, end=part.end),
        }
        pages = [page async for page in source.read(left)]

    assert [record.offset for page in pages for record in page.records] == [0, 1, 2]
    assert [(page.part, page.expired) for page in pages if page.expired] == [
        ((feed.name, 0, 0), ((5, 10),))
    ]
    assert source.truncation_reason == (
        f"the topic was recreated before these offsets were read: {feed.name}[0] 5 to 10"
    )


async def test_the_ledger_misses_a_row_that_a_job_stored(feed: Feed, settings: Settings) -> None:
    await feed.send(range(9))
    await backfill_topic(settings, feed.topic)
    assert await wrong(settings) == []

    await feed.connection.execute(
        "delete from normalizer.events where source_partition = 0 and source_offset = 0"
    )

    assert await wrong(settings) == ["LOST: stored: the totals say 9, the table holds 8"]

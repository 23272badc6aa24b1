"""A topic belongs to one Kafka cluster: what a wrong address, or a move on purpose, does."""

import asyncio
import contextlib
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from normalizer.cli.check import run_checks
from normalizer.cli.partition_positions import read_positions
from normalizer.config.settings import Settings
from normalizer.consumer.service import Service
from normalizer.embedded import KafkaBroker
from normalizer.errors import FatalError, TopicResetError
from normalizer.kafka import GrouplessClient, KafkaPartition
from normalizer.relay.kafka_store import relay_stores
from normalizer.relay.relay_positions import RelayPosition
from normalizer.store.claim import Claim
from normalizer.store.store import Store
from tests.support.feed import Feed
from tests.support.job_runs import backfill_topic
from tests.support.relay_runs import output_topics, read_topic, relay_settings
from tests.support.service_runs import running, send, settings_for, until
from tests.support.stack import Database, Topic

TWO_PARTITIONS = pytest.mark.parametrize("topic", [2], indirect=True)
WIDE = 4
"""Partitions of the topic of the same name in the other cluster."""


@pytest.fixture
async def other_cluster(kafka_broker: KafkaBroker, topic: Topic) -> Topic:
    """Another cluster, whose topic of the same name has more partitions, with ten records each."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic.name, WIDE, 1)])
    await admin.close()
    wide = Topic(name=topic.name, partitions=WIDE)
    async with AIOKafkaProducer(bootstrap_servers=kafka_broker.bootstrap_servers) as producer:
        await send(producer, wide, range(1_000, 1_040))
    return wide


async def until_all_stopped(service: Service, topic: Topic) -> list[str]:
    """Why each partition of the topic is stopped."""
    everything = {KafkaPartition(topic.name, number) for number in range(topic.partitions)}
    await until(lambda: service.ownership.stop_reasons_by_partition.keys() == everything)
    return list(service.ownership.stop_reasons_by_partition.values())


@TWO_PARTITIONS
async def test_a_wrong_address_stops_every_partition_and_the_right_one_goes_on_with_all(
    feed: Feed, other_cluster: Topic, kafka_broker: KafkaBroker, admin: AIOKafkaAdminClient
) -> None:
    right = feed.settings()
    wrong = settings_for(feed.database, feed.topic, kafka_broker.bootstrap_servers)
    await feed.send(range(10))

    async with running(right) as service:
        await feed.until_read({0: 5, 1: 5})
        async with running(wrong) as foreign:
            reasons = await until_all_stopped(foreign, other_cluster)
        await feed.send(range(10, 12))
        await feed.until_read({0: 6, 1: 6})
        fenced = service.counters.fenced
    assert await feed.events() == 12
    assert fenced == 0
    assert (await feed.positions()).keys() == {0, 1}
    for why in reasons:
        assert "KAFKA_BOOTSTRAP_SERVERS leads to cluster " in why
        assert ": correct the address and restart. " in why

    await admin.create_partitions({feed.name: NewPartitions(WIDE)})
    wide = Topic(name=feed.name, partitions=WIDE)
    async with running(right):
        await feed.until_claimed(partition=WIDE - 1)
        async with AIOKafkaProducer(bootstrap_servers=feed.bootstrap_servers) as knows_all:
            await send(knows_all, wide, range(12, 20))
        await feed.watcher.until_read(wide, {0: 8, 1: 8, 2: 2, 3: 2})

    assert await feed.events() == 20


@TWO_PARTITIONS
async def test_a_topic_moves_to_another_cluster_only_by_accept_reset(
    feed: Feed, other_cluster: Topic, kafka_broker: KafkaBroker
) -> None:
    """Then the address from before is the wrong one, also for partitions that it never read."""
    before = feed.settings()
    after = settings_for(feed.database, feed.topic, kafka_broker.bootstrap_servers)
    await feed.send(range(4), partition=0)
    await feed.read_to({0: 4, 1: 0}, before)

    async with running(after, accept_reset=True):
        await feed.watcher.until_read(other_cluster, dict.fromkeys(range(WIDE), 10))
    async with running(after):
        await feed.watcher.until_claimed(other_cluster, incarnation=1, epoch=2)
        await feed.watcher.until_claimed(other_cluster, incarnation=0, epoch=2, partition=3)
    await feed.connection.execute("delete from normalizer.source_positions where partition = 1")
    async with running(before) as service:
        await until_all_stopped(service, feed.topic)

    assert await feed.events() == 4 + 40
    incarnations = {number: at["incarnation"] for number, at in (await feed.positions()).items()}
    assert incarnations == {0: 1, 2: 0, 3: 0}


async def test_of_two_clusters_that_begin_a_topic_at_once_one_gets_it(database: Database) -> None:
    async with contextlib.AsyncExitStack() as opened:
        stores = [
            await opened.enter_async_context(Store(database.url, owner=f"of cluster {number % 2}"))
            for number in range(6)
        ]
        results = await asyncio.gather(
            *(
                store.claim_partition("t", number, cluster_id=f"cluster {number % 2}", log_start=0)
                for number, store in enumerate(stores)
            ),
            return_exceptions=True,
        )

    claims = [one for one in results if isinstance(one, Claim)]
    rejected = [one for one in results if isinstance(one, TopicResetError)]
    assert len(claims) == len(rejected) == 3
    assert len({claim.cluster_id for claim in claims}) == 1


async def test_a_backfill_of_a_partition_that_was_never_read_compares_the_cluster_too(
    feed: Feed,
) -> None:
    settings = feed.settings()
    await feed.send(range(9))
    async with Store(feed.database.url, owner="elsewhere") as store:
        await store.claim_partition(feed.name, 0, cluster_id="another", log_start=0)

    with pytest.raises(FatalError, match="was read from cluster another: correct the address"):
        await backfill_topic(settings, feed.topic, partitions=(1,))

    assert await feed.events() == 0


@pytest.mark.usefixtures("other_cluster")
async def test_backfill_from_another_cluster_is_not_this_clusters_log(
    feed: Feed, kafka_broker: KafkaBroker
) -> None:
    """Both have records at the same coordinates: they would pass for those that are stored."""
    settings = feed.settings()
    await feed.send(range(9))
    elsewhere = settings_for(feed.database, feed.topic, kafka_broker.bootstrap_servers)
    await backfill_topic(elsewhere, feed.topic, partitions=(0, 1))

    async with running(settings) as service:
        await until_all_stopped(service, feed.topic)
    assert await feed.events() == 20
    async with running(settings, accept_reset=True):
        await feed.until_claimed(incarnation=1, partition=0)
        await feed.until_claimed(incarnation=1, partition=1)
        await feed.until_read({0: 3, 1: 3, 2: 3})

    assert await feed.events() == 20 + 9


@TWO_PARTITIONS
async def test_offsets_that_a_mirror_copied_stop_the_relay_for_all_partitions(
    topic: Topic, bootstrap_servers: str, producer: Any, admin: AIOKafkaAdminClient
) -> None:
    """The group has an offset for one partition: the mirror made more of them."""
    settings = relay_settings(topic, bootstrap_servers)
    await send(producer, topic, range(6))
    await commit_for_relay(settings, KafkaPartition(topic.name, 0), 2, "another")

    async with output_topics(admin, settings):
        async with running(settings, open_stores=relay_stores) as service:
            reasons = await until_all_stopped(service, topic)
        written = await read_topic(bootstrap_servers, settings.kafka_canonical_topic)

    assert written == []
    assert all("was read from cluster another: correct the address" in why for why in reasons)


async def commit_for_relay(
    settings: Settings, partition: KafkaPartition, offset: int, cluster_id: str
) -> None:
    """Commit an offset as a relay of this cluster would have."""
    # Else its stop would commit its own position over this one, if it has one by then.
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=settings.kafka_group_id,
        enable_auto_commit=False,
    )
    await consumer.start()
    consumer.assign([TopicPartition(*partition)])
    position = msgspec.json.encode(RelayPosition(cluster_id=cluster_id)).decode()
    await consumer.commit({TopicPartition(*partition): OffsetAndMetadata(offset, position)})
    await consumer.stop()


async def test_commands_do_not_mix_a_position_with_the_log_of_another_cluster(feed: Feed) -> None:
    settings = feed.settings()
    await feed.send(range(9))
    async with Store(feed.database.url, owner="elsewhere") as store:
        await store.claim_partition(feed.name, 0, cluster_id="another", log_start=0)

    async with GrouplessClient(settings) as log:
        (shown,) = await read_positions(settings, log, feed.name, None)
        findings = [
            one async for one in run_checks(settings, log) if one.about == f"topic {feed.name}"
        ]

    assert shown.log_end is None
    assert any("read from cluster another" in one.message and one.remedy for one in findings)

"""Database and broker go away and come back: nothing is lost, doubled, or put into quarantine."""

import asyncio
import os
import signal
import time
from datetime import datetime

import msgspec
import structlog
from aiokafka import AIOKafkaProducer

from normalizer.config.settings import Settings
from normalizer.embedded import KafkaBroker, PostgresServer
from normalizer.errors import StoreUnavailableError
from normalizer.kafka import GrouplessClient, KafkaPartition
from tests.support.feed import Feed
from tests.support.service_runs import process, running, send, settings_for, until, watching
from tests.support.stack import Database, Topic


async def test_a_database_that_is_down_at_assignment_leaves_the_partitions_waiting(
    own_database: Database,
    postgres_server: PostgresServer,
    topic: Topic,
    bootstrap_servers: str,
    producer: AIOKafkaProducer,
) -> None:
    await send(producer, topic, range(30))
    await postgres_server.stop()

    with structlog.testing.capture_logs() as lines:
        async with running(settings_for(own_database, topic, bootstrap_servers)) as service:
            await until(lambda: any(line["event"] == "outage.began" for line in lines))
            assert len(service._membership._reader.assigned) == topic.partitions
            assert not any(
                service._membership._reader.is_reading(one)
                for one in service._membership._reader.assigned
            )

            await postgres_server.start()
            async with watching(own_database.url) as watcher:
                await watcher.until_read(topic, {0: 10, 1: 10, 2: 10})
                assert await watcher.events() == 30

    said = [line["event"] for line in lines if line["event"] in {"outage.began", "outage.ended"}]
    assert said == ["outage.began", "outage.ended"]


async def test_a_rebalance_during_an_outage_is_not_its_end(feed: Feed) -> None:
    """It cancels a claim that waits, which says nothing of the database."""
    tries: list[list[str]] = []
    with structlog.testing.capture_logs() as lines:

        def said() -> list[str]:
            events = [line["event"] for line in lines]
            return [one for one in events if one in {"outage.began", "outage.ended"}]

        async with running(feed.settings()) as service:
            claim = service._membership._claims.claim_unclaimed_partitions

            async def wait_for_a_lock() -> None:
                tries.append(said())
                if len(tries) == 1:
                    message = "database: no"
                    raise StoreUnavailableError(message)
                if len(tries) == 2:
                    await asyncio.Event().wait()
                await claim()

            service._membership._claims.claim_unclaimed_partitions = wait_for_a_lock  # type: ignore[method-assign]
            await until(lambda: len(tries) == 2)
            service._membership._on_revoked()
            await until(lambda: "outage.ended" in said())

    assert tries[2] == ["outage.began"]


async def test_an_outage_that_outlasts_the_stop_rolls_back_and_ends(
    own_database: Database,
    postgres_server: PostgresServer,
    topic: Topic,
    bootstrap_servers: str,
    producer: AIOKafkaProducer,
) -> None:
    settings = settings_for(own_database, topic, bootstrap_servers)
    async with watching(own_database.url) as watcher, process(settings) as service:
        await watcher.until_claimed(topic)
        await postgres_server.stop()
        await send(producer, topic, range(9))

        service.send_signal(signal.SIGTERM)
        await service.wait()

    assert service.returncode == 0
    await postgres_server.start()
    async with running(settings), watching(own_database.url) as watcher:
        await watcher.until_read(topic, {0: 3, 1: 3, 2: 3})
        assert await watcher.events() == 9


async def test_a_topic_and_a_broker_are_waited_for_and_no_stop_waits_for_a_broker(
    database: Database, kafka_broker: KafkaBroker
) -> None:
    topic = Topic(name="later", partitions=3)
    servers = kafka_broker.bootstrap_servers
    settings = settings_for(database, topic, servers, progress_timeout_s=5)
    first = KafkaPartition(topic.name, 0)
    with structlog.testing.capture_logs() as lines:

        def rejections() -> list[str]:
            return [line["why"] for line in lines if line["event"] == "outage.began"]

        async with running(settings) as service:
            await until(lambda: len(rejections()) > 0)
            await create(topic, kafka_broker)
            await until(lambda: service._membership._reader.is_reading(first))
            await until(lambda: len(service.ownership.current_claims) == topic.partitions)
            consumer = service._membership._reader._consumer
            no_topic, *_ = rejections()
            os.kill(kafka_broker.pid, signal.SIGSTOP)
            # The watchdog looks at partitions that stand still.
            await until(service._membership._kafka._turn.locked)
            begun_s = time.monotonic()

        assert time.monotonic() - begun_s < settings.stop_timeout_s - 5
        # A process would end now. This one goes on, and nobody shall go on connecting in it.
        os.kill(kafka_broker.pid, signal.SIGCONT)
        await consumer._fetcher.close()
        await consumer._client.close()

        # Its partitions are read, so that a fetch is rejected when the client is stopped.
        async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
            await send(producer, topic, range(3))
        async with watching(database.url) as watcher, process(settings) as child:
            await watcher.until_read(topic, {0: 1, 1: 1, 2: 1})
            await kafka_broker.kill()
            child.send_signal(signal.SIGTERM)
            assert await child.wait() == 0

        rejected_before = len(rejections())
        async with running(settings) as service:
            await until(lambda: len(rejections()) > rejected_before)
            await kafka_broker.start()
            await until(lambda: service._membership._reader.is_reading(first))

    assert topic.name in no_topic


async def create(topic: Topic, broker: KafkaBroker) -> None:
    async with GrouplessClient(
        Settings(kafka_bootstrap_servers=(broker.bootstrap_servers,))
    ) as log:
        await log.create_topic(topic.name, partitions=topic.partitions)


async def test_each_try_to_reach_a_broker_comes_later_than_the_one_before(
    database: Database, topic: Topic
) -> None:
    settings = settings_for(database, topic, "127.0.0.1:1", log_level="debug")
    fifth_at: datetime | None = None
    lines = []
    async with process(settings) as child:
        assert child.stdout
        while fifth_at is None:
            line = msgspec.json.decode(await child.stdout.readline())
            lines.append(line)
            if line.get("tries") == 5:
                fifth_at = datetime.fromisoformat(line["timestamp"])

    first = next(line for line in lines if line["event"] == "outage.began")
    assert "127.0.0.1:1: TCP: Connection refused: is the broker running" in first["why"]
    # The four waits in between, at their shortest.
    since = datetime.fromisoformat(first["timestamp"])
    assert (fifth_at - since).total_seconds() >= 0.1 + 0.2 + 0.4 + 0.8

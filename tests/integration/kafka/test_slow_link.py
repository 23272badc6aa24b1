"""A slow link to the brokers: the service requests what fits it, and records take a third of it."""

import asyncio
import secrets
import time

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from normalizer.embedded import ensure_kafka_jars
from tests.support.factories import raw_event
from tests.support.results import PrintLine
from tests.support.service_runs import process, settings_for, until, watching
from tests.support.slow_link import BrokerAt, forwarded, slow_link
from tests.support.stack import Database, Stack, Topic

TOPIC = Topic(name="noetl.events", partitions=6)
BYTES_PER_S = 400_000
PARTITION_BYTES = 5_000_000
RECORD_BYTES = 20_000
RECORDS = PARTITION_BYTES // RECORD_BYTES
MEASURED_RECORDS = 60 * BYTES_PER_S // RECORD_BYTES // 3
"""What a third of the link carries in a minute, which is how long `until` waits."""


async def fill(bootstrap_servers: str) -> None:
    """Fill each partition with records that no compression makes smaller."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC.name, TOPIC.partitions, 1)])
    await admin.close()
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, max_batch_size=200_000, linger_ms=50
    ) as producer:
        for number in range(TOPIC.partitions * RECORDS):
            padding = secrets.token_hex(RECORD_BYTES // 2)
            event = msgspec.json.encode(raw_event(number, context={"padding": padding}))
            await producer.send(TOPIC.name, event, partition=number % TOPIC.partitions)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_over_a_slow_link_every_partition_is_read_at_a_third_of_its_rate(
    database: Database, stack: Stack, say: PrintLine
) -> None:
    """200 ms each way. One answer with all that is unread would take a minute.

    A log that is compared again after each answer would leave a fifth of the link for new records.
    """
    async with slow_link(bytes_per_s=BYTES_PER_S, delay_s=0.2) as link:
        broker = BrokerAt(stack.folder / f"kafka-{link.namespace}", await ensure_kafka_jars(print))
        broker.host = link.slow
        async with (
            broker,
            forwarded(database.url, link.fast) as url,
            watching(database.url) as watcher,
        ):
            await fill(broker.bootstrap_servers)
            settings = settings_for(
                database,
                TOPIC,
                broker.bootstrap_servers,
                database_url=url,
                kafka_session_timeout_ms=10_000,
            )
            null = asyncio.subprocess.DEVNULL

            async def records() -> int:
                positions = (await watcher.positions(TOPIC)).values()
                return sum(at["next_offset"] for at in positions)

            async def has_begun() -> bool:
                return await records() > 0

            async with process(settings, prefix=link.prefix, log=null):
                await until(has_begun)
                begun_s, before = time.monotonic(), await records()

                async def is_measured() -> bool:
                    return await records() >= before + MEASURED_RECORDS

                await until(is_measured, lambda: watcher.positions(TOPIC))
                link_share = (await records() - before) * RECORD_BYTES / BYTES_PER_S
                link_share /= time.monotonic() - begun_s
                say(f"records took {link_share:.0%} of the link")
                tenth = dict.fromkeys(range(TOPIC.partitions), RECORDS // 10)
                await watcher.until_read(TOPIC, tenth)

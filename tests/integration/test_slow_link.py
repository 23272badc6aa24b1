"""A slow link to the brokers: the service requests what fits it, and makes progress."""

import asyncio
import secrets
import time

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from normalizer.embedded import kafka_jars
from tests.support.factories import raw_event
from tests.support.results import PrintLine
from tests.support.service_runs import process, settings_for, watching
from tests.support.slow_link import BrokerAt, forwarded, slow_link
from tests.support.stack import Database, Stack, Topic

TOPIC = Topic(name="noetl.events", partitions=6)
PARTITION_BYTES = 5_000_000
RECORD_BYTES = 20_000
RECORDS = PARTITION_BYTES // RECORD_BYTES


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
async def test_over_a_slow_link_every_partition_makes_progress(
    database: Database, stack: Stack, say: PrintLine
) -> None:
    """400 kB/s, and 200 ms each way. One answer with all that is unread would take a minute."""
    async with slow_link(bytes_per_s=400_000, delay_s=0.2) as link:
        broker = BrokerAt(stack.folder / f"kafka-{link.namespace}", await kafka_jars(print))
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
            begun_s = time.monotonic()
            null = asyncio.subprocess.DEVNULL
            async with process(settings, prefix=link.prefix, log=null):
                # Each wait lasts at most a minute.
                for share in (0.01, 0.05, 0.1):
                    next_offsets = dict.fromkeys(range(TOPIC.partitions), int(share * RECORDS))
                    await watcher.until_read(TOPIC, next_offsets)
                    took_s = time.monotonic() - begun_s
                    say(f"{share:.0%} of each partition was read after {took_s:.0f} s")

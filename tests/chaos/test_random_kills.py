"""Kills, restarts, frozen processes, locks and full disks at random moments, during traffic.

Afterwards every record of the log is accounted for exactly once, and nothing healthy is in
quarantine. CHAOS_SEED repeats a run as far as two machines can.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator
from typing import Final

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from normalizer.embedded import KafkaBroker, PostgresServer
from normalizer.store.migrate import migrate
from projector.cli import main as projector
from tests.chaos.accounts import (
    assert_every_record_is_accounted_for,
    log_ends,
    until_read,
)
from tests.chaos.faults import Faults, Pair
from tests.chaos.traffic import records
from tests.support.commands import invoked
from tests.support.results import PrintLine, write_results
from tests.support.service_runs import environment, settings_for
from tests.support.small_disk import SmallDisk, drop_from, move_to, small_disk
from tests.support.stack import Database, Topic
from tests.support.table_rows import connected
from tests.support.waiting import moment

RECORDS_A_SEND: Final = 25
LASTS_S: Final = float(os.environ.get("CHAOS_FAULT_S") or 360)


class Traffic:
    """Sends endlessly, notes what the broker acknowledged, and survives its restarts."""

    def __init__(self, topic: Topic, bootstrap_servers: str, seed: int, pause_s: float) -> None:
        self._topic = topic
        self._bootstrap_servers = bootstrap_servers
        self._records = records(seed)
        self._pause_s = pause_s
        self._stopping = False
        self.acknowledged: set[tuple[int, int]] = set()
        self.ends: dict[int, int] = {}
        """Where the acknowledged records of each partition end."""

    async def run(self) -> None:
        """Send until `stop`."""
        while not self._stopping:
            with contextlib.suppress(KafkaError, OSError):
                async with AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap_servers,
                    enable_idempotence=True,
                    request_timeout_ms=10_000,
                ) as producer:
                    await self._send_all(producer)
            await moment()

    def stop(self) -> None:
        """Finish what was begun."""
        self._stopping = True

    async def _send_all(self, producer: AIOKafkaProducer) -> None:
        while not self._stopping:
            sent = [
                await producer.send(self._topic.name, value, key=key)
                for (key, value), _ in zip(self._records, range(RECORDS_A_SEND), strict=False)
            ]
            for one in sent:
                metadata = await one
                self.acknowledged.add((metadata.partition, metadata.offset))
                self.ends[metadata.partition] = metadata.offset + 1
            await asyncio.sleep(self._pause_s)


@pytest.fixture
async def own_topic(kafka_broker: KafkaBroker) -> Topic:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("own", 3, 1)])
    finally:
        await admin.close()
    return Topic(name="own", partitions=3)


@contextlib.asynccontextmanager
async def flowing(traffic: Traffic) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(traffic.run(), name="traffic")
        try:
            yield
        finally:
            traffic.stop()


async def assert_all_is_well_after(
    kinds: list[str],
    postgres: PostgresServer,
    broker: KafkaBroker,
    database: Database,
    topic: Topic,
    say: PrintLine,
    disk: SmallDisk | None = None,
    *,
    lasts_s: float = 0.0,
) -> dict[str, object]:
    """Let each of these happen during traffic, in an order and at moments from the seed."""
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(1 << 32))
    say(f"CHAOS_SEED={seed}")
    rng = random.Random(seed)
    rng.shuffle(kinds)
    servers = broker.bootstrap_servers
    settings = settings_for(database, topic, servers, batch_rows=200, progress_timeout_s=60)
    least, most, pause_s = (100, 800, 0.01) if disk else (50, 300, 0.1)
    if lasts_s:
        pause_s = 0.25  # the log is read into memory afterwards
    traffic = Traffic(topic, servers, seed, pause_s)
    async with (
        Pair(settings) as pair,
        Faults(pair, postgres, broker, database, disk, lasts_s=lasts_s) as faults,
    ):
        happen = faults.named()
        async with flowing(traffic):
            for kind in kinds:
                await faults.until_more_is_read(rng.randrange(least, most))
                await happen[kind]()
                say(f"{kind}, {await faults.read():,} records read")
            await faults.until_more_is_read(100)
        ends = await log_ends(topic, servers)
        async with connected(database) as connection:
            await until_read(connection, ends, deadline_s=max(120, 5 * lasts_s))
            assert pair.all_live(), "a process ended by itself"
            try:
                await assert_every_record_is_accounted_for(
                    connection, topic, servers, acknowledged=traffic.acknowledged
                )
                code, said = await invoked(
                    projector.commands["verify"], environment=environment(settings)
                )
                assert code == 0, said
            except AssertionError as failure:
                failure.add_note(f"CHAOS_SEED={seed}")
                raise
    return {
        "seed": seed,
        "what happened": ", ".join(kinds),
        "records, each accounted for exactly once": f"{sum(ends.values()):,}",
        "of them acknowledged to the producer": f"{len(traffic.acknowledged):,}",
    }


@pytest.mark.timeout(600)
async def test_kills_locks_limits_and_frozen_processes_lose_double_and_refuse_nothing(
    postgres_server: PostgresServer,
    kafka_broker: KafkaBroker,
    own_database: Database,
    own_topic: Topic,
    say: PrintLine,
) -> None:
    kinds = [
        *("a process is killed", "Postgres is killed", "Kafka is killed"),
        *("a process is frozen beyond its session", "rows are locked", "Postgres is read-only"),
        *("Postgres has no connection left", "backends are terminated in COPY"),
        "statements are cancelled",
    ]

    await assert_all_is_well_after(
        kinds, postgres_server, kafka_broker, own_database, own_topic, say
    )


@pytest.mark.soak
@pytest.mark.timeout(5_400)
async def test_every_fault_five_times_loses_doubles_and_refuses_nothing(
    postgres_server: PostgresServer,
    kafka_broker: KafkaBroker,
    own_topic: Topic,
    say: PrintLine,
) -> None:
    kinds = [
        *("a process is killed", "a process is stopped", "Postgres is killed"),
        *("Postgres is restarted", "Kafka is killed", "Kafka is restarted"),
    ] * 5 + [
        *("a process is frozen beyond its session", "rows are locked", "the disk is full"),
        *("Postgres has no connection left", "Postgres is read-only"),
        *("backends are terminated in COPY", "statements are cancelled"),
    ] * 3

    async with on_a_small_disk(postgres_server) as (database, disk):
        figures = await assert_all_is_well_after(
            kinds, postgres_server, kafka_broker, database, own_topic, say, disk
        )

    write_results("chaos", 'make soak ARGS="-k every_fault_five_times"', figures)


@pytest.mark.soak
@pytest.mark.timeout(5 * LASTS_S + 1_800)
async def test_each_fault_that_lasts_loses_doubles_and_refuses_nothing(
    postgres_server: PostgresServer,
    kafka_broker: KafkaBroker,
    own_topic: Topic,
    say: PrintLine,
) -> None:
    """Six minutes each, or CHAOS_FAULT_S seconds, with traffic beside it."""
    kinds = [
        *("rows are locked", "statements are cancelled", "Postgres is read-only"),
        *("Postgres has no connection left", "the disk is full"),
    ]

    async with on_a_small_disk(postgres_server) as (database, disk):
        figures = await assert_all_is_well_after(
            *(kinds, postgres_server, kafka_broker, database, own_topic, say, disk),
            lasts_s=LASTS_S,
        )

    write_results(
        "lasting faults",
        'make soak ARGS="-k each_fault_that_lasts"',
        {"each fault lasted (s)": f"{LASTS_S:.0f}", **figures},
    )


@contextlib.asynccontextmanager
async def on_a_small_disk(server: PostgresServer) -> AsyncIterator[tuple[Database, SmallDisk]]:
    """A database of its own on a disk that can be filled."""
    with small_disk(server, megabytes=4_000) as disk:
        url = await server.create_database("noetl")
        await move_to(disk, server, "noetl")
        await migrate(url, report=lambda _: None)
        admin_url = server.database_url("noetl", role="postgres")
        yield Database(name="noetl", url=url, admin_url=admin_url), disk
        await drop_from(server, "noetl")

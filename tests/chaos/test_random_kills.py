"""kill -9 of processes, Postgres and Kafka at random moments, during traffic.

Afterwards every record of the log is accounted for exactly once, and nothing healthy is in
quarantine. CHAOS_SEED repeats a run as far as two machines can.
"""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Self

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from normalizer.embedded import KAFKA_VERSION, KafkaBroker, PostgresServer
from normalizer.settings import Settings
from normalizer.store.migrate import migrate
from tests.chaos.accounts import (
    assert_every_record_is_accounted_for,
    ends_of,
    read_so_far,
    until_read,
)
from tests.chaos.traffic import records
from tests.results import Say, write_results
from tests.running import process, settings_for
from tests.stack import Database, Topic
from tests.tables import connected
from tests.waiting import moment, until

RECORDS_A_SEND: Final = 25


class Traffic:
    """Sends without end, and notes what the broker acknowledged; lives through its restarts."""

    def __init__(self, topic: Topic, bootstrap_servers: str, seed: int) -> None:
        self._topic = topic
        self._bootstrap_servers = bootstrap_servers
        self._records = records(seed)
        self._stopping = False
        self.acknowledged: set[tuple[int, int]] = set()

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
                told = await one
                self.acknowledged.add((told.partition, told.offset))
            await moment()


class Pair:
    """Two normalizers of one group; one that ends is followed by another."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: list[asyncio.subprocess.Process] = []
        self._exits = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        for _ in range(2):
            await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def end_one(self, number: signal.Signals) -> None:
        """The older one gets the signal."""
        victim = self._running.pop(0)
        victim.send_signal(number)
        code = await victim.wait()
        assert code == (-number if number == signal.SIGKILL else 0)
        await self._start()

    def all_live(self) -> bool:
        """Whether neither has ended by itself."""
        return all(one.returncode is None for one in self._running)

    async def _start(self) -> None:
        self._running.append(await self._exits.enter_async_context(process(self._settings)))


@pytest.fixture
async def own_database(postgres_server: PostgresServer) -> Database:
    url = await postgres_server.create_database("noetl")
    await migrate(url, say=lambda _: None)
    return Database(
        name="noetl", url=url, admin_url=postgres_server.url_of("noetl", role="postgres")
    )


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
    say: Say,
) -> dict[str, object]:
    """Let each of these happen during traffic, in an order and at moments from the seed."""
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(1 << 32))
    say(f"CHAOS_SEED={seed}")
    rng = random.Random(seed)
    rng.shuffle(kinds)
    servers = broker.bootstrap_servers
    settings = settings_for(database, topic, servers, batch_rows=200, progress_timeout_s=20)
    traffic = Traffic(topic, servers, seed)
    async with Pair(settings) as pair:
        happen: dict[str, Callable[[], Awaitable[None]]] = {
            "a process is killed": lambda: pair.end_one(signal.SIGKILL),
            "a process is stopped": lambda: pair.end_one(signal.SIGTERM),
            "Postgres is killed": lambda: _and_started(postgres.kill, postgres.start),
            "Postgres is restarted": postgres.restart,
            "Kafka is killed": lambda: _and_started(broker.kill, broker.start),
            "Kafka is restarted": broker.restart,
        }
        async with flowing(traffic):
            for kind in kinds:
                await _until_more_is_read(database, rng.randrange(100, 800))
                await happen[kind]()
                say(f"{kind}, {await _read(database):,} records read")
            await _until_more_is_read(database, 100)
        ends = await ends_of(topic, servers)
        async with connected(database) as connection:
            await until_read(connection, ends, deadline_s=90)
            assert pair.all_live(), "a process ended by itself"
            await assert_every_record_is_accounted_for(
                connection, topic, servers, acknowledged=traffic.acknowledged
            )
    return {
        "seed": seed,
        "what happened": ", ".join(kinds),
        "records, each accounted for exactly once": f"{sum(ends.values()):,}",
        "of them acknowledged to the producer": f"{len(traffic.acknowledged):,}",
    }


async def _and_started(
    kill: Callable[[], Awaitable[None]], start: Callable[[], Awaitable[None]]
) -> None:
    await kill()
    await start()


async def _until_more_is_read(database: Database, more: int) -> None:
    """Until the positions have moved by so many records: all goes well, and traffic flows."""
    begun = await _read(database)

    async def moved() -> int:
        return await _read(database) - begun

    await until(moved, is_so=lambda by: by >= more, deadline_s=90)


async def _read(database: Database) -> int:
    try:
        async with connected(database) as connection:
            return sum((await read_so_far(connection)).values())
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return 0


@pytest.mark.timeout(300)
async def test_three_kills_lose_and_double_nothing(
    postgres_server: PostgresServer,
    kafka_broker: KafkaBroker,
    own_database: Database,
    own_topic: Topic,
    say: Say,
) -> None:
    kinds = ["a process is killed", "Postgres is killed", "Kafka is killed"]

    await assert_all_is_well_after(
        kinds, postgres_server, kafka_broker, own_database, own_topic, say
    )


@pytest.mark.soak
@pytest.mark.timeout(3_600)
async def test_five_of_each_end_lose_and_double_nothing(
    postgres_server: PostgresServer,
    kafka_broker: KafkaBroker,
    own_database: Database,
    own_topic: Topic,
    say: Say,
) -> None:
    kinds = [
        *("a process is killed", "a process is stopped", "Postgres is killed"),
        *("Postgres is restarted", "Kafka is killed", "Kafka is restarted"),
    ] * 5

    figures = await assert_all_is_well_after(
        kinds, postgres_server, kafka_broker, own_database, own_topic, say
    )

    async with connected(own_database) as connection:
        postgres = await connection.fetchval("show server_version")
    write_results(
        "chaos",
        "Five of each end of a process, of PostgreSQL and of Kafka",
        'make soak ARGS="-k five_of_each_end"',
        figures,
        f"Apache Kafka {KAFKA_VERSION}, PostgreSQL {postgres}",
    )

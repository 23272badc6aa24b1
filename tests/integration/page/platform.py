"""One platform with its traffic in a database, and a page over it."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from simulator.ledger_file import Ledger
from simulator.mix import Mix
from simulator.sent_record import SentRecord
from simulator.simulator_run import SimulatorRun, now_us, run_into_topic
from tests.integration.page.browsing import serving
from tests.support.service_runs import Watcher, process, settings_for
from tests.support.stack import Database, Stack, Topic

_MINUTE_US = 60_000_000


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """A database with traffic, the page over it, and a way to more traffic."""

    database: Database
    url: str
    connection: asyncpg.Connection
    play: Callable[[int], Awaitable[None]]


class _Ends(Ledger):
    """Keeps nothing but where each partition ends."""

    def __init__(self, topic: Topic) -> None:
        super().__init__(lambda _: None)
        self.ends = dict.fromkeys(range(topic.partitions), 0)

    def add_record(self, record: SentRecord, topic: str, partition: int, offset: int) -> None:
        super().add_record(record, topic, partition, offset)
        self.ends[partition] = max(self.ends[partition], offset + 1)


@contextlib.asynccontextmanager
async def reading(stack: Stack) -> AsyncIterator[tuple[Database, Topic, asyncpg.Connection]]:
    """A database, an empty topic, and a normalizer of its own that reads it."""
    servers = await stack.bootstrap_servers()
    topic = Topic(name=f"noetl.page.{secrets.token_hex(2)}", partitions=6)
    async with contextlib.AsyncExitStack() as started:
        database = await started.enter_async_context((await stack.cluster("current")).database())
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        started.push_async_callback(admin.close)
        await admin.create_topics([NewTopic(topic.name, topic.partitions, 1)])
        connection = await asyncpg.connect(database.url)
        started.push_async_callback(connection.close)
        await started.enter_async_context(process(settings_for(database, topic, servers)))
        yield database, topic, connection
        await admin.delete_topics([topic.name])


@contextlib.asynccontextmanager
async def running_platform(stack: Stack) -> AsyncIterator[Platform]:
    """Ten hours of a platform, busier in the last, through Kafka and a normalizer of its own."""
    servers = await stack.bootstrap_servers()
    async with reading(stack) as (database, topic, connection):
        ledger = _Ends(topic)
        seeds = iter(range(1, 100))

        async def play(minutes: int, *, rate: float = 2.0) -> None:
            """Play this many minutes of traffic up to now, and wait until it is in the database."""
            start_us = now_us() - minutes * _MINUTE_US
            mix = Mix(start_us=start_us, rate=rate, in_flight=round(rate * 6) + 1, stuck=0.04)
            traffic = SimulatorRun(mix=mix, seed=next(seeds), events=round(minutes * 60 * rate))
            await run_into_topic(traffic, servers, topic.name, ledger)
            await Watcher(connection).until_read(topic, ledger.ends)

        await play(600, rate=0.3)
        await play(50)
        async with serving(database.url) as url:
            yield Platform(database=database, url=url, connection=connection, play=play)

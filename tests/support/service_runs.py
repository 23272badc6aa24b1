"""Runs the service, in this process or in its own. Waits for positions, never for time."""

import asyncio
import contextlib
import inspect
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from normalizer.config.settings import Settings, environment_variable
from normalizer.consumer.service import Service
from tests.support import waiting
from tests.support.factories import raw_event
from tests.support.stack import Database, Topic
from tests.support.table_rows import wait_for_lock

DEADLINE_S = 60.0


def settings_for(
    database: Database, topic: Topic, bootstrap_servers: str, **fields: Any
) -> Settings:
    """Settings with a group for the topic alone, which quickly notices that a process is gone."""
    values: dict[str, Any] = {
        "database_url": database.url,
        "kafka_bootstrap_servers": (bootstrap_servers,),
        "kafka_topics": (topic.name,),
        "kafka_group_id": f"group.{topic.name}",
        "kafka_session_timeout_ms": 3_000,
        "batch_age_ms": 20,
        "http_port": 0,
    }
    return Settings(**(values | fields))


@contextlib.asynccontextmanager
async def running(settings: Settings, **options: Any) -> AsyncIterator[Service]:
    """Run the service in this process and stop it cleanly. If it dies, the test fails."""
    service = Service(settings, **options)
    test = asyncio.current_task()
    assert test
    task = asyncio.create_task(service.run(), name="service")
    task.add_done_callback(lambda ended: ended.exception() and test.cancel())
    try:
        yield service
    except asyncio.CancelledError:
        if task.done():
            test.uncancel()
            task.result()
        raise
    finally:
        service.stop()
        await task


@contextlib.asynccontextmanager
async def process(
    settings: Settings,
    *arguments: str,
    program: str = "normalizer",
    command: str = "run",
    sources: Path | None = None,
    log: int = asyncio.subprocess.PIPE,
    prefix: Sequence[str] = (),
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `normalizer run` as a process, and kill it at the end of the block if it still runs.

    It runs the code in the folder `sources`, or else in this checkout, as the module `program`.
    `prefix` is a command to run it with.
    """
    child = await asyncio.create_subprocess_exec(
        *prefix,
        sys.executable,
        *("-m", program, command, *arguments),
        cwd=sources,
        env=environment(settings),
        stdout=log,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 26,  # of its log: a full pipe would hold up the process
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


def environment(settings: Settings) -> dict[str, str]:
    """The environment variables for these settings."""
    values = {"PATH": os.environ["PATH"]}
    for field in msgspec.structs.fields(Settings):
        value = getattr(settings, field.name)
        if value != field.default:
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            values[environment_variable(field.name)] = text
    return values


async def send(
    producer: AIOKafkaProducer,
    topic: Topic,
    numbers: range,
    *,
    partition: int | None = None,
    **fields: Any,
) -> None:
    """Send events with these numbers as ids, over all partitions in turn or to one."""
    for number in numbers:
        await producer.send(
            topic.name,
            msgspec.json.encode(raw_event(number, **fields)),
            partition=number % topic.partitions if partition is None else partition,
        )
    await producer.flush()


async def recreate_topic(admin: AIOKafkaAdminClient, topic: Topic) -> None:
    """Delete the topic and create it again, empty. It keeps records of any age."""

    async def there() -> bool:
        return topic.name in await admin.list_topics()

    async def gone() -> bool:
        return not await there()

    await admin.delete_topics([topic.name])
    await until(gone)
    keeping = {"retention.ms": "-1"}
    await admin.create_topics([NewTopic(topic.name, topic.partitions, 1, topic_configs=keeping)])
    await until(there)


class Watcher:
    """Reads one test's database."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def positions(self, topic: Topic) -> dict[int, dict[str, Any]]:
        """The newest position of each partition."""
        rows = await self.connection.fetch(
            """
            select   distinct on (partition) *
            from     normalizer.source_positions
            where    topic = $1
            order by partition, incarnation desc
            """,
            topic.name,
        )
        return {row["partition"]: dict(row) for row in rows}

    async def until_read(self, topic: Topic, next_offsets: Mapping[int, int]) -> None:
        """Wait until every one of these positions is reached."""

        async def read() -> bool:
            at = await self.positions(topic)
            return all(
                partition in at and at[partition]["next_offset"] >= offset
                for partition, offset in next_offsets.items()
            )

        await until(read, lambda: self.positions(topic))

    async def until_owned(self, topic: Topic, owners: set[str]) -> None:
        """Wait until exactly these processes hold the partitions."""

        async def owned() -> bool:
            at = await self.positions(topic)
            return {position["owner"] for position in at.values()} == owners

        await until(owned, lambda: self.positions(topic))

    async def until_claimed(
        self, topic: Topic, *, epoch: int = 1, incarnation: int = 0, partition: int = 0
    ) -> None:
        """Wait until a partition has been claimed this often in this incarnation."""

        async def claimed() -> bool:
            at = (await self.positions(topic)).get(partition, {"incarnation": -1})
            return bool(at["incarnation"] == incarnation and at["epoch"] >= epoch)

        await until(claimed, lambda: self.positions(topic))

    async def until_blocked(self) -> None:
        """Wait until a session waits for a lock."""
        await wait_for_lock(self.connection)

    async def events(self) -> int:
        """The number of rows."""
        count: int = await self.connection.fetchval("select count(*) from normalizer.events")
        return count


async def until(
    holds: Callable[[], bool | Awaitable[bool]],
    otherwise: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Wait until the condition, which may be awaitable, holds for a service."""

    async def ask() -> bool:
        held = holds()
        return await held if inspect.isawaitable(held) else held

    await waiting.until(ask, otherwise, deadline_s=DEADLINE_S)


@contextlib.asynccontextmanager
async def watching(url: str) -> AsyncIterator[Watcher]:
    """Watch a database from outside the service."""
    connection = await asyncpg.connect(url, server_settings={"jit": "off"})
    try:
        yield Watcher(connection)
    finally:
        await connection.close()

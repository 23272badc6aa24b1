"""A test's own topic, and the database that a service fills from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer

from normalizer.config.settings import Settings
from normalizer.kafka import KafkaPartition
from tests.support.service_runs import Watcher, running, send, settings_for
from tests.support.stack import Database, Topic


@dataclass(frozen=True)
class Feed:
    """The topic, what sends to it, and what looks at the database from outside the service."""

    database: Database
    topic: Topic
    bootstrap_servers: str
    producer: AIOKafkaProducer
    watcher: Watcher

    @property
    def connection(self) -> asyncpg.Connection:
        """The watcher's connection, which has the rights of the database's owner."""
        return self.watcher.connection

    @property
    def name(self) -> str:
        """The topic's name."""
        return self.topic.name

    def settings(self, **fields: Any) -> Settings:
        """Settings of a service that reads the topic."""
        return settings_for(self.database, self.topic, self.bootstrap_servers, **fields)

    def partition(self, number: int = 0) -> KafkaPartition:
        """One partition of the topic."""
        return KafkaPartition(self.name, number)

    async def send(self, numbers: range, *, partition: int | None = None, **fields: Any) -> None:
        """Send events with these numbers as ids, over all partitions in turn or to one."""
        await send(self.producer, self.topic, numbers, partition=partition, **fields)

    async def send_value(self, value: bytes | None, *, partition: int = 0, **fields: Any) -> None:
        """Send one record, and wait until it's written."""
        await self.producer.send_and_wait(self.name, value, partition=partition, **fields)

    async def positions(self) -> dict[int, dict[str, Any]]:
        """The newest position of each partition."""
        return await self.watcher.positions(self.topic)

    async def position(self, partition: int = 0) -> dict[str, Any]:
        """The newest position of one partition."""
        return (await self.positions())[partition]

    async def until_read(self, next_offsets: Mapping[int, int]) -> None:
        """Wait until every one of these positions is reached."""
        await self.watcher.until_read(self.topic, next_offsets)

    async def read_to(
        self, next_offsets: Mapping[int, int], settings: Settings, **options: Any
    ) -> None:
        """Run a service until every one of these positions is reached, and stop it."""
        async with running(settings, **options):
            await self.until_read(next_offsets)

    async def until_owned(self, owners: set[str]) -> None:
        """Wait until exactly these processes hold the partitions."""
        await self.watcher.until_owned(self.topic, owners)

    async def until_claimed(
        self, *, epoch: int = 1, incarnation: int = 0, partition: int = 0
    ) -> None:
        """Wait until a partition has been claimed this often in this incarnation."""
        await self.watcher.until_claimed(
            self.topic, epoch=epoch, incarnation=incarnation, partition=partition
        )

    async def until_blocked(self) -> None:
        """Wait until a session waits for a lock."""
        await self.watcher.until_blocked()

    async def events(self) -> int:
        """The number of rows."""
        return await self.watcher.events()

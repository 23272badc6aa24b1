"""One broker and one database server for all contestants, and how each contestant is started."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from bench.drain import PARTITIONS
from bench.peers.contestants import Contestant
from bench.peers.installs import SOURCES
from bench.peers.programs.fields import to_row
from normalizer.embedded import (
    KafkaBroker,
    PostgresServer,
    ensure_kafka_jars,
    remove_server_folder,
)
from normalizer.embedded.free_ports import find_free_port
from normalizer.runtime.child import ChildProcess
from normalizer.store.migrate import migrate

POSTGRES: Final = {"shared_buffers": "512MB", "max_wal_size": "8GB"}
MONITOR: Final = "peers monitor"
_KAFKA: Final = {"group.initial.rebalance.delay.ms": "3000"}
_STOP_S: Final = 15.0

BIGINTS: Final = (
    *("event_id", "execution_id", "catalog_id", "parent_event_id", "parent_execution_id"),
    "source_offset",
)
INTS: Final = ("attempts", "max_attempts", "source_partition")
TEXTS: Final = ("event_type", "step", "status", "worker_id", "command_id", "node_type", "error")
JSONS: Final = ("context", "result", "meta", "extra")
FINISHED: Final = (*BIGINTS, *INTS, *TEXTS, *JSONS, "created_at", "duration")
"""The columns of a finished row."""


class Servers:
    """Kafka and PostgreSQL with an admin client. `folder` is removed with them."""

    def __init__(
        self, postgres: PostgresServer, kafka: KafkaBroker, admin: AIOKafkaAdminClient, folder: Path
    ) -> None:
        self.postgres, self.kafka, self.admin, self.folder = postgres, kafka, admin, folder
        self.commands: dict[str, list[str | Path]] = {}

    async def create_topic(self, name: str) -> None:
        """Create a topic that keeps its records, because the simulator's clock runs in the past."""
        await self.admin.create_topics(
            [NewTopic(name, PARTITIONS, 1, topic_configs={"retention.ms": "-1"})]
        )
        await asyncio.sleep(1)

    async def count_records(self, topic: str) -> int:
        """How many records the topic has."""
        async with self._reader(topic) as (consumer, partitions):
            return sum((await consumer.end_offsets(partitions)).values())

    async def ids_in(self, topic: str) -> int:
        """How many rows its records make: repeats have the id of the first."""
        ids: set[str] = set()
        left = await self.count_records(topic)
        async with self._reader(topic) as (consumer, _):
            await consumer.seek_to_beginning()
            while left:
                for found in (await consumer.getmany(timeout_ms=1_000)).values():
                    left -= len(found)
                    ids |= {
                        to_row(one.value, one.partition, one.offset, one.timestamp)[0]
                        for one in found
                    }
        return len(ids)

    @contextlib.asynccontextmanager
    async def _reader(
        self, topic: str
    ) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka.bootstrap_servers)
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.start()
        try:
            yield consumer, partitions
        finally:
            await consumer.stop()

    async def create_database(self, name: str, who: Contestant) -> str:
        """An empty database with the contestant's tables, after a checkpoint."""
        url = await self.postgres.create_database(name)
        if who.kind == "service":
            await migrate(url, report=lambda _: None)
        else:
            file = "finished_tables.sql" if who.kind == "connect" else "tables.sql"
            await self._execute(url, (SOURCES / file).read_text())
        await self._execute(self.postgres.superuser_url, "checkpoint")
        return url

    async def drop_database(self, name: str) -> None:
        """Drop it with all its connections."""
        await self._execute(self.postgres.superuser_url, f'drop database "{name}" with (force)')

    async def is_stable(self, group: str, members: int) -> bool:
        """Return whether the group has this many members and all its partitions assigned."""
        with contextlib.suppress(KafkaError):  # a broker's first group waits for its coordinator
            for response in await self.admin.describe_consumer_groups([group]):
                for described in response.groups:
                    if described[2] == "Stable" and len(described[5]) >= members:
                        return True
        return False

    async def committed(self, group: str) -> int:
        """The sum of the group's committed offsets."""
        with contextlib.suppress(KafkaError):
            offsets = await self.admin.list_consumer_group_offsets(group)
            return sum(max(one.offset, 0) for one in offsets.values())
        return 0

    async def start(
        self, who: Contestant, topic: str, url: str, group: str, *, unguarded: bool = False
    ) -> list[ChildProcess]:
        """Start the contestant's processes. Their output goes to a log in the folder."""
        servers = self.kafka.bootstrap_servers
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}
        environ |= {"DATABASE_URL": url, "KAFKA_BOOTSTRAP_SERVERS": servers}
        environ["KAFKA_GROUP_ID"] = group
        command = self.commands[who.program]
        if who.kind == "service":
            environ |= {"KAFKA_TOPICS": topic, "NORMALIZER_HTTP_PORT": "0"}
            environ |= {"NORMALIZER_LOG_LEVEL": "error"}
        else:
            environ |= {"KAFKA_TOPIC": topic} | ({"UNGUARDED": "1"} if unguarded else {})
        if who.kind == "connect":
            command = [*command, *self._connect_files(who, topic, url, group)]
        return [
            await ChildProcess.start(
                who.name, command, env=environ, log=self.log_path(group), cwd=SOURCES.parents[1]
            )
            for _ in range(who.processes)
        ]

    def log_path(self, group: str) -> Path:
        """What a contestant's processes print."""
        return self.folder / f"{group}.log"

    def _connect_files(self, who: Contestant, topic: str, url: str, group: str) -> list[Path]:
        folder = self.folder / group
        folder.mkdir()
        parts = urlsplit(url)
        values = {
            "BOOTSTRAP": self.kafka.bootstrap_servers,
            "SCHEMA": _connect_schema(),
            "FOLDER": str(folder),
            "PORT": str(find_free_port(set())),
            "NAME": group.removeprefix("connect-"),
            "TASKS": str(who.members),
            "TOPIC": topic,
            "JDBC": f"jdbc:postgresql://{parts.hostname}:{parts.port}{parts.path}"
            "?reWriteBatchedInserts=true",
            "USER": parts.username or "",
            "PASSWORD": parts.password or "",
        }
        files = [folder / name for name in ("worker.properties", "sink.properties")]
        for file in files:
            text = (SOURCES / "connect" / file.name).read_text()
            for name, value in values.items():
                text = text.replace(f"@{name}@", value)
            file.touch(mode=0o600)
            file.write_text(text)
        return files

    async def _execute(self, url: str, statements: str) -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statements)
        finally:
            await connection.close()


@contextlib.asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[Servers]:
    """Servers of this run alone, in the folder, which is removed at the end."""
    folder.chmod(0o711)
    try:
        async with (
            PostgresServer(folder / "postgres", settings=POSTGRES) as postgres,
            KafkaBroker(
                folder / "kafka", await ensure_kafka_jars(print), properties=_KAFKA
            ) as kafka,
        ):
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
            await admin.start()
            try:
                yield Servers(postgres, kafka, admin, folder)
            finally:
                await admin.close()
    finally:
        remove_server_folder(folder / "postgres")
        remove_server_folder(folder)


async def stop(children: list[ChildProcess]) -> None:
    """End the processes of a contestant, in order where they can."""
    for child in children:
        if child.returncode is None:
            await child.stop(signal.SIGTERM, deadline_s=_STOP_S)


async def send_finished_rows(servers: Servers, url: str, topic: str) -> list[str]:
    """Send the rows that the service stored, as JSON, to a separate topic. Returns them."""
    connection = await asyncpg.connect(url)
    columns = ", ".join(f"{name}::text" if name in JSONS else name for name in FINISHED)
    rows = await connection.fetch(
        f"select {columns} from normalizer.events order by batch_id, event_id"  # noqa: S608 - our names
    )
    await connection.close()
    lines = [
        json.dumps({**row, "created_at": row["created_at"].isoformat()}, separators=(",", ":"))
        for row in map(dict, rows)
    ]
    await servers.create_topic(topic)
    async with AIOKafkaProducer(
        bootstrap_servers=servers.kafka.bootstrap_servers,
        max_batch_size=512 * 1024,
        linger_ms=20,
        max_request_size=16 << 20,
    ) as producer:
        for row, line in zip(rows, lines, strict=True):
            await producer.send(topic, line.encode(), key=str(row["execution_id"]).encode())
    return lines


def _connect_schema() -> str:
    kinds = {
        **{name: {"type": "int64"} for name in BIGINTS},
        **{name: {"type": "int32"} for name in INTS},
        **{name: {"type": "string"} for name in TEXTS},
        **{name: {"type": "string", "name": "io.debezium.data.Json"} for name in JSONS},
        "created_at": {"type": "string", "name": "io.debezium.time.ZonedTimestamp"},
        "duration": {"type": "double"},
    }
    needed = ("event_id", "execution_id")
    fields = [{"field": name, "optional": name not in needed, **kinds[name]} for name in FINISHED]
    schema = {"type": "struct", "name": "event", "optional": False, "fields": fields}
    return json.dumps(schema, separators=(",", ":"))

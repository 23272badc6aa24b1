"""PostgreSQL and Kafka for one run alone, in a folder that is removed at its end."""

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from normalizer.embedded import (
    KafkaBroker,
    PostgresServer,
    ensure_kafka_jars,
    remove_server_folder,
)

_SETTINGS: Final = {"shared_buffers": "512MB", "max_wal_size": "8GB"}


@asynccontextmanager
async def started_servers(
    properties: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[Path, PostgresServer, KafkaBroker]]:
    """The folder and both servers; `properties` are those of the broker."""
    folder = Path(tempfile.mkdtemp(prefix="noetl-bench-"))
    folder.chmod(0o711)
    try:
        async with (
            PostgresServer(folder / "postgres", settings=_SETTINGS) as postgres,
            KafkaBroker(
                folder / "kafka", await ensure_kafka_jars(print), properties=properties
            ) as kafka,
        ):
            yield folder, postgres, kafka
    finally:
        remove_server_folder(folder / "postgres")
        remove_server_folder(folder)


async def create_topic(bootstrap_servers: str, name: str, partitions: int) -> None:
    """Create a topic without retention: the simulator's clock runs in the past."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        topic = NewTopic(name, partitions, 1, topic_configs={"retention.ms": "-1"})
        await admin.create_topics([topic])
    finally:
        await admin.close()

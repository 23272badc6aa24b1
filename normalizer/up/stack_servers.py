"""Starts the database and the broker of the stack, and prints how to reach them.

If Java or Maven is missing, the stack runs without Kafka, and a line says what to install.
"""

import shlex
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from normalizer.config.settings import Settings
from normalizer.embedded import (
    KAFKA_VERSION,
    KafkaBroker,
    KafkaMissingError,
    PostgresServer,
    ensure_kafka_jars,
)
from normalizer.up.stack_files import StackAddresses, write_pgpass
from normalizer.up.supervisor import Supervisor


async def start_postgres(
    folder: Path, supervisor: Supervisor, report: Callable[[str], None]
) -> StackAddresses:
    """Start PostgreSQL. Returns the stack so far, with the owner's database."""
    server = PostgresServer(folder / "postgres")
    await supervisor.start("postgres", server)
    url = await server.create_database("noetl")
    report(f"PostgreSQL on 127.0.0.1:{server.port}. To query it:")
    pgpass = write_pgpass(folder, url)
    psql = shlex.join([str(server.bin_dir / "psql"), _without_password(url)])
    report(f"  PGPASSFILE={shlex.quote(str(pgpass))} {psql}")
    return StackAddresses(
        database_url=url, folders={"state": str(folder), "postgres": str(server.data_folder)}
    )


async def start_kafka(
    folder: Path, stack: StackAddresses, supervisor: Supervisor, report: Callable[[str], None]
) -> Settings:
    """Start Kafka and return its address.

    If parts are missing, it prints which, and returns none.
    """
    try:
        jars = await ensure_kafka_jars(report)
    except KafkaMissingError as missing:
        report(f"{missing} (until then use --no-kafka, which loads the same records from a file)")
        return Settings()
    broker = KafkaBroker(folder / "kafka", jars)
    await supervisor.start("kafka", broker)
    stack.bootstrap_servers = broker.bootstrap_servers
    stack.folders["kafka"] = str(broker.folder)
    report(f"Apache Kafka {KAFKA_VERSION} on {broker.bootstrap_servers}")
    return Settings(kafka_bootstrap_servers=(broker.bootstrap_servers,))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}").geturl()

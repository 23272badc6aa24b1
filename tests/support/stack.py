"""The servers that tests share, started once a session when the first test needs them."""

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NoReturn, Self
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest

from normalizer.embedded import (
    DATABASE_OWNER,
    KafkaBroker,
    KafkaRequirementMissingError,
    PostgresServer,
    ensure_kafka_jars,
    remove_server_folder,
)
from normalizer.store.migrate import migrate
from tests.support.maven_postgres import VERSIONS, unpack_postgres

DATABASE_URL: Final = os.environ.get("TEST_DATABASE_URL") or None
BOOTSTRAP_SERVERS: Final = os.environ.get("TEST_KAFKA_BOOTSTRAP_SERVERS") or None
KAFKA_FOLDER_NAME: Final = "TEST_KAFKA_FOLDER"
"""Where tests.support.one_kafka says in which folder its broker is."""
POSTGRES_BINDIR: Final = os.environ.get("TEST_POSTGRES_BINDIR") or None
POSTGRES_15: Final = Path(os.environ.get("TEST_POSTGRES_15_BINDIR", "/usr/lib/postgresql/15/bin"))
CI: Final = os.environ.get("CI") == "true"

_SETTINGS: Final = {"shared_buffers": "128MB", "max_connections": "200"}


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """A database for one test. `url` is its owner's, `admin_url` the superuser's."""

    name: str
    url: str
    admin_url: str


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic for one test."""

    name: str
    partitions: int


def memory_first() -> None:
    """Keep temporary files in memory if there is enough of it.

    A database of a test is two thousand files, and to create and delete them takes seconds on some
    disks.
    """
    memory = Path("/dev/shm")  # noqa: S108 - each user deletes its own files
    if "TMPDIR" not in os.environ and memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30:
        os.environ["TMPDIR"] = tempfile.tempdir = str(memory)


def replace_database(url: str, database: str) -> str:
    """The address of another database of the same server."""
    return urlsplit(url)._replace(path=f"/{database}").geturl()


class Cluster:
    """A PostgreSQL server with a migrated template, from which it makes databases quickly."""

    def __init__(
        self, admin_url: str, owner_url: str | None, server: PostgresServer | None
    ) -> None:
        self._admin_url = admin_url
        self._owner_url = owner_url or admin_url
        self._server = server
        self._template: str | None = None

    @property
    def server(self) -> PostgresServer:
        """The server, for tests that stop or signal it. Skipped if an external stack is used."""
        if self._server is None:
            pytest.skip("needs a PostgreSQL server of its own")
        return self._server

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """A migrated, empty database, dropped at the end with all connections."""
        if self._template is None:
            self._template = await self._make_template()
        async with self.empty_database(self._template) as made:
            yield made

    @contextlib.asynccontextmanager
    async def empty_database(self, template: str = "template1") -> AsyncIterator[Database]:
        """A database with nothing but the template's contents."""
        name = f"test_{secrets.token_hex(6)}"
        await self._create(name, template)
        try:
            yield Database(
                name=name,
                url=replace_database(self._owner_url, name),
                admin_url=replace_database(self._admin_url, name),
            )
        finally:
            await self._execute(f'drop database "{name}" with (force)')

    async def drop_template(self) -> None:
        if self._template is not None:
            await self._execute(f'drop database "{self._template}" with (force)')

    async def _make_template(self) -> str:
        name = f"test_template_{secrets.token_hex(6)}"
        await self._create(name, "template1")
        await migrate(replace_database(self._owner_url, name), report=lambda _: None)
        return name

    async def _create(self, name: str, template: str) -> None:
        """Create a database. Settings and rights aren't copied with its contents."""
        owner = urlsplit(self._owner_url).username
        connection = await asyncpg.connect(self._admin_url)
        try:
            # Takes half the time of the default strategy, which writes each page to the log.
            await connection.execute(
                f'create database "{name}" template "{template}" owner "{owner}" strategy file_copy'
            )
            settings = await connection.fetch(
                """
                select unnest(kept.setconfig) as setting
                from   pg_db_role_setting as kept
                join   pg_database        as source on source.oid = kept.setdatabase
                where  source.datname = $1
                and    kept.setrole = 0
                """,
                template,
            )
            for setting, value in (row["setting"].split("=", 1) for row in settings):
                await connection.execute(f'alter database "{name}" set {setting} = {value}')
        finally:
            await connection.close()

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._admin_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class Stack:
    """Everything that runs for this session, in one folder that is removed with it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="noetl-tests-"))
        self.folder.chmod(0o711)  # as root, the database's user must be able to enter
        self._exits = contextlib.AsyncExitStack()
        self._clusters: dict[str, Cluster] = {}
        self._broker: KafkaBroker | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()
        for server in self.folder.glob("postgres*"):
            remove_server_folder(server)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def cluster(self, version: str) -> Cluster:
        """`current` is the newest (or TEST_DATABASE_URL), `15` the oldest supported; 16 and 17."""
        if version not in self._clusters:
            self._clusters[version] = await self._start_cluster(version)
        return self._clusters[version]

    async def bootstrap_servers(self) -> str:
        """The session's Kafka, for tests that leave it running."""
        return BOOTSTRAP_SERVERS or (await self._session_broker()).bootstrap_servers

    async def kafka_folder(self) -> Path:
        """Where the session's broker keeps its log. Skipped if an external stack is used."""
        if BOOTSTRAP_SERVERS is None:
            return (await self._session_broker()).folder
        if KAFKA_FOLDER_NAME not in os.environ:
            pytest.skip("needs the log of a broker of its own")
        return Path(os.environ[KAFKA_FOLDER_NAME])

    async def _session_broker(self) -> KafkaBroker:
        if self._broker is None:
            self._broker = await self._exits.enter_async_context(await self.new_broker("kafka"))
        return self._broker

    async def new_broker(self, name: str) -> KafkaBroker:
        """A broker that is not started yet, for a test that kills it."""
        try:
            return KafkaBroker(self.folder / name, await ensure_kafka_jars(print))
        except KafkaRequirementMissingError as missing:
            skip_or_fail(str(missing))

    def new_postgres(self, name: str) -> PostgresServer:
        """A PostgreSQL that is not started yet, for a test that kills it."""
        bin_dir = Path(POSTGRES_BINDIR) if POSTGRES_BINDIR else None
        return PostgresServer(
            self.folder / name, bin_dir=bin_dir, durable=False, settings=_SETTINGS
        )

    async def _start_cluster(self, version: str) -> Cluster:
        if version == "current" and DATABASE_URL is not None:
            cluster = Cluster(DATABASE_URL, None, None)
        else:
            server = (
                self.new_postgres("postgres")
                if version == "current"
                else await self._older_postgres(version)
            )
            await self._exits.enter_async_context(server)
            cluster = Cluster(
                server.superuser_url, server.database_url("postgres", role=DATABASE_OWNER), server
            )
        self._exits.push_async_callback(cluster.drop_template)
        return cluster

    async def _older_postgres(self, version: str) -> PostgresServer:
        folder = self.folder / f"postgres-{version}"
        bin_dir = POSTGRES_15
        if version in VERSIONS:
            try:
                programs = self.folder / f"programs-{version}"
                bin_dir = await asyncio.to_thread(unpack_postgres, version, programs)
            except (OSError, subprocess.SubprocessError) as error:
                skip_or_fail(f"no PostgreSQL {version}: {error}")
        elif not (bin_dir / "postgres").exists():
            skip_or_fail(f"no PostgreSQL 15 in {bin_dir}: type `apt-get install postgresql-15`")
        return PostgresServer(folder, bin_dir=bin_dir, durable=False, settings=_SETTINGS)


def skip_or_fail(why: str) -> NoReturn:
    """Skip with a counted line, or fail in CI, where everything must be there."""
    if CI:
        pytest.fail(why)
    pytest.skip(why)

"""What the containers are made of and get, tried without them.

The image's build lines are typed in a folder; a real PostgreSQL and Kafka get what
compose.yaml hands to theirs.
"""

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import httpx
import pytest
import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from normalizer.embedded import PostgresServer
from normalizer.service.file_replay import FileReplay
from normalizer.settings import Settings
from normalizer.store.migrate import MigrationFailed, migrate
from projector.api.app import build
from projector.api.snapshots import Reader
from tests.support.doc_pages import copy_tree
from tests.support.job_runs import record_lines, simulated_records, write_file
from tests.support.stack import Stack

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
ROLES = ROOT / "deploy" / "postgres" / "roles.sql"
OF_THE_IMAGE = {"KAFKA_HEAP_OPTS"}
"""Read by Kafka's scripts; every other KAFKA_ variable becomes a property of the broker."""


async def test_the_roles_may_do_what_they_are_for_and_nothing_else(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    server = postgres_server
    passwords = {"WRITER_PASSWORD": "it's a writer", "READER_PASSWORD": "a reader"}
    owner, writer, reader = (
        f"postgresql://{role}:{quote(password)}@127.0.0.1:{urlsplit(server.url).port}/events"
        for role, password in zip(
            ("own-er", "writer", "reader"), ("owns", *passwords.values()), strict=True
        )
    )
    psql = (str(server.bin_dir / "psql"), "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1")
    said: list[str] = []

    for made in (
        "create role \"own-er\" login password 'owns'",
        'create database events owner "own-er"',
    ):
        await _done(*psql, "--dbname", server.url, "--command", made)
    with pytest.raises(MigrationFailed, match='grant projector_reader to "own-er"'):
        await migrate(owner, report=said.append)
    await _done(
        *(*psql, "--dbname", server.url, "--file", str(ROLES)),
        env=os.environ | passwords | {"POSTGRES_USER": "own-er"},
    )
    await migrate(owner, report=said.append)

    assert [line for line in said if not line.startswith("applied ")] == []
    await FileReplay(
        Settings(database_url=writer),
        write_file(tmp_path / "records", record_lines(simulated_records(200))),
    ).run()

    async with (
        Reader(reader, connections=1, timeout_s=5.0) as views,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(build(views, token="t" * 16)),  # as projector serves it
            base_url="http://projector",
            headers={"Authorization": f"Bearer {'t' * 16}"},
        ) as client,
    ):
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/metrics", headers={"Authorization": ""})).status_code == 200
        assert (await client.get("/api/v1/freshness")).json()["rows"]
    connection = await asyncpg.connect(reader)
    try:
        assert await connection.fetchval("select sum(stored) from projector.freshness") > 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("select from normalizer.quarantine_raw")
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("create table t ()")
    finally:
        await connection.close()


@pytest.mark.soak
async def test_the_image_s_build_lines_make_programs_that_run(stack: Stack, tmp_path: Path) -> None:
    """With this Python for the image's, and its folders below one of ours."""
    app, build, python = (tmp_path / name for name in ("app", "build", "python"))
    build.mkdir()
    await _done(sys.executable, "-m", "venv", str(python))
    path = f"{python / 'bin'}:{os.environ['PATH']}"
    first_stage = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text()).split("\nFROM ")[1]
    for line in first_stage.splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "COPY":
            copy_tree(build, *rest.split()[:-1])
        elif instruction == "RUN":
            typed = rest.replace("/opt/app", str(app))
            await _done("bash", "-euc", typed, cwd=build, env=os.environ | {"PATH": path})

    async with (await stack.cluster("current")).empty_database() as database:
        env = {"PATH": str(app / "bin"), "DATABASE_URL": database.url}
        for command in ("normalizer migrate", "projector views"):
            program, *arguments = command.split()
            await _done(str(app / "bin" / program), *arguments, cwd=tmp_path, env=env)
    demo = tmp_path / "demo"
    copy_tree(demo, "simulator")
    await _done(str(app / "bin" / "python"), "-m", "simulator", "--help", cwd=demo, env={})
    assert not (app / "bin" / "pip").exists()


async def _done(*command: str, **options: Any) -> None:
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, **options
    )
    assert await child.wait() == 0, command


async def test_kafka_knows_every_property_that_it_is_given(admin: AIOKafkaAdminClient) -> None:
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, "1")])
    known = {entry[0] for resource in answer.resources for entry in resource[4]}

    given = {
        name.removeprefix("KAFKA_").lower().replace("_", ".")
        for name in COMPOSE["services"]["kafka"]["environment"]
        if name not in OF_THE_IMAGE
    }
    assert len(given) > 10
    assert given - known == set()

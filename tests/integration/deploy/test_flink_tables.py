"""deploy/flink keeps to its own database, and one job at a time writes there. Needs no Flink."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import pytest

from normalizer.embedded.postgres_server import find_wheel_binaries
from tests.support.doc_pages import blocks
from tests.support.engines import ROOT
from tests.support.stack import Database
from tests.support.waiting import until

FLINK: Final = ROOT / "deploy" / "flink"
TABLES: Final = ("event_hours", "call_hours", "call_times", "error_hours", "partitions")
KEEPS: Final = 'cp "$2" "$KEPT" && echo "Job ID: 1"'
_VIEWS: Final = """
    select   schemaname, viewname, definition
    from     pg_views
    where    schemaname in ('normalizer', 'projector')
    order by 1, 2
"""
_WAITS: Final = """
    select exists (
        select from pg_locks
        where  not granted and relation = 'flink.partitions'::regclass
    )
"""
_SCHEMA: Final = "select 1 from pg_namespace where nspname = 'flink'"
_ROW: Final = "insert into flink.partitions values (0, %d, 0)"


async def test_its_tables_refuse_the_database_of_the_service(database: Database) -> None:
    views = await rows(database.url, _VIEWS)

    status, said = await made_tables(database.url)

    assert status != 0
    assert "normalizer.events is here" in said
    assert "create database figures" in said
    assert await rows(database.url, _VIEWS) == views
    assert await rows(database.url, _SCHEMA) == []


async def test_what_its_page_says_to_type_starts_a_job(
    empty_database: Database, tmp_path: Path
) -> None:
    """The login that it makes is no superuser, and needs no right that the page doesn't give."""
    own = f"figures_{secrets.token_hex(4)}"
    at = urlsplit(empty_database.admin_url)
    (typed,) = (
        one.text for one in blocks("../deploy/flink/README.md") if "create role" in one.text
    )
    for word, real in {
        "role flink": f"role {own}",
        "database figures owner flink": f"database {own} owner {own}",
        "flink:secret@postgres:5432/figures": f"{own}:secret@{at.hostname}:{at.port}/{own}",
        "/opt/normalizer/bin/python": sys.executable,
    }.items():
        assert word in typed
        typed = typed.replace(word, real)
    environ = start_environ(empty_database, tmp_path) | {
        "PATH": f"{find_wheel_binaries()}:{os.environ['PATH']}",
        "LC_ALL": "C",
        "ADMIN_URL": empty_database.admin_url,
    }
    figures = at._replace(path=f"/{own}").geturl()

    status, said = await done(["bash", "-ec", f"cd {ROOT}\n{typed}"], environ)
    try:
        [(job,)] = await rows(figures, "select name from flink.job")
    finally:
        for statement in (f"drop database if exists {own}", f"drop role if exists {own}"):
            await rows(empty_database.admin_url, statement)

    assert (status, f"{job} starts from nothing" in said) == (0, True), said
    assert f"ApplicationName={job}'" in submitted(tmp_path)


async def test_a_start_whose_job_flink_refuses_fails_without_the_password(
    empty_database: Database, tmp_path: Path
) -> None:
    password = urlsplit(empty_database.url).password
    properties = tmp_path / "client.properties"
    properties.write_text("sasl.jaas.config=a.Module required password='s3cr3t';\n")
    await made_tables(empty_database.url)

    status, said = await started(
        empty_database, tmp_path, "--kafka-properties", properties,
        program='cat "$2" && echo "[ERROR] no such broker"',
    )  # fmt: skip

    assert status == 1
    assert "[ERROR] no such broker" in said
    assert "'password' = ***" in said
    assert password
    assert password not in said
    assert "s3cr3t" not in said


@pytest.mark.parametrize("table", TABLES)
async def test_a_job_that_starts_from_nothing_refuses_a_table_with_rows(
    table: str, empty_database: Database, tmp_path: Path
) -> None:
    await made_tables(empty_database.url)
    assert (await started(empty_database, tmp_path))[0] == 0
    [(job,)] = await rows(empty_database.url, "select name from flink.job")
    await write_row(empty_database.url, table, job)

    status, said = await started(empty_database, tmp_path)

    assert status == 1
    assert f"flink.{table} has rows" in said
    assert "--from-checkpoint" in said
    assert await rows(empty_database.url, "select name from flink.job") == [(job,)]


async def test_only_the_job_that_was_started_last_writes(
    empty_database: Database, tmp_path: Path
) -> None:
    checkpoint = checkpoint_in(tmp_path / "checkpoints", 1)
    await made_tables(empty_database.url)
    with pytest.raises(asyncpg.RaiseError, match=r"start\.py"):
        await write_row(empty_database.url, "partitions", "")
    await started(empty_database, tmp_path)
    [(first,)] = await rows(empty_database.url, "select name from flink.job")
    await write_row(empty_database.url, "partitions", first)

    status, _ = await started(empty_database, tmp_path, "--from-checkpoint", checkpoint)

    [(second,)] = await rows(empty_database.url, "select name from flink.job")
    assert status == 0
    with pytest.raises(asyncpg.RaiseError, match=rf'by "{first}".*{second}'):
        await write_row(empty_database.url, "event_hours", first)
    await write_row(empty_database.url, "event_hours", second)


async def test_a_start_waits_for_the_writes_of_the_job_before(
    empty_database: Database, tmp_path: Path
) -> None:
    await made_tables(empty_database.url)
    await started(empty_database, tmp_path)
    [(job,)] = await rows(empty_database.url, "select name from flink.job")
    writer = await asyncpg.connect(empty_database.url, server_settings={"application_name": job})
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute(_ROW % 1)

    start = asyncio.create_task(started(empty_database, tmp_path))

    async def waits_or_ended() -> bool:
        return bool(await writer.fetchval(_WAITS)) or start.done()

    await until(waits_or_ended)
    await transaction.commit()
    status, said = await start
    await writer.close()

    assert (status, "flink.partitions has rows" in said) == (1, True)


async def test_a_start_continues_from_the_newest_complete_checkpoint(
    empty_database: Database, tmp_path: Path
) -> None:
    kept = tmp_path / "checkpoints"
    checkpoint_in(kept / "job-1", 9, age_s=60)
    newest = checkpoint_in(kept / "job-2", 3, age_s=30)
    (kept / "job-2" / "chk-4").mkdir()
    await made_tables(empty_database.url)

    status, said = await started(empty_database, tmp_path, "--from-checkpoint", kept)

    assert (status, said) == (0, said)
    setting = f"SET 'execution.state-recovery.path' = '{newest.as_uri()}';"
    assert setting in submitted(tmp_path)


async def test_a_start_fills_in_addresses_and_what_kafka_wants(
    empty_database: Database, tmp_path: Path
) -> None:
    properties = tmp_path / "client.properties"
    properties.write_text(
        "# TLS\nsecurity.protocol=SASL_SSL\n\nsasl.mechanism = SCRAM-SHA-512\n"
        "sasl.jaas.config=a.Module required username=\"u\" password='p=1';\n"
    )
    await made_tables(empty_database.url)

    status, said = await started(
        empty_database, tmp_path, "--kafka-properties", properties,
        environ={"KAFKA_CANONICAL_TOPIC": "other.topic"},
    )  # fmt: skip

    script = submitted(tmp_path)
    [(job,)] = await rows(empty_database.url, "select name from flink.job")
    assert status == 0
    assert "p=1" not in said
    assert "'properties.bootstrap.servers' = 'broker:1234'" in script
    assert "'topic' = 'other.topic'" in script
    assert "'properties.sasl.mechanism' = 'SCRAM-SHA-512'" in script
    assert """username="u" password=''p=1'';'""" in script
    assert script.count(f"ApplicationName={job}'") == len(TABLES)
    assert "'kafka:9092'" not in script
    assert "//postgres:5432" not in script


async def made_tables(url: str) -> tuple[int, str]:
    """Run postgres.sql as the README says. Returns the exit status and psql's output."""
    command: list[str | Path] = [
        find_wheel_binaries() / "psql",
        "--no-psqlrc",
        url,
        "--file",
        FLINK / "postgres.sql",
    ]
    return await done(command, {"LC_ALL": "C", "PATH": os.defpath})


async def started(
    database: Database, folder: Path, *options: str | Path,
    program: str = KEEPS, environ: Mapping[str, str] | None = None,
) -> tuple[int, str]:  # fmt: skip
    """Run start.py with a client that submits to nobody and keeps the script."""
    settings = start_environ(database, folder, program)
    command: list[str | Path] = [sys.executable, FLINK / "start.py", *options]
    return await done(command, settings | dict(environ or {}))


def start_environ(database: Database, folder: Path, program: str = KEEPS) -> dict[str, str]:
    """The environment of start.py, with this script as Flink's client."""
    home = folder / "flink-home"
    (home / "bin").mkdir(parents=True, exist_ok=True)
    client = home / "bin" / "sql-client.sh"
    client.write_text(f"#!/bin/sh\n{program}\n")
    client.chmod(0o755)
    return {
        "PATH": os.environ["PATH"],
        "FLINK_HOME": str(home),
        "FIGURES_URL": database.url,
        "KAFKA_BOOTSTRAP_SERVERS": "broker:1234",
        "KEPT": str(folder / "submitted.sql"),
    }


def submitted(folder: Path) -> str:
    """The script that the client got."""
    return (folder / "submitted.sql").read_text()


def checkpoint_in(folder: Path, number: int, *, age_s: int = 0) -> Path:
    """A complete checkpoint."""
    made = folder / f"chk-{number}"
    made.mkdir(parents=True)
    (made / "_metadata").touch()
    at = (made / "_metadata").stat().st_mtime - age_s
    os.utime(made / "_metadata", (at, at))
    return made


async def write_row(url: str, table: str, job: str) -> None:
    """Write a row as the sink of a job does."""
    connection = await asyncpg.connect(url, server_settings={"application_name": job})
    try:
        columns = await connection.fetch(
            "select column_name, data_type from information_schema.columns "
            "where table_schema = 'flink' and table_name = $1 and is_generated = 'NEVER'",
            table,
        )
        names = ", ".join(name for name, _ in columns)
        values = ", ".join("'x'" if kind == "text" else "0" for _, kind in columns)
        await connection.execute(f"insert into flink.{table} ({names}) values ({values})")
    finally:
        await connection.close()


async def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """What a query gives."""
    connection = await asyncpg.connect(url)
    try:
        return list(map(tuple, await connection.fetch(query)))
    finally:
        await connection.close()


async def done(command: Sequence[str | Path], environ: Mapping[str, str]) -> tuple[int, str]:
    """The exit status and everything printed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()

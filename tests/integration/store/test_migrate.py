"""Migrations: in order, once, under a lock, never edited, and by hand as well."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import asyncpg
import pytest

from normalizer.embedded.postgres_server import wheel_binaries
from normalizer.store import migrate as migrate_module
from normalizer.store.migrate import (
    MigrationFailedError,
    SchemaMismatchError,
    migrate,
    read_status,
)
from normalizer.store.migration_files import FOLDER, read_migrations
from normalizer.store.migration_script import migration_script
from tests.integration.store.test_privileges import session_of
from tests.support.stack import Database

_FIRST = (FOLDER / "0000_record_migrations.sql").read_text()


def _quiet(_: str) -> None:
    """Progress is not looked at."""


def _write(folder: Path, name: str, body: str) -> None:
    version = name.partition("_")[0]
    (folder / f"{name}.sql").write_text(
        f"{body}\n\n"
        f"insert into migrations.applied (version) values ('{version}') on conflict do nothing;\n"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two small migrations behind the one that records."""
    (tmp_path / "0000_record_migrations.sql").write_text(_FIRST)
    _write(tmp_path, "0001_create_one", "create table one (a integer);")
    _write(tmp_path, "0002_create_two", "create table two (a integer);")
    return tmp_path


async def _tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("select tablename from pg_tables where schemaname = 'public'")
    finally:
        await connection.close()
    return {row["tablename"] for row in rows}


async def _psql(url: str, *arguments: str | Path) -> int:
    env = {"LC_ALL": "C", "PATH": os.defpath}
    process = await asyncio.create_subprocess_exec(
        *map(
            str, [wheel_binaries() / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *arguments, url]
        ),
        env=env,
    )
    return await process.wait()


@pytest.mark.every_postgres
async def test_the_project_s_own_files_apply_once(empty_database: Database) -> None:
    first = await migrate(empty_database.url, report=_quiet)
    second = await migrate(empty_database.url, report=_quiet)
    status = await read_status(empty_database.url)

    assert first == tuple(file.name for file in read_migrations())
    assert second == ()
    assert {one.state for one in status} == {"applied"}
    # None of our logins may make a temporary schema. A copy of a database lacks this right.
    for role in ("projector_reader", "normalizer_writer", "normalizer_redriver"):
        async with session_of(empty_database, role) as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("create temporary table regnamespace (a integer)")


async def test_an_edited_file_is_refused_and_nothing_is_applied(
    empty_database: Database, folder: Path
) -> None:
    await migrate(empty_database.url, folder=folder, report=_quiet)
    _write(folder, "0001_create_one", "create table one (a bigint);")
    _write(folder, "0003_create_three", "create table three (a integer);")

    with pytest.raises(MigrationFailedError, match="edited after it was applied: 0001_create_one"):
        await migrate(empty_database.url, folder=folder, report=_quiet)

    status = await read_status(empty_database.url, folder=folder)
    assert [one.state for one in status] == ["applied", "edited", "applied", "pending"]
    assert await _tables(empty_database.url) == {"one", "two"}


async def test_files_of_unknown_build_run_by_hand_are_refused(
    empty_database: Database, folder: Path
) -> None:
    for name in ("0000_record_migrations", "0001_create_one"):
        assert await _psql(empty_database.url, "-1", "-f", folder / f"{name}.sql") == 0
    _write(folder, "0001_create_one", "create table one (a bigint);")

    with pytest.raises(
        SchemaMismatchError, match=r"by hand, without a checksum: .*, 0001_create_one\. They"
    ):
        await migrate(empty_database.url, folder=folder, report=_quiet)

    status = await read_status(empty_database.url, folder=folder)
    assert [one.state for one in status] == ["by hand", "by hand", "pending"]


async def test_the_printed_script_migrates_with_checksums_and_continues(
    empty_database: Database, folder: Path
) -> None:
    script = folder / "script"
    for state in ("new", "complete", "behind"):
        if state == "behind":
            _write(folder, "0003_create_three", "create table three (a integer);")
        script.write_text(migration_script(folder))

        assert await _psql(empty_database.url, "-f", script) == 0

        status = await read_status(empty_database.url, folder=folder)
        assert {one.state for one in status} == {"applied"}
        assert await migrate(empty_database.url, folder=folder, report=_quiet) == ()
    assert await _tables(empty_database.url) == {"one", "two", "three"}


async def test_the_printed_script_refuses_a_database_of_another_build(
    empty_database: Database, folder: Path
) -> None:
    await migrate(empty_database.url, folder=folder, report=_quiet)
    _write(folder, "0001_create_one", "create table one (a bigint);")
    _write(folder, "0003_create_three", "create table three (a integer);")
    script = folder / "script"
    script.write_text(migration_script(folder))

    assert await _psql(empty_database.url, "-f", script) != 0

    assert await _tables(empty_database.url) == {"one", "two"}


async def test_a_failing_file_is_rolled_back_and_says_where(
    empty_database: Database, folder: Path
) -> None:
    _write(folder, "0003_fail", "create table three (a integer);\nselect no_such_column;")

    with pytest.raises(MigrationFailedError, match=r'0003_fail, line 2, .*"no_such_column"'):
        await migrate(empty_database.url, folder=folder, report=_quiet)
    status = await read_status(empty_database.url, folder=folder)

    assert [one.state for one in status] == ["applied", "applied", "applied", "pending"]
    assert await _tables(empty_database.url) == {"one", "two"}


async def test_two_at_once_apply_each_file_once(empty_database: Database, folder: Path) -> None:
    _write(folder, "0003_wait", "select pg_sleep(0.3);\ncreate table three (a integer);")
    said: list[str] = []

    results = await asyncio.gather(
        *(migrate(empty_database.url, folder=folder, report=said.append) for _ in range(2))
    )

    assert sorted(name for names in results for name in names) == [
        "0000_record_migrations",
        "0001_create_one",
        "0002_create_two",
        "0003_wait",
    ]
    assert 1 <= sum("waiting" in line for line in said) <= 2


async def test_one_killed_in_the_middle_is_done_again(
    empty_database: Database, folder: Path
) -> None:
    gate = await asyncpg.connect(empty_database.admin_url)
    await gate.execute("select pg_advisory_lock(1)")
    _write(folder, "0003_gate", "select pg_advisory_xact_lock(1);\ncreate table three (a integer);")
    program = (
        "import asyncio, os; from pathlib import Path;"
        "from normalizer.store.migrate import migrate;"
        f"asyncio.run(migrate(os.environ['DATABASE_URL'], folder=Path({str(folder)!r})))"
    )
    killed = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        env={"DATABASE_URL": empty_database.url, "PATH": os.defpath},
        stdout=asyncio.subprocess.DEVNULL,
    )
    waiting = (
        "select count(*) from pg_stat_activity "
        "where wait_event = 'advisory' and datname = current_database()"
    )
    async with asyncio.timeout(20):
        while await gate.fetchval(waiting) == 0:
            pass

    killed.send_signal(signal.SIGKILL)
    await killed.wait()
    await gate.close()
    await migrate(empty_database.url, folder=folder, report=_quiet)

    assert await _tables(empty_database.url) == {"one", "two", "three"}


async def test_a_file_that_waits_for_a_lock_names_the_holder_and_lets_writers_pass(
    empty_database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DDL in the queue of a lock holds up all who come after it."""
    monkeypatch.setattr(migrate_module, "LOCK_WAIT_S", 2)
    monkeypatch.setattr(migrate_module, "PAUSE_S", 0.5)
    await migrate(empty_database.url, folder=folder, report=_quiet)
    _write(folder, "0003_alter", "alter table one add column b integer;")
    said: asyncio.Queue[str] = asyncio.Queue()
    reader, writer = [await asyncpg.connect(empty_database.admin_url) for _ in range(2)]
    holder, reading = reader.get_server_pid(), reader.transaction()
    await reading.start()
    await reader.execute("lock table one in access share mode")

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(
            migrate(empty_database.url, folder=folder, report=said.put_nowait), name="migrate"
        )
        lines = [await said.get(), await said.get()]
        await writer.execute("insert into one values (1)")
        await reading.rollback()
        applied = await task

    await reader.close()
    await writer.close()
    assert lines[0].startswith(f"waiting for a lock held by pid {holder} (")
    assert lines[1].startswith("0003_alter gave way to the writers behind it")
    assert applied == ("0003_alter",)


async def test_an_older_program_leaves_a_newer_database_alone(
    empty_database: Database, folder: Path
) -> None:
    await migrate(empty_database.url, folder=folder, report=_quiet)
    (folder / "0002_create_two.sql").unlink()

    applied = await migrate(empty_database.url, folder=folder, report=_quiet)
    status = await read_status(empty_database.url, folder=folder)

    assert applied == ()
    assert status[-1].state == "unknown"
    assert status[-1].name == "0002_create_two"

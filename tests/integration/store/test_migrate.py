"""Migrations: versions in order, once, never edited; functions and views when they change."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import asyncpg
import pytest

from normalizer.embedded.postgres_server import find_wheel_binaries
from normalizer.store import migrate as migrate_module
from normalizer.store.migrate import (
    MigrationFailedError,
    SchemaMismatchError,
    migrate,
    read_migration_statuses,
)
from normalizer.store.migration_files import MIGRATIONS_FOLDER, read_migrations
from normalizer.store.psql_script import MIGRATION_LOCK_KEY, psql_script
from tests.integration.store.test_privileges import session_as
from tests.support.stack import Database

_FIRST = (MIGRATIONS_FOLDER / "0000_record_migrations.sql").read_text()


def _quiet(_: str) -> None:
    """Progress is not looked at."""


def _write(folder: Path, name: str, body: str) -> None:
    version = name.partition("_")[0]
    (folder / f"{name}.sql").write_text(
        f"{body}\n\n"
        f"insert into migrations.applied (version) values ('{version}') on conflict do nothing;\n"
    )


def _repeat(folder: Path, version: str, text: str) -> None:
    path = folder / f"{version}.sql"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{text}\n")


def _function(result: str) -> str:
    return (
        f"create or replace function public.answer() returns integer language sql\nreturn {result};"
    )


def _view(name: str, query: str) -> str:
    return (
        f"create or replace view public.{name} as\n{query};\n"
        f"grant select on public.{name} to pg_monitor;"
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
            str,
            [find_wheel_binaries() / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *arguments, url],
        ),
        env=env,
    )
    return await process.wait()


@pytest.mark.every_postgres
async def test_the_project_s_own_files_apply_once(empty_database: Database) -> None:
    first = await migrate(empty_database.url, report=_quiet)
    second = await migrate(empty_database.url, report=_quiet)
    status = await read_migration_statuses(empty_database.url)

    assert first == tuple(file.name for file in read_migrations())
    assert second == ()
    assert {one.state for one in status} == {"applied"}
    # None of our logins may make a temporary schema. A copy of a database lacks this right.
    for role in ("projector_reader", "normalizer_writer", "normalizer_redriver"):
        async with session_as(empty_database, role) as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("create temporary table regnamespace (a integer)")


async def test_an_edited_file_is_rejected_also_by_the_script_and_nothing_is_applied(
    empty_database: Database, folder: Path
) -> None:
    await migrate(empty_database.url, folder=folder, report=_quiet)
    _write(folder, "0001_create_one", "create table one (a bigint);")
    _write(folder, "0003_create_three", "create table three (a integer);")

    with pytest.raises(
        MigrationFailedError, match="edited after they were applied: 0001_create_one"
    ):
        await migrate(empty_database.url, folder=folder, report=_quiet)
    assert await _run_script(empty_database.url, folder) != 0

    status = await read_migration_statuses(empty_database.url, folder=folder)
    assert [one.state for one in status] == ["applied", "edited", "applied", "pending"]
    assert await _tables(empty_database.url) == {"one", "two"}


async def test_files_of_unknown_build_run_by_hand_are_rejected(
    empty_database: Database, folder: Path
) -> None:
    for name in ("0000_record_migrations", "0001_create_one"):
        assert await _psql(empty_database.url, "-1", "-f", folder / f"{name}.sql") == 0
    _write(folder, "0001_create_one", "create table one (a bigint);")

    with pytest.raises(
        SchemaMismatchError, match=r"by hand, without a checksum: .*, 0001_create_one\. They"
    ):
        await migrate(empty_database.url, folder=folder, report=_quiet)

    status = await read_migration_statuses(empty_database.url, folder=folder)
    assert [one.state for one in status] == ["by hand", "by hand", "pending"]


async def test_the_printed_script_migrates_with_checksums_and_continues(
    empty_database: Database, folder: Path
) -> None:
    for state in ("new", "complete", "behind"):
        if state == "behind":
            _write(folder, "0003_create_three", "create table three (a integer);")

        assert await _run_script(empty_database.url, folder) == 0

        status = await read_migration_statuses(empty_database.url, folder=folder)
        assert {one.state for one in status} == {"applied"}
        assert await migrate(empty_database.url, folder=folder, report=_quiet) == ()
    assert await _tables(empty_database.url) == {"one", "two", "three"}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("0003_fail", "create table three (a integer);\nselect no_such_column;"),
        ("views/d_bad", _view("d_bad", "select no_such_column from one")),
    ],
)
async def test_a_failing_file_is_rolled_back_and_says_where(
    empty_database: Database, folder: Path, name: str, body: str
) -> None:
    (_write if "/" not in name else _repeat)(folder, name, body)

    with pytest.raises(MigrationFailedError, match=rf'{name}, line 2, .*"no_such_column"'):
        await migrate(empty_database.url, folder=folder, report=_quiet)
    status = await read_migration_statuses(empty_database.url, folder=folder)

    assert [one.state for one in status] == ["applied", "applied", "applied", "pending"]
    assert await _tables(empty_database.url) == {"one", "two"}


async def test_two_at_once_apply_each_file_once(empty_database: Database, folder: Path) -> None:
    """Both have seen an empty database before either may begin."""
    said: asyncio.Queue[str] = asyncio.Queue()
    gate = await asyncpg.connect(empty_database.admin_url)
    await gate.execute(f"select pg_advisory_lock({MIGRATION_LOCK_KEY})")

    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(
                migrate(empty_database.url, folder=folder, report=said.put_nowait), name="migrate"
            )
            for _ in range(2)
        ]
        lines = [await said.get(), await said.get()]
        await gate.close()

    assert ["waiting" in line for line in lines] == [True, True]
    assert sorted(name for task in running for name in task.result()) == [
        "0000_record_migrations",
        "0001_create_one",
        "0002_create_two",
    ]


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
    monkeypatch.setattr(migrate_module, "MIGRATION_LOCK_TIMEOUT_S", 2)
    monkeypatch.setattr(migrate_module, "_PAUSE_BETWEEN_TRIES_S", 0.5)
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
    status = await read_migration_statuses(empty_database.url, folder=folder)

    assert applied == ()
    assert status[-1].state == "unknown"
    assert status[-1].name == "0002_create_two"


@pytest.fixture
def repeatable(folder: Path) -> Path:
    """A function and three views besides: by name each would come before what it is made from."""
    _write(folder, "0001_create_one", "create table one (a integer);\ncreate schema reports;")
    _repeat(folder, "functions/answer", _function("1"))
    _repeat(folder, "views/a_top", _view("a_top", "select a from public.b_middle"))
    _repeat(folder, "views/b_middle", _view("b_middle", "select a from public.c_base"))
    _repeat(folder, "views/c_base", _view("c_base", "select a, answer() as answer from one"))
    return folder


ALL_VIEWS = ("views/c_base", "views/b_middle", "views/a_top")


async def _fetch(url: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def _run_script(url: str, folder: Path) -> int:
    script = folder / "script"
    script.write_text(psql_script(folder))
    return await _psql(url, "-f", script)


async def _states(url: str, folder: Path) -> dict[str, str]:
    return {one.name: one.state for one in await read_migration_statuses(url, folder=folder)}


async def test_a_function_or_view_is_applied_again_exactly_when_its_text_changed(
    empty_database: Database, repeatable: Path
) -> None:
    url = empty_database.url
    await migrate(url, folder=repeatable, report=_quiet)
    unchanged = await migrate(url, folder=repeatable, report=_quiet)
    _repeat(repeatable, "functions/answer", _function("2"))
    pending = await _states(url, repeatable)
    function = await migrate(url, folder=repeatable, report=_quiet)
    _repeat(repeatable, "views/c_base", _view("c_base", "select a, answer(), 3 as more from one"))
    view = await migrate(url, folder=repeatable, report=_quiet)

    assert unchanged == ()
    assert [name for name, state in pending.items() if state == "pending"] == ["functions/answer"]
    assert function == ("functions/answer",)
    assert view == ("views/c_base",)
    assert set((await _states(url, repeatable)).values()) == {"applied"}
    assert await _fetch(url, "select answer()") == [(2,)]


@pytest.mark.parametrize("by_script", [False, True], ids=["migrate", "script"])
async def test_a_view_that_cannot_be_replaced_is_dropped_with_ours_and_made_again(
    empty_database: Database, repeatable: Path, by_script: bool
) -> None:
    """The type of a column changes, so what is made from it has to go, although its text stays."""
    url = empty_database.url
    await migrate(url, folder=repeatable, report=_quiet)
    _repeat(repeatable, "views/c_base", _view("c_base", "select a::bigint as a from one"))

    if by_script:
        assert await _run_script(url, repeatable) == 0
    else:
        assert await migrate(url, folder=repeatable, report=_quiet) == ALL_VIEWS

    assert set((await _states(url, repeatable)).values()) == {"applied"}
    assert await _fetch(
        url,
        "select relname::text, has_table_privilege('pg_monitor', oid, 'select') "
        "from pg_class where relkind = 'v' and relnamespace = 'public'::regnamespace order by 1",
    ) == [("a_top", True), ("b_middle", True), ("c_base", True)]
    types = "select atttypid::regtype::text from pg_attribute where attrelid = 'a_top'::regclass"
    assert await _fetch(url, f"{types} and attnum > 0") == [("bigint",)]


@pytest.mark.parametrize("kind", ["view", "materialized view"])
async def test_a_foreign_view_is_named_and_nothing_is_dropped(
    empty_database: Database, repeatable: Path, kind: str
) -> None:
    """It has the name of one of ours, in another schema."""
    url = empty_database.url
    await migrate(url, folder=repeatable, report=_quiet)
    foreign = f"{kind} reports.a_top as select a from public.b_middle"
    await _fetch(url, f"create {foreign}")
    _repeat(repeatable, "views/c_base", _view("c_base", "select a::bigint as a from one"))

    with pytest.raises(
        MigrationFailedError,
        match=rf"views/c_base, .*{kind} reports\.a_top depends on view .*b_middle. Drop them,",
    ):
        await migrate(url, folder=repeatable, report=_quiet)
    by_script = await _run_script(url, repeatable)
    states = await _states(url, repeatable)
    views = await _fetch(url, "select a from a_top union all select a from reports.a_top")
    await _fetch(url, f"drop {kind} reports.a_top")
    applied = await migrate(url, folder=repeatable, report=_quiet)

    assert by_script != 0
    assert [name for name, state in states.items() if state != "applied"] == ["views/c_base"]
    assert views == []
    assert applied == ALL_VIEWS


async def test_a_foreign_view_stays_while_ours_only_gains_a_column(
    empty_database: Database, repeatable: Path
) -> None:
    url = empty_database.url
    await migrate(url, folder=repeatable, report=_quiet)
    await _fetch(url, "create view reports.mine as select a from public.c_base")
    await _fetch(url, "grant select on public.c_base to pg_signal_backend")
    _repeat(
        repeatable, "views/c_base", _view("c_base", "select a, answer() as answer, 3 as b from one")
    )

    assert await migrate(url, folder=repeatable, report=_quiet) == ("views/c_base",)

    assert await _fetch(url, "select a from reports.mine") == []
    granted = "select has_table_privilege('pg_signal_backend', 'c_base', 'select')"
    assert await _fetch(url, granted) == [(True,)]


async def test_an_older_release_leaves_the_functions_and_views_of_a_newer_one_alone(
    empty_database: Database, repeatable: Path
) -> None:
    url = empty_database.url
    await migrate(url, folder=repeatable, report=_quiet)
    newer = "update migrations.applied set release = '0.99.0' where version like '%/%'"
    await _fetch(url, newer)
    _repeat(repeatable, "functions/answer", _function("0"))

    assert await migrate(url, folder=repeatable, report=_quiet) == ()
    assert await _run_script(url, repeatable) == 0

    assert (await _states(url, repeatable))["functions/answer"] == "unknown"
    assert await _fetch(url, "select answer()") == [(1,)]

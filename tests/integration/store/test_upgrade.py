"""An upgrade and a rollback during traffic: this code, and made-up next releases beside it.

One has one more version, which only adds, and writes what that added. Another has a view with one
more column, and the one after that a function with another body.
"""

import asyncio
import signal
from collections import Counter
from pathlib import Path
from typing import Final

import httpx
import msgspec
import pytest

from normalizer.config.settings import Settings
from normalizer.store.migrate import read_migration_statuses
from tests.support.doc_pages import copy_tree
from tests.support.feed import Feed
from tests.support.job_runs import ledger_mistakes
from tests.support.service_runs import (
    Watcher,
    process,
    until,
)

VERSION: Final = "9000"
EXPAND: Final = f"""-- migrate:up

alter table normalizer.events add column region text not null default 'not known';
create index events_region on normalizer.events (region) where region <> 'not known';
create table normalizer.regions (name text primary key);
grant select, insert on normalizer.regions to normalizer_writer;

insert into migrations.applied (version) values ('{VERSION}') on conflict do nothing;

-- migrate:down
"""
CHANGES: Final = (
    (
        "normalizer/store/event_rows.py",
        '("batch_id", *ENCODED_COLUMNS)',
        '("batch_id", "region", *ENCODED_COLUMNS)',
    ),
    (
        "normalizer/store/event_rows.py",
        'struct.pack(">hiq", len(COPIED_EVENT_COLUMNS), 8, batch_id)',
        'struct.pack(">hiqi4s", len(COPIED_EVENT_COLUMNS), 8, batch_id, 4, b"west")',
    ),
)
"""The next release's changes: file, text before, text after."""


NEW_COLUMN: Final = (
    ("normalizer/runtime/version.py", 'version("event-normalizer")', '"0.98.0"'),
    (
        "migrations/views/executions.sql",
        "last_event_ranked[3] as last_step\nfrom   (",
        "last_event_ranked[3] as last_step, 'next'::text as release\nfrom   (",
    ),
)
NEW_BODY: Final = (
    ("normalizer/runtime/version.py", '"0.98.0"', '"0.99.0"'),
    (
        "migrations/functions/project_counters.sql",
        "    -- 1. Events by minute.",
        "    -- The next body.\n    -- 1. Events by minute.",
    ),
)


def _change(folder: Path, changes: tuple[tuple[str, str, str], ...]) -> None:
    for name, before, after in changes:
        text = (folder / name).read_text()
        assert text.count(before) == 1, f"{name} does not hold once: {before}"
        (folder / name).write_text(text.replace(before, after))


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """The folder of its sources."""
    folder = tmp_path / "next"
    copy_tree(folder, "normalizer", "projector", "migrations", "contract/vectors")
    (folder / "migrations" / f"{VERSION}_add_regions.sql").write_text(EXPAND)
    _change(folder, CHANGES)
    return folder


@pytest.mark.parametrize("topic", [2], indirect=True)
async def test_a_release_and_the_next_one_write_side_by_side_and_both_ways(
    feed: Feed, next_release: Path
) -> None:
    settings = feed.settings(kafka_session_timeout_ms=30_000)
    old, new = (msgspec.structs.replace(settings, instance=name) for name in ("old", "new"))

    async def read(numbers: range) -> None:
        await feed.send(numbers)
        await feed.until_read(dict.fromkeys((0, 1), numbers.stop // 2))

    async with process(old) as before:
        await read(range(20))
        await _migrated(new, next_release, f"{VERSION}_add_regions")
        await read(range(20, 40))
        assert before.returncode is None
        assert await _regions(feed.watcher) == {"not known": 40}

        async with process(new, sources=next_release) as after:
            await feed.until_owned({"old", "new"})
            await read(range(40, 60))
            assert await _regions(feed.watcher) == {"not known": 50, "west": 10}

            before.terminate()
            assert await before.wait() == 0
            await feed.until_owned({"new"})
            await read(range(60, 80))
            assert await _regions(feed.watcher) == {"not known": 50, "west": 30}

            async with process(old):
                await feed.until_owned({"old", "new"})
                after.terminate()
                assert await after.wait() == 0
                await feed.until_owned({"old"})
                await read(range(80, 100))

    assert await _regions(feed.watcher) == {"not known": 70, "west": 30}
    assert await ledger_mistakes(feed.database) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("topic", [2], indirect=True)
async def test_the_next_views_and_functions_are_applied_while_this_release_writes_and_serves(
    feed: Feed, tmp_path: Path
) -> None:
    """What readers see is one status after the other: not one error."""
    settings = feed.settings(kafka_session_timeout_ms=30_000)
    copy_tree(tmp_path, "normalizer", "projector", "migrations", "contract/vectors")
    statuses, stop = Counter[int](), asyncio.Event()
    read_to = 0

    async with (
        process(settings) as writing,
        process(settings, "--port", "0", program="projector", command="serve") as serving,
    ):
        assert serving.stdout
        address = (await serving.stdout.readline()).decode().split()[-1]

        async def write() -> None:
            nonlocal read_to
            while not stop.is_set():
                await feed.send(range(read_to, read_to + 20))
                await feed.until_read(dict.fromkeys((0, 1), read_to // 2 + 10))
                read_to += 20

        async def read() -> None:
            async with httpx.AsyncClient(base_url=address, timeout=60) as client:
                while not stop.is_set():
                    for path in ("/api/v1/executions", "/api/v1/attempts-by-status"):
                        statuses[(await client.get(path)).status_code] += 1

        async def more_of_both() -> None:
            records, answers = read_to, statuses.total()
            await until(lambda: read_to > records and statuses.total() > answers + 4)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write(), name="write")
            tasks.create_task(read(), name="read")
            for changes, file in (
                (NEW_COLUMN, "views/executions"),
                (NEW_BODY, "functions/project_counters"),
            ):
                await more_of_both()
                _change(tmp_path, changes)
                await _migrated(settings, tmp_path, file)
                await more_of_both()
            stop.set()
        writing.send_signal(signal.SIGTERM)
        said = (await writing.communicate())[0].decode()

        releases = await feed.connection.fetch("select distinct release from projector.executions")
        body = await feed.connection.fetchval(
            "select prosrc from pg_proc where proname = 'project_counters'"
        )
        counted = await feed.connection.fetchval(
            "select sum(events) from projector.attempts_by_status"
        )
        stored = await feed.connection.fetchval("select count(*) from normalizer.events")

    assert [one["release"] for one in releases] == ["next"]
    assert "-- The next body." in body
    assert counted == stored
    assert writing.returncode == 0
    assert set(statuses) == {200}
    errors = [line for line in said.splitlines() if '"level":"error"' in line]
    assert [line for line in errors if "GroupCoordinator" not in line] == []
    assert await ledger_mistakes(feed.database) == []
    states = {one.name: one.state for one in await read_migration_statuses(feed.database.url)}
    assert [name for name, state in states.items() if state != "applied"] == [
        "functions/project_counters",
        "views/executions",
    ]
    assert states["views/executions"] == "unknown"


async def _migrated(settings: Settings, sources: Path, file: str) -> None:
    async with process(settings, command="migrate", sources=sources) as child:
        said, _ = await child.communicate()
    assert child.returncode == 0, said
    assert f"applied {file}\n" in said.decode()


async def _regions(watcher: Watcher) -> dict[str, int]:
    """The number of rows of each code: the old one leaves the column to its default."""
    rows = await watcher.connection.fetch(
        "select region, count(*) from normalizer.events group by region order by region"
    )
    return dict(map(tuple, rows))

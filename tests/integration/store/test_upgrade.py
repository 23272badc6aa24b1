"""An upgrade and a rollback during traffic: this code, and a made-up next release beside it.

The next release has one more migration, which only adds, and writes what that added.
"""

from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from normalizer.config.settings import Settings
from tests.support.doc_pages import copy_tree
from tests.support.job_runs import ledger_mistakes
from tests.support.service_runs import Watcher, process, send, settings_for, watching
from tests.support.stack import Database, Topic

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
        "normalizer/store/rows.py",
        '("batch_id", *COLUMNS)',
        '("batch_id", "region", *COLUMNS)',
    ),
    (
        "normalizer/store/rows.py",
        'struct.pack(">hiq", len(EVENT_COLUMNS), 8, batch_id)',
        'struct.pack(">hiqi4s", len(EVENT_COLUMNS), 8, batch_id, 4, b"west")',
    ),
)
"""The next release's changes: file, text before, text after."""


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """The folder of its sources."""
    folder = tmp_path / "next"
    copy_tree(folder, "normalizer", "projector", "migrations", "contract/vectors")
    (folder / "migrations" / f"{VERSION}_add_regions.sql").write_text(EXPAND)
    for name, before, after in CHANGES:
        text = (folder / name).read_text()
        assert text.count(before) == 1, f"{name} does not hold once: {before}"
        (folder / name).write_text(text.replace(before, after))
    return folder


@pytest.mark.parametrize("topic", [2], indirect=True)
async def test_a_release_and_the_next_one_write_side_by_side_and_both_ways(
    database: Database, topic: Topic, bootstrap_servers: str, producer: Any, next_release: Path
) -> None:
    # Nobody is killed: no process that is slow for a while loses its partitions.
    settings = settings_for(database, topic, bootstrap_servers, kafka_session_timeout_ms=30_000)
    old, new = (msgspec.structs.replace(settings, instance=name) for name in ("old", "new"))
    async with watching(database.url) as watcher:

        async def read(numbers: range) -> None:
            await send(producer, topic, numbers)
            await watcher.until_read(topic, dict.fromkeys((0, 1), numbers.stop // 2))

        async with process(old) as before:
            await read(range(20))
            await _migrated(new, next_release)
            await read(range(20, 40))
            assert before.returncode is None
            assert await _regions(watcher) == {"not known": 40}

            async with process(new, sources=next_release) as after:
                await watcher.until_owned(topic, {"old", "new"})
                await read(range(40, 60))
                assert await _regions(watcher) == {"not known": 50, "west": 10}

                before.terminate()
                assert await before.wait() == 0
                await watcher.until_owned(topic, {"new"})
                await read(range(60, 80))
                assert await _regions(watcher) == {"not known": 50, "west": 30}

                async with process(old):
                    await watcher.until_owned(topic, {"old", "new"})
                    after.terminate()
                    assert await after.wait() == 0
                    await watcher.until_owned(topic, {"old"})
                    await read(range(80, 100))

        assert await _regions(watcher) == {"not known": 70, "west": 30}
        assert await ledger_mistakes(database) == []


async def _migrated(settings: Settings, sources: Path) -> None:
    async with process(settings, command="migrate", sources=sources) as child:
        said, _ = await child.communicate()
    assert child.returncode == 0, said
    assert f"{VERSION}_add_regions" in said.decode()


async def _regions(watcher: Watcher) -> dict[str, int]:
    """The number of rows of each code: the old one leaves the column to its default."""
    rows = await watcher.connection.fetch(
        "select region, count(*) from normalizer.events group by region order by region"
    )
    return dict(map(tuple, rows))

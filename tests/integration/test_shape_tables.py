"""A table of shapes and the position: no two tables read the records of one partition."""

import json
from pathlib import Path
from typing import Any

import pytest

from normalizer.errors import ShapesChanged
from normalizer.service.file_replay import FileReplay
from tests.support.doc_pages import blocks
from tests.support.job_runs import job_settings
from tests.support.service_runs import running, send, settings_for, until, watching
from tests.support.stack import Database, Topic
from tests.support.table_rows import connected, stored_events


@pytest.fixture
def table(tmp_path: Path) -> str:
    """The table of the page, in a file."""
    (page,) = blocks("adding-a-shape.md", "toml scheduler.toml")
    path = tmp_path / "scheduler.toml"
    path.write_text(page.text)
    return str(path)


async def test_a_file_that_was_read_by_a_table_is_not_read_on_without_it(
    database: Database, tmp_path: Path, table: str
) -> None:
    (record,) = blocks("adding-a-shape.md", "json record")
    file = tmp_path / "records.ndjson"
    lines = [
        {
            "topic": "t",
            "partition": 0,
            "offset": at,
            "ts": 1_784_000_000_000,
            "payload": record.text,
        }
        for at in range(2)
    ]
    file.write_text(json.dumps(lines[0]))
    without, by_table = job_settings(database), job_settings(database, shapes=table)

    await FileReplay(by_table, file).run()
    file.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(ShapesChanged, match=r"by the table of shapes \w{16}, .* has no table of"):
        await FileReplay(without, file).run()
    await FileReplay(without, file, accept_shapes=True).run()
    with pytest.raises(ShapesChanged, match=r"by no table of shapes, .* --accept-shapes"):
        await FileReplay(by_table, file).run()

    async with connected(database) as connection:
        events = await stored_events(connection)
        positions = await connection.fetch(
            "select shapes, epoch, next_offset from normalizer.source_positions"
        )
    assert sorted(event.shape for event in events) == ["scheduler", "unknown"]
    # A refused claim fences nobody.
    assert [tuple(row) for row in positions] == [("", 2, 2)]


@pytest.mark.parametrize("topic", [1], indirect=True)
async def test_the_service_stops_a_partition_that_another_table_read(
    database: Database, topic: Topic, bootstrap_servers: str, producer: Any, table: str
) -> None:
    without = settings_for(database, topic, bootstrap_servers)
    by_table = settings_for(database, topic, bootstrap_servers, shapes=table)
    async with watching(database.url) as watcher:
        await send(producer, topic, range(3))
        async with running(without):
            await watcher.until_read(topic, {0: 3})

        await send(producer, topic, range(3, 5))
        async with running(by_table) as stopped:
            await until(lambda: bool(stopped.ownership.stopped))
            (why,) = stopped.ownership.stopped.values()
            assert (await watcher.positions(topic))[0]["next_offset"] == 3

        async with running(by_table, accept_shapes=True):
            await watcher.until_read(topic, {0: 5})

    assert "its records are read by no table of shapes" in why
    assert "--accept-shapes" in why

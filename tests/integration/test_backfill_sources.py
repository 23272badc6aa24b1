"""The same history as a topic, as record lines and as a dry run: the same rows each time."""

from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from normalizer.envelope import Envelope
from normalizer.jobs.diff import Change, Diff
from normalizer.jobs.dryrun import DryRun
from normalizer.jobs.files import FileSource
from normalizer.jobs.topics import Range, TopicSource
from simulator.kafka import producer as play_into
from simulator.record import Record
from tests.factories import raw_event
from tests.playing import mix
from tests.replays import (
    NORMALIZE,
    backfill_files,
    backfill_of,
    contents,
    found_wrong,
    played,
    record_lines,
    written,
)
from tests.running import settings_for
from tests.stack import Cluster, Database, Topic
from tests.tables import connected, stored_events

EVENTS: Final = 6_000


def by_place(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows by where they came from; which of two with one id kept it is a matter of order."""
    for row in rows:
        del row["event_id"]
        told = [one for one in row["coercions"] or () if one["rule"] != "event_id_conflict"]
        row["coercions"] = told or None
    place = ("source_partition", "source_offset", "source_index")
    return sorted(rows, key=lambda row: tuple(row[name] for name in place))


@pytest.mark.parametrize("topic", [6], indirect=True)
@pytest.mark.timeout(400)
async def test_a_topic_and_its_record_lines_make_the_same_rows(
    database: Database, cluster: Cluster, topic: Topic, bootstrap_servers: str, tmp_path: Path
) -> None:
    records = list(played(EVENTS, mix=mix()))
    placed: list[tuple[Record, int, int]] = []

    def note(record: Record, _topic: str, partition: int, offset: int) -> None:
        placed.append((record, partition, offset))

    async with play_into(bootstrap_servers, topic.name, note) as sender:
        for start in range(0, len(records), 2_000):
            await sender.send(records[start : start + 2_000])
    placed.sort(key=lambda one: one[1:])
    path = written(
        tmp_path / "history.zst", record_lines((record for record, *_ in placed), topic.name)
    )
    settings = settings_for(database, topic, bootstrap_servers)

    by_topic = await backfill_of(
        settings, TopicSource(settings, topic.name, Range()), topic.name
    ).run()
    async with connected(database) as connection:
        rows_by_topic = await contents(connection)
    async with cluster.database() as other:
        by_file = await backfill_files(other, path)
        async with connected(other) as connection:
            rows_by_file = await contents(connection)

    assert by_topic.state == by_file.state == "complete"
    assert by_place(rows_by_topic.pop("rows")) == by_place(rows_by_file.pop("rows"))
    assert rows_by_topic == rows_by_file
    assert await found_wrong(database) == []


async def _dry(database: Database, path: Path, batch_rows: int) -> tuple[Diff, list[Change]]:
    changes: list[Change] = []
    diff = Diff(changes.append)
    async with DryRun(
        database.url, FileSource([path]), NORMALIZE, diff, batch_rows=batch_rows
    ) as trial:
        await trial.run()
    return diff, changes


@pytest.mark.parametrize("batch_rows", [100, 5_000])
async def test_the_dry_run_of_a_backfill_is_what_the_run_then_does(
    database: Database, tmp_path: Path, batch_rows: int
) -> None:
    records = list(played(3_000))
    first = written(tmp_path / "first.zst", record_lines(records[: len(records) // 2]))
    whole = written(tmp_path / "whole.zst", record_lines(records))
    await backfill_files(database, first)
    async with connected(database) as connection:
        before = {event.event_id: event for event in await stored_events(connection)}
        untouched = await contents(connection)

        diff, changes = await _dry(database, whole, batch_rows)

        assert await contents(connection) == untouched
        refused_before = len(untouched["refused"])
        verdict = await backfill_files(database, whole)
        after = {event.event_id: event for event in await stored_events(connection)}
        refused = len((await contents(connection))["refused"]) - refused_before

    said = {change.event_id: set(change.fields) for change in changes if change.what == "joined"}
    really = {
        str(event_id): {
            name
            for name in Envelope.__struct_fields__
            if getattr(event, name) != getattr(after[event_id], name)
        }
        for event_id, event in before.items()
        if event != after[event_id]
    }
    assert said == really
    assert {int(change.event_id) for change in changes if change.what == "new"} == (
        after.keys() - before.keys()
    )
    assert (diff.count("new"), diff.count("refused")) == (verdict.totals.stored, refused)


async def test_a_second_telling_meets_what_the_dry_run_would_have_stored(
    database: Database, tmp_path: Path
) -> None:
    tellings: list[dict[str, Any]] = [
        raw_event(0, worker_id=None),
        raw_event(1),
        raw_event(0, worker_id="worker-7"),
        raw_event(0, worker_id="worker-7"),
    ]
    lines = b"".join(msgspec.json.encode(telling) + b"\n" for telling in tellings)
    path = written(tmp_path / "told.ndjson", lines)

    diff, _ = await _dry(database, path, 1)

    assert (diff.count("new"), diff.count("joined"), diff.count("unchanged")) == (2, 0, 1)

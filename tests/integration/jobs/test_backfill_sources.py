"""The same history as a topic, as record lines and as a dry run: the same rows each time."""

from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final

import pytest

from normalizer.core.identity.coordinates import Coordinates
from normalizer.envelope import Envelope
from normalizer.jobs.dry_run.diff import RowChange
from normalizer.jobs.sources.file_source import FileSource
from normalizer.jobs.sources.topic_source import TopicRange, TopicSource
from normalizer.store.stored_rows import PostgresStoredEvents
from simulator.kafka_producer import producer as play_into
from simulator.sent_record import SentRecord
from tests.support.feed import Feed
from tests.support.job_runs import (
    backfill_files,
    ledger_mistakes,
    make_backfill,
    record_lines,
    run_dry,
    simulated_records,
    table_contents,
    write_file,
)
from tests.support.simulator_runs import traffic_mix
from tests.support.stack import Cluster, Database
from tests.support.table_rows import connected, stored_events

EVENTS: Final = 2_000


def by_place(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows by origin. Which of two with the same id kept it depends on the order."""
    for row in rows:
        del row["event_id"]
        others = [one for one in row["coercions"] or () if one["rule"] != "event_id_conflict"]
        row["coercions"] = others or None
    place = ("source_partition", "source_offset", "source_index")
    return sorted(rows, key=lambda row: tuple(row[name] for name in place))


@pytest.mark.parametrize("topic", [6], indirect=True)
@pytest.mark.timeout(400)
async def test_a_topic_and_its_record_lines_make_the_same_rows(
    feed: Feed, cluster: Cluster, tmp_path: Path
) -> None:
    records = list(simulated_records(EVENTS, mix=traffic_mix()))
    placed: list[tuple[SentRecord, int, int]] = []

    def note(record: SentRecord, _topic: str, partition: int, offset: int) -> None:
        placed.append((record, partition, offset))

    async with play_into(feed.bootstrap_servers, feed.name, note) as sender:
        for start in range(0, len(records), 500):
            await sender.send(records[start : start + 500])
    placed.sort(key=lambda one: one[1:])
    path = write_file(
        tmp_path / "history.zst", record_lines((record for record, *_ in placed), feed.name)
    )
    settings = feed.settings(batch_rows=500)

    by_topic = await make_backfill(
        settings, TopicSource(settings, feed.name, TopicRange()), feed.name
    ).run()
    async with connected(feed.database) as connection:
        rows_by_topic = await table_contents(connection)
    async with cluster.database() as other:
        by_file = await backfill_files(other, path, batch_rows=500)
        async with connected(other) as connection:
            rows_by_file = await table_contents(connection)

    assert by_topic.state == by_file.state == "complete"
    assert by_place(rows_by_topic.pop("rows")) == by_place(rows_by_file.pop("rows"))
    assert rows_by_topic == rows_by_file
    assert await ledger_mistakes(feed.database) == []


@pytest.mark.parametrize("batch_rows", [100, 5_000])
async def test_the_dry_run_of_a_backfill_is_what_the_run_then_does(
    database: Database, tmp_path: Path, batch_rows: int
) -> None:
    records = list(simulated_records(1_500))
    first = write_file(tmp_path / "first.zst", record_lines(records[: len(records) // 2]))
    whole = write_file(tmp_path / "whole.zst", record_lines(records))
    await backfill_files(database, first)
    async with connected(database) as connection:
        before = {event.event_id: event for event in await stored_events(connection)}
        untouched = await table_contents(connection)

        changes: list[RowChange] = []
        diff = await run_dry(
            database, FileSource([whole]), note=changes.append, batch_rows=batch_rows
        )

        assert await table_contents(connection) == untouched
        rejected_before = len(untouched["rejected"])
        verdict = await backfill_files(database, whole)
        after = {event.event_id: event for event in await stored_events(connection)}
        rejected = len((await table_contents(connection))["rejected"]) - rejected_before

    said = {change.event_id: set(change.fields) for change in changes if change.what == "merged"}
    platform_outcome = {
        str(event_id): {
            name
            for name in Envelope.__struct_fields__
            if getattr(event, name) != getattr(after[event_id], name)
        }
        for event_id, event in before.items()
        if event != after[event_id]
    }
    assert said == platform_outcome
    assert {int(change.event_id) for change in changes if change.what == "new"} == (
        after.keys() - before.keys()
    )
    assert (diff.counts["new"], diff.counts["rejected"]) == (verdict.totals.stored, rejected)


async def test_a_dry_run_searches_only_for_what_may_be_stored(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a table an offset is an id, so records lie far apart: each would take a search."""
    searched = 0
    find_row_ids_at = PostgresStoredEvents.find_row_ids_at

    async def counted(
        rows: PostgresStoredEvents, wanted: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        nonlocal searched
        searched += len(wanted)
        return await find_row_ids_at(rows, wanted)

    records = list(simulated_records(300))
    path = write_file(tmp_path / "records.zst", record_lines(records))
    monkeypatch.setattr(PostgresStoredEvents, "find_row_ids_at", counted)

    diff = await run_dry(database, FileSource([path]))

    assert (diff.counts["new"] > 200, searched) == (True, 0)

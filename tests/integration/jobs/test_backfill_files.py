"""Files of history: every form and packing, once and again, cut off, damaged and grown."""

import asyncio
import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Normalized
from normalizer.errors import ConfigurationError
from normalizer.jobs.sources.field_defaults import FieldDefaults
from normalizer.jobs.sources.file_source import FileSource
from normalizer.store.store import Store
from tests.support.factories import EXECUTION_ID, raw_event, snowflake
from tests.support.job_runs import (
    NORMALIZE,
    backfill_files,
    job_settings,
    ledger_mistakes,
    make_backfill,
    ndjson,
    record_lines,
    simulated_records,
    table_contents,
    write_file,
)
from tests.support.stack import Database
from tests.support.table_rows import claimed, connected, insert_row, open_store, stored_events

_CHANGED_APART = """
    select count(*)
    from   normalizer.events
    where  not exists (select from normalizer.job_batches where job_batches.xmin = events.xmin)
"""
ADDED = ("stored", "merged", "quarantined")


@pytest.mark.every_postgres(oldest_in_soak=True)
async def test_a_second_run_adds_nothing_whatever_became_of_the_file(
    database: Database, tmp_path: Path
) -> None:
    content = record_lines(simulated_records(1_500))
    first = await backfill_files(database, write_file(tmp_path / "one.ndjson", content))
    async with connected(database) as connection:
        before = await table_contents(connection)

        again = [
            await backfill_files(database, write_file(tmp_path / name, content))
            for name in ("one.ndjson", "renamed.ndjson", "packed.gz", "packed.zst")
        ]

        assert await table_contents(connection) == before
    assert first.state == "complete"
    assert first.totals.stored > 1_000
    assert {verdict.state for verdict in again} == {"complete"}
    assert [getattr(verdict.totals, name) for verdict in again for name in ADDED] == [0] * 12
    assert await ledger_mistakes(database) == []


async def test_rows_reported_again_go_first_where_the_service_may_write_the_same_records(
    database: Database, tmp_path: Path
) -> None:
    """Two writers that both insert and then change would wait for each other."""
    path = write_file(tmp_path / "f.zst", record_lines(simulated_records(2_000)))
    async with Store(database.url, owner="service") as service:
        for partition in range(6):
            await service.claim_partition("noetl.events", partition, cluster_id="c", log_start=0)

    await backfill_files(database, path, batch_rows=50)

    async with connected(database) as connection:
        assert await connection.fetchval(_CHANGED_APART) > 0
    assert await ledger_mistakes(database) == []


async def test_a_folder_is_its_files_in_the_order_of_their_names(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "deeper").mkdir()
    write_file(tmp_path / "b.zst", ndjson(raw_event(2), raw_event(3)))
    write_file(tmp_path / "a.gz", ndjson(raw_event(0), raw_event(1)))
    write_file(tmp_path / "deeper" / "c.ndjson", ndjson(raw_event(4)))
    write_file(tmp_path / ".hidden", ndjson(raw_event(5)))
    write_file(tmp_path / "empty.ndjson", b"")

    verdict = await backfill_files(database, tmp_path)

    async with connected(database) as connection:
        events = await stored_events(connection)
    assert verdict.state == "complete"
    assert [event.event_id for event in events] == [snowflake(number) for number in range(5)]
    assert [event.source_offset for event in events] == [1, 2, 1, 2, 1]
    assert {event.source_topic[:5] for event in events if event.source_topic} == {"file:"}


@pytest.mark.parametrize("lines", [3, 300])
async def test_a_grown_file_gives_what_is_new_in_it(
    database: Database, tmp_path: Path, lines: int
) -> None:
    """Without ids of their own: only coordinates tell them from those that are stored.

    A file is named by its first 64 KiB, of which 300 lines are more.
    """
    events = [raw_event(number, event_id=None) for number in range(lines + 2)]
    path = write_file(tmp_path / "growing.ndjson", ndjson(*events[:lines]))
    await backfill_files(database, path)

    verdict = await backfill_files(database, write_file(path, ndjson(*events)))

    assert (verdict.totals.stored, verdict.totals.duplicate) == (2, lines)


async def test_unread_files_of_a_folder_are_named(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A link to a folder, one to itself, one to nothing, and a pipe."""
    folder = tmp_path / "folder"
    folder.mkdir()
    write_file(folder / "file.ndjson", ndjson(raw_event(0)))
    (tmp_path / "elsewhere").mkdir()
    write_file(tmp_path / "elsewhere" / "more.ndjson", ndjson(raw_event(1)))
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "itself").symlink_to(folder)
    (folder / "nothing").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe")

    verdict = await backfill_files(database, folder)
    named = await backfill_files(database, folder / "linked")

    printed = capsys.readouterr()
    skipped = [line for line in (printed.out + printed.err).splitlines() if "skipped" in line]
    assert (verdict.state, verdict.totals.stored, named.totals.stored) == ("complete", 1, 1)
    assert all("warning" in line for line in skipped)
    for name in ("linked", "itself", "nothing", "pipe"):
        assert sum(str(folder / name) in line for line in skipped) == 1


async def test_a_resumed_run_names_what_it_began_to_read_and_does_not_find_again(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    cut = write_file(folder / "cut.ndjson", ndjson(*map(raw_event, range(3)))[:-20])
    damaged = write_file(folder / "damaged.gz", long_when_packed())
    damaged.write_bytes(damaged.read_bytes()[:-4] + b"none")
    unread = write_file(folder / "unread.ndjson", ndjson(raw_event(9)))
    first = await backfill_files(database, folder)
    cut.unlink()
    unread.unlink()
    capsys.readouterr()

    resumed = await backfill_files(database, folder)

    printed = capsys.readouterr()
    gone = [line for line in (printed.out + printed.err).splitlines() if "file.gone" in line]
    async with connected(database) as connection:
        topic = await connection.fetchval(
            "select topic from normalizer.job_parts where next_offset = 3"
        )
    assert (first.state, resumed.run) == ("failed", first.run)
    assert [
        ("warning" in line, topic in line, re.findall(r"next_line\W+(\d+)", line)) for line in gone
    ] == [(True, True, ["3"])]


async def test_two_files_that_begin_alike_are_rejected(database: Database, tmp_path: Path) -> None:
    write_file(tmp_path / "a.ndjson", ndjson(raw_event(0)))
    write_file(tmp_path / "b.ndjson.zst", ndjson(raw_event(0)))

    with pytest.raises(ConfigurationError, match="count as the same file"):
        await backfill_files(database, tmp_path)


async def test_blank_lines_are_holes(database: Database, tmp_path: Path) -> None:
    first, second = map(ndjson, (raw_event(0), raw_event(1)))

    verdict = await backfill_files(
        database, write_file(tmp_path / "gaps.ndjson", b"\n\n" + first + b"  \n" + second)
    )

    assert (verdict.totals.records, verdict.totals.holes) == (2, 3)


@pytest.mark.parametrize("suffix", [".ndjson", ".gz", ".zst"])
async def test_a_file_that_is_cut_off_is_truncated_and_goes_on_when_it_is_whole(
    database: Database, tmp_path: Path, suffix: str
) -> None:
    content = ndjson(*(raw_event(number) for number in range(2_000)))
    whole = write_file(tmp_path / f"whole{suffix}", content).read_bytes()
    path = tmp_path / f"file{suffix}"
    path.write_bytes(whole[:-20])

    cut = await backfill_files(database, path)
    path.write_bytes(whole)
    resumed = await backfill_files(database, path)

    assert cut.state == "truncated"
    assert "is truncated" in cut.reason
    assert 0 < cut.totals.stored < 2_000
    assert (resumed.state, resumed.run, resumed.totals.stored) == ("complete", cut.run, 2_000)


async def test_a_last_line_that_cannot_be_reported_to_be_whole_is_cut_off(
    database: Database, tmp_path: Path
) -> None:
    deep = b"[" * 20_000 + b"]" * 20_000
    path = tmp_path / "file.ndjson"

    path.write_bytes(ndjson(raw_event(0)) + deep)
    cut = await backfill_files(database, path)
    path.write_bytes(ndjson(raw_event(0)) + deep + b"\n")
    resumed = await backfill_files(database, path)

    assert (cut.state, cut.totals.stored) == ("truncated", 1)
    assert "is truncated in line 2" in cut.reason
    assert (resumed.state, resumed.totals.quarantined) == ("complete", 1)


def long_when_packed() -> bytes:
    return ndjson(
        *(
            raw_event(number, context={"n": sha256(b"%d" % number).hexdigest()})
            for number in range(4_000)
        )
    )


async def test_a_file_that_overlaps_another_stores_only_what_is_new_whatever_the_rules_say(
    database: Database, tmp_path: Path
) -> None:
    """If part of a batch was read before, that part is looked up by its coordinates."""

    def recorded(offsets: range) -> bytes:
        return ndjson(
            *(
                {
                    "topic": "t",
                    "partition": 0,
                    "offset": offset,
                    "ts": 1764000000000,
                    "payload": msgspec.json.encode(raw_event(offset)).decode(),
                }
                for offset in offsets
            )
        )

    def with_another_id(record: RawRecord) -> tuple[Normalized, ...]:
        (event,) = NORMALIZE(record)
        assert isinstance(event, Envelope)
        return (msgspec.structs.replace(event, event_id=(event.event_id or 0) + 1_000_000),)

    await backfill_files(database, write_file(tmp_path / "one.ndjson", recorded(range(10))))
    other = FileSource([write_file(tmp_path / "other.ndjson", recorded(range(5, 15)))])

    verdict = await make_backfill(
        job_settings(database), other, "other", normalize=with_another_id
    ).run()

    assert (verdict.totals.duplicate, verdict.totals.stored) == (5, 5)
    assert await ledger_mistakes(database) == []


DUMP: dict[str, Any] = {
    "error": None,
    "result": [
        {
            "created_at": "2026-01-20T11:56:27.292930",
            "event_id": 543942402780693278,
            "event_type": "playbook.initialized",
            "node_name": "tests/http_to_postgres",
            "status": "INITIALIZED",
        },
        {
            "created_at": "2026-01-20 11:57:24.530192",
            "event_id": 333895119705264128,
            "event_type": "call.done",
            "node_name": "start",
            "status": "COMPLETED",
        },
        {
            "created_at": "2026-04-17T05:03:30.349415",
            "error": None,
            "event_type": "checkpoint.committed",
            "node_name": "checkpointer",
            "status": "OK",
        },
    ],
    "status": "ok",
}
"""As the APIs give them: no execution_id, naive and spaced times, both id layouts, a row without
an id."""


@pytest.mark.parametrize("indented", [True, False])
async def test_a_dump_is_its_rows_with_what_they_lack(
    database: Database, tmp_path: Path, *, indented: bool
) -> None:
    content = msgspec.json.encode(DUMP)
    path = write_file(tmp_path / "dump.json", msgspec.json.format(content, indent=2 * indented))
    defaults = FieldDefaults({"execution_id": str(EXECUTION_ID)})

    verdict = await backfill_files(database, path, defaults=defaults)
    again = await backfill_files(database, path, defaults=defaults)

    async with connected(database) as connection:
        events = sorted(await stored_events(connection), key=lambda event: event.source_offset)
    assert (verdict.totals.stored, again.totals.duplicate) == (3, 3)
    assert {event.execution_id for event in events} == {EXECUTION_ID}
    assert [event.source_offset for event in events] == [1, 2, 3]
    assert [str(event.created_at) for event in events] == [
        "2026-01-20 11:56:27.292930+00:00",
        "2026-01-20 11:57:24.530192+00:00",
        "2026-04-17 05:03:30.349415+00:00",
    ]


async def test_a_bare_line_without_a_time_needs_one(database: Database, tmp_path: Path) -> None:
    timeless = raw_event(0, event_id=None, created_at=None)
    path = write_file(tmp_path / "timeless.ndjson", ndjson(timeless))
    other = write_file(tmp_path / "other.ndjson", ndjson(timeless | {"step": "other"}))

    rejected = await backfill_files(database, path)
    stored = await backfill_files(
        database, other, defaults=FieldDefaults({"created_at": "2026-01-31 12:00"})
    )

    async with connected(database) as connection:
        reason = await connection.fetchval("select reason from normalizer.quarantine")
        (event,) = await stored_events(connection)
    assert (rejected.totals.quarantined, reason) == (1, "missing_time")
    assert stored.totals.stored == 1
    assert str(event.created_at) == "2026-01-31 12:00:00+00:00"


async def test_records_of_a_topic_recreated_need_their_generation(
    database: Database, tmp_path: Path
) -> None:
    line = b'{"topic":"noetl.events","partition":0,"offset":7,"ts":1764000000000,"payload":"{}"}\n'
    path = write_file(tmp_path / "file.ndjson", line)
    async with connected(database) as connection:
        for incarnation in (0, 1):
            await insert_row(connection, "normalizer.source_positions", incarnation=incarnation)

    verdict = await backfill_files(database, path)

    assert verdict.state == "failed"
    assert "Choose the log with --incarnation" in verdict.reason


async def test_the_last_offset_of_all_holds_up_nobody(database: Database, tmp_path: Path) -> None:
    """It is ahead of a live position, whose bound is raised in steps."""
    record = {"topic": "noetl.events", "partition": 0, "offset": (1 << 63) - 2}
    payload = msgspec.json.encode(raw_event(1)).decode()
    path = write_file(tmp_path / "file.ndjson", ndjson(record | {"payload": payload}))
    async with open_store(database) as store:
        await claimed(store, topic="noetl.events")

    async with asyncio.timeout(20):
        verdict = await backfill_files(database, path)

    assert (verdict.state, verdict.totals.stored) == ("complete", 1)

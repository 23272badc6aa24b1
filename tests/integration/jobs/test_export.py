"""Stored events as files: the same bytes every time, the filter's lines, and back again."""

import asyncio
import contextlib
import errno
import gzip
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import zstandard

from normalizer.envelope import Envelope
from normalizer.errors import FatalError
from normalizer.jobs import export
from normalizer.jobs.export import Export, ExportFile, ExportSelection
from normalizer.jobs.sources import row_pages
from normalizer.jobs.sources.row_pages import BYTES_PER_PAGE
from normalizer.store.session import Session
from tests.support.factories import raw_event
from tests.support.job_runs import (
    backfill_events,
    backfill_files,
    job_settings,
    ledger_mistakes,
    record_lines,
    simulated_records,
    write_file,
)
from tests.support.service_runs import environment, watching
from tests.support.stack import Database
from tests.support.table_rows import connected, stored_events

END_SESSION: Final = "select pg_terminate_backend($1::integer, 5000)::integer"


async def exported(database: Database, path: Path, **selection: Any) -> bytes:
    """The bytes of the file."""
    with ExportFile(path) as packed:
        await Export(database.url, ExportSelection(**selection)).run(packed.write)
    return path.read_bytes()


def exported_ids(pieces: list[bytes]) -> list[Any]:
    return [msgspec.json.decode(line)["event_id"] for line in b"".join(pieces).splitlines()]


@pytest.mark.parametrize(
    ("name", "unpack"),
    [
        ("events.ndjson", bytes),
        ("events.ndjson.gz", gzip.decompress),
        ("events.ndjson.zst", zstandard.ZstdDecompressor().decompressobj().decompress),
    ],
)
def test_a_file_is_what_its_name_says(
    tmp_path: Path, name: str, unpack: Callable[[bytes], bytes]
) -> None:
    content = b'{"event_id":1}\n' * 100_000
    written = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        with ExportFile(folder / name) as file:
            file.write(content)
        written.append((folder / name).read_bytes())

    assert unpack(written[0]) == content
    assert written[0] == written[1]


async def test_the_same_events_give_the_same_bytes_and_come_back_but_for_how_they_were_reported(
    database: Database, tmp_path: Path, cluster: Any
) -> None:
    """Where their records stood, what was a default or changed, and what no column is for."""
    await backfill_files(
        database, write_file(tmp_path / "f.zst", record_lines(simulated_records(2_500)))
    )
    async with connected(database) as connection:
        stored = await stored_events(connection)

    first = await exported(database, tmp_path / "first.zst")
    second = await exported(database, tmp_path / "second.zst")
    async with cluster.database() as other:
        imported = await backfill_files(other, tmp_path / "first.zst")
        again = await exported(other, tmp_path / "again.zst")
        async with connected(other) as connection:
            back = await stored_events(connection)
    returned = await backfill_files(database, tmp_path / "first.zst")
    after = await exported(database, tmp_path / "after.zst")

    assert first == second == again == after
    assert imported.state == "complete"
    assert imported.totals.stored == imported.totals.records
    assert returned.totals.stored == returned.totals.quarantined == 0
    assert await ledger_mistakes(database) == []
    assert not list(tmp_path.glob(".*"))
    differing = {
        name
        for before, later in zip(stored, back, strict=True)
        for name in Envelope.__struct_fields__
        if getattr(before, name) != getattr(later, name)
    }
    source = {"source_topic", "source_partition", "source_offset", "source_index", "recorded_at"}
    provenance = {"shape", "evidence", "coercions", "extra", "headers", "trace_id", "merge_flags"}
    assert differing == source | provenance


@pytest.mark.parametrize("executions", [(), (7,)])
async def test_large_rows_are_in_memory_a_few_at_a_time(
    database: Database, executions: tuple[int, ...]
) -> None:
    events = [raw_event(number, execution_id=7, result="x" * 100_000) for number in range(150)]
    await backfill_events(database, *events)
    pieces: list[bytes] = []

    count = await Export(database.url, ExportSelection(executions=executions)).run(pieces.append)

    ids = exported_ids(pieces)
    assert count == len(ids) == 150
    assert ids == sorted(set(ids), key=int)
    assert max(map(len, pieces)) < 1.1 * BYTES_PER_PAGE


@pytest.mark.parametrize("executions", [(), (7,)])
async def test_a_connection_that_is_lost_in_any_page_loses_and_doubles_no_event(
    database: Database, monkeypatch: pytest.MonkeyPatch, executions: tuple[int, ...]
) -> None:
    """Ids without a gap: the next page, or chunk, begins with the very next id."""
    monkeypatch.setattr(export, "ROWS_PER_CHUNK", 20)
    monkeypatch.setattr(row_pages, "BYTES_PER_PAGE", 0)
    events = [
        raw_event(number, event_id=str(1_000 + number), execution_id=7) for number in range(40)
    ]
    await backfill_events(database, *events)
    pieces: list[bytes] = []
    transaction = Session.run_in_transaction
    begun = ended = 0

    async with connected(database) as other:

        async def losing(self: Session, work: Any, **how: Any) -> Any:
            nonlocal begun
            begun += 1

            async def cut(connection: Any) -> Any:
                nonlocal ended
                answer = await work(connection)
                if begun % 3 == 0:
                    ended += await other.fetchval(END_SESSION, connection.get_server_pid())
                    await connection.fetch("select")
                return answer

            return await transaction(self, cut, **how)

        monkeypatch.setattr(Session, "run_in_transaction", losing)
        selection = ExportSelection(executions=executions)
        count = await Export(database.url, selection).run(pieces.append)

    ids = exported_ids(pieces)
    assert ids == [1_000 + number for number in range(40)]
    assert (count, ended > 0) == (40, True)


async def test_executions_and_times_select(database: Database) -> None:
    events = [
        raw_event(number, execution_id=number % 3 + 1, created_at=f"2026-01-{number % 9 + 1:02}")
        for number in range(90)
    ]
    await backfill_events(database, *events)

    async def count(**selection: Any) -> int:
        written_lines: list[bytes] = []
        return await Export(database.url, ExportSelection(**selection)).run(written_lines.append)

    day = datetime(2026, 1, 4, tzinfo=UTC)
    assert await count() == 90
    assert await count(executions=(2,)) == 30
    assert await count(executions=(1, 3)) == 60
    assert await count(from_time=day) == 60
    assert await count(to_time=day) == 30
    assert await count(from_time=day, executions=(1,)) == 20


@contextlib.asynccontextmanager
async def waiting_export(
    database: Database, file: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that has begun to export, and waits for a lock until the end of the block."""
    async with (
        watching(database.url) as watcher,
        connected(database) as connection,
        connection.transaction(),
    ):
        await connection.execute("lock table normalizer.events in access exclusive mode")
        export = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "normalizer", "export", str(file)),
            env=environment(job_settings(database)),
        )
        await watcher.until_blocked()
        yield export


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_leaves_nothing_unfinished(
    database: Database, tmp_path: Path, number: signal.Signals
) -> None:
    async with waiting_export(database, tmp_path / "file.zst") as export:
        assert [path.suffix for path in tmp_path.iterdir()] == [".unfinished"]

        export.send_signal(number)
        code = await export.wait()

    assert code == 130
    assert list(tmp_path.iterdir()) == []


async def test_files_left_by_a_kill_are_gone_after_the_next_export(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "file.zst"
    async with waiting_export(database, path) as export:
        with pytest.raises(FatalError, match="another export is writing this file"):
            await exported(database, path)
        export.kill()
        await export.wait()
    (left,) = tmp_path.iterdir()
    left.write_bytes(b"what was packed by then")

    await exported(database, path)

    assert list(tmp_path.iterdir()) == [path]
    assert zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read() == b""


def test_export_does_not_replace_anything_but_a_regular_file(tmp_path: Path) -> None:
    """It would be at the end only, after hours: a folder by an error, a pipe by success."""
    folder, pipe = tmp_path / "folder", tmp_path / "pipe"
    folder.mkdir()
    os.mkfifo(pipe)

    for path in (folder, pipe, Path(), Path("/")):
        with pytest.raises(FatalError, match="is not a regular file"), ExportFile(path):
            pass

    assert folder.is_dir()
    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [folder, pipe]


def test_a_file_that_did_not_reach_the_disk_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier export has there stays."""
    path = tmp_path / "file.zst"
    path.write_bytes(b"of yesterday")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FatalError, match="Input/output"), ExportFile(path) as packed:
        packed.write(b"of today")

    assert path.read_bytes() == b"of yesterday"
    assert list(tmp_path.iterdir()) == [path]


async def test_an_event_that_has_no_line_is_named(database: Database, tmp_path: Path) -> None:
    """Somebody inserted it: no rule lets such a number in."""
    async with connected(database) as connection:
        await connection.execute(
            """
            insert into normalizer.events (event_id, execution_id, event_type, status, context)
            values (7001, 1, 'call.done', 'COMPLETED', '{"n": 1e400}')
            """
        )

    with pytest.raises(FatalError, match="event 7001: context: a number has more than 400 digits"):
        await exported(database, tmp_path / "file.zst")

    assert not list(tmp_path.iterdir())

"""Runs of jobs: one runner at a time, stopped and resumed, paced, and seen in a table."""

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from normalizer.cli.job_execution import open_diff
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Normalized
from normalizer.errors import FatalError, StoreUnavailableError
from normalizer.jobs.backfill import Backfill, split_page
from normalizer.jobs.engine import job_run
from normalizer.jobs.engine.job_run import JobRun, end_unfinished_job
from normalizer.jobs.engine.job_spec import JobSpec
from normalizer.jobs.engine.run_progress import RunResult
from normalizer.jobs.engine.throttle import LiveLag, LiveLagMeter
from normalizer.jobs.sources.file_source import FileSource
from normalizer.jobs.sources.job_source import PartKey, ReadPosition, SourcePage
from normalizer.kafka import GrouplessClient
from normalizer.store.migrate import migrate
from normalizer.store.reconnecting_connection import ReconnectingConnection
from tests.integration.jobs.test_backfill_files import long_when_packed
from tests.support.commands import typed
from tests.support.factories import raw_event
from tests.support.feed import Feed
from tests.support.job_runs import (
    NORMALIZE,
    backfill_files,
    job_settings,
    ledger_mistakes,
    make_backfill,
    ndjson,
    runner,
    write_file,
)
from tests.support.service_runs import (
    Watcher,
    process,
    running,
)
from tests.support.stack import Database, Topic
from tests.support.table_rows import connected
from tests.support.waiting import until

COUNT = 1_500
ITS_OWN_END = "select pg_terminate_backend(pg_backend_pid()), $1::bigint, $2::integer[]"


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return write_file(tmp_path / "history.zst", ndjson(*map(raw_event, range(COUNT))))


def slow(database: Database, history: Path, **options: Any) -> Backfill:
    """A backfill of the history in small batches."""
    settings = job_settings(database, batch_rows=100)
    return make_backfill(settings, FileSource([history]), str(history), **options)


async def test_a_second_runner_is_reported_who_the_first_one_is(
    database: Database, history: Path
) -> None:
    spec = JobSpec(kind="backfill", source=str(history))

    async with await JobRun.begin_or_resume(database.url, spec, owner="the first"):
        with pytest.raises(FatalError, match="is already running in process the first\\. Wait"):
            await JobRun.begin_or_resume(database.url, spec, owner="the second")

    async with await JobRun.begin_or_resume(database.url, spec, owner="the second") as run:
        assert (run.number, run.resumed, run.epoch) == (1, True, 2)


async def test_a_job_that_ended_can_be_run_before_the_server_notices_that_its_connection_is_gone(
    database: Database, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = JobSpec(kind="backfill", source=str(history))
    kept: list[asyncpg.Connection] = []

    def ends_later(connection: ReconnectingConnection) -> None:
        assert connection._connection is not None
        kept.append(connection._connection)

    with monkeypatch.context() as patch:
        patch.setattr(ReconnectingConnection, "terminate", ends_later)
        async with await JobRun.begin_or_resume(database.url, spec, owner="the first"):
            pass

    async with await JobRun.begin_or_resume(database.url, spec, owner="the second") as run:
        assert run.epoch == 2
    assert len(kept) == 2
    for connection in kept:
        connection.terminate()


async def test_a_runner_whose_own_lost_connection_holds_the_lock_goes_on(
    database: Database, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that drops connections tells the client first: the server waits for its probes."""
    spec = JobSpec(kind="backfill", source=str(history))
    async with await JobRun.begin_or_resume(database.url, spec, owner="the first") as run:
        lost, run._lock._connection = run._lock._connection, None
        assert lost is not None
        probes = [
            await lost.fetchval(f"show tcp_keepalives_{name}")
            for name in ("idle", "interval", "count")
        ]

        with monkeypatch.context() as broken:
            broken.setattr(job_run, "TERMINATE_LOCK_SESSIONS_SQL", ITS_OWN_END)
            with pytest.raises(
                StoreUnavailableError
            ):  # the next one is lost before it has the lock
                await run.read_or_create_positions([])

        await run.read_or_create_positions([])
        with pytest.raises(FatalError, match="is already running in process the first\\. Wait"):
            await JobRun.begin_or_resume(database.url, spec, owner="the second")
        lost.terminate()

    assert probes == ["30", "10", "3"]


async def test_a_run_that_retention_deletes_as_it_is_resumed_is_begun_again(
    database: Database, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = JobSpec(kind="backfill", source=str(history))
    async with await JobRun.begin_or_resume(database.url, spec, owner="o"):
        pass
    deleted = "delete from normalizer.jobs where (job_id, run) = ($1, $2) and $3::text is not null"
    monkeypatch.setattr(job_run, "RESUME_RUN_SQL", deleted)

    async with await JobRun.begin_or_resume(database.url, spec, owner="o") as run:
        assert (run.number, run.resumed, run.epoch) == (1, False, 1)


async def test_a_runner_that_lost_the_job_writes_nothing_more(
    database: Database, history: Path
) -> None:
    flow = slow(database, history, max_rate=250.0)
    async with connected(database) as connection, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(_failing(flow.run()), name="first")
        await until(lambda: connection.fetchval("select count(*) from normalizer.events"))

        await connection.execute("update normalizer.jobs set epoch = epoch + 1, owner = 'other'")
        error = await first
        stored = await connection.fetchval("select count(*) from normalizer.events")

    assert "another process has taken over this run" in str(error)
    assert stored < COUNT


async def _failing(work: Any) -> FatalError:
    with pytest.raises(FatalError) as raised:
        await work
    return raised.value


async def test_a_stopped_run_goes_on_where_it_was(database: Database, history: Path) -> None:
    flow = slow(database, history, max_rate=250.0)
    async with connected(database) as connection, asyncio.TaskGroup() as tasks:
        task = tasks.create_task(flow.run(), name="backfill")
        await until(lambda: connection.fetchval("select count(*) from normalizer.events"))
        flow.runner.stop()
        stopped = await task

    assert stopped.state == "stopped"
    assert 0 < stopped.totals.stored < COUNT
    resumed = await resumes_whole(database, history)
    assert resumed.run == stopped.run
    # The rate is of what it read itself, not of what was there when it came.
    its_own = resumed.records_per_s * resumed.took_s
    assert its_own == pytest.approx(COUNT - stopped.totals.records)


async def resumes_whole(database: Database, history: Path) -> RunResult:
    """Assert that the next run stores all that is left, once."""
    resumed = await backfill_files(database, history)
    stored, twice = resumed.totals.stored, resumed.totals.duplicate
    assert (resumed.state, stored, twice) == ("complete", COUNT, 0)
    assert await ledger_mistakes(database) == []
    return resumed


async def test_the_rate_is_never_exceeded(database: Database, history: Path) -> None:
    flow = slow(database, history, max_rate=1_000.0)

    verdict = await flow.run()

    assert verdict.totals.records == COUNT
    assert verdict.took_s >= COUNT / 1_000
    assert verdict.throttled_s["max_rate"] > 0


class LagsAtFirst:
    """Live traffic that is behind for a number of looks."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    async def read_lag(self) -> LiveLag:
        self.left -= 1
        return LiveLag(seconds=3.5, partition="noetl.events[2]") if self.left >= 0 else LiveLag()


async def test_it_waits_while_live_traffic_is_behind_and_logs_it(
    database: Database, history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = slow(database, history, read_lag=LagsAtFirst(3).read_lag)

    verdict = await flow.run()

    said = capsys.readouterr().out
    assert verdict.state == "complete"
    assert verdict.throttled_s["live_lag"] > 0.5
    assert "job.throttled" in said
    assert "noetl.events[2]" in said
    assert "job.resumed" in said
    assert "by live lag" in "\n".join(verdict.format_lines())


class Counting:
    """The rules, and how many records they have read."""

    records = 0

    def __call__(self, record: RawRecord) -> tuple[Normalized, ...]:
        self.records += 1
        return NORMALIZE(record)

    async def count(self) -> int:
        return self.records


async def test_three_batches_are_in_hand_at_most_and_a_stop_loses_none_of_them(
    database: Database, history: Path
) -> None:
    async def looks_left() -> int:
        return live.left

    live, read = LagsAtFirst(1_000), Counting()
    flow = slow(database, history, normalize=read, read_lag=live.read_lag)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(flow.run(), name="backfill")
        seen = await until(read.count, is_so=lambda count: count >= 300) and live.left
        await until(looks_left, is_so=lambda left: left < seen - 1)
        most = read.records
        flow.runner.stop()
        stopped = await task

    assert most == 300
    assert (stopped.state, stopped.totals.records) == ("stopped", 0)
    await resumes_whole(database, history)


async def test_a_writer_that_breaks_ends_a_reader_that_waits_for_it(
    database: Database, history: Path
) -> None:
    live, read = LagsAtFirst(1_000), Counting()
    flow = slow(database, history, normalize=read, read_lag=live.read_lag)
    async with connected(database) as connection, asyncio.TaskGroup() as tasks:
        await connection.execute(
            """
            create function refuse() returns trigger language plpgsql as $$
            begin
                raise exception 'not allowed' using errcode = '42501';
            end
            $$;
            create trigger refuse before insert on normalizer.events
                for each row execute function refuse()
            """
        )
        task = tasks.create_task(flow.run(), name="backfill")
        await until(read.count, is_so=lambda count: count >= 300)
        live.left = 0
        failed = await task
        await connection.execute("drop function refuse cascade")

    assert (failed.state, failed.totals.records) == ("failed", 0)
    assert "42501" in failed.reason
    assert read.records == 300
    await resumes_whole(database, history)


class BreaksAfter(FileSource):
    """A file that cannot be read beyond this number of records."""

    def __init__(self, path: Path, records: int) -> None:
        super().__init__([path])
        self._left = records
        self.broke = asyncio.Event()

    async def read(
        self, positions: Mapping[PartKey, ReadPosition]
    ) -> AsyncGenerator[SourcePage, None]:
        async with contextlib.aclosing(super().read(positions)) as read:
            async for whole in read:
                for page in split_page(whole, 50):
                    if self._left <= 0:
                        self.broke.set()
                        raise FatalError("the disk is broken")
                    self._left -= len(page.records)
                    yield page


async def test_records_read_before_the_source_broke_are_written(
    database: Database, history: Path
) -> None:
    live = LagsAtFirst(1_000)
    source = BreaksAfter(history, 250)
    flow = make_backfill(
        job_settings(database, batch_rows=100), source, str(history), read_lag=live.read_lag
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(flow.run(), name="backfill")
        await source.broke.wait()
        live.left = 0
        failed = await task

    assert (failed.state, failed.totals.stored) == ("failed", 250)
    assert "the disk is broken" in failed.reason
    await resumes_whole(database, history)


@pytest.mark.every_postgres(oldest_in_soak=True)
async def test_progress_and_result_are_in_the_view(database: Database, history: Path) -> None:
    flow = slow(database, history, max_rate=150.0)
    async with connected(database) as connection, asyncio.TaskGroup() as tasks:
        task = tasks.create_task(flow.run(), name="backfill")
        running_row = await until(
            lambda: connection.fetchrow(
                "select * from projector.jobs where state = 'running' and records_per_s > 0"
            )
        )
        flow.runner.stop()
        verdict = await task
        stopped = await connection.fetchrow(
            "select progress_ratio, state, records_per_s, throttled_by_rate_s from projector.jobs"
        )
        ended_at = await connection.fetchval("select ended_at from projector.jobs")
        await connection.execute("update normalizer.jobs set state = 'running'")
        dead = await connection.fetchval("select state from projector.jobs")

    assert running_row["kind"] == "backfill"
    assert running_row["ended_at"] is None
    assert ended_at is not None
    assert 0 < running_row["records"] < COUNT
    assert running_row["throttled_by_rate_s"] > 0
    assert 0 < running_row["progress_ratio"] <= stopped["progress_ratio"] <= 1
    at_its_end = ("stopped", verdict.records_per_s, verdict.throttled_s["max_rate"])
    assert tuple(stopped)[1:] == at_its_end
    assert dead == "interrupted"


@pytest.mark.every_postgres(oldest_in_soak=True)
@pytest.mark.parametrize("state", ["running", "failed"])
async def test_a_job_that_no_command_continues_is_ended_by_its_id(
    database: Database, history: Path, state: str
) -> None:
    """As one of older rules, or of a file that is gone: else its alert would stay forever."""
    flow = slow(database, history, max_rate=150.0)
    async with connected(database) as connection, asyncio.TaskGroup() as tasks:
        task = tasks.create_task(flow.run(), name="backfill")
        job_id = await until(
            lambda: connection.fetchval(
                "select job_id from projector.jobs where state = 'running' and records > 0"
            )
        )
        of_a_running_one = await end_unfinished_job(database.url, job_id, "ended by me")
        flow.runner.stop()
        await task
        await connection.execute(f"update normalizer.jobs set state = '{state}', ended_at = null")
        ended = await typed(job_settings(database), "jobs", "--end", job_id)
        row = await connection.fetchrow("select state, reason, ended_at from projector.jobs")
        again = await typed(job_settings(database), "jobs", "--end", job_id)

    assert not of_a_running_one
    assert ended == (0, f"job {job_id}: ended\n")
    assert row["state"] == "stopped"
    assert row["reason"].startswith("ended by ")
    assert row["ended_at"] is not None
    assert again == (1, f"job {job_id}: it is running, or there is nothing to end\n")
    verdict = await slow(database, history).run()
    assert (verdict.state, verdict.run) == ("complete", 2)


async def test_a_run_through_an_outage_of_the_database_ends_whole(
    postgres_server: Any, history: Path
) -> None:
    url = await postgres_server.create_database("outage")
    await migrate(url, report=lambda _: None)
    database = Database(name="outage", url=url, admin_url=postgres_server.database_url("outage"))
    flow = slow(database, history, max_rate=700.0)
    async with asyncio.TaskGroup() as tasks:
        async with connected(database) as connection:
            task = tasks.create_task(flow.run(), name="backfill")
            await until(lambda: connection.fetchval("select count(*) from normalizer.events"))
        await postgres_server.stop()
        await postgres_server.start()
        verdict = await task

    assert (verdict.state, verdict.totals.stored) == ("complete", COUNT)
    assert await ledger_mistakes(database) == []


async def _until_read_and_reported(watcher: Watcher, topic: Topic, records: int) -> None:
    """The service has read these, and its monitor, which does not run here, has reported it."""
    await watcher.until_read(topic, {0: records})
    await watcher.connection.execute(
        """
        update normalizer.source_heartbeats as reported
        set    partition_count = 1, log_end = position.next_offset,
               next_offset = position.next_offset, end_seen_at = now()
        from   normalizer.source_positions as position
        where  (reported.topic, reported.partition) = (position.topic, position.partition)
        """
    )


@pytest.mark.parametrize("topic", [1], indirect=True)
async def test_live_traffic_is_seen_to_wait_unless_nobody_reads_its_log(feed: Feed) -> None:
    """A pause would help no log whose topic was renamed, or which no process reads now."""
    settings = feed.settings()
    now_s = 100.0
    unread = []
    async with (
        GrouplessClient(settings) as log,
        LiveLagMeter(feed.database.url, log, clock=lambda: now_s) as live,
    ):
        await feed.send(range(5))
        async with running(settings):
            await _until_read_and_reported(feed.watcher, feed.topic, 5)
        read = await live.read_lag()
        await feed.send(range(5, 6))
        seen = await live.read_lag()
        now_s += 7
        await feed.send(range(6, 7))
        waiting = await live.read_lag()
        for left in ("heartbeat_at = now() - interval '2 minutes'", "stopped = true"):
            back = "heartbeat_at = now(), stopped = false"
            for fields in (left, back):
                await feed.connection.execute(f"update normalizer.source_heartbeats set {fields}")
                unread.append((await live.read_lag()).seconds)

    assert (read.seconds, seen.seconds) == (None, 0.0)
    assert (waiting.seconds, waiting.partition) == (7.0, f"{feed.name}[0]")
    assert unread == [None, 7.0] * 2


async def test_the_commands_say_what_they_did(
    database: Database, history: Path, tmp_path: Path
) -> None:
    tried = await typed(job_settings(database), "backfill", "file", str(history), "--dry-run")
    done = await typed(job_settings(database), "backfill", "file", str(history))
    listed = await typed(job_settings(database), "jobs")
    export = await typed(job_settings(database), "export", str(tmp_path / "out.zst"))
    nothing = await typed(job_settings(database), "renormalize", "--dry-run")
    empty = await typed(job_settings(database), "quarantine", "redrive")
    wrong = await typed(job_settings(database), "backfill", "file", str(history), "--set", "x")

    assert tried[0] == 0
    assert f"{COUNT:,} new" in tried[1]
    assert done[0] == 0
    assert "complete: job" in done[1]
    assert f"{COUNT:,} outcomes = {COUNT:,} stored" in done[1]
    assert "complete 100%" in listed[1]
    assert f"{COUNT:,} events in" in export[1]
    assert "nothing was read" in nothing[1]
    assert "0 records: 0 outcomes = 0" in empty[1]
    assert wrong[0] == 2


async def test_a_damaged_file_keeps_what_came_before_as_its_dry_run_says(
    database: Database, tmp_path: Path
) -> None:
    path = write_file(tmp_path / "file.zst", long_when_packed())
    packed = bytearray(path.read_bytes())
    damaged = len(packed) * 5 // 6
    packed[damaged : damaged + 100] = bytes(100)
    path.write_bytes(packed)

    tried = await typed(job_settings(database), "backfill", "file", str(path), "--dry-run")
    done = await typed(job_settings(database), "backfill", "file", str(path))

    stored = re.search(r"([\d,]+) stored", done[1])
    assert stored
    assert 500 < int(stored[1].replace(",", "")) < 4_000
    for code, said in (tried, done):
        assert (code, "its zstd data is damaged before byte" in said) == (3, True)
    assert "it ended early" in tried[1]
    assert f"{stored[1]} new" in tried[1]
    assert await ledger_mistakes(database) == []


async def test_the_list_of_a_dry_run_is_a_new_file_and_never_that_of_a_run(
    database: Database, history: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = history.read_bytes()
    backfill = ("backfill", "file", str(history))
    listed = tmp_path / "changes.ndjson"

    done = await typed(job_settings(database), *backfill, "--dry-run", "--changes", str(listed))
    forgotten = await typed(job_settings(database), *backfill, "--changes", str(tmp_path / "other"))
    for rejected, why in ((history, "File exists"), (listed / "file", "Not a directory")):
        with pytest.raises(SystemExit) as ended, open_diff(rejected):
            pass
        assert ended.value.code == 2
        assert f"error: --changes: {rejected}: {why}" in capsys.readouterr().err
    runs = await typed(job_settings(database), "jobs")

    assert (done[0], listed.read_bytes().count(b"\n")) == (0, COUNT)
    assert (forgotten[0], "can't be used without --dry-run" in forgotten[1]) == (2, True)
    assert history.read_bytes() == before
    assert "no job has run" in runs[1]


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry run", "run"])
async def test_a_source_that_is_cut_off_ends_a_command_by_1(
    database: Database, history: Path, tmp_path: Path, dry: list[str]
) -> None:
    cut_off = tmp_path / f"cut-{history.name}"
    cut_off.write_bytes(history.read_bytes()[:-100])

    code, said = await typed(job_settings(database), "backfill", "file", str(cut_off), *dry)

    assert code == 1
    assert "truncated: " in said
    assert "is truncated" in said


async def test_a_signal_stops_it_in_order(database: Database, history: Path) -> None:
    options = ("file", str(history), "--max-rate", "250")
    async with (
        connected(database) as connection,
        process(job_settings(database), *options, command="backfill") as job,
    ):
        await until(lambda: connection.fetchval("select count(*) from normalizer.events"))
        job.send_signal(signal.SIGTERM)
        said, _ = await job.communicate()

    assert job.returncode == 0
    assert "stopped: job" in said.decode()
    assert "run the same command to resume from here" in said.decode()


async def test_a_stop_while_the_database_is_away_says_what_the_run_is_now(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = runner(job_settings(database), JobSpec(kind="backfill", source="stopped"))
    failing = _failing_at_first(monkeypatch, 99)

    async def work(*_: object) -> None:
        failing.set()
        stopped.stop()

    with pytest.raises(StoreUnavailableError, match="so the run stays interrupted"):
        await stopped.run(work, lambda: None)


def _failing_at_first(monkeypatch: pytest.MonkeyPatch, tries: int) -> asyncio.Event:
    """Once the event is set, the database is unreachable for this many statements of a run."""
    failing = asyncio.Event()
    fetch = JobRun._fetch

    async def may_fail(run: JobRun, statement: str, *values: object) -> Any:
        nonlocal tries
        if failing.is_set() and tries > 0:
            tries -= 1
            raise StoreUnavailableError("database: TimeoutError")
        return await fetch(run, statement, *values)

    monkeypatch.setattr(JobRun, "_fetch", may_fail)
    return failing


async def test_a_stop_before_the_first_batch_ends_a_job_within_its_deadline(
    database: Database,
) -> None:
    """The job's lock may be waited for, or the database: then the work has not begun."""
    settings = job_settings(database, stop_timeout_s=1)
    stopped = runner(settings, JobSpec(kind="backfill", source="stopped"))

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    stopped.stop()
    # Below the deadline that holds where none is given: 20 s.
    async with asyncio.timeout(18):
        result = await stopped.run(hang, lambda: None)

    assert result.state == "stopped"

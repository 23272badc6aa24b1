"""`projector maintain` lets old rows go: no count is lost, nothing comes in twice."""

import asyncio
import errno
import os
import re
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
import pytest
import zstandard

from normalizer.core.batch import Batch, RecordWithOutcomes
from normalizer.core.identity.merge_flags import SHARES_ID_FLAG
from normalizer.envelope import Envelope
from normalizer.jobs.sources.file_source import FileSource
from normalizer.snowflake import EPOCH_MS
from normalizer.store.claim import Claim
from normalizer.store.stored_rows import PostgresStoredEvents
from projector.maintenance import (
    archive,
    event_retention,
    expired_executions,
    merged_records,
)
from projector.maintenance.archive import ArchiveFile, ArchiveFolder
from projector.maintenance.maintain import (
    ClocksDifferError,
    RetentionPeriods,
    StepsFailedError,
    maintain,
)
from projector.repair.repair import RepairRequest, repair
from projector.verify.ranges import VerifyScope
from projector.verify.verify import verify
from simulator.view_fold import Row
from tests.support import view_rows
from tests.support.factories import (
    Outcomes,
    after,
    batch_of_records,
    envelope,
    ignored,
    make_batch,
    raw_event,
    raw_record,
    snowflake,
)
from tests.support.job_runs import (
    backfill_events,
    backfill_files,
    ledger_mistakes,
    ndjson,
    run_dry,
    write_file,
)
from tests.support.projection_oracle import ViewRows
from tests.support.stack import Cluster, Database
from tests.support.table_rows import (
    PROJECTING,
    BeforeSecondTransaction,
    claimed,
    connected,
    everything,
    insert_row,
    open_store,
    wait_for_lock,
)
from tests.support.view_rows import differences, event, view_differences

pytestmark = pytest.mark.every_postgres(oldest_in_soak=True)

NOW: Final = datetime.now(UTC)
OLD: Final = NOW - timedelta(days=100)
HASHED_FROM: Final = 1 << 62 | 1 << 61
WEEK: Final = RetentionPeriods(events=timedelta(days=7), minutes=timedelta(days=20_000))


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    async with connected(database, **PROJECTING) as made:
        yield made


async def run(
    connection: asyncpg.Connection,
    keep: RetentionPeriods = WEEK,
    *,
    dry_run: bool = False,
    folder: ArchiveFolder | None = None,
) -> list[str]:
    done = maintain(connection, keep, dry_run=dry_run, folder=folder)
    return [str(one) async for one in done]


async def divergent(connection: asyncpg.Connection) -> dict[str, list[str]]:
    return {
        verdict.projection: verdict.examples
        async for verdict in verify(connection, VerifyScope())
        if verdict.verdict != "match"
    }


def id_at(moment: datetime, number: int = 0) -> int:
    """An id of the application's layout."""
    return (int(moment.timestamp() * 1000) - EPOCH_MS) << 22 | number


def life(execution_id: int, began: datetime, *, numbers: int = 0) -> list[Row]:
    """One finished call of one finished execution."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("playbook.started", {"context": {"path": "flow/a"}}),
        ("command.issued", {"command_id": "c", "step": "fetch"}),
        ("call.done", {"command_id": "c", "step": "fetch", "status": "ERROR", "error": "x"}),
        ("playbook.failed", {"status": "FAILED"}),
    ]
    return [
        event(
            event_id=id_at(began, numbers + 10 * execution_id + number),
            execution_id=execution_id,
            event_type=kind,
            created_at=began + timedelta(seconds=number),
            **columns,
        )
        for number, (kind, columns) in enumerate(kinds)
    ]


async def store(connection: asyncpg.Connection, rows: list[Row], recorded_at: datetime) -> None:
    await view_rows.insert(connection, rows)
    await connection.execute(
        "update normalizer.events set recorded_at = $1 where event_id = any($2::bigint[])",
        recorded_at,
        [row["event_id"] for row in rows],
    )


def without_executions(views: dict[str, ViewRows]) -> dict[str, ViewRows]:
    """The views that keep their counts when executions are deleted."""
    return {name: rows for name, rows in views.items() if name not in view_rows.OF_EXECUTIONS}


async def executions_left(connection: asyncpg.Connection) -> list[int]:
    left = "select distinct execution_id from normalizer.events order by 1"
    return [number for (number,) in await connection.fetch(left)]


async def test_it_says_first_what_it_would_do_and_does_nothing(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts what would go some executions at a time."""
    monkeypatch.setattr(expired_executions, "EXECUTIONS_PER_LOOKUP", 7)
    for number in range(1, 41):
        await store(connection, life(number, OLD), OLD)
    await store(connection, life(41, NOW), NOW)
    before = await everything(connection)

    said = await run(connection, dry_run=True)

    assert "would delete 40 executions with 160 events" in said
    assert await everything(connection) == before


async def test_a_silent_execution_leaves_whole_and_every_count_stays(
    connection: asyncpg.Connection,
) -> None:
    await store(connection, life(1, OLD), OLD)
    await store(connection, life(2, NOW), NOW)
    before = await view_rows.view_rows(connection)

    said = await run(connection)

    assert "deleted 1 executions with 4 events (their counts stay)" in said
    after = await view_rows.view_rows(connection)
    assert [row[0] for row in after["executions"]] == [2]
    assert differences(without_executions(after), without_executions(before)) == {}
    assert await connection.fetchval("select count(*) from normalizer.events") == 4
    assert await divergent(connection) == {}
    assert not any("deleted" in line for line in await run(connection))


async def test_an_execution_that_is_not_silent_keeps_all_its_events(
    connection: asyncpg.Connection,
) -> None:
    """Whether it has ended does not matter, and neither does what the producer's clock says."""
    rows = life(1, OLD)
    await store(connection, rows[:3], OLD)
    await store(connection, rows[3:], NOW)
    await store(connection, life(2, OLD)[:2], OLD)
    before = await connection.fetch("select * from projector.executions where execution_id = 1")

    await run(connection)

    left = await connection.fetch("select * from projector.executions")
    assert left == before
    assert await connection.fetchval("select count(*) from normalizer.events") == 4
    assert await divergent(connection) == {}


async def test_an_execution_that_never_falls_silent_is_read_an_hour_at_a_time(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many old events it has, each statement that looks for candidates stays short."""
    await connection.execute(_TEN_THOUSAND_HOURLY, OLD)
    await store(connection, life(2, OLD), OLD)
    await store(connection, life(1, NOW), NOW)
    await connection.execute("vacuum analyze normalizer.events")
    read: list[int] = []
    find = expired_executions.find_candidates_by_arrival

    async def counted(*others: Any) -> list[int]:
        async with connection.transaction():
            before = await connection.fetchval(EVENTS_READ)
            found = await find(*others)
            read.append(await connection.fetchval(EVENTS_READ) - before)
        return found

    monkeypatch.setattr(event_retention, "find_candidates_by_arrival", counted)

    said = await run(connection)

    assert any(line.startswith("deleted 1 executions with 4 events") for line in said)
    assert max(read) < 5_000


async def test_whether_executions_are_silent_may_take_long_to_find_out(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All events of an execution tell, and it may have millions."""
    await store(connection, life(1, OLD), OLD)
    slow = f"{expired_executions._SILENT} and (select pg_sleep(5)) is not null"
    monkeypatch.setattr(expired_executions, "_SILENT", slow)
    await connection.execute("set statement_timeout = '4s'")

    await run(connection)

    assert await connection.fetchval("select count(*) from normalizer.events") == 0


async def test_an_event_that_comes_after_its_execution_left_begins_it_again(
    connection: asyncpg.Connection,
) -> None:
    """Its begin, its end, and its calls count once more."""
    await store(connection, life(1, OLD), OLD)
    await run(connection)
    counts = "select outcome, sum(executions)::integer from projector.execution_outcomes group by 1"
    before = dict(await connection.fetch(counts))
    end = event(
        event_id=id_at(NOW), execution_id=1, event_type="playbook.completed", status="COMPLETED",
        created_at=NOW,
    )  # fmt: skip

    await store(connection, [end], NOW)

    row = await connection.fetchrow("select status, events, playbook from projector.executions")
    assert before == {"BEGUN": 1, "FAILED": 1}
    assert tuple(row) == ("COMPLETED", 1, "")
    assert dict(await connection.fetch(counts)) == before | {"COMPLETED": 1}
    assert await divergent(connection) == {}


async def test_a_writer_that_says_it_archives_changes_nothing(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute("set projector.archiving = on")

    rows = life(1, NOW)
    await store(connection, rows, NOW)
    await view_rows.update(connection, [rows[2] | {"error": "y"}])

    assert await view_differences(connection) == {}
    assert await divergent(connection) == {}


async def test_an_event_goes_only_once_it_is_older_than_horizon_and_margin(
    connection: asyncpg.Connection,
) -> None:
    """Ids say nothing about age: a replay stores old ones today."""
    await store(connection, life(1, OLD), NOW - timedelta(days=13))
    await store(connection, life(2, OLD), NOW - timedelta(days=15))

    await run(connection)

    assert await executions_left(connection) == [1]


def batch_now(claim: Claim, *events: Envelope) -> Batch:
    """One record for each, which the log got just now."""
    items: list[RecordWithOutcomes] = []
    for offset, original in enumerate(events, claim.next_offset):
        record = raw_record(
            offset,
            topic=claim.topic,
            incarnation=claim.incarnation,
            partition=claim.partition,
            recorded_ms=int(NOW.timestamp() * 1000),
        )
        placed = msgspec.structs.replace(
            original, source_partition=claim.partition, source_offset=offset, recorded_at=NOW
        )
        items.append((record, (placed,)))
    return batch_of_records(claim, items)


async def test_executions_that_share_an_id_leave_together(
    connection: asyncpg.Connection, database: Database
) -> None:
    """Else one of their events, reported again, would find the id free."""
    holder, sibling, again = (
        envelope(event_id=5, step=step, execution_id=len(step)) for step in ("a", "bb", "bb")
    )
    age = "update normalizer.events set recorded_at = $1::timestamptz where step = any($2::text[])"
    async with open_store(database) as store:
        claim = await claimed(store)
        first = batch_now(claim, holder, sibling)
        await store.write(first)
        await connection.execute(age, NOW - timedelta(days=900), ["a"])
        said = await run(connection)
        assert await connection.fetchval("select count(*) from normalizer.events") == 2

        totals = await store.write(batch_now(after(claim, first), again))

    why = "it shares an event_id with execution 2, which can't be deleted yet"
    assert f"kept execution 1: {why}" in said
    assert (totals.stored, totals.duplicate + totals.merged) == (0, 1)
    await connection.execute(age, NOW - timedelta(days=15), ["bb"])
    await run(connection)
    assert await connection.fetchval("select count(*) from normalizer.events") == 0


async def test_a_sibling_that_comes_while_its_holder_is_let_go_keeps_it(
    connection: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was found alone, and the sibling is there when its turn comes."""
    async with open_store(database) as store:
        claim = await claimed(store)
        holder, sibling = (
            envelope(event_id=5, step=step, execution_id=len(step)) for step in ("a", "bb")
        )
        first = batch_now(claim, holder)
        await store.write(first)
        await connection.execute("update normalizer.events set recorded_at = $1", OLD)
        archive = event_retention._Retention._archive

        async def after_a_sibling(*arguments: Any) -> Any:
            await store.write(batch_now(after(claim, first), sibling))
            return await archive(*arguments)

        monkeypatch.setattr(event_retention._Retention, "_archive", after_a_sibling)
        await run(connection)

    assert await connection.fetchval("select count(*) from normalizer.events") == 2


@pytest.mark.parametrize("flagged", [False, True])
async def test_a_holder_deleted_between_two_transactions_leaves_its_id_to_the_sibling(
    connection: asyncpg.Connection, database: Database, *, flagged: bool
) -> None:
    """Its flag may be set by then, but the sibling that it was set for isn't there yet."""
    before = NOW - timedelta(days=7)
    holder, sibling = (
        envelope(event_id=5, step=step, execution_id=len(step)) for step in ("a", "bb")
    )
    other, report = (envelope(event_id=6, execution_id=3, error=error) for error in (None, "e"))

    async def delete_holder() -> None:
        deleting = event_retention.delete_silent_executions(
            connection, before, timedelta(), None, dry_run=False
        )
        assert [line async for line in deleting] == [
            "deleted 1 executions with 1 events (their counts stay)"
        ]

    async with open_store(database) as store:
        await store.write(batch_now(await claimed(store, 0), holder, other))
    await event_retention.raise_retention_horizon(connection, before)
    await connection.execute(
        "update normalizer.events set recorded_at = $1, merge_flags = merge_flags | $2 "
        "where event_id = 5",
        OLD,
        SHARES_ID_FLAG if flagged else 0,
    )
    positions = BeforeSecondTransaction(delete_holder)
    async with open_store(database, positions=positions) as store:
        claim = await claimed(store, 1)
        first = batch_now(claim, sibling, report)
        totals = await store.write(first)
        assert (totals.stored, totals.merged, positions.transactions) == (1, 1, 2)

        again = await store.write(batch_now(after(claim, first), sibling))

    assert (again.stored, again.duplicate + again.merged) == (0, 1)
    rows = "select event_id, step from normalizer.events where execution_id = 2"
    assert [tuple(row) for row in await connection.fetch(rows)] == [(5, "bb")]


async def test_a_report_whose_row_is_deleted_before_it_is_locked_becomes_a_row(
    connection: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder of its id leaves together with the row of its sibling, to which it belonged."""
    before = NOW - timedelta(days=7)
    holder, sibling = (
        envelope(event_id=5, step=step, execution_id=len(step)) for step in ("a", "bb")
    )
    select_for_update = PostgresStoredEvents.select_for_update

    async def after_retention(*arguments: Any) -> Any:
        retention = event_retention._Retention(connection, before, None)
        deleted.extend([line async for line in retention.run()])
        return await select_for_update(*arguments)

    deleted: list[str] = []
    async with open_store(database) as store:
        claim = await claimed(store)
        first = batch_now(claim, holder, sibling)
        await store.write(first)
        await connection.execute("update normalizer.events set recorded_at = $1", OLD)
        await event_retention.raise_retention_horizon(connection, before)
        claim = after(claim, first)
        late = batch_now(claim, sibling)
        with monkeypatch.context() as patched:
            patched.setattr(PostgresStoredEvents, "select_for_update", after_retention)
            totals = await store.write(late)

        again = await store.write(batch_now(after(claim, late), sibling))

    assert deleted == ["deleted 2 executions with 2 events (their counts stay)"]
    assert (totals.stored, again.stored, again.duplicate + again.merged) == (1, 0, 1)
    rows = await connection.fetch("select event_id, execution_id from normalizer.events")
    assert [tuple(row) for row in rows] == [(5, 2)]
    assert await ledger_mistakes(database) == []
    assert await divergent(connection) == {}


async def test_the_horizon_never_falls(connection: asyncpg.Connection) -> None:
    horizon = "select expired_before from normalizer.retention_horizon"
    await run(connection)
    raised = await connection.fetchval(horizon)

    await run(connection, RetentionPeriods(events=timedelta(days=30)))

    assert await connection.fetchval(horizon) == raised


@pytest.mark.parametrize("ahead", ["300 days", "-2 hours"])
async def test_nothing_is_deleted_by_a_clock_that_is_wrong(
    ahead: str, connection: asyncpg.Connection
) -> None:
    """Neither events nor the horizon could be brought back."""
    await store(connection, life(1, OLD), OLD)
    await connection.execute(
        "create function public.now() returns timestamptz language sql "
        f"return pg_catalog.now() + interval '{ahead}'"
    )
    await connection.execute("set search_path = projector, normalizer, public, pg_catalog")
    before = await everything(connection)

    with pytest.raises(
        ClocksDifferError, match=r"the database's clock says \d{4}-.* this machine's"
    ):
        await run(connection)

    assert await everything(connection) == before


async def test_records_before_the_horizon_are_ignored_with_any_id(
    connection: asyncpg.Connection, database: Database
) -> None:
    """Read again once it was deleted, reported again, and read for the first time."""
    expired_unread: list[int] = []
    async with open_store(
        database, on_commit=lambda written: expired_unread.append(written.expired_unread)
    ) as store:
        claim = await claimed(store)
        outcomes: list[Outcomes] = [envelope(0), envelope(1, event_id=HASHED_FROM + 1), ignored()]
        first = make_batch(*outcomes, claim=claim)
        await store.write(first)
        await run(connection)
        await connection.execute(
            "update normalizer.source_positions set next_offset = 0, records=0"
        )

        again = await store.write(first)
        unread = (envelope(9, worker_id="w"), envelope(10))
        late = await store.write(make_batch(*unread, claim=after(claim, first)))

    assert (again.stored, again.merged, again.duplicate, again.ignored) == (0, 0, 0, 3)
    assert (late.stored, late.ignored) == (0, 2)
    assert expired_unread == [0, 0, 2]
    assert await connection.fetchval("select count(*) from normalizer.events") == 0
    counted = "select sum(events)::integer from projector.event_counts"
    assert await connection.fetchval(counted) == 2


async def test_rows_wait_for_a_batch_that_read_the_horizon_before(
    connection: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be about to store what was looked for and not found just now."""
    monkeypatch.setattr(event_retention, "_PATIENCE_S", 0.2)
    await store(connection, life(1, OLD), OLD)
    async with connected(database) as batch, batch.transaction():
        await batch.execute("select * from normalizer.retention_horizon")

        said = await run(connection)

        assert any("a transaction that began before still reads" in line for line in said)
        assert await executions_left(connection) == [1]
    await run(connection)
    assert await connection.fetchval("select count(*) from normalizer.events") == 0


@pytest.mark.parametrize("locked", ["normalizer.events", "projector.execution_facts"])
async def test_an_execution_that_somebody_has_locked_is_left_and_holds_up_no_other(
    locked: str,
    connection: asyncpg.Connection,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_retention, "_PATIENCE_S", 2.0)
    await store(connection, life(1, OLD) + life(2, OLD), OLD)
    async with connected(database) as writer, writer.transaction():
        await writer.execute(f"select from {locked} where execution_id = 1 limit 1 for update")

        await run(connection)

        assert await connection.fetchval("select count(*) from normalizer.events") == 4
        assert await executions_left(connection) == [1]
        assert await divergent(connection) == {}
    await run(connection)
    assert await connection.fetchval("select count(*) from normalizer.events") == 0


async def test_two_deletions_at_once_take_turns(
    connection: asyncpg.Connection, database: Database
) -> None:
    """Each adds to the same two groups of counters, in the order that would deadlock."""
    earlier = OLD - timedelta(hours=2)
    await store(connection, life(1, OLD) + life(3, OLD), OLD)
    await store(connection, life(2, earlier) + life(4, earlier), earlier)
    await connection.execute("update normalizer.events set source_partition = execution_id")
    lock = "select projector.try_lock_executions($1::bigint[])"
    delete = "select projector.delete_executions(array[$1::bigint])"

    async def delete_others() -> None:
        async with connected(database, application_name="other") as other, other.transaction():
            await other.execute(lock, [3, 4])
            await other.execute(delete, 4)
            await other.execute(delete, 3)

    async with (
        asyncio.TaskGroup() as group,
        connected(database) as one,
        one.transaction(),
    ):
        await one.execute(lock, [1, 2])
        await one.execute(delete, 1)
        group.create_task(delete_others())
        await wait_for_lock(connection, "other")
        await one.execute(delete, 2)

    assert await connection.fetchval("select count(*) from normalizer.events") == 0
    counted = await connection.fetchval("select sum(events) from projector.event_counts")
    assert counted == 16


async def test_a_backfill_needs_to_be_reported_that_some_of_it_expired(
    connection: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    old = [raw_event(number, event_id=id_at(OLD, number)) for number in range(3)]
    young = raw_event(3, event_id=id_at(NOW), created_at=NOW.isoformat())
    path = write_file(tmp_path / "history.ndjson", ndjson(*old, young))
    await run(connection)

    diff = await run_dry(database, FileSource([path]))
    rejected = await backfill_files(database, path)
    verdict = await backfill_files(database, path, accept_expired=True)

    assert (diff.counts["new"], diff.counts["expired"]) == (1, 3)
    assert "3 expired, before the horizon of retention" in "\n".join(diff.format_lines())
    assert (rejected.state, rejected.totals.stored) == ("failed", 0)
    assert "--accept-expired" in rejected.reason
    assert (verdict.totals.stored, verdict.totals.ignored) == (1, 3)


async def test_a_replay_after_retention_counts_nothing_twice(
    connection: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    """Ids that are hashed, that are texts, and that are no snowflakes at all."""
    lines = [
        raw_event(number, event_id=event_id, execution_id=number, created_at=OLD.isoformat())
        for number, event_id in enumerate(
            ["018f4b1e-7b1e-7cc2-a1d5-3f2a9c6f0e11", "01HXYZ0123456789ABCDEFGHJK", 1 << 62, 7], 1
        )
    ]
    # One id, two events: the second is kept under a hashed one.
    lines.append(lines[-1] | {"step": "other"})
    path = write_file(tmp_path / "history.ndjson", ndjson(*lines))
    first = await backfill_files(database, path)
    counts = await counted(connection)
    await run(connection)

    again = await backfill_files(database, path, accept_expired=True)

    assert first.totals.stored == 5
    assert (again.totals.stored, again.totals.ignored) == (0, 5)
    assert await counted(connection) == counts
    assert await divergent(connection) == {}
    assert await ledger_mistakes(database) == []


async def counted(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        "select step, status, sum(events) from projector.event_counts group by 1, 2 order by 1, 2"
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    ("target", "dies", "when"),
    [
        (ArchiveFile, "sync_before_commit", "before"),
        (event_retention._Retention, "_archive", "after"),
        pytest.param(ArchiveFile, "sync_before_commit", "after", marks=pytest.mark.soak),
        pytest.param(event_retention._Retention, "_archive", "before", marks=pytest.mark.soak),
    ],
)
async def test_the_next_maintain_finishes_an_interrupted_one(
    target: Any,
    dies: str,
    when: str,
    connection: asyncpg.Connection,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(event_retention, "EVENTS_PER_DELETE", 3)
    await store(connection, [*life(1, OLD), *life(2, OLD)], OLD)
    before = await view_rows.view_rows(connection)
    step = getattr(target, dies)

    def dies_in_it(*arguments: Any) -> None:
        if when == "after":
            step(*arguments)
        raise KeyboardInterrupt

    async def dies_around_it(*arguments: Any) -> None:
        if when == "after":
            await step(*arguments)
        raise KeyboardInterrupt

    folder = ArchiveFolder(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(target, dies, dies_in_it if target is ArchiveFile else dies_around_it)
        with pytest.raises(KeyboardInterrupt):
            await run(connection, folder=folder)
    assert await divergent(connection) == {}
    assert differences(await view_rows.view_rows(connection), before) == {}
    await run(connection, folder=folder)

    assert await connection.fetchval("select count(*) from normalizer.events") == 0
    shown = without_executions(await view_rows.view_rows(connection))
    assert differences(shown, without_executions(before)) == {}
    assert await divergent(connection) == {}
    async with cluster.database() as other:
        verdict = await backfill_files(other, tmp_path)
    assert (verdict.state, verdict.reason, verdict.totals.stored) == ("complete", "", 8)


async def test_a_file_of_a_committed_deletion_gets_its_name_after_a_kill(
    connection: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between the commit and the name. Files of other databases stay."""
    await store(connection, life(1, OLD), OLD)
    folder = ArchiveFolder(tmp_path)
    foreign = tmp_path / ".events_0_1_2.ndjson.zst.1-2-3.unfinished"
    foreign.touch()

    async def died(*_: object) -> None:
        pass

    with monkeypatch.context() as patched:
        patched.setattr(ArchiveFolder, "resolve_unfinished", died)
        await run(connection, folder=folder)
    assert [path.suffix for path in tmp_path.iterdir()] == [".unfinished"] * 2

    await run(connection, folder=folder)

    (named,) = (path for path in tmp_path.iterdir() if path != foreign)
    assert foreign.exists()
    assert unpacked(named).count(b"}\n") == 4


@pytest.mark.parametrize("number", [0, 10**15])
async def test_a_file_of_a_forgotten_transaction_is_kept_if_it_is_complete(
    connection: asyncpg.Connection, tmp_path: Path, number: int
) -> None:
    """The server has no status of very old ones, and a restored one has yet to reach some."""
    here = await connection.fetchrow(archive._HERE)
    ending = f"{'-'.join(map(str, here))}-{number}.unfinished"
    (tmp_path / f".events_1_2_f.ndjson.zst.{ending}").touch()
    (tmp_path / f".events.{ending}").touch()

    await ArchiveFolder(tmp_path).resolve_unfinished(connection)

    assert [path.name for path in tmp_path.iterdir()] == ["events_1_2_f.ndjson.zst"]


async def test_archived_events_can_be_backfilled(
    connection: asyncpg.Connection,
    database: Database,
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    lines = [
        raw_event(number, created_at=OLD.isoformat(), meta={"attempts": number % 3})
        for number in range(20)
    ]
    await backfill_events(database, *lines)
    said = "select event_id, step, status, attempts, created_at, context from normalizer.events"
    before = await connection.fetch(f"{said} order by event_id")
    folder = ArchiveFolder(tmp_path / "gone")
    done = await run(connection, folder=folder)

    assert any(f", written to {tmp_path / 'gone'} before (their counts" in line for line in done)
    async with cluster.database() as other:
        verdict = await backfill_files(other, tmp_path / "gone")
        async with connected(other) as reader:
            read_back = await reader.fetch(f"{said} order by event_id")

    (name,) = (path.name for path in (tmp_path / "gone").iterdir())
    ids = f"events_{snowflake(0):019}_{snowflake(19):019}"
    assert re.fullmatch(rf"{ids}_[0-9a-f]{{16}}\.ndjson\.zst", name)
    assert verdict.totals.stored == 20
    assert read_back == before


async def test_two_databases_share_a_folder_and_every_event_of_both_is_read_back(
    connection: asyncpg.Connection, cluster: Cluster, tmp_path: Path
) -> None:
    """Files of them begin with the same events, hold as many, and others after those."""
    rows = [one for number in range(1, 61) for one in life(number, OLD)]
    for row in rows:
        row["error"] = "x" * 300
    folder = ArchiveFolder(tmp_path)
    await store(connection, rows[:-4], OLD)
    await run(connection, folder=folder)
    async with cluster.database() as second, connected(second, **PROJECTING) as other:
        await store(other, rows[:-8] + rows[-4:], OLD)
        await run(other, folder=folder)

    async with cluster.database() as third:
        verdict = await backfill_files(third, tmp_path)

    assert (verdict.state, verdict.reason) == ("complete", "")
    assert (verdict.totals.stored, verdict.totals.duplicate) == (len(rows), len(rows) - 8)


async def insert_without_projections(connection: asyncpg.Connection, row: Row) -> None:
    async with connection.transaction():
        await connection.execute("set local projector.off = 'on'")
        await view_rows.insert(connection, [row])


async def repaired(connection: asyncpg.Connection) -> None:
    """Return the noted rows."""
    async for verdict in repair(connection, RepairRequest()):
        assert verdict.verdict == "match", str(verdict)


async def test_nothing_goes_of_an_execution_that_differs_until_it_is_repaired(
    connection: asyncpg.Connection,
) -> None:
    rows = life(1, OLD)
    await store(connection, rows[:3], OLD)
    await insert_without_projections(connection, rows[3] | {"recorded_at": OLD})

    said = await run(connection)

    assert not any(line.startswith("deleted 1 executions") for line in said)
    await repaired(connection)
    state = "select status, events from projector.executions"
    assert tuple(await connection.fetchrow(state)) == ("FAILED", 4)
    await run(connection)
    assert await connection.fetch(state) == []
    assert await divergent(connection) == {}


async def test_the_ledger_explains_what_retention_took_of_a_job(
    connection: asyncpg.Connection, database: Database
) -> None:
    lines = [raw_event(number) for number in range(3)] + [{"no": "event"}]
    await backfill_events(database, *lines)
    await connection.execute("update normalizer.events set recorded_at = $1", OLD)
    await connection.execute("update normalizer.quarantine set quarantined_at = $1", OLD)

    said = await run(
        connection, RetentionPeriods(events=timedelta(days=7), quarantine=timedelta(days=7))
    )

    assert "deleted 1 quarantine entries" in said
    assert await connection.fetchval("select count(*) from normalizer.events") == 0
    assert await ledger_mistakes(database) == []


async def test_rejections_go_with_their_bytes_and_their_counts_by_hour(
    connection: asyncpg.Connection,
) -> None:
    await reject(connection)
    count = "select sum(rejected)::integer from projector.quarantine_by_reason"

    said = await run(connection, RetentionPeriods(quarantine=timedelta(days=7)))

    assert "deleted 1 quarantine entries" in said
    assert "deleted the bytes of 1 rejected records" in said
    assert await connection.fetchval(count) is None
    taken = await connection.fetchrow("select * from normalizer.archived_row_counts")
    assert (taken["source_partition"], taken["quarantined"]) == (3, 1)
    assert await divergent(connection) == {}


async def test_minutes_are_dropped_and_stay_away(connection: asyncpg.Connection) -> None:
    old, young = life(1, OLD), life(2, NOW)
    await store(connection, old, NOW)
    await store(connection, young, NOW)

    await run(connection, RetentionPeriods())
    await view_rows.insert(connection, [event(event_id=id_at(NOW, 77), created_at=OLD)])

    minutes = await connection.fetch("select minute from projector.event_minutes")
    assert all(row["minute"] > NOW - timedelta(days=3) for row in minutes)
    assert len(minutes) > 0
    assert set(await view_differences(connection)) <= {"retries_by_minute"}
    assert await divergent(connection) == {}


async def test_shards_of_quiet_hours_are_added_up(
    connection: asyncpg.Connection, database: Database
) -> None:
    yesterday = NOW - timedelta(days=1)
    others = [await asyncpg.connect(database.admin_url) for _ in range(3)]
    for number, other in enumerate(others, start=1):
        await other.execute("begin")
        rows = life(number, yesterday)
        rows[2]["duration"] = 5.0
        await view_rows.insert(other, rows)
    for other in others:
        await other.execute("commit")
        await other.close()
    before = await view_rows.view_rows(connection)

    said = await run(connection, RetentionPeriods())

    for table in ("event_minutes", "event_hours", "call_hours", "call_times", "execution_hours"):
        assert any(f"rows of {table} to shard 0" in line for line in said), table
        shards = await connection.fetch(f"select distinct shard from projector.{table}")
        assert {row["shard"] for row in shards} <= {0}, table
    assert differences(await view_rows.view_rows(connection), before) == {}
    assert await view_differences(connection) == {}


async def reject(connection: asyncpg.Connection) -> None:
    """An old rejected record, with its bytes."""
    place = {"source_partition": 3, "quarantined_at": OLD}
    await insert_row(connection, "normalizer.quarantine", **place)
    await connection.execute(
        "insert into normalizer.quarantine_raw (source_topic, source_incarnation, "
        "source_partition, source_offset, value, value_sha256, whole, kept_at) "
        "values ('noetl.events', 0, 3, 4, 'x', 'y', true, $1)",
        OLD,
    )


async def failing(
    connection: asyncpg.Connection, keep: RetentionPeriods, why: str, **options: Any
) -> list[str]:
    """What it says before it fails."""
    said: list[str] = []

    async def hear() -> None:
        async for done in maintain(connection, keep, dry_run=False, **options):
            said.append(str(done))  # noqa: PERF401 - what was said before it raised counts

    with pytest.raises(StepsFailedError, match=why):
        await hear()
    return said


async def test_a_step_that_fails_keeps_no_other_from_its_turn(
    connection: asyncpg.Connection, database: Database
) -> None:
    await store(connection, life(1, OLD), NOW)
    await reject(connection)
    await connection.execute("set lock_timeout = '100ms'")
    async with connected(database) as other, other.transaction():
        await other.execute("lock table normalizer.quarantine_raw in access exclusive mode")

        said = await failing(
            connection, RetentionPeriods(), "1 of 4 steps failed: retention of rejected bytes"
        )

    assert (
        "retention of rejected bytes failed: database: SQLSTATE 55P03 (LockNotAvailableError)"
        in said
    )
    assert any(line.startswith("deleted 4 rows of event_minutes") for line in said)


async def test_events_that_cannot_go_stay_and_leave_no_file(
    connection: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rest for each try, every quarter of an hour, would itself fill the folder."""
    rows = life(1, OLD)
    await store(connection, rows, OLD)

    async def tried() -> list[str]:
        folder = ArchiveFolder(tmp_path)
        said = await failing(connection, WEEK, "retention of events", folder=folder)
        assert await connection.fetchval("select count(*) from normalizer.events") == 4
        assert not list(tmp_path.iterdir())
        return said

    def is_full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", is_full)
        await tried()
    await connection.execute(_REFUSE_DELETES)
    for _ in range(2):
        await tried()
    await connection.execute("drop function public.refuse cascade")
    # Somebody changed it: no rule lets such a number in.
    await connection.execute(
        """update normalizer.events set context = '{"n": 1e400}' where event_type = 'call.done'"""
    )
    monkeypatch.undo()
    said = await tried()

    assert f"retention of events failed: event {rows[2]['event_id']} can't be archived: " in said[0]


async def test_executions_that_take_too_long_together_are_deleted_a_few_at_a_time(
    connection: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the one that takes too long alone is named, and holds up no other."""
    monkeypatch.setattr(event_retention, "_LEAST_TIMEOUT_MS", 1_000)
    await store(connection, [row for number in range(1, 11) for row in life(number, OLD)], OLD)
    await connection.execute(_SLOW.format("normalizer.events"))

    said = [
        line
        async for line in event_retention.delete_silent_executions(
            connection, NOW, timedelta(), ArchiveFolder(tmp_path), dry_run=False
        )
    ]

    kept, deleted = said
    assert kept == (
        "kept execution 7: its 4 events take longer than 1 s to delete; the next run tries again"
    )
    assert deleted.startswith("deleted 9 executions with 36 events")
    assert await executions_left(connection) == [7]
    files = [unpacked(path) for path in tmp_path.iterdir()]
    assert sum(file.count(b"}\n") for file in files) == 36


async def test_a_divergence_without_a_place_blocks_retention_and_is_named(
    connection: asyncpg.Connection,
) -> None:
    await store(connection, life(1, OLD), OLD)
    await run(connection)
    await store(connection, life(2, OLD), OLD)
    await connection.execute(
        "insert into divergences (projection, noted_by) values ('call_facts', 'off')"
    )
    why = "waits: call_facts may differ from the events at an unknown place; "
    why += "`projector repair` compares all of it"

    for dry_run in (True, False):
        said = await run(connection, dry_run=dry_run)
        assert f"retention of events {why}" in said
        assert not any("executions with" in line for line in said)
    await repaired(connection)
    said = await run(connection)

    assert "deleted 1 executions with 4 events (their counts stay)" in said


async def test_merged_records_go_once_all_their_events_are_deleted(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ids one row has."""
    monkeypatch.setattr(merged_records, "IDS_PER_PAGE", 3)
    kept = event(event_id=id_at(NOW), created_at=NOW)
    await view_rows.insert(connection, [kept])
    merged_into = [[id_at(OLD, n) for n in range(5)], [id_at(OLD)], [7, kept["event_id"]], [7]]
    await connection.executemany(
        "insert into normalizer.merged_records values ('t', 0, 0, $1, 1, $2::bigint[], "
        "array_fill(0, array[cardinality($2::bigint[])]), $2)",
        list(enumerate(merged_into)),
    )

    said = await run(connection)

    assert "deleted 3 merged records whose events are deleted" in said
    left = await connection.fetch("select event_ids from normalizer.merged_records")
    assert [row["event_ids"] for row in left] == [merged_into[2]]


async def test_a_slow_disk_does_not_end_the_transaction(
    connection: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(connection, life(1, OLD), OLD)
    await connection.execute("set idle_in_transaction_session_timeout = '100ms'")
    sync = ArchiveFile.sync_before_commit

    def slow(self: ArchiveFile) -> None:
        time.sleep(0.5)
        sync(self)

    monkeypatch.setattr(ArchiveFile, "sync_before_commit", slow)
    await run(connection, folder=ArchiveFolder(tmp_path))

    assert await connection.fetchval("select count(*) from normalizer.events") == 0


async def test_a_large_execution_is_written_out_a_few_rows_at_a_time(
    connection: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some texts shrink a hundred times, so rows are counted and not their stored bytes."""
    rows = [
        event(event_id=id_at(OLD, n), execution_id=1, created_at=OLD, context={"text": "x" * 100})
        for n in range(50)
    ]
    await store(connection, rows, OLD)
    most: list[int] = []
    add = ArchiveFile.add

    def noted(file: ArchiveFile, some: Sequence[asyncpg.Record]) -> None:
        most.append(len(some))
        add(file, some)

    monkeypatch.setattr(ArchiveFile, "add", noted)
    await run(connection, folder=ArchiveFolder(tmp_path))

    (path,) = tmp_path.iterdir()
    assert unpacked(path).count(b"}\n") == sum(most) == 50
    assert max(most) == event_retention._ROWS_A_READ
    assert await connection.fetchval("select count(*) from normalizer.events") == 0


def unpacked(path: Path) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())


async def test_a_batch_that_waits_for_it_and_is_waited_for_does_not_end_it(
    connection: asyncpg.Connection, database: Database
) -> None:
    """It has locked one execution, and asks for the other in its next statement."""
    await store(connection, life(1, OLD) + life(2, OLD), OLD)
    young = event(event_id=id_at(NOW), execution_id=2, created_at=NOW, recorded_at=NOW)
    async with (
        connected(database) as batch, connected(database) as watcher, asyncio.TaskGroup() as group,
    ):  # fmt: skip
        await batch.execute("set deadlock_timeout = '60s'; begin")
        await view_rows.insert(batch, [young])
        retaining = group.create_task(run(connection), name="retention")
        await wait_for_lock(watcher)
        await batch.execute(
            "update normalizer.events set worker_id = 'w' where event_id = $1", id_at(OLD, 10)
        )
        await batch.execute("commit")

    assert any("executions with" in line for line in retaining.result())
    assert await executions_left(connection) == [2]
    assert await divergent(connection) == {}


async def test_counts_of_what_is_gone_are_dropped_by_the_hour_and_no_others(
    connection: asyncpg.Connection,
) -> None:
    keep = msgspec.structs.replace(WEEK, hours=timedelta(days=30))
    # No life crosses an hour.
    old, later = (one.replace(minute=0) for one in (OLD, NOW - timedelta(days=20)))
    await store(connection, life(1, old), OLD)
    await store(connection, life(2, old), NOW)
    await store(connection, life(3, later), OLD)

    would = await run(connection, keep, dry_run=True)
    await run(connection, keep)
    await run(connection, keep)

    assert not any("event_hours" in line for line in would)
    hours = await connection.fetch(
        "select hour, sum(events) from event_hours group by 1 order by 1"
    )
    assert [int(events) for _, events in hours] == [4, 4]
    none = "select count(*) from event_hours where events = 0 and hour < $1"
    assert await connection.fetchval(none, NOW - timedelta(days=31)) == 0
    assert await divergent(connection) == {}


async def test_gaps_go_and_the_ledger_still_explains_their_offsets(
    connection: asyncpg.Connection, database: Database
) -> None:
    async with open_store(database) as store:
        claim = await claimed(store)
        for hole in ((0, 3), (4, 7)):
            batch = make_batch(envelope(hole[0]), claim=claim, holes=[hole])
            await store.write(batch)
            claim = after(claim, batch)
    await connection.execute("update normalizer.gaps set found_at = $1", OLD)
    assert await ledger_mistakes(database) == []

    said = await run(connection, RetentionPeriods(gaps=timedelta(days=30)))

    assert "deleted 1 rows of gaps" in said
    assert (
        await connection.fetchval("select sum(holes)::integer from normalizer.archived_row_counts")
        == 6
    )
    assert await ledger_mistakes(database) == []


async def test_a_run_that_is_resumed_meanwhile_is_kept(
    connection: asyncpg.Connection, database: Database
) -> None:
    keep = msgspec.structs.replace(WEEK, jobs=timedelta(days=30))
    await backfill_events(database, raw_event(0))
    await connection.execute("update normalizer.jobs set ended_at = $1", OLD)
    await connection.execute("update normalizer.events set recorded_at = $1", OLD)

    async with (
        connected(database) as runner,
        connected(database) as watcher,
        asyncio.TaskGroup() as tasks,
        runner.transaction(),
    ):
        await runner.execute("update normalizer.jobs set state = 'running', ended_at = null")
        cleaning = tasks.create_task(run(connection, keep), name="clean")
        await wait_for_lock(watcher)

    assert not any("runs of jobs" in line for line in cleaning.result())
    for table in ("jobs", "job_parts", "job_batches"):
        assert await connection.fetchval(f"select count(*) from normalizer.{table}") == 1


_REFUSE_DELETES: Final = """
    create function public.refuse() returns trigger language plpgsql as
        $$ begin raise exception 'stays'; end $$;
    create trigger refuse before delete on normalizer.events
        for each row execute function public.refuse()
"""

_TEN_THOUSAND_HOURLY: Final = """
    insert into normalizer.events (event_id, execution_id, event_type, status, created_at,
                                   recorded_at)
    select number, 1, 'step.enter', 'STARTED', at, at
    from   generate_series(1, 10000) as number
    cross join lateral (select $1::timestamptz + number * interval '1 minute') as times (at)
"""

EVENTS_READ: Final = """
    select seq_tup_read + idx_tup_fetch
    from   pg_stat_xact_user_tables
    where  relid = 'normalizer.events'::regclass
"""

_SLOW: Final = """
    create function public.slow() returns trigger language plpgsql as
        $$ begin perform pg_sleep(case when old.execution_id = 7 then 3 else 0.05 end);
           return null; end $$;
    create trigger slow after delete on {} for each row execute function public.slow()
"""

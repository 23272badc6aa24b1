"""Rules that changed, brought to what is stored: the dry run says what the run then does."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from normalizer.core.raw_record import RawRecord
from normalizer.envelope import RULES_VERSION, Envelope, Normalized, Rejected
from normalizer.jobs import renormalize
from normalizer.jobs.dry_run import rewrite_dry_run
from normalizer.jobs.dry_run.backfill_dry_run import BackfillDryRun
from normalizer.jobs.dry_run.diff import DryRunDiff, RowChange, find_changed_fields
from normalizer.jobs.dry_run.rewrite_dry_run import RewriteDryRun
from normalizer.jobs.engine import id_ranges
from normalizer.jobs.engine.job_spec import JobSpec
from normalizer.jobs.engine.run_progress import RunResult
from normalizer.jobs.renormalize import RenormalizeSelection, RewriteJob, renormalize_plan
from normalizer.jobs.rewritten_page import LOCK_OUTDATED_ROWS_SQL, READ_OUTDATED_ROWS_SQL
from normalizer.jobs.sources import row_pages
from normalizer.jobs.sources.file_source import FileSource
from tests.support.factories import raw_event, snowflake
from tests.support.job_runs import (
    NORMALIZE,
    backfill_events,
    backfill_files,
    job_settings,
    ledger_mistakes,
    ndjson,
    record_lines,
    runner,
    simulated_records,
    table_contents,
    write_file,
)
from tests.support.stack import Database
from tests.support.table_rows import connected, execute, stored_events

NEXT = RULES_VERSION + 1


def changed_rules(record: RawRecord) -> tuple[Normalized, ...]:
    """The next version: a failed call is an ERROR, and step `poison` is rejected."""

    def changed(outcome: Normalized) -> Normalized:
        if not isinstance(outcome, Envelope):
            return outcome
        if outcome.step == "poison":
            return Rejected(reason="not_an_event", detail="rejected by the next rules")
        if outcome.event_type == "call.done" and outcome.status == "FAILED":
            outcome = msgspec.structs.replace(outcome, status="ERROR")
        return msgspec.structs.replace(outcome, normalizer_version=NEXT)

    return tuple(map(changed, NORMALIZE(record)))


async def renormalized(
    database: Database,
    normalize: Callable[[RawRecord], tuple[Normalized, ...]] = changed_rules,
    **selection: Any,
) -> RunResult:
    spec = JobSpec(kind="renormalize", source="events", options={"s": str(selection)})
    plan = renormalize_plan(
        RenormalizeSelection(**selection),
        normalize,
        find=LOCK_OUTDATED_ROWS_SQL,
        rules_version=NEXT,
    )
    return await RewriteJob(runner(job_settings(database), spec), plan).run()


async def dry_run(database: Database, **selection: Any) -> tuple[DryRunDiff, list[RowChange]]:
    changes: list[RowChange] = []
    diff = DryRunDiff(changes.append)
    plan = renormalize_plan(
        RenormalizeSelection(**selection),
        changed_rules,
        find=READ_OUTDATED_ROWS_SQL,
        rules_version=NEXT,
    )
    await RewriteDryRun(database.url, plan, diff).run()
    return diff, changes


def events(count: int, id_at: Callable[[int], int] = snowflake) -> bytes:
    """Calls, every third of them failed."""
    statuses = ("FAILED", "COMPLETED", "ERROR")
    return ndjson(
        *(
            raw_event(n, event_id=id_at(n), status=statuses[n % 3], meta={"n": n})
            for n in range(count)
        )
    )


async def rejections(database: Database) -> list[tuple[Any, ...]]:
    """What the runs list as rejected."""
    async with connected(database) as connection:
        listed = "select event_id, reason, detail from normalizer.job_rejections"
        return [tuple(row) for row in await connection.fetch(listed)]


@pytest.mark.every_postgres(oldest_in_soak=True)
async def test_the_dry_run_says_row_for_row_what_the_run_then_changes(
    database: Database, tmp_path: Any
) -> None:
    await backfill_files(database, write_file(tmp_path / "file.zst", events(1_100)))
    async with connected(database) as connection:
        before = {event.event_id: event for event in await stored_events(connection)}
        untouched = await table_contents(connection)
        diff, changes = await dry_run(database)
        assert await table_contents(connection) == untouched

        verdict = await renormalized(database)

        after = {event.event_id: event for event in await stored_events(connection)}
        counted = await connection.fetch(
            "select status, sum(events)::bigint from projector.attempts_by_status group by 1"
        )
    platform_outcome = {
        str(event_id): find_changed_fields(event, after[event_id])
        for event_id, event in before.items()
        if event != after[event_id]
    }
    assert {change.event_id: change.fields for change in changes} == platform_outcome
    assert len(platform_outcome) == 367
    assert diff._fields["changed"]["status"].counts == {('"FAILED"', '"ERROR"'): 367}
    assert (verdict.totals.changed, verdict.totals.unchanged) == (367, 1_100 - 367)
    assert {after[int(event_id)].normalizer_version for event_id in platform_outcome} == {NEXT}
    assert {tuple(row) for row in counted} == {("COMPLETED", 367), ("ERROR", 733)}
    assert after.keys() == before.keys()
    assert await ledger_mistakes(database) == []


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every row counts as large. How many rows each page had."""
    sizes: list[int] = []

    async def noted(*arguments: Any) -> tuple[list[Any], bool]:
        rows, are_all = await row_pages.fetch_page(*arguments)
        sizes.append(len(rows))
        return rows, are_all

    monkeypatch.setattr(row_pages, "BYTES_PER_PAGE", 0)
    monkeypatch.setattr(id_ranges, "fetch_page", noted)
    return sizes


async def test_large_rows_are_in_memory_a_few_at_a_time(
    database: Database, tmp_path: Any, short_pages: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their ids have no gap: the next page, or chunk, begins with the very next one."""
    await backfill_files(database, write_file(tmp_path / "file.zst", events(300, (1_000).__add__)))
    for module in (renormalize, rewrite_dry_run):
        monkeypatch.setattr(module, "ROWS_PER_CHUNK", 100)

    diff, changes = await dry_run(database)
    pages = len(short_pages)
    verdict = await renormalized(database)

    assert sum(short_pages[:pages]) == sum(short_pages[pages:]) == 300
    assert max(short_pages) == row_pages.ROWS_IN_FIRST_FETCH
    assert diff._fields["changed"]["status"].counts == {('"FAILED"', '"ERROR"'): 100}
    assert len({change.event_id for change in changes}) == 100
    assert (verdict.totals.changed, verdict.totals.unchanged) == (100, 200)
    assert await ledger_mistakes(database) == []


async def test_a_second_run_changes_nothing(database: Database, tmp_path: Any) -> None:
    await backfill_files(database, write_file(tmp_path / "file.zst", events(30)))
    await renormalized(database)

    again = await renormalized(database)

    assert (again.run, again.totals.changed, again.totals.unchanged) == (2, 0, 20)


async def test_todays_rules_change_no_row_of_their_own(database: Database, tmp_path: Any) -> None:
    """Everything that the simulator sends, including merged rows and collided ids, reads the same
    again.
    """
    await backfill_files(
        database, write_file(tmp_path / "f.zst", record_lines(simulated_records(1_500)))
    )
    async with connected(database) as connection:
        before = await table_contents(connection)

        verdict = await renormalized(database, NORMALIZE)

        changed = {row["event_id"] for row in (await table_contents(connection))["rows"]}
        assert await table_contents(connection) == before, changed
    assert verdict.totals.changed == 0
    assert verdict.totals.rejected == 0
    assert verdict.totals.unchanged > 1_100


async def test_rows_that_would_be_rejected_stay_and_are_listed(database: Database) -> None:
    await backfill_events(database, raw_event(0, step="fetch"), raw_event(1, step="poison"))

    diff, _ = await dry_run(database)
    verdict = await renormalized(database)

    async with connected(database) as connection:
        kept = await stored_events(connection)
    assert (diff.counts["rejected"], verdict.totals.rejected) == (1, 1)
    assert [row[:2] for row in await rejections(database)] == [(snowflake(1), "not_an_event")]
    assert {event.step for event in kept} == {"fetch", "poison"}


@pytest.mark.usefixtures("short_pages")
@pytest.mark.parametrize(("by", "code"), [("a constraint", ""), ("a projection", ": 22012")])
async def test_a_row_that_the_database_refuses_stays_and_the_others_change(
    database: Database, tmp_path: Any, by: str, code: str
) -> None:
    await backfill_files(database, write_file(tmp_path / "file.zst", events(30)))
    bad = snowflake(24)

    def broken(record: RawRecord) -> tuple[Normalized, ...]:
        (outcome,) = changed_rules(record)
        assert isinstance(outcome, Envelope)
        is_bad = by == "a constraint" and outcome.event_id == bad
        return (msgspec.structs.replace(outcome, attempts=-1) if is_bad else outcome,)

    if by == "a projection":
        await execute(
            database,
            f"""
            create function projector.break_one() returns trigger language plpgsql
            set search_path = pg_catalog as $$
            begin
                if new.event_id = {bad} then perform 1 / 0; end if;
                return new;
            end
            $$;
            create trigger break_one before update on normalizer.events
            for each row execute function projector.break_one();
            """,
        )

    async with asyncio.timeout(20):
        verdict = await renormalized(database, broken)

    assert (verdict.state, verdict.totals.changed, verdict.totals.rejected) == ("complete", 9, 1)
    ((event_id, reason, detail),) = await rejections(database)
    assert (event_id, reason) == (bad, "rejected_by_database")
    assert code in detail


@pytest.mark.parametrize(
    ("selection", "changed"),
    [({"shape": "executor"}, 10), ({"shape": "worker"}, 0), ({"rule": "status_unmapped"}, 0)],
)
async def test_only_what_was_selected_is_read_again(
    database: Database, tmp_path: Any, selection: dict[str, Any], changed: int
) -> None:
    await backfill_files(database, write_file(tmp_path / "file.zst", events(30)))

    verdict = await renormalized(database, **selection)

    assert verdict.totals.changed == changed


async def test_rows_inserted_by_hand_are_left_alone(database: Database) -> None:
    async with connected(database) as connection:
        await connection.execute(
            "insert into normalizer.events (execution_id, event_type, status) "
            "values (1, 'call.done', 'FAILED')"
        )

    verdict = await renormalized(database)

    assert verdict.totals.records == 0


async def test_a_backfill_leaves_rows_of_older_rules_and_its_dry_run_says_so(
    database: Database, tmp_path: Any
) -> None:
    path = write_file(tmp_path / "file.zst", events(30))
    await backfill_files(database, path)
    diff = DryRunDiff()

    async with BackfillDryRun(
        database.url,
        FileSource([path]),
        changed_rules,
        diff,
        batch_rows=7,
        rules_version=NEXT,
    ) as trial:
        await trial.run()

    assert (diff.counts["unchanged"], diff.counts["new"]) == (30, 0)
    assert trial.stale._fields["changed"]["status"].counts == {('"FAILED"', '"ERROR"'): 10}

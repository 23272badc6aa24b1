"""Rules that changed, brought to what is stored: the dry run says what the run then does."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from normalizer.core.record import RawRecord
from normalizer.envelope import RULES_VERSION, Envelope, Outcome, Rejected
from normalizer.jobs import chunks, pages
from normalizer.jobs.asked import Asked
from normalizer.jobs.diff import Change, Diff, changes_between
from normalizer.jobs.dryrun import DryRun
from normalizer.jobs.files import FileSource
from normalizer.jobs.renormalise import Renormalise, RenormaliseDryRun, Selection
from normalizer.jobs.reporting import Verdict
from tests.factories import raw_event, snowflake
from tests.replays import (
    NORMALIZE,
    backfill_files,
    contents,
    found_wrong,
    played,
    player,
    record_lines,
    settings_of,
    written,
)
from tests.stack import Database
from tests.tables import connected, stored_events

NEXT = RULES_VERSION + 1


def changed_rules(record: RawRecord) -> tuple[Outcome, ...]:
    """The next version: a failed call is an ERROR, and step `poison` is refused."""

    def changed(outcome: Outcome) -> Outcome:
        if not isinstance(outcome, Envelope):
            return outcome
        if outcome.step == "poison":
            return Rejected(reason="not_an_event", detail="refused by the next rules")
        if outcome.event_type == "call.done" and outcome.status == "FAILED":
            outcome = msgspec.structs.replace(outcome, status="ERROR")
        return msgspec.structs.replace(outcome, normalizer_version=NEXT)

    return tuple(map(changed, NORMALIZE(record)))


async def renormalised(
    database: Database,
    normalize: Callable[[RawRecord], tuple[Outcome, ...]] = changed_rules,
    **selection: Any,
) -> Verdict:
    asked = Asked(kind="renormalise", source="events", options={"s": str(selection)})
    flow = Renormalise(
        player(settings_of(database), asked),
        Selection(**selection),
        normalize,
        rules_version=NEXT,
    )
    return await flow.run()


async def dry_run(database: Database, **selection: Any) -> tuple[Diff, list[Change]]:
    changes: list[Change] = []
    diff = Diff(changes.append)
    await RenormaliseDryRun(
        database.url, Selection(**selection), changed_rules, diff, rules_version=NEXT
    ).run()
    return diff, changes


def events(count: int, id_of: Callable[[int], int] = snowflake) -> bytes:
    """Calls, every third of them failed."""
    told = (
        raw_event(
            number,
            event_id=id_of(number),
            status=("FAILED", "COMPLETED", "ERROR")[number % 3],
            meta={"n": number},
        )
        for number in range(count)
    )
    return b"".join(msgspec.json.encode(event) + b"\n" for event in told)


@pytest.mark.every_postgres
async def test_the_dry_run_says_row_for_row_what_the_run_then_changes(
    database: Database, tmp_path: Any
) -> None:
    await backfill_files(database, written(tmp_path / "file.zst", events(2_500)))
    async with connected(database) as connection:
        before = {event.event_id: event for event in await stored_events(connection)}
        untouched = await contents(connection)
        diff, changes = await dry_run(database)
        assert await contents(connection) == untouched

        verdict = await renormalised(database)

        after = {event.event_id: event for event in await stored_events(connection)}
        counted = await connection.fetch(
            "select status, sum(events)::bigint from projector.attempts_by_status group by 1"
        )
    really = {
        str(event_id): changes_between(event, after[event_id])
        for event_id, event in before.items()
        if event != after[event_id]
    }
    assert {change.event_id: change.fields for change in changes} == really
    assert len(really) == 834
    assert diff.counts("changed", "status") == {('"FAILED"', '"ERROR"'): 834}
    assert (verdict.totals.changed, verdict.totals.unchanged) == (834, 2_500 - 834)
    assert {after[int(event_id)].normalizer_version for event_id in really} == {NEXT}
    assert {tuple(row) for row in counted} == {("COMPLETED", 833), ("ERROR", 1_667)}
    assert after.keys() == before.keys()
    assert await found_wrong(database) == []


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every row counts as large. How many rows each page had."""
    sizes: list[int] = []

    async def noted(*asked: Any) -> tuple[list[Any], bool]:
        rows, are_all = await pages.fetch_page(*asked)
        sizes.append(len(rows))
        return rows, are_all

    monkeypatch.setattr(pages, "BYTES_A_PAGE", 0)
    monkeypatch.setattr(chunks, "fetch_page", noted)
    return sizes


async def test_large_rows_are_in_memory_a_few_at_a_time(
    database: Database, tmp_path: Any, short_pages: list[int]
) -> None:
    """Their ids have no gap: the next page, or chunk, begins with the very next one."""
    await backfill_files(database, written(tmp_path / "file.zst", events(1_500, (1_000).__add__)))

    diff, changes = await dry_run(database)
    asked = len(short_pages)
    verdict = await renormalised(database)

    assert sum(short_pages[:asked]) == sum(short_pages[asked:]) == 1_500
    assert max(short_pages) == pages.FIRST_ROWS
    assert diff.counts("changed", "status") == {('"FAILED"', '"ERROR"'): 500}
    assert len({change.event_id for change in changes}) == 500
    assert (verdict.totals.changed, verdict.totals.unchanged) == (500, 1_000)
    assert await found_wrong(database) == []


@pytest.mark.usefixtures("short_pages")
async def test_stopped_between_two_pages_the_same_command_goes_on_there(
    database: Database, tmp_path: Any
) -> None:
    await backfill_files(database, written(tmp_path / "file.zst", events(90)))
    seen: list[RawRecord] = []
    asked = Asked(kind="renormalise", source="events")
    first, then = (player(settings_of(database), asked) for _ in range(2))

    def stopping(record: RawRecord) -> tuple[Outcome, ...]:
        seen.append(record)
        if len(seen) == pages.FIRST_ROWS + 1:
            first.stopping.set()
        return changed_rules(record)

    stopped, ended = [
        await Renormalise(each, Selection(), stopping, rules_version=NEXT).run()
        for each in (first, then)
    ]

    async with connected(database) as connection:
        statuses = {event.status for event in await stored_events(connection)}
    assert (stopped.state, stopped.totals.records) == ("stopped", 2 * pages.FIRST_ROWS)
    assert (ended.state, ended.run, ended.totals.records) == ("complete", 1, 90)
    assert (ended.totals.changed, ended.totals.unchanged) == (30, 60)
    assert len(seen) == 90
    assert statuses == {"COMPLETED", "ERROR"}
    assert await found_wrong(database) == []


@pytest.mark.usefixtures("short_pages")
async def test_a_rate_is_of_rows_however_many_pages_they_take(
    database: Database, tmp_path: Any
) -> None:
    await backfill_files(database, written(tmp_path / "file.zst", events(90)))
    asked = Asked(kind="renormalise", source="events")
    paced = player(settings_of(database), asked, max_rate=200)

    verdict = await Renormalise(paced, Selection(), changed_rules, rules_version=NEXT).run()

    # Ninety rows and the wait before the first; an empty bucket or a short page is no hundred.
    assert verdict.totals.records == 90
    assert 0.4 < paced.pace.held_s["max_rate"] < 2


async def test_a_second_run_changes_nothing(database: Database, tmp_path: Any) -> None:
    await backfill_files(database, written(tmp_path / "file.zst", events(30)))
    await renormalised(database)

    again = await renormalised(database)

    assert (again.run, again.totals.changed, again.totals.unchanged) == (2, 0, 20)


async def test_todays_rules_change_no_row_of_their_own(database: Database, tmp_path: Any) -> None:
    """Whatever the simulator sends, joined rows and collided ids too, reads the same again."""
    await backfill_files(database, written(tmp_path / "f.zst", record_lines(played(20_000))))
    async with connected(database) as connection:
        before = await contents(connection)

        verdict = await renormalised(database, NORMALIZE)

        changed = {row["event_id"] for row in (await contents(connection))["rows"]}
        assert await contents(connection) == before, changed
    assert verdict.totals.changed == 0
    assert verdict.totals.refused == 0
    assert verdict.totals.unchanged > 15_000


async def test_what_would_be_refused_stays_and_is_listed(database: Database, tmp_path: Any) -> None:
    lines = b"".join(
        msgspec.json.encode(raw_event(number, step=step)) + b"\n"
        for number, step in enumerate(("fetch", "poison"))
    )
    await backfill_files(database, written(tmp_path / "file.ndjson", lines))

    diff, _ = await dry_run(database)
    verdict = await renormalised(database)

    async with connected(database) as connection:
        listed = await connection.fetch("select event_id, reason from normalizer.job_refusal")
        kept = await stored_events(connection)
    assert (diff.count("refused"), verdict.totals.refused) == (1, 1)
    assert [tuple(row) for row in listed] == [(snowflake(1), "not_an_event")]
    assert {event.step for event in kept} == {"fetch", "poison"}


@pytest.mark.usefixtures("short_pages")
async def test_a_row_that_the_database_refuses_stays_and_the_others_change(
    database: Database, tmp_path: Any
) -> None:
    await backfill_files(database, written(tmp_path / "file.zst", events(30)))
    bad = snowflake(24)

    def broken(record: RawRecord) -> tuple[Outcome, ...]:
        (outcome,) = changed_rules(record)
        if isinstance(outcome, Envelope) and outcome.event_id == bad:
            outcome = msgspec.structs.replace(outcome, attempts=-1)
        return (outcome,)

    verdict = await renormalised(database, broken)

    async with connected(database) as connection:
        listed = await connection.fetch("select event_id, reason from normalizer.job_refusal")
    assert (verdict.totals.changed, verdict.totals.refused) == (9, 1)
    assert [tuple(row) for row in listed] == [(bad, "rejected_by_database")]


@pytest.mark.parametrize(
    ("selection", "changed"),
    [({"shape": "executor"}, 10), ({"shape": "worker"}, 0), ({"rule": "status_unmapped"}, 0)],
)
async def test_only_what_was_selected_is_read_again(
    database: Database, tmp_path: Any, selection: dict[str, Any], changed: int
) -> None:
    await backfill_files(database, written(tmp_path / "file.zst", events(30)))

    verdict = await renormalised(database, **selection)

    assert verdict.totals.changed == changed


async def test_rows_inserted_by_hand_are_left_alone(database: Database) -> None:
    async with connected(database) as connection:
        await connection.execute(
            "insert into normalizer.events (execution_id, event_type, status) "
            "values (1, 'call.done', 'FAILED')"
        )

    verdict = await renormalised(database)

    assert verdict.totals.records == 0


async def test_a_backfill_leaves_rows_of_older_rules_and_its_dry_run_says_so(
    database: Database, tmp_path: Any
) -> None:
    path = written(tmp_path / "file.zst", events(30))
    await backfill_files(database, path)
    diff = Diff()

    async with DryRun(
        database.url, FileSource([path]), changed_rules, diff, batch_rows=7, rules_version=NEXT
    ) as trial:
        await trial.run()

    assert (diff.count("unchanged"), diff.count("new")) == (30, 0)
    assert trial.stale.counts("changed", "status") == {('"FAILED"', '"ERROR"'): 10}

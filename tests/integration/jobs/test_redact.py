"""`normalizer redact`: secrets that older rules stored go from every place; projections agree."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.jobs import renormalize
from normalizer.jobs.engine.job_spec import JobSpec
from normalizer.jobs.engine.run_progress import RunResult
from normalizer.jobs.redact import RedactDryRun, RedactedCounts, RedactJob
from normalizer.store.session import Session
from projector.maintenance.maintain import RetentionPeriods, maintain
from tests.integration.jobs.test_forget import counts, where
from tests.support.factories import envelope, make_batch, rejected
from tests.support.job_runs import job_settings, ledger_mistakes, runner
from tests.support.stack import Database
from tests.support.table_rows import (
    claimed,
    connected,
    count,
    everything,
    insert_row,
    open_store,
    wait_for_lock,
)
from tests.support.view_rows import differences

SECRET: Final = "eyJ" + "hbGciOiJIUzINiJ" * 3 + ".eyJzdWIiOiIxIn.clnbmFdXJl"
"""A token that no present rule would let in, stored as it came. Without a digit: classes keep it.

"""
PASSWORD: Final = "hunter2hunter2"
NOW: Final = datetime.now(UTC)
OLD: Final = NOW - timedelta(days=100)


def secretive(number: int, **fields: Any) -> Any:
    """A failed call that says its secrets everywhere, as a row of older rules."""
    return envelope(
        number,
        **{
            "status": "FAILED",
            "created_at": NOW,
            "recorded_at": NOW,
            "execution_id": 1000 + number % 3,
            "command_id": f"{number}:fetch",
            "error": f"rejected: {SECRET}",
            "context": msgspec.json.encode({"password": PASSWORD, "n": number}),
            "extra": msgspec.json.encode(
                {"token": PASSWORD, "conflicting_values": {"error": [SECRET]}}
            ),
            "headers": msgspec.json.encode({"authorization": f"Bearer {PASSWORD}"}),
            "coercions": msgspec.json.encode(
                [{"rule": "status_overruled", "field": "status", "from": f"url {SECRET}"}]
            ),
        }
        | fields,
    )


def clean(number: int) -> Any:
    kept = {"context": b'{"password": "[REDACTED]"}', "error": "refused: no"}
    return envelope(number, created_at=NOW, recorded_at=NOW, **kept)


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Rows with and without secrets, some archived, and a rejection that quotes one."""
    aged = {"created_at": OLD, "recorded_at": OLD}
    rows = [
        *map(secretive, range(4)),
        *(secretive(n, execution_id=2_000 + n, **aged) for n in range(4, 6)),
        clean(6),
        clean(7),
    ]
    async with open_store(database) as store:
        claim = await claimed(store)
        await store.write(make_batch(*rows, rejected(detail=f"got {SECRET}"), claim=claim))
    async with connected(database) as made:
        await made.execute("set search_path = projector, normalizer, public; set timezone = 'UTC'")
        await made.execute("update normalizer.events set recorded_at = created_at")
        async for _ in maintain(made, RetentionPeriods(events=timedelta(days=7)), dry_run=False):
            pass
        yield made


async def redacted(database: Database) -> tuple[RunResult, RedactedCounts]:
    spec = JobSpec(kind="redact", source="everything")
    run = RedactJob(runner(job_settings(database), spec), Sanitizer())
    return await run.run(), run.counts


async def test_secrets_leave_every_table_and_projections_agree(
    connection: asyncpg.Connection, database: Database
) -> None:
    holding = await where(connection, SECRET)
    assert {
        *("normalizer.events", "normalizer.quarantine", "projector.call_facts"),
        "projector.error_hours",
    } <= holding
    before = await everything(connection)

    trial = RedactDryRun(database.url, Sanitizer())
    await trial.run()
    assert await everything(connection) == before
    verdict, places = await redacted(database)

    assert await where(connection, SECRET) == await where(connection, PASSWORD) == set()
    assert await ledger_mistakes(database) == []
    assert await count(connection, "projector.divergences where ended_at is null") == 0
    assert (verdict.state, verdict.totals.changed, verdict.totals.unchanged) == ("complete", 4, 2)
    assert trial.counts == {
        **{f"normalizer.events.{name}": 4 for name in ("error", "context", "extra", "headers")},
        "normalizer.events.coercions": 4,
        "normalizer.quarantine.detail": 1,
        "projector.error_hours.error_class": 3,
    }
    assert places["normalizer.quarantine.detail"] == trial.counts["normalizer.quarantine.detail"]
    assert places["projector.error_hours.error_class"] <= 3
    again, nothing = await redacted(database)
    assert (again.totals.changed, again.totals.unchanged, nothing) == (0, 6, {})


async def test_killed_at_any_step_it_ends_the_same(
    connection: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run dies after the first transaction of its kind that changed something."""
    monkeypatch.setattr(renormalize, "ROWS_PER_CHUNK", 2)
    before = await counts(connection)
    page, fetch = RedactJob._rewrite, Session.fetch
    dies_in: list[str] = []

    async def after_a_page(self: RedactJob, *arguments: Any) -> Any:
        done = await page(self, *arguments)
        if dies_in == ["page"]:
            raise KeyboardInterrupt
        return done

    async def after_a_statement(self: Any, statement: str, *values: Any) -> Any:
        done = await fetch(self, statement, *values)
        if dies_in and dies_in[0] in statement:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(RedactJob, "_rewrite", after_a_page)
    monkeypatch.setattr(Session, "fetch", after_a_statement)
    for moment in ("page", "update normalizer.quarantine", "rename_counter_keys"):
        dies_in = [moment]
        with pytest.raises(KeyboardInterrupt):
            await redacted(database)
        if moment == "page":
            assert await ledger_mistakes(database) == []
    assert await where(connection, SECRET) <= {"projector.error_hours"}
    dies_in = []
    verdict, _ = await redacted(database)

    assert (verdict.run, verdict.state) == (1, "complete")
    assert (verdict.totals.changed, verdict.totals.unchanged) == (4, 2)
    assert await where(connection, SECRET) == await where(connection, PASSWORD) == set()
    assert await ledger_mistakes(database) == []
    changed = differences(await counts(connection), before)
    assert [view for view in changed if "error" not in view] == []


async def test_a_row_that_is_reported_again_meanwhile_keeps_what_it_was_reported(
    connection: asyncpg.Connection, database: Database
) -> None:
    """Only rows with a secret are locked, and what is rewritten is what is there by then."""
    async with connected(database) as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(
            """
            update normalizer.events
            set    context = context || '{"more": 1}'
            where  error like '%eyJ%' and source_offset = 0
            """
        )
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(redacted(database), name="redact")
            await wait_for_lock(connection, "normalizer redact")
            await transaction.commit()
        verdict, _ = run.result()
        kept = await writer.fetchval(
            "select context::text from normalizer.events where source_offset = 0"
        )

    assert (verdict.state, verdict.totals.changed) == ("complete", 4)
    assert msgspec.json.decode(kept) == {"n": 0, "more": 1, "password": "[REDACTED]"}
    assert await ledger_mistakes(database) == []


async def test_secrets_leave_the_texts_of_jobs(database: Database) -> None:
    async with connected(database) as connection:
        said = f"backfill table query={SECRET}"
        await insert_row(connection, "normalizer.jobs", spec=said, state="failed", reason=said)

        _, places = await redacted(database)

        assert await where(connection, SECRET) == set()
    assert places == {"normalizer.jobs.spec": 1, "normalizer.jobs.reason": 1}

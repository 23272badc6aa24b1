"""Rejected records once more: what comes through, what stays, what is recorded, what is never."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import pytest

from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Normalized, Rejected
from normalizer.jobs import redrive
from normalizer.jobs.engine.job_spec import JobSpec
from normalizer.jobs.engine.run_progress import RunResult
from normalizer.jobs.redrive import QuarantineSource, RedriveSelection, build_redrive_backfill
from normalizer.jobs.sources.field_defaults import FieldDefaults
from normalizer.jobs.sources.file_source import FileSource
from tests.support.factories import raw_event
from tests.support.job_runs import (
    NORMALIZE,
    backfill_events,
    backfill_files,
    job_settings,
    ledger_mistakes,
    make_backfill,
    ndjson,
    run_dry,
    runner,
    table_contents,
    write_file,
)
from tests.support.stack import Cluster, Database
from tests.support.table_rows import connected, execute

TOPIC = "noetl.events"


def strict(record: RawRecord) -> tuple[Normalized, ...]:
    """Rules with a mistake: they refuse odd numbers."""
    return tuple(
        Rejected(reason="invalid_id", detail="an odd number", index=index)
        if b'"n":' in (record.value or b"") and _number(record) % 2
        else outcome
        for index, outcome in enumerate(NORMALIZE(record))
    )


def _number(record: RawRecord) -> int:
    number: int = msgspec.json.decode(record.value or b"")["context"]["n"]
    return number


def lines(count: int) -> bytes:
    """Records as kcat prints them. Every fifth has a header, and isn't an event."""
    values = [{"no": "event"} if n % 5 == 0 else raw_event(n) for n in range(count)]
    always = {"topic": TOPIC, "key": "1000", "headers": ["source", "test"]}
    return ndjson(
        *(
            {"partition": n % 3, "offset": n, "ts": 1_764_000_000_000 + n}
            | {"payload": msgspec.json.encode(value).decode()}
            | always
            for n, value in enumerate(values)
        )
    )


async def rejected(database: Database, tmp_path: Path, count: int = 30) -> None:
    """Fill the quarantine by the rules with the mistake."""
    path = write_file(tmp_path / "file.zst", lines(count))
    await make_backfill(job_settings(database), FileSource([path]), "f", normalize=strict).run()


async def redriven(database: Database, normalize: Any = NORMALIZE, **selection: Any) -> RunResult:
    defaults = FieldDefaults(selection.pop("defaults", {}))
    source = QuarantineSource(database.url, RedriveSelection(**selection), defaults=defaults)
    return await redriven_from(source, database, normalize, **selection)


async def redriven_from(
    source: QuarantineSource, database: Database, normalize: Any = NORMALIZE, **selection: Any
) -> RunResult:
    spec = JobSpec(kind="redrive", source="quarantine", options={"s": str(selection)})
    flow = build_redrive_backfill(runner(job_settings(database), spec), source, normalize)
    return await flow.run()


async def tries(database: Database) -> list[tuple[Any, ...]]:
    async with connected(database) as connection:
        rows = await connection.fetch(
            """
            select   entry.source_offset, tried.outcome, tried.tried_by <> '' as said,
                     entry.redriven_at is not null as through
            from     normalizer.redrive_attempts as tried
            join     normalizer.quarantine     as entry using (quarantine_id)
            order by tried.tried_at, entry.source_offset
            """
        )
    return [tuple(row) for row in rows]


@contextlib.asynccontextmanager
async def as_user(database: Database, *roles: str) -> AsyncIterator[Database]:
    """The database as a user sees it who has these roles and nothing else."""
    name, password = f"user_{secrets.token_hex(4)}", secrets.token_hex(8)
    async with connected(database) as connection:
        await connection.execute(f"create user {name} password '{password}'")
        for role in roles:
            await connection.execute(f"grant {role} to {name}")
        address = urlsplit(database.url)
        host = f"{name}:{password}@{address.hostname}:{address.port}"
        url = urlunsplit(address._replace(netloc=host))
        try:
            yield msgspec.structs.replace(database, url=url)
        finally:
            await connection.execute(f"drop user {name}")


@pytest.mark.every_postgres(oldest_in_soak=True)
async def test_a_user_with_both_roles_may_redrive_and_a_writer_may_not(
    database: Database, tmp_path: Path
) -> None:
    await rejected(database, tmp_path)

    async with as_user(database, "normalizer_writer") as writer:
        denied = await redriven(writer)
    async with as_user(database, "normalizer_writer", "normalizer_redriver") as redriver:
        verdict = await redriven(redriver)

    assert (denied.state, denied.totals.outcomes) == ("failed", 0)
    assert "42501" in denied.reason
    assert (verdict.state, verdict.totals.stored, verdict.totals.rejected) == ("complete", 12, 6)


@pytest.mark.every_postgres(oldest_in_soak=True)
async def test_redriven_rows_are_as_if_they_had_never_been_rejected_and_others_stay(
    database: Database, tmp_path: Path, cluster: Cluster
) -> None:
    await rejected(database, tmp_path)

    verdict = await redriven(database)

    async with connected(database) as connection:
        by_detour = await table_contents(connection)
        entries = await connection.fetch(
            "select reason, count(*), count(redriven_at) from normalizer.quarantine group by 1"
        )
    async with cluster.database() as other:
        await backfill_files(other, tmp_path / "file.zst")
        async with connected(other) as connection:
            straight = await table_contents(connection)
    mutated = {number for number in range(30) if number % 2 and number % 5}
    assert (verdict.state, verdict.totals.stored, verdict.totals.rejected) == ("complete", 12, 6)
    assert by_detour["rows"] == straight["rows"]
    assert by_detour["counters"] == straight["counters"]
    assert {tuple(row) for row in entries} == {("invalid_id", 12, 12), ("not_an_event", 6, 0)}
    assert sorted(await tries(database)) == sorted(
        [(number, "redriven", True, True) for number in mutated]
        + [(number, "rejected", True, False) for number in range(0, 30, 5)]
    )
    assert await ledger_mistakes(database) == []


async def test_a_failed_redrive_is_not_tried_again_under_the_same_rules(
    database: Database, tmp_path: Path
) -> None:
    await rejected(database, tmp_path)
    await redriven(database)

    same = await redriven(database)
    tried_again = await redriven(database, again=True)

    assert same.totals.records == 0
    assert (tried_again.totals.records, tried_again.totals.rejected) == (6, 6)
    assert len(await tries(database)) == 12 + 6 + 6


async def test_entries_of_one_record_in_two_pages_are_tried_once_each(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redrive, "ENTRIES_PER_PAGE", 2)
    await backfill_events(database, {"events": [{"no": "event"}] * 3})

    verdict = await redriven(database)

    assert verdict.state == "complete"
    assert len(await tries(database)) == 3


class StoppedInItsFirstBatch(QuarantineSource):
    """A signal comes while the first batch is written."""

    stop: Callable[[], None]

    def entry_outcomes(self, *batch: Any) -> list[tuple[int, str, str]]:
        self.stop()
        return super().entry_outcomes(*batch)


async def test_a_limit_is_that_of_the_run_however_often_it_is_resumed(
    database: Database, tmp_path: Path
) -> None:
    await rejected(database, tmp_path)
    spec = JobSpec(kind="redrive", source="quarantine", options={"limit": "8"})
    job = runner(job_settings(database, batch_rows=3), spec)
    stopped = StoppedInItsFirstBatch(database.url, RedriveSelection(limit=8))
    stopped.stop = job.stop

    first = await build_redrive_backfill(job, stopped, NORMALIZE).run()
    job = runner(job_settings(database), spec)
    rest = QuarantineSource(database.url, RedriveSelection(limit=8))
    second = await build_redrive_backfill(job, rest, NORMALIZE).run()

    assert (first.state, first.totals.records) == ("stopped", 3)
    assert (second.state, second.run, second.totals.records) == ("complete", first.run, 8)
    assert len(await tries(database)) == 8


@pytest.mark.parametrize(
    ("selection", "records"),
    [
        ({"reason": "not_an_event"}, 6),
        ({"limit": 4}, 4),
        ({"ids": (1, 2, 3)}, 3),
        ({"shape": "worker"}, 0),
        ({"topic": "other"}, 0),
        ({"version": 99}, 0),
    ],
)
async def test_only_what_was_selected_is_tried(
    database: Database, tmp_path: Path, selection: dict[str, Any], records: int
) -> None:
    await rejected(database, tmp_path)

    verdict = await redriven(database, **selection)

    assert verdict.totals.records == records


async def test_bytes_that_are_gone_are_said_to_be(database: Database, tmp_path: Path) -> None:
    await rejected(database, tmp_path)
    async with connected(database) as connection:
        await connection.execute("delete from normalizer.quarantine_raw where source_offset < 10")
        await connection.execute(
            "update normalizer.quarantine_raw set whole = false where source_offset >= 20"
        )
    source = QuarantineSource(database.url, RedriveSelection())
    diff = await run_dry(
        database, source, source.wrap_normalize_to_skip_missing(NORMALIZE), batch_rows=5
    )

    verdict = await redriven(database)

    outcomes = {offset: outcome for offset, outcome, _, _ in await tries(database)}
    assert diff.counts["gone"] == list(outcomes.values()).count("gone") > 0
    assert diff.counts["new"] == verdict.totals.stored
    assert verdict.state == "complete"
    assert {outcome for offset, outcome in outcomes.items() if not 10 <= offset < 20} == {"gone"}
    assert outcomes[11] == "redriven"


async def test_expired_and_erased_records_stay_rejected_and_hold_up_nobody(
    database: Database, tmp_path: Path
) -> None:
    """Records below offset 10 lie before the horizon. The one at 11 is of a forgotten execution."""
    await rejected(database, tmp_path)
    await execute(
        database,
        """
        update normalizer.retention_horizon set expired_before = to_timestamp(1764000000.010);
        insert into normalizer.forgotten_executions (execution_id, who, why)
        values (4711, 'alice', 'a request');
        update normalizer.quarantine_raw
        set    value = convert_to(
                   regexp_replace(
                       convert_from(value, 'UTF8'), '"execution_id":[0-9]+', '"execution_id":4711'
                   ),
                   'UTF8'
               )
        where  source_offset = 11
        """,
    )

    verdict = await redriven(database)

    async with connected(database) as connection:
        details = await connection.fetch(
            "select distinct detail from normalizer.redrive_attempts where outcome = 'gone'"
        )
        assert await ledger_mistakes(database) == []
    outcomes = {offset: (outcome, through) for offset, outcome, _, through in await tries(database)}
    assert verdict.state == "complete", verdict.reason
    assert {outcomes[offset] for offset in outcomes if offset < 10} == {("gone", False)}
    assert outcomes[11] == ("gone", False)
    assert outcomes[13] == ("redriven", True)
    assert {row["detail"] for row in details} == {
        "it is older than the retention of events",
        "its execution is forgotten",
    }
    assert (verdict.totals.stored, verdict.totals.rejected) == (7, 4)


async def test_an_entry_that_retention_deletes_meanwhile_holds_up_nobody(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rejected(database, tmp_path)
    read_entries = QuarantineSource._next_entries

    async def read_then_deleted(source: QuarantineSource) -> list[Any]:
        entries = await read_entries(source)
        async with connected(database) as connection:
            await connection.execute("delete from normalizer.quarantine where source_offset < 10")
        return entries

    monkeypatch.setattr(QuarantineSource, "_next_entries", read_then_deleted)
    verdict = await redriven(database)

    outcomes = {offset: outcome for offset, outcome, _, _ in await tries(database)}
    assert verdict.state == "complete", verdict.reason
    assert min(outcomes) == 10
    assert outcomes[11] == "redriven"

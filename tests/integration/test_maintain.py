"""`projector maintain` lets old rows go: no count is lost, nothing comes in twice."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from normalizer.snowflake import EPOCH_MS
from projector import retention
from projector.maintain import Keep, MaintainerBusy, maintain
from projector.verify import verify
from projector.windows import Scope
from tests import shown
from tests.factories import after, batch_of, envelope, raw_event, snowflake
from tests.fold import Row, Shown
from tests.replays import backfill_files, found_wrong, tried_out, written
from tests.shown import differences, disagreements, event
from tests.stack import Database
from tests.tables import claimed, open_store, stored_events

pytestmark = pytest.mark.every_postgres

NOW: Final = datetime.now(UTC)
OLD: Final = NOW - timedelta(days=100)
SETTINGS: Final = {"search_path": "projector, normalizer, public", "TimeZone": "UTC", "jit": "off"}
WEEK: Final = Keep(events=timedelta(days=7), minutes=timedelta(days=20_000))

Run = Callable[..., Any]


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(database.admin_url, server_settings=SETTINGS)
    yield made
    await made.close()


async def run(
    connection: asyncpg.Connection, keep: Keep = WEEK, *, dry_run: bool = False
) -> list[str]:
    return [str(done) async for done in maintain(connection, keep, dry_run=dry_run)]


async def divergent(connection: asyncpg.Connection) -> dict[str, tuple[str, ...]]:
    return {
        verdict.projection: verdict.examples
        async for verdict in verify(connection, Scope())
        if verdict.verdict != "match"
    }


def id_of(moment: datetime, number: int = 0) -> int:
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
            event_id=id_of(began, numbers + 10 * execution_id + number),
            execution_id=execution_id,
            event_type=kind,
            created_at=began + timedelta(seconds=number),
            **columns,
        )
        for number, (kind, columns) in enumerate(kinds)
    ]


async def store(connection: asyncpg.Connection, rows: list[Row], ingested_at: datetime) -> None:
    await shown.insert(connection, rows)
    await connection.execute(
        "update normalizer.events set ingested_at = $1 where event_id = any($2::bigint[])",
        ingested_at,
        [row["event_id"] for row in rows],
    )


async def bucket_of(connection: asyncpg.Connection, event_id: int) -> retention.Bucket:
    buckets = await retention._attached(connection)
    return next(one for one in buckets if one.low <= event_id <= one.high)


def without_executions(views: dict[str, Shown]) -> dict[str, Shown]:
    """What is left when the executions themselves are not looked at."""
    gone = {
        "executions", "calls", "open_calls", "tries_in_order", "contradicting_executions",
        "completed_with_failures", "stuck_executions", "executions_without_end",
    }  # fmt: skip
    return {name: rows for name, rows in views.items() if name not in gone}


def as_kept(views: dict[str, Shown]) -> dict[str, Shown]:
    """Without how much is archived, which is what changes."""
    return views | {"executions": [row[:-1] for row in views["executions"]]}


async def test_it_says_first_what_it_would_do_and_does_nothing(
    connection: asyncpg.Connection,
) -> None:
    await store(connection, life(1, OLD), OLD)
    before = await everything(connection)

    said = await run(connection, dry_run=True)

    assert any(line.startswith("would close, archive and drop events_") for line in said)
    assert await everything(connection) == before


async def everything(connection: asyncpg.Connection) -> list[Any]:
    tables = await connection.fetch(
        "select schemaname || '.' || tablename from pg_tables "
        "where schemaname in ('projector', 'normalizer') order by 1"
    )
    return [
        (table, sorted(map(str, await connection.fetch(f"select * from {table}"))))
        for (table,) in tables
    ]


async def test_a_due_bucket_goes_and_every_count_stays(connection: asyncpg.Connection) -> None:
    await store(connection, life(1, OLD), OLD)
    await store(connection, life(2, NOW), NOW)
    before = await shown.shown(connection)

    said = await run(connection)

    bucket = f"events_{id_of(OLD) >> 51}"
    assert f"archived 4 events of {bucket}" in said
    assert f"dropped {bucket}" in said
    assert differences(as_kept(await shown.shown(connection)), as_kept(before)) == {}
    assert await connection.fetchval("select count(*) from normalizer.events") == 4
    assert await divergent(connection) == {}


async def test_verify_says_how_much_it_leaves_alone(connection: asyncpg.Connection) -> None:
    await store(connection, life(1, OLD), OLD)
    await run(connection)

    left_alone = {
        verdict.projection: verdict.archived async for verdict in verify(connection, Scope())
    }

    assert left_alone["event_hours"] == 4
    assert left_alone["execution_facts"] == 1


async def test_a_bucket_with_one_young_event_stays(connection: asyncpg.Connection) -> None:
    """Ids say nothing about age: a replay stores old ids today."""
    await store(connection, life(1, OLD), OLD)
    await store(connection, life(2, OLD), NOW)

    said = await run(connection)

    assert not any("archived" in line for line in said)
    assert await connection.fetchval("select count(*) from normalizer.events") == 8


async def test_no_row_comes_into_a_closed_bucket_or_changes_there(
    connection: asyncpg.Connection,
) -> None:
    await store(connection, life(1, OLD), OLD)
    bucket = await bucket_of(connection, id_of(OLD))
    await retention._close(connection, bucket)

    for change in (
        shown.insert(connection, [event(event_id=id_of(OLD, 99))]),
        shown.update(connection, [life(1, OLD)[0] | {"step": "other"}]),
    ):
        with pytest.raises(asyncpg.CheckViolationError) as refused:
            await change
        assert refused.value.constraint_name == "events_bucket_closed"
    made = await connection.fetchval("select normalizer.ensure_bucket($1::bigint)", id_of(OLD))
    assert made is None


async def test_what_a_writer_brings_for_a_bucket_that_was_closed_or_dropped_is_ignored(
    connection: asyncpg.Connection, database: Database
) -> None:
    """Also by a writer that knew the bucket; of an id that it stored, and of a new one."""
    async with open_store(database) as store:
        claim = await claimed(store)
        first = batch_of(envelope(0), envelope(1), claim=claim)
        await store.write(first)
        await connection.execute("update normalizer.events set ingested_at = $1", OLD)
        bucket = await bucket_of(connection, snowflake(0))
        await retention._close(connection, bucket)

        told_again = batch_of(
            envelope(0, worker_id="told later"), envelope(2), claim=after(claim, first)
        )
        closed = await store.write(told_again)
        said = await run(connection)
        claim = after(after(claim, first), told_again)
        today = envelope(4, event_id=id_of(NOW))
        dropped = await store.write(batch_of(envelope(3), today, claim=claim))

    assert f"dropped {bucket.name}" in said
    assert (closed.stored, closed.joined, closed.ignored) == (0, 0, 2)
    assert (dropped.stored, dropped.ignored) == (1, 1)
    assert [one.event_id for one in await stored_events(connection)] == [id_of(NOW)]
    assert await found_wrong(database) == []


async def test_a_dry_run_knows_what_retention_has_closed(
    connection: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    """Both of an event that was stored there and of one that never was."""
    old = [raw_event(number, event_id=id_of(OLD, number)) for number in range(3)]
    young = raw_event(3, event_id=id_of(NOW))
    told = b"".join(msgspec.json.encode(value) + b"\n" for value in (*old, young))
    await store(connection, [event(event_id=id_of(OLD))], OLD)
    await retention._close(connection, await bucket_of(connection, id_of(OLD)))
    path = written(tmp_path / "history.ndjson", told)

    diff = await tried_out(database, path)

    verdict = await backfill_files(database, path)
    assert (diff.count("new"), diff.count("expired")) == (1, 3)
    assert (verdict.totals.stored, verdict.totals.ignored) == (1, 3)
    assert "3 expired, for retention has closed their bucket" in "\n".join(diff.lines())


async def test_an_event_without_time_in_its_id_comes_in_again_once_it_was_deleted(
    connection: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    """A limit: no bucket of its own is closed, and nothing tells it from one that is new."""
    young = id_of(NOW)
    told = [raw_event(0, event_id=young, execution_id=one, step=f"s{one}") for one in (1, 2)]
    path = written(
        tmp_path / "history.ndjson", b"".join(msgspec.json.encode(one) + b"\n" for one in told)
    )
    first = await backfill_files(database, path)
    await connection.execute(
        "update normalizer.events set ingested_at = $1 where event_id >= $2",
        OLD,
        retention.HASHED_FROM,
    )
    said = await run(connection)

    diff = await tried_out(database, path)

    again = await backfill_files(database, path)
    assert first.totals.stored == 2
    assert "deleted 1 events of events_hashed" in said
    assert (diff.count("new"), diff.count("unchanged")) == (1, 1)
    assert (again.totals.stored, again.totals.duplicate) == (1, 1)


async def test_a_closed_bucket_that_an_event_came_into_just_before_waits(
    connection: asyncpg.Connection,
) -> None:
    await store(connection, life(1, OLD), OLD)
    bucket = await bucket_of(connection, id_of(OLD))
    await store(connection, life(2, OLD), NOW)
    await retention._close(connection, bucket)

    said = await run(connection)

    assert f"{bucket.name} is closed, and waits: an event came in just before" in said
    assert await connection.fetchval("select count(*) from normalizer.events") == 8
    assert await divergent(connection) == {}


async def test_the_ledger_explains_what_retention_took_of_a_job(
    connection: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    lines = [raw_event(number) for number in range(3)] + [{"no": "event"}]
    path = written(tmp_path / "events.jsonl", b"\n".join(map(msgspec.json.encode, lines)))
    await backfill_files(database, path)
    await connection.execute("update normalizer.events set ingested_at = $1", OLD)
    await connection.execute("update normalizer.quarantine set quarantined_at = $1", OLD)

    said = await run(connection, Keep(events=timedelta(days=7), quarantine=timedelta(days=7)))

    assert "deleted 1 quarantine entries" in said
    assert await connection.fetchval("select count(*) from normalizer.events") == 0
    assert await found_wrong(database) == []


async def test_a_dropped_bucket_is_not_made_again(connection: asyncpg.Connection) -> None:
    await store(connection, life(1, OLD), OLD)
    await run(connection)

    made = await connection.fetchval("select normalizer.ensure_bucket($1::bigint)", id_of(OLD))

    assert made is None
    assert await run(connection) == []


@pytest.mark.parametrize("stops_after", ["_close", "_archive", "_detach_now", "_detach"])
async def test_what_was_broken_off_is_finished_by_the_next_run(
    stops_after: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(connection, life(1, OLD), OLD)
    before = await shown.shown(connection)
    step = getattr(retention, stops_after)

    async def and_then_dies(*arguments: Any) -> None:
        await step(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(retention, stops_after, and_then_dies)
    with pytest.raises(KeyboardInterrupt):
        await run(connection)
    monkeypatch.undo()
    await run(connection)

    state = await connection.fetchrow("select state, events from normalizer.closed_bucket")
    assert tuple(state) == ("dropped", 4)
    assert differences(as_kept(await shown.shown(connection)), as_kept(before)) == {}


async def test_an_execution_with_events_on_both_sides_keeps_what_the_dropped_ones_said(
    connection: asyncpg.Connection,
) -> None:
    rows = life(1, OLD)
    rows[2]["event_id"], rows[3]["event_id"] = id_of(NOW, 1), id_of(NOW, 2)
    await store(connection, rows[:2], OLD)
    await store(connection, rows[2:], NOW)
    await run(connection)

    await shown.update(connection, [rows[2] | {"error": "told again"}])
    await shown.insert(connection, [event(event_id=id_of(NOW, 3), created_at=NOW)])

    execution = await connection.fetchrow("select * from projector.executions")
    call = await connection.fetchrow("select * from projector.calls")
    assert (execution["playbook"], execution["events"], execution["archived"]) == ("flow/a", 5, 2)
    assert execution["first_at"] == rows[0]["created_at"]
    assert (call["issued_at"], call["error"]) == (rows[1]["created_at"], "told again")


async def test_an_execution_without_events_is_forgotten_and_its_counts_stay(
    connection: asyncpg.Connection,
) -> None:
    keep = Keep(events=timedelta(days=7), executions=timedelta(days=7), minutes=WEEK.minutes)
    await store(connection, life(1, OLD), OLD)
    await store(connection, life(2, NOW), NOW)
    before = await shown.shown(connection)

    said = await run(connection, keep)

    assert "forgot 1 executions with their calls" in said
    after = await shown.shown(connection)
    assert [row[0] for row in after["executions"]] == [2]
    assert differences(without_executions(after), without_executions(before)) == {}
    assert await divergent(connection) == {}


async def test_old_hashed_events_are_deleted_and_their_counts_stay(
    connection: asyncpg.Connection,
) -> None:
    rows = life(1, OLD)
    for number, row in enumerate(rows):
        row["event_id"] = retention.HASHED_FROM + number
    await store(connection, rows, OLD)
    before = await shown.shown(connection)

    said = await run(connection)

    assert "deleted 4 events of events_hashed" in said
    assert await connection.fetchval("select count(*) from normalizer.events") == 0
    assert differences(as_kept(await shown.shown(connection)), as_kept(before)) == {}
    assert await divergent(connection) == {}


async def test_refusals_go_with_their_bytes_and_their_counts_stay(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute(_REFUSED, OLD)
    count = "select sum(refused)::integer from projector.quarantine_by_reason"

    said = await run(connection, Keep(quarantine=timedelta(days=7)))

    assert "deleted 1 quarantine entries" in said
    assert "deleted the bytes of 1 refused records" in said
    assert await connection.fetchval(count) == 1
    taken = await connection.fetchrow("select * from normalizer.archived_rows")
    assert (taken["source_partition"], taken["quarantined"]) == (3, 1)
    assert await divergent(connection) == {}


async def test_minutes_are_dropped_and_stay_away(connection: asyncpg.Connection) -> None:
    old, young = life(1, OLD), life(2, NOW)
    await store(connection, old, NOW)
    await store(connection, young, NOW)

    await run(connection, Keep())
    await shown.insert(connection, [event(event_id=id_of(NOW, 77), created_at=OLD)])

    minutes = await connection.fetch("select minute from projector.attempts_by_status")
    assert all(row["minute"] > NOW - timedelta(days=3) for row in minutes)
    assert len(minutes) > 0
    assert await divergent(connection) == {}


async def test_shards_of_quiet_hours_are_added_up(
    connection: asyncpg.Connection, database: Database
) -> None:
    yesterday = NOW - timedelta(days=1)
    others = [await asyncpg.connect(database.admin_url) for _ in range(3)]
    for number, other in enumerate(others, start=1):
        await other.execute("begin")
        await shown.insert(other, life(number, yesterday))
    for other in others:
        await other.execute("commit")
        await other.close()
    before = await shown.shown(connection)

    said = await run(connection, Keep())

    for table in ("event_minutes", "event_hours", "call_hours", "call_times", "execution_hours"):
        assert any(f"rows of {table} to shard 0" in line for line in said) or table == "call_times"
        shards = await connection.fetch(f"select distinct shard from projector.{table}")
        assert {row["shard"] for row in shards} <= {0}, table
    assert differences(await shown.shown(connection), before) == {}
    assert await disagreements(connection) == {}


async def test_buckets_are_made_ahead_in_every_layout(connection: asyncpg.Connection) -> None:
    said = await run(connection)

    assert sum("ahead" in line for line in said) >= 10
    for base in (id_of(NOW), id_of(NOW) * 2, 1 << 62 | id_of(NOW)):
        for ahead in range(5):
            name = f"normalizer.events_{(base >> 51) + ahead}"
            assert await connection.fetchval("select to_regclass($1::text)", name), name


async def test_one_maintains_at_a_time(connection: asyncpg.Connection, database: Database) -> None:
    other = await asyncpg.connect(database.admin_url, server_settings=SETTINGS)
    running = maintain(other, WEEK, dry_run=True)
    await anext(running)

    with pytest.raises(MaintainerBusy):
        await run(connection)

    await running.aclose()
    await other.close()
    await run(connection)


_REFUSED: Final = """
    with refused as (
        insert into normalizer.quarantine
               (reason, detail, shape, normalizer_version, source_topic, source_generation,
                source_partition, source_offset, source_index, value_bytes, batch_id,
                quarantined_at)
        values ('invalid_json', 'no JSON', '', 1, 'noetl.events', 0, 3, 4, 0, 7, 1, $1)
    )
    insert into normalizer.quarantine_raw
           (source_topic, source_generation, source_partition, source_offset, value,
            value_sha256, whole, kept_at)
    values ('noetl.events', 0, 3, 4, 'x', 'y', true, $1)
"""

"""`projector rebuild` beside everybody's work: nothing is torn, and all is as the log tells it."""

import asyncio
import contextlib
import operator
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import asyncpg
import pytest

from bench.history import make_history
from normalizer.errors import StoreUnavailable
from projector import adoption, shadow
from projector import rebuild as rebuilding
from projector.comparisons import COMPARISONS
from projector.maintain import Keep, maintain
from projector.rebuild import RebuildDiffers, RebuildPending, drop, rebuild, state_of, swap
from projector.recount import RECOUNTED, recount
from projector.report import Report
from projector.units import UNITS, Unit, unit_of
from projector.verify import verify
from projector.windows import Scope
from tests import shown
from tests.fold import Row
from tests.shown import T0, differences, disagreements, event
from tests.stack import Database
from tests.waiting import moment, until

SETTINGS: Final = {"search_path": "projector, normalizer, public", "TimeZone": "UTC", "jit": "off"}
EXECUTIONS, COUNTERS = UNITS
BY_NAME: Final = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(database.admin_url, server_settings=SETTINGS)
    yield made
    await made.close()


async def run(connection: asyncpg.Connection, unit: Unit, **options: Any) -> list[Any]:
    try:
        return [said async for said in rebuild(connection, unit, **options)]
    finally:
        await connection.execute("drop table if exists feed")


async def fill(connection: asyncpg.Connection, events: int = 4_000) -> None:
    await make_history(connection, events, until=datetime(2026, 7, 10, tzinfo=UTC))


async def tables_of(connection: asyncpg.Connection, unit: Unit) -> dict[str, int]:
    return {
        table: await connection.fetchval("select $1::text::regclass::oid::bigint", table)
        for table in unit.tables
    }


@BY_NAME
@pytest.mark.every_postgres
async def test_the_new_tables_show_what_the_log_holds_and_so_do_the_old_ones(
    unit: Unit, connection: asyncpg.Connection
) -> None:
    await fill(connection)
    before = await tables_of(connection, unit)

    await run(connection, unit)
    await swap(connection)

    after = await tables_of(connection, unit)
    assert all(after[table] != before[table] for table in unit.tables)
    await shown.insert(connection, [event(event_id=77, event_type="call.done", status="ERROR")])
    assert await disagreements(connection) == {}

    await swap(connection)
    assert await tables_of(connection, unit) == before
    await shown.update(connection, [event(event_id=77, event_type="call.error", status="FAILED")])
    assert await disagreements(connection) == {}

    await swap(connection)
    await drop(connection)
    assert await tables_of(connection, unit) == after
    await shown.delete(connection, [77])
    assert await disagreements(connection) == {}


@BY_NAME
async def test_what_was_wrong_is_right_again(unit: Unit, connection: asyncpg.Connection) -> None:
    await fill(connection)
    for table in unit.tables:
        await connection.execute(f"delete from {table}")
    assert await disagreements(connection) != {}

    said = await run(connection, unit)
    await swap(connection)

    assert await disagreements(connection) == {}
    divergent = [one for one in said if getattr(one, "verdict", "") == "divergent"]
    assert {one.projection for one in divergent} == set(unit.tables) - {"coercion_hours"}


@BY_NAME
@pytest.mark.parametrize("seed", range(3))
async def test_what_changes_while_it_is_folded_is_told_once(
    unit: Unit, seed: int, connection: asyncpg.Connection, database: Database
) -> None:
    """Rows on both sides of the frontier are changed and deleted, and ids of all ages come in."""
    chance = random.Random(seed)
    rows = {number: any_call(chance, number) for number in range(2, 1_202, 2)}
    await shown.insert(connection, list(rows.values()))
    writer = await asyncpg.connect(database.admin_url)
    rounds = 0
    async for said in rebuild(connection, unit, share=1.0):
        if isinstance(said, rebuilding.Progress) and said.folded < said.events:
            changed = [any_call(chance, number) for number in chance.sample(sorted(rows), 12)]
            await shown.update(writer, changed)
            gone = chance.sample(sorted(rows), 12)
            await shown.delete(writer, gone)
            new = [number for number in chance.sample(range(1_400), 12) if number not in rows]
            rows |= {number: any_call(chance, number) for number in new}
            await shown.insert(writer, [rows[number] for number in new])
            for number in gone:
                rows.pop(number)
            rounds += 1
    await writer.close()
    assert rounds >= 2

    await swap(connection)

    assert await disagreements(connection) == {}
    await swap(connection)
    assert await disagreements(connection) == {}


def any_call(chance: random.Random, number: int) -> Row:
    """An event of one of seven executions, of an age that its id does not tell."""
    return event(
        event_id=number,
        execution_id=chance.randrange(7),
        event_type=chance.choice("command.issued command.failed call.done playbook.failed".split()),
        status="FAILED",
        attempts=chance.randrange(3),
        command_id=f"c{chance.randrange(5)}",
        step=chance.choice(["fetch", "load"]),
        created_at=T0 + timedelta(minutes=chance.randrange(300)),
        evidence=chance.choice([212, 12]),
    )


async def test_a_batch_that_was_numbered_before_the_cut_and_written_after_it_counts_once(
    connection: asyncpg.Connection, database: Database
) -> None:
    await fill(connection)
    writer = await asyncpg.connect(database.admin_url)
    batch_id = await writer.fetchval("select nextval('normalizer.batch_id')")
    await connection.execute("select nextval('normalizer.batch_id')")
    running = rebuild(connection, COUNTERS)
    assert "cutting" in str(await anext(running))
    await anext(running)

    for event_id in (3, 1 << 50):
        await writer.execute(
            "insert into normalizer.events "
            "       (event_id, execution_id, event_type, status, batch_id, created_at) "
            "values ($1, 5, 'step.enter', 'RUNNING', $2, $3)",
            event_id,
            batch_id,
            T0,
        )
    await writer.close()
    async for _ in running:
        pass
    await swap(connection)

    assert await disagreements(connection) == {}


@BY_NAME
async def test_killed_at_any_moment_it_goes_on_and_the_live_tables_serve(
    unit: Unit, connection: asyncpg.Connection, database: Database
) -> None:
    await fill(connection, 6_000)
    for _ in range(3):
        before = await folded(connection)
        process = await start(database, unit.name, "--share", "0.02")
        await until(partial(folded, connection), is_so=partial(operator.lt, before))
        process.send_signal(signal.SIGKILL)
        await process.wait()
        assert await disagreements(connection) == {}
        await shown.insert(connection, [event(event_id=1 + await count(connection))])

    process = await start(database, unit.name, "--share", "1.0")

    assert await process.wait() == 0
    assert (await state_of(connection)) is not None
    assert await disagreements(connection) == {}


async def start(database: Database, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from projector.cli import main; main()",
        "rebuild",
        *arguments,
        env=os.environ | {"DATABASE_URL": database.admin_url},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def folded(connection: asyncpg.Connection) -> int:
    """How far the fold has come; 0 before it began."""
    state = await state_of(connection)
    return 0 if state is None else state.folded


async def count(connection: asyncpg.Connection) -> int:
    few: int = await connection.fetchval(
        "select count(*) from normalizer.events where event_id < 1000"
    )
    return few


async def test_a_cancelled_rebuild_leaves_nothing_behind(connection: asyncpg.Connection) -> None:
    await fill(connection)
    before = await tables_of(connection, EXECUTIONS)
    running = rebuild(connection, EXECUTIONS)
    for _ in range(3):
        await anext(running)
    await running.aclose()

    await drop(connection)

    assert await tables_of(connection, EXECUTIONS) == before
    assert await connection.fetchval("select to_regnamespace('projector_next')") is None
    triggers = await connection.fetch("select tgname from pg_trigger where tgname like 'next_%'")
    assert triggers == [] or {name for (name,) in triggers} <= {
        "next_follow_1_executions_fed",
        "next_follow_2_calls_fed",
    }
    await shown.insert(connection, [event(event_id=7)])
    assert await disagreements(connection) == {}


async def test_truncating_the_log_empties_what_is_being_rebuilt(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    await run(connection, EXECUTIONS)

    await connection.execute("truncate normalizer.events")
    await shown.insert(connection, [event(event_id=7, event_type="call.done", status="ERROR")])
    await run(connection, EXECUTIONS)
    await swap(connection)

    assert await disagreements(connection) == {}


async def test_tables_that_do_not_agree_with_the_log_are_not_swapped(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    await run(connection, COUNTERS)
    await connection.execute("update projector_next.event_hours set events = events + 1")

    with pytest.raises(RebuildDiffers, match="event_hours"):
        await run(connection, COUNTERS)

    assert await connection.fetchval("show enable_nestloop") == "on"
    assert await disagreements(connection) == {}


async def test_one_at_a_time_and_in_its_order(connection: asyncpg.Connection) -> None:
    await fill(connection)
    with pytest.raises(RebuildPending, match="nothing to swap"):
        await swap(connection)
    with pytest.raises(RebuildPending, match="nothing to drop"):
        await drop(connection)
    await run(connection, COUNTERS)
    with pytest.raises(RebuildPending, match="counters is being rebuilt"):
        await run(connection, EXECUTIONS)
    await swap(connection)

    with pytest.raises(RebuildPending, match="--finish or --rollback"):
        await run(connection, COUNTERS)


async def test_what_was_fed_early_is_looked_up_by_key_however_much_it_is(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    running = rebuild(connection, EXECUTIONS)
    for _ in range(3):
        await anext(running)
    await running.aclose()
    await connection.execute(
        "insert into projector_next.fed_early select * from generate_series(1, 20000);"
        "analyze projector_next.fed_early"
    )

    fed = "select * from normalizer.events where" + rebuilding.FEED.partition("where")[2]
    read = (
        "select * from projector_next.events where event_id > $1::bigint and event_id <= $2::bigint"
    )

    for statement in (fed, read):
        asked = statement.replace("$1", "0").replace("$2", str((1 << 40) - 1))
        plan = "\n".join([row[0] for row in await connection.fetch(f"explain {asked}")])
        assert "using fed_early_pkey" in plan
        assert "hashed" not in plan
        assert "Seq Scan on fed_early" not in plan


async def test_plans_know_how_the_new_tables_grow(connection: asyncpg.Connection) -> None:
    await fill(connection, 2 * rebuilding.ANALYZED_FIRST)

    await run(connection, EXECUTIONS)

    known = "select reltuples from pg_class where oid = 'projector_next.execution_facts'::regclass"
    assert await connection.fetchval(known) > 0


async def held_at_the_gate(
    connection: asyncpg.Connection, database: Database
) -> tuple[asyncpg.Connection, asyncio.Task[None]]:
    """A session that keeps the gate shut, and a rebuild whose next chunk waits there."""
    await fill(connection)
    other = await asyncpg.connect(database.admin_url)
    running = rebuild(connection, EXECUTIONS)
    await anext(running)
    await anext(running)
    await other.execute(f"select pg_advisory_lock_shared({shadow.GATE})")
    return other, asyncio.create_task(to_the_end(running))


async def test_a_chunk_that_is_given_up_is_tried_again(
    connection: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "PAUSE_S", 0.01)
    other, rest = await held_at_the_gate(connection, database)

    for _ in range(3):
        await until(partial(other.fetchval, _CANCEL_WHO_WAITS_AT_THE_GATE))
    await other.execute("select pg_advisory_unlock_all()")
    await other.close()
    await rest
    await swap(connection)

    assert await disagreements(connection) == {}


async def test_chunks_that_are_given_up_again_and_again_end_it(
    connection: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "PAUSE_S", 0.01)
    monkeypatch.setattr(rebuilding, "GIVEN_UP", 2)
    other, rest = await held_at_the_gate(connection, database)

    while not rest.done():
        await other.fetchval(_CANCEL_WHO_WAITS_AT_THE_GATE)
        await moment()
    with pytest.raises(asyncpg.QueryCanceledError):
        await rest
    await other.close()
    await connection.execute("drop table feed")

    await run(connection, EXECUTIONS)
    await swap(connection)
    assert await disagreements(connection) == {}


async def to_the_end(running: AsyncGenerator[object, None]) -> None:
    async for _ in running:
        pass


_CANCEL_WHO_WAITS_AT_THE_GATE: Final = """
    select bool_or(pg_cancel_backend(pid))
    from   pg_locks
    where  locktype = 'advisory' and mode = 'ExclusiveLock' and not granted
    and    database = (select oid from pg_database where datname = current_database())
"""


async def test_where_nothing_can_be_written_over_progress_is_noted_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    noted: list[str] = []
    report = Report(lambda _: None, every_s=0.01)

    async def see() -> bool:
        noted.append(capsys.readouterr().err)
        return "".join(noted).count("folded 3 of 12 events (25%, 9 s left)\n") > 1

    with report.noted():
        report.tell(rebuilding.Progress(3, 12, 9.0))
        await until(see)
    capsys.readouterr()
    for _ in range(3):
        report.tell(rebuilding.Progress(12, 12, 0.0))

    assert capsys.readouterr().err == "folded 12 of 12 events (100%, 0 s left)\n"


async def test_an_error_says_what_was_being_done() -> None:
    report = Report(lambda _: None)

    async def compare() -> None:
        with report.noted():
            report.tell(rebuilding.Comparing("call_facts", "the log", 3, 16))
            raise StoreUnavailable("database: too late")

    with pytest.raises(StoreUnavailable) as caught:
        await compare()

    assert str(caught.value) == (
        "database: too late, while comparing call_facts with the log (3 of 16); "
        "the same command goes on from there"
    )


async def test_retention_waits_and_what_is_archived_is_taken_over(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "ROWS_A_STEP", 20)
    keep = Keep(events=timedelta(days=1), executions=timedelta(days=1),
                minutes=timedelta(days=20_000))  # fmt: skip
    now = datetime.now(UTC)
    await make_history(connection, 2_000, until=now - timedelta(days=40))
    await make_history(connection, 2_000, until=now, first=10_000)
    # One execution begins in a bucket that goes and ends in one that stays.
    await connection.execute(
        "update normalizer.events set execution_id = $1 where execution_id = $2",
        1_000_003 * 10_001,
        1_000_003 * 5,
    )
    before = await shown.shown(connection)
    async for _ in maintain(connection, keep, dry_run=False):
        pass

    for unit in UNITS:
        await run(connection, unit)
        waits = [said async for said in maintain(connection, keep, dry_run=False)]
        assert any("retention waits" in str(said) for said in waits)
        await swap(connection)
        await drop(connection)

    after = await shown.shown(connection)
    kept = {"executions", "calls", "tries_in_order", "completed_with_failures"}
    assert {
        name: rows for name, rows in differences(after, before).items() if name not in kept
    } == {}
    verdicts = [one async for one in verify(connection, Scope())]
    assert [str(one) for one in verdicts if one.verdict != "match"] == []


@pytest.mark.timeout(300)
async def test_beside_live_traffic_every_read_is_answered_and_the_result_is_a_fresh_fold(
    connection: asyncpg.Connection, database: Database
) -> None:
    """200,000 events, 500 a second more, and two readers that ask again and again."""
    await fill(connection, 200_000)
    stop = asyncio.Event()
    answered: list[float] = []

    async def write() -> None:
        writer = await asyncpg.connect(database.admin_url)
        number = 0
        while not stop.is_set():
            began = asyncio.get_running_loop().time()
            await make_history(
                writer, 100, until=datetime.now(UTC), first=1_000_000 + number, per_day=1e9
            )
            number += 3
            rest = 0.2 - (asyncio.get_running_loop().time() - began)
            try:
                async with asyncio.timeout(max(rest, 0)):
                    await stop.wait()
            except TimeoutError:
                continue
        await writer.close()

    async def read(in_one_transaction: bool) -> None:
        reader = await asyncpg.connect(database.admin_url, command_timeout=10)
        while not stop.is_set():
            async with reader.transaction() if in_one_transaction else contextlib.nullcontext():
                for view in ("executions", "call_outcomes_by_attempt", "attempts_by_status_hourly"):
                    began = asyncio.get_running_loop().time()
                    assert await reader.fetch(f"select * from projector.{view} limit 5")
                    answered.append(asyncio.get_running_loop().time() - began)
            await moment()
        await reader.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(write(), name="writer")
        group.create_task(read(False), name="reader")
        group.create_task(read(True), name="reader of one moment")
        try:
            await run(connection, EXECUTIONS, scope=Scope(kind="sample", hours=2), share=0.8)
            await swap(connection)
        finally:
            stop.set()

    assert len(answered) > 100
    assert max(answered) < 2.0
    compared = [one for one in COMPARISONS if one.name in EXECUTIONS.tables]
    verdicts = [one async for one in verify(connection, Scope(), comparisons=compared)]
    assert [str(one) for one in verdicts if one.verdict != "match"] == []


_SOMEBODY_WAITS_FOR_IT: Final = """
    select exists (
        select
        from   pg_locks
        where  relation = 'normalizer.quarantine'::regclass
        and    not granted
    )
"""


async def test_refusals_are_counted_anew_and_what_was_let_go_of_stays(
    connection: asyncpg.Connection, database: Database
) -> None:
    refuse = """
        insert into normalizer.quarantine
               (reason, detail, shape, normalizer_version, source_topic, source_generation,
                source_partition, source_offset, source_index, value_bytes, batch_id)
        select 'invalid_json', 'line 1', 'executor', 1, 'noetl.events', 0, 0, number, 0, 1, 1
        from   generate_series($1::integer, $2::integer) as number
    """
    await connection.execute(refuse, 1, 50)
    async with connection.transaction():
        await connection.execute("set local projector.archiving = 'on'")
        await connection.execute("delete from normalizer.quarantine where source_offset <= 10")
    await connection.execute("update projector.quarantine_hours set refused = 7 where shard >= 0")
    writer = await asyncpg.connect(database.admin_url)
    refusing = writer.transaction()
    await refusing.start()
    await writer.execute(refuse, 51, 60)

    async def count() -> list[str]:
        return [str(said) async for said in recount(connection)]

    counting = asyncio.create_task(count())
    await until(partial(writer.fetchval, _SOMEBODY_WAITS_FOR_IT))
    await refusing.commit()
    await writer.close()
    told, verdict = await counting

    assert told == "counted 50 refusals anew"
    assert "match" in verdict
    shown_now = "select sum(refused) from projector.quarantine_by_reason"
    assert await connection.fetchval(shown_now) == 60


async def test_no_writer_waits_for_more_than_a_stretch_of_refusals(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute(
        """
        insert into normalizer.quarantine
               (reason, detail, shape, normalizer_version, source_topic, source_generation,
                source_partition, source_offset, source_index, value_bytes, batch_id,
                quarantined_at)
        select 'invalid_json', 'line 1', 'executor', 1, 'noetl.events', 0, 0, number, 0, 1, 1,
               $1::timestamptz + number * interval '20 minutes'
        from   generate_series(0, 14) as number
        """,
        T0,
    )
    before = await connection.fetch(_REFUSED_BY_HOUR)
    await connection.execute("update projector.quarantine_hours set refused = 7")
    nowhere = "insert into projector.quarantine_hours values ($1::timestamptz, 'no', 'no', 3, 1)"
    await connection.execute(nowhere, T0 - timedelta(days=9))

    told, _ = [str(said) async for said in recount(connection, most=5)]

    assert told == "counted 15 refusals anew"
    assert await connection.fetch(_REFUSED_BY_HOUR) == before
    transactions = "select count(distinct xmin::text) from projector.quarantine_hours"
    assert await connection.fetchval(transactions) == 3


_REFUSED_BY_HOUR: Final = """
    select   hour, sum(refused) as refused
    from     projector.quarantine_by_reason
    group by hour
    order by hour
"""


def test_every_table_that_is_verified_can_be_rebuilt() -> None:
    rebuilt = {table for unit in UNITS for table in unit.tables}

    assert {one.name for one in COMPARISONS} == rebuilt | {RECOUNTED}
    assert unit_of("call_times") is EXECUTIONS
    assert shadow.in_shadow("from call_facts as call", EXECUTIONS) == (
        "from projector_next.call_facts as call"
    )

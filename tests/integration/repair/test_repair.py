"""`projector repair` beside everybody's work: whatever was wrong is as the log tells it again."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from bench.history import make_history
from normalizer.errors import StoreUnavailableError
from projector.maintenance.maintain import MaintainerBusyError, maintenance_lock
from projector.repair.repair import RepairRequest, repair, repair_executions
from projector.verify.divergences import store_verdict
from projector.verify.queries import COMPARISONS
from projector.verify.queries.execution_queries import EXECUTION_HOURS_COMPARISON
from projector.verify.ranges import VerifyScope
from projector.verify.verdict import ProjectionVerdict
from projector.verify.verify import verify
from simulator.view_fold import Row
from tests.support import view_rows
from tests.support.commands import run_program
from tests.support.stack import Database
from tests.support.table_rows import PROJECTING, connected, wait_for_lock
from tests.support.view_rows import T0, event, view_differences
from tests.support.waiting import moment, until

REPAIR: Final = (sys.executable, "-m", "projector", "repair")
ALL: Final = RepairRequest(scope=VerifyScope())
NOTED: Final = RepairRequest()
COUNTERS: Final = RepairRequest(scope=VerifyScope(), only_counters=True)

TAMPERING: Final[dict[str, tuple[str, ...]]] = {
    "event_minutes": (
        "events = events + 3",
        "attempts_defaulted = 7",
        "attempts = attempts + 7",
        "status = 'OTHER'",
    ),
    "event_hours": (
        "events = -events, without_command = 7",
        "attempts_defaulted = 7",
        "hour = hour + interval '3 days'",
        "step = 'other'",
    ),
    "arrival_hours": ("events = 7", "lateness = 8 - lateness", "skew_us = 7, worker_id = 'nobody'"),
    "coercion_hours": ("coercions = 7", "rule = 'none'"),
    "execution_facts": (
        "events = events + 1",
        "first_at = first_at - interval '9 days'",
        "failed = failed + 1, failed_at = null",
        "playbook_ranked = null",
        "counted_begun = counted_begun + interval '1 hour'",
        "counted_outcome = 'CANCELLED', counted_ended = '2020-01-01'",
        "highest_attempts = 1, execution_id = execution_id + 1",
    ),
    "call_facts": (
        "finished_at = finished_at + interval '2 days'",
        "begun_at = begun_at - interval '1 hour'",
        "attempts = attempts + 100",
        "step_ranked = null",
        "previous_failure_at = '2020-01-01'",
        "duration_ranked = null",
        "command_id = command_id || 'x'",
    ),
    "execution_hours": ("executions = executions + 1", "playbook = 'other'"),
    "call_hours": ("exhausted = exhausted + 1", "calls = calls * 2"),
    "call_times": ("bucket = bucket + 1", "calls = calls + 1"),
    "worker_hours": ("duration_us = 1", "worker_id = 'nobody'"),
    "error_hours": ("attempts = attempts + 100", "calls = 0"),
    "retry_minutes": ("retries = 12", "minute = minute + interval '1 hour'"),
}
"""For every projection, the values to set by hand. A random part of its rows is deleted too."""


DAMAGE: Final = {
    "call_facts": [
        f"{column}_ranked = {value}"
        for column in ("outcome", "duration", "error", "step", "worker", "max_attempts")
        for value in (
            "'0garbage'",
            f"overlay(coalesce({column}_ranked, '') placing '3' from 6)",
            f"coalesce({column}_ranked, '') || 'x'",
        )
    ],
    "execution_facts": [
        "last_event_ranked = array['1zz'] || last_event_ranked[2:5]",
        "last_event_ranked[5] = 'none'",
        "last_event_ranked = last_event_ranked || 'x'::text",
        "playbook_ranked[1] = '2'",
        "playbook_ranked[2] = 'garbage'",
        "playbook_ranked = playbook_ranked || 'x'::text",
    ],
}
"""Damaged texts of ranked values: not a number, another time, another value."""


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    async with connected(database, **PROJECTING) as made:
        yield made


async def repaired(
    connection: asyncpg.Connection, request: RepairRequest = NOTED
) -> list[ProjectionVerdict]:
    return [verdict async for verdict in repair(connection, request)]


async def verified(connection: asyncpg.Connection, scope: VerifyScope = VerifyScope()) -> set[str]:  # noqa: B008 - frozen
    """Return the names of differing projections, which the view keeps."""
    differs = set()
    async for verdict in verify(connection, scope):
        await store_verdict(connection, verdict)
        if verdict.verdict != "match":
            differs.add(verdict.projection)
    return differs


async def standing(connection: asyncpg.Connection) -> dict[str, int]:
    rows = await connection.fetch(
        "select projection, divergent from projector.agreement where verdict = 'divergent'"
    )
    return {row["projection"]: row["divergent"] for row in rows}


async def fill(connection: asyncpg.Connection, events: int = 300) -> None:
    await make_history(connection, events, until=datetime(2026, 7, 10, tzinfo=UTC))
    await view_rows.insert(
        connection,
        [
            any_call(random.Random(number), number)
            | {"coercions": [{"rule": "opaque_id", "field": "execution_id"}]}
            for number in range(2, 400, 2)
        ],
    )


def any_call(chance: random.Random, number: int) -> Row:
    """An event of one of seven executions, of an age that its id does not tell."""
    return event(
        event_id=number,
        execution_id=chance.randrange(1, 8),
        event_type=chance.choice("command.issued command.failed call.done playbook.failed".split()),
        status="FAILED",
        attempts=chance.randrange(3),
        command_id=f"c{chance.randrange(5)}",
        step=chance.choice(["fetch", "load"]),
        error="rejected",
        duration=2.0,
        worker_id="w",
        created_at=T0 + timedelta(minutes=chance.randrange(300)),
        evidence=chance.choice([212, 12]),
    )


async def tamper(connection: asyncpg.Connection, chance: random.Random, tables: list[str]) -> None:
    for table in tables:
        part = f"abs(hashtext({table}::text)) % 5 = {chance.randrange(5)}"
        changed = chance.choice(TAMPERING[table])
        async with connection.transaction():
            # A writer takes rows in another order: nobody writes meanwhile.
            await connection.execute("lock table normalizer.events in share row exclusive mode")
            try:
                async with connection.transaction():
                    await connection.execute(f"update {table} set {changed} where {part}")
            except asyncpg.IntegrityConstraintViolationError:
                # What a key forbids was not to be tampered with so: then rows go.
                await connection.execute(f"delete from {table} where {part}")
            if chance.random() < 0.3:
                gone = f"abs(hashtext({table}::text)) % 7 = {chance.randrange(7)}"
                await connection.execute(f"delete from {table} where {gone}")


async def test_damaged_ranked_texts_are_found_and_repaired_without_errors(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection, 200)
    facts = {
        "call_facts": "outcome_ranked is not null",
        "execution_facts": "playbook_ranked is not null",
    }
    before = {table: await connection.fetch(f"table {table} order by 1, 2, 3") for table in facts}
    for table, whole in facts.items():
        changes = DAMAGE[table]
        rows = [row[0] for row in await connection.fetch(_TO_DAMAGE.format(table, whole))]
        assert len(rows) >= len(changes)
        for row, change in zip(rows, changes, strict=False):
            await connection.execute(f"update {table} set {change} where {table}::text = $1", row)

    for view in ("calls", "open_calls", "stuck_executions", "executions_without_end"):
        await connection.fetch(f"select * from projector.{view}")
    found = {verdict.projection: verdict async for verdict in verify(connection, VerifyScope())}
    await repaired(connection, ALL)

    for table, changes in DAMAGE.items():
        assert found[table].divergent == len(changes), found[table]
        assert await connection.fetch(f"table {table} order by 1, 2, 3") == before[table]
    assert await verified(connection) == set()


async def test_constraints_of_projections_reject_impossible_values(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection, 100)
    too_much = {False: "9223372036854775807", True: "'NaN'"}
    rejected = {
        one.name: [f"{one.keys[0]} = {time}" for time in ("'infinity'", "'0001-01-01 BC'")]
        + [f"{total} = {too_much[total.endswith('_us')]}" for total in one.sums]
        for one in COMPARISONS
        if one.sums
    }
    rejected["execution_facts"] = ["counted_begun = '0001-01-01 BC'", "last_at = 'infinity'"]
    rejected["call_facts"] = ["attempts = 2147483647", "finished_at = '290000-01-01'"]
    for table, changes in rejected.items():
        for change in changes:
            with pytest.raises(asyncpg.CheckViolationError, match=f"{table}_possible"):
                await connection.execute(f"update {table} set {change}")


async def test_executions_are_repaired_with_their_calls_and_roll_ups_and_nothing_else(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    await connection.execute("delete from call_facts where execution_id in (1, 2)")
    await connection.execute("delete from execution_facts where execution_id = 3")
    await connection.execute("update event_hours set events = events + 1")
    await connection.execute("delete from call_hours where hour = to_hour($1)", T0)

    await repaired(connection, RepairRequest(scope=VerifyScope(execution_ids=(1, 2, 3, 999))))

    assert await verified(connection) == {"event_hours"}


async def test_repairing_counters_counts_nothing_twice_that_retention_has_taken(
    connection: asyncpg.Connection,
) -> None:
    events = [event(event_id=n, execution_id=1 + n % 2) for n in range(1, 21)]
    await view_rows.insert(connection, events)
    await connection.execute("select delete_executions(array[1])")
    total = "select sum(events) from projector.event_hours"
    assert await connection.fetchval(total) == 20

    await repaired(connection, ALL)
    await connection.execute("update event_hours set events = events + 5 where shard >= 0")
    await repaired(connection, COUNTERS)

    assert await connection.fetchval(total) == 20


async def test_a_verdict_reached_before_a_repair_ends_no_note_of_that_repair(
    connection: asyncpg.Connection,
) -> None:
    """It says that the hour agreed, and so it did, until the repair changed what hangs there."""
    failed = event(event_type="playbook.failed", status="FAILED", created_at=T0)
    await view_rows.insert(connection, [failed])
    await connection.execute(
        "insert into divergences (projection, hour, noted_by) "
        "values ('execution_hours', to_hour($1), 'verify')",
        T0,
    )
    (verdict,) = [
        one
        async for one in verify(connection, VerifyScope(), comparisons=[EXECUTION_HOURS_COMPARISON])
    ]
    await connection.execute("update execution_facts set failed_at = null")
    await connection.execute(
        "update execution_facts set counted_ended = null, counted_outcome = ''"
    )
    await connection.execute("delete from execution_hours where outcome <> 'BEGUN'")

    await repair_executions(connection, [1])
    await store_verdict(connection, verdict)

    assert len(verdict.resolved_divergence_ids) == 1
    assert await standing(connection) == {"execution_hours": 1}
    await repaired(connection)
    assert await verified(connection) == set()


async def test_a_second_repair_finds_it_busy(database: Database) -> None:
    async with maintenance_lock(database.url):
        with pytest.raises(MaintainerBusyError):
            async with maintenance_lock(database.url):
                pass
        code, said = await run_program(*REPAIR, env=_environment(database))

    assert code == 3
    assert "is already running on this database" in said


async def test_a_repair_whose_lock_is_lost_ends(
    connection: asyncpg.Connection, database: Database
) -> None:
    end_holder = """
        select pg_terminate_backend(pid)
        from   pg_locks
        where  locktype = 'advisory'
        and    database = (select oid from pg_database where datname = current_database())
    """

    async def lose() -> None:
        async with maintenance_lock(database.url), asyncio.timeout(20):
            await connection.fetch(end_holder)
            await asyncio.Event().wait()

    with pytest.raises(StoreUnavailableError, match="holds the maintenance lock was lost"):
        await lose()

    async with maintenance_lock(database.url):
        pass


async def test_an_execution_that_cannot_be_folded_holds_up_no_other(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    await connection.execute(
        """
        create function public.refuse() returns trigger language plpgsql
        as $$ begin raise exception 'no'; end $$;

        create trigger refuse before insert or update on execution_facts
        for each row when (new.execution_id = 3) execute function public.refuse()
        """
    )
    await connection.execute("alter table execution_facts disable trigger refuse")
    await connection.execute("update execution_facts set events = events + 1")
    await connection.execute("alter table execution_facts enable trigger refuse")

    said = await repaired(connection, ALL)

    differs = [one for one in said if one.verdict != "match"]
    assert {one.projection for one in differs} == {"execution_facts"}
    assert all(one.divergent_locations == {3} for one in differs)
    assert await standing(connection) == {"execution_facts": 1}


async def test_a_row_that_changes_during_its_repair_is_reported_once(
    connection: asyncpg.Connection, database: Database
) -> None:
    chance = random.Random(3)
    rows = {number: any_call(chance, number) for number in range(2, 602, 2)}
    await view_rows.insert(connection, list(rows.values()))
    stop = asyncio.Event()
    rounds = 0

    async def write() -> None:
        nonlocal rounds
        writer = await asyncpg.connect(database.admin_url)
        while not stop.is_set():
            changed = [any_call(chance, number) for number in chance.sample(sorted(rows), 12)]
            await view_rows.update(writer, changed)
            gone = chance.sample(sorted(rows), 6)
            await view_rows.delete(writer, gone)
            new = [number for number in chance.sample(range(1_400), 12) if number not in rows]
            rows.update({number: any_call(chance, number) for number in new})
            await view_rows.insert(writer, [rows[number] for number in new])
            for number in gone:
                rows.pop(number)
            rounds += 1
            await moment()
        await writer.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(write(), name="writer")
        try:
            for seed in range(3):
                await tamper(connection, random.Random(seed), list(TAMPERING))
                await repaired(connection, ALL)
        finally:
            stop.set()
    await repaired(connection)

    assert rounds >= 3
    assert await verified(connection) == set()
    assert await view_differences(connection) == {}


async def test_a_writer_that_is_at_an_execution_is_waited_for_and_folded_with(
    connection: asyncpg.Connection, database: Database
) -> None:
    await fill(connection)
    await connection.execute("update execution_facts set events = 0 where execution_id = 1")
    async with connected(database) as writer:
        async with writer.transaction():
            await view_rows.insert(writer, [event(event_id=9_001, execution_id=1)])
            task = asyncio.create_task(repair_executions(connection, [1]))
            await wait_for_lock(writer)
        await task

    assert await verified(connection) == set()


@pytest.mark.every_postgres(oldest_in_soak=True)
async def test_killed_at_any_moment_the_same_command_comes_to_the_same_end(
    connection: asyncpg.Connection, database: Database
) -> None:
    assert set(TAMPERING) == {one.name for one in COMPARISONS}
    chance = random.Random(5)
    await fill(connection, 1_500)
    await tamper(connection, chance, list(TAMPERING))
    for lines in (0, 4):
        process = await asyncio.create_subprocess_exec(
            *(*REPAIR, "--all"), env=_environment(database), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(lines):
            await process.stdout.readline()
        await until(partial(connection.fetchval, _IT_REPAIRS))
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await until(partial(connection.fetchval, _NOBODY_ELSE_IS_HERE))

    code, said = await run_program(*REPAIR, "--all", env=_environment(database))

    assert code == 0, said
    assert await verified(connection) == set()
    assert await view_differences(connection) == {}
    assert await standing(connection) == {}


async def test_events_without_their_projections_stand_as_divergent_until_they_are_repaired(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    async with connection.transaction():
        await connection.execute("set local projector.off = 'on'")
        await view_rows.insert(
            connection,
            [any_call(random.Random(n), n) | {"execution_id": 70 + n % 2} for n in (901, 902, 903)],
        )
        await view_rows.update(connection, [any_call(random.Random(77), 4)])
        await view_rows.delete(connection, [6])

    stands = await standing(connection)
    assert set(stands) == {
        "execution_facts", "call_facts", "event_minutes", "event_hours", "arrival_hours",
        "coercion_hours", "call_hours", "call_times",
    }  # fmt: skip
    assert stands["execution_facts"] >= 3

    said = await repaired(connection)

    assert {str(one) for one in said if one.verdict != "match"} == set()
    assert await standing(connection) == {}
    assert await verified(connection) == set()
    assert await view_differences(connection) == {}


async def test_off_holds_for_its_transaction_only(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        await connection.execute("set local projector.off = 'on'")
        await view_rows.insert(connection, [event(event_id=7, execution_id=1)])

    await view_rows.insert(connection, [event(event_id=8, execution_id=2)])

    assert await connection.fetchval("select execution_id from execution_facts") == 2
    noted = "select distinct execution_id from divergences where execution_id is not null"
    assert await connection.fetchval(noted) == 1


def _environment(database: Database) -> dict[str, str]:
    return os.environ | {"DATABASE_URL": database.admin_url}


@pytest.mark.soak
@settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_of_any_log_whatever_part_is_lost_comes_back(
    data: st.DataObject, connection: asyncpg.Connection
) -> None:
    chance = random.Random(data.draw(st.integers(0, 1 << 30)))
    await connection.execute("truncate normalizer.events; truncate divergences")
    rows = {n: any_call(chance, n) for n in range(1, data.draw(st.integers(5, 60)))}
    await view_rows.insert(connection, list(rows.values()))
    before = await view_rows.view_rows(connection)
    tables = data.draw(st.lists(st.sampled_from(sorted(TAMPERING)), min_size=1, unique=True))
    await tamper(connection, chance, tables)
    differs = await verified(connection)

    said: list[Any] = await repaired(connection)

    assert {one.projection for one in said} >= differs
    assert await view_rows.view_rows(connection) == before
    assert await verified(connection) == set()


_IT_REPAIRS: Final = """
    select exists (
        select from pg_stat_activity
        where  datname = current_database() and application_name = 'projector'
        and    query ~ 'repair_executions|as counted|expected'
    )
"""

_NOBODY_ELSE_IS_HERE: Final = """
    select not exists (
        select from pg_stat_activity
        where  datname = current_database() and application_name = 'projector'
    )
"""

_TO_DAMAGE: Final = "select {0}::text from {0} where {1} order by 1"

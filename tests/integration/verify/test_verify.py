"""`projector verify` says match only where it would have noticed, and names what differs."""

import asyncio
import re
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from normalizer.errors import FatalError
from projector.verify import ranges, row_comparison
from projector.verify.divergences import store_verdict
from projector.verify.queries import COMPARISONS, Comparison
from projector.verify.queries.call_queries import RETRY_MINUTES_COMPARISON
from projector.verify.queries.counter_queries import (
    EVENT_HOURS_COMPARISON,
    EVENT_MINUTES_COMPARISON,
)
from projector.verify.queries.execution_queries import EXECUTION_FACTS_COMPARISON
from projector.verify.ranges import VerifyScope
from projector.verify.verdict import ProjectionVerdict
from projector.verify.verify import verify
from tests.support import view_rows
from tests.support.stack import Database
from tests.support.table_rows import PROJECTING, connected, insert_row
from tests.support.tampering import TAMPERING
from tests.support.view_rows import T0, event

pytestmark = pytest.mark.every_postgres(oldest_in_soak=True)

EVERYTHING: Final = VerifyScope()
SOME: Final = "count(events.event_id) > 0"
"""Ends its own statement at once, like a time limit, so that no other statement needs one."""


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    async with connected(database, **PROJECTING) as made:
        yield made


async def verdicts(
    connection: asyncpg.Connection,
    scope: VerifyScope = EVERYTHING,
    comparisons: Sequence[Comparison] = COMPARISONS,
) -> dict[str, ProjectionVerdict]:
    return {
        verdict.projection: verdict
        async for verdict in verify(connection, scope, comparisons=comparisons)
    }


async def fill(connection: asyncpg.Connection) -> None:
    """One failed retry of one execution, and one rejection: a row in every projection."""
    fields: dict[str, Any] = {"step": "fetch", "worker_id": "w", "max_attempts": 2}
    first, second = fields | {"command_id": "a"}, fields | {"command_id": "b", "attempts": 1}
    ended = {"status": "FAILED", "error": "rejected by 10.0.0.1", "duration": 2.0}
    coercions = [{"rule": "opaque_id", "field": "execution_id"}]
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("playbook.started", {"context": {"path": "flow/a"}, "coercions": coercions}),
        ("command.issued", first),
        ("command.claimed", first),
        ("call.done", first | ended),
        ("command.issued", second),
        ("call.done", second | ended),
        ("playbook.failed", {"status": "FAILED"}),
    ]
    await view_rows.insert(
        connection,
        [
            event(
                event_id=number,
                event_type=kind,
                created_at=T0 + timedelta(seconds=number),
                **columns,
            )
            for number, (kind, columns) in enumerate(kinds, start=1_000)
        ],
    )
    await insert_row(connection, "normalizer.quarantine")


async def test_equal_rows_are_a_match_after_every_self_test(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)

    found = await verdicts(connection)

    assert {name: (one.verdict, one.self_tests) for name, one in found.items()} == {
        comparison.name: ("match", 3) for comparison in COMPARISONS
    }
    assert all(one.compared > 0 for one in found.values())


async def test_each_projection_that_was_changed_by_hand_is_divergent_and_only_it(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    for name, statement in TAMPERING.items():
        undone = connection.transaction()
        await undone.start()
        await connection.execute(statement)
        found = await verdicts(connection)
        await undone.rollback()

        divergent = {one.projection for one in found.values() if one.verdict == "divergent"}
        # Roll-ups are compared with calls and executions, so they differ from them too.
        assert name in divergent, name
        assert divergent == {name} or name in {"execution_facts", "call_facts"}, name


async def test_only_counters_of_events_say_how_many_deleted_events_are_not_compared(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    async with connection.transaction():
        await connection.execute("select set_config('projector.archiving', 'on', true)")
        deleted = await connection.fetch("delete from normalizer.events returning event_id")

    found = await verdicts(connection)

    assert {one.projection: one.archived for one in found.values() if one.archived} == {
        "event_hours": len(deleted),
        "arrival_hours": len(deleted),
    }


async def test_rows_written_behind_the_triggers_are_missed(
    connection: asyncpg.Connection,
) -> None:
    """A row that no trigger saw moves no projection: also where nothing is shown at all."""
    await fill(connection)
    await connection.execute(
        "set session_replication_role = replica; "
        "insert into normalizer.events "
        "(event_id, execution_id, event_type, status, created_at, command_id) "
        "values (7, 77, 'call.done', 'COMPLETED', '2001-01-01', 'c'); "
        "reset session_replication_role"
    )

    found = await verdicts(connection)

    for name in ("event_hours", "event_minutes", "arrival_hours", "execution_facts", "call_facts"):
        assert found[name].verdict == "divergent", name
    assert "missing" in found["execution_facts"].examples[0]


async def differ_later(connection: asyncpg.Connection) -> None:
    """Three days later there is one event of execution 2, and its count by hour is wrong."""
    later = event(event_id=2_000, execution_id=2, created_at=T0 + timedelta(days=3))
    await view_rows.insert(connection, [later])
    await connection.execute(
        "update projector.event_hours set events = 5 where hour > $1", T0 + timedelta(days=1)
    )


async def test_a_range_and_a_sample_look_at_their_hours_only(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    await differ_later(connection)
    await connection.execute(
        "update projector.execution_facts set events = 5 where execution_id = 2"
    )

    early = await verdicts(connection, VerifyScope(until=T0 + timedelta(hours=1)))
    late = await verdicts(connection, VerifyScope(since=T0 + timedelta(days=2)))
    sample = await verdicts(connection, VerifyScope(sampled_hours=2))

    for name in ("event_hours", "execution_facts"):
        assert early[name].verdict == "match"
        assert late[name].verdict == "divergent"
        assert sample[name].verdict == "divergent"


async def test_an_execution_that_began_before_the_range_is_compared_with_it_and_once(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(connection)
    days = [timedelta(days=3), timedelta(days=3, hours=2)]
    later = [event(event_id=n, created_at=T0 + at) for n, at in enumerate(days, start=2_000)]
    await view_rows.insert(connection, later)
    await connection.execute("update projector.execution_facts set failed_at = null")
    monkeypatch.setattr(ranges, "EXECUTIONS_PER_RANGE", 1)

    found = await verdicts(connection, VerifyScope(since=T0 + timedelta(days=2)))

    facts = found["execution_facts"]
    assert (facts.verdict, facts.compared, facts.divergent) == ("divergent", 1, 1)
    assert (found["call_facts"].verdict, found["call_facts"].compared) == ("match", 2)


async def test_a_comparison_that_notices_nothing_is_not_believed(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(connection)
    blind = re.sub(r"row from expected\b", "row from actual", row_comparison._COMPARE)
    monkeypatch.setattr(row_comparison, "_COMPARE", blind)

    with pytest.raises(FatalError, match="row wrongly"):
        await verdicts(connection)


@pytest.mark.parametrize("only_self_tests", [False, True])
async def test_hours_that_take_too_long_are_halved(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, *, only_self_tests: bool
) -> None:
    """Down to one hour. A self-test may need a smaller range than the comparison of its rows."""
    await fill(connection)
    found = await verdicts(connection, comparisons=[EVENT_HOURS_COMPARISON])
    slow = cut_if(f"{SOME} and $2::timestamptz <> $1 + interval '1 hour'")
    slower = msgspec.structs.replace(
        EVENT_HOURS_COMPARISON, expected=f"{EVENT_HOURS_COMPARISON.expected} having {slow}"
    )
    if only_self_tests:
        run_self_tests_with(slower, monkeypatch)

    halved = await verdicts(
        connection, comparisons=[EVENT_HOURS_COMPARISON if only_self_tests else slower]
    )

    assert reported(halved) == reported(found) == [("match", 7, 3)]


async def test_a_repair_counts_even_if_the_range_then_takes_too_long(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its halves are compared again, and find nothing left to repair."""
    await fill(connection)
    await connection.execute("update projector.event_hours set events = events + 1")
    ran: list[ranges.VerifyRange] = []

    async def time_out_the_second(
        connection: asyncpg.Connection, comparison: Comparison, verify_range: ranges.VerifyRange
    ) -> row_comparison.RowDifferences:
        ran.append(verify_range)
        if len(ran) == 2:
            raise asyncpg.QueryCanceledError
        return await row_comparison.compare_range(connection, comparison, verify_range)

    async def repair(*_: object) -> None:
        await connection.execute("update projector.event_hours set events = events - 1")

    monkeypatch.setattr("projector.verify.verify.compare_range", time_out_the_second)
    [found] = [
        one
        async for one in verify(
            connection, EVERYTHING, comparisons=[EVENT_HOURS_COMPARISON], repair_range=repair
        )
    ]

    assert ran[0] == ran[1] != ran[2]
    assert (found.verdict, found.repaired) == ("match", 7)


NOTHING: Final = "select"
ONE_ROW: Final = (
    "update projector.event_hours set events = events - 1 where event_type = 'playbook.failed'"
)
EVERY_ROW: Final = "update projector.event_hours set events = events - 1"


@pytest.mark.parametrize(
    ("repairs", "timeouts", "verdict", "repaired"),
    [
        ((NOTHING,), 1, "divergent", 0),
        ((ONE_ROW, NOTHING), 1, "divergent", 1),
        ((NOTHING, EVERY_ROW), 1, "match", 7),
        ((EVERY_ROW,), 100, "inconclusive", 0),
    ],
)
async def test_only_rows_that_agree_after_a_repair_count_as_repaired_despite_timeouts(
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    repairs: Sequence[str],
    timeouts: int,
    verdict: str,
    repaired: int,
) -> None:
    """The comparison after the first repair times out. The last repair is made again if needed."""
    await fill(connection)
    await connection.execute("update projector.event_hours set events = events + 1")
    ran: list[ranges.VerifyRange] = []
    made: list[str] = []

    async def time_out_after_the_first(
        connection: asyncpg.Connection, comparison: Comparison, verify_range: ranges.VerifyRange
    ) -> row_comparison.RowDifferences:
        ran.append(verify_range)
        if 1 < len(ran) <= 1 + timeouts:
            raise asyncpg.QueryCanceledError
        return await row_comparison.compare_range(connection, comparison, verify_range)

    async def repair(*_: object) -> None:
        made.append(repairs[min(len(made), len(repairs) - 1)])
        await connection.execute(made[-1])

    monkeypatch.setattr("projector.verify.verify.compare_range", time_out_after_the_first)
    [found] = [
        one
        async for one in verify(
            connection, EVERYTHING, comparisons=[EVENT_HOURS_COMPARISON], repair_range=repair
        )
    ]

    assert made[0] == repairs[0]
    assert (found.verdict, found.repaired) == (verdict, repaired)


async def test_executions_that_take_too_long_are_halved(connection: asyncpg.Connection) -> None:
    for execution_id in range(1, 8):
        await view_rows.insert(
            connection, [event(event_id=execution_id, execution_id=execution_id)]
        )
    slow = f"where {cut_if('aggregated.events > 0 and cardinality($1::bigint[]) > 2')}"
    slower = msgspec.structs.replace(
        EXECUTION_FACTS_COMPARISON, expected=f"{EXECUTION_FACTS_COMPARISON.expected} {slow}"
    )

    found = await verdicts(connection, comparisons=[slower])

    assert reported(found) == [("match", 7, 3)]


@pytest.mark.parametrize(
    ("when", "only_self_tests"), [("true", False), (SOME, False), (SOME, True)]
)
async def test_a_range_that_takes_too_long_is_inconclusive(
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    *,
    only_self_tests: bool,
) -> None:
    await fill(connection)
    endless = msgspec.structs.replace(
        EVENT_HOURS_COMPARISON, expected=f"{EVENT_HOURS_COMPARISON.expected} having {cut_if(when)}"
    )
    if only_self_tests:
        run_self_tests_with(endless, monkeypatch)

    found = await verdicts(
        connection, comparisons=[EVENT_HOURS_COMPARISON if only_self_tests else endless]
    )

    assert found["event_hours"].verdict == "inconclusive"
    assert "took longer than a statement may" in found["event_hours"].unproven_parts[0]


async def test_self_tests_that_always_take_too_long_are_given_up(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try may take as long as a statement may, and there may be thousands of hours."""
    hours = [T0 + timedelta(hours=number) for number in range(12)]
    rows = [event(event_id=n, created_at=hour) for n, hour in enumerate(hours, start=1)]
    await view_rows.insert(connection, rows)
    monkeypatch.setattr(ranges, "HOURS_PER_RANGE", 1)
    monkeypatch.setattr("projector.verify.verify.MAX_TIMEOUTS_IN_A_ROW", 5)
    tries: list[ranges.VerifyRange] = []

    async def time_out(
        _connection: asyncpg.Connection, _comparison: Comparison, verify_range: ranges.VerifyRange
    ) -> int:
        tries.append(verify_range)
        raise asyncpg.QueryCanceledError

    monkeypatch.setattr("projector.verify.verify.run_self_tests", time_out)

    found = (await verdicts(connection, comparisons=[EVENT_HOURS_COMPARISON]))["event_hours"]

    assert len(tries) == 5
    assert (found.verdict, found.compared, found.self_tests) == ("inconclusive", 12, 0)


async def test_rows_without_a_self_test_are_no_match(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The events may be deleted between the comparison and its self-tests."""
    await fill(connection)

    async def find_no_row(*_: object) -> int:
        return 0

    monkeypatch.setattr("projector.verify.verify.run_self_tests", find_no_row)

    found = (await verdicts(connection, comparisons=[EVENT_HOURS_COMPARISON]))["event_hours"]

    assert found.verdict == "inconclusive"
    assert found.unproven_parts == ["its self-tests: no event was there to run them on"]


async def test_a_missing_row_and_another_that_no_event_explains_are_two_differences(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    await connection.execute(
        "update projector.event_hours set step = 'invented' where event_type = 'playbook.failed'"
    )
    await connection.execute(
        "update projector.event_hours set events = events + 1 where event_type = 'playbook.started'"
    )

    found = (await verdicts(connection, comparisons=[EVENT_HOURS_COMPARISON]))["event_hours"]

    assert (found.divergent, found.compared) == (3, 8)
    assert len(found.examples) == 3


async def test_a_row_with_another_value_is_never_called_missing_however_many_differ(
    connection: asyncpg.Connection,
) -> None:
    """The rows of each side are in another order than those of the other, because of the value."""
    ids = range(1, 31)
    await view_rows.insert(connection, [event(event_id=one, execution_id=one) for one in ids])
    await connection.execute(
        "update projector.execution_facts set events = 100 - execution_id where execution_id > 5"
    )
    await connection.execute("delete from projector.execution_facts where execution_id <= 5")

    found = (await verdicts(connection, comparisons=[EXECUTION_FACTS_COMPARISON]))[
        "execution_facts"
    ]

    assert (found.divergent, len(found.examples)) == (30, 10)
    for example in found.examples:
        execution_id = int(re.match(r"execution_id (\d+): ", example)[1])  # type: ignore[index]
        assert ("missing" in example) == (execution_id <= 5), example
        assert "no event says so" not in example


@pytest.mark.parametrize("what", ["sentence", "locations", "timeout"])
async def test_ranges_that_differ_or_take_too_long_need_no_memory_each(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Each of 30 ranges differs, or takes too long, and a megabyte or more says so."""
    for one in range(1, 31):
        await view_rows.insert(connection, [event(event_id=one, execution_id=one)])
    megabyte = 1 << 20

    async def compare(
        _connection: asyncpg.Connection, _comparison: Comparison, verify_range: ranges.VerifyRange
    ) -> row_comparison.RowDifferences:
        if what == "timeout":
            raise asyncpg.QueryCanceledError
        assert isinstance(verify_range, ranges.ExecutionRange)
        first = verify_range.execution_ids[0] * 30_000
        return row_comparison.RowDifferences(
            expected_count=0,
            actual_only_count=1,
            expected_only_count=0,
            differing_count=1,
            examples=(str(verify_range),) if what == "sentence" else (),
            differing_by_location=dict.fromkeys(
                range(first, first + 30_000) if what == "locations" else (), 1
            ),
        )

    monkeypatch.setattr(ranges, "EXECUTIONS_PER_RANGE", 1)
    monkeypatch.setattr(ranges.ExecutionRange, "__str__", lambda _: "x" * megabyte)
    monkeypatch.setattr("projector.verify.verify.compare_range", compare)
    tracemalloc.start()
    try:
        found = await verdicts(connection, comparisons=[EXECUTION_FACTS_COMPARISON])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    verdict = "inconclusive" if what == "timeout" else "divergent"
    assert found["execution_facts"].verdict == verdict
    assert peak < 20 * megabyte


async def test_differences_in_too_many_places_open_one_divergence_however_often_they_are_found(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projector.verify.divergences.MAX_STORED_LOCATIONS", 0)
    await fill(connection)
    await connection.execute("update projector.event_hours set events = events + 1")

    for _ in range(2):
        await verified(connection)

    still_open = await connection.fetchval(
        "select count(*) from divergences where projection = 'event_hours' and ended_at is null"
    )
    assert still_open == 1


def run_self_tests_with(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the self-tests run this comparison, whichever one they should."""

    async def run(
        connection: asyncpg.Connection, _comparison: Comparison, verify_range: ranges.VerifyRange
    ) -> int:
        return await row_comparison.run_self_tests(connection, comparison, verify_range)

    monkeypatch.setattr("projector.verify.verify.run_self_tests", run)


def cut_if(condition: str) -> str:
    """A condition that ends its statement, as a time limit does, where the given one is true."""
    cancels = f"{condition} and pg_cancel_backend(pg_backend_pid())"
    return f"(select pg_sleep(case when {cancels} then 9 else 0 end)) is not null"


def reported(found: dict[str, ProjectionVerdict]) -> list[tuple[str, int, int]]:
    return [(one.verdict, one.compared, one.self_tests) for one in found.values()]


async def test_it_says_match_at_every_moment_beside_a_writer(
    database: Database, connection: asyncpg.Connection
) -> None:
    stop = asyncio.Event()

    async def write() -> None:
        async with connected(database) as writer:
            number = 1_000
            while not stop.is_set():
                rows = [
                    event(
                        event_id=number + n,
                        execution_id=1 + n % 5,
                        event_type="call.done" if n % 2 else "command.issued",
                        status="COMPLETED",
                        step="fetch",
                        command_id=f"c{number % 7}",
                        created_at=T0 + timedelta(seconds=number),
                    )
                    for n in range(20)
                ]
                await view_rows.insert(writer, rows)
                await view_rows.update(writer, [row | {"attempts": 1} for row in rows[:3]])
                number += 20

    async with asyncio.TaskGroup() as group:
        group.create_task(write(), name="writer")
        try:
            compared = rounds = 0
            # The first round may come before the writer's first rows.
            while rounds < 2 or not compared:
                rounds += 1
                found = await verdicts(connection)
                assert {one.verdict for one in found.values()} == {"match"}
                compared += sum(one.compared for one in found.values())
        finally:
            stop.set()


async def test_a_sample_that_matches_elsewhere_takes_no_verdict_back(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    await differ_later(connection)

    await verified(connection)
    await verified(connection, VerifyScope(until=T0 + timedelta(hours=1)))

    assert await agreement(connection, "event_hours") == ("divergent", 1)


async def test_a_comparison_of_named_executions_takes_no_verdict_on_others_back(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    await connection.execute("update projector.execution_facts set failed_at = null")
    await verified(connection)
    of_executions = [one for one in COMPARISONS if one.bounded_by == "executions"]

    other = await verdicts(connection, VerifyScope(execution_ids=(999,)), of_executions)
    for verdict in other.values():
        assert await store_verdict(connection, verdict)

    assert await agreement(connection, "execution_facts") == ("divergent", 1)


async def test_counters_are_not_compared_for_single_executions(
    connection: asyncpg.Connection,
) -> None:
    counters = [one for one in COMPARISONS if one.bounded_by == "hours"]

    with pytest.raises(ValueError, match="event_minutes can't be compared for single executions"):
        await verdicts(connection, VerifyScope(execution_ids=(1,)), counters)


def test_a_sample_of_named_executions_is_no_scope() -> None:
    with pytest.raises(ValueError, match="only one"):
        VerifyScope(sampled_hours=3, execution_ids=(1,))


@pytest.mark.parametrize("bound", ["since", "until"])
@pytest.mark.parametrize("limit", [{"only_open_divergences": True}, {"execution_ids": (1,)}])
def test_executions_or_open_divergences_of_some_hours_are_no_scope(
    bound: str, limit: dict[str, Any]
) -> None:
    scope: dict[str, Any] = {bound: T0, **limit}

    with pytest.raises(ValueError, match="no bounds"):
        VerifyScope(**scope)


async def test_a_comparison_of_just_that_place_takes_a_verdict_back(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    await connection.execute("update projector.event_hours set events = events + 1")
    await connection.execute("update projector.execution_facts set failed_at = null")
    await verified(connection)
    assert await agreement(connection, "event_hours") == ("divergent", 1)
    assert await agreement(connection, "execution_facts") == ("divergent", 1)

    await connection.execute("update projector.event_hours set events = events - 1")
    await verified(connection, VerifyScope(until=T0))
    assert await agreement(connection, "event_hours") == ("divergent", 1)
    await verified(connection, VerifyScope(since=T0, until=T0 + timedelta(hours=1)))

    assert await agreement(connection, "event_hours") == ("match", 0)
    assert await agreement(connection, "execution_facts") == ("divergent", 1)


async def test_a_verdict_reached_before_another_found_a_difference_takes_it_not_back(
    connection: asyncpg.Connection,
) -> None:
    """Two run at once: what the slower one read agreed, and differs since."""
    await fill(connection)
    await connection.execute("update projector.event_hours set events = events + 1")
    await verified(connection)
    await connection.execute("update projector.event_hours set events = events - 1")
    slower = await verdicts(connection)
    await connection.execute("update projector.event_hours set events = events + 1")

    await verified(connection)
    await store_verdict(connection, slower["event_hours"])

    assert len(slower["event_hours"].resolved_divergence_ids) == 1
    assert await agreement(connection, "event_hours") == ("divergent", 1)


async def test_sample_draws_no_hour_that_retention_has_reached(
    connection: asyncpg.Connection,
) -> None:
    """All that is left of such hours is the archived part, which nothing can be compared with."""
    hours = [T0 + timedelta(days=days) for days in range(3)]
    rows = [event(event_id=n, created_at=hour) for n, hour in enumerate(hours, start=1)]
    await view_rows.insert(connection, rows)

    async def drawn(comparison: Comparison, most: int) -> list[Any]:
        sample = VerifyScope(sampled_hours=most, since=hours[0])
        return [
            at.query_arguments[0]
            async for at in ranges.ranges_in_scope(connection, comparison, sample)
        ]

    assert (
        await drawn(EVENT_HOURS_COMPARISON, 9) == await drawn(EVENT_MINUTES_COMPARISON, 9) == hours
    )
    assert len(await drawn(EVENT_HOURS_COMPARISON, 2)) == 2
    await connection.execute(
        "update normalizer.retention_horizon set expired_before = $1", hours[1]
    )

    assert (
        await drawn(EVENT_HOURS_COMPARISON, 9)
        == await drawn(EVENT_MINUTES_COMPARISON, 9)
        == hours[1:]
    )
    assert await drawn(RETRY_MINUTES_COMPARISON, 9) == []


async def test_a_projection_with_nothing_to_compare_is_called_so(
    connection: asyncpg.Connection,
) -> None:
    found = (await verdicts(connection))["event_hours"]

    assert (found.verdict, found.self_tests) == ("match", 0)
    assert str(found).startswith("event_hours       nothing to compare (")


async def test_a_stored_verdict_says_which_hours_it_is_about(
    connection: asyncpg.Connection,
) -> None:
    since, until = datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 7, 2, tzinfo=UTC)
    for scope in (
        VerifyScope(),
        VerifyScope(since=since),
        VerifyScope(since=since, until=until),
    ):
        async for verdict in verify(connection, scope, comparisons=COMPARISONS[:1]):
            assert await store_verdict(connection, verdict)

        stored = await connection.fetchrow(
            "select compared_since, compared_until from projector.agreement"
        )
        assert tuple(stored) == (
            None if scope.since < since else since,
            until if scope.until == until else None,
        )


async def test_rows_that_are_deleted_before_the_self_tests_make_no_verdict_distrusted(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next range runs them."""
    await fill(connection)
    later = event(event_id=2_000, created_at=T0 + timedelta(days=2))
    await view_rows.insert(connection, [later])
    monkeypatch.setattr(ranges, "HOURS_PER_RANGE", 1)
    tests = row_comparison.run_self_tests

    async def delayed(connection: asyncpg.Connection, *others: Any) -> int:
        await connection.execute("delete from normalizer.events where event_id < 2000")
        return await tests(connection, *others)

    monkeypatch.setattr("projector.verify.verify.run_self_tests", delayed)

    found = (await verdicts(connection, comparisons=[EVENT_HOURS_COMPARISON]))["event_hours"]

    assert (found.verdict, found.self_tests) == ("match", 3)


async def test_a_difference_anywhere_ends_as_all_is_compared_and_agrees(
    connection: asyncpg.Connection,
) -> None:
    await fill(connection)
    await connection.execute(
        "insert into divergences (projection, noted_by) values ('event_hours', 'off'), "
        "('execution_facts', 'off')"
    )

    for scope in (VerifyScope(since=T0), VerifyScope(sampled_hours=3)):
        await verified(connection, scope)
        for projection in ("event_hours", "execution_facts"):
            assert await agreement(connection, projection) == ("divergent", 1)
    await verified(connection)

    for projection in ("event_hours", "execution_facts"):
        assert await agreement(connection, projection) == ("match", 0)


async def agreement(connection: asyncpg.Connection, projection: str) -> tuple[str, int]:
    row = await connection.fetchrow(
        "select verdict, divergent from projector.agreement where projection = $1", projection
    )
    return tuple(row)


async def verified(connection: asyncpg.Connection, scope: VerifyScope = EVERYTHING) -> None:
    for verdict in (await verdicts(connection, scope)).values():
        assert await store_verdict(connection, verdict)

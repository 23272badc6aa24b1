"""Projections move with the rows of their statement, and cost no more than they must."""

import re
from datetime import timedelta
from itertools import product
from typing import Any, Final, get_args

import asyncpg
import pytest

from normalizer.core.evidence import Evidence, EvidenceRank
from projector.verify.queries.call_queries import CALL_FACTS_COMPARISON
from projector.verify.queries.execution_queries import EXECUTION_FACTS_COMPARISON
from simulator.view_fold import Row
from tests.support import view_rows
from tests.support.event_kinds import EVENT_KINDS, list_spellings
from tests.support.stack import Database
from tests.support.view_rows import T0, event, view_differences

pytestmark = pytest.mark.every_postgres(oldest_in_soak=True)


async def test_the_kinds_in_the_database_are_those_of_the_core(
    connection: asyncpg.Connection,
) -> None:
    rows = await connection.fetch(
        "select event_type, event_class, subject, role, outcome from projector.event_kinds"
    )

    assert sorted(tuple(row) for row in rows) == sorted(
        (spelling, *kind) for kind in EVENT_KINDS for spelling in list_spellings(kind)
    )


@pytest.mark.parametrize(("role", "outcome"), [("done", ""), ("ended", ""), ("issued", "FAILED")])
async def test_a_kind_of_event_has_an_outcome_only_if_it_ends_something(
    connection: asyncpg.Connection, role: str, outcome: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="event_kinds_outcome"):
        await connection.execute(
            "insert into projector.event_kinds values ('new', 'new', 'call', $1, $2)", role, outcome
        )


async def test_empty_transition_tables_have_the_columns_of_events(
    connection: asyncpg.Connection,
) -> None:
    columns = """
        select   attname, atttypid
        from     pg_attribute
        where    attrelid = $1::text::regclass and attnum > 0 and not attisdropped
        order by attname
    """
    events = await connection.fetch(columns, "normalizer.events")

    assert await connection.fetch(columns, "projector.before") == events
    assert await connection.fetch(columns, "projector.after") == events


def call(number: int, kind: str, **columns: Any) -> Row:
    """An event of a command's life, a second after the one before it."""
    return event(
        event_id=number,
        event_type=kind,
        created_at=T0 + timedelta(seconds=number),
        **{"command_id": "1:fetch:9", "status": "RUNNING", "step": "fetch"} | columns,
    )


async def test_events_that_name_no_command_make_no_call_and_are_counted(
    connection: asyncpg.Connection,
) -> None:
    done = [call(n, "call.done", status="COMPLETED", command_id=None) for n in range(3)]
    await view_rows.insert(connection, done)
    await view_rows.update(connection, [done[2] | {"command_id": "c"}])

    calls = await connection.fetch("select command_id from projector.calls")
    without = await connection.fetch(
        "select step, event_type, status, events from projector.calls_without_command"
    )

    assert [row["command_id"] for row in calls] == ["c"]
    assert [tuple(row) for row in without] == [("fetch", "call.done", "COMPLETED", 2)]
    assert await view_differences(connection) == {}


@pytest.mark.parametrize("events", [100, 1_000])
async def test_a_report_that_changes_a_call_reads_its_command_only(
    events: int, connection: asyncpg.Connection
) -> None:
    """However many events its execution has."""
    rows = [
        call(n, "call.done", status="COMPLETED", command_id=f"1:fetch:{n}") for n in range(events)
    ]
    await view_rows.insert(connection, rows)
    changed = rows[events // 2] | {"error": "HTTP 503"}

    async with connection.transaction():
        before = await connection.fetchval(EVENTS_READ)
        await view_rows.update(connection, [changed])
        read = await connection.fetchval(EVENTS_READ) - before

    assert read < 10


EVENTS_READ: Final = """
    select seq_tup_read + idx_tup_fetch
    from   pg_stat_xact_user_tables
    where  relid = 'normalizer.events'::regclass
"""


async def test_events_tell_attempt_0_from_a_number_that_nobody_sent(
    connection: asyncpg.Connection,
) -> None:
    """The retry's worker sends no number: only the view of calls knows which attempt it ended."""
    unsaid = {"evidence": 12, "attempts": 0}
    await view_rows.insert(
        connection,
        [
            call(1, "command.issued", attempts=0),
            call(2, "call.done", status="FAILED", **unsaid),
            call(3, "command.issued", attempts=1),
            call(4, "call.done", status="COMPLETED", **unsaid),
            call(5, "call.done", status="COMPLETED", command_id="1:fetch:10", attempts=0),
        ],
    )

    counted = """
        select   status, attempts, sum(events)::integer, sum(attempts_defaulted)::integer
        from     projector.{}
        where    event_type = 'call.done'
        group by status, attempts
        order by status
    """
    for view in ("attempts_by_status", "event_counts"):
        rows = await connection.fetch(counted.format(view))
        assert list(map(tuple, rows)) == [("COMPLETED", 0, 2, 1), ("FAILED", 0, 1, 1)], view
    calls = await connection.fetch(
        "select attempts, calls from projector.call_outcomes_by_attempt where succeeded > 0"
    )
    assert sorted(map(tuple, calls)) == [(0, 1), (1, 1)]


@pytest.mark.parametrize(
    "columns",
    [
        {"context": {"pending_callback": True}},
        # As a server stores what the worker sent.
        {"result": {"status": "COMPLETED", "context": {"pending_callback": True}}},
    ],
    ids=["context", "result"],
)
async def test_work_handed_over_to_a_callback_is_not_finished(
    columns: dict[str, Any], connection: asyncpg.Connection
) -> None:
    parked = call(1, "command.completed", status="COMPLETED", **columns)
    await view_rows.insert(connection, [parked])
    assert await connection.fetchval("select status from projector.calls") == "PENDING"

    await view_rows.insert(connection, [call(2, "call.done", status="COMPLETED")])

    assert await connection.fetchval("select status from projector.calls") == "COMPLETED"


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"context": {"path": "flow/a", "version": 3}}, ("flow/a", "3")),
        # As a server stores what the client sent.
        ({"result": {"context": {"path": "flow/a", "version": 3}}}, ("flow/a", "3")),
        (
            {"context": {"path": ""}, "result": {"context": {"path": "flow/a", "version": 3}}},
            ("flow/a", "3"),
        ),
        (
            {"context": {"path": "flow/b"}, "result": {"context": {"path": "flow/a"}}},
            ("flow/b", None),
        ),
        ({"result": {"context": {"path": 7, "version": 3}}}, ("the step", None)),
    ],
    ids=["context", "result", "empty", "both", "number"],
)
async def test_a_playbook_is_named_by_the_event_that_begins_the_execution(
    columns: dict[str, Any], named: tuple[str, str | None], connection: asyncpg.Connection
) -> None:
    begun = event(event_type="playbook.started", step="the step", **columns)

    await view_rows.insert(connection, [begun])

    display = "select playbook, version from projector.executions"
    assert tuple(await connection.fetchrow(display)) == named


async def test_an_execution_ends_by_lifecycle_events_only_and_as_the_first_one_says(
    connection: asyncpg.Connection,
) -> None:
    moments = {name: T0 + timedelta(seconds=n) for n, name in enumerate("abcd")}
    rows = [
        event(event_id=1, event_type="workflow.completed", status="COMPLETED"),
        event(event_id=2, event_type="playbook.completed", status="COMPLETED"),
        event(event_id=3, event_type="execution_error", status="RUNNING"),
        event(event_id=4, event_type="command.completed", status="COMPLETED"),
    ]
    for row, moment in zip(rows, moments.values(), strict=True):
        row["created_at"] = moment
    ask = "select status, contradicting, active_after_end from projector.executions"
    seen = []
    for row in rows:
        await view_rows.insert(connection, [row])
        seen.append(tuple(await connection.fetchrow(ask)))

    assert seen == [
        ("RUNNING", False, False),
        ("COMPLETED", False, False),
        ("COMPLETED", True, False),
        ("COMPLETED", True, False),
    ]


async def test_truncating_the_log_empties_what_hangs_on_it(
    connection: asyncpg.Connection,
) -> None:
    await view_rows.insert(
        connection, [call(1, "call.done", status="ERROR", error="x", attempts=1)]
    )

    await connection.execute("truncate normalizer.events")

    assert await view_differences(connection) == {}


async def test_a_writer_needs_no_right_to_any_projection(connection: asyncpg.Connection) -> None:
    await connection.execute("set role normalizer_writer")
    await connection.execute(
        "insert into normalizer.events (execution_id, event_type, status, command_id) "
        "values (1, 'call.done', 'COMPLETED', 'c')"
    )

    assert await connection.fetchval("select count(*) from projector.calls") == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("delete from projector.call_facts")


async def test_updates_of_what_runs_stay_hot(connection: asyncpg.Connection) -> None:
    """No index holds a column that each event changes."""
    running = ["command.issued", "command.claimed", "command.started"]
    for number, kind in enumerate(running * 10, start=1):
        await view_rows.insert(connection, [call(number, kind)])
    await connection.execute("select pg_stat_force_next_flush()")

    hot = await connection.fetch(
        """
        select relname, n_tup_upd, n_tup_hot_upd
        from   pg_stat_user_tables
        where  schemaname = 'projector' and n_tup_upd > 0
        """
    )

    assert {row["relname"] for row in hot} >= {"execution_facts", "call_facts", "event_hours"}
    assert [tuple(row) for row in hot if row["n_tup_upd"] != row["n_tup_hot_upd"]] == []


async def test_writers_of_their_own_executions_never_wait_for_each_other(
    database: Database, connection: asyncpg.Connection
) -> None:
    """Four open transactions with the same step, minute and status: none stands in a queue."""
    writers = [await asyncpg.connect(database.admin_url) for _ in range(4)]
    try:
        for number, writer in enumerate(writers):
            await writer.execute("set lock_timeout = '100ms'")
            await writer.execute("begin")
            for again in range(3):
                await view_rows.insert(writer, busy(number, again))
                await view_rows.update(
                    writer, [row | {"error": "y"} for row in busy(number, again)]
                )
        for writer in writers:
            await writer.execute("commit")
    finally:
        for writer in writers:
            await writer.close()

    assert await view_differences(connection) == {}


def busy(writer: int, again: int) -> list[Row]:
    """Events of two executions of this writer's own, all else as every other writer's."""
    return [
        event(
            event_id=1 + writer * 1_000 + again * 100 + number,
            execution_id=1 + writer * 2 + number % 2,
            event_type=kind,
            step="fetch",
            command_id=f"c{again}",
            attempts=again,
            status="FAILED" if kind == "call.done" else "RUNNING",
            error="x" if kind == "call.done" else None,
            worker_id="w",
            created_at=T0 + timedelta(seconds=again * 10 + number),
        )
        for number, kind in enumerate(("command.issued", "command.claimed", "call.done"))
    ]


@pytest.mark.parametrize("step", ["fetch", "__orchestrate__"])
async def test_a_failure_that_turns_out_to_be_of_another_iteration_is_no_retrys_any_more(
    step: str, connection: asyncpg.Connection
) -> None:
    """Also where the call is not counted."""
    failed = {"command_id": "1:fetch:9", "attempts": 0, "step": step}
    await view_rows.insert(
        connection,
        [
            call(1, "call.done", status="FAILED", iteration=2, **failed),
            call(5, "command.issued", command_id="1:fetch:10", attempts=1, iteration=2, step=step),
        ],
    )
    waited = "select begun_at - previous_failure_at from projector.call_facts where attempts = 1"
    assert await connection.fetchval(waited) == timedelta(seconds=4)

    await view_rows.insert(connection, [call(3, "command.started", iteration=1, **failed)])

    assert await connection.fetchval(waited) is None
    assert await view_differences(connection) == {}


ROWS_READ: Final = """
    select seq_tup_read + idx_tup_fetch
    from   pg_stat_xact_user_tables
    where  relid = 'projector.call_facts'::regclass
"""


@pytest.mark.parametrize(
    ("executions", "iterations"),
    [
        (1, 0),
        (1, 1_000),
        (500, 1),
        pytest.param(1, 1, marks=pytest.mark.soak),
        pytest.param(500, 0, marks=pytest.mark.soak),
        pytest.param(500, 1_000, marks=pytest.mark.soak),
    ],
)
async def test_a_retry_is_found_by_its_key_however_many_others_there_are(
    executions: int, iterations: int, connection: asyncpg.Connection
) -> None:
    """Also by a session whose plans are from when there were none."""

    def columns(number: int) -> dict[str, Any]:
        return {
            "execution_id": 1 + number % executions,
            "command_id": f"{number}:fetch:9",
            "iteration": number % iterations if iterations else None,
        }

    def tried_again(number: int) -> list[Row]:
        return [
            call(2 * number, "call.done", status="FAILED", attempts=0, **columns(number)),
            call(2 * number + 1, "command.issued", attempts=1, **columns(number)),
        ]

    async def read(rows: list[Row]) -> int:
        async with connection.transaction():
            before: int = await connection.fetchval(ROWS_READ)
            await view_rows.insert(connection, rows)
            after: int = await connection.fetchval(ROWS_READ)
            return after - before

    await view_rows.insert(connection, tried_again(1))
    await view_rows.insert(
        connection, [row for number in range(2, 500) for row in tried_again(number)]
    )

    assert await read(tried_again(500)) < 50
    for number in (2, 250, 500):
        failed_too = call(2_000 + number, "command.failed", attempts=0, **columns(number))
        assert await read([failed_too]) < 50
        moved = call(-number, "call.done", status="FAILED", attempts=0, **columns(number))
        assert await read([moved | {"event_id": 3_000 + number}]) < 50
    assert await view_differences(connection) == {}


async def test_many_tries_of_one_command_at_once_are_each_found_by_their_key(
    connection: asyncpg.Connection,
) -> None:
    """One record may hold ten thousand. The tables have no statistics yet, nor get any from it."""
    tries = 300

    async with connection.transaction():
        before = await connection.fetchval(ROWS_READ)
        await view_rows.insert(
            connection,
            [
                call(n, "command.completed", command_id="7:fetch:9", attempts=n)
                for n in range(tries)
            ],
        )
        read = await connection.fetchval(ROWS_READ) - before

    assert read < 20 * tries
    assert await view_differences(connection) == {}


async def test_a_report_that_adds_to_an_event_reads_no_other_of_its_execution(
    connection: asyncpg.Connection,
) -> None:
    """The first event, the last, and one at the same time as either, or as their end."""
    columns = {"catalog_id": 7, "context": {"path": "flow/a"}}
    rows = [
        event(event_id=1, event_type="playbook.started", **columns),
        event(event_id=2),
        *(event(event_id=n, created_at=T0 + timedelta(seconds=n)) for n in range(3, 300)),
        event(event_id=300, created_at=T0 + timedelta(seconds=300)),
        event(event_id=301, event_type="playbook.completed", status="COMPLETED",
              created_at=T0 + timedelta(seconds=300)),
    ]  # fmt: skip
    await view_rows.insert(connection, rows)
    more = (
        *("status = 'FAILED'", "step = 'z'", "attempts = 2", "parent_execution_id = 9"),
        *("error = 'x'", "context = jsonb_build_object('path', 'flow/a', 'more', event_id)"),
    )
    for event_id, change in product((1, 2, 100, 300, 301), more):
        if (event_id, change) == (301, more[0]):
            continue
        async with connection.transaction():
            before = await connection.fetchval(EVENTS_READ)
            await connection.execute(
                f"update normalizer.events set {change} where event_id = {event_id}"
            )
            read = await connection.fetchval(EVENTS_READ) - before
        assert read < 20, (event_id, change)

    assert await view_differences(connection) == {}


async def test_no_plan_calls_what_an_event_says_of_its_execution_and_call(
    connection: asyncpg.Connection,
) -> None:
    """Not the trigger's, a repair's, or a comparison's: PostgreSQL inlines both functions there."""
    plans: list[str] = []
    connection.add_log_listener(lambda _, message: plans.append(message.message))
    await connection.execute("load 'auto_explain'")
    await connection.execute(
        "set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on; "
        "set auto_explain.log_verbose = on; set client_min_messages = log; "
        "set search_path = projector, normalizer, public"
    )

    rows = [call(1, "command.issued"), call(2, "call.done", status="FAILED")]
    await view_rows.insert(connection, rows)
    await connection.execute("select repair_executions('{1}')")
    for comparison in (EXECUTION_FACTS_COMPARISON, CALL_FACTS_COMPARISON):
        assert len(await connection.fetch(comparison.expected, [1])) == 1

    for name in ("execution", "call"):
        reading = [plan for plan in plans if f"cross join lateral {name}_facts_from_event(" in plan]
        assert len(reading) == len(("trigger", "repair", "verify")), name
        for plan in reading:
            assert f"Function Scan on projector.{name}_facts_from_event" not in plan
            assert not re.search(r"Output: .*evidence_rank", plan)
            # The fence holds: its own node encodes the time once, for all that use it.
            assert re.search(r"->  Result .*\n *Output: .*timestamptz_send", plan)


async def test_sql_reads_the_same_evidence_as_python(connection: asyncpg.Connection) -> None:
    ranks = [Evidence(*some) for some in product(get_args(EvidenceRank), repeat=3)]

    rows = await connection.fetch(
        """
        select projector.evidence_rank(evidence, 'attempts'),
               projector.evidence_rank(evidence, 'status'),
               projector.evidence_rank(evidence, 'created_at')
        from   unnest($1::smallint[]) with ordinality as packed (evidence, place)
        order by place
        """,
        [one.pack() for one in ranks],
    )

    assert [tuple(row) for row in rows] == ranks


async def test_normal_commands_are_never_rebuilt(connection: asyncpg.Connection) -> None:
    """100,000 events: one issue, claim, start, and two ends of each command.

    A third of the commands comes in order, a third backwards, one event of a command in each batch,
    and a third in any order.
    """
    await connection.execute("set track_functions = 'pl'")
    rebuilds = """
        select coalesce(sum(calls), 0)
        from   pg_stat_xact_user_functions
        where  schemaname = 'projector' and funcname = 'rebuild_calls'
    """

    async with connection.transaction():
        for batch in range(20):
            await connection.execute(_NORMAL_COMMANDS, batch)
        assert await connection.fetchval("select count(*) from normalizer.events") == 100_000
        assert await connection.fetchval("select count(*) from projector.call_facts") == 20_000
        assert await connection.fetchval(rebuilds) == 0
        await connection.execute(
            "insert into normalizer.events (event_id, execution_id, event_type, status, step, "
            "created_at, command_id) values (200000, 1, 'command.issued', 'PENDING', 'a', now(), 1)"
        )
        assert await connection.fetchval(rebuilds) == 1


_NORMAL_COMMANDS: Final = """
    insert into normalizer.events (
        event_id, execution_id, event_type, status, step, created_at, command_id, evidence
    )
    select number, 1 + number / 5 % 400,
           (array['command.issued', 'command.claimed', 'command.started', 'call.done',
                  'command.completed'])[1 + number % 5],
           'COMPLETED', 'a',
           '2026-07-10 09:00:00+00'::timestamptz + number % 5 * interval '1 second',
           (1 + number / 5)::text, case when number % 5 > 0 then 12 else 212 end
    from   generate_series(0, 99999) as number
    where  $1::integer = case number / 5 % 3
                             when 0 then number / 5000
                             when 1 then number * 7919 % 20
                             else (hashint4(number) & 65535) % 20
                         end
"""

"""Views are the contract: each answers its question, and is described as it is."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from projector.views.catalog import VIEWS
from projector.views.description import read_described_views, views_as_json
from projector.views.operator_questions import OPERATOR_QUESTIONS
from simulator.view_fold import Row
from tests.support import view_rows
from tests.support.api_client import ROWS_WITHOUT_EVENTS
from tests.support.projection_oracle import expected_views
from tests.support.stack import Database, Stack
from tests.support.table_rows import connected
from tests.support.view_rows import event

PAGE: Final = Path(__file__).parents[3] / "docs" / "views.json"


@pytest.fixture(scope="module")
async def untouched(stack: Stack) -> AsyncIterator[asyncpg.Connection]:
    """Of one database, for all that only look at it."""
    cluster = await stack.cluster("current")
    async with cluster.database() as database, connected(database) as made:
        yield made


async def test_a_view_that_a_reader_sees_is_in_the_catalogue(
    untouched: asyncpg.Connection,
) -> None:
    seen = await untouched.fetch(
        """
        select relname::text
        from   pg_class
        where  relnamespace = 'projector'::regnamespace
        and    relkind = 'v'
        and    has_table_privilege('projector_reader', oid, 'select')
        """
    )

    assert {name for (name,) in seen} == {view.name for view in VIEWS}


async def test_every_view_asks_a_question(untouched: asyncpg.Connection) -> None:
    described = await read_described_views(untouched)

    assert [one.view.name for one in described if "?" not in one.comment] == []


async def test_only_the_timeline_reads_the_log(untouched: asyncpg.Connection) -> None:
    """Every other view answers from projections."""
    reading = await untouched.fetch(
        """
        select distinct view.relname::text
        from   pg_depend  as needed
        join   pg_rewrite as rule on rule.oid = needed.objid
        join   pg_class   as view on view.oid = rule.ev_class
        where  needed.classid = 'pg_rewrite'::regclass
        and    needed.refobjid in (
                   'normalizer.events'::regclass,
                   'projector.execution_events(bigint[])'::regprocedure
               )
        and    view.relnamespace = 'projector'::regnamespace
        """
    )

    assert {name for (name,) in reading} == {"execution_timeline"}


async def test_the_contract_of_the_views_is_what_the_database_says(
    untouched: asyncpg.Connection,
) -> None:
    assert PAGE.read_text() == views_as_json(await read_described_views(untouched)), (
        "type: projector views --json > docs/views.json"
    )


@pytest.fixture
async def filled(connection: asyncpg.Connection) -> asyncpg.Connection:
    """An hour ago until now: something for every view."""
    await connection.execute(ROWS_WITHOUT_EVENTS)
    await connection.execute(_TRIED_AND_DONE)
    started = datetime.now(UTC) - timedelta(minutes=40)
    rows = [
        *life(1, started, outcome="COMPLETED", tries=("ERROR", "COMPLETED")),
        *life(2, started, outcome="FAILED", tries=("ERROR", "ERROR")),
        *life(3, started, outcome="", tries=("COMPLETED",)),
        *life(4, started, outcome="", tries=()),
    ]
    rows[-1]["coercions"] = [{"rule": "opaque_id", "field": "execution_id"}]
    rows[-1]["recorded_at"] = rows[-1]["created_at"] + timedelta(seconds=90)
    again = started + timedelta(minutes=20)
    rows.append(said(1, 90, "command.issued", again, command_id="1:fetch:again"))
    rows.append(said(1, 91, "playbook.failed", again, status="FAILED"))
    now = datetime.now(UTC) - timedelta(seconds=30)
    rows.append(said(4, 95, "command.issued", now, attempts=1, command_id="4:fetch:storm"))
    rows.append(said(4, 96, "call.done", now, status="COMPLETED"))
    rows.append(said(4, 97, "command.issued", now, command_id="4:loop:i0", iteration=0))
    await view_rows.insert(connection, rows)
    return connection


async def test_a_view_says_whether_it_leaves_out_the_calls_of_the_engine(
    connection: asyncpg.Connection,
) -> None:
    """The same history twice, once of a step of a playbook and once of the engine's own step."""
    started = datetime.now(UTC) - timedelta(minutes=40)
    history = [
        *life(1, started, outcome="COMPLETED", tries=("ERROR", "COMPLETED")),
        *life(3, started, outcome="", tries=("COMPLETED",)),
        *life(4, started, outcome="", tries=()),
        said(4, 97, "command.issued", started, command_id="4:loop:i0", iteration=0),
    ]
    shown: dict[str, list[tuple[Any, ...]]] = {}
    for step in ("fetch", "__orchestrate__"):
        undone = connection.transaction()
        await undone.start()
        rows = [row | {"step": row["step"] and step} for row in history]
        await view_rows.insert(connection, rows)
        for view in VIEWS:
            figure = "sum(failed_calls)" if view.name == "executions" else "null"
            query = f"select count(*), {figure} from projector.{view.name}"
            shown.setdefault(view.name, []).append(tuple(await connection.fetchrow(query)))
        await undone.rollback()

    with_rows = {name for name, ((rows_of_playbook, _), _) in shown.items() if rows_of_playbook}
    left_out = {name for name, (playbook, engine) in shown.items() if playbook != engine}
    saying_so = {
        one.view.name
        for one in await read_described_views(connection)
        if re.search("leaves out.* __orchestrate__|__orchestrate__ are left out", one.comment)
    }

    assert left_out == saying_so & with_rows
    assert {"calls", "call_outcomes_by_attempt", "executions"} <= left_out


async def test_every_example_query_gives_rows(filled: asyncpg.Connection) -> None:
    silent = [view.name for view in VIEWS if not await filled.fetch(view.example)]

    assert silent == []


async def test_parts_of_several_shards_add_up(
    filled: asyncpg.Connection, database: Database
) -> None:
    """Several shards, some of which take back what others add."""
    async with connected(database) as other, other.transaction():
        await other.execute("select projector.take_shard()")
        # Another name for the playbook: its executions and calls are counted again.
        started = datetime.now(UTC) - timedelta(minutes=45)
        renamed = said(1, 2, "playbook.started", started, step="", context={"path": "flow/b"})
        await view_rows.insert(filled, [renamed])

    assert await filled.fetchval("select min(calls) from projector.call_outcomes_by_attempt") < 0
    views, folded = (
        await view_rows.view_rows(filled),
        expected_views(await view_rows.stored(filled)),
    )
    for view in view_rows.PARTS:
        assert views[view] == folded[view] != [], view


async def test_a_worker_whose_clock_is_wrong_is_named_with_its_skew(
    connection: asyncpg.Connection,
) -> None:
    """The one that's furthest off comes first. One late event leaves the others on time."""
    now = datetime.now(UTC)
    late_s = {"ahead": [-90, -89.5], "behind": [300, 300.5], "right": [0.1, 0.3], "waited": []}
    late_s["waited"] = [0.2] * 99 + [3_600]
    rows = [
        event(
            event_id=number, worker_id=worker, recorded_at=now,
            created_at=now - timedelta(seconds=seconds),
        )
        for number, (worker, seconds) in enumerate(
            ((worker, one) for worker, them in late_s.items() for one in them), start=1
        )
    ]  # fmt: skip
    rows.append(event(event_id=999, recorded_at=now, created_at=now - timedelta(days=3)))
    rows.append(event(event_id=998, worker_id="right", recorded_at=None, created_at=now))
    await view_rows.insert(connection, rows)
    (question,) = [one for one in OPERATOR_QUESTIONS if one.question.startswith("Whose clock")]

    answer = [tuple(row) for row in await connection.fetch(question.query)]

    assert [row[:4] for row in answer] == [
        ("behind", 2, 0, 0), ("ahead", 2, 0, 2), ("waited", 100, 99, 0), ("right", 2, 2, 0),
    ]  # fmt: skip
    assert [row[4] for row in answer] == pytest.approx([300.25, -89.75, 36, 0])


async def test_silence_and_waiting_are_measured_on_the_log_of_the_last_event(
    connection: asyncpg.Connection,
) -> None:
    """Whatever its id. Neither a partition behind nor a deleted one changes the others.

    Of execution 4 no partition is known, so the newest one counts.
    """
    level = datetime.now(UTC)
    for partition, as_of in enumerate((level, level - timedelta(minutes=30))):
        await view_rows.read_up_to(connection, "noetl.events", partition, as_of)
    await view_rows.read_up_to(connection, "retired.events", 0, level - timedelta(days=90))
    places = {1: ("noetl.events", 0), 2: ("noetl.events", 1), 3: ("retired.events", 0),
              4: ("sql", 0)}  # fmt: skip
    ends = {"step": "fetch", "status": "COMPLETED"}
    for region in (0, 1 << 62, 3 << 61):
        await connection.execute("truncate normalizer.events")
        rows: list[Row] = []
        for execution_id, (topic, partition) in places.items():
            place = {"source_topic": topic, "source_partition": partition}
            for number, kind in enumerate(("command.issued", "call.done")):
                at = level - timedelta(minutes=20 - number)
                for command_id in ("done", "open")[: 2 - number]:
                    rows.append(
                        event(
                            event_id=region + len(rows) + 1, execution_id=execution_id,
                            event_type=kind, created_at=at, command_id=command_id, **place, **ends,
                        )
                    )  # fmt: skip
        await view_rows.insert(connection, rows)
        stuck = await connection.fetch(
            "select execution_id, age_s, silent_s from projector.stuck_executions"
        )
        waiting = await connection.fetch(
            "select execution_id, waiting_s from projector.open_calls order by execution_id"
        )
        await view_rows.delete(
            connection, [row["event_id"] for row in rows if row["command_id"] == "open"]
        )
        open_ended = await connection.fetch(
            "select execution_id, silent_s from projector.executions_without_end "
            "order by execution_id"
        )

        assert sorted(tuple(row) for row in stuck) == [(1, 1200, 1140), (4, 1200, 1140)]
        # Partitions that were read up to a time before the event have seen no second of waiting.
        assert [tuple(row) for row in waiting] == [(1, 1200), (2, 0), (3, 0), (4, 1200)]
        assert [tuple(row) for row in open_ended] == [(1, 1140), (2, 0), (3, 0), (4, 1140)]


async def test_silence_after_a_backfill_is_measured_on_the_newest_partition(
    connection: asyncpg.Connection,
) -> None:
    """The last event is from a file or a table, which has no position."""
    level = datetime.now(UTC)
    at = level - timedelta(minutes=20)
    places = enumerate(("file:events.ndjson", "pg:noetl.event"), start=1)
    rows = [
        event(
            event_id=10 * number + step, execution_id=number, event_type=kind, created_at=at,
            command_id=f"{number}:{kind}", source_topic=topic, status="COMPLETED",
        )
        for number, topic in places
        for step, kind in enumerate(("command.issued", "call.done"))
    ]  # fmt: skip
    await view_rows.insert(connection, rows)
    silent = """
        select (select array_agg(silent_s order by execution_id) from projector.stuck_executions),
               (select array_agg(waiting_s order by execution_id) from projector.open_calls)
    """
    unread = await connection.fetchrow(silent)
    for partition, minutes in enumerate((5, 2)):
        as_of = level - timedelta(minutes=minutes)
        await view_rows.read_up_to(connection, "noetl.events", partition, as_of)
    read = await connection.fetchrow(silent)
    await view_rows.delete(connection, [10, 20])
    open_ended = await connection.fetchval(
        "select array_agg(silent_s order by execution_id) from projector.executions_without_end"
    )

    assert list(unread) == [None, [None, None]]
    for silent_s in (*read, open_ended):
        assert silent_s == pytest.approx([1080, 1080], abs=0.01)


def life(
    execution_id: int, started: datetime, *, outcome: str, tries: tuple[str, ...]
) -> list[Row]:
    """One execution with one command, issued again after each failure."""
    rows = [
        said(execution_id, 1, "playbook.started", started, step="", context={"path": "flow/a"}),
    ]
    for attempts, status in enumerate(tries):
        at = started + timedelta(minutes=attempts)
        ids: dict[str, Any] = {"attempts": attempts, "command_id": f"{execution_id}:{attempts}"}
        error = None if status == "COMPLETED" else "HTTP 503"
        base = 10 * attempts + 10
        rows += [
            said(execution_id, base, "command.issued", at, max_attempts=2, **ids),
            said(execution_id, base + 1, "command.claimed", at + timedelta(seconds=1), **ids),
            said(
                execution_id, base + 2, "call.done", at + timedelta(seconds=3), status=status,
                error=error, duration=2.0, **ids,
            ),
        ]  # fmt: skip
    if outcome:
        at = started + timedelta(minutes=10)
        kind = f"playbook.{outcome.lower()}"
        rows.append(said(execution_id, 80, kind, at, step="", status=outcome))
    elif not tries:
        rows.append(
            said(execution_id, 80, "command.issued", started, command_id=f"{execution_id}:open")
        )
    return rows


def said(execution_id: int, number: int, kind: str, at: datetime, **columns: Any) -> Row:
    """An event of the step `fetch`, with its id by execution and number."""
    defaults = {
        "step": "fetch", "worker_id": "worker-1", "shape": "executor",
        "source_topic": "noetl.events",
    }  # fmt: skip
    return event(
        event_id=execution_id * 1_000 + number,
        execution_id=execution_id,
        event_type=kind,
        created_at=at,
        recorded_at=at + timedelta(milliseconds=5),
        **defaults | columns,
    )


_TRIED_AND_DONE: Final = """
    insert into normalizer.redrive_attempts
           (quarantine_id, tried_by, normalizer_version, outcome, detail, job_id, run)
    select quarantine_id, 'o', 1, 'rejected', 'no JSON', 'job-2', 1
    from   normalizer.quarantine;

    insert into normalizer.jobs (job_id, run, kind, spec, owner, lock_key, state)
    values ('job-1', 1, 'backfill', 'file a', 'o', 1, 'complete');
"""

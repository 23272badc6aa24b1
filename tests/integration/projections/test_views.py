"""Views are the contract: each answers its question, and is described as it is."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from projector.views.catalog import VIEWS
from projector.views.description import as_json, describe
from projector.views.operator_questions import OPERATOR_QUESTIONS
from simulator.view_fold import Row
from tests.support import view_rows
from tests.support.stack import Stack
from tests.support.view_rows import event

PAGE: Final = Path(__file__).parents[3] / "docs" / "views.json"


@pytest.fixture(scope="module")
async def untouched(stack: Stack) -> AsyncIterator[asyncpg.Connection]:
    """Of one database, for all that only look at it."""
    async with (await stack.cluster("current")).database() as database:
        made = await asyncpg.connect(database.admin_url)
        yield made
        await made.close()


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


async def test_every_view_asks_a_question_and_says_what_its_columns_mean(
    untouched: asyncpg.Connection,
) -> None:
    described = await describe(untouched)

    assert [one.view.name for one in described if "?" not in one.comment] == []
    assert [
        (one.view.name, column.name)
        for one in described
        for column in one.columns
        if not column.meaning
    ] == []


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
    assert PAGE.read_text() == as_json(await describe(untouched)), (
        "type: projector views --json > docs/views.json"
    )


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

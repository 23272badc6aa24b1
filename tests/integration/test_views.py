"""Views are the contract: each answers its question, and is described as it is."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from projector.document import as_markdown, describe
from projector.questions import VIEWS
from tests import shown
from tests.fold import Row
from tests.shown import event
from tests.stack import Database

PAGE: Final = Path(__file__).parents[2] / "docs" / "views.md"


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(database.admin_url)
    yield made
    await made.close()


def test_every_view_of_the_operators_questions_is_there() -> None:
    """Source: anchors, questions 1 to 10, 12 to 17 and 19 to 23, and the names of the issue."""
    wanted = set(
        "first_attempt_success error_rate_by_attempt retry_recovery retry_storms retry_exhaustion "
        "attempts_per_success stuck_executions open_calls executions_without_end "
        "call_durations_by_attempt call_queue_waits retry_backoffs failures_by_error "
        "contradicting_executions completed_with_failures execution_outcomes worker_failures "
        "execution_timeline events_per_second freshness quarantine_by_reason coercions_by_rule "
        "agreement late_arrivals attempts_by_status call_outcomes_by_attempt executions".split()
    )

    assert wanted <= {view.name for view in VIEWS}


async def test_a_view_that_a_reader_sees_is_in_the_catalogue(
    connection: asyncpg.Connection,
) -> None:
    seen = await connection.fetch(
        """
        select relname::text
        from   pg_class
        where  relnamespace = 'projector'::regnamespace
        and    relkind = 'v'
        and    has_table_privilege('projector_reader', oid, 'select')
        """
    )

    assert {name for (name,) in seen} - {"jobs"} == {view.name for view in VIEWS}


async def test_every_view_asks_a_question_and_says_what_its_columns_mean(
    connection: asyncpg.Connection,
) -> None:
    described = await describe(connection)

    assert [one.view.name for one in described if "?" not in one.comment] == []
    assert [
        (one.view.name, column.name)
        for one in described
        for column in one.columns
        if not column.meaning
    ] == []


async def test_no_view_is_without_a_question(connection: asyncpg.Connection) -> None:
    """Also those that nobody but us reads."""
    silent = await connection.fetch(
        """
        select relname::text
        from   pg_class
        where  relnamespace = 'projector'::regnamespace
        and    relkind = 'v'
        and    coalesce(obj_description(oid, 'pg_class'), '') not like '%?%'
        """
    )

    assert silent == []


async def test_only_the_timeline_reads_the_log(connection: asyncpg.Connection) -> None:
    """By the bounds of one execution's ids. Every other view answers from projections."""
    reading = await connection.fetch(
        """
        select distinct view.relname::text
        from   pg_depend  as needed
        join   pg_rewrite as rule on rule.oid = needed.objid
        join   pg_class   as view on view.oid = rule.ev_class
        where  needed.classid = 'pg_rewrite'::regclass
        and    needed.refobjid = 'normalizer.events'::regclass
        and    view.relnamespace = 'projector'::regnamespace
        """
    )

    assert {name for (name,) in reading} == {"execution_timeline"}


async def test_the_page_is_what_the_database_says(connection: asyncpg.Connection) -> None:
    assert PAGE.read_text() == as_markdown(await describe(connection)), (
        "type: projector views --markdown > docs/views.md"
    )


async def test_a_view_that_counts_has_its_hour_or_minute(connection: asyncpg.Connection) -> None:
    about_now = {"retry_storms", "freshness", "agreement", "execution_timeline"}

    timeless = [
        one.view.name
        for one in await describe(connection)
        if not {"hour", "minute"} & {column.name for column in one.columns}
    ]

    assert set(timeless) <= about_now


@pytest.fixture
async def filled(connection: asyncpg.Connection) -> asyncpg.Connection:
    """An hour ago until now: something for every view."""
    await connection.execute(_REST)
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
    await shown.insert(connection, rows)
    return connection


async def test_every_example_query_gives_rows(filled: asyncpg.Connection) -> None:
    silent = [view.name for view in VIEWS if not await filled.fetch(view.example)]

    assert silent == []


async def test_parts_add_up_to_what_the_views_show(
    filled: asyncpg.Connection, database: Database
) -> None:
    """Of several shards, some of which take back what others say."""
    other = await asyncpg.connect(database.admin_url)
    async with other.transaction():
        await other.execute("select projector.take_shard()")
        # Another name for the playbook: its executions and calls are counted anew.
        started = datetime.now(UTC) - timedelta(minutes=45)
        told = said(1, 2, "playbook.started", started, step="", context={"path": "flow/b"})
        await shown.insert(filled, [told])
    await other.close()
    added = {
        "attempts_by_status_hourly": """
            select   hour, step, event_type, status, attempts, sum(events)::bigint
            from     projector.event_counts
            group by hour, step, event_type, status, attempts
            having   sum(events) <> 0
        """,
        "call_outcomes_by_attempt": """
            select   hour, playbook, step, attempts, status, sum(calls)::bigint as calls
            from     projector.call_counts
            group by hour, playbook, step, attempts, status
            having   sum(calls) <> 0
        """,
        "retry_exhaustion": """
            select   hour, playbook, step, sum(failed)::bigint as failed,
                     sum(exhausted)::bigint as exhausted,
                     sum(exhausted)::double precision / sum(failed)::double precision
            from     projector.call_counts
            group by hour, playbook, step
            having   sum(failed) <> 0
        """,
        "attempts_per_success": """
            select   hour, playbook, step, sum(calls)::bigint, sum(succeeded)::bigint,
                     sum(calls)::double precision / nullif(sum(succeeded), 0)::double precision
            from     projector.call_counts
            group by hour, playbook, step
            having   sum(calls) <> 0
        """,
        "call_duration_histogram": """
            select   hour, playbook, step, attempts, status, bucket, projector.seconds_of(bucket),
                     sum(calls)::bigint
            from     projector.call_time_counts
            where    measure = 'duration'
            group by hour, playbook, step, attempts, status, bucket
            having   sum(calls) <> 0
        """,
        "execution_outcomes": """
            select   hour, playbook, outcome, sum(executions)::bigint
            from     projector.execution_counts
            where    outcome <> 'BEGUN'
            group by hour, playbook, outcome
            having   sum(executions) <> 0
        """,
        "executions_begun": """
            select   hour, playbook, sum(executions)::bigint
            from     projector.execution_counts
            where    outcome = 'BEGUN'
            group by hour, playbook
            having   sum(executions) <> 0
        """,
    }

    assert await filled.fetchval("select min(calls) from projector.call_counts") < 0
    for view, query in added.items():
        of_view = {tuple(row) for row in await filled.fetch(f"select * from projector.{view}")}
        assert {tuple(row) for row in await filled.fetch(query)} == of_view != set(), view


async def test_silence_and_waiting_are_measured_on_the_log_of_the_last_event(
    connection: asyncpg.Connection,
) -> None:
    """Whatever its id; neither a partition behind nor one that is gone changes what others show."""
    level = datetime.now(UTC)
    for partition, as_of in enumerate((level, level - timedelta(minutes=30))):
        await connection.execute(_LOG, "noetl.events", partition, as_of)
    await connection.execute(_LOG, "retired.events", 0, level - timedelta(days=90))
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
        await shown.insert(connection, rows)
        stuck = await connection.fetch(
            "select execution_id, age_s, silent_s from projector.stuck_executions"
        )
        waiting = await connection.fetch(
            "select execution_id, waiting_s from projector.open_calls order by execution_id"
        )
        await shown.delete(
            connection, [row["event_id"] for row in rows if row["command_id"] == "open"]
        )
        open_ended = await connection.fetch(
            "select execution_id, silent_s from projector.executions_without_end "
            "order by execution_id"
        )

        assert [tuple(row) for row in stuck] == [(1, 1200, 1140)]
        days = -90 * 86_400 + 1200
        assert [tuple(row) for row in waiting] == [(1, 1200), (2, -600), (3, days), (4, None)]
        assert [tuple(row) for row in open_ended] == [
            (1, 1140), (2, -660), (3, days - 60), (4, None)
        ]  # fmt: skip


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
    told = {
        "step": "fetch", "worker_id": "worker-1", "shape": "executor",
        "source_topic": "noetl.events",
    }  # fmt: skip
    return event(
        event_id=execution_id * 1_000 + number,
        execution_id=execution_id,
        event_type=kind,
        created_at=at,
        recorded_at=at + timedelta(milliseconds=5),
        **told | columns,
    )


_LOG: Final = """
    with claimed as (
        insert into normalizer.source_position
               (topic, generation, partition, cluster_id, owner, start_offset, next_offset)
        values ($1::text, 0, $2::integer, 'c', 'o', 0, 0)
    )
    insert into normalizer.source_log
           (topic, partition, generation, cluster_id, epoch, partition_count, log_start, log_end,
            next_offset, end_seen_at, heartbeat_at)
    values ($1, $2, 0, 'c', 1, 2, 0, 0, 0, $3::timestamptz, $3)
"""
"""A partition of which everything up to a time is here."""

_REST: Final = """
    insert into normalizer.source_position
           (topic, generation, partition, cluster_id, owner, start_offset, next_offset, records,
            holes, last_recorded_ms)
    values ('noetl.events', 0, 0, 'c', 'o', 0, 5, 3, 2, extract(epoch from now()) * 1000);

    insert into normalizer.gap (topic, generation, partition, missing, offsets, reason)
    values ('noetl.events', 0, 0, '{[1, 3)}', 2, 'hole');

    insert into normalizer.drift
           (shape, field, type, kind, source_topic, source_generation, source_partition,
            source_offset, example)
    values ('worker', 'brand_new', 'number', 'unknown_key', 'noetl.events', 0, 0, 4, '7');

    insert into normalizer.quarantine
           (reason, detail, shape, normalizer_version, source_topic, source_generation,
            source_partition, source_offset, source_index, value_bytes, batch_id)
    values ('invalid_json', 'no JSON', '', 1, 'noetl.events', 0, 0, 4, 0, 7, 1);

    insert into projector.verification
           (projection, scope, verdict, compared, divergent, archived, detail, took_s)
    values ('event_hours', 'all', 'match', 7, 0, 0, '', 0.1);
"""

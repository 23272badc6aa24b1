"""Reads the views of a database in the oracle's form, and inserts rows into its log."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from simulator.view_fold import Row
from tests.support.projection_oracle import ViewRows, expected_views
from tests.support.stack import Database
from tests.support.table_rows import connected, insert_row

T0: Final = datetime(2026, 7, 10, 9, 0, tzinfo=UTC)

COLUMNS: Final[Mapping[str, str]] = {
    "event_id": "bigint",
    "execution_id": "bigint",
    "event_type": "text",
    "step": "text",
    "status": "text",
    "attempts": "integer",
    "max_attempts": "integer",
    "created_at": "timestamptz",
    "worker_id": "text",
    "command_id": "text",
    "iteration": "integer",
    "catalog_id": "bigint",
    "parent_execution_id": "bigint",
    "duration": "double precision",
    "error": "text",
    "context": "jsonb",
    "result": "jsonb",
    "coercions": "jsonb",
    "evidence": "smallint",
    "shape": "text",
    "source_topic": "text",
    "source_incarnation": "integer",
    "source_partition": "integer",
    "source_offset": "bigint",
    "source_index": "integer",
    "merge_flags": "smallint",
    "recorded_at": "timestamptz",
}
_NAMES: Final = ", ".join(COLUMNS)
"""The columns that projections read, with their types."""

# Columns that depend on the clock or the order of arrival, which a fold can't know.
NOT_EXPECTED: Final = {
    "executions_without_end": {"silent_s"},
    "open_calls": {"waiting_s"},
    "error_groups": {"execution_id", "step", "attempts", "error"},
    "attempts_in_order": {"hour"},
    "loops": {"hour"},
}
OTHER_SOURCES: Final = {
    "finished_calls", "executions_with_as_of", "stuck_executions", "stuck_reasons", "retry_storms",
    "execution_timeline", "deployments",
    "quarantine_by_reason", "quarantine_records", "redrive_attempts", "freshness",
    "gaps", "drift", "agreement", "jobs",
}  # fmt: skip
"""Views that are not made from events, or only from those of some time."""

OF_EXECUTIONS: Final = {
    "executions", "calls", "open_calls", "attempts_in_order", "contradicting_executions",
    "completed_with_failures", "executions_without_end", "error_groups", "loops",
    "playbook_versions", "failed_calls",
}  # fmt: skip
"""Views of single executions and calls, which go when retention deletes an execution."""

PARTS: Final = {
    "event_counts": ("events", "attempts_defaulted"),
    "call_outcomes_by_attempt": ("calls", "succeeded", "failed", "exhausted", "inferred"),
    "call_time_histogram": ("calls",),
    "execution_outcomes": ("executions",),
}
"""Views whose rows are partial, with the columns to be added up."""


def event(**columns: Any) -> Row:
    """A row of `events`, with defaults for all that does not matter."""
    row: Row = dict.fromkeys(COLUMNS)
    row |= {
        "event_id": 1,
        "execution_id": 1,
        "event_type": "step.enter",
        "step": "",
        "status": "RUNNING",
        "attempts": 0,
        "created_at": T0,
        "evidence": 212,
        "shape": "sql",
        "source_topic": "sql",
        "source_incarnation": 0,
        "source_partition": 0,
        "source_offset": 0,
        "source_index": 0,
        "merge_flags": 0,
    }
    return row | columns


async def insert(connection: asyncpg.Connection, rows: Sequence[Row]) -> None:
    """Insert rows with one statement."""
    await _send(connection, f"insert into normalizer.events ({_NAMES}) select * from {{}}", rows)


async def add(database: Database, *rows: Row) -> None:
    """Insert rows with one statement, as a superuser."""
    async with connected(database) as connection:
        await insert(connection, rows)


async def update(connection: asyncpg.Connection, rows: Sequence[Row]) -> None:
    """Update rows with one statement. Each replaces the one with its event_id."""
    changes = ", ".join(f"{name} = changed.{name}" for name in COLUMNS)
    await _send(
        connection,
        f"update normalizer.events as event set {changes} "
        f"from {{}} as changed ({_NAMES}) where event.event_id = changed.event_id",
        rows,
    )


async def _send(connection: asyncpg.Connection, statement: str, rows: Sequence[Row]) -> None:
    """Execute a statement with the rows in the place of `{}`."""
    if rows:
        arrays = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(COLUMNS.values(), start=1))
        columns = ([_sent(name, row[name]) for row in rows] for name in COLUMNS)
        await connection.execute(statement.format(f"unnest({arrays})"), *columns)


async def delete(connection: asyncpg.Connection, event_ids: Iterable[int]) -> None:
    """Delete rows with one statement."""
    await connection.execute(
        "delete from normalizer.events where event_id = any($1::bigint[])", list(event_ids)
    )


def _sent(name: str, value: Any) -> Any:
    return json.dumps(value) if COLUMNS[name] == "jsonb" and value is not None else value


async def stored(connection: asyncpg.Connection) -> list[Row]:
    """The stored log, from which the oracle folds."""
    names = ", ".join(COLUMNS)
    rows = [dict(row) for row in await connection.fetch(f"select {names} from normalizer.events")]
    for row in rows:
        for name in ("context", "result", "coercions"):
            if isinstance(row[name], str):
                row[name] = json.loads(row[name])
    return rows


async def view_rows(connection: asyncpg.Connection) -> dict[str, ViewRows]:
    """View -> its rows, sorted, without what a fold cannot know."""
    columns = await connection.fetch(
        """
        select   table_name, array_agg(column_name::text order by ordinal_position) as names
        from     information_schema.columns
        where    table_schema = 'projector'
        and      table_name in (select viewname from pg_views where schemaname = 'projector')
        group by table_name
        """
    )
    views: dict[str, ViewRows] = {}
    for view, names in columns:
        if view in OTHER_SOURCES:
            continue
        kept = [name for name in names if name not in NOT_EXPECTED.get(view, ())]
        rows = await connection.fetch(_select_rows(view, kept))
        views[view] = sorted((tuple(row) for row in rows), key=_sort_key)
    return views


def _select_rows(view: str, names: Sequence[str]) -> str:
    sums = PARTS.get(view)
    if sums is None:
        return f"select {', '.join(names)} from projector.{view}"
    keys = ", ".join(name for name in names if name not in sums)
    return (
        f"select {keys}, {', '.join(f'sum({one})::bigint' for one in sums)} "
        f"from projector.{view} group by {keys} "
        f"having {' or '.join(f'sum({one}) <> 0' for one in sums)}"
    )


def _sort_key(row: tuple[Any, ...]) -> list[tuple[bool, str]]:
    return [(value is None, str(value)) for value in row]


async def view_differences(connection: asyncpg.Connection) -> dict[str, dict[str, ViewRows]]:
    """View -> rows that only it has, and rows that only the fold has. Empty: they agree."""
    return differences(await view_rows(connection), expected_views(await stored(connection)))


def differences(
    views: dict[str, ViewRows], expected: dict[str, ViewRows]
) -> dict[str, dict[str, ViewRows]]:
    """By view, the actual and the expected rows where they differ."""
    differing = {}
    for view in sorted(views.keys() | expected.keys()):
        is_shown, should_be = views.get(view, []), expected.get(view, [])
        if is_shown != should_be:
            differing[view] = {
                "shown": [row for row in is_shown if row not in should_be],
                "should be": [row for row in should_be if row not in is_shown],
            }
    return differing


async def read_up_to(
    connection: asyncpg.Connection, topic: str, partition: int, as_of: datetime
) -> None:
    """A partition whose records up to a time are all here."""
    place = {"topic": topic, "partition": partition}
    await insert_row(connection, "normalizer.source_positions", **place)
    seen = {"end_seen_at": as_of, "heartbeat_at": as_of}
    await insert_row(connection, "normalizer.source_heartbeats", **place, **seen)

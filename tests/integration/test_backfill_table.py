"""Rows of a table replayed, first of all of noetl.event: paged, resumed, and told apart."""

import re
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from normalizer.core.record import RawRecord
from normalizer.envelope import Envelope, to_canonical
from normalizer.jobs.reporting import Verdict
from normalizer.jobs.tables import TableSource
from simulator.mix import Mix
from simulator.record import Record
from tests.replays import NORMALIZE, backfill_of, found_wrong, played, settings_of
from tests.stack import Database
from tests.tables import connected, stored_events

# As the platform's schema has it; prev_event_id since the Rust server writes it.
EVENT_TABLE: Final = """
    create schema noetl;
    create table noetl.event (
        execution_id bigint, catalog_id bigint, event_id bigint, parent_event_id bigint,
        parent_execution_id bigint, created_at timestamp not null default current_timestamp,
        event_type varchar, node_id varchar, node_name varchar, node_type varchar, status varchar,
        duration double precision, context jsonb, result jsonb, meta jsonb, error text,
        current_index integer, current_item text, worker_id varchar, distributed_state varchar,
        context_key varchar, context_value text, trace_component jsonb, stack_trace text,
        prev_event_id bigint,
        primary key (execution_id, event_id)
    ) partition by range (execution_id);
    create table noetl.event_early partition of noetl.event
        for values from (minvalue) to (200000000000000000);
    create table noetl.event_default partition of noetl.event default;
    grant usage on schema noetl to public;
    grant select on noetl.event to public;
"""


COLUMNS: Final = frozenset(
    re.findall(r"(\w+) (?:bigint|varchar|jsonb|text|timestamp)", EVENT_TABLE)
)
BIGINTS: Final = {
    *("event_id", "execution_id", "catalog_id", "parent_event_id"),
    *("parent_execution_id", "prev_event_id"),
}


async def backfilled(database: Database, **asked: Any) -> Verdict:
    """The verdict of one run over a table or a query of the same database."""
    source = TableSource(database.url, **asked)
    return await backfill_of(settings_of(database), source, str(asked)).run()


async def insert(connection: asyncpg.Connection, rows: list[dict[str, Any]]) -> None:
    """Rows as the servers store them."""
    await connection.execute(
        """
        insert into noetl.event
        select row.* from jsonb_array_elements($1::jsonb) as given (item)
        cross join lateral jsonb_populate_record(null::noetl.event, given.item) as row
        on conflict do nothing
        """,
        msgspec.json.encode(rows).decode(),
    )


def stream_rows(records: list[Record]) -> list[dict[str, Any]]:
    """The bodies of stream rows: what the Rust server stores, column by column."""
    rows = []
    for record in records:
        try:
            body = msgspec.json.decode(record.value or b"null")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        if not isinstance(body, dict) or "prev_event_id" not in body or body.keys() - COLUMNS:
            continue
        ids = (body.get(name) for name in body if name.endswith("_id") and name in BIGINTS)
        if all(type(number) in {int, type(None)} for number in ids) and (
            b"\\u0000" not in (record.value or b"")
        ):
            # A column has microseconds; the servers' drivers cut what is beyond, a cast rounds it.
            rows.append(body | {"created_at": body["created_at"].rstrip("Z")[:26] + "Z"})
    return rows


async def test_stored_rows_give_the_canonical_bytes_of_what_the_servers_send(
    database: Database,
) -> None:
    rows = stream_rows(list(played(12_000, mix=Mix(odd=0.0, odd_text=0.0))))
    wanted: dict[tuple[int, int], bytes] = {}
    for row in rows:
        for outcome in NORMALIZE(RawRecord(value=msgspec.json.encode(row), topic="wire")):
            if isinstance(outcome, Envelope) and outcome.evidence % 10 == 2:
                key = (outcome.execution_id, outcome.event_id or 0)
                wanted.setdefault(key, to_canonical(outcome))
    async with connected(database) as connection:
        await connection.execute(EVENT_TABLE)
        await insert(connection, rows)

        first = await backfilled(database, table="noetl.event")
        again = await backfilled(database, table="noetl.event")

        stored = {
            (event.execution_id, event.event_id or 0): to_canonical(event)
            for event in await stored_events(connection)
        }
    assert len(wanted) > 500
    assert {key: stored.get(key) for key in wanted} == wanted
    assert first.totals.stored == first.totals.records
    assert (again.totals.stored, again.totals.duplicate) == (0, first.totals.records)
    assert await found_wrong(database) == []


async def test_two_executions_may_have_rows_of_one_id(database: Database) -> None:
    rows = [
        {
            "event_id": 77,
            "execution_id": execution,
            "event_type": "call.done",
            "created_at": "2026-01-31T12:00:00",
        }
        for execution in (1, 2, 3)
    ]
    async with connected(database) as connection:
        await connection.execute(EVENT_TABLE)
        await insert(connection, rows)

        first = await backfilled(database, table="noetl.event")
        again = await backfilled(database, table="noetl.event")

        events = await stored_events(connection)
    assert (first.totals.stored, again.totals.duplicate) == (3, 3)
    assert {event.execution_id for event in events} == {1, 2, 3}
    assert {event.source_offset for event in events} == {77}
    assert {event.source_topic for event in events} == {"pg:noetl.event"}


async def test_rows_are_read_page_by_page_to_the_last(database: Database) -> None:
    async with connected(database) as connection:
        await connection.execute(
            """
            create table public.history as
            select number::text as event_id, 7 as execution_id, 'step.enter' as name,
                   '2026-01-31'::timestamptz as created_at
            from   generate_series(1, 4567) as number;
            grant select on public.history to public;
            """
        )

    verdict = await backfilled(database, table="public.history", key=["execution_id", "event_id"])

    assert (verdict.state, verdict.totals.stored) == ("complete", 4567)


async def test_a_query_is_named_and_keyed_and_its_rows_get_what_they_lack(
    database: Database,
) -> None:
    verdict = await backfilled(
        database,
        query="select number as event_id, 'step.enter' as name, 9 as execution_id, "
        "'2026-01-31' as created_at from generate_series(1, 3) as number",
        name="three",
        key=["event_id"],
    )

    async with connected(database) as connection:
        events = await stored_events(connection)
    assert verdict.totals.stored == 3
    assert {event.source_topic for event in events} == {"pg:three"}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"table": "nowhere"}, 'relation "nowhere" does not exist'),
        ({"table": "keyless"}, "no primary key: say with --key"),
        ({"table": "keyless", "key": ["other"]}, "there is no column event_id, other"),
        ({"query": "select 1 as event_id from", "key": ["event_id"]}, "SQLSTATE 42601"),
        ({"query": "select 1 as event_id", "key": []}, "no primary key"),
        (
            {
                "query": "select 1 as event_id, n / 2 as k from generate_series(1, 9) as n",
                "key": ["k"],
            },
            "two rows have the key",
        ),
        (
            {"query": "select 1 as event_id, null::text as k", "key": ["k"]},
            "a row's key holds null",
        ),
        ({"query": "select 'x' as event_id", "key": ["event_id"]}, "a row without an event_id"),
    ],
)
async def test_what_cannot_be_paged_fails_and_says_why(
    database: Database, asked: dict[str, Any], why: str
) -> None:
    async with connected(database) as connection:
        await connection.execute("create table public.keyless (name text)")

    verdict = await backfilled(database, **asked)

    assert verdict.state == "failed"
    assert why in verdict.reason

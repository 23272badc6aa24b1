"""The event table of a NoETL server, with rows as the servers store them."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import asyncpg
import msgspec

from simulator.sent_record import SentRecord

# Like in the platform's schema. prev_event_id exists since the Rust server writes it.
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

_COLUMNS: Final = frozenset(
    re.findall(r"(\w+) (?:bigint|varchar|jsonb|text|timestamp)", EVENT_TABLE)
)
_BIGINTS: Final = {
    *("event_id", "execution_id", "catalog_id", "parent_event_id"),
    *("parent_execution_id", "prev_event_id"),
}


async def insert(connection: asyncpg.Connection, rows: list[dict[str, Any]]) -> None:
    """Insert rows like the servers. If two have the same key, the first one stays."""
    await connection.execute(
        """
        insert into noetl.event
        select row.* from jsonb_array_elements($1::jsonb) as given (item)
        cross join lateral jsonb_populate_record(null::noetl.event, given.item) as row
        on conflict do nothing
        """,
        msgspec.json.encode(rows).decode(),
    )


def stream_rows(records: Iterable[SentRecord]) -> Iterator[dict[str, Any]]:
    """The bodies of stream rows: what the Rust server stores, column by column."""
    for record in records:
        try:
            body = msgspec.json.decode(record.value or b"null")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        if not isinstance(body, dict) or "prev_event_id" not in body or body.keys() - _COLUMNS:
            continue
        ids = (body.get(name) for name in body if name.endswith("_id") and name in _BIGINTS)
        if all(type(number) in {int, type(None)} for number in ids) and (
            b"\\u0000" not in (record.value or b"")
        ):
            # A column has microseconds. The servers' drivers truncate the rest, but a cast rounds
            # it.
            yield body | {"created_at": body["created_at"].rstrip("Z")[:26] + "Z"}

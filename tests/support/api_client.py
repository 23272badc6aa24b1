"""The HTTP API over a test's database, without a socket, and a history for its answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

import asyncpg
import httpx
import msgspec

from bench.history import make_history
from projector.api.app import build_app
from projector.api.endpoints import Endpoint
from projector.api.execution_waiter import ExecutionEndWaiter
from projector.api.parameters import Parameters
from projector.api.query_strings import parse_query_string
from projector.api.snapshots import ReaderPool
from tests.support.stack import Database

ROWS_WITHOUT_EVENTS: Final = """
    insert into normalizer.source_positions
           (topic, incarnation, partition, cluster_id, owner, start_offset, next_offset, records,
            holes, last_recorded_ms)
    values ('noetl.events', 0, 0, 'c', 'o', 0, 5, 3, 2, extract(epoch from now()) * 1000 - 2000),
           ('noetl.events', 0, 1, 'c', 'o', 0, 5, 3, 2, extract(epoch from now()) * 1000 - 9000);

    insert into normalizer.gaps (topic, incarnation, partition, missing, offsets, reason)
    values ('noetl.events', 0, 0, '{[1, 3)}', 2, 'hole'),
           ('noetl.events', 0, 1, '{[1, 3)}', 2, 'expired');

    insert into normalizer.quarantine
           (reason, detail, shape, normalizer_version, source_topic, source_incarnation,
            source_partition, source_offset, source_index, value_bytes, batch_id)
    values ('invalid_json', 'no JSON', '', 1, 'noetl.events', 0, 0, 4, 0, 7, 1);

    insert into projector.verifications
           (projection, scope, verdict, compared, divergent, archived, detail, took_s)
    values ('event_hours', 'all', 'match', 7, 0, 0, '', 0.1);

    insert into normalizer.drift_findings
           (shape, field, type, kind, source_topic, source_incarnation, source_partition,
            source_offset, example)
    values ('worker', 'brand_new', 'number', 'unknown_key', 'noetl.events', 0, 0, 4, '7');
"""
_EVENTS: Final = """
    insert into normalizer.events (event_id, execution_id, event_type, step, status, attempts,
                                   created_at, command_id, coercions, recorded_at, shape,
                                   error, source_topic, source_partition)
    values (1, 1, 'command.issued', 'fetch', 'PENDING', 1, now() - interval '20 minutes', '1:fetch',
            '[{"rule": "opaque_id", "field": "execution_id", "from": "x"}]', now(), 'executor',
            null, 'noetl.events', 0),
           (2, 1, 'playbook.completed', 'flow', 'COMPLETED', 0, now() - interval '30 minutes', null,
            null, now(), 'executor', null, 'noetl.events', 0),
           (3, 1, 'playbook.failed', 'flow', 'FAILED', 0, now() - interval '29 minutes', null, null,
            now(), 'executor', null, 'noetl.events', 0),
           (4, 2, 'playbook.started', 'flow', 'STARTED', 0, now() - interval '30 minutes', null,
            null, now(), 'executor', null, 'noetl.events', 0),
           (5, 2, 'call.done', 'fetch', 'ERROR', 1, now() - interval '20 minutes', '2:fetch', null,
            now(), 'executor', 'HTTP 500', 'noetl.events', 0),
           (6, 2, 'call.done', 'fetch', 'COMPLETED', 0, now() - interval '25 minutes', null, null,
            now(), 'executor', null, 'noetl.events', 0);

    insert into normalizer.events (event_id, execution_id, event_type, step, status, attempts,
                                   created_at, command_id, iteration, recorded_at, shape,
                                   source_topic, source_partition)
    select event_id, 3, event_type, 'each', status, 0, now() - interval '8 minutes', command_id,
           iteration, now(), 'executor', 'noetl.events', 0
    from   (
               values (10, 'command.issued', 'PENDING', '3:each:0', 0),
                      (11, 'command.issued', 'PENDING', '3:each:1', 1),
                      (12, 'command.issued', 'PENDING', '3:each:2', 2),
                      (13, 'call.done', 'COMPLETED', '3:each:0', 0),
                      (14, 'call.done', 'FAILED', '3:each:1', 1)
           ) as loop (event_id, event_type, status, command_id, iteration);
"""
"""What a simulated history lacks: a row for every endpoint."""


async def insert_events(database: Database, events: int) -> None:
    """Insert three hours of history up to now, with rows for every endpoint."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        await make_history(connection, events, until=datetime.now(UTC), per_day=8 * events)
        await connection.execute(ROWS_WITHOUT_EVENTS)
        await connection.execute(_EVENTS)
        await connection.execute("analyze")
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def api_client(
    url: str, *, connections: int = 4, timeout_s: float = 30.0, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API; `options` are those of the app."""
    async with (
        ReaderPool(url, connections=connections, timeout_s=timeout_s) as reader,
        ReaderPool(url, connections=1, timeout_s=timeout_s) as own,
    ):
        waiter = ExecutionEndWaiter(reader)
        app = build_app(reader, own, waiter=waiter, **options)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            querying = asyncio.create_task(waiter.run())
            yield client
            querying.cancel()


def typed_example(endpoint: Endpoint, **given: str) -> Parameters:
    """The parameters of its example request, changed by those of `given` that it has."""
    names = {field.name for field in msgspec.structs.fields(endpoint.parameters_type)}
    wanted = endpoint.example | {name: text for name, text in given.items() if name in names}
    return parse_query_string(urlencode(wanted).encode(), endpoint.parameters_type)


async def get_rows(client: httpx.AsyncClient, path: str, **parameters: Any) -> list[dict[str, Any]]:
    """The rows of an answer."""
    answer = await client.get(f"/api/v1/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows

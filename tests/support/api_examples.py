"""Writes projector/api/examples.json: `python -m tests.support.api_examples`.

It asks each operation of the API its example request, with a real PostgreSQL behind it.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import httpx
import msgspec

from normalizer.embedded import PostgresServer
from normalizer.store.migrate import migrate
from projector.api import event_download, openapi
from projector.api.endpoints import API_PATH, ENDPOINTS
from projector.api.formats import answer_as_csv, answer_row_type
from projector.api.openapi import RecordedRequest
from projector.api.service_routes import SETTINGS_PATH
from tests.support.api_client import api_client, get_rows, insert_events
from tests.support.stack import Database

EXAMPLES_FILE: Final = Path(openapi.__file__).with_name(openapi.EXAMPLES_FILE)

_CALL: Final = {"execution_id": "333895119667515392", "event_id": "333895119839481857"}
_LOOP: Final = {"execution_id": "3"}
_MORE: Final = """
    insert into normalizer.events
           (event_id, execution_id, event_type, step, status, attempts, max_attempts, created_at,
            worker_id, command_id, duration, error, context, meta, coercions, evidence, shape,
            parent_execution_id, trace_id, headers, source_topic, source_partition, source_offset,
            recorded_at)
    values (333895119696879616, 333895119667515392, 'playbook.started', 'team1/flow_1', 'STARTED',
            0, null, now() - interval '12 minutes', null, null, null, null,
            '{"path": "team1/flow_1", "version": "3"}', '{}', null, 222, 'executor', 2, null, null,
            'noetl.events', 3, 1041, now() - interval '12 minutes'),
           (333895119839481857, 333895119667515392, 'call.done', 'fetch', 'ERROR', 1, 3,
            now() - interval '11 minutes', 'worker-7', '333895119667515392:fetch:1', 0.091,
            'HTTP 500', '{"result": {"status": "error", "error": "HTTP 500"}}', '{"attempts": 1}',
            '[{"rule": "status_overruled", "field": "status", "from": "COMPLETED"}]', 222,
            'executor', null, '4bf92f3577b34da6a3ce929d0e0e4736',
            '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}',
            'noetl.events', 3, 1042, now() - interval '11 minutes');

    update normalizer.quarantine set execution_id = 333895119667515392;

    insert into normalizer.redrive_attempts
           (quarantine_id, tried_at, tried_by, normalizer_version, outcome, detail, job_id, run)
    select quarantine_id, now(), 'operator', 1, 'rejected', 'no JSON', 'redrive-1', 1
    from   normalizer.quarantine;

    insert into normalizer.jobs
           (job_id, run, kind, spec, owner, lock_key, progress_ratio, records_per_s)
    values ('backfill-1', 1, 'backfill', 'topic noetl.events', 'noetl', 1, 0.25, 1800);
"""
"""A failed call with everything that an event can have, in a child, a redrive, and a job."""


async def insert_example_history(database: Database) -> None:
    """Insert the history of which the examples tell."""
    await insert_events(database, 3_000)
    connection = await asyncpg.connect(database.admin_url)
    try:
        await connection.execute(_MORE)
    finally:
        await connection.close()


async def request_examples(client: httpx.AsyncClient) -> dict[str, RecordedRequest]:
    """The API's answer to each operation's example request, with all rows, and a problem."""
    rejected = (await get_rows(client, "quarantine-records"))[0]["quarantine_id"]
    known = {**_CALL, "quarantine_id": rejected}
    found = {}
    for endpoint in ENDPOINTS:
        values = known | (_LOOP if endpoint.name == "execution_loops" else {})
        path = {name: value for name, value in values.items() if f"{{{name}}}" in endpoint.path}
        answer = await client.get(API_PATH + endpoint.path.format(**path), params=endpoint.example)
        assert answer.status_code == 200, answer.text
        found[endpoint.name] = RecordedRequest(path=path, answer=answer.json())
    for name, address in (("settings", SETTINGS_PATH), ("problem", "/calls?status=DONE")):
        answer = await client.get(API_PATH + address)
        found[name] = RecordedRequest(path={}, answer=answer.json())
    path = {"execution_id": _CALL["execution_id"]}
    download = await client.get(API_PATH + event_download.DOWNLOAD_PATH.format(**path))
    found["download_events"] = RecordedRequest(path=path, answer=download.text)
    return found


class Shape(NamedTuple):
    """Return the common schema of some JSON values: their types, keys, and items."""

    types: frozenset[str]
    keys: dict[str, "Shape"]
    items: "Shape | None"


def value_shape(values: list[Any]) -> Shape:
    """The shape of all these values together."""
    objects = [one for one in values if isinstance(one, dict)]
    items = [item for one in values if isinstance(one, list) for item in one]
    return Shape(
        types=frozenset(_type(one) for one in values),
        keys={
            name: value_shape([one[name] for one in objects if name in one])
            for name in sorted({name for one in objects for name in one})
        },
        items=value_shape(items) if items else None,
    )


def differences(a: Shape, b: Shape, at: str = "$") -> Iterator[str]:
    """Where two shapes differ. Nothing is known of what is always null, or of an empty list."""
    types_a, types_b = a.types - {"null"}, b.types - {"null"}
    if not types_a or not types_b:
        return
    if types_a != types_b:
        yield f"{at}: {sorted(types_a)} and {sorted(types_b)}"
    for name in sorted(a.keys.keys() ^ b.keys.keys()):
        yield f"{at}.{name}: in one only"
    for name in sorted(a.keys.keys() & b.keys.keys()):
        yield from differences(a.keys[name], b.keys[name], f"{at}.{name}")
    if a.items and b.items:
        yield from differences(a.items, b.items, f"{at}[]")


def shortened(name: str, example: RecordedRequest) -> RecordedRequest:
    """The example with only the rows that add to its shape, and those as CSV."""
    if name not in _ANSWERS:
        return example
    rows: list[Any] = []
    for row in example.answer["rows"]:
        if not rows or value_shape([*rows, row]) != value_shape(rows):
            rows.append(row)
    answer = {**example.answer, "rows": rows}
    typed = msgspec.convert(answer, _ANSWERS[name])
    csv = answer_as_csv(typed, answer_row_type(_ANSWERS[name])).decode()
    return RecordedRequest(path=example.path, answer=answer, csv=csv)


_ANSWERS: Final = {endpoint.name: endpoint.answer_type for endpoint in ENDPOINTS}


def _type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
        case list():
            return "list"
        case _:
            return "object"


async def _write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # as root, the database's user must get in
        async with PostgresServer(Path(folder) / "postgres", durable=False) as server:
            url = await server.create_database("examples")
            await migrate(url, report=lambda _: None)
            await insert_example_history(Database(name="examples", url=url, admin_url=url))
            async with api_client(url) as client:
                found = await request_examples(client)
    lines = [
        f'"{name}": {msgspec.json.encode(shortened(name, one)).decode()}'
        for name, one in found.items()
    ]
    EXAMPLES_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    asyncio.run(_write())

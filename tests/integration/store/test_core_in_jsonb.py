"""Postgres accepts every value that the core accepts, and returns the same canonical bytes."""

import asyncpg

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, canonical_json
from tests.support.hostile_records import hostile_values
from tests.support.merging import JSON_COLUMNS
from tests.support.stack import Database

TEXT_COLUMNS = ("event_type", "step", "status", "worker_id", "command_id", "node_type", "error")
HEADERS = (("a\0", b"x\0"), ("password", b"p"), ("b", b"\xff"), ("b", None))


async def test_the_database_stores_every_hostile_value_that_the_core_accepts(
    empty_database: Database,
) -> None:
    normalizer = Normalizer()
    connection = await asyncpg.connect(empty_database.url)
    held = 0
    try:
        for value in hostile_values(seed=11, count=1_000):
            record = RawRecord(value=value, topic="t", recorded_ms=0, headers=HEADERS)
            for event in normalizer.normalize(record):
                if isinstance(event, Envelope):
                    await _hold(connection, event)
                    held += 1
    finally:
        await connection.close()

    assert held > 150


async def _hold(connection: asyncpg.Connection, event: Envelope) -> None:
    sent = [getattr(event, name) for name in JSON_COLUMNS]
    columns = [None if value is None else value.decode() for value in sent]

    back = await connection.fetchval(
        "select array(select value::jsonb::text from unnest($1::text[]) as value)", columns
    )
    texts = [getattr(event, name) for name in TEXT_COLUMNS]
    assert await connection.fetchval("select $1::text[]", texts) == texts

    assert [None if text is None else canonical_json(text.encode()) for text in back] == [
        None if value is None else canonical_json(value) for value in sent
    ]

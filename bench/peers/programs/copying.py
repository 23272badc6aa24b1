"""aiokafka, msgspec, COPY and uvloop: the same fields, as fast as Python gets them there."""

import os
import sys

import asyncpg
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer
from fields import COLUMNS, NAMES, STATUSES, UNGUARDED, to_time

ROWS = 5_000
INTO = f"insert into events ({NAMES}) select {NAMES} from incoming on conflict do nothing"
ABSENT = msgspec.Raw(b"null")
DATABASE_REFUSED = (asyncpg.DataError, asyncpg.PostgresError, UnicodeError)


class Event(msgspec.Struct, gc=False):
    execution_id: int | str | None = None
    event_id: int | str | None = None
    event_type: str | None = None
    name: str | None = None
    step: str | None = None
    node_name: str | None = None
    status: str | None = None
    created_at: int | float | str | None = None
    timestamp: int | float | str | None = None
    worker_id: str | None = None
    error: msgspec.Raw = ABSENT
    context: msgspec.Raw = ABSENT
    payload: msgspec.Raw = ABSENT
    result: msgspec.Raw = ABSENT
    meta: msgspec.Raw = ABSENT


decoder = msgspec.json.Decoder(Event)


def to_row(value: bytes, partition: int, offset: int, recorded_ms: int) -> tuple[object, ...]:
    event = decoder.decode(value)
    status = event.status or ""
    event_id = event.event_id
    return (
        str(event_id) if event_id and event_id != "0" else f"{partition}-{offset}",
        None if event.execution_id is None else str(event.execution_id),
        event.event_type or event.name,
        event.step or event.node_name,
        STATUSES.get(status.lower()) or status.upper(),
        to_time(event.created_at or event.timestamp, recorded_ms),
        event.worker_id,
        to_json(event.error),
        to_json(event.context) or to_json(event.payload),
        to_json(event.result),
        to_json(event.meta),
        partition,
        offset,
    )


def to_json(raw: msgspec.Raw) -> str | None:
    text = str(raw, "utf-8")
    return None if text == "null" else text


async def write(connection: asyncpg.Connection, rows: list[tuple[object, ...]]) -> None:
    """Write the rows. Halve what the database rejects until the rejected rows are alone."""
    try:
        async with connection.transaction():
            await connection.copy_records_to_table("incoming", columns=COLUMNS, records=rows)
            await connection.execute(INTO)
    except DATABASE_REFUSED as error:
        if UNGUARDED:
            sys.exit(f"stops at a batch of {len(rows)}: {error!r}")
        half = len(rows) // 2
        for part in (rows[:half], rows[half:]) if half else ():
            await write(connection, part)


async def main() -> None:
    consumer = AIOKafkaConsumer(
        os.environ["KAFKA_TOPIC"],
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        group_id=os.environ["KAFKA_GROUP_ID"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 << 20,
    )
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    await connection.execute("create temporary table incoming (like events) on commit delete rows")
    await consumer.start()
    while True:
        fetched = await consumer.getmany(timeout_ms=200, max_records=ROWS)
        rows = []
        for records in fetched.values():
            for record in records:
                try:
                    rows.append(
                        to_row(record.value, record.partition, record.offset, record.timestamp)
                    )
                except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
                    if UNGUARDED:
                        sys.exit(f"stops at {record.partition}/{record.offset}: {error!r}")
        if fetched:
            await write(connection, rows)
            await consumer.commit()


if __name__ == "__main__":
    uvloop.run(main())

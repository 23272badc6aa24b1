"""aiokafka, json and executemany, as most people would write it."""

import asyncio
import os
import sys

import asyncpg
from aiokafka import AIOKafkaConsumer
from fields import INSERT, REFUSED, UNGUARDED, to_row

DATABASE_REFUSED = (asyncpg.DataError, asyncpg.PostgresError, UnicodeError)


async def main() -> None:
    consumer = AIOKafkaConsumer(
        os.environ["KAFKA_TOPIC"],
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        group_id=os.environ["KAFKA_GROUP_ID"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    await consumer.start()
    while True:
        fetched = await consumer.getmany(timeout_ms=200)
        rows = []
        for records in fetched.values():
            for record in records:
                try:
                    rows.append(
                        to_row(record.value, record.partition, record.offset, record.timestamp)
                    )
                except REFUSED as error:
                    if UNGUARDED:
                        sys.exit(f"stops at {record.partition}/{record.offset}: {error!r}")
        if fetched:
            await write(connection, rows)
            await consumer.commit()


async def write(connection: asyncpg.Connection, rows: list[tuple[object, ...]]) -> None:
    try:
        await connection.executemany(INSERT, rows)
    except DATABASE_REFUSED as error:
        if UNGUARDED:
            sys.exit(f"stops at a batch of {len(rows)}: {error!r}")
        for row in rows:
            try:
                await connection.execute(INSERT, *row)
            except DATABASE_REFUSED:
                continue


asyncio.run(main())

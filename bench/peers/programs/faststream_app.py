"""FastStream with asyncpg: batches of up to 5,000 records, acknowledged after they're written.

Headers are left out here, because FastStream's parser decodes each one as UTF-8 and fails if it
isn't.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import asyncpg
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage
from fields import INSERT, UNGUARDED, guarded_row

broker = KafkaBroker(os.environ["KAFKA_BOOTSTRAP_SERVERS"])
app = FastStream(broker)
connections: list[asyncpg.Connection] = []


@app.on_startup
async def connect() -> None:
    connections.append(await asyncpg.connect(os.environ["DATABASE_URL"]))


async def parse(records: Any, original: Callable[[Any], Awaitable[Any]]) -> Any:
    return await original(tuple(replace(record, headers=()) for record in records))


async def decode(message: Any) -> list[bytes]:
    return [record.value for record in message.raw_message]


@broker.subscriber(
    os.environ["KAFKA_TOPIC"],
    group_id=os.environ["KAFKA_GROUP_ID"],
    auto_offset_reset="earliest",
    batch=True,
    max_records=5_000,
    batch_timeout_ms=200,
    ack_policy=AckPolicy.NACK_ON_ERROR,
    no_reply=True,
    parser=None if UNGUARDED else parse,
    decoder=decode,
)
async def handle(_bodies: Any, message: KafkaMessage) -> None:
    rows = [
        guarded_row(record.value, record.partition, record.offset, record.timestamp)
        for record in message.raw_message
    ]
    await connections[0].executemany(INSERT, [row for row in rows if row is not None])


if __name__ == "__main__":
    asyncio.run(app.run())

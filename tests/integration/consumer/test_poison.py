"""Each poison record among good ones costs at most itself."""

from typing import Any

import asyncpg
import msgspec
from aiokafka import AIOKafkaProducer

from normalizer.core.raw_record import RawRecord
from tests.support.factories import raw_event, raw_record
from tests.support.feed import Feed
from tests.support.poison_cases import BIG, POISON, Poison
from tests.support.service_runs import running
from tests.support.stack import Topic
from tests.support.table_rows import assert_ledger_holds, connected
from tests.support.waiting import until

GOOD_THROUGH_KAFKA = 500


async def _assert_outcome(
    connection: asyncpg.Connection, topic: str, poison: Poison, place: int
) -> None:
    rows = await connection.fetch(
        "select * from normalizer.events where source_topic = $1 and source_offset = $2",
        topic,
        place,
    )
    rejected = await connection.fetch(
        "select source_offset, reason from normalizer.quarantine where source_topic = $1", topic
    )
    reasons = [row["reason"] for row in rejected if row["source_offset"] == place]
    assert reasons == ([poison.reason] if poison.reason else [])
    assert len(rows) == poison.stored
    for column, value in poison.keeps.items():
        kept = rows[0][column]
        assert (msgspec.json.decode(kept) if column == "context" else kept) == value


async def test_the_whole_list_through_kafka_costs_itself_only(feed: Feed) -> None:
    every = GOOD_THROUGH_KAFKA // len(POISON)
    expected: dict[int, Poison] = {}
    good = 0
    last: Any = None
    for at in range(GOOD_THROUGH_KAFKA):
        if at % every == 0 and at // every < len(POISON):
            poison = POISON[at // every]
            last = await _send(feed.producer, feed.topic, poison.record)
            expected[last.offset] = poison
        last = await _send(feed.producer, feed.topic, raw_record(value=raw_event(at)))
        good += 1

    async with connected(feed.database) as connection, running(feed.settings()):

        async def position() -> Any:
            return await connection.fetchval(
                "select next_offset from normalizer.source_positions where partition = 0"
            )

        await until(position, is_so=lambda at: at == last.offset + 1, deadline_s=60)
        assert len(expected) == len(POISON)
        for offset, poison in expected.items():
            await _assert_outcome(connection, feed.name, poison, offset)
        counted = await connection.fetchval(
            "select count(*) from normalizer.events where not source_offset = any($1::bigint[])",
            list(expected),
        )
        assert counted == good
        assert await connection.fetchval(
            "select value_bytes from normalizer.quarantine order by value_bytes desc limit 1"
        ) == len(BIG)
        await assert_ledger_holds(connection)


async def _send(producer: AIOKafkaProducer, topic: Topic, record: RawRecord) -> Any:
    return await producer.send_and_wait(
        topic.name,
        record.value,
        key=record.key,
        partition=0,
        headers=[(name, value or b"") for name, value in record.headers],
    )

"""kill -9 at named points: the next process makes good whatever the killed one left."""

import asyncio
from itertools import islice

import asyncpg
import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from bench.retention import POINTS as RETENTION_POINTS
from normalizer.config.settings import Settings
from tests.chaos.accounts import (
    assert_every_record_is_accounted_for,
    log_ends,
    read_so_far,
    until_read,
)
from tests.chaos.points import POINTS, Point, commit_answer_lost, gate_at
from tests.chaos.traffic import records
from tests.support.factories import raw_event
from tests.support.service_runs import DEADLINE_S, process, running, settings_for
from tests.support.stack import Database, Topic
from tests.support.table_rows import connected, count

SEED = 11
RECORDS = 150
NAME = "one"
"""The next process of this name takes the killed one's place in the group at once."""
IN_SOAK = {
    "before the insert",
    "in the middle of the insert",
    "while a rejected record goes to quarantine",
}
ONE_PARTITION = pytest.mark.parametrize("topic", [1], indirect=True)


@pytest.fixture
async def bad(topic: Topic, producer: AIOKafkaProducer) -> int:
    """Send traffic to the topic. Returns the offset of the record that one point rejects."""
    traffic = records(SEED)
    for key, value in islice(traffic, RECORDS // 2):
        await producer.send(topic.name, value, key=key, partition=0)
    event = msgspec.json.encode(raw_event(9_999_999, step="bad"))
    rejected = await producer.send_and_wait(topic.name, event, partition=0)
    for key, value in islice(traffic, RECORDS // 2):
        await producer.send(topic.name, value, key=key, partition=0)
    await producer.flush()
    offset: int = rejected.offset
    return offset


@ONE_PARTITION
@pytest.mark.parametrize(
    "point",
    [
        pytest.param(point, marks=[pytest.mark.soak] if point.name in IN_SOAK else [])
        for point in POINTS
    ],
    ids=str,
)
async def test_a_process_killed(
    point: Point, database: Database, topic: Topic, bootstrap_servers: str, bad: int
) -> None:
    settings = settings_for(database, topic, bootstrap_servers, instance=NAME)
    async with connected(database) as connection:
        async with gate_at(point, database) as gate, process(settings) as victim:
            await gate.until_somebody_waits()
            victim.kill()
            await victim.wait()
            assert await count(connection, "normalizer.events") == 0

        await _read_by_another(connection, settings, topic)

        await assert_every_record_is_accounted_for(
            connection,
            topic,
            bootstrap_servers,
            rejected={(0, bad)} if "bad row" in point.name else (),
        )


@ONE_PARTITION
@pytest.mark.usefixtures("bad")
async def test_a_process_killed_after_its_commit_and_before_it_knew(
    database: Database, topic: Topic, bootstrap_servers: str
) -> None:
    settings = settings_for(database, topic, bootstrap_servers, batch_rows=40, instance=NAME)
    async with connected(database) as connection:
        async with (
            commit_answer_lost(settings) as (lossy, proxy),
            process(lossy) as victim,
        ):
            async with asyncio.timeout(DEADLINE_S):
                await proxy.lost.wait()
            written = await read_so_far(connection)
            victim.kill()
            await victim.wait()
        assert 0 < written[0] < RECORDS

        await _read_by_another(connection, settings, topic)

        await assert_every_record_is_accounted_for(connection, topic, bootstrap_servers)


async def _read_by_another(
    connection: asyncpg.Connection, settings: Settings, topic: Topic
) -> None:
    (servers,) = settings.kafka_bootstrap_servers
    async with running(settings):
        await until_read(connection, await log_ends(topic, servers))


async def test_every_point_of_the_retention_bench_can_be_made(database: Database) -> None:
    for point in RETENTION_POINTS:
        async with gate_at(point, database):
            pass

"""Flink keeps the figures of the projections, from the topic of canonical events.

A real cluster of two TaskManagers. On the way one of them is killed, and then the whole cluster,
while the topic loses what was read. The job continues from its last checkpoint. It runs alone:
`make soak ARGS="-k test_flink_keeps"`, and adds rows to docs/results.csv. With fewer events, to try
it out (SOAK_EVENTS=40000), nothing is written.
"""

import asyncio
import functools
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from normalizer.envelope import Envelope
from simulator.mix import Mix
from tests.integration.deploy.test_flink_tables import done, made_tables
from tests.support.canonical_topic import FIGURES, RELAYS, published, to_record, to_row
from tests.support.factories import envelope
from tests.support.flink_cluster import FLINK, FlinkCluster, flink_cluster, kill
from tests.support.projection_oracle import expected_views
from tests.support.results import PrintLine, write_results
from tests.support.simulator_pipeline import simulated_log
from tests.support.stack import Database, Topic
from tests.support.waiting import until

MILLION: Final = 1_000_000
EVENTS: Final = int(os.environ.get("SOAK_EVENTS", MILLION))
PARTITIONS: Final = 4
_STALLED_AFTER_S: Final = 600


@pytest.mark.soak
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("topic", [PARTITIONS], indirect=True)
@pytest.mark.parametrize("relay", RELAYS)
async def test_flink_keeps_the_figures_of_the_projections(
    relay: str,
    empty_database: Database,
    topic: Topic,
    bootstrap_servers: str,
    admin: AIOKafkaAdminClient,
    tmp_path: Path,
    say: PrintLine,
) -> None:
    log, ledger = simulated_log(Mix(in_flight=min(2_000, EVENTS // 100)), 1, EVENTS)
    relayed = await published(relay, log, ledger, reader_keeps="first")
    events = relayed.sent
    expected, not_stored = relayed.figures()
    assert (await made_tables(empty_database.url))[0] == 0
    connection = await asyncpg.connect(empty_database.admin_url)
    say(f"{len(log):,} records became {len(events):,} messages")

    kept = tmp_path / "checkpoints"
    with flink_cluster(
        tmp_path / "flink",
        taskmanagers=2,
        settings={"execution.checkpointing.dir": kept.as_uri(), "parallelism.default": 2},
    ) as cluster:
        start = functools.partial(_start, cluster, empty_database, topic, bootstrap_servers)
        assert await start() == 0
        began = time.monotonic()
        half = len(events) // 2
        await _send(events[:half], topic, bootstrap_servers)
        before = await _checkpoint(cluster)
        say(f"checkpoint {before['id']}: a TaskManager dies")
        kill(cluster.processes[-1])
        cluster.start("taskmanager")
        ends = await _end_offsets(topic, bootstrap_servers)
        await _read_to(connection, ends)
        reached = await _next_checkpoint(cluster)
        say(f"checkpoint {reached['id']}: the cluster dies, and the topic has expired")
        cluster.stop()
        await _expire(ends, admin)
        for process in ("jobmanager", "taskmanager", "taskmanager"):
            cluster.start(process)
        cluster.wait_for_slots(2)
        assert await start() == 1
        assert await start("--from-checkpoint", kept) == 0
        await _send(events[half:], topic, bootstrap_servers)
        await _read_to(connection, await _end_offsets(topic, bootstrap_servers))
        after = await _next_checkpoint(cluster)
        took_s = time.monotonic() - began
        differing = await _differences(connection, expected)

    await connection.close()
    assert not differing, differing
    assert reached["restored"] >= 1
    assert after["restored"] >= 1
    state_bytes = after["state_size"]
    rate = 2 * len(events) / took_s
    say(f"{not_stored:,} rows of the views are not PostgreSQL's")
    say(f"{took_s:.0f} s, {rate:,.0f} messages/s, {state_bytes / len(events):.0f} bytes of state")
    rows = sum(map(len, expected.values()))
    if EVENTS >= MILLION:
        write_results(
            "flink" if relay == "from-postgres" else "flink-raw",
            'make soak ARGS="-k test_flink_keeps"',
            {
                "messages, each sent twice": f"{len(events):,}",
                "events": f"{len(relayed.counted):,}",
                "views that show a fold of the events": f"{len(FIGURES)} of {len(FIGURES)}",
                "of their rows, not PostgreSQL's": f"{not_stored:,} of {rows:,}",
                "messages, a TaskManager and then the cluster killed": f"{rate:,.0f} messages/s",
                "state in the last checkpoint": f"{state_bytes / len(events):.0f} bytes an event",
            },
        )


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("topic", [PARTITIONS], indirect=True)
async def test_flink_takes_back_what_it_counted_before_it_died(
    empty_database: Database,
    topic: Topic,
    bootstrap_servers: str,
    tmp_path: Path,
) -> None:
    """Reading again, it may learn of a playbook before it counts a call of it under none."""
    executions = range(1_000, 1_200)
    calls = [envelope(n, execution_id=n, step=f"step_{n}", command_id=f"{n}:a") for n in executions]
    begins = [
        envelope(
            10_000 + n, execution_id=n, event_type="playbook.started", step="", status="STARTED",
            context=b'{"path":"flow/a"}',
        )
        for n in executions
    ]  # fmt: skip
    expected = expected_views(map(to_row, [*calls, *begins]))
    assert (await made_tables(empty_database.url))[0] == 0
    connection = await asyncpg.connect(empty_database.admin_url)

    async def nameless() -> int:
        query = "select count(*) from flink.call_outcomes_by_attempt where playbook = ''"
        return int(await connection.fetchval(query))

    async def checkpoint_is_over() -> bool:
        return bool(cluster.checkpoints()["counts"]["in_progress"] == 0)

    kept = tmp_path / "checkpoints"
    with flink_cluster(
        tmp_path / "flink", taskmanagers=2,
        settings={"execution.checkpointing.dir": kept.as_uri(), "parallelism.default": 2},
    ) as cluster:  # fmt: skip
        start = functools.partial(_start, cluster, empty_database, topic, bootstrap_servers)
        assert await start() == 0
        await _checkpoint(cluster)
        await _send(calls, topic, bootstrap_servers)
        await until(nameless, is_so=len(calls).__eq__, deadline_s=_STALLED_AFTER_S)
        await until(checkpoint_is_over, deadline_s=_STALLED_AFTER_S)
        await _send(begins, topic, bootstrap_servers)
        cluster.stop()
        for process in ("jobmanager", "taskmanager", "taskmanager"):
            cluster.start(process)
        cluster.wait_for_slots(2)
        assert await start("--from-checkpoint", kept) == 0
        await _read_to(connection, await _end_offsets(topic, bootstrap_servers))
        await _next_checkpoint(cluster)
        differing = await _differences(connection, expected)

    await connection.close()
    assert not differing, differing


async def _start(
    cluster: FlinkCluster,
    database: Database,
    topic: Topic,
    bootstrap_servers: str,
    *options: str | Path,
) -> int:
    """Run start.py as the README says, and return its exit status."""
    settings = {
        "FIGURES_URL": database.admin_url,
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "KAFKA_CANONICAL_TOPIC": topic.name,
    }
    status, said = await done(
        [cluster.python, FLINK / "start.py", *options], cluster.environ | settings
    )
    print(said)  # noqa: T201 - shown if the test fails
    return status


async def _end_offsets(topic: Topic, bootstrap_servers: str) -> dict[TopicPartition, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic.name, number) for number in range(PARTITIONS)]
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    return ends


async def _read_to(connection: asyncpg.Connection, ends: Mapping[TopicPartition, int]) -> None:
    """Wait until the figures have every record before these offsets.

    Fails as soon as Flink has read nothing for a while.
    """
    wanted = {at.partition: offset for at, offset in ends.items() if offset}
    read: dict[int, int] = {}
    moved = time.monotonic()
    while read != wanted:
        await asyncio.sleep(0.5)
        before = read
        read = dict(await connection.fetch("select partition, next_offset from flink.partitions"))
        moved = moved if read == before else time.monotonic()
        assert time.monotonic() < moved + _STALLED_AFTER_S, f"Flink stands at {read} of {wanted}"


async def _expire(ends: Mapping[TopicPartition, int], admin: AIOKafkaAdminClient) -> None:
    """Delete what lies before these offsets, as retention does."""
    await admin.delete_records(
        {at: RecordsToDelete(before_offset=offset) for at, offset in ends.items()}
    )


async def _send(events: Sequence[Envelope], topic: Topic, bootstrap_servers: str) -> None:
    """Send every message twice."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=20)
    await producer.start()
    try:
        for begin in range(0, len(events), 1_000):
            sent = []
            for event in [*events[begin : begin + 1_000]] * 2:
                record = to_record(event)
                sent.append(
                    await producer.send(
                        topic.name, record.value, key=record.key, headers=list(record.headers)
                    )
                )
            await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def _differences(
    connection: asyncpg.Connection, expected: Mapping[str, Sequence[tuple[Any, ...]]]
) -> dict[str, list[Any]]:
    """View -> examples of its rows that differ."""
    differing: dict[str, list[Any]] = {}
    for view in FIGURES:
        rows = await connection.fetch(f"select * from flink.{view}")
        actual, should_be = Counter(map(tuple, rows)), Counter(expected[view])
        if actual != should_be:
            differing[view] = [*(actual - should_be), *(should_be - actual)][:4]
    return differing


async def _next_checkpoint(cluster: FlinkCluster) -> dict[str, Any]:
    """A completed checkpoint that began after this call.

    Every record that was read before it is counted, and the counts are in PostgreSQL.
    """
    # The next one may have begun already.
    return await _checkpoint(cluster, since=(await _checkpoint(cluster))["id"] + 2)


async def _checkpoint(cluster: FlinkCluster, *, since: int = 0) -> dict[str, Any]:
    """The last completed checkpoint, and how often the job was restored until then."""
    async with asyncio.timeout(_STALLED_AFTER_S):
        while True:
            answer = cluster.checkpoints()
            done: dict[str, Any] | None = answer["latest"]["completed"]
            if done and done["id"] >= since:
                return done | {"restored": answer["counts"]["restored"]}
            await asyncio.sleep(1)

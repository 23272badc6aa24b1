"""Flink keeps the figures of the projections, from the topic of canonical events.

A real cluster of two TaskManagers, of which one is killed on the way. It runs alone:
`make soak ARGS="-k test_flink_keeps"`, and writes docs/results/flink.md. With fewer events, to try
it out (SOAK_EVENTS=40000), nothing is written.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaProducer

from normalizer.embedded import KAFKA_VERSION
from normalizer.envelope import Envelope
from simulator.mix import Mix
from tests.support.canonical_topic import merged_events, record_of, row_of
from tests.support.engines import ROOT
from tests.support.flink_cluster import FLINK, FlinkCluster, flink_cluster, kill
from tests.support.projection_oracle import expected_views
from tests.support.results import PrintLine, write_results
from tests.support.simulator_pipeline import simulated_log
from tests.support.stack import Database, Topic

MILLION: Final = 1_000_000
EVENTS: Final = int(os.environ.get("SOAK_EVENTS", MILLION))
VIEWS: Final = (
    "attempts_by_status", "event_counts", "call_outcomes_by_attempt", "failures_by_error",
    "call_time_histogram",
)  # fmt: skip
_SAME_WITHIN_S: Final = 30


@pytest.mark.soak
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("topic", [4], indirect=True)
async def test_flink_keeps_the_figures_of_the_projections(
    database: Database, topic: Topic, bootstrap_servers: str, tmp_path: Path, say: PrintLine
) -> None:
    log, _ = simulated_log(Mix(in_flight=2_000), 1, EVENTS)
    events = await merged_events(log)
    expected = expected_views(map(row_of, events))
    connection = await asyncpg.connect(database.admin_url)
    owner = await asyncpg.connect(database.url)
    await owner.execute((FLINK / "postgres.sql").read_text())
    await owner.close()
    say(f"{len(log):,} records became {len(events):,} events")

    with flink_cluster(
        tmp_path / "flink",
        taskmanagers=2,
        settings={
            "execution.checkpointing.dir": (tmp_path / "checkpoints").as_uri(),
            "parallelism.default": 2,
        },
    ) as cluster:
        _submit(cluster, tmp_path, database, topic, bootstrap_servers)
        began = time.monotonic()
        ends = await _send(events, topic, bootstrap_servers)
        await _wait_until(connection, {0: ends[0] // 2})
        say(f"half of a partition after {time.monotonic() - began:.0f} s: a TaskManager dies")
        victim = cluster.processes[-1]
        kill(victim)
        cluster.start("taskmanager")
        await _wait_until(connection, ends)
        took_s = time.monotonic() - began
        differing = await _differences(connection, expected)
        state_bytes = _state_bytes(cluster)

    await connection.close()
    assert differing == {}
    rate = 2 * len(events) / took_s
    say(f"{took_s:.0f} s, {rate:,.0f} messages/s, {state_bytes / len(events):.0f} bytes of state")
    if EVENTS >= MILLION:
        write_results(
            "flink",
            f"The figures of deploy/flink, {EVENTS:,} records, each event sent twice",
            'make soak ARGS="-k test_flink_keeps"',
            {
                "events": f"{len(events):,}",
                "views that show what a fold of the events does": f"{len(VIEWS)} of {len(VIEWS)}",
                "messages, a TaskManager killed on the way": f"{rate:,.0f} messages/s",
                "state in the last checkpoint": f"{state_bytes / len(events):.0f} bytes an event",
            },
            f"Apache Flink 2.3.0, Apache Kafka {KAFKA_VERSION}",
        )


def _submit(
    cluster: FlinkCluster, folder: Path, database: Database, topic: Topic, bootstrap_servers: str
) -> None:
    """Run tables.sql and figures.sql as the README says, with our own addresses."""
    at = urlsplit(database.admin_url)
    url = (
        f"jdbc:postgresql://{at.hostname}:{at.port}{at.path}"
        f"?user={at.username}&password={at.password or ''}"
    )
    tables = (FLINK / "tables.sql").read_text()
    for default, own in (
        ("kafka:9092", bootstrap_servers),
        ("jdbc:postgresql://postgres:5432/figures", url),
        ("noetl.events.canonical", topic.name),
    ):
        tables = tables.replace(default, own)
    (folder / "tables.sql").write_text(tables)
    files = ",".join(map(str, (ROOT / "deploy" / "calls.py", FLINK / "functions.py")))
    printed = cluster.sql(
        "--init", folder / "tables.sql", "--file", FLINK / "figures.sql", "--pyFiles", files,
        timeout_s=1_200,
    )  # fmt: skip
    assert "Job ID" in printed, printed[-4_000:]


async def _send(events: Sequence[Envelope], topic: Topic, bootstrap_servers: str) -> dict[int, int]:
    """Send every event twice; give the end of each partition."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=20)
    await producer.start()
    ends: dict[int, int] = {}
    try:
        for begin in range(0, len(events), 1_000):
            sent = []
            for event in [*events[begin : begin + 1_000]] * 2:
                record = record_of(event)
                sent.append(
                    await producer.send(
                        topic.name, record.value, key=record.key, headers=list(record.headers)
                    )
                )
            for place in await asyncio.gather(*sent):
                ends[place.partition] = max(ends.get(place.partition, 0), place.offset + 1)
    finally:
        await producer.stop()
    return ends


async def _wait_until(connection: asyncpg.Connection, offsets: dict[int, int]) -> None:
    while True:
        rows = await connection.fetch("select partition, next_offset from flink.partitions")
        reached = {row["partition"]: row["next_offset"] for row in rows}
        if all(reached.get(partition, 0) >= offset for partition, offset in offsets.items()):
            return
        await asyncio.sleep(1)


async def _differences(
    connection: asyncpg.Connection, expected: dict[str, list[tuple[Any, ...]]]
) -> dict[str, list[Any]]:
    """View -> examples of rows that differ, once nothing has moved for a while."""
    end = time.monotonic() + _SAME_WITHIN_S
    differing: dict[str, list[Any]] = {}
    while time.monotonic() < end:
        differing = {}
        for view in VIEWS:
            rows = await connection.fetch(f"select * from projector.{view}")
            actual, should_be = Counter(map(tuple, rows)), Counter(expected[view])
            if actual != should_be:
                differing[view] = [*(actual - should_be), *(should_be - actual)][:4]
        if not differing:
            break
        await asyncio.sleep(2)
    return differing


def _state_bytes(cluster: FlinkCluster) -> int:
    [job] = cluster.jobs()
    answer = httpx.get(f"{cluster.rest}/jobs/{job['jid']}/checkpoints").json()
    size: int = answer["latest"]["completed"]["state_size"]
    return size

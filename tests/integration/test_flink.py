"""Flink keeps the figures of the projections, from the topic of canonical events.

A real cluster of two TaskManagers, of which one is killed on the way. It runs alone:
`make soak ARGS="-k test_flink_keeps"`, and adds rows to docs/results.md. With fewer events, to try
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
import pytest
from aiokafka import AIOKafkaProducer

from normalizer.envelope import Envelope
from simulator.mix import Mix
from tests.support.canonical_topic import FIGURES, RELAYS, published, record_of
from tests.support.engines import ROOT
from tests.support.flink_cluster import FLINK, FlinkCluster, flink_cluster, kill
from tests.support.results import PrintLine, write_results
from tests.support.simulator_pipeline import simulated_log
from tests.support.stack import Database, Topic

MILLION: Final = 1_000_000
EVENTS: Final = int(os.environ.get("SOAK_EVENTS", MILLION))
_SAME_WITHIN_S: Final = 1_800


@pytest.mark.soak
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("topic", [4], indirect=True)
@pytest.mark.parametrize("relay", RELAYS)
async def test_flink_keeps_the_figures_of_the_projections(
    relay: str,
    database: Database,
    topic: Topic,
    bootstrap_servers: str,
    tmp_path: Path,
    say: PrintLine,
) -> None:
    log, ledger = simulated_log(Mix(in_flight=min(2_000, EVENTS // 100)), 1, EVENTS)
    relayed = await published(relay, log, ledger, reader_keeps="first")
    events = relayed.sent
    expected, not_stored = relayed.figures()
    connection = await asyncpg.connect(database.admin_url)
    owner = await asyncpg.connect(database.url)
    await owner.execute((FLINK / "postgres.sql").read_text())
    await owner.close()
    say(f"{len(log):,} records became {len(events):,} messages")

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
        half = len(events) // 2
        await _send(events[:half], topic, bootstrap_servers)
        before = await _checkpoint(cluster)
        say(f"checkpoint {before['id']}: a TaskManager dies")
        kill(cluster.processes[-1])
        cluster.start("taskmanager")
        await _send(events[half:], topic, bootstrap_servers)
        differing = await _differences(connection, expected)
        took_s = time.monotonic() - began
        after = await _checkpoint(cluster, later_than=before)

    await connection.close()
    assert differing == {}
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
                "messages, a TaskManager killed on the way": f"{rate:,.0f} messages/s",
                "state in the last checkpoint": f"{state_bytes / len(events):.0f} bytes an event",
            },
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


async def _send(events: Sequence[Envelope], topic: Topic, bootstrap_servers: str) -> None:
    """Send every message twice."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=20)
    await producer.start()
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
            await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def _differences(
    connection: asyncpg.Connection, expected: dict[str, list[tuple[Any, ...]]]
) -> dict[str, list[Any]]:
    """View -> examples of rows that still differ after a while; none as soon as none does."""
    end = time.monotonic() + _SAME_WITHIN_S
    differing: dict[str, list[Any]] = {}
    while time.monotonic() < end:
        differing = {}
        for view in FIGURES:
            rows = await connection.fetch(f"select * from projector.{view}")
            actual, should_be = Counter(map(tuple, rows)), Counter(expected[view])
            if actual != should_be:
                differing[view] = [*(actual - should_be), *(should_be - actual)][:4]
        if not differing:
            break
        await asyncio.sleep(2)
    return differing


async def _checkpoint(
    cluster: FlinkCluster, *, later_than: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The next completed checkpoint, and how often the job was restored until then."""
    while True:
        answer = cluster.checkpoints()
        done: dict[str, Any] | None = answer["latest"]["completed"]
        if done and (later_than is None or done["id"] > later_than["id"]):
            return done | {"restored": answer["counts"]["restored"]}
        await asyncio.sleep(1)

"""Measures the time from just before a record is sent until another session can see its row.

A separate process sends at a steady rate. A session calls pg_current_snapshot() every few
milliseconds, because a row is visible from the first snapshot that includes its transaction. So no
table is read while the time is measured.
"""

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from bisect import bisect_right
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec

from bench.drain import PARTITIONS
from bench.peers.contestants import Contestant
from bench.peers.costs import cpu_s
from bench.peers.drains import until_stable
from bench.peers.installs import SOURCES
from bench.peers.servers import MONITOR, Servers, stop
from normalizer.runtime.child import ChildProcess

_EVERY_S: Final = 0.002
_AFTER_S: Final = 5.0
_WARM_UP: Final = 0.2
"""This share of the records is sent first and not counted."""
_UNCHANGED: Final = """
    where event_id <> all (select unnest(event_ids) from normalizer.merged_records)
"""
_QUIET: Final = (
    *"poison colliding redelivered late reported_twice".split(),
    *"mutated odd_text double_encoded framed listed".split(),
)


class Latency(msgspec.Struct, kw_only=True):
    """The latencies of one run. Without any stored row, the times are NaN.

    `missing` counts records that no row can be found for, because another record stored or changed
    the row, or because the record was dropped.
    """

    who: str
    rate: float
    counted: int
    missing: int
    p50_ms: float
    p99_ms: float
    own_us: float
    postgres_us: float


class _Snapshot(NamedTuple):
    at_s: float
    low: int
    high: int
    running: frozenset[int]

    def sees(self, transaction: int) -> bool:
        return transaction < self.low or (
            transaction < self.high and transaction not in self.running
        )


async def measure_latency(
    servers: Servers, who: Contestant, lines: list[list[Any]], rate: float
) -> Latency:
    """Send the lines, [key, partition, value] each, and watch their rows appear."""
    name = f"{who.name}-latency"
    group = f"connect-{name}" if who.kind == "connect" else name
    await servers.create_topic(name)
    source, target = servers.folder / f"{name}.in", servers.folder / f"{name}.out"
    source.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    url = await servers.create_database(name, who)
    monitor = await asyncpg.connect(url, server_settings={"application_name": MONITOR})
    children = await servers.start(who, name, url, group)
    pids = [child.pid for child in children]
    try:
        await until_stable(servers, who, group)
        await asyncio.sleep(3)
        before = cpu_s(pids), cpu_s([servers.postgres.pid])
        snapshots = await _watch(servers, monitor, name, source, target, rate)
        after = cpu_s(pids), cpu_s([servers.postgres.pid])
        sent = [json.loads(line) for line in target.read_text().splitlines()]
        visible = await _visible(monitor, who, snapshots)
    finally:
        await stop(children)
        await monitor.close()
        await servers.drop_database(name)
    if who.kind == "connect":
        keys: list[Any] = [json.loads(line[2])["event_id"] for line in lines]
    else:
        keys = [(partition, offset) for partition, offset, _ in sent]
    counted = list(zip(keys, sent, strict=True))[int(len(sent) * _WARM_UP) :]
    waits_ms = sorted((visible[key] - one[2]) * 1e3 for key, one in counted if key in visible)
    waits_ms = waits_ms or [float("nan")]
    return Latency(
        who=who.name,
        rate=(len(sent) - 1) / (sent[-1][2] - sent[0][2]),
        counted=len(counted),
        missing=sum(key not in visible for key, _ in counted),
        p50_ms=waits_ms[len(waits_ms) // 2],
        p99_ms=waits_ms[len(waits_ms) * 99 // 100],
        own_us=(after[0] - before[0]) / len(sent) * 1e6,
        postgres_us=(after[1] - before[1]) / len(sent) * 1e6,
    )


async def _watch(
    servers: Servers,
    monitor: asyncpg.Connection,
    topic: str,
    source: Path,
    target: Path,
    rate: float,
) -> list[_Snapshot]:
    program = SOURCES / "programs" / "send_steadily.py"
    sender = await ChildProcess.start(
        "sender",
        [sys.executable, program, topic, source, target, str(rate)],
        env={
            "PATH": os.environ["PATH"],
            "KAFKA_BOOTSTRAP_SERVERS": servers.kafka.bootstrap_servers,
        },
        log=servers.log_path(f"{topic}-sender"),
    )
    snapshots: list[_Snapshot] = []
    ends_s: float | None = None
    try:
        while ends_s is None or time.time() < ends_s:
            low, high, running = (
                await monitor.fetchval("select pg_current_snapshot()::text")
            ).split(":")
            ids = frozenset(map(int, running.split(","))) if running else frozenset()
            found = _Snapshot(time.time(), int(low), int(high), ids)
            if not snapshots or snapshots[-1][1:] != found[1:]:
                snapshots.append(found)
            await asyncio.sleep(_EVERY_S)
            if ends_s is None and sender.returncode is not None:
                ends_s = time.time() + _AFTER_S
    finally:
        await stop([sender])
    return snapshots


async def _visible(
    monitor: asyncpg.Connection, who: Contestant, snapshots: list[_Snapshot]
) -> dict[Any, float]:
    """When each row was first seen, by coordinates, or by id if rows have no coordinates."""
    highs = [one.high for one in snapshots]
    seen: dict[int, float] = {}
    columns, table = "kafka_partition, kafka_offset", "events"
    if who.kind == "service":
        # A row that was changed since names the transaction that changed it.
        columns, table = "source_partition, source_offset", f"normalizer.events {_UNCHANGED}"
    elif who.kind == "connect":
        columns = "event_id, event_id"
    query = f"select {columns}, xmin::text::bigint from {table}"  # noqa: S608 - our own names
    visible: dict[Any, float] = {}
    for first, second, transaction in await monitor.fetch(query):
        if transaction not in seen:
            later = itertools.islice(snapshots, bisect_right(highs, transaction), None)
            times = (one.at_s for one in later if one.sees(transaction))
            seen[transaction] = next(times, float("inf"))
        key = first if who.kind == "connect" else (first, second)
        visible[key] = max(visible.get(key, 0.0), seen[transaction])
    return visible


def plain_lines(folder: Path, count: int) -> list[list[Any]]:
    """Simulator records of one event each, sent once and none refused: [key, partition, value]."""
    file = folder / "plain.ndjson"
    quiet = [part for word in _QUIET for part in ("--set", f"{word}=0")]
    command = [sys.executable, "-m", "simulator", "write", str(file), "--seed=7"]
    subprocess.run([*command, f"--events={count * 2}", *quiet], check=True)
    lines: list[list[Any]] = []
    for line in file.read_text().splitlines():
        record = json.loads(line)
        value = record.get("payload")
        if isinstance(value, str) and '"events":' not in value[:400]:
            lines.append([record["key"], record["partition"] % PARTITIONS, value])
    return lines[:count]

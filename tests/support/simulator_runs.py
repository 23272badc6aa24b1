"""Runs the simulator into a topic that two normalizers read, and kills the normalizers meanwhile.

The platform's clock is set to one hour ago, because Kafka would delete older records.
"""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any, Self

from normalizer.config.settings import Settings
from simulator.actual_rows import DatabaseRows as HeldBy
from simulator.actual_views import DatabaseViews
from simulator.compare import compare
from simulator.compare_views import compare_views
from simulator.comparison_report import ComparisonReport
from simulator.ledger_file import LedgerFile, read_ledger
from simulator.mix import Mix
from simulator.sent_record import SentRecord
from simulator.simulator_run import SimulatorRun, now_us, run_into_topic
from tests.support.service_runs import DEADLINE_S, Watcher, process
from tests.support.stack import Topic
from tests.support.waiting import moment

HOUR_US = 3_600_000_000


def traffic_mix(**fields: Any) -> Mix:
    """Everything that the simulator can do, an hour ago; `fields` override that."""
    return Mix(**{"start_us": now_us() - HOUR_US, "rate": 5_000.0, "in_flight": 300} | fields)


async def load_topic(
    traffic: Mix, events: int, topic: Topic, bootstrap_servers: str, ledger: Path
) -> dict[int, int]:
    """Send a run to the topic. Returns each partition's end."""
    play = SimulatorRun(mix=traffic, seed=1, events=events)
    with _Ends(ledger) as written:
        await run_into_topic(play, bootstrap_servers, topic.name, written)
    return dict.fromkeys(range(topic.partitions), 0) | written.ends


class _Ends(LedgerFile):
    """Knows where each partition ends."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.ends: dict[int, int] = {}

    def add_record(self, record: SentRecord, topic: str, partition: int, offset: int) -> None:
        super().add_record(record, topic, partition, offset)
        self.ends[partition] = max(self.ends.get(partition, 0), offset + 1)


async def drain_topic(
    watcher: Watcher, topic: Topic, settings: Settings, ends: dict[int, int], kills: int
) -> None:
    """Read to the end with two normalizers, killed this often on the way."""
    total = sum(ends.values())

    async def read_so_far() -> int:
        at = await watcher.positions(topic)
        return sum(position["next_offset"] for position in at.values())

    async def read_to(offsets: int, *, look_every_s: float) -> int:
        """Wait until this much is read. The deadline restarts with progress, because a million is
        long.
        """
        last, since_s = -1, time.monotonic()
        while (now := await read_so_far()) < offsets:
            if now != last:
                last, since_s = now, time.monotonic()
            assert time.monotonic() - since_s < DEADLINE_S, f"is at {now} of {total}"
            await moment(look_every_s)
        return now

    async with Pair(settings) as pair:
        for kill in range(1, kills + 1):
            # A late look would be a late kill.
            now = await read_to(total * kill // (kills + 2), look_every_s=0.01)
            assert now < total, "killed too late to prove anything"
            await pair.kill_one()
        await read_to(total, look_every_s=0.1)


async def compare_database(watcher: Watcher, topic: Topic, ledger: Path) -> ComparisonReport:
    """The differences between ledger and database: rows, rejections, totals and views."""
    report = await compare(read_ledger(ledger), HeldBy(watcher.connection, topic.name))
    await compare_views(read_ledger(ledger), DatabaseViews(watcher.connection), report)
    return report


class Pair:
    """Two concurrent normalizers, or relays. A killed one is replaced."""

    def __init__(self, settings: Settings, command: str = "run") -> None:
        self._settings = settings
        self._command = command
        self._stack = contextlib.AsyncExitStack()
        self._running: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Self:
        await self._start()
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def kill_one(self) -> None:
        """Send SIGKILL to the older one."""
        victim = self._running.pop(0)
        victim.kill()
        await victim.communicate()  # its pipe may be full, and then it never ends
        await self._start()

    async def _start(self) -> None:
        self._running.append(
            await self._stack.enter_async_context(process(self._settings, command=self._command))
        )

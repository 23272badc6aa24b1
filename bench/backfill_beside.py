"""Measures what a backfill costs live traffic: seconds from send until a reader sees the row.

    python -m bench.backfill_beside                 20 seconds without a backfill, and with one
    python -m bench.backfill_beside --seconds 60 --results
                                                    the full form: docs/results/backfill-beside.md

One process of the service reads a topic to which a few producers send an event each, again and
again; meanwhile a backfill writes a zstd file of the simulator's history into the same database.
Only what was sent while it was writing counts.
"""

import argparse
import asyncio
import signal
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import asyncpg
import msgspec
from aiokafka import AIOKafkaProducer

from bench.replay import PARTITIONS, SERVERS, Bench, committed, ended, stack, write_history
from bench.servers import create_topic
from normalizer.snowflake import SnowflakeGenerator
from tests.support.results import command_line, write_results

LIVE_TOPIC: Final = "live.events"
PRODUCERS: Final = 4
PAUSE_S: Final = 0.05
EVENTS_A_SECOND: Final = 40_000
"""More than a backfill writes meanwhile: it must not end before the measurement."""
ANSWER_S: Final = 60.0
LEAST: Final = 100
"""The number of events that a 99th percentile needs."""

_VISIBLE: Final = "select true from normalizer.events where event_id = $1"


async def main(seconds: float, seed: int, *, results: bool) -> int:
    """Print both figures; return 1 if they are not conclusive."""
    async with stack() as bench:
        path = await write_history(bench, round(EVENTS_A_SECOND * seconds), seed)
        await create_topic(bench.bootstrap_servers, LIVE_TOPIC, PARTITIONS)
        url = await bench.database("beside")
        async with asyncio.timeout(ANSWER_S * 2 + seconds * 3), AsyncExitStack() as running:
            service = await bench.start(url, "run", topic=LIVE_TOPIC)
            running.push_async_callback(ended, service)
            bench.note("live events alone")
            undisturbed = await _waits(bench, url, seconds, lambda: True)
            bench.note("live events beside a backfill")
            backfill = await bench.start(url, "backfill", "file", str(path), topic=LIVE_TOPIC)
            running.push_async_callback(ended, backfill)
            while not await committed(url) and backfill.returncode is None:
                await asyncio.sleep(PAUSE_S)
            disturbed = await _waits(bench, url, seconds, lambda: backfill.returncode is None)
            wrote = await committed(url)
            code = await ended(backfill)
        bench.say("produce to visible, alone", _as_text(undisturbed))
        bench.say("produce to visible, beside a backfill", _as_text(disturbed))
        bench.say("the backfill meanwhile", f"{wrote:,} records")
        good = min(len(undisturbed), len(disturbed)) >= LEAST and code in {0, -signal.SIGTERM}
        if not good:
            bench.say("NOT CONCLUSIVE", f"too few events, or the backfill ended with {code}")
        if results and good:
            title = "Live traffic beside a backfill"
            write_results("backfill-beside", title, command_line(), bench.figures, SERVERS)
    return 0 if good else 1


async def _waits(bench: Bench, url: str, seconds: float, still: Callable[[], bool]) -> list[float]:
    """Seconds from send to row, of events sent within this time and while `still` holds."""
    mint = SnowflakeGenerator(9, lambda: time.time_ns() // 1_000_000)
    waits: list[float] = []
    end_s = time.monotonic() + seconds

    async def send_again_and_again(producer: AIOKafkaProducer) -> None:
        connection = await asyncpg.connect(url)
        await _wait(producer, connection, mint.next_id())  # the first event creates the partition
        while time.monotonic() < end_s and still():
            waits.append(await _wait(producer, connection, mint.next_id()))
            await asyncio.sleep(PAUSE_S)
        await connection.close()

    async with (
        AIOKafkaProducer(bootstrap_servers=bench.bootstrap_servers) as producer,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(PRODUCERS):
            tasks.create_task(send_again_and_again(producer))
    return waits


async def _wait(producer: AIOKafkaProducer, connection: asyncpg.Connection, event_id: int) -> float:
    event = {
        "event_id": event_id,
        "execution_id": event_id,
        "event_type": "step.enter",
        "step": "s",
    }
    began_s = time.monotonic()
    await producer.send_and_wait(LIVE_TOPIC, msgspec.json.encode(event))
    while not await connection.fetchval(_VISIBLE, event_id):
        await asyncio.sleep(0.002)
    return time.monotonic() - began_s


def _as_text(waits: list[float]) -> str:
    if len(waits) < 2:
        return f"{len(waits)} events seen"
    hundredths = [wait * 1000 for wait in statistics.quantiles(waits, n=100, method="inclusive")]
    return (
        f"p50 {hundredths[49]:.0f} ms, p99 {hundredths[98]:.0f} ms, "
        f"slowest {max(waits) * 1000:.0f} ms ({len(waits)} events)"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of looks, twice; default: 20")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument(
        "--results", action="store_true", help="write docs/results/backfill-beside.md"
    )
    options = parser.parse_args()
    sys.exit(asyncio.run(main(options.seconds, options.seed, results=options.results)))

"""Three named processes killed in turn, every 2 to 5 s, beside traffic.

SOAK_SECONDS=60 tries it out and writes nothing. SESSION_S=6 sets a session of six seconds.
"""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final

import asyncpg
import msgspec
import pytest

from normalizer.config.settings import Settings
from tests.chaos.accounts import (
    assert_every_record_is_accounted_for,
    log_ends,
    read_so_far,
    until_read,
)
from tests.chaos.test_random_kills import RECORDS_A_SEND, Traffic, flowing
from tests.integration.simulator.test_simulator_soak import every_projection_matches
from tests.support.results import PrintLine, write_results
from tests.support.service_runs import process, settings_for
from tests.support.stack import Database, Topic
from tests.support.table_rows import connected
from tests.support.waiting import moment, until

WHOLE_S: Final = 600
SECONDS: Final = int(os.environ.get("SOAK_SECONDS") or WHOLE_S)
RATE: Final = 250
SESSION_S: Final = int(os.environ.get("SESSION_S") or 3)
CAUGHT_UP_S: Final = 30.0
STANDING_S: Final = SESSION_S + 5.0


class Standing:
    """How long each partition stood, though it had records to read."""

    def __init__(self, connection: asyncpg.Connection, traffic: Traffic) -> None:
        self._connection = connection
        self._traffic = traffic
        self._read: Mapping[int, int] = {}
        self._moved_at_s: dict[int, float] = {}
        self._stopping = False
        self.longest_s = 0.0
        self.longest: str = "none"

    async def watch(self) -> None:
        """Look ten times a second until `stop`."""
        while not self._stopping:
            ends = {**self._traffic.ends}
            read = await read_so_far(self._connection)
            now_s = time.monotonic()
            for partition, end in ends.items():
                at = read.get(partition, 0)
                if at >= end or at != self._read.get(partition, 0):
                    self._moved_at_s[partition] = now_s
                stood_s = now_s - self._moved_at_s.setdefault(partition, now_s)
                if stood_s > self.longest_s:
                    self.longest_s, self.longest = stood_s, f"{partition} at {at}"
            self._read = read
            await moment(0.1)

    def stop(self) -> None:
        """Look no more."""
        self._stopping = True


@contextlib.asynccontextmanager
async def three_processes(settings: Settings) -> AsyncIterator["Processes"]:
    async with contextlib.AsyncExitStack() as exits:
        processes = Processes(settings, exits)
        for number in range(3):
            await processes.start(number)
        yield processes


class Processes:
    """Named processes of one group, of which one is killed and started again at once."""

    def __init__(self, settings: Settings, exits: contextlib.AsyncExitStack) -> None:
        self._settings = settings
        self._exits = exits
        self._running: dict[int, asyncio.subprocess.Process] = {}

    async def start(self, number: int) -> None:
        settings = msgspec.structs.replace(self._settings, instance=f"process-{number}")
        child = process(settings, log=asyncio.subprocess.DEVNULL)
        self._running[number] = await self._exits.enter_async_context(child)

    async def kill_one(self, rng: random.Random) -> None:
        number = rng.randrange(len(self._running))
        victim = self._running[number]
        assert victim.returncode is None, "a process ended by itself"
        victim.kill()
        await victim.wait()
        await self.start(number)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 900)
@pytest.mark.parametrize("topic", [12], indirect=True)
async def test_rolling_kills_lose_and_double_nothing_and_no_partition_stands(
    database: Database, topic: Topic, bootstrap_servers: str, say: PrintLine
) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(1 << 32))
    say(f"CHAOS_SEED={seed}")
    rng = random.Random(seed)
    settings = settings_for(
        database, topic, bootstrap_servers, kafka_session_timeout_ms=SESSION_S * 1_000
    )
    traffic = Traffic(topic, bootstrap_servers, seed, RECORDS_A_SEND / RATE)
    kills = 0
    async with (
        connected(database) as connection,
        connected(database) as watching,
        three_processes(settings) as processes,
        flowing(traffic),
    ):
        await until(lambda: read_so_far(connection), is_so=lambda at: len(at) == 12, deadline_s=60)
        standing = Standing(watching, traffic)
        watch = asyncio.create_task(standing.watch())
        end_s = time.monotonic() + SECONDS
        while time.monotonic() < end_s:
            await moment(rng.uniform(2, 5))
            await processes.kill_one(rng)
            kills += 1
        killed_at_s = time.monotonic()
        ends = {**traffic.ends}
        await until(
            lambda: read_so_far(connection),
            is_so=lambda at: all(at.get(one, 0) >= end for one, end in ends.items()),
            deadline_s=300,
        )
        caught_up_s = time.monotonic() - killed_at_s
        standing.stop()
        await watch
        traffic.stop()
        await until_read(connection, await log_ends(topic, bootstrap_servers), deadline_s=60)
    say(f"{kills} kills, caught up after {caught_up_s:.1f} s")
    say(f"stood for {standing.longest_s:.1f} s at most: partition {standing.longest}")
    async with connected(database) as connection:
        await assert_every_record_is_accounted_for(
            connection, topic, bootstrap_servers, acknowledged=traffic.acknowledged
        )
    matching = await every_projection_matches(database, "verify")
    assert caught_up_s <= CAUGHT_UP_S
    assert standing.longest_s <= STANDING_S
    if SECONDS < WHOLE_S:
        return
    write_results(
        "rolling-kills",
        'make soak ARGS="-k rolling_kills"',
        {
            "seed": seed,
            "kill -9 in ten minutes": kills,
            "records, each accounted for exactly once": f"{len(traffic.acknowledged):,}",
            "`projector verify`": matching,
            "caught up after the last kill": f"{caught_up_s:.1f} s",
            "longest that a partition stood": f"{standing.longest_s:.1f} s, session {SESSION_S} s",
        },
    )

"""Measures for how much of a drain a process and its PostgreSQL session work at the same time.

    python -m bench.overlap                    100,000 events
    NORMALIZER_CORE=python python -m bench.overlap --events 300000

If both always worked at the same time, the slower of the two would determine the speed. Two
samplers watch while one process drains a topic. The first reads from /proc every two milliseconds
whether the process and its session want a processor (state R or D), so a busy machine changes the
result little. The second asks PostgreSQL what the session waits for.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import asyncpg

from bench.drain import TOPIC, load, stack
from bench.peers.costs import cpu_s
from normalizer.runtime.child import ChildProcess, module_search_environment
from tests.support.results import option_parser

SAMPLE_S: Final = 0.002
ASK_S: Final = 0.01
_KEPT: Final = ("PATH", "NORMALIZER_CORE")
_WORKING: Final = frozenset("RD")


async def main(events: int, seed: int) -> None:
    """Print the shares of the time, the CPU of both, and what the session waited for."""
    async with stack() as servers:
        await load(servers.bootstrap_servers, events, seed)
        url = await servers.database("overlap")
        connection = await asyncpg.connect(url)
        service = await ChildProcess.start(
            "normalizer",
            [sys.executable, "-m", "normalizer", "run"],
            env={
                **{
                    name: os.environ[name]
                    for name in ("PATH", "NORMALIZER_CORE")
                    if name in os.environ
                },
                "NORMALIZER_HTTP_PORT": "0",
                "DATABASE_URL": url,
                "KAFKA_BOOTSTRAP_SERVERS": servers.bootstrap_servers,
                "KAFKA_TOPICS": TOPIC,
                "NORMALIZER_LOG_LEVEL": "error",
                **module_search_environment(),
            },
        )
        try:
            await _until(connection, 1)
            session = await connection.fetchval(_WRITER)
            states: Counter[tuple[bool, bool]] = Counter()
            waits: Counter[str] = Counter()
            began, first = time.monotonic(), await connection.fetchval(_OUTCOMES)
            own_s, server_s = -cpu_s([service.pid]), -cpu_s([session])
            samplers = [
                asyncio.create_task(_sample(service.pid, session, states)),
                asyncio.create_task(_ask(url, session, waits)),
            ]
            await _until(connection, events)
            for sampler in samplers:
                sampler.cancel()
            own_s, server_s = own_s + cpu_s([service.pid]), server_s + cpu_s([session])
            seconds = time.monotonic() - began
            drained = await connection.fetchval(_OUTCOMES) - first
        finally:
            await service.stop()
            await connection.close()
    total = sum(states.values())
    for name, key in _NAMES.items():
        print(f"{name + ':':17} {states[key] / total:5.1%}")
    print(
        f"{drained:,} events, {drained / seconds:,.0f} a second: {own_s / drained * 1e6:.1f} us of "
        f"own CPU and {server_s / drained * 1e6:.1f} of the session's an event, "
        f"{seconds / drained * 1e6:.1f} us elapsed"
    )
    seen = sum(waits.values())
    for what, times in waits.most_common(12):
        print(f"  {times / seen:5.1%}  {what}")


async def _sample(process: int, session: int, states: Counter[tuple[bool, bool]]) -> None:
    """Count how often each of the two works, until cancelled. In a thread, so it's never late."""
    ended = False

    def sample() -> None:
        while not ended:
            states[_works(process), _works(session)] += 1
            time.sleep(SAMPLE_S)

    try:
        await asyncio.to_thread(sample)
    finally:
        ended = True


def _works(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in _WORKING


async def _ask(url: str, session: int, waits: Counter[str]) -> None:
    """Count what the session does or waits for, until cancelled."""
    connection = await asyncpg.connect(url)
    try:
        while True:
            row = await connection.fetchrow(_ACTIVITY, session)
            waits[f"{row['what']}: {row['query']}"] += 1
            await asyncio.sleep(ASK_S)
    finally:
        await connection.close()


async def _until(connection: asyncpg.Connection, outcomes: int) -> None:
    async with asyncio.timeout(1_800):
        while await connection.fetchval(_OUTCOMES) < outcomes * 0.98:
            await asyncio.sleep(0.02)


_NAMES: Final = {
    "both work": (True, True),
    "only the process": (True, False),
    "only PostgreSQL": (False, True),
    "neither": (False, False),
}
_OUTCOMES: Final = "select coalesce(sum(outcomes), 0)::bigint from normalizer.source_positions"
_WRITER: Final = """
    select   pid
    from     pg_stat_activity
    where    application_name = 'normalizer writer' and datname = current_database()
"""
_ACTIVITY: Final = """
    select case when state = 'active' then coalesce(wait_event, 'works') else state end as what,
           left(regexp_replace(query, '\\s+', ' ', 'g'), 60) as query
    from   pg_stat_activity
    where  pid = $1
"""

if __name__ == "__main__":
    parser = option_parser(__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    asyncio.run(main(options.events, options.seed))

"""Measures what each view costs a dashboard after three and after thirty days of history.

    python -m bench.views                                the short form: a million in thirty days
    python -m bench.views --events 10000000 --results    the full form, into docs/results.csv

It runs the example query of each view for the last 24 hours. The number of shared buffers that a
query reads must not grow with the older history. The time is only measured: the CPU time of the
server, and the 95th percentile of the elapsed time, which other work on the machine makes longer.
Views with an hour are also measured for 30 days.
"""

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from bench.history import make_history
from normalizer.embedded import PostgresServer, remove_server_folder
from normalizer.store.migrate import migrate
from projector.views.catalog import VIEWS
from tests.support.results import command_line, option_parser, write_results

GROWTH: Final = 1.5
SMALL_BUFFERS: Final = 64
"""So few pages are no growth: an index that is a level deeper, and where a few hundred rows happen
to lie. Source: docs/decisions/0007-speed.md."""
DAYS: Final = 30
AIM_MS: Final = 50.0
REPEATS: Final = 40
LONG: Final = "30 days"
_AS_THE_PAGE: Final = {"max_parallel_workers_per_gather": "0", "jit": "off"}
"""The whole cost of a view: a parallel worker's CPU time is not counted in its leader's."""
_COLUMNS: Final = (
    "view", "buffers, a tenth", "buffers", "factor", "CPU ms", "p95 ms", f"{LONG}, CPU ms",
)  # fmt: skip
_SPAN: Final = re.compile(r"interval '\d+ (?:hours?|days?)'")


class Cost(NamedTuple):
    """Of one query: shared buffers, the server's CPU time, and the 95th percentile."""

    buffers: int
    cpu_ms: float
    p95_ms: float


async def main(options: argparse.Namespace) -> int:
    """Print a line per view. Returns 1 if one of them reads more the longer the history is."""
    async with postgres_server() as postgres:
        few, _ = await _measured(postgres, options.events // 10, DAYS // 10)
        many, long = await _measured(postgres, options.events, DAYS)
    rows: dict[str, object] = {}
    bad = []
    for name, cost in many.items():
        factor = cost.buffers / max(few[name].buffers, 1)
        grows = factor > GROWTH and cost.buffers > SMALL_BUFFERS
        rows[name] = (
            f"{few[name].buffers:,} | {cost.buffers:,} | {factor:.2f} | {cost.cpu_ms:.1f} | "
            f"{cost.p95_ms:.1f} | {f'{long[name]:.0f}' if name in long else ''}"
        )
        print(f"{name:28} {rows[name]}{'  GROWS' if grows else ''}", flush=True)
        bad += [name] if grows else []
    slow = [name for name, cost in many.items() if cost.p95_ms > AIM_MS]
    print(f"over {AIM_MS:.0f} ms: {', '.join(slow) or 'none'}; growing: {', '.join(bad) or 'none'}")
    if options.results and not bad:
        write_results("views", command_line(), rows, columns=_COLUMNS[1:])
    return 1 if bad else 0


async def _measured(
    postgres: PostgresServer, events: int, days: int
) -> tuple[dict[str, Cost], dict[str, float]]:
    """The cost of each view with this many events, and milliseconds for the long window."""
    url = await postgres.create_database(f"views_{events}")
    await migrate(url, report=lambda _: None)
    connection = await asyncpg.connect(url, server_settings=_AS_THE_PAGE)
    try:
        began = time.monotonic()
        made = await make_history(
            connection, events, until=datetime.now(UTC), per_day=events / days
        )
        print(f"{made:,} events in {time.monotonic() - began:.0f} s", flush=True)
        await connection.execute("vacuum (analyze)")
        costs = {}
        for view in VIEWS:
            query = day(view.example)
            buffers = await count_buffers(connection, query)
            costs[view.name] = Cost(buffers, *await _times_ms(connection, query, REPEATS))
        long = {
            view.name: (
                await _times_ms(connection, _SPAN.sub(f"interval '{LONG}'", view.example), 3)
            )[0]
            for view in VIEWS
            if "hour >=" in view.example
        }
        return costs, long
    finally:
        await connection.close()


def day(query: str) -> str:
    """The query for the last 24 hours, whatever window it has."""
    return _SPAN.sub("interval '24 hours'", query)


async def count_buffers(connection: asyncpg.Connection, query: str) -> int:
    """Shared buffers that a query reads, warm."""
    await connection.fetch(query)
    plan = json.loads(
        await connection.fetchval(f"explain (analyze, buffers, format json) {query}")
    )[0]["Plan"]
    buffers: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return buffers


async def _times_ms(
    connection: asyncpg.Connection, query: str, repeats: int
) -> tuple[float, float]:
    """The server's mean CPU time, and the 95th percentile by the clock."""
    server: int = await connection.fetchval("select pg_backend_pid()")
    before_ms = _cpu_ms(server)
    took_ms = []
    for _ in range(repeats):
        began = time.perf_counter()
        await connection.fetch(query)
        took_ms.append((time.perf_counter() - began) * 1000)
    cpu_ms = (_cpu_ms(server) - before_ms) / repeats
    return cpu_ms, statistics.quantiles(took_ms, n=20, method="inclusive")[-1]


def _cpu_ms(process: int) -> float:
    """CPU time of the process since its start."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e6


@contextlib.asynccontextmanager
async def postgres_server() -> AsyncIterator[PostgresServer]:
    """A server without autovacuum, in a folder that goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="noetl-bench-"))
    folder.chmod(0o711)
    settings = {
        "shared_buffers": "512MB",
        "max_wal_size": "8GB",
        # As for a solid-state disk: the default is for a rotating disk.
        "random_page_cost": "1.1",
        # New rows in free space of old pages would depend on the length of the history.
        "autovacuum": "off",
    }
    try:
        async with PostgresServer(
            folder / "postgres", durable=False, settings=settings
        ) as postgres:
            yield postgres
    finally:
        remove_server_folder(folder / "postgres")
        remove_server_folder(folder)


if __name__ == "__main__":
    parser = option_parser(__doc__, results=True)
    parser.add_argument("--events", type=int, default=1_000_000, help="in 30 days; 1000000")
    sys.exit(asyncio.run(main(parser.parse_args())))

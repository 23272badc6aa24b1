"""Measures what repair and retention cost concurrent writers: their commit times beside each.

    python -m bench.repair                                the short form: 300,000 events
    python -m bench.repair --events 10000000 --results    the full form, into docs/results.csv

One database with a history in it, of which every call, every roll-up and a part of the executions
are then lost; a writer commits 2,000 events a second, and reads what it wrote from the view that is
repaired. A commit's time begins when it is due: one that is late makes the next ones late.
`projector repair --all` runs beside it to its end, then `projector maintain`, which archives the
older half of the history.
"""

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg

from bench.drain import connected, copy
from bench.history import make_history
from bench.projections import lives
from normalizer.embedded import PostgresServer, remove_folder
from normalizer.store.migrate import migrate
from normalizer.store.store_statements import BEGIN_BATCH, EVENT_COLUMNS
from tests.support.results import command_line, write_results

COMMITS_A_SECOND: Final = 20
IN_FLIGHT: Final = 2_000
_EXECUTION_ID: Final = EVENT_COLUMNS.index("execution_id")
_EPOCH_MS: Final = 1_704_067_200_000
_LOST: Final = (
    """
    truncate projector.call_facts, projector.call_hours, projector.call_times,
             projector.worker_hours, projector.error_hours, projector.retry_minutes,
             projector.event_hours, projector.arrival_hours, projector.execution_hours
    """,
    "delete from projector.execution_facts where execution_id % 10 = 0",
)
_HALF_MIN: Final = """
    select extract(epoch from now() - min(created_at))::bigint / 120 from normalizer.events
"""
_LEFT: Final = "select count(*) from normalizer.events where created_at < $1::timestamptz"
_READ: Final = "select events from projector.executions where execution_id = $1::bigint"

Row = tuple[Any, ...]


class Written(NamedTuple):
    """Milliseconds from when each commit was due to its end, and events a second."""

    took_ms: list[float]
    rate: float

    def __str__(self) -> str:
        cut = statistics.quantiles(self.took_ms, n=100, method="inclusive")
        return (
            f"p50 {cut[49]:.1f} ms, p99 {cut[98]:.1f} ms, longest {max(self.took_ms):.0f} ms "
            f"({len(self.took_ms):,} commits, {self.rate:,.0f} events/s)"
        )


async def main(options: argparse.Namespace) -> int:
    """Print all three. Returns 1 if the repair, the retention, or a read failed."""
    folder = Path(tempfile.mkdtemp(prefix="noetl-bench-"))
    folder.chmod(0o711)
    settings = {"shared_buffers": "512MB", "max_wal_size": "8GB"}
    try:
        async with PostgresServer(folder / "postgres", settings=settings) as postgres:
            url = await postgres.create_database("repair")
            await migrate(url, report=lambda _: None)
            connection = await connected(url)
            try:
                return await _measured(connection, url, options)
            finally:
                await connection.close()
    finally:
        remove_folder(folder / "postgres")
        remove_folder(folder)


async def _measured(connection: asyncpg.Connection, url: str, options: argparse.Namespace) -> int:
    figures: dict[str, object] = {}

    def say(what: str, figure: str) -> None:
        print(f"{what}: {figure}", flush=True)
        figures[what] = figure

    made = await make_history(connection, options.events, until=datetime.now(UTC))
    await connection.execute("vacuum (analyze)")
    written_from = datetime.now(UTC)
    say("history", f"{made:,} events")
    batches = _batches(options.rate // COMMITS_A_SECOND)
    undisturbed = await written(connection, batches, time.monotonic() + options.seconds)
    say("commits alone", str(undisturbed))
    for lost in _LOST:
        await connection.execute(lost)
    began = time.monotonic()
    repair = await _projector(url, "repair", "--all")
    disturbed = await written(connection, batches, None, repair)
    say("commits beside `projector repair --all`", str(disturbed))
    say("the repair took", f"{time.monotonic() - began:.0f} s, exit {repair.returncode}")
    half_min = await connection.fetchval(_HALF_MIN)
    began = time.monotonic()
    keep = (f"--keep-events={half_min}m", "--keep-margin=1m", "--sample=0")
    maintain = await _projector(url, "maintain", *keep)
    disturbed = await written(connection, batches, None, maintain)
    say("commits beside `projector maintain`", str(disturbed))
    maintained_s = time.monotonic() - began
    gone = made - await connection.fetchval(_LEFT, written_from)
    say(
        "it archived",
        f"{gone:,} events in {maintained_s:.0f} s, exit {maintain.returncode}",
    )
    if options.results:
        write_results("repair", command_line(), figures)
    return 0 if repair.returncode == maintain.returncode == 0 else 1


async def _projector(url: str, *arguments: str) -> asyncio.subprocess.Process:
    """Start a command of the projector."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "projector", *arguments),
        env={"PATH": os.environ["PATH"], "DATABASE_URL": url},
    )


def _batches(rows: int) -> Iterator[list[Row]]:
    """Batches of events that happen from now on, without batch numbers."""
    now = datetime.now(UTC)
    first_id = int(now.timestamp() * 1000) - _EPOCH_MS
    stream = lives(IN_FLIGHT, 1 << 40, began_at=now, first_id=first_id)
    while True:
        yield [next(stream)[:-1] for _ in range(rows)]


async def written(
    connection: asyncpg.Connection,
    batches: Iterator[list[Row]],
    until: float | None,
    beside: asyncio.subprocess.Process | None = None,
) -> Written:
    """Commit each batch when it's due, or late. The read after it isn't in its time."""
    took_ms: list[float] = []
    events = 0
    began = time.monotonic()
    for number in itertools.count():
        due = began + number / COMMITS_A_SECOND
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if (until and due >= until) or (beside and beside.returncode is not None):
            break
        rows = next(batches)
        executions = list({row[_EXECUTION_ID] for row in rows})
        batch_id = (await connection.fetchval(BEGIN_BATCH, executions),)
        batch = [row + batch_id for row in rows]
        await copy(connection, batch)
        took_ms.append((time.monotonic() - due) * 1000)
        events += len(rows)
        if not await connection.fetchval(_READ, batch[-1][_EXECUTION_ID]):
            raise SystemExit("a read found nothing of what was written before it")
    return Written(took_ms, events / (time.monotonic() - began))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=300_000, help="of the history; 300000")
    parser.add_argument("--rate", type=int, default=2_000, help="events a second; 2000")
    parser.add_argument("--seconds", type=float, default=30.0, help="alone; 30")
    parser.add_argument("--results", action="store_true", help="add rows to docs/results.csv")
    sys.exit(asyncio.run(main(parser.parse_args())))

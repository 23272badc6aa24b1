"""Measures what the projections cost: per drain, per row, in eight sessions, and in one execution.

    python -m bench.projections                               the short form: 100,000 events
    python -m bench.projections --events 300000 --results     into docs/results.csv

Everything happens in one run on one machine. The service drains a topic without projections, with
them, and without them again. Then the rows that it stored are copied with one projection at a time.
Eight sessions copy at the same time, each of them the rows of different executions. At last, an
execution of 100,000 events is written, and for comparison a thousand executions of 100 events.
"""

import argparse
import asyncio
import gc
import os
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final

import asyncpg

from bench.drain import Stack, connected, copy, drain, finished_rows, load, stack
from normalizer.store.event_rows import COPIED_EVENT_COLUMNS
from tests.support.results import command_line, option_parser, write_results

IN_FLIGHT: Final = 2_000
BATCHES: Final = (500, 5_000)
WRITERS: Final = 8
AIM: Final = 0.65
LONG_EVENTS: Final = 100_000
LONG_AIM: Final = 1.1
EVENTS_A_CALL: Final = 5
BEGAN_AT: Final = datetime(2026, 7, 1, tzinfo=UTC)
PROJECTIONS: Final = {
    "counters": "project_3_counters",
    "executions": "project_1_executions",
    "calls and their roll-ups": "project_2_calls",
}
CHANGES: Final = ("inserted", "updated", "deleted")

Row = tuple[Any, ...]


async def main(options: argparse.Namespace) -> int:
    """Print every figure. Returns 1 if it misses an aim."""
    figures: dict[str, object] = {}

    def say(what: str, figure: str) -> None:
        print(f"{what}: {figure}", flush=True)
        figures[what] = figure

    async with stack() as servers:
        await load(servers.bootstrap_servers, options.events, 1, f"--in-flight={IN_FLIGHT}")
        share = await _drains(servers, say)
        connection = await connected(await servers.database("costs"))
        source = await connected(servers.postgres.database_url("with"))
        rows = await finished_rows(source)
        await source.close()
        gc.freeze()  # dead rows must not be scanned again and again
        await _costs(connection, rows, say)
        waited = await _writers(servers, rows, say)
        factor = await _long_execution(connection, options.long_events, say)
        await connection.close()
    if options.results:
        write_results("projections", command_line(), figures)
    return 0 if share >= AIM and not waited and factor <= LONG_AIM else 1


async def _drains(servers: Stack, say: Any) -> float:
    """The drain with all projections, as a share of the drain without."""
    rates: dict[str, list[float]] = {"without": [], "with": []}
    for number, kind in enumerate(("without", "with", "without")):
        name = kind if kind == "with" else f"without_{number}"
        url = await servers.database(name)
        if kind == "without":
            connection = await asyncpg.connect(url)
            await _only(connection, ())
            await connection.close()
        drained = await drain(url, servers.bootstrap_servers, os.cpu_count() or 1)
        rates[kind].append(drained.rate)
        say(f"drain {number + 1}, {kind} projections", f"{drained.rate:,.0f} events/s")
    share = rates["with"][0] / (sum(rates["without"]) / 2)
    say("drain with all projections", f"{share:.0%} of without (aim: at least {AIM:.0%})")
    return share


async def _only(connection: asyncpg.Connection, projections: Sequence[str]) -> None:
    """Empty all tables, and enable the triggers of these projections only."""
    for (name, trigger), change in product(PROJECTIONS.items(), CHANGES):
        word = "enable" if name in projections else "disable"
        await connection.execute(f"alter table normalizer.events {word} trigger {trigger}_{change}")
    await connection.execute("truncate normalizer.events")


async def _costs(connection: asyncpg.Connection, rows: list[Row], say: Any) -> None:
    """Microseconds per row of each projection, on top of storing the row."""
    for size in BATCHES:
        bare_us = await _least_us(connection, rows, size, ())
        say(f"storing alone, batches of {size:,}", f"{bare_us:.1f} us a row")
        for kind in (*([name] for name in PROJECTIONS), list(PROJECTIONS)):
            name = kind[0] if len(kind) == 1 else "all projections"
            cost_us = await _least_us(connection, rows, size, kind) - bare_us
            say(f"{name}, batches of {size:,}", f"{cost_us:.1f} us a row")


async def _least_us(
    connection: asyncpg.Connection, rows: list[Row], size: int, projections: Sequence[str]
) -> float:
    """The better of two runs: other load of the machine only adds time."""
    return min([await _copied_us(connection, rows, size, projections) for _ in range(2)])


async def _copied_us(
    connection: asyncpg.Connection, rows: list[Row], size: int, projections: Sequence[str]
) -> float:
    await _only(connection, projections)
    began = time.monotonic()
    for batch in _batches(rows, size):
        await copy(connection, batch)
    return (time.monotonic() - began) / len(rows) * 1e6


def _batches(rows: list[Row], size: int) -> Iterator[list[Row]]:
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


async def _writers(servers: Stack, rows: list[Row], say: Any) -> int:
    """Count how often one of eight sessions waited for another's row, or deadlocked."""
    url = await servers.database("writers")
    execution = COPIED_EVENT_COLUMNS.index("execution_id")
    shares: list[list[Row]] = [[] for _ in range(WRITERS)]
    for row in rows:
        shares[hash(row[execution]) % WRITERS].append(row)
    watcher = await asyncpg.connect(url)
    seen = samples = 0
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        writers = [group.create_task(_write(url, share), name="writer") for share in shares]
        while not all(writer.done() for writer in writers):
            seen += await watcher.fetchval(_ROW_WAITS)
            samples += 1
            await asyncio.sleep(0.005)
    seconds = time.monotonic() - began
    deadlocks: int = await watcher.fetchval(_DEADLOCKS)
    await watcher.close()
    say(
        f"{WRITERS} sessions, each with executions of its own",
        f"{len(rows) / seconds:,.0f} rows/s, {deadlocks} deadlocks, {seen} waits for a row seen in "
        f"{samples:,} looks",
    )
    return deadlocks + seen


async def _write(url: str, rows: list[Row]) -> None:
    connection = await connected(url)
    try:
        for batch in _batches(rows, BATCHES[0]):
            await copy(connection, batch)
    finally:
        await connection.close()


async def _long_execution(connection: asyncpg.Connection, events: int, say: Any) -> float:
    """The cost of an event in one huge execution, as a multiple of one in many small ones."""
    costs_us: dict[int, list[float]] = {1: [], 1_000: []}
    for executions in (1_000, 1, 1_000, 1):
        rows = list(lives(executions, events))
        cost_us = await _copied_us(connection, rows, BATCHES[1], list(PROJECTIONS))
        costs_us[executions].append(cost_us)
    one_us, many_us = min(costs_us[1]), min(costs_us[1_000])
    say(f"an event of 1,000 executions of {events // 1_000:,}", f"{many_us:.1f} us")
    say(f"an event of one execution of {events:,}", f"{one_us:.1f} us")
    say("one huge execution", f"{one_us / many_us:.2f} of many small (aim: at most {LONG_AIM})")
    return one_us / many_us


def lives(
    executions: int, events: int, *, began_at: datetime = BEGAN_AT, first_id: int = 1
) -> Iterator[Row]:
    """Calls of five events each, in the order of their time, dealt to this many executions."""
    kinds = ("command.issued", "command.claimed", "command.started", "call.done")
    for number in range(events):
        call, nth = divmod(number, EVENTS_A_CALL)
        kind = (*kinds, "command.completed")[nth]
        ends = nth >= len(kinds) - 1
        columns: dict[str, Any] = dict.fromkeys(COPIED_EVENT_COLUMNS)
        columns |= {
            "event_id": (first_id + number) << 22,
            "execution_id": 1 + call % executions,
            "event_type": kind,
            "step": f"step_{call % 20}",
            "status": "COMPLETED" if ends else "RUNNING",
            "attempts": 0,
            "created_at": began_at + timedelta(milliseconds=10 * number),
            "worker_id": f"worker-{call % 12}",
            "command_id": f"command-{call}",
            "duration": 0.2 if kind == "call.done" else None,
            "meta": b"{}",
            "merge_flags": 0,
            "evidence": 212,
            "shape": "executor",
            "normalizer_version": 1,
            "batch_id": 1,
            "source_topic": "long",
            "source_incarnation": 0,
            "source_partition": 0,
            "source_offset": number,
            "source_index": 0,
        }
        yield tuple(columns[name] for name in COPIED_EVENT_COLUMNS)


_ROW_WAITS: Final = """
    select count(*)
    from   pg_stat_activity
    where  datname = current_database() and wait_event_type = 'Lock'
           and wait_event in ('transactionid', 'tuple')
"""
_DEADLOCKS: Final = "select deadlocks from pg_stat_database where datname = current_database()"


if __name__ == "__main__":
    parser = option_parser(__doc__, results=True)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--long-events", type=int, default=LONG_EVENTS)
    sys.exit(asyncio.run(main(parser.parse_args())))

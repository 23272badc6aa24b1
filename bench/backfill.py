"""Measures backfills against the live path, and whether kills change their result.

    python -m bench.backfill                        the short form: 100,000 events, three kills
    python -m bench.backfill --events 1000000 --kills 20 --rounds 5 --results
                                                    the full form: docs/results/backfill.md

In one run, on one machine: one process of the service drains a topic; a backfill, which is one
process too, reads the same topic, and the same records as a zstd file, each into a database of its
own; all that in rounds. A machine may be busy for a while, so what counts is the ratio of two runs
of one round, and of all rounds the median.
Then the file is killed and resumed at random moments. A ratio that misses the aim fails the full
form only: a short one says little.
"""

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
from pathlib import Path
from typing import Any, Final

import asyncpg

from bench.replay import (
    PARTITIONS,
    RECORDS,
    SERVERS,
    TOPIC,
    Bench,
    Ran,
    Seen,
    committed,
    ended,
    peak_kb_of,
    stack,
    ticks_of,
    write_history,
)
from bench.servers import create_topic
from normalizer.cli.ledger_check import verify_ledger
from projector.database_session import connected
from projector.verify.ranges import Scope
from projector.verify.verify import verify as verify_projections
from tests.support.results import command_line, write_results

AIM: Final = 1.0

_READ: Final = "select coalesce(sum(next_offset), 0)::bigint from normalizer.source_positions"
_SAME: Final = """
    select count(*), sum(hashtextextended(said.row::text, 0)::numeric)
    from   (
               select to_jsonb(event) - 'batch_id' - 'ingested_at' as row
               from   normalizer.events as event
           ) as said
"""
_SAME_ELSEWHERE: Final = """
    select count(*), sum(hashtextextended(said.row::text, 0)::numeric)
    from   (
               select to_jsonb(event) - 'batch_id' - 'ingested_at' - 'event_id' - 'coercions' as row
               from   normalizer.events as event
           ) as said
"""
"""Of two events with one id the first keeps it, and files and topics have different orders."""


async def main(options: argparse.Namespace) -> int:
    """Print every figure; return 1 if something is not as it must be."""
    async with stack() as bench:
        bench.say("history", f"{options.events:,} events of seed {options.seed}")
        path = await write_history(bench, options.events, options.seed)
        ends = await _load(bench, options.events, options.seed)
        ratio, good = await _sources(bench, path, ends, options.rounds)
        good = await _kills(bench, path, options.kills) and good
        if options.results:
            good = ratio >= AIM and good
        if options.results and good:
            title = "Backfill, beside the live path"
            write_results("backfill", title, command_line(), bench.figures, SERVERS)
    return 0 if good else 1


async def _load(bench: Bench, events: int, seed: int) -> int:
    """Send the history to a topic; return its records."""
    bench.note(f"sending {events:,} events to a topic")
    await create_topic(bench.bootstrap_servers, TOPIC, PARTITIONS)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "simulator", "play", f"--bootstrap-servers={bench.bootstrap_servers}"),
        *(f"--topic={TOPIC}", f"--events={events}", f"--seed={seed}", "--rate=0"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    return int(said.split()[0])


async def _drain(bench: Bench, database: str, records: int) -> Ran:
    """The live path: one process of the service, until it has read all."""
    url = await bench.database(database)
    service = await bench.start(url, "run")
    connection = await asyncpg.connect(url)
    seen = Seen()
    try:
        while (read := await connection.fetchval(_READ)) < records:
            if service.returncode is not None:
                raise SystemExit(f"the service ended with {service.returncode}")
            if read:
                seen.add(read)
            await asyncio.sleep(0.05)
        seen.add(read)
        return Ran(
            records=read,
            rate=seen.rate(),
            cpu_us=ticks_of(service.pid) / os.sysconf("SC_CLK_TCK") / read * 1e6,
            peak_mb=peak_kb_of(service.pid) / 1024,
        )
    finally:
        await ended(service)
        await connection.close()


async def _sources(bench: Bench, path: Path, records: int, rounds: int) -> tuple[float, bool]:
    """Run the live path, topic and file in turn, in rounds; then the last two again.

    Return the lower ratio of the two to the live path, and whether their rows are as they must be.
    """
    sources = {"topic": ("topic", TOPIC), "zstd file": ("file", str(path))}
    ran: dict[str, list[Ran]] = {"live": [], **{name: [] for name in sources}}
    for number in range(rounds):
        # The first one finds the topic least warm.
        order = [*ran][number % len(ran) :] + [*ran][: number % len(ran)]
        bench.note(f"round {number + 1} of {rounds}: {', '.join(order)}")
        for name in order:
            if name == "live":
                ran[name].append(await _drain(bench, "measured", records))
            else:
                url = await bench.database("measured")
                ran[name].append(await bench.backfill(url, *sources[name]))
            await bench.forget("measured")
    if slow := [name for name, runs in ran.items() if not all(run.rate for run in runs)]:
        raise SystemExit(f"{', '.join(slow)}: too few commits to tell a rate: more --events")
    bench.say("live path, one process", _middle(ran["live"]))
    ratios = {}
    for name in sources:
        pairs = [run.rate / live.rate for run, live in zip(ran[name], ran["live"], strict=True)]
        ratios[name] = statistics.median(pairs)
        each = ", ".join(f"{ratio:.2f}" for ratio in pairs)
        compared = f"{ratios[name]:.2f} of live (aim: at least {AIM}; by rounds {each})"
        bench.say(f"backfill of the {name}, one process", f"{_middle(ran[name])}, {compared}")
    added_nothing = [
        await _adds_nothing(bench, name, arguments, records) for name, arguments in sources.items()
    ]
    topic, file = (bench.urls[name] for name in sources)
    same = await _fingerprint(topic, _SAME_ELSEWHERE) == await _fingerprint(file, _SAME_ELSEWHERE)
    bench.say("topic and file", "the same rows" if same else "DIFFERENT ROWS")
    return min(ratios.values()), all(added_nothing) and same


async def _adds_nothing(bench: Bench, name: str, arguments: tuple[str, ...], records: int) -> bool:
    """Backfill the source into a database that stays, then all of its records again."""
    bench.note(f"the {name}, and once more")
    url = bench.urls[name] = await bench.database(arguments[0])
    await bench.backfill(url, *arguments)
    before = await _fingerprint(url)
    again = await bench.backfill(url, *arguments)
    same = before == await _fingerprint(url) and not await _wrong(url)
    verdict = "nothing added" if same else "ROWS ADDED OR CHANGED"
    if again.records != records:
        verdict += f", BUT {again.records:,} OF {records:,} RECORDS READ"
    bench.say(f"the {name} again", f"{again}, {verdict}")
    return same and again.records == records


def _middle(runs: list[Ran]) -> str:
    """The median rate and the median CPU of several runs."""
    return str(
        Ran(
            records=runs[-1].records,
            rate=statistics.median(run.rate for run in runs),
            cpu_us=statistics.median(run.cpu_us for run in runs),
            peak_mb=max(run.peak_mb for run in runs),
        )
    )


async def _kills(bench: Bench, path: Path, kills: int) -> bool:
    """Kill the backfill of the file at random moments; compare with an undisturbed run.

    Each kill must hit a process that has committed and still runs.
    """
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    # Two runs have read it; the last tenth is left out, so that each kill finds work.
    latest = await committed(bench.urls["zstd file"]) // 2 * 9 // 10
    url = await bench.database("killed")
    connection = await asyncpg.connect(url)
    met = 0
    for number, at in enumerate(sorted(draw.randrange(latest) for _ in range(kills)), 1):
        bench.note(f"kill {number} of {kills} at {at:,} records")
        least = max(at, await connection.fetchval(RECORDS) + 1)
        process = await bench.start(url, "backfill", "file", str(path))
        while await connection.fetchval(RECORDS) < least and process.returncode is None:
            await asyncio.sleep(0.005)
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        met += await process.wait() == -signal.SIGKILL
    await connection.close()
    await bench.backfill(url, "file", str(path))
    unharmed = await _fingerprint(bench.urls["zstd file"])
    same = await _fingerprint(url) == unharmed and not await _wrong(url)
    verdict = "identical" if same else "DIFFERENT"
    if met < kills:
        verdict += f", BUT {kills - met} KILLS OF {kills} MET NO RUNNING JOB"
    bench.say(f"killed {met} times after a commit (seed {seed})", verdict)
    return same and met == kills


async def _fingerprint(url: str, rows: str = _SAME) -> tuple[Any, ...]:
    connection = await asyncpg.connect(url)
    try:
        return tuple(await connection.fetchrow(rows))
    finally:
        await connection.close()


async def _wrong(url: str) -> list[str]:
    """What `ledger verify` and `projector verify` find."""
    wrong = [text async for explained in verify_ledger(url, None) for text in explained.wrong]
    async with connected(url) as connection:
        verdicts = [one async for one in verify_projections(connection, Scope())]
    return wrong + [str(verdict) for verdict in verdicts if verdict.verdict != "match"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument(
        "--rounds", type=int, default=3, help="each source beside the live path; the median counts"
    )
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", action="store_true", help="write docs/results/backfill.md")
    sys.exit(asyncio.run(main(parser.parse_args())))

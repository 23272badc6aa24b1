"""Compares the peak memory of a long backfill with that of a short one.

    python -m bench.backfill_memory                 the short form: 300,000 events beside 50,000
    python -m bench.backfill_memory --events 10000000 --results
                                                    the full form: docs/results/backfill-memory.md

Both read a zstd file of the simulator's history, each into a database of its own; the short one is
a hundredth of the long one, but 50,000 events at least: several full batches. No rate is measured:
the machine may be busy.
"""

import argparse
import asyncio
import sys
from typing import Final

from bench.replay import SERVERS, Bench, stack, write_history
from tests.support.results import command_line, write_results

SHORT_EVENTS: Final = 50_000
AIM: Final = "less than 1.5 times as much and 20 MB"


async def main(events: int, seed: int, *, results: bool) -> int:
    """Print both peaks; return 1 if that of the long history misses the aim."""
    async with stack() as bench:
        short_mb = await _peak_mb(bench, max(events // 100, SHORT_EVENTS), seed)
        long_mb = await _peak_mb(bench, events, seed)
        good = long_mb < short_mb * 1.5 + 20
        bench.say("ratio", f"{long_mb / short_mb:.2f} (aim: {AIM})")
        if results and good:
            title = "The memory of a backfill"
            write_results("backfill-memory", title, command_line(), bench.figures, SERVERS)
    return 0 if good else 1


async def _peak_mb(bench: Bench, events: int, seed: int) -> float:
    path = await write_history(bench, events, seed)
    url = await bench.database(f"memory_{events}")
    peak_mb = (await bench.backfill(url, "file", str(path))).peak_mb
    path.unlink()
    bench.say(f"peak at {events:,} events", f"{peak_mb:.0f} MB")
    return peak_mb


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=300_000, help="default: 300000")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument(
        "--results", action="store_true", help="write docs/results/backfill-memory.md"
    )
    options = parser.parse_args()
    sys.exit(asyncio.run(main(options.events, options.seed, results=options.results)))

"""Runs the comparison.

    python -m bench.peers                                everything, about forty minutes
    python -m bench.peers --events 20000 --rounds 1 --seconds 6     to try it out: no figures
    python -m bench.peers --only normalizer,plain --parts drain

The first run installs each contestant in an environment of its own and keeps it; what has no tools
here (Go, Java, Maven) is left out and counted.
"""

import argparse
import sys
from pathlib import Path

from bench.peers.comparison import Options, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1_000, help="records a second, for latency")
    parser.add_argument("--seconds", type=float, default=30, help="of each run for latency")
    parser.add_argument("--only", default="", help="names of contestants, separated by commas")
    parser.add_argument("--parts", default="drain,latency,poison")
    parser.add_argument("--installs", type=Path, default=Path.home() / ".cache" / "noetl-peers")
    parser.add_argument("--results", action="store_true", help="write docs/results/peers.md")
    given = parser.parse_args()
    sys.exit(
        run(
            Options(
                events=given.events,
                rounds=given.rounds,
                rate=given.rate,
                seconds=given.seconds,
                only=tuple(filter(None, given.only.split(","))),
                parts=tuple(given.parts.split(",")),
                installs=given.installs,
                results=given.results,
            )
        )
    )

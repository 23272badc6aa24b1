"""Runs the comparison with other programs.

    python -m bench.peers                                everything, about an hour
    python -m bench.peers --events 20000 --rounds 1 --seconds 6     to try it out: no figures
    python -m bench.peers --only normalizer,plain --parts drain

The first run installs each program in a separate environment, which later runs use again. A program
whose tools (Go, Java, Maven) aren't installed is left out, and the report says how many were.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bench.peers.comparison import Options, run
from bench.peers.contestants import CONTESTANTS
from tests.support.results import option_parser

NAMES = [who.name for who in CONTESTANTS]
PARTS = ["drain", "latency", "poison"]


def _names(known: list[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        if unknown := set(text.split(",")) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
        return text.split(",")

    return names


if __name__ == "__main__":
    parser = option_parser(__doc__, results=True)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1_000, help="records a second, for latency")
    parser.add_argument("--seconds", type=float, default=30, help="of each run for latency")
    parser.add_argument("--only", type=_names(NAMES), default=NAMES, help=", ".join(NAMES))
    parser.add_argument("--parts", type=_names(PARTS), default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--installs", type=Path, default=Path.home() / ".cache" / "noetl-peers")
    given = parser.parse_args()
    if given.results and (given.only, given.parts) != (NAMES, PARTS):
        parser.error("--results writes the whole page: leave out --only and --parts")
    sys.exit(run(Options(**vars(given))))

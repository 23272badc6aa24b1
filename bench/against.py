"""Compares the drain of this state with that of an earlier commit, in one run.

    python -m bench.against ba60e10                       five pairs of 300,000 events
    python -m bench.against ba60e10 --rounds 1 --events 30000    a smoke test: no figures
    python -m bench.against ba60e10 --results NAME        also into docs/results.csv
    python -m bench.against ba60e10 --stored 30000000 --rounds 1      into a table of this many rows

Each round runs `bench.drain` of both, in alternating order. A machine that is slow for
a while is slow for both, so the median of the rounds' ratios counts. With --stored each round
runs `bench.curves --only stored` of both: three drains into this many rows, each beside one into an
empty database, which takes the place of COPY.
"""

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from tests.support.results import command_line, write_results

HERE: Final = Path(__file__).parent.parent
_DRAIN: Final = re.compile(
    r"^drain:.* in ([\d.]+) s: ([\d,]+) events/s.* ([\d.]+) us of their CPU", re.MULTILINE
)
_COPY: Final = re.compile(r"^copy:.* rows in ([\d.]+) s", re.MULTILINE)
_STORED: Final = re.compile(r"^stored, ([\d,]+): ([\d,]+) events/s, ([\d.]+) us", re.MULTILINE)
DRAINS_A_ROUND: Final = 3


class Run(NamedTuple):
    """One run of `bench.drain`, or the median of those of `bench.curves`."""

    rate: float
    cpu_us: float
    ratio: float
    beside: str = "COPY"

    def __str__(self) -> str:
        return f"{self.rate:,.0f} events/s, {self.cpu_us} us, {self.ratio} of {self.beside}"


def main(commit: str, events: int, rounds: int, results: str | None, stored: int) -> int:
    """Print each round and the medians. Returns 1 if this state is slower by more than 5 %."""
    pairs: list[tuple[Run, Run]] = []
    with _checkout(commit) as there:
        for number in range(rounds):
            order = (there, HERE) if number % 2 else (HERE, there)
            runs = {folder: _drain(folder, events, stored) for folder in order}
            pairs.append((runs[there], runs[HERE]))
            print(
                f"round {number + 1}: {commit} {runs[there]}, this state {runs[HERE]}", flush=True
            )
    by_ratio = median(now.ratio / then.ratio for then, now in pairs)
    figures: dict[str, object] = {
        f"round {number}": (f"{commit}: {then}; this state: {now}")
        for number, (then, now) in enumerate(pairs, start=1)
    }
    figures[f"drain beside {pairs[0][0].beside}, now to then, median"] = f"{by_ratio:.2f}"
    rates = median(now.rate / then.rate for then, now in pairs)
    figures["events a second, now to then, median"] = f"{rates:.2f}"
    for what, figure in figures.items():
        print(f"{what}: {figure}")
    if results:
        write_results(results, command_line(), figures)
    return int(by_ratio < 0.95)


@contextlib.contextmanager
def _checkout(commit: str) -> Iterator[Path]:
    """Check out the commit's files in their own folder."""
    with tempfile.TemporaryDirectory(prefix="noetl-against-") as parent:
        folder = Path(parent, "checkout")
        _git("worktree", "add", "--detach", "--quiet", str(folder), commit)
        try:
            yield folder
        finally:
            _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=HERE, check=True)  # noqa: S607 - the user's git


def _drain(folder: Path, events: int, stored: int) -> Run:
    """Run the bench of this folder: Python imports from the folder it is started in."""
    bench_of = "bench.curves" if stored else "bench.drain"
    command = [sys.executable, "-m", bench_of, "--events", str(events)]
    if stored:
        command += ["--only", "stored", "--stored", f"0,{stored}", "--rounds", str(DRAINS_A_ROUND)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as bench:
        try:
            said, _ = bench.communicate()
        except KeyboardInterrupt:
            bench.wait()  # it hears Ctrl-C too, and removes its folders
            raise
    run = stored_run_of(said, stored) if stored else run_of(said)
    if run is None:
        raise SystemExit(f"{bench_of} in {folder.name} exited with {bench.returncode}")
    return run


def run_of(said: str) -> Run | None:
    """Read the output of `bench.drain`, of any commit. The ratio comes from the two times."""
    drain, copy = (pattern.search(said) for pattern in (_DRAIN, _COPY))
    if drain is None or copy is None:
        return None
    return Run(
        rate=float(drain[2].replace(",", "")),
        cpu_us=float(drain[3]),
        ratio=round(float(copy[1]) / float(drain[1]), 2),
    )


def stored_run_of(said: str, stored: int) -> Run | None:
    """Return what `bench.curves` of any commit printed of drains into this many rows."""
    drains: dict[int, list[tuple[float, float]]] = {0: [], stored: []}
    for rows, rate, cpu_us in _STORED.findall(said):
        number = int(rows.replace(",", ""))
        drains.setdefault(number, []).append((float(rate.replace(",", "")), float(cpu_us)))
    into, empty = drains[stored], drains[0]
    if not into or len(into) != len(empty):
        return None
    pairs = zip(into, empty, strict=True)
    return Run(
        rate=median(rate for rate, _ in into),
        cpu_us=median(cpu_us for _, cpu_us in into),
        ratio=round(median(one[0] / other[0] for one, other in pairs), 2),
        beside="an empty database",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", help="the earlier commit")
    parser.add_argument("--events", type=int, default=300_000, help="default: 300000")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument(
        "--stored", type=int, default=0, metavar="ROWS", help="rows that are there before"
    )
    parser.add_argument(
        "--results", metavar="NAME", help="add rows of this name to docs/results.csv"
    )
    options = parser.parse_args()
    sys.exit(main(options.commit, options.events, options.rounds, options.results, options.stored))

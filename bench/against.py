"""Compares how fast this checkout and an earlier commit drain a topic, in one run.

    python -m bench.against ba60e10                       five pairs of 300,000 events
    python -m bench.against ba60e10 --rounds 1 --events 30000    a smoke test: no figures
    python -m bench.against ba60e10 --results NAME        also into docs/results.csv

Each round runs `bench.drain` of both, and the order alternates. If the machine is slow for a while,
it's slow for both, so the result is the median of the rounds' ratios and not of their times.
"""

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from bench.peers.costs import cpu_s, with_children
from tests.support.results import command_line, option_parser, write_results

HERE: Final = Path(__file__).parent.parent
_DRAIN: Final = re.compile(
    r"^drain:.* in ([\d.]+) s: ([\d,]+) events/s.* ([\d.]+) us of their CPU", re.MULTILINE
)
_COPY: Final = re.compile(r"^copy:.* rows in ([\d.]+) s", re.MULTILINE)


class Run(NamedTuple):
    """One run of `bench.drain`."""

    rate: float
    cpu_us: float
    ratio: float
    seconds: float
    postgres_us: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.rate:,.0f} events/s, {self.cpu_us} us and {self.postgres_us:.1f} us of "
            f"PostgreSQL, {self.ratio} of COPY"
        )


def main(commit: str, events: int, rounds: int, results: str | None) -> int:
    """Print each round and the medians. Returns 1 if this state is slower by more than 5 %."""
    pairs: list[tuple[Run, Run]] = []
    with checkout(commit) as there:
        for number in range(rounds):
            order = (there, HERE) if number % 2 else (HERE, there)
            runs = {folder: _drain(folder, events) for folder in order}
            pairs.append((runs[there], runs[HERE]))
            print(
                f"round {number + 1}: {commit} {runs[there]}, this state {runs[HERE]}", flush=True
            )
    by_ratio = median(now.ratio / then.ratio for then, now in pairs)
    figures: dict[str, object] = {
        f"round {number}": (f"{commit}: {then}; this state: {now}")
        for number, (then, now) in enumerate(pairs, start=1)
    }
    figures["drain beside COPY, now to then, median"] = f"{by_ratio:.2f}"
    rates = median(now.rate / then.rate for then, now in pairs)
    figures["events a second, now to then, median"] = f"{rates:.2f}"
    for what, part in (("own CPU", "cpu_us"), ("PostgreSQL's CPU", "postgres_us")):
        spent = median(getattr(now, part) / getattr(then, part) for then, now in pairs)
        figures[f"{what}, now to then, median"] = f"{spent:.2f}"
    for what, figure in figures.items():
        print(f"{what}: {figure}")
    if results:
        write_results(results, command_line(), figures)
    return int(by_ratio < 0.95)


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[Path]:
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


def _drain(folder: Path, events: int) -> Run:
    """Run the bench of this folder: Python imports from the folder it is started in."""
    command = [sys.executable, "-m", "bench.drain", "--events", str(events)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as bench:
        try:
            postgres_s = _postgres_s(bench)
            said, _ = bench.communicate()
        except KeyboardInterrupt:
            bench.wait()  # it hears Ctrl-C too, and removes its folders
            raise
    if (run := parse_run(said)) is None:
        raise SystemExit(f"bench.drain in {folder.name} exited with {bench.returncode}")
    return run._replace(postgres_us=postgres_s / (run.seconds * run.rate) * 1e6)


def _postgres_s(bench: subprocess.Popen[str]) -> float:
    """Return the CPU time that PostgreSQL uses while a normalizer runs, which drains the topic.

    It reads the processes from outside, so that it works for every commit, whatever its bench
    prints.
    """
    began: float | None = None
    spent = 0.0
    while bench.poll() is None:
        commands = {pid: _command(pid) for pid in with_children([bench.pid])}
        servers = [pid for pid, command in commands.items() if "postgres -D" in command]
        if servers and any("-m normalizer run" in command for command in commands.values()):
            now = cpu_s(servers[:1])
            began = now if began is None else began
            spent = now - began
        time.sleep(0.1)
    return spent


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def parse_run(said: str) -> Run | None:
    """What `bench.drain` of any commit printed; its ratio is taken from the two times."""
    drain, copy = (pattern.search(said) for pattern in (_DRAIN, _COPY))
    if drain is None or copy is None:
        return None
    return Run(
        rate=float(drain[2].replace(",", "")),
        cpu_us=float(drain[3]),
        ratio=round(float(copy[1]) / float(drain[1]), 2),
        seconds=float(drain[1]),
    )


if __name__ == "__main__":
    parser = option_parser(__doc__)
    parser.add_argument("commit", help="the earlier commit")
    parser.add_argument("--events", type=int, default=300_000, help="default: 300000")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument(
        "--results", metavar="NAME", help="add rows of this name to docs/results.csv"
    )
    options = parser.parse_args()
    sys.exit(main(options.commit, options.events, options.rounds, options.results))

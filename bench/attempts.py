"""Measures how often the views show an attempt wrong if its events don't say which attempt it is.

    python -m bench.attempts                               the short form: 1,000 commands a row
    python -m bench.attempts --commands 10000 --results    into docs/results.csv

It needs no server. It makes up commands: what really happened to each, and the events that two
producers with different clocks write about it. It gives these events to deploy/calls.py, and also
to that file as it was before attempts followed the order of the log (--against names another
commit). A property test ensures that the SQL of the projections decides like deploy/calls.py. At
the end it prints PASS or FAIL for each aim.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import groupby, product
from multiprocessing import Pool
from random import Random
from types import ModuleType
from typing import Any, Final, NamedTuple

from deploy import calls
from tests.support.results import command_line, write_results

MS: Final = 1_000
SECOND: Final = 1_000 * MS
BEFORE: Final = "f79b3ef9"
"""Here only clocks of producers ordered the events of a command, and its call decided its end."""

NUMBERINGS: Final = (
    "nobody", "issuer", "issuer, retries only", "worker", "worker, retries only", "both",
)  # fmt: skip
LAYOUTS: Final = ("one log", "several logs", "half backfilled")
PACES: Final = (
    (1 * MS, 5 * MS, 100 * MS),
    (5 * MS, 5 * MS, 100 * MS),
    (5 * MS, 200 * MS, 0),
    (200 * MS, 100 * MS, 1 * SECOND),
    (1 * SECOND, 1 * SECOND, 0),
    (1 * SECOND, 5 * MS, 100 * MS),
)
"""Standard deviation of the clocks, length of a call, and backoff, in microseconds."""
LATE: Final = 0.01
TWICE: Final = 0.02
"""Share of events that are sent twice, without an id."""
RECLAIMED: Final = 0.02
"""Share of attempts that a first worker claims and starts, and never reports again."""
SILENT: Final = 0.01
"""Share of failed attempts that nobody reports the end of."""
SEVERAL_CALLS: Final = 0.1
"""Share of attempts whose command made a call before, which completed."""
STARTED_AGAIN: Final = 0.5
"""Share of these in which the worker reports the start of the second call too."""
RUNNING: Final = 0.1
"""Share of commands whose last attempt still runs, or waits for a worker."""
LATE_US: Final = 5 * SECOND
"""A record that reaches its log later than this has no place in it."""
FAILURES: Final = (
    (("call.error", "FAILED"), ("command.failed", "FAILED")),
    (("call.done", "ERROR"), ("command.failed", "FAILED")),
    (("call.done", "ERROR"),),
    (("call.error", "FAILED"),),
    (("command.failed", "FAILED"),),
    (("call.done", "COMPLETED"), ("command.failed", "FAILED")),
)
SUCCESSES: Final = (
    (("call.done", "COMPLETED"), ("command.completed", "COMPLETED")),
    (("call.done", "COMPLETED"), ("command.completed", "COMPLETED")),
    (("call.done", "COMPLETED"),),
    (("command.completed", "COMPLETED"),),
)


class History(NamedTuple):
    """A command: how each of its attempts really ended, or None if no event says, and its events.

    Each event is a dict of the fields of CallEvent.
    """

    really: dict[int, str | None]
    events: list[dict[str, Any]]


class Row(NamedTuple):
    """Commands of one kind: how they are numbered, where their events lie, and how fast it goes."""

    numbering: str
    layout: str
    late: bool
    pace: tuple[int, int, int]

    @property
    def kind(self) -> str:
        """All but the pace."""
        return f"{self.numbering}; {self.layout}{', 1 % late' if self.late else ''}"


class Counts(NamedTuple):
    """How many commands of a kind a version of the rules shows wrong.

    `wrong` counts retried commands with an attempt that is shown with another end than it had.
    `left_open` counts those with an attempt that is shown as open although all its ends arrived.
    `too_open` counts the ones among them that have more open attempts than attempts without a
    reported end. `invented` counts commands with one attempt that are shown with several.
    `recovered` counts commands whose last retry succeeded, and `recognized` those of them that are
    shown so.
    """

    single: int
    retried: int
    wrong: int
    left_open: int
    too_open: int
    invented: int
    recovered: int
    recognized: int

    def cell(self) -> str:
        """As the table shows them, in percent."""
        wrong, left_open = (100 * n / self.retried for n in (self.wrong, self.left_open))
        invented = 100 * self.invented / self.single
        return f"{wrong:.1f} {left_open:.1f} {invented:.2f} {self.share:.1f}"

    @property
    def share(self) -> float:
        """Percentage of recovered commands that are recognized."""
        return 100 * self.recognized / self.recovered


ROWS: Final = [Row(*row) for row in product(NUMBERINGS, LAYOUTS, (False, True), PACES)]


class _Writer:
    """Writes the events of one command into logs, as its two producers would."""

    def __init__(self, row: Row, random: Random) -> None:
        self.now = 0
        self._row = row
        self._random = random
        self._issuer_clock = self.clock()
        self._written: list[tuple[int, dict[str, Any]]] = []

    def clock(self) -> int:
        """By how much the clock of a producer is wrong."""
        return round(self._random.gauss(0, self._row.pace[0]))

    def write(
        self, kind: str, status: str, attempts: int, clock: int | None, index: int = 0
    ) -> None:
        """Write an event. The platform knows of it when its record, if it is not late, arrives."""
        random, by_issuer = self._random, clock is None
        numbered = self._row.numbering.startswith(("both", "issuer" if by_issuer else "worker"))
        if self._row.numbering.endswith("retries only") and not attempts:
            numbered = False
        event = {
            "event_type": kind,
            "at_us": self.now + (self._issuer_clock if clock is None else clock),
            "number": attempts if numbered else None,
            "status": status,
            "call_index": index,
        }
        self.now += round(random.expovariate(1 / (2 * MS)))
        arrived = self.now
        if self._row.late and random.random() < LATE:
            arrived += round(SECOND * 10 ** random.uniform(0, 4))
        self._written.append((arrived, event))
        if random.random() < TWICE:
            self._written.append((arrived + round(random.expovariate(1 / (100 * MS))), event))
        self.now += MS

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events, each with its place in a log."""
        self._written.sort(key=lambda written: written[0])
        for offset, (arrived, event) in enumerate(self._written):
            log = 0
            if self._row.layout == "several logs":
                log = self._random.randrange(6)
            elif self._row.layout == "half backfilled":
                log = int(2 * offset >= len(self._written))
            is_late = arrived - event["at_us"] >= LATE_US
            yield event | {"place": None if is_late else f"events:0:{log}:{offset}:0"}


def history(row: Row, random: Random) -> History:
    """Make up a command."""
    _, call_us, backoff_us = row.pace
    writer = _Writer(row, random)
    tries = random.randint(1, 3)
    succeeds = random.random() < 0.7
    really: dict[int, str | None] = {}
    for attempts in range(tries):
        last = attempts == tries - 1
        writer.write("command.issued", "PENDING", attempts, None)
        is_running = last and random.random() < RUNNING
        if is_running and random.random() < 0.5:
            really[attempts] = None
            break
        clock = writer.clock()
        if random.random() < RECLAIMED:
            _claim(writer, attempts, clock)
            writer.now += 100 * MS
            clock = writer.clock()
        _claim(writer, attempts, clock)
        writer.now += round(call_us * random.uniform(0.5, 1.5))
        ends = list(random.choice(SUCCESSES if last and succeeds else FAILURES))
        if is_running or (not last and random.random() < SILENT):
            ends = []
        index = 0
        if ends and ends[0][0].startswith("call") and random.random() < SEVERAL_CALLS:
            writer.write("call.done", "COMPLETED", attempts, clock)
            index = 1
            if random.random() < STARTED_AGAIN:
                writer.write("command.started", "RUNNING", attempts, clock)
        for kind, status in ends:
            writer.write(kind, status, attempts, clock, index if kind.startswith("call") else 0)
        really[attempts] = _worst([status for _, status in ends])
        writer.now += round(backoff_us * random.uniform(0.5, 1.5))
    events = list(writer.events())
    random.shuffle(events)
    return History(really, events)


def _claim(writer: _Writer, attempts: int, clock: int) -> None:
    for kind in ("command.claimed", "command.started"):
        writer.write(kind, "RUNNING", attempts, clock)


def _worst(statuses: Sequence[str]) -> str | None:
    if not statuses:
        return None
    return "COMPLETED" if set(statuses) == {"COMPLETED"} else "FAILED"


def judge(rule: ModuleType, histories: Sequence[History]) -> Counts:
    """Count what a fold shows wrong."""
    counts = dict.fromkeys(Counts._fields, 0)
    fields = set(rule.CallEvent._fields)
    for really, events in histories:
        said = [{name: one[name] for name in one.keys() & fields} for one in events]
        folded = rule.calls_of_command([rule.CallEvent(**one) for one in said])
        shown = {call.attempts: _worst([call.status] if call.status else []) for call in folded}
        last = max(really)
        if not last:
            counts["single"] += 1
            counts["invented"] += len(shown) > 1
            continue
        counts["retried"] += 1
        counts["wrong"] += shown != really
        counts["left_open"] += any(
            status and shown.get(attempts, status) is None for attempts, status in really.items()
        )
        counts["too_open"] += _number_open(shown) > _number_open(really)
        if really[last] == "COMPLETED":
            counts["recovered"] += 1
            counts["recognized"] += max(shown) == last and shown[last] == "COMPLETED"
    return Counts(**counts)


def _number_open(ends: Mapping[int, str | None]) -> int:
    return list(ends.values()).count(None)


@cache
def rule_at(commit: str) -> ModuleType:
    """The fold as it was at this commit, or as it is."""
    if not commit:
        return calls
    source = subprocess.run(
        ["git", "show", f"{commit}:deploy/calls.py"],  # noqa: S607 - the user's git
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rule = ModuleType(f"calls_at_{commit}")
    exec(compile(source, rule.__name__, "exec"), rule.__dict__)  # noqa: S102 - our own file
    return rule


def measure(row: Row, commands: int, commits: Sequence[str]) -> list[Counts]:
    """What each fold makes of the same commands."""
    random = Random(repr(row))
    histories = [history(row, random) for _ in range(commands)]
    return [judge(rule_at(commit), histories) for commit in commits]


def main(options: argparse.Namespace) -> int:
    """Print the table and the aims. Returns 1 if it misses one."""
    paces = ", ".join("/".join(str(us // MS) for us in pace) for pace in PACES)
    print(f"% wrong, left open, invented, recovered as such; clocks/calls/backoff in ms: {paces}")
    figures: dict[str, object] = {}
    missed: dict[str, list[str]] = {aim: [] for aim in AIMS}
    with Pool(options.processes) as pool:
        counted = partial(measure, commands=options.commands, commits=[options.against, ""])
        measured = zip(ROWS, pool.imap(counted, ROWS), strict=True)
        for kind, rows in groupby(measured, key=lambda one: one[0].kind):
            cells = []
            for row, (before, now) in rows:
                cells.append(f"{before.cell()} to {now.cell()}")
                for aim, is_met in AIMS.items():
                    if not is_met(row, before, now):
                        missed[aim].append(f"    {row.kind}, {row.pace}: {cells[-1]}")
            figures[kind] = ", ".join(cells)
            print(f"{kind}: {figures[kind]}", flush=True)
    for aim, rows_of_aim in missed.items():
        print("FAIL" if rows_of_aim else "PASS", aim)
        print(*rows_of_aim, sep="\n", end="\n" if rows_of_aim else "")
    if options.results:
        write_results("attempts", command_line(), figures)
    return int(any(missed.values()))


def _numbered_by_issuer(row: Row) -> bool:
    return row.numbering.startswith("issuer") and row.layout == "one log"


AIMS: Final[dict[str, Callable[[Row, Counts, Counts], bool]]] = {
    "one log, issuer numbers: a tenth of the wrong outcomes before, or 0.5 %": (
        lambda row, before, now: (
            not _numbered_by_issuer(row) or now.wrong <= max(before.wrong / 10, now.retried / 200)
        )
    ),
    "one log, issuer numbers: no more attempts stay open than nobody reported the end of, or in "
    "0.05 % of retried commands with late reports": (
        lambda row, _, now: (
            not _numbered_by_issuer(row) or now.too_open <= (now.retried / 2000 if row.late else 0)
        )
    ),
    "several logs: no row has more wrong outcomes than before": (
        lambda row, before, now: row.layout == "one log" or now.wrong <= before.wrong
    ),
    "several logs: no row recognizes fewer recoveries than before, by more than 0.5 %": (
        lambda row, before, now: row.layout == "one log" or now.share >= before.share - 0.5
    ),
    "one log, nobody numbers: every recovery is recognized, 98 % with late reports": (
        lambda row, _, now: (
            (row.numbering, row.layout) != ("nobody", "one log")
            or now.share >= (98 if row.late else 100)
        )
    ),
    "one attempt: no row invents more than before, and none without late reports": (
        lambda row, before, now: now.invented <= (before.invented if row.late else 0)
    ),
}
"""What the rule has to reach -> whether it does in a row, beside the rule before."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.attempts", description=__doc__)
    parser.add_argument("--commands", type=int, default=1_000, help="commands of each row")
    parser.add_argument("--against", default=BEFORE, help="also fold as this commit does")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", action="store_true", help="into docs/results.csv")
    sys.exit(main(parser.parse_args()))

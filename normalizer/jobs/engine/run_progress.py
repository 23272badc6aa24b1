"""Prints progress and result of a run; on a terminal the progress line is rewritten in place."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from normalizer.jobs.engine import job_statements
from normalizer.jobs.engine.job_run import RunState, RunTotals
from normalizer.jobs.engine.throttle import ThrottleCause
from normalizer.process.screen import Screen
from normalizer.store.read_only import read_only_connection

PLAIN_EVERY_S: Final = 10.0
RATE_OVER_S: Final = 15.0

_CAUSES: Final[dict[ThrottleCause, str]] = {"live_lag": "live lag", "max_rate": "--max-rate"}


_OUTCOMES: Final = RunTotals.__struct_fields__[RunTotals.__struct_fields__.index("outcomes") + 1 :]


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a run. `reason` is why the source is truncated, or why the run failed.

    Totals and throttled time are those of the run; time and rate are this process's, which may have
    resumed the run.
    """

    job_id: str
    run: int
    state: RunState
    reason: str
    totals: RunTotals
    took_s: float
    records_per_s: float
    throttled_s: dict[ThrottleCause, float]

    def lines(self) -> list[str]:
        """The result, with the balance of the totals."""
        head = f"{self.state}: job {self.job_id}, run {self.run}"
        lines = [f"{head}: {self.reason}" if self.reason else head, balance(self.totals)]
        held = [
            f"{seconds:.1f} s by {_CAUSES[by]}"
            for by, seconds in self.throttled_s.items()
            if seconds
        ]
        lines.append(
            f"took {duration(self.took_s)}, {self.records_per_s:,.0f} records/s"
            + (f"; throttled {' and '.join(held)}" if held else "")
        )
        if self.state == "stopped":
            lines.append("the same command resumes from here")
        return lines


async def list_runs(database_url: str, limit: int) -> list[str]:
    """The newest runs, one a line, each with its balance. Raises StoreUnavailable, FatalError."""
    async with read_only_connection(database_url) as connection:
        rows = await connection.fetch(job_statements.LIST_RUNS, limit)
    lines = []
    for row in rows:
        totals = RunTotals(**{name: row[name] for name in RunTotals.__struct_fields__})
        share = "" if row["progress_ratio"] is None else f" {row['progress_ratio']:.0%}"
        reason = f": {row['reason']}" if row["reason"] else ""
        lines.append(
            f"{row['started_at']:%Y-%m-%d %H:%M:%S}  {row['job_id']} run {row['run']}  "
            f"{row['state']}{share}{reason}  {row['spec']}\n    {balance(totals)}"
        )
    return lines


def balance(totals: RunTotals) -> str:
    """One line: how many records were read, and how many had each outcome."""
    parts = [
        f"{getattr(totals, outcome):,} {outcome}"
        for outcome in _OUTCOMES
        if getattr(totals, outcome)
    ]
    holes = f", {totals.holes:,} offsets without a record" if totals.holes else ""
    return (
        f"{totals.records:,} records{holes}: "
        f"{totals.outcomes:,} outcomes = {' + '.join(parts) or '0'}"
    )


def duration(seconds: float) -> str:
    """Format seconds for a person."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {whole % 60:02} s" if minutes else f"{seconds:.1f} s"


class RunProgress:
    """Reports how far a run is, at intervals; `records` may be counted from any moment on."""

    def __init__(
        self, screen: Screen, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._screen = screen
        self._name = name
        self._clock = clock
        self._samples: deque[tuple[float, int, float | None]] = deque()
        self._printed_at_s = clock()

    @property
    def records_per_s(self) -> float:
        """The rate over the last seconds."""
        if len(self._samples) < 2:
            return 0.0
        (first_s, first, _), (last_s, last, _) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    def note(self, records: int, share: float | None) -> None:
        """Note how far the run is."""
        now_s = self._clock()
        self._samples.append((now_s, records, share))
        while self._samples[0][0] < now_s - RATE_OVER_S:
            self._samples.popleft()

    def say(self, totals: RunTotals, throttled_by: ThrottleCause | None) -> None:
        """Print the progress line: on a terminal each time, else every ten seconds."""
        line = self._line(totals, throttled_by)
        if self._screen.rewrites:
            self._screen.print_live(line)
        elif self._clock() - self._printed_at_s >= PLAIN_EVERY_S:
            self._printed_at_s = self._clock()
            self._screen.print_line(line)

    def _line(self, totals: RunTotals, throttled_by: ThrottleCause | None) -> str:
        share = self._samples[-1][2] if self._samples else None
        percent = "" if share is None else f" {share:4.0%}"
        left_s = self._left_s()
        left = "" if left_s is None else f", {duration(left_s)} left"
        held = f", throttled by {_CAUSES[throttled_by]}" if throttled_by else ""
        return (
            f"{self._name}{percent}: {totals.records:,} records, "
            f"{self.records_per_s:,.0f}/s{left}{held}"
            f" ({totals.stored:,} stored, {totals.duplicate:,} duplicate, "
            f"{totals.merged:,} merged, {totals.quarantined:,} quarantined)"
        )

    def _left_s(self) -> float | None:
        (first_s, _, first), (last_s, _, last) = self._samples[0], self._samples[-1]
        if first is None or last is None or last <= first:
            return None
        return (1 - last) * (last_s - first_s) / (last - first)

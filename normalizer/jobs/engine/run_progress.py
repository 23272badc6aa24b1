"""Formats the progress and the result of a run as lines, for the terminal and `normalizer jobs`."""

from typing import Final

import msgspec

from normalizer.jobs.engine.job_run import RunState, RunTotals
from normalizer.jobs.engine.throttle import ThrottleCause
from normalizer.runtime.progress import JobProgress, ProgressPrinter, format_duration
from normalizer.store.read_only import read_only_connection

_CAUSES: Final[dict[ThrottleCause, str]] = {"live_lag": "live lag", "max_rate": "--max-rate"}


_OUTCOMES: Final = tuple(
    name
    for name in RunTotals.__struct_fields__
    if name not in {"records", "holes", "expired", "outcomes"}
)


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run. `reason` says why the source is truncated, or why the run failed.

    If a run was stopped and resumed, its totals and throttled time are those of all its processes
    together. `took_s` and `records_per_s` are only those of this process.
    """

    job_id: str
    run: int
    state: RunState
    reason: str
    totals: RunTotals
    took_s: float
    records_per_s: float
    throttled_s: dict[ThrottleCause, float]

    def format_lines(self) -> list[str]:
        """Return the result as lines, with the totals as a sum."""
        head = f"{self.state}: job {self.job_id}, run {self.run}"
        lines = [f"{head}: {self.reason}" if self.reason else head, _format_totals(self.totals)]
        held = [
            f"{seconds:.1f} s by {_CAUSES[by]}"
            for by, seconds in self.throttled_s.items()
            if seconds
        ]
        lines.append(
            f"took {format_duration(self.took_s)}, {self.records_per_s:,.0f} records/s"
            + (f"; throttled {' and '.join(held)}" if held else "")
        )
        if self.state == "stopped":
            lines.append("run the same command to resume from here")
        return lines


_LIST_RUNS: Final = """
    select   job_id, run, spec, state, reason, progress_ratio, started_at, records, holes, expired,
             outcomes, stored, duplicate, merged, quarantined, ignored, changed, unchanged, rejected
    from     projector.jobs
    order by started_at desc, job_id, run desc
    limit    $1::integer
"""


async def list_runs_as_lines(database_url: str, limit: int) -> list[str]:
    """Return the newest runs, one per line. Raises StoreUnavailableError and FatalError."""
    async with read_only_connection(database_url) as connection:
        rows = await connection.fetch(_LIST_RUNS, limit)
    lines = []
    for row in rows:
        totals = RunTotals(**{name: row[name] for name in RunTotals.__struct_fields__})
        share = "" if row["progress_ratio"] is None else f" {row['progress_ratio']:.0%}"
        reason = f": {row['reason']}" if row["reason"] else ""
        lines.append(
            f"{row['started_at']:%Y-%m-%d %H:%M:%S}  {row['job_id']} run {row['run']}  "
            f"{row['state']}{share}{reason}  {row['spec']}\n    {_format_totals(totals)}"
        )
    return lines


def _format_totals(totals: RunTotals) -> str:
    """Return one line with the number of records read, and the number of each outcome."""
    holes = f", {totals.holes:,} offsets without a record" if totals.holes else ""
    return (
        f"{totals.records:,} records{holes}: "
        f"{totals.outcomes:,} outcomes = {_outcomes(totals) or '0'}"
    )


def _outcomes(totals: RunTotals) -> str:
    counts = ((getattr(totals, outcome), outcome) for outcome in _OUTCOMES)
    return " + ".join(f"{count:,} {outcome}" for count, outcome in counts if count)


class RunProgressPrinter(ProgressPrinter):
    """Prints the progress of a run from time to time."""

    def report(
        self, totals: RunTotals, share: float | None, throttled_by: ThrottleCause | None
    ) -> None:
        """Note the progress of the run, and print it if enough time has passed."""
        self.note_progress(JobProgress("records", totals.records, share))
        held = f", throttled by {_CAUSES[throttled_by]}" if throttled_by else ""
        self.print_progress(f"{held} ({_outcomes(totals) or 'nothing yet'})")

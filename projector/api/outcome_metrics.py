"""Metrics about how calls and executions end, which alerts compare with the thresholds.

Only the 40 steps with the most calls are listed by name, so that there are at most 200 series.
"""

import contextlib
import time
from collections import defaultdict
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from projector.api.queries.recent_outcomes import (
    RecentOutcomes,
    recent_outcomes,
    success_of_last_week,
)
from projector.api.snapshots import Snapshot
from projector.api.thresholds import Thresholds

_MOST_STEPS: Final = 40
_OTHER_STEPS: Final = "(other)"
_SILENCE_LABELS: Final = ("under 1 h", "under 1 day", "under 7 days", "7 days and more")

_RECENT_S: Final = 10.0
_WEEK_S: Final = 600.0


class OutcomeMetrics:
    """Gauges of how calls and executions end, read from the views when Prometheus scrapes them.

    A scrape within ten seconds of the previous one gets the same values, without a query. Only
    clients that send the token may read the names of steps, so gauges with such names are in a
    separate registry, `named`.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        named: CollectorRegistry,
        thresholds: Thresholds,
    ) -> None:
        self._recent_at: float | None = None
        self._week_at: float | None = None
        self._calls: Final = Gauge(
            "projector_recent_calls",
            "Calls that ended in the current hour and the one before it, by first attempt or "
            "retry and by outcome. The last known ones if the database does not answer.",
            ["attempts", "outcome"],
            registry=registry,
        )
        self._steps: Final = Gauge(
            "projector_recent_step_calls",
            f"The same calls by step: the {_MOST_STEPS} steps with most calls, and {_OTHER_STEPS}. "
            "If there is a token, only for scrapes that send it.",
            ["step", "attempts", "outcome"],
            registry=named,
        )
        self._stuck: Final = Gauge(
            "projector_stuck_executions",
            "Executions that began, did not end, are silent for 5 minutes, and do not wait for a "
            "running child, by how long they have been silent. projector.stuck_executions lists "
            "them.",
            ["silent_for"],
            registry=registry,
        )
        self._success: Final = Gauge(
            "projector_first_attempt_success_ratio",
            "Share of first attempts that succeeded. recent is like projector_recent_calls. "
            "last_week is the seven days before, and is left out while there are fewer days of "
            "history.",
            ["window"],
            registry=registry,
        )
        limits = Gauge(
            "projector_threshold",
            "The thresholds of `projector serve --threshold`, by figure and level.",
            ["figure", "level"],
            registry=registry,
        )
        for figure, threshold in thresholds.items():
            limits.labels(figure, "warn").set(threshold.warn)
            limits.labels(figure, "critical").set(threshold.critical)

    async def refresh(self, snapshot: Snapshot) -> None:
        """Query gauges that are too old.

        The recent ones are read again after ten seconds, and last week's after ten minutes.
        """
        now = time.monotonic()
        if self._recent_at is None or now - self._recent_at >= _RECENT_S:
            self.set_recent(await recent_outcomes(snapshot))
            self._recent_at = now
        if self._week_at is None or now - self._week_at >= _WEEK_S:
            self.set_success("last_week", await success_of_last_week(snapshot))
            self._week_at = now

    def set_recent(self, outcomes: RecentOutcomes) -> None:
        """Replace the gauges of the recent hours and of now."""
        by_attempt: defaultdict[tuple[str, str], int] = defaultdict(int)
        by_step: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        listed = set(outcomes.busiest_steps(_MOST_STEPS))
        for row in outcomes.calls:
            attempts = "first" if row.first else "retry"
            step = row.step if row.step in listed else _OTHER_STEPS
            for outcome, calls in (("succeeded", row.succeeded), ("failed", row.failed)):
                by_attempt[attempts, outcome] += calls
                by_step[step, attempts, outcome] += calls
        for attempts in ("first", "retry"):
            for outcome in ("succeeded", "failed"):
                self._calls.labels(attempts, outcome).set(by_attempt[attempts, outcome])
        self._steps.clear()
        for labels, calls in by_step.items():
            self._steps.labels(*labels).set(calls)
        for silent_for in _SILENCE_LABELS:
            self._stuck.labels(silent_for).set(outcomes.stuck.get(silent_for, 0))
        self.set_success("recent", outcomes.first_attempt_success())

    def set_success(self, window: str, success: float | None) -> None:
        """Replace a window's success of first attempts. None leaves it out."""
        if success is None:
            with contextlib.suppress(KeyError):
                self._success.remove(window)
        else:
            self._success.labels(window).set(success)

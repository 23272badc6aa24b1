"""The metrics of `projector serve`: its requests, the outcomes of calls, and the partitions.

The metrics of partitions also show whether the normalizer works. A dead normalizer exports no
metrics of its own, but its partitions still appear here, with the state `dead`.
Only the 40 steps with the most calls are listed by name, so that there are at most 200 series.
Prometheus scrapes every few seconds, so the queries must be cheap. They read only sums by hour, so
their cost doesn't depend on the traffic.
"""

import contextlib
import math
import time
from collections import Counter as Tally, defaultdict
from datetime import datetime
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from projector.api.queries import current_state
from projector.api.queries.grouping import FIRST_HOUR_WITH_CALLS_SQL
from projector.api.snapshots import Snapshot, Statement
from projector.api.thresholds import DEFAULT_THRESHOLDS, Thresholds

METRICS_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


FRESHNESS_STATES: Final = (
    *("caught_up", "reading", "behind", "dead", "broker_away", "stopped", "unclaimed"),
)
"""The values of `state` in projector.freshness."""


_MOST_STEPS: Final = 40
_OTHER_STEPS: Final = "(other)"
_SILENCE_LABELS: Final = ("under 1 h", "under 1 day", "under 7 days", "7 days and more")

_RECENT_S: Final = 10.0
_WEEK_S: Final = 600.0


_CALLS_WINDOW_HOURS: Final = 2
"""Count calls that ended in the current hour and in the one before it."""


class StepCallCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Recently ended calls of one step, either first attempts or retries."""

    step: str
    first: bool
    succeeded: int
    failed: int


class RecentOutcomes(msgspec.Struct, frozen=True, kw_only=True):
    """`calls` are by step. `stuck` counts executions by how long they've been silent."""

    calls: list[StepCallCounts]
    stuck: dict[str, int]

    def first_attempt_success(self) -> float | None:
        """Return the share of first attempts that succeeded, or None without any."""
        succeeded = sum(row.succeeded for row in self.calls if row.first)
        failed = sum(row.failed for row in self.calls if row.first)
        return succeeded / (succeeded + failed) if succeeded + failed else None

    def busiest_steps(self, most: int) -> list[str]:
        """Return the steps with the most calls."""
        calls: Tally[str] = Tally()
        for row in self.calls:
            calls[row.step] += row.succeeded + row.failed
        return [step for step, _ in calls.most_common(most)]


async def recent_outcomes(snapshot: Snapshot) -> RecentOutcomes:
    """How did calls end lately, and how many executions are stuck?"""
    calls = await snapshot.rows(_CALLS, {"hours": _CALLS_WINDOW_HOURS - 1}, StepCallCounts)
    rows = await snapshot.untyped_rows(_STUCK, {})
    return RecentOutcomes(calls=calls, stuck={row["silent_for"]: row["executions"] for row in rows})


async def first_attempt_success_last_week(snapshot: Snapshot) -> float | None:
    """Return which fraction of first attempts succeeded in the week before the recent hours.

    An alert compares this fraction with that of the recent hours. It's None if no call ended in
    that week, or if the counters don't reach back that far.
    """
    (row,) = await snapshot.untyped_rows(_WEEK, {"hours": _CALLS_WINDOW_HOURS - 1})
    since: datetime | None = row["oldest"]
    if since is None or since > row["since"] or not row["calls"]:
        return None
    return float(row["succeeded"] / row["calls"])


_CALLS: Final = Statement("""
    select   step, attempts = 0 as first, sum(succeeded)::bigint as succeeded,
             sum(failed)::bigint as failed
    from     projector.call_outcomes_by_attempt
    where    hour >= projector.to_hour(now()) - make_interval(hours => :hours::integer)
    and      hour <= now()
    group by step, attempts = 0
    having   sum(calls) > 0
    order by step, first
""")
_STUCK: Final = Statement("""
    select   silent_for, count(*)::integer as executions
    from     projector.stuck_executions
    where    begun
    group by silent_for
    order by silent_for
""")
_WEEK: Final = Statement(f"""
    with span as (
        select until - interval '7 days' as since, until
        from   (
                   select projector.to_hour(now()) - make_interval(hours => :hours::integer)
               ) as recent (until)
    )
    select span.since,
           ({FIRST_HOUR_WITH_CALLS_SQL}) as oldest,
           sum(counted.calls)::bigint as calls, sum(counted.succeeded)::bigint as succeeded
    from   span
    left join projector.call_outcomes_by_attempt as counted
           on  counted.hour >= span.since and counted.hour < span.until and counted.attempts = 0
    group by span.since
""")  # noqa: S608 - a constant of this package


class CallOutcomeGauges:
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

    async def refresh_if_old(self, snapshot: Snapshot) -> None:
        """Query gauges that are too old.

        The recent ones are read again after ten seconds, and last week's after ten minutes.
        """
        now = time.monotonic()
        if self._recent_at is None or now - self._recent_at >= _RECENT_S:
            self.set_recent(await recent_outcomes(snapshot))
            self._recent_at = now
        if self._week_at is None or now - self._week_at >= _WEEK_S:
            self.set_first_attempt_success(
                "last_week", await first_attempt_success_last_week(snapshot)
            )
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
        self.set_first_attempt_success("recent", outcomes.first_attempt_success())

    def set_first_attempt_success(self, window: str, success: float | None) -> None:
        """Replace a window's success of first attempts. None leaves it out."""
        if success is None:
            with contextlib.suppress(KeyError):
                self._success.remove(window)
        else:
            self._success.labels(window).set(success)


class ApiMetrics:
    """The metrics of one app, in its own registry."""

    def __init__(self, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> None:
        self._registry: Final = CollectorRegistry()
        self._named: Final = CollectorRegistry()
        self.outcomes: Final = CallOutcomeGauges(self._registry, self._named, thresholds)
        self.requests: Final = Counter(
            "projector_api_requests",
            "Requests by endpoint and status. If 5xx rises, read the `reason` in a response.",
            ["endpoint", "status"],
            registry=self._registry,
        )
        self.seconds: Final = Histogram(
            "projector_api_query_seconds",
            "Seconds in the database, by endpoint. If they get near --timeout, request less data.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.cached: Final = Counter(
            "projector_api_cache_hits",
            "Requests that shared a response of the last second, or one in progress.",
            registry=self._registry,
        )
        self.connections: Final = Gauge(
            "projector_api_connections_in_use",
            "Database connections in use now. At the size of the pool, requests wait.",
            registry=self._registry,
        )
        self.partitions: Final = Gauge(
            "projector_partitions",
            "Partitions of the log by state, from the view freshness, or the last known ones if "
            "the database does not answer. dead: no normalizer reads them.",
            ["state"],
            registry=self._registry,
        )
        self._figures_read_at_s = -math.inf
        figures_age = Gauge(
            "projector_figures_age_seconds",
            "Seconds since a scrape last read all figures about partitions and outcomes, or +Inf "
            "if none has yet. Until the next one, alerts about them see nothing new.",
            registry=self._registry,
        )
        figures_age.set_function(lambda: time.monotonic() - self._figures_read_at_s)

    async def refresh(self, snapshot: Snapshot) -> None:
        """Read the figures about partitions and outcomes. Those that fail stay as they are.

        Raises ApiError.
        """
        counts = Tally(await current_state.partition_states(snapshot))
        for state in FRESHNESS_STATES:
            self.partitions.labels(state).set(counts[state])
        await self.outcomes.refresh_if_old(snapshot)
        self._figures_read_at_s = time.monotonic()

    def to_exposition_bytes(self, *, named: bool = True) -> bytes:
        """Return the response to a scrape. `named` includes metrics with names of steps."""
        return generate_latest(self._registry) + (generate_latest(self._named) if named else b"")

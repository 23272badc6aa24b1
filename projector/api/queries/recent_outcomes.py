"""Sums recent outcomes of calls and executions, for metrics.

Prometheus scrapes every few seconds, so these queries must be cheap. They read only sums by hour,
so their cost doesn't depend on the traffic.
"""

from collections import Counter
from datetime import datetime
from typing import Final

import msgspec

from projector.api.queries.grouping import FIRST_HOUR_OF_CALLS
from projector.api.snapshots import Snapshot, Statement

_CALLS_WINDOW_HOURS: Final = 2
"""Count calls that ended in the current hour and in the one before it."""


class CallSums(msgspec.Struct, frozen=True, kw_only=True):
    """Recently ended calls of one step, either first attempts or retries."""

    step: str
    first: bool
    succeeded: int
    failed: int


class RecentOutcomes(msgspec.Struct, frozen=True, kw_only=True):
    """`calls` are by step. `stuck` counts executions by how long they've been silent."""

    calls: list[CallSums]
    stuck: dict[str, int]

    def first_attempt_success(self) -> float | None:
        """Return the share of first attempts that succeeded, or None without any."""
        succeeded = sum(row.succeeded for row in self.calls if row.first)
        failed = sum(row.failed for row in self.calls if row.first)
        return succeeded / (succeeded + failed) if succeeded + failed else None

    def busiest_steps(self, most: int) -> list[str]:
        """Return the steps with the most calls."""
        calls: Counter[str] = Counter()
        for row in self.calls:
            calls[row.step] += row.succeeded + row.failed
        return [step for step, _ in calls.most_common(most)]


async def recent_outcomes(snapshot: Snapshot) -> RecentOutcomes:
    """How did calls end lately, and how many executions are stuck?"""
    calls = await snapshot.rows(_CALLS, {"hours": _CALLS_WINDOW_HOURS - 1}, CallSums)
    rows = await snapshot.records(_STUCK, {})
    return RecentOutcomes(calls=calls, stuck={row["silent_for"]: row["executions"] for row in rows})


async def success_of_last_week(snapshot: Snapshot) -> float | None:
    """Return which fraction of first attempts succeeded in the week before the recent hours.

    An alert compares this fraction with that of the recent hours. It's None if no call ended in
    that week, or if the counters don't reach back that far.
    """
    (row,) = await snapshot.records(_WEEK, {"hours": _CALLS_WINDOW_HOURS - 1})
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
           ({FIRST_HOUR_OF_CALLS}) as oldest,
           sum(counted.calls)::bigint as calls, sum(counted.succeeded)::bigint as succeeded
    from   span
    left join projector.call_outcomes_by_attempt as counted
           on  counted.hour >= span.since and counted.hour < span.until and counted.attempts = 0
    group by span.since
""")  # noqa: S608 - a constant of this package

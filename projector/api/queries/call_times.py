"""Computes percentiles of how long calls took, waited for a worker, and waited before a retry.

They're computed from histograms that are stored by hour, so even the 95th percentile of a whole
month is fast. In return, a percentile may be up to 4.5 % off.
"""

from typing import Annotated, Literal

from projector.api.answers import ApiRow, GroupedAnswer, Timestamp
from projector.api.parameters import (
    AttemptNumbers,
    CallStatuses,
    GroupBy,
    GroupedParams,
    MinuteToDay,
    Texts,
)
from projector.api.queries.grouping import (
    FINISHED_CALLS_SOURCE,
    GrainStatements,
    at_and_key_ordinals,
    counts_by_minute_source,
    select_list,
    where_conditions,
)
from projector.api.queries.query_answers import run_grouped
from projector.api.snapshots import Snapshot, Statement

_KEYS = ("playbook", "step", "attempts", "status")


class PercentileParams(GroupedParams, frozen=True, kw_only=True):
    every: MinuteToDay = "hour"
    playbook: Texts | None = None
    step: Texts | None = None
    attempts: AttemptNumbers | None = None
    status: CallStatuses | None = None


class DurationsParams(PercentileParams, frozen=True, kw_only=True):
    by: Annotated[tuple[Literal["at", "playbook", "step", "attempts", "status"], ...], GroupBy] = (
        "step",
        "attempts",
    )


class QueueWaitsParams(PercentileParams, frozen=True, kw_only=True):
    by: Annotated[tuple[Literal["at", "playbook", "step", "attempts", "status"], ...], GroupBy] = (
        "at",
        "step",
    )


class BackoffsParams(PercentileParams, frozen=True, kw_only=True):
    by: Annotated[tuple[Literal["at", "playbook", "step", "attempts", "status"], ...], GroupBy] = (
        "at",
        "step",
        "attempts",
    )


class Percentiles(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """Percentiles in seconds, which are at most 4.5 % off. `calls` is how many were measured."""

    at: Timestamp | None = None
    playbook: str | None = None
    step: str | None = None
    attempts: int | None = None
    status: str | None = None
    calls: int
    p50_s: float
    p95_s: float
    p99_s: float


def _percentiles(source: str, time: str, where: str) -> Statement:
    return Statement(
        f"""
        select   at, playbook, step, attempts, status, sum(calls)::bigint as calls,
                 projector.percentile(0.50, bucket, calls) as p50_s,
                 projector.percentile(0.95, bucket, calls) as p95_s,
                 projector.percentile(0.99, bucket, calls) as p99_s
        from     (
                     select   {select_list(_KEYS, time)}, bucket, sum(calls)::bigint as calls
                     from     {source}
                     where    {where_conditions(_KEYS, time)}
                     and      {where}
                     group by {at_and_key_ordinals(_KEYS)}, bucket
                     having   sum(calls) <> 0
                 ) as added
        group by at, playbook, step, attempts, status
        order by at desc nulls last, calls desc, playbook, step, attempts, status
        limit    :limit::integer
        """  # noqa: S608 - constants of this package
    )


def _measured(measure: str, seconds: str) -> GrainStatements:
    of_calls = f"""
        (
            select finished_at, playbook, step, attempts, status, 1 as calls,
                   projector.duration_bucket(round({seconds} * 1000000)::bigint) as bucket
            from   {FINISHED_CALLS_SOURCE}
            where  {seconds} is not null
        ) as measured
    """  # noqa: S608 - constants of this package
    return GrainStatements(
        hours=_percentiles("projector.call_time_histogram", "hour", f"measure = '{measure}'"),
        minutes=_percentiles(
            counts_by_minute_source(
                of_calls, "call_time_histogram", where=f"measure = '{measure}'"
            ),
            "moment",
            "true",
        ),
        slow_minutes=True,
    )


_DURATIONS = _measured("duration", "duration_s")
_QUEUE_WAITS = _measured("queue", "queue_s")
_BACKOFFS = _measured("backoff", "backoff_s")


async def call_durations_by_attempt(
    snapshot: Snapshot, params: DurationsParams
) -> GroupedAnswer[Percentiles]:
    """How long do calls take, by step and attempt: median, 95th and 99th percentile?"""
    return await run_grouped(snapshot, _DURATIONS, params, Percentiles)


async def call_queue_waits(
    snapshot: Snapshot, params: QueueWaitsParams
) -> GroupedAnswer[Percentiles]:
    """How long do commands wait from issued to claimed, by step and hour?"""
    return await run_grouped(snapshot, _QUEUE_WAITS, params, Percentiles)


async def retry_backoffs(snapshot: Snapshot, params: BackoffsParams) -> GroupedAnswer[Percentiles]:
    """How long is the backoff between a failure and its retry, by step, attempt and hour?"""
    return await run_grouped(snapshot, _BACKOFFS, params, Percentiles)

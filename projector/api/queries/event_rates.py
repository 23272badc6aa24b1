"""Counts events: by attempt and status, and over time by rate, corrected value, and lateness."""

from typing import Annotated, Literal

from msgspec import Meta

from projector.api.answers import ApiRow, GroupedAnswer, Timestamp
from projector.api.parameters import (
    AttemptNumbers,
    GroupBy,
    GroupedParams,
    HourOrDay,
    MinuteToDay,
    Rules,
    Shapes,
    Texts,
)
from projector.api.queries.grouping import (
    GrainStatements,
    grouping_statement,
    sum_column,
    time_bin_column,
)
from projector.api.queries.query_answers import run_grouped
from projector.api.snapshots import Snapshot


class EventRateParams(GroupedParams, frozen=True, kw_only=True):
    by: Annotated[tuple[Literal["at", "event_type"], ...], GroupBy] = ("at", "event_type")
    every: MinuteToDay = "minute"
    event_type: Texts | None = None


class EventRate(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """How many events a group has, and how many that is per second.

    `events_per_s` is the number of events divided by the length of the interval in seconds, or of
    the window if the request doesn't group by time. For an interval that isn't over yet, only the
    time that has passed so far counts.
    """

    at: Timestamp | None = None
    event_type: str | None = None
    events: int
    events_per_s: float


_PER_SECOND = f"""
    sum(events)::double precision
        / greatest(
              extract(
                  epoch from
                  case
                      when 'at' = any(:by::text[])
                      then least(
                               min({time_bin_column("bucket_start")})
                                   + make_interval(secs => :every_s::integer),
                               :until::timestamptz, now()
                           ) - min({time_bin_column("bucket_start")})
                      else least(:until::timestamptz, now()) - :since::timestamptz
                  end
              ), 1
          )::double precision as events_per_s
"""
_RATE = grouping_statement(
    "projector.attempts_by_status",
    keys=("event_type",),
    measures=(sum_column("events"), _PER_SECOND),
    time="bucket_start",
)


async def events_per_second(
    snapshot: Snapshot, params: EventRateParams
) -> GroupedAnswer[EventRate]:
    """How many events per second are there, by type?"""
    return await run_grouped(
        snapshot, GrainStatements(hours=_RATE, minutes=_RATE), params, EventRate
    )


class RetryCountsParams(GroupedParams, frozen=True, kw_only=True):
    by: Annotated[tuple[Literal["at", "step"], ...], GroupBy] = ("at",)
    every: MinuteToDay = "minute"
    step: Texts | None = None


class RetryCounts(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """`first_tries` counts first attempts that ended in this time, and `retries` the others."""

    at: Timestamp | None = None
    step: str | None = None
    retries: int
    first_tries: int


_RETRIES = GrainStatements(
    hours=grouping_statement(
        "projector.call_outcomes_by_attempt",
        keys=("step",),
        measures=(
            "coalesce(sum(calls) filter (where attempts > 0), 0)::bigint as retries",
            "coalesce(sum(calls) filter (where attempts = 0), 0)::bigint as first_tries",
        ),
        having="sum(calls) <> 0",
    ),
    minutes=grouping_statement(
        "projector.retries_by_minute",
        keys=("step",),
        measures=(sum_column("retries"), sum_column("first_tries")),
        time="minute",
    ),
)


async def retries_by_minute(
    snapshot: Snapshot, params: RetryCountsParams
) -> GroupedAnswer[RetryCounts]:
    """How many retries and first attempts ended, by step and minute?"""
    return await run_grouped(snapshot, _RETRIES, params, RetryCounts)


class CoercionsByRuleParams(GroupedParams, frozen=True, kw_only=True):
    by: Annotated[tuple[Literal["at", "rule", "shape"], ...], GroupBy] = ("rule", "shape")
    every: HourOrDay = "hour"
    rule: Rules | None = None
    shape: Shapes | None = None


class CoercionsByRule(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """`coercions` is the number of values whose meaning a rule changed or guessed."""

    at: Timestamp | None = None
    rule: str | None = None
    shape: str | None = None
    coercions: int


_COERCIONS = grouping_statement(
    "projector.coercions_by_rule", keys=("rule", "shape"), measures=(sum_column("coercions"),)
)


async def coercions_by_rule(
    snapshot: Snapshot, params: CoercionsByRuleParams
) -> GroupedAnswer[CoercionsByRule]:
    """Which values had their meaning changed or guessed, by which rule, in which shape?"""
    return await run_grouped(snapshot, _COERCIONS, params, CoercionsByRule)


class ShapesParams(GroupedParams, frozen=True, kw_only=True):
    by: Annotated[tuple[Literal["at", "shape"], ...], GroupBy] = ("shape",)
    every: HourOrDay = "hour"
    shape: Shapes | None = None


class ShapeDefaults(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """How many events of a wire shape lack an attempt, a status, or a time of their own."""

    at: Timestamp | None = None
    shape: str | None = None
    events: int
    attempts_defaulted: int
    status_from_name: int
    time_from_log: int


_DEFAULTS = grouping_statement(
    "projector.defaults_by_shape",
    keys=("shape",),
    measures=(
        sum_column("events"),
        sum_column("attempts_defaulted"),
        sum_column("status_from_name"),
        sum_column("time_from_log"),
    ),
)


async def defaults_by_shape(
    snapshot: Snapshot, params: ShapesParams
) -> GroupedAnswer[ShapeDefaults]:
    """How many events have default values because the producer sent none, by shape?"""
    return await run_grouped(snapshot, _DEFAULTS, params, ShapeDefaults)


LatenessBuckets = Annotated[
    tuple[
        Literal[
            "unknown",
            "clock ahead",
            "under 1 s",
            "under 10 s",
            "under 1 min",
            "under 10 min",
            "under 1 h",
            "under 1 day",
            "over 1 day",
        ],
        ...,
    ],
    Meta(min_length=1, max_length=50, description="Only these. May be given more than once."),
]


class LateArrivalsParams(GroupedParams, frozen=True, kw_only=True):
    by: Annotated[tuple[Literal["at", "shape", "worker", "lateness"], ...], GroupBy] = (
        "shape",
        "lateness",
    )
    every: HourOrDay = "hour"
    shape: Shapes | None = None
    worker: Texts | None = None
    lateness: LatenessBuckets | None = None


class LateArrivals(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """Events, grouped by how long it took until they reached Kafka's log.

    `lateness` is the group's range of that time. `mean_skew_s` is the mean of that time in seconds,
    where an event on time counts as 0. `on_time` counts events that arrived within a second, and
    those whose lateness isn't known. `ahead` counts events whose own time is more than a second
    after they reached the log, which means that the producer's clock is fast.
    """

    at: Timestamp | None = None
    shape: str | None = None
    worker_id: str | None = None
    lateness: str | None = None
    events: int
    on_time: int
    ahead: int
    mean_skew_s: float | None


_MEAN_SKEW = """
    sum(skew_s) / nullif(sum(events) filter (where lateness <> 'unknown'), 0)::double precision
        as mean_skew_s
"""
_LATE = grouping_statement(
    "projector.late_arrivals",
    keys=("shape", "worker", "lateness"),
    measures=(
        sum_column("events"),
        "coalesce(sum(events) filter (where on_time), 0)::bigint as on_time",
        "coalesce(sum(events) filter (where lateness = 'clock ahead'), 0)::bigint as ahead",
        _MEAN_SKEW,
    ),
)


async def late_arrivals(
    snapshot: Snapshot, params: LateArrivalsParams
) -> GroupedAnswer[LateArrivals]:
    """How late do events reach the log, and whose clock is wrong?"""
    return await run_grouped(snapshot, _LATE, params, LateArrivals)


class AttemptsByStatusParams(GroupedParams, frozen=True, kw_only=True):
    by: Annotated[
        tuple[Literal["at", "step", "event_type", "status", "attempts"], ...], GroupBy
    ] = (
        "event_type",
        "status",
        "attempts",
    )
    every: MinuteToDay = "hour"
    step: Texts | None = None
    event_type: Texts | None = None
    status: Texts | None = None
    attempts: AttemptNumbers | None = None
    engine: (
        Annotated[
            Literal["true", "false"],
            Meta(
                description="With `false`, events of the engine's own step `__orchestrate__` "
                "aren't counted, as in counts of calls. Counts by minute don't have the step, so "
                "`false` counts by hour. Default: `true`."
            ),
        ]
        | None
    ) = None


class AttemptsByStatus(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """The number of events of a group. In `attempts`, 0 is the first attempt."""

    at: Timestamp | None = None
    step: str | None = None
    event_type: str | None = None
    status: str | None = None
    attempts: int | None = None
    events: int


_ATTEMPTS = grouping_statement(
    "projector.attempts_by_status",
    keys=("event_type", "status", "attempts"),
    measures=(sum_column("events"),),
    time="bucket_start",
)
_ATTEMPTS_OF_STEPS = grouping_statement(
    "projector.event_counts",
    keys=("step", "event_type", "status", "attempts"),
    measures=(sum_column("events"),),
    where="(:engine::text is distinct from 'false' or step <> '__orchestrate__')",
    having="sum(events) <> 0",
)


async def attempts_by_status(
    snapshot: Snapshot, params: AttemptsByStatusParams
) -> GroupedAnswer[AttemptsByStatus]:
    """How many events are there by type, status and attempt? By step only in hours."""
    if params.step is not None or "step" in params.by or params.engine == "false":
        return await run_grouped(snapshot, _ATTEMPTS_OF_STEPS, params, AttemptsByStatus)
    either = GrainStatements(hours=_ATTEMPTS, minutes=_ATTEMPTS)
    return await run_grouped(snapshot, either, params, AttemptsByStatus)

"""How events come: how many, how late, what was guessed or left unsaid, over time."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from projector.api.answers import ApiAnswer, ApiRow, GroupedAnswer, PagedAnswer
from projector.api.parameters import (
    By,
    GroupedParams,
    HourOrDay,
    MinuteToDay,
    Numbers,
    PagedWindowParams,
    Texts,
    WindowParams,
    floor,
)
from projector.api.queries.grouping import Grains, bin_of, grouped, total
from projector.api.queries.run_query import run_grouped, run_paged, run_query
from projector.api.snapshots import Snapshot, Statement


class EventRateParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "event_type"], ...], By] = ("at", "event_type")
    every: MinuteToDay = "minute"
    event_type: Texts | None = None


class EventRate(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """events_per_s: over that part of `at`, or of the window, that is over."""

    at: datetime | None = None
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
                               min({bin_of("bucket_start")})
                                   + make_interval(secs => :every_s::integer),
                               :until::timestamptz, now()
                           ) - min({bin_of("bucket_start")})
                      else least(:until::timestamptz, now()) - :since::timestamptz
                  end
              ), 1
          )::double precision as events_per_s
"""
_RATE = grouped(
    "projector.attempts_by_status",
    keys=("event_type",),
    measures=(total("events"), _PER_SECOND),
    time="bucket_start",
)


async def events_per_second(
    snapshot: Snapshot, params: EventRateParams
) -> GroupedAnswer[EventRate]:
    """How many events a second are there, by type?"""
    return await run_grouped(snapshot, Grains(hours=_RATE, minutes=_RATE), params, EventRate)


class AttemptsByStatusParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "step", "event_type", "status", "attempts"], ...], By] = (
        "event_type",
        "status",
        "attempts",
    )
    every: MinuteToDay = "hour"
    step: Texts | None = None
    event_type: Texts | None = None
    status: Texts | None = None
    attempts: Numbers | None = None


class AttemptsByStatus(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """attempts 0 is the first try."""

    at: datetime | None = None
    step: str | None = None
    event_type: str | None = None
    status: str | None = None
    attempts: int | None = None
    events: int


_ATTEMPTS = grouped(
    "projector.attempts_by_status",
    keys=("event_type", "status", "attempts"),
    measures=(total("events"),),
    time="bucket_start",
)
_ATTEMPTS_OF_STEPS = grouped(
    "projector.event_counts",
    keys=("step", "event_type", "status", "attempts"),
    measures=(total("events"),),
    having="sum(events) <> 0",
)


async def attempts_by_status(
    snapshot: Snapshot, params: AttemptsByStatusParams
) -> GroupedAnswer[AttemptsByStatus]:
    """How many events of each type ended in which status at which attempt? By step: by the hour."""
    if params.step is not None or "step" in params.by:
        return await run_grouped(snapshot, _ATTEMPTS_OF_STEPS, params, AttemptsByStatus)
    either = Grains(hours=_ATTEMPTS, minutes=_ATTEMPTS)
    return await run_grouped(snapshot, either, params, AttemptsByStatus)


class RetriesParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "step"], ...], By] = ("at",)
    every: Annotated[Literal["minute", "hour"], Meta(description="How wide `at` is.")] = "minute"
    step: Texts | None = None


class Retries(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """retries: tries with attempts above 0; first_tries: those with 0; by when they ended."""

    at: datetime | None = None
    step: str | None = None
    retries: int
    first_tries: int


_RETRIES = grouped(
    "projector.retries_by_minute",
    keys=("step",),
    measures=(total("retries"), total("first_tries")),
    time="minute",
)


async def retries_by_minute(snapshot: Snapshot, params: RetriesParams) -> GroupedAnswer[Retries]:
    """How many retries ended, and first tries, by step and minute? Kept for two days."""
    return await run_grouped(snapshot, Grains(hours=_RETRIES, minutes=_RETRIES), params, Retries)


class CoercionsParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "rule", "shape"], ...], By] = ("rule", "shape")
    every: HourOrDay = "hour"
    rule: Texts | None = None
    shape: Texts | None = None


class Coercions(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """coercions: values whose meaning was changed or guessed."""

    at: datetime | None = None
    rule: str | None = None
    shape: str | None = None
    coercions: int


_COERCIONS = grouped(
    "projector.coercions_by_rule", keys=("rule", "shape"), measures=(total("coercions"),)
)


async def coercions_by_rule(
    snapshot: Snapshot, params: CoercionsParams
) -> GroupedAnswer[Coercions]:
    """Which values had their meaning changed or guessed, by which rule, in which shape?"""
    return await run_grouped(snapshot, _COERCIONS, params, Coercions)


class ShapesParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "shape"], ...], By] = ("shape",)
    every: HourOrDay = "hour"
    shape: Texts | None = None


class ShapeDefaults(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """Of `events`: those that do not say which try, how it went, when it happened."""

    at: datetime | None = None
    shape: str | None = None
    events: int
    attempts_defaulted: int
    status_from_name: int
    time_from_log: int


_DEFAULTS = grouped(
    "projector.defaults_by_shape",
    keys=("shape",),
    measures=(
        total("events"),
        total("attempts_defaulted"),
        total("status_from_name"),
        total("time_from_log"),
    ),
)


async def defaults_by_shape(
    snapshot: Snapshot, params: ShapesParams
) -> GroupedAnswer[ShapeDefaults]:
    """How much did producers leave unsaid, by shape?"""
    return await run_grouped(snapshot, _DEFAULTS, params, ShapeDefaults)


class LateArrivalsParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "shape", "lateness"], ...], By] = ("shape", "lateness")
    every: HourOrDay = "hour"
    shape: Texts | None = None
    lateness: Texts | None = None


class LateArrivals(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """lateness: how long after it happened the log got it."""

    at: datetime | None = None
    shape: str | None = None
    lateness: str | None = None
    events: int


_LATE = grouped("projector.late_arrivals", keys=("shape", "lateness"), measures=(total("events"),))


async def late_arrivals(
    snapshot: Snapshot, params: LateArrivalsParams
) -> GroupedAnswer[LateArrivals]:
    """How late after they happened do events reach the log?"""
    return await run_grouped(snapshot, _LATE, params, LateArrivals)


class Gap(ApiRow, frozen=True, kw_only=True):
    """Offsets from first_offset up to next_offset that gave no record."""

    topic: str
    incarnation: int
    partition: int
    first_offset: str
    next_offset: str
    offsets: int
    reason: str
    found_at: datetime


_GAPS = Statement("""
    select   topic, incarnation, partition, first_offset::text, next_offset::text, offsets, reason,
             found_at, topic as after_topic, incarnation as after_incarnation,
             partition as after_partition, first_offset as after_offset, found_at as after_at
    from     projector.gaps
    where    found_at >= :since::timestamptz and found_at < :until::timestamptz
    and      (
                 :after_at::timestamptz is null
                 or (found_at, topic, incarnation, partition, first_offset)
                    < (:after_at, :after_topic::text, :after_incarnation::integer,
                       :after_partition::integer, :after_offset::bigint)
             )
    order by found_at desc, topic desc, incarnation desc, partition desc, gaps.first_offset desc
    limit    :limit::integer
""")


async def gaps(snapshot: Snapshot, params: PagedWindowParams) -> PagedAnswer[Gap]:
    """Which offsets gave no record, and why?"""
    return await run_paged(
        snapshot,
        _GAPS,
        params,
        Gap,
        after={
            "after_at": datetime,
            "after_topic": str,
            "after_incarnation": int,
            "after_partition": int,
            "after_offset": int,
        },
    )


class Choices(ApiRow, frozen=True, kw_only=True):
    """What can be filtered by, of this window; at most 500 of each."""

    playbooks: list[str]
    steps: list[str]
    event_types: list[str]
    statuses: list[str]
    attempts: list[int]
    workers: list[str]
    shapes: list[str]


_CHOICES = Statement("""
    with outcome as materialized (
        select   playbook, step, status, attempts
        from     projector.call_outcomes_by_attempt
        where    hour >= :since::timestamptz and hour < :until::timestamptz
        group by playbook, step, status, attempts
        having   sum(calls) <> 0
    )
    select array(select playbook from outcome group by 1 order by 1 limit 500) as playbooks,
           array(select step from outcome group by 1 order by 1 limit 500) as steps,
           array(
               select   event_type
               from     projector.event_counts
               where    hour >= :since and hour < :until
               group by event_type
               having   sum(events) <> 0
               order by event_type
               limit    500
           ) as event_types,
           array(select status from outcome group by 1 order by 1 limit 500) as statuses,
           array(select attempts from outcome group by 1 order by 1 limit 500) as attempts,
           array(
               select   worker_id
               from     projector.worker_failures
               where    hour >= :since and hour < :until
               group by worker_id
               order by worker_id
               limit    500
           ) as workers,
           array(
               select   shape
               from     projector.defaults_by_shape
               where    hour >= :since and hour < :until
               group by shape
               order by shape
               limit    500
           ) as shapes
""")


async def choices(snapshot: Snapshot, params: WindowParams) -> ApiAnswer[Choices]:
    """What can be filtered by?"""
    since, until = params.bounds(snapshot.read_at)
    since = floor(since, "hour")
    return await run_query(snapshot, _CHOICES, {"since": since, "until": until}, Choices)

"""How events come: how many, how late, what was refused, guessed or left unsaid, over time."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from projector.api.answers import Answer, Counts, Page, Row
from projector.api.database import Snapshot, Statement
from projector.api.parameters import By, Counted, HourOrDay, ListedWindow, Numbers, Texts, Window
from projector.api.queries.asking import counts, now, page
from projector.api.queries.grouping import grouped, total


class RateAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "event_type"], ...], By] = ("at", "event_type")
    every: Annotated[
        Literal["minute", "hour", "day"],
        Meta(description="How wide `at` is; minutes are kept for two days."),
    ] = "minute"
    event_type: Texts | None = None


class Rate(Row, frozen=True, kw_only=True, omit_defaults=True):
    """events_per_s: over all of `at`, which may not be full yet; without `at`, of the window."""

    at: datetime | None = None
    event_type: str | None = None
    events: int
    events_per_s: float


_PER_SECOND = """
    sum(events)::double precision
        / case
              when 'at' = any(:by::text[]) then :every_s::integer
              else greatest(extract(epoch from :until::timestamptz - :since::timestamptz), 1)
          end::double precision as events_per_s
"""
_RATE_BY_MINUTES = grouped(
    "events_per_second",
    keys=("event_type",),
    measures=(total("events"), _PER_SECOND),
    time="minute",
)
_RATE_BY_HOURS = grouped(
    "event_counts",
    keys=("event_type",),
    measures=(total("events"), _PER_SECOND),
    having="sum(events) <> 0",
)


async def events_per_second(snapshot: Snapshot, asked: RateAsked) -> Counts[Rate]:
    """How many events a second are there, by type?"""
    statement = _RATE_BY_MINUTES if asked.every == "minute" else _RATE_BY_HOURS
    return await counts(snapshot, statement, asked, Rate)


class AttemptsAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "step", "event_type", "status", "attempts"], ...], By] = (
        "event_type",
        "status",
        "attempts",
    )
    every: HourOrDay = "hour"
    step: Texts | None = None
    event_type: Texts | None = None
    status: Texts | None = None
    attempts: Numbers | None = None


class AttemptsByStatus(Row, frozen=True, kw_only=True, omit_defaults=True):
    """attempts 0 is the first try."""

    at: datetime | None = None
    step: str | None = None
    event_type: str | None = None
    status: str | None = None
    attempts: int | None = None
    events: int


_ATTEMPTS = grouped(
    "event_counts",
    keys=("step", "event_type", "status", "attempts"),
    measures=(total("events"),),
    having="sum(events) <> 0",
)


async def attempts_by_status(snapshot: Snapshot, asked: AttemptsAsked) -> Counts[AttemptsByStatus]:
    """How many events of each step and type ended in which status at which attempt?"""
    return await counts(snapshot, _ATTEMPTS, asked, AttemptsByStatus)


class RetriesAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "step"], ...], By] = ("at",)
    every: Annotated[Literal["minute", "hour"], Meta(description="How wide `at` is.")] = "minute"
    step: Texts | None = None


class Retries(Row, frozen=True, kw_only=True, omit_defaults=True):
    """retries: tries with attempts above 0, by when they began."""

    at: datetime | None = None
    step: str | None = None
    retries: int


_RETRIES = grouped("retries_by_minute", keys=("step",), measures=(total("retries"),), time="minute")


async def retries_by_minute(snapshot: Snapshot, asked: RetriesAsked) -> Counts[Retries]:
    """How many retries began, by step and minute? Minutes are kept for two days."""
    return await counts(snapshot, _RETRIES, asked, Retries)


class QuarantineAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "reason", "shape"], ...], By] = ("reason", "shape")
    every: HourOrDay = "hour"
    reason: Texts | None = None
    shape: Texts | None = None


class Quarantine(Row, frozen=True, kw_only=True, omit_defaults=True):
    """refused: records and events that went to quarantine."""

    at: datetime | None = None
    reason: str | None = None
    shape: str | None = None
    refused: int


_QUARANTINE = grouped(
    "quarantine_by_reason", keys=("reason", "shape"), measures=(total("refused"),)
)


async def quarantine_by_reason(snapshot: Snapshot, asked: QuarantineAsked) -> Counts[Quarantine]:
    """What was refused, why, and in which shape?"""
    return await counts(snapshot, _QUARANTINE, asked, Quarantine)


class CoercionsAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "rule", "shape"], ...], By] = ("rule", "shape")
    every: HourOrDay = "hour"
    rule: Texts | None = None
    shape: Texts | None = None


class Coercions(Row, frozen=True, kw_only=True, omit_defaults=True):
    """coercions: values whose meaning was changed or guessed."""

    at: datetime | None = None
    rule: str | None = None
    shape: str | None = None
    coercions: int


_COERCIONS = grouped("coercions_by_rule", keys=("rule", "shape"), measures=(total("coercions"),))


async def coercions_by_rule(snapshot: Snapshot, asked: CoercionsAsked) -> Counts[Coercions]:
    """Which values had their meaning changed or guessed, by which rule, in which shape?"""
    return await counts(snapshot, _COERCIONS, asked, Coercions)


class ShapesAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "shape"], ...], By] = ("shape",)
    every: HourOrDay = "hour"
    shape: Texts | None = None


class Defaults(Row, frozen=True, kw_only=True, omit_defaults=True):
    """Of `events`: those that do not say which try, how it went, when it happened."""

    at: datetime | None = None
    shape: str | None = None
    events: int
    attempts_defaulted: int
    status_from_name: int
    time_from_log: int


_DEFAULTS = grouped(
    "defaults_by_shape",
    keys=("shape",),
    measures=(
        total("events"),
        total("attempts_defaulted"),
        total("status_from_name"),
        total("time_from_log"),
    ),
)


async def defaults_by_shape(snapshot: Snapshot, asked: ShapesAsked) -> Counts[Defaults]:
    """How much did producers leave unsaid, by shape?"""
    return await counts(snapshot, _DEFAULTS, asked, Defaults)


class LateAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "shape", "lateness"], ...], By] = ("shape", "lateness")
    every: HourOrDay = "hour"
    shape: Texts | None = None
    lateness: Texts | None = None


class Late(Row, frozen=True, kw_only=True, omit_defaults=True):
    """lateness: how long after it happened the log got it."""

    at: datetime | None = None
    shape: str | None = None
    lateness: str | None = None
    events: int


_LATE = grouped("late_arrivals", keys=("shape", "lateness"), measures=(total("events"),))


async def late_arrivals(snapshot: Snapshot, asked: LateAsked) -> Counts[Late]:
    """How late after they happened do events reach the log?"""
    return await counts(snapshot, _LATE, asked, Late)


class Gap(Row, frozen=True, kw_only=True):
    """Offsets from first_offset up to next_offset that gave no record."""

    topic: str
    generation: int
    partition: int
    first_offset: str
    next_offset: str
    offsets: int
    reason: str
    found_at: datetime


_GAPS = Statement("""
    select   topic, generation, partition, first_offset::text, next_offset::text, offsets, reason,
             found_at, topic as after_topic, generation as after_generation,
             partition as after_partition, first_offset as after_offset, found_at as after_at
    from     projector.gaps
    where    found_at >= :since::timestamptz and found_at < :until::timestamptz
    and      (
                 :after_at::timestamptz is null
                 or (found_at, topic, generation, partition, first_offset)
                    < (:after_at, :after_topic::text, :after_generation::integer,
                       :after_partition::integer, :after_offset::bigint)
             )
    order by found_at desc, topic desc, generation desc, partition desc, gaps.first_offset desc
    limit    :limit::integer
""")


async def gaps(snapshot: Snapshot, asked: ListedWindow) -> Page[Gap]:
    """Which offsets gave no record, and why?"""
    return await page(
        snapshot,
        _GAPS,
        asked,
        Gap,
        after={
            "after_at": datetime,
            "after_topic": str,
            "after_generation": int,
            "after_partition": int,
            "after_offset": int,
        },
    )


class Choices(Row, frozen=True, kw_only=True):
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
        from     projector.call_counts
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


async def choices(snapshot: Snapshot, asked: Window) -> Answer[Choices]:
    """What can be filtered by?"""
    since, until = asked.bounds(snapshot.read_at, "hour")
    return await now(snapshot, _CHOICES, {"since": since, "until": until}, Choices)

"""How calls go: by attempt, step, playbook, worker and error, over time."""

from datetime import datetime
from typing import Annotated, Literal

from projector.api.answers import Counts, Row
from projector.api.database import Snapshot, Statement
from projector.api.parameters import By, Counted, HourOrDay, Numbers, Texts
from projector.api.queries.asking import counts
from projector.api.queries.grouping import columns, conditions, grouped, ordinals, ratio, total

_ANY_CALLS = "sum(calls) <> 0"


class OfSteps(Counted, frozen=True, kw_only=True):
    """Of calls by step, whichever try it was."""

    by: Annotated[tuple[Literal["at", "playbook", "step"], ...], By] = ("step",)
    every: HourOrDay = "hour"
    playbook: Texts | None = None
    step: Texts | None = None


class OfTries(Counted, frozen=True, kw_only=True):
    """Of calls by attempt."""

    by: Annotated[tuple[Literal["at", "playbook", "step", "attempts"], ...], By] = (
        "step",
        "attempts",
    )
    every: HourOrDay = "hour"
    playbook: Texts | None = None
    step: Texts | None = None
    attempts: Numbers | None = None


class OfStep(Row, frozen=True, kw_only=True, omit_defaults=True):
    """What an answer about steps is grouped by."""

    at: datetime | None = None
    playbook: str | None = None
    step: str | None = None


class OfTry(OfStep, frozen=True, kw_only=True, omit_defaults=True):
    """What an answer about tries is grouped by."""

    attempts: int | None = None


class CallOutcomesAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "playbook", "step", "attempts", "status"], ...], By] = (
        "attempts",
        "status",
    )
    every: HourOrDay = "hour"
    playbook: Texts | None = None
    step: Texts | None = None
    attempts: Numbers | None = None
    status: Texts | None = None


class CallOutcomes(OfTry, frozen=True, kw_only=True, omit_defaults=True):
    """calls: tries of commands."""

    status: str | None = None
    calls: int


_CALL_OUTCOMES = grouped(
    "call_counts",
    keys=("playbook", "step", "attempts", "status"),
    measures=(total("calls"),),
    having=_ANY_CALLS,
)


async def call_outcomes_by_attempt(
    snapshot: Snapshot, asked: CallOutcomesAsked
) -> Counts[CallOutcomes]:
    """How did calls end, by attempt?"""
    return await counts(snapshot, _CALL_OUTCOMES, asked, CallOutcomes)


class ErrorRate(OfTry, frozen=True, kw_only=True, omit_defaults=True):
    """error_rate = failed / calls; failed counts FAILED, ERROR and CANCELLED."""

    calls: int
    failed: int
    error_rate: float | None


_ERROR_RATE = grouped(
    "call_counts",
    keys=("playbook", "step", "attempts"),
    measures=(total("calls"), total("failed"), ratio("failed", "calls", "error_rate")),
    having=_ANY_CALLS,
)


async def error_rate_by_attempt(snapshot: Snapshot, asked: OfTries) -> Counts[ErrorRate]:
    """How often do calls fail at each attempt?"""
    return await counts(snapshot, _ERROR_RATE, asked, ErrorRate)


class FirstAttempts(OfStep, frozen=True, kw_only=True, omit_defaults=True):
    """success_rate = succeeded / calls."""

    calls: int
    succeeded: int
    success_rate: float | None


_FIRST_ATTEMPTS = grouped(
    "call_counts",
    keys=("playbook", "step"),
    measures=(total("calls"), total("succeeded"), ratio("succeeded", "calls", "success_rate")),
    where="attempts = 0",
    having=_ANY_CALLS,
)


async def first_attempt_success(snapshot: Snapshot, asked: OfSteps) -> Counts[FirstAttempts]:
    """How often does the first try succeed?"""
    return await counts(snapshot, _FIRST_ATTEMPTS, asked, FirstAttempts)


class Recovery(OfTry, frozen=True, kw_only=True, omit_defaults=True):
    """recovery_rate = recovered / retries."""

    retries: int
    recovered: int
    recovery_rate: float | None


_RECOVERY = grouped(
    "call_counts",
    keys=("playbook", "step", "attempts"),
    measures=(
        total("calls", "retries"),
        total("succeeded", "recovered"),
        ratio("succeeded", "calls", "recovery_rate"),
    ),
    where="attempts > 0",
    having=_ANY_CALLS,
)


async def retry_recovery(snapshot: Snapshot, asked: OfTries) -> Counts[Recovery]:
    """Is retrying worth it: how likely does attempt n succeed after attempt n - 1 has failed?"""
    return await counts(snapshot, _RECOVERY, asked, Recovery)


class Exhaustion(OfStep, frozen=True, kw_only=True, omit_defaults=True):
    """exhausted_rate = exhausted / failed."""

    failed: int
    exhausted: int
    exhausted_rate: float | None


_EXHAUSTION = grouped(
    "call_counts",
    keys=("playbook", "step"),
    measures=(total("failed"), total("exhausted"), ratio("exhausted", "failed", "exhausted_rate")),
    having="sum(failed) <> 0",
)


async def retry_exhaustion(snapshot: Snapshot, asked: OfSteps) -> Counts[Exhaustion]:
    """How many failed tries were the last one allowed?"""
    return await counts(snapshot, _EXHAUSTION, asked, Exhaustion)


class Cost(OfStep, frozen=True, kw_only=True, omit_defaults=True):
    """attempts_per_success = tries / succeeded; null where nothing succeeded."""

    tries: int
    succeeded: int
    attempts_per_success: float | None


_COST = grouped(
    "call_counts",
    keys=("playbook", "step"),
    measures=(
        total("calls", "tries"),
        total("succeeded"),
        ratio("calls", "succeeded", "attempts_per_success"),
    ),
    having=_ANY_CALLS,
)


async def attempts_per_success(snapshot: Snapshot, asked: OfSteps) -> Counts[Cost]:
    """How many tries does a success cost?"""
    return await counts(snapshot, _COST, asked, Cost)


class DurationsAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "playbook", "step", "attempts", "status"], ...], By] = (
        "step",
        "attempts",
    )
    every: HourOrDay = "hour"
    playbook: Texts | None = None
    step: Texts | None = None
    attempts: Numbers | None = None
    status: Texts | None = None


class Durations(OfTry, frozen=True, kw_only=True, omit_defaults=True):
    """Percentiles in seconds, at most 4.5 % off."""

    status: str | None = None
    calls: int
    p50_s: float
    p95_s: float
    p99_s: float


_DURATION_KEYS = ("playbook", "step", "attempts", "status")
_DURATIONS = Statement(
    f"""
    select   at, playbook, step, attempts, status, max(total) as calls,
             projector.seconds_of(min(bucket) filter (where 2 * up_to >= total)) as p50_s,
             projector.seconds_of(min(bucket) filter (where 20 * up_to >= 19 * total)) as p95_s,
             projector.seconds_of(min(bucket) filter (where 100 * up_to >= 99 * total)) as p99_s
    from     (
                 select   at, playbook, step, attempts, status, bucket,
                          (sum(calls) over (
                              partition by at, playbook, step, attempts, status order by bucket
                          ))::bigint as up_to,
                          (sum(calls) over (
                              partition by at, playbook, step, attempts, status
                          ))::bigint as total
                 from     (
                              select   {columns(_DURATION_KEYS, "hour")}, bucket,
                                       sum(calls)::bigint as calls
                              from     projector.call_time_counts
                              where    {conditions(_DURATION_KEYS, "hour")}
                              and      measure = 'duration'
                              group by {ordinals(_DURATION_KEYS)}, bucket
                              having   sum(calls) <> 0
                          ) as added
             ) as cumulated
    group by at, playbook, step, attempts, status
    order by at desc nulls last, calls desc, playbook, step, attempts, status
    limit    :limit::integer
    """  # noqa: S608 - names of ours, put together once, at import
)


async def call_durations_by_attempt(snapshot: Snapshot, asked: DurationsAsked) -> Counts[Durations]:
    """How long do calls take, by step and attempt: median, 95th and 99th percentile?"""
    return await counts(snapshot, _DURATIONS, asked, Durations)


class QueueWaitsAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    step: Texts | None = None


class QueueWaits(Row, frozen=True, kw_only=True, omit_defaults=True):
    """Percentiles in seconds, of one hour."""

    at: datetime
    step: str
    calls: int
    p50_s: float
    p95_s: float
    p99_s: float


_QUEUE_WAITS = Statement("""
    select   hour as at, step, calls, p50_s, p95_s, p99_s
    from     projector.call_queue_waits
    where    hour >= :since::timestamptz and hour < :until::timestamptz
    and      (:step::text[] is null or step = any(:step))
    order by hour desc, calls desc, step
    limit    :limit::integer
""")


async def call_queue_waits(snapshot: Snapshot, asked: QueueWaitsAsked) -> Counts[QueueWaits]:
    """How long do commands wait from issued to claimed, by step and hour?"""
    return await counts(snapshot, _QUEUE_WAITS, asked, QueueWaits)


class BackoffsAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    step: Texts | None = None
    attempts: Numbers | None = None


class Backoffs(Row, frozen=True, kw_only=True, omit_defaults=True):
    """Percentiles in seconds, of one hour."""

    at: datetime
    step: str
    attempts: int
    retries: int
    p50_s: float
    p95_s: float
    p99_s: float


_BACKOFFS = Statement("""
    select   hour as at, step, attempts, retries, p50_s, p95_s, p99_s
    from     projector.retry_backoffs
    where    hour >= :since::timestamptz and hour < :until::timestamptz
    and      (:step::text[] is null or step = any(:step))
    and      (:attempts::integer[] is null or attempts = any(:attempts))
    order by hour desc, retries desc, step, attempts
    limit    :limit::integer
""")


async def retry_backoffs(snapshot: Snapshot, asked: BackoffsAsked) -> Counts[Backoffs]:
    """How long is waited between a failure and the retry after it, by step, attempt and hour?"""
    return await counts(snapshot, _BACKOFFS, asked, Backoffs)


class FailuresAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "step", "attempts", "status", "error_class"], ...], By] = (
        "step",
        "error_class",
    )
    every: HourOrDay = "hour"
    step: Texts | None = None
    attempts: Numbers | None = None
    status: Texts | None = None
    error_class: Texts | None = None


class Failures(Row, frozen=True, kw_only=True, omit_defaults=True):
    """error_class: the error text without its numbers, ids and quoted parts."""

    at: datetime | None = None
    step: str | None = None
    attempts: int | None = None
    status: str | None = None
    error_class: str | None = None
    calls: int


_FAILURES = grouped(
    "failures_by_error",
    keys=("step", "attempts", "status", "error_class"),
    measures=(total("calls"),),
)


async def failures_by_error(snapshot: Snapshot, asked: FailuresAsked) -> Counts[Failures]:
    """What do calls fail of, by attempt?"""
    return await counts(snapshot, _FAILURES, asked, Failures)


class WorkersAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "worker"], ...], By] = ("worker",)
    every: HourOrDay = "hour"
    worker: Texts | None = None


class Workers(Row, frozen=True, kw_only=True, omit_defaults=True):
    """error_rate = failed / calls."""

    at: datetime | None = None
    worker_id: str | None = None
    calls: int
    failed: int
    error_rate: float | None


_WORKERS = grouped(
    "worker_failures",
    keys=("worker",),
    measures=(total("calls"), total("failed"), ratio("failed", "calls", "error_rate")),
)


async def worker_failures(snapshot: Snapshot, asked: WorkersAsked) -> Counts[Workers]:
    """Which worker fails more than others?"""
    return await counts(snapshot, _WORKERS, asked, Workers)

"""How calls end: by attempt, step, playbook, worker and error, over time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from projector.api.answers import Answer, Counts, Row
from projector.api.database import Snapshot, Statement
from projector.api.parameters import By, Counted, MinuteToDay, Numbers, Parameters, Texts
from projector.api.queries.asking import counts, now
from projector.api.queries.grouping import FINISHED, Grains, grouped, ratio, total


def _of_calls(
    view: str,
    *,
    keys: Sequence[str],
    measures: Sequence[str],
    where: str = "true",
    having: str = "sum(calls) <> 0",
) -> Grains:
    """By the hour from what is counted, by the minute from the calls themselves."""
    return Grains(
        hours=grouped(
            f"projector.{view}", keys=keys, measures=measures, where=where, having=having
        ),
        minutes=grouped(
            FINISHED, keys=keys, measures=measures, where=where, having=having, time="finished_at"
        ),
        dear=True,
    )


class OfSteps(Counted, frozen=True, kw_only=True):
    """Of calls by step, whichever try it was."""

    by: Annotated[tuple[Literal["at", "playbook", "step"], ...], By] = ("step",)
    every: MinuteToDay = "hour"
    playbook: Texts | None = None
    step: Texts | None = None


class OfTries(Counted, frozen=True, kw_only=True):
    """Of calls by attempt."""

    by: Annotated[tuple[Literal["at", "playbook", "step", "attempts"], ...], By] = (
        "step",
        "attempts",
    )
    every: MinuteToDay = "hour"
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
    every: MinuteToDay = "hour"
    playbook: Texts | None = None
    step: Texts | None = None
    attempts: Numbers | None = None
    status: Texts | None = None


class CallOutcomes(OfTry, frozen=True, kw_only=True, omit_defaults=True):
    """calls: tries of commands."""

    status: str | None = None
    calls: int


_CALL_OUTCOMES = _of_calls(
    "call_outcomes_by_attempt",
    keys=("playbook", "step", "attempts", "status"),
    measures=(total("calls"),),
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


_ERROR_RATE = _of_calls(
    "call_outcomes_by_attempt",
    keys=("playbook", "step", "attempts"),
    measures=(total("calls"), total("failed"), ratio("failed", "calls", "error_rate")),
)


async def error_rate_by_attempt(snapshot: Snapshot, asked: OfTries) -> Counts[ErrorRate]:
    """How often do calls fail at each attempt?"""
    return await counts(snapshot, _ERROR_RATE, asked, ErrorRate)


class FirstAttempts(OfStep, frozen=True, kw_only=True, omit_defaults=True):
    """success_rate = succeeded / calls."""

    calls: int
    succeeded: int
    success_rate: float | None


_FIRST_ATTEMPTS = _of_calls(
    "call_outcomes_by_attempt",
    keys=("playbook", "step"),
    measures=(total("calls"), total("succeeded"), ratio("succeeded", "calls", "success_rate")),
    where="attempts = 0",
)


async def first_attempt_success(snapshot: Snapshot, asked: OfSteps) -> Counts[FirstAttempts]:
    """How often does the first try succeed?"""
    return await counts(snapshot, _FIRST_ATTEMPTS, asked, FirstAttempts)


class Recovery(OfTry, frozen=True, kw_only=True, omit_defaults=True):
    """recovery_rate = recovered / retries."""

    retries: int
    recovered: int
    recovery_rate: float | None


_RECOVERY = _of_calls(
    "call_outcomes_by_attempt",
    keys=("playbook", "step", "attempts"),
    measures=(
        total("calls", "retries"),
        total("succeeded", "recovered"),
        ratio("succeeded", "calls", "recovery_rate"),
    ),
    where="attempts > 0",
)


async def retry_recovery(snapshot: Snapshot, asked: OfTries) -> Counts[Recovery]:
    """Is retrying worth it: how likely does attempt n succeed after attempt n - 1 has failed?"""
    return await counts(snapshot, _RECOVERY, asked, Recovery)


class Exhaustion(OfStep, frozen=True, kw_only=True, omit_defaults=True):
    """exhausted_rate = exhausted / failed."""

    failed: int
    exhausted: int
    exhausted_rate: float | None


_EXHAUSTION = _of_calls(
    "call_outcomes_by_attempt",
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


_COST = _of_calls(
    "call_outcomes_by_attempt",
    keys=("playbook", "step"),
    measures=(
        total("calls", "tries"),
        total("succeeded"),
        ratio("calls", "succeeded", "attempts_per_success"),
    ),
)


async def attempts_per_success(snapshot: Snapshot, asked: OfSteps) -> Counts[Cost]:
    """How many tries does a success cost?"""
    return await counts(snapshot, _COST, asked, Cost)


class FailuresAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "step", "attempts", "status", "error_class"], ...], By] = (
        "step",
        "error_class",
    )
    every: MinuteToDay = "hour"
    step: Texts | None = None
    attempts: Numbers | None = None
    status: Texts | None = None
    error_class: Texts | None = None


class Failures(Row, frozen=True, kw_only=True, omit_defaults=True):
    """error_class: the error text without its ids and quoted parts; codes stay."""

    at: datetime | None = None
    step: str | None = None
    attempts: int | None = None
    status: str | None = None
    error_class: str | None = None
    calls: int


_FAILURES = _of_calls(
    "failures_by_error",
    keys=("step", "attempts", "status", "error_class"),
    measures=(total("calls"),),
    where="status <> 'COMPLETED'",
)


async def failures_by_error(snapshot: Snapshot, asked: FailuresAsked) -> Counts[Failures]:
    """What do calls fail of, by attempt?"""
    return await counts(snapshot, _FAILURES, asked, Failures)


class ErrorGroupsAsked(Parameters, frozen=True, kw_only=True):
    """Parameters."""

    error_class: Texts | None = None


class ErrorGroup(Row, frozen=True, kw_only=True):
    """A class of errors, its first and last failure, and the last one as a sample."""

    error_class: str
    first_seen_at: datetime
    last_seen_at: datetime
    execution_id: str
    step: str
    attempts: int
    error: str | None


_ERROR_GROUPS = Statement("""
    select   error_class, first_seen_at, last_seen_at, execution_id::text, step, attempts, error
    from     projector.error_groups
    where    (:error_class::text[] is null or error_class = any(:error_class))
    order by last_seen_at desc, error_class
    limit    500
""")


async def error_groups(snapshot: Snapshot, asked: ErrorGroupsAsked) -> Answer[ErrorGroup]:
    """Which classes of errors are there, since when, and where is a sample of each?"""
    return await now(snapshot, _ERROR_GROUPS, {"error_class": asked.error_class}, ErrorGroup)


class WorkersAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "worker"], ...], By] = ("worker",)
    every: MinuteToDay = "hour"
    worker: Texts | None = None


class Workers(Row, frozen=True, kw_only=True, omit_defaults=True):
    """error_rate = failed / calls."""

    at: datetime | None = None
    worker_id: str | None = None
    calls: int
    failed: int
    error_rate: float | None


_WORKERS = _of_calls(
    "worker_failures",
    keys=("worker",),
    measures=(total("calls"), total("failed"), ratio("failed", "calls", "error_rate")),
)


async def worker_failures(snapshot: Snapshot, asked: WorkersAsked) -> Counts[Workers]:
    """Which worker fails more than others?"""
    return await counts(snapshot, _WORKERS, asked, Workers)

"""How calls end: by attempt, step, playbook, worker and error, over time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from projector.api.answers import ApiAnswer, ApiRow, GroupedAnswer
from projector.api.parameters import By, GroupedParams, MinuteToDay, Numbers, Parameters, Texts
from projector.api.queries.grouping import FINISHED, Grains, grouped, ratio, total
from projector.api.queries.run_query import run_grouped, run_query
from projector.api.snapshots import Snapshot, Statement


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


class StepParams(GroupedParams, frozen=True, kw_only=True):
    """Of calls by step, whichever try it was."""

    by: Annotated[tuple[Literal["at", "playbook", "step"], ...], By] = ("step",)
    every: MinuteToDay = "hour"
    playbook: Texts | None = None
    step: Texts | None = None


class AttemptParams(GroupedParams, frozen=True, kw_only=True):
    """Of calls by attempt."""

    by: Annotated[tuple[Literal["at", "playbook", "step", "attempts"], ...], By] = (
        "step",
        "attempts",
    )
    every: MinuteToDay = "hour"
    playbook: Texts | None = None
    step: Texts | None = None
    attempts: Numbers | None = None


class StepRow(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """What an answer about steps is grouped by."""

    at: datetime | None = None
    playbook: str | None = None
    step: str | None = None


class AttemptRow(StepRow, frozen=True, kw_only=True, omit_defaults=True):
    """What an answer about tries is grouped by."""

    attempts: int | None = None


class CallOutcomesParams(GroupedParams, frozen=True, kw_only=True):
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


class CallOutcomes(AttemptRow, frozen=True, kw_only=True, omit_defaults=True):
    """calls: tries of commands."""

    status: str | None = None
    calls: int


_CALL_OUTCOMES = _of_calls(
    "call_outcomes_by_attempt",
    keys=("playbook", "step", "attempts", "status"),
    measures=(total("calls"),),
)


async def call_outcomes_by_attempt(
    snapshot: Snapshot, params: CallOutcomesParams
) -> GroupedAnswer[CallOutcomes]:
    """How did calls end, by attempt?"""
    return await run_grouped(snapshot, _CALL_OUTCOMES, params, CallOutcomes)


class ErrorRate(AttemptRow, frozen=True, kw_only=True, omit_defaults=True):
    """error_rate = failed / calls; failed counts FAILED, ERROR and CANCELLED."""

    calls: int
    failed: int
    error_rate: float | None


_ERROR_RATE = _of_calls(
    "call_outcomes_by_attempt",
    keys=("playbook", "step", "attempts"),
    measures=(total("calls"), total("failed"), ratio("failed", "calls", "error_rate")),
)


async def error_rate_by_attempt(
    snapshot: Snapshot, params: AttemptParams
) -> GroupedAnswer[ErrorRate]:
    """How often do calls fail at each attempt?"""
    return await run_grouped(snapshot, _ERROR_RATE, params, ErrorRate)


class FirstAttempts(StepRow, frozen=True, kw_only=True, omit_defaults=True):
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


async def first_attempt_success(
    snapshot: Snapshot, params: StepParams
) -> GroupedAnswer[FirstAttempts]:
    """How often does the first try succeed?"""
    return await run_grouped(snapshot, _FIRST_ATTEMPTS, params, FirstAttempts)


class Recovery(AttemptRow, frozen=True, kw_only=True, omit_defaults=True):
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


async def retry_recovery(snapshot: Snapshot, params: AttemptParams) -> GroupedAnswer[Recovery]:
    """Is retrying worth it: how likely does attempt n succeed after attempt n - 1 has failed?"""
    return await run_grouped(snapshot, _RECOVERY, params, Recovery)


class Exhaustion(StepRow, frozen=True, kw_only=True, omit_defaults=True):
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


async def retry_exhaustion(snapshot: Snapshot, params: StepParams) -> GroupedAnswer[Exhaustion]:
    """How many failed tries were the last one allowed?"""
    return await run_grouped(snapshot, _EXHAUSTION, params, Exhaustion)


class AttemptsPerSuccess(StepRow, frozen=True, kw_only=True, omit_defaults=True):
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


async def attempts_per_success(
    snapshot: Snapshot, params: StepParams
) -> GroupedAnswer[AttemptsPerSuccess]:
    """How many tries does a success cost?"""
    return await run_grouped(snapshot, _COST, params, AttemptsPerSuccess)


class FailuresParams(GroupedParams, frozen=True, kw_only=True):
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


class Failures(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
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


async def failures_by_error(snapshot: Snapshot, params: FailuresParams) -> GroupedAnswer[Failures]:
    """What do calls fail of, by attempt?"""
    return await run_grouped(snapshot, _FAILURES, params, Failures)


class ErrorGroupsParams(Parameters, frozen=True, kw_only=True):
    """Parameters."""

    error_class: Texts | None = None


class ErrorGroup(ApiRow, frozen=True, kw_only=True):
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


async def error_groups(snapshot: Snapshot, params: ErrorGroupsParams) -> ApiAnswer[ErrorGroup]:
    """Which classes of errors are there, since when, and where is a sample of each?"""
    return await run_query(snapshot, _ERROR_GROUPS, {"error_class": params.error_class}, ErrorGroup)


class WorkersParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "worker"], ...], By] = ("worker",)
    every: MinuteToDay = "hour"
    worker: Texts | None = None


class Workers(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
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


async def worker_failures(snapshot: Snapshot, params: WorkersParams) -> GroupedAnswer[Workers]:
    """Which worker fails more than others?"""
    return await run_grouped(snapshot, _WORKERS, params, Workers)

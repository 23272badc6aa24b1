"""Computes how often calls succeed, fail, and are retried, by attempt, step, and worker.

The rates come from counts by hour. For a short window, or if the request asks for minutes, they're
computed from single calls instead.
"""

from collections.abc import Sequence
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
    counts_by_minute_source,
    grouping_statement,
    ratio_column,
    sum_column,
)
from projector.api.queries.query_answers import run_grouped
from projector.api.snapshots import Snapshot


def call_count_statements(
    view: str,
    *,
    keys: Sequence[str],
    measures: Sequence[str],
    where: str = "true",
    having: str = "sum(calls) <> 0",
) -> GrainStatements:
    """Build statements over counts by hour and by minute."""
    return GrainStatements(
        hours=grouping_statement(
            f"projector.{view}", keys=keys, measures=measures, where=where, having=having
        ),
        minutes=grouping_statement(
            counts_by_minute_source(FINISHED_CALLS_SOURCE, view),
            keys=keys,
            measures=measures,
            where=where,
            having=having,
            time="moment",
        ),
        slow_minutes=True,
    )


class CallsByStepParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters of calls by step, over all attempts."""

    by: Annotated[tuple[Literal["at", "playbook", "step"], ...], GroupBy] = ("step",)
    every: MinuteToDay = "hour"
    playbook: Texts | None = None
    step: Texts | None = None


class AttemptParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters of calls by attempt."""

    by: Annotated[tuple[Literal["at", "playbook", "step", "attempts"], ...], GroupBy] = (
        "step",
        "attempts",
    )
    every: MinuteToDay = "hour"
    playbook: Texts | None = None
    step: Texts | None = None
    attempts: AttemptNumbers | None = None


class StepKeys(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """The keys of an answer by step."""

    at: Timestamp | None = None
    playbook: str | None = None
    step: str | None = None


class AttemptKeys(StepKeys, frozen=True, kw_only=True, omit_defaults=True):
    """The keys of an answer by attempt."""

    attempts: int | None = None


class CallOutcomesParams(GroupedParams, frozen=True, kw_only=True):
    by: Annotated[tuple[Literal["at", "playbook", "step", "attempts", "status"], ...], GroupBy] = (
        "attempts",
        "status",
    )
    every: MinuteToDay = "hour"
    playbook: Texts | None = None
    step: Texts | None = None
    attempts: AttemptNumbers | None = None
    status: CallStatuses | None = None


class CallOutcomes(AttemptKeys, frozen=True, kw_only=True, omit_defaults=True):
    """`calls` is the number of finished calls."""

    status: str | None = None
    calls: int


_CALL_OUTCOMES = call_count_statements(
    "call_outcomes_by_attempt",
    keys=("playbook", "step", "attempts", "status"),
    measures=(sum_column("calls"),),
)


async def call_outcomes_by_attempt(
    snapshot: Snapshot, params: CallOutcomesParams
) -> GroupedAnswer[CallOutcomes]:
    """How did calls end, by attempt?"""
    return await run_grouped(snapshot, _CALL_OUTCOMES, params, CallOutcomes)


class ErrorRate(AttemptKeys, frozen=True, kw_only=True, omit_defaults=True):
    """`error_rate` is failed / calls. `failed` counts FAILED, ERROR, and CANCELLED."""

    calls: int
    failed: int
    error_rate: float | None


_ERROR_RATE = call_count_statements(
    "call_outcomes_by_attempt",
    keys=("playbook", "step", "attempts"),
    measures=(
        sum_column("calls"),
        sum_column("failed"),
        ratio_column("failed", "calls", "error_rate"),
    ),
)


async def error_rate_by_attempt(
    snapshot: Snapshot, params: AttemptParams
) -> GroupedAnswer[ErrorRate]:
    """How often do calls fail at each attempt?"""
    return await run_grouped(snapshot, _ERROR_RATE, params, ErrorRate)


class FirstAttempts(StepKeys, frozen=True, kw_only=True, omit_defaults=True):
    """`success_rate` is succeeded / calls."""

    calls: int
    succeeded: int
    success_rate: float | None


_FIRST_ATTEMPTS = call_count_statements(
    "call_outcomes_by_attempt",
    keys=("playbook", "step"),
    measures=(
        sum_column("calls"),
        sum_column("succeeded"),
        ratio_column("succeeded", "calls", "success_rate"),
    ),
    where="attempts = 0",
)


async def first_attempt_success(
    snapshot: Snapshot, params: CallsByStepParams
) -> GroupedAnswer[FirstAttempts]:
    """How often does the first attempt succeed?"""
    return await run_grouped(snapshot, _FIRST_ATTEMPTS, params, FirstAttempts)


class Recovery(AttemptKeys, frozen=True, kw_only=True, omit_defaults=True):
    """`recovery_rate` is recovered / retries."""

    retries: int
    recovered: int
    recovery_rate: float | None


_RECOVERY = call_count_statements(
    "call_outcomes_by_attempt",
    keys=("playbook", "step", "attempts"),
    measures=(
        sum_column("calls", "retries"),
        sum_column("succeeded", "recovered"),
        ratio_column("succeeded", "calls", "recovery_rate"),
    ),
    where="attempts > 0",
)


async def retry_recovery(snapshot: Snapshot, params: AttemptParams) -> GroupedAnswer[Recovery]:
    """Is retrying worth it: how likely does attempt n succeed after attempt n - 1 has failed?"""
    return await run_grouped(snapshot, _RECOVERY, params, Recovery)


class Exhaustion(StepKeys, frozen=True, kw_only=True, omit_defaults=True):
    """`exhausted_rate` is exhausted / failed."""

    failed: int
    exhausted: int
    exhausted_rate: float | None


_EXHAUSTION = call_count_statements(
    "call_outcomes_by_attempt",
    keys=("playbook", "step"),
    measures=(
        sum_column("failed"),
        sum_column("exhausted"),
        ratio_column("exhausted", "failed", "exhausted_rate"),
    ),
    having="sum(failed) <> 0",
)


async def retry_exhaustion(
    snapshot: Snapshot, params: CallsByStepParams
) -> GroupedAnswer[Exhaustion]:
    """How many failed calls were the last attempt allowed?"""
    return await run_grouped(snapshot, _EXHAUSTION, params, Exhaustion)


class AttemptsPerSuccess(StepKeys, frozen=True, kw_only=True, omit_defaults=True):
    """`attempts_per_success` is tries / succeeded, or null if nothing succeeded."""

    tries: int
    succeeded: int
    attempts_per_success: float | None


_COST = call_count_statements(
    "call_outcomes_by_attempt",
    keys=("playbook", "step"),
    measures=(
        sum_column("calls", "tries"),
        sum_column("succeeded"),
        ratio_column("calls", "succeeded", "attempts_per_success"),
    ),
)


async def attempts_per_success(
    snapshot: Snapshot, params: CallsByStepParams
) -> GroupedAnswer[AttemptsPerSuccess]:
    """How many attempts are needed for a success?"""
    return await run_grouped(snapshot, _COST, params, AttemptsPerSuccess)


class FailuresParams(GroupedParams, frozen=True, kw_only=True):
    by: Annotated[
        tuple[Literal["at", "step", "attempts", "status", "error_class"], ...], GroupBy
    ] = (
        "step",
        "error_class",
    )
    every: MinuteToDay = "hour"
    step: Texts | None = None
    attempts: AttemptNumbers | None = None
    status: CallStatuses | None = None
    error_class: Texts | None = None


class Failures(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """`error_class` is the error text without ids, e-mail addresses, and quoted parts."""

    at: Timestamp | None = None
    step: str | None = None
    attempts: int | None = None
    status: str | None = None
    error_class: str | None = None
    calls: int


_FAILURES = call_count_statements(
    "failures_by_error",
    keys=("step", "attempts", "status", "error_class"),
    measures=(sum_column("calls"),),
    where="status <> 'COMPLETED'",
)


async def failures_by_error(snapshot: Snapshot, params: FailuresParams) -> GroupedAnswer[Failures]:
    """Which errors are the most frequent, by step and attempt?"""
    return await run_grouped(snapshot, _FAILURES, params, Failures)


class WorkerFailuresParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters.

    A filter by playbook or step reads single calls, which is slower, and excludes calls that
    retention has deleted.
    """

    by: Annotated[tuple[Literal["at", "worker"], ...], GroupBy] = ("worker",)
    every: MinuteToDay = "hour"
    playbook: Texts | None = None
    step: Texts | None = None
    worker: Texts | None = None


class WorkerFailures(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """`error_rate` is the fraction of its calls that failed."""

    at: Timestamp | None = None
    worker_id: str | None = None
    calls: int
    failed: int
    error_rate: float | None


_WORKER_MEASURES = (
    sum_column("calls"),
    sum_column("failed"),
    ratio_column("failed", "calls", "error_rate"),
)
_WORKERS_BY_CALL = grouping_statement(
    counts_by_minute_source(FINISHED_CALLS_SOURCE, "worker_failures", absent=("playbook", "step")),
    keys=("worker",),
    measures=_WORKER_MEASURES,
    time="moment",
    where="(:playbook::text[] is null or playbook = any(:playbook)) "
    "and (:step::text[] is null or step = any(:step))",
    having="sum(calls) <> 0",
)
_WORKERS = GrainStatements(
    hours=grouping_statement(
        "projector.worker_failures",
        keys=("worker",),
        measures=_WORKER_MEASURES,
        having="sum(calls) <> 0",
    ),
    minutes=_WORKERS_BY_CALL,
    slow_minutes=True,
)
_WORKERS_OF_STEPS = GrainStatements(
    hours=_WORKERS_BY_CALL, minutes=_WORKERS_BY_CALL, slow_minutes=True
)


async def worker_failures(
    snapshot: Snapshot, params: WorkerFailuresParams
) -> GroupedAnswer[WorkerFailures]:
    """Which worker fails more than others?"""
    filtered = params.playbook is not None or params.step is not None
    statements = _WORKERS_OF_STEPS if filtered else _WORKERS
    return await run_grouped(snapshot, statements, params, WorkerFailures)

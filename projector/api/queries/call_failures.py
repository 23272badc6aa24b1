"""Failed calls: by error, by worker, and a sample of each error."""

from datetime import datetime
from typing import Annotated, Literal

from projector.api.answers import ApiAnswer, ApiRow, GroupedAnswer
from projector.api.parameters import By, GroupedParams, MinuteToDay, Numbers, Parameters, Texts
from projector.api.queries.call_rates import of_calls
from projector.api.queries.grouping import ratio, total
from projector.api.queries.run_query import run_grouped, run_query
from projector.api.snapshots import Snapshot, Statement


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
    """error_class: the error text without ids and quoted parts; error codes stay."""

    at: datetime | None = None
    step: str | None = None
    attempts: int | None = None
    status: str | None = None
    error_class: str | None = None
    calls: int


_FAILURES = of_calls(
    "failures_by_error",
    keys=("step", "attempts", "status", "error_class"),
    measures=(total("calls"),),
    where="status <> 'COMPLETED'",
)


async def failures_by_error(snapshot: Snapshot, params: FailuresParams) -> GroupedAnswer[Failures]:
    """Which errors are the most frequent, by step and attempt?"""
    return await run_grouped(snapshot, _FAILURES, params, Failures)


class ErrorGroupsParams(Parameters, frozen=True, kw_only=True):
    """Parameters."""

    error_class: Texts | None = None


class ErrorGroup(ApiRow, frozen=True, kw_only=True):
    """An error class with its first and last failure; the sample is the last one."""

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
    """Which error classes are there, when were they first and last seen, and what is a sample?"""
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


_WORKERS = of_calls(
    "worker_failures",
    keys=("worker",),
    measures=(total("calls"), total("failed"), ratio("failed", "calls", "error_rate")),
)


async def worker_failures(snapshot: Snapshot, params: WorkersParams) -> GroupedAnswer[Workers]:
    """Which worker fails more than others?"""
    return await run_grouped(snapshot, _WORKERS, params, Workers)

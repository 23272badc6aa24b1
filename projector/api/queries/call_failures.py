"""Counts failed calls by error text, and by worker."""

from typing import Annotated, Literal

from projector.api.answers import ApiRow, GroupedAnswer, Timestamp
from projector.api.parameters import (
    By,
    CallStatuses,
    GroupedParams,
    MinuteToDay,
    Numbers,
    Texts,
)
from projector.api.queries.call_rates import statements_by_grain
from projector.api.queries.grouping import ratio_column, sum_column
from projector.api.queries.run_query import run_grouped
from projector.api.snapshots import Snapshot


class FailuresParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "step", "attempts", "status", "error_class"], ...], By] = (
        "step",
        "error_class",
    )
    every: MinuteToDay = "hour"
    step: Texts | None = None
    attempts: Numbers | None = None
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


_FAILURES = statements_by_grain(
    "failures_by_error",
    keys=("step", "attempts", "status", "error_class"),
    measures=(sum_column("calls"),),
    where="status <> 'COMPLETED'",
)


async def failures_by_error(snapshot: Snapshot, params: FailuresParams) -> GroupedAnswer[Failures]:
    """Which errors are the most frequent, by step and attempt?"""
    return await run_grouped(snapshot, _FAILURES, params, Failures)


class WorkersParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "worker"], ...], By] = ("worker",)
    every: MinuteToDay = "hour"
    worker: Texts | None = None


class Workers(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """`error_rate` is the fraction of its calls that failed."""

    at: Timestamp | None = None
    worker_id: str | None = None
    calls: int
    failed: int
    error_rate: float | None


_WORKERS = statements_by_grain(
    "worker_failures",
    keys=("worker",),
    measures=(
        sum_column("calls"),
        sum_column("failed"),
        ratio_column("failed", "calls", "error_rate"),
    ),
)


async def worker_failures(snapshot: Snapshot, params: WorkersParams) -> GroupedAnswer[Workers]:
    """Which worker fails more than others?"""
    return await run_grouped(snapshot, _WORKERS, params, Workers)

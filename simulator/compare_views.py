"""Compares a ledger with the views: every execution, step and call that the views show differently.

Executions are compared some hundred at a time, so memory use is bounded. The views must show what
was reported. For an execution whose ends agree, and for a call whose outcome was reported, they
must also show what really happened.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, Protocol

from simulator.actual_views import ActualCall, ActualExecution
from simulator.comparison_report import ComparisonReport
from simulator.expected_view_rows import (
    EventCountKey,
    ExpectedCall,
    ExpectedExecution,
    ExpectedStep,
    ExpectedViews,
)
from simulator.expected_views import expected_views
from simulator.ledger_file import Line

_AT_ONCE: Final = 500
_COMPARED_OF_A_CALL: Final = (
    *("step", "iteration", "status", "worker_id", "max_attempts", "finished_us", "error"),
)
_MARKS: Final = {
    "issued_us": "command.issued",
    "claimed_us": "command.claimed",
    "started_us": "command.started",
}


class ViewReader(Protocol):
    """What a comparison reads from the views."""

    async def executions(self, execution_ids: Iterable[int]) -> list[ActualExecution]:
        """The rows of these executions."""
        ...

    async def calls(self, execution_ids: Iterable[int]) -> list[ActualCall]:
        """The calls of these executions."""
        ...

    async def totals(self) -> tuple[int, int]:
        """The numbers of executions and of calls in the views."""
        ...

    async def counts(self) -> Counter[EventCountKey]:
        """Events by hour, step, type, status and attempts."""
        ...


async def compare_views(lines: Iterable[Line], views: ViewReader, report: ComparisonReport) -> None:
    """Compare everything that the ledger reports of executions, steps and calls with the views."""
    counts: Counter[EventCountKey] = Counter()
    views_of_run = expected_views(lines)
    while some := list(islice(views_of_run, _AT_ONCE)):
        ids = [one.execution.execution_id for one in some]
        executions = {one.execution_id: one for one in await views.executions(ids)}
        calls: dict[int, list[ActualCall]] = defaultdict(list)
        for call in await views.calls(ids):
            calls[call.execution_id].append(call)
        for one in some:
            counts += one.counts
            execution_id = one.execution.execution_id
            _compare_execution(one.execution, executions.get(execution_id), report)
            _compare_calls(one, calls[execution_id], report)
            _compare_steps(one.steps, calls[execution_id], report)
    await _compare_totals(views, report)
    _compare_counts(await views.counts(), counts, report)


def _compare_execution(
    expected: ExpectedExecution, actual: ActualExecution | None, report: ComparisonReport
) -> None:
    report.executions += 1
    name = f"execution {expected.execution_id}"
    if actual is None:
        report.differs("execution not shown", name)
        return
    wanted: dict[str, Any] = {
        field: getattr(expected, field)
        for field in (
            *("status", "playbook", "parent_execution_id", "first_us", "last_us", "events"),
            *("attempts", "failed_calls"),
        )
    }
    wanted["ended_us"] = expected.ended[expected.status].at_us if expected.ended else None
    for outcome in ("COMPLETED", "FAILED", "CANCELLED"):
        wanted[outcome.lower()] = expected.ended[outcome].events if outcome in expected.ended else 0
    _compare("executions", name, actual, wanted, report)
    if len(expected.ended) == 1 and expected.platform_outcome:
        _compare(
            "executions", f"{name} really", actual, {"status": expected.platform_outcome}, report
        )


def _compare_calls(
    views_of_run: ExpectedViews, actual: list[ActualCall], report: ComparisonReport
) -> None:
    found = {(call.command_id, call.attempts): call for call in actual}
    for expected in views_of_run.calls:
        report.calls += 1
        name = f"call {expected.key} of {expected.execution_id}, attempts {expected.attempts}"
        call = found.get((expected.key, expected.attempts))
        if call is None:
            report.differs("call not shown", name)
            continue
        _compare("calls", name, call, dict(_expected_columns(expected)), report)
        if expected.platform_outcome and "call.done" in expected.first_events:
            _compare("calls", f"{name} really", call, {"status": expected.platform_outcome}, report)


def _expected_columns(expected: ExpectedCall) -> Iterator[tuple[str, Any]]:
    for field in _COMPARED_OF_A_CALL:
        yield field, getattr(expected, field)
    for field, kind in _MARKS.items():
        yield field, expected.first_events[kind].at_us if kind in expected.first_events else None
    if expected.duration is not None:
        yield "duration", expected.duration


def _compare_steps(
    steps: list[ExpectedStep], actual: list[ActualCall], report: ComparisonReport
) -> None:
    """Compare the tries of a step; its other events are part of the counts."""
    for expected in steps:
        report.steps += 1
        tries = [call for call in actual if call.step == expected.step]
        found = (len(tries), sum(call.attempts > 0 for call in tries))
        if found != (expected.calls, expected.retries):
            wanted = f"{expected.calls}, {expected.retries}"
            name = f"step {expected.step} of {expected.execution_id}"
            report.differs("differs in steps", f"{name}: calls, retries {found} is to be {wanted}")


def _compare(
    view: str, name: str, actual: Any, wanted: dict[str, Any], report: ComparisonReport
) -> None:
    for field, value in wanted.items():
        found = getattr(actual, field)
        if found != value:
            report.differs(f"differs in {view}.{field}", f"{name}: {found!r} is to be {value!r}")


async def _compare_totals(views: ViewReader, report: ComparisonReport) -> None:
    """Report rows of the views beyond those that were reported."""
    executions, calls = await views.totals()
    for name, found, wanted in (
        ("executions", executions, report.executions),
        ("calls", calls, report.calls),
    ):
        if found != wanted:
            report.differs(f"number of {name}", f"{found} are in the views, {wanted} were reported")


def _compare_counts(
    found: Counter[EventCountKey], wanted: Counter[EventCountKey], report: ComparisonReport
) -> None:
    for key in found.keys() | wanted.keys():
        if found[key] != wanted[key]:
            report.differs(
                "differs in event_counts",
                f"{key}: {found[key]} is to be {wanted[key]}",
            )

"""Compares what the simulator sent with the views, and reports each execution or call that differs.

The views must show what was reported. They must also show what really happened, unless no producer
reported it or producers contradicted each other. A few hundred executions are compared at a time,
so that a run may be larger than memory.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final, Protocol

from simulator.actual_views import ActualCall, ActualExecution, EventCountKey
from simulator.comparison_report import ComparisonReport
from simulator.expected_views import ExpectedViews, expected_views
from simulator.ledger_file import Line

_AT_ONCE: Final = 500


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
    """Compare everything that the ledger reports of executions and calls with the views."""
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
            _compare_execution(one, executions.get(execution_id), report)
            _compare_calls(one, calls[execution_id], report)
            _compare_real_calls(one, calls[execution_id], report)
            _count_inferred_calls(one, calls[execution_id], report)
    await _compare_totals(views, report)
    _compare_counts(await views.counts(), counts, report)


def _compare_execution(
    expected: ExpectedViews, actual: ActualExecution | None, report: ComparisonReport
) -> None:
    report.executions += 1
    name = f"execution {expected.execution.execution_id}"
    if actual is None:
        report.add_difference("execution not shown", name)
        return
    _compare("executions", name, actual, expected.execution, report)
    if expected.really and actual.status != expected.really:
        detail = f"{name}: {actual.status} was {expected.really}"
        report.add_difference("execution ended otherwise", detail)


def _compare_calls(
    expected: ExpectedViews, actual: list[ActualCall], report: ComparisonReport
) -> None:
    found = {(call.command_id, call.attempts): call for call in actual}
    for call in expected.calls:
        report.calls += 1
        name = f"call {call.command_id} of {call.execution_id}, attempts {call.attempts}"
        shown = found.get((call.command_id, call.attempts))
        if shown is None:
            report.add_difference("call not shown", name)
            continue
        _compare("calls", name, shown, call, report)


def _compare_real_calls(
    expected: ExpectedViews, actual: list[ActualCall], report: ComparisonReport
) -> None:
    """Compare with what really happened, which isn't computed from events."""
    shown = _outcomes(actual)
    for command_id, outcomes in expected.real_calls.items():
        report.real_calls += len(outcomes)
        if shown[command_id] != outcomes:
            name = f"command {command_id} of {expected.execution.execution_id}"
            report.add_difference(
                "call ended otherwise", f"{name}: {shown[command_id]} was {outcomes}"
            )


def _count_inferred_calls(
    expected: ExpectedViews, actual: list[ActualCall], report: ComparisonReport
) -> None:
    """Count retried commands that the views show wrong because their numbers are missing.

    That isn't a difference, because nobody can know better.
    """
    shown = _outcomes(actual)
    for command_id, (how, outcomes) in expected.inferred_calls.items():
        report.inferred[how] += 1
        report.inferred_wrong[how] += shown[command_id] != outcomes


def _outcomes(actual: list[ActualCall]) -> dict[str, dict[int, str]]:
    shown: dict[str, dict[int, str]] = defaultdict(dict)
    for call in actual:
        shown[call.command_id][call.attempts] = call.status if call.finished_us else ""
    return shown


def _compare(view: str, name: str, actual: Any, expected: Any, report: ComparisonReport) -> None:
    for field in expected.__struct_fields__:
        found, wanted = getattr(actual, field), getattr(expected, field)
        if found != wanted:
            report.add_difference(
                f"differs in {view}.{field}", f"{name}: {found!r} is to be {wanted!r}"
            )


async def _compare_totals(views: ViewReader, report: ComparisonReport) -> None:
    """Report rows of the views beyond those that were reported."""
    executions, calls = await views.totals()
    for name, found, wanted in (
        ("executions", executions, report.executions),
        ("calls", calls, report.calls),
    ):
        if found != wanted:
            report.add_difference(
                f"number of {name}", f"{found} are in the views, {wanted} were reported"
            )


def _compare_counts(
    found: Counter[EventCountKey], wanted: Counter[EventCountKey], report: ComparisonReport
) -> None:
    for key in found.keys() | wanted.keys():
        if found[key] != wanted[key]:
            report.add_difference(
                "differs in event_counts",
                f"{key}: {found[key]} is to be {wanted[key]}",
            )

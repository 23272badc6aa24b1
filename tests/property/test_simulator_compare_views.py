"""The comparison of a ledger with the views: it sees whatever a dashboard would show wrong."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from simulator.actual_views import ActualCall, ActualExecution, EventCountKey
from simulator.compare_views import compare_views
from simulator.comparison_report import ComparisonReport
from simulator.expected_views import ExpectedViews, expected_views
from simulator.ledger_file import ExecutionLine, Line
from simulator.mix import Mix
from tests.support.simulator_pipeline import simulated_log


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    return simulated_log(
        Mix(in_flight=20, failing=0.3, reported_twice=0.5, disagreeing=0.5), 7, 1_500
    )[1]


class Drawn:
    """A dashboard drawn from the truth, but for one thing."""

    def __init__(
        self,
        expected: Iterable[ExpectedViews],
        executions: Callable[[list[ActualExecution]], list[ActualExecution]] = lambda rows: rows,
        calls: Callable[[list[ActualCall]], list[ActualCall]] = lambda rows: rows,
        counts: Callable[[Counter[EventCountKey]], Counter[EventCountKey]] = lambda counts: counts,
    ) -> None:
        expected = list(expected)
        self._executions = executions([one.execution for one in expected])
        self._calls = calls([call for one in expected for call in one.calls])
        self._counts = counts(sum((one.counts for one in expected), Counter[Any]()))

    async def executions(self, execution_ids: Iterable[int]) -> list[ActualExecution]:
        wanted = set(execution_ids)
        return [row for row in self._executions if row.execution_id in wanted]

    async def calls(self, execution_ids: Iterable[int]) -> list[ActualCall]:
        wanted = set(execution_ids)
        return [row for row in self._calls if row.execution_id in wanted]

    async def totals(self) -> tuple[int, int]:
        return len(self._executions), len(self._calls)

    async def counts(self) -> Counter[EventCountKey]:
        return self._counts


async def compared(lines: list[Line], **changes: Any) -> ComparisonReport:
    report = ComparisonReport()
    await compare_views(lines, Drawn(expected_views(lines), **changes), report)
    return report


async def test_views_as_reported_agree(lines: list[Line]) -> None:
    report = await compared(lines)

    assert report.agrees, "\n".join(report.lines())
    assert min(report.executions, report.calls, report.real_calls) > 20


def changed(rows: list[Any], **columns: object) -> list[Any]:
    """The last row, which has all there is, as it should not be."""
    full = next(row for row in reversed(rows) if getattr(row, "finished_us", 1) is not None)
    return [msgspec.structs.replace(row, **columns) if row is full else row for row in rows]


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        *(
            ("executions", one)
            for one in ActualExecution.__struct_fields__
            if one != "execution_id"
        ),
        *(
            ("calls", one)
            for one in ActualCall.__struct_fields__[2:]
            if one not in ("attempts", "duration")
        ),
    ],
)
async def test_an_execution_or_call_that_differs_is_named(
    lines: list[Line], rows: str, column: str
) -> None:
    odd = "x" if column in ("status", "playbook", "step", "worker_id", "error") else 77

    report = await compared(lines, **{rows: lambda found: changed(found, **{column: odd})})

    assert f"differs in {rows}.{column}" in report.differences


async def test_missing_and_surplus_rows_are_named(lines: list[Line]) -> None:
    def one_for_another(rows: list[ActualExecution]) -> list[ActualExecution]:
        return [*rows[1:], msgspec.structs.replace(rows[0], execution_id=1), rows[1]]

    report = await compared(lines, executions=one_for_another, calls=lambda rows: [*rows, rows[0]])

    assert report.differences["execution not shown"] == 1
    assert report.differences["number of executions"] == 1
    assert report.differences["number of calls"] == 1


async def test_a_count_that_is_one_off_is_named(lines: list[Line]) -> None:
    def one_more(counts: Counter[EventCountKey]) -> Counter[EventCountKey]:
        return counts + Counter({next(iter(counts)): 1})

    report = await compared(lines, counts=one_more)

    assert report.differences == {"differs in event_counts": 1}


async def test_a_wrong_outcome_that_all_report_differs_from_the_platform(
    lines: list[Line],
) -> None:
    report = ComparisonReport()
    changed = [
        msgspec.structs.replace(line, outcome="CANCELLED")
        if getattr(line, "outcome", "") == "COMPLETED"
        else line
        for line in lines
    ]

    await compare_views(changed, Drawn(expected_views(lines)), report)

    assert set(report.differences) == {"call ended otherwise", "execution ended otherwise"}


async def test_the_platform_outcome_is_compared_only_where_every_end_was_reported(
    lines: list[Line],
) -> None:
    """An end whose record was refused: no dashboard can know of it."""
    unreported = ("playbook.failed", "", 1 << 40)
    report = ComparisonReport()
    changed = [
        msgspec.structs.replace(line, outcome="FAILED", facts=[*line.facts, unreported])
        if isinstance(line, ExecutionLine) and line.outcome == "COMPLETED"
        else line
        for line in lines
    ]

    assert changed != lines
    await compare_views(changed, Drawn(expected_views(lines)), report)

    assert report.differences == {}

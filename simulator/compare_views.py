"""A ledger and the views in; every execution, step and call that is not shown as it was told, out.

Executions are compared some hundred at a time, so memory stays bounded. They are
to show what was told; and of an execution whose ends agree, and of a call that told its outcome,
how it really went.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, Protocol

from simulator.ledger import Line
from simulator.report import Report
from simulator.shown import ShownCall, ShownExecution
from simulator.truth import ORCHESTRATE, CallTruth, Count, ExecutionTruth, StepTruth, Told, tell

_AT_ONCE: Final = 500
_SHOWN_OF_A_CALL: Final = (
    *("step", "iteration", "status", "worker_id", "max_attempts", "finished_us", "error"),
)
_MARKS: Final = {
    "issued_us": "command.issued",
    "claimed_us": "command.claimed",
    "started_us": "command.started",
}


class Dashboard(Protocol):
    """What a comparison asks of the views."""

    async def executions(self, execution_ids: Iterable[int]) -> list[ShownExecution]:
        """What is shown of these."""
        ...

    async def calls(self, execution_ids: Iterable[int]) -> list[ShownCall]:
        """What is shown of the calls of these executions."""
        ...

    async def totals(self) -> tuple[int, int]:
        """How many executions and calls are shown at all."""
        ...

    async def counts(self) -> Counter[Count]:
        """Events by hour, step, type, status and attempts."""
        ...


async def compare_views(lines: Iterable[Line], views: Dashboard, report: Report) -> None:
    """Everything the ledger tells of executions, steps and calls against what the views show."""
    counts: Counter[Count] = Counter()
    told = tell(lines)
    while some := list(islice(told, _AT_ONCE)):
        ids = [one.execution.execution_id for one in some]
        executions = {one.execution_id: one for one in await views.executions(ids)}
        calls: dict[int, list[ShownCall]] = defaultdict(list)
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


def _compare_execution(truth: ExecutionTruth, shown: ShownExecution | None, report: Report) -> None:
    report.executions += 1
    name = f"execution {truth.execution_id}"
    if shown is None:
        report.differs("execution not shown", name)
        return
    wanted: dict[str, Any] = {
        field: getattr(truth, field)
        for field in (
            *("status", "playbook", "parent_execution_id", "first_us", "last_us", "events"),
            *("attempts", "failed_calls"),
        )
    }
    wanted["ended_us"] = truth.ended[truth.status].at_us if truth.ended else None
    for outcome in ("COMPLETED", "FAILED", "CANCELLED"):
        wanted[outcome.lower()] = truth.ended[outcome].events if outcome in truth.ended else 0
    _compare("executions", name, shown, wanted, report)
    if len(truth.ended) == 1 and truth.really:
        _compare("executions", f"{name} really", shown, {"status": truth.really}, report)


def _compare_calls(told: Told, shown: list[ShownCall], report: Report) -> None:
    found = {(call.command_id, call.attempts): call for call in shown}
    for truth in told.calls:
        if truth.step == ORCHESTRATE:
            continue
        report.calls += 1
        name = f"call {truth.key} of {truth.execution_id}, attempts {truth.attempts}"
        call = found.get((truth.key, truth.attempts))
        if call is None:
            report.differs("call not shown", name)
            continue
        _compare("calls", name, call, dict(_wanted(truth)), report)
        if truth.really and "call.done" in truth.seen:
            _compare("calls", f"{name} really", call, {"status": truth.really}, report)


def _wanted(truth: CallTruth) -> Iterator[tuple[str, Any]]:
    for field in _SHOWN_OF_A_CALL:
        yield field, getattr(truth, field)
    for field, kind in _MARKS.items():
        yield field, truth.seen[kind].at_us if kind in truth.seen else None
    if truth.duration is not None:
        yield "duration", truth.duration


def _compare_steps(steps: list[StepTruth], shown: list[ShownCall], report: Report) -> None:
    """Its tries; what else is told of a step is among the counts."""
    for truth in steps:
        report.steps += 1
        if truth.step == ORCHESTRATE:
            continue
        tries = [call for call in shown if call.step == truth.step]
        found = (len(tries), sum(call.attempts > 0 for call in tries))
        if found != (truth.calls, truth.retries):
            wanted = f"{truth.calls}, {truth.retries}"
            name = f"step {truth.step} of {truth.execution_id}"
            report.differs("differs in steps", f"{name}: calls, retries {found} is to be {wanted}")


def _compare(view: str, name: str, shown: Any, wanted: dict[str, Any], report: Report) -> None:
    for field, value in wanted.items():
        found = getattr(shown, field)
        if found != value:
            report.differs(f"differs in {view}.{field}", f"{name}: {found!r} is to be {value!r}")


async def _compare_totals(views: Dashboard, report: Report) -> None:
    """Whatever is shown beyond what was told."""
    executions, calls = await views.totals()
    for name, found, wanted in (
        ("executions", executions, report.executions),
        ("calls", calls, report.calls),
    ):
        if found != wanted:
            report.differs(f"number of {name}", f"{found} are shown, {wanted} were told of")


def _compare_counts(found: Counter[Count], wanted: Counter[Count], report: Report) -> None:
    for key in found.keys() | wanted.keys():
        if found[key] != wanted[key]:
            report.differs(
                "differs in event_counts",
                f"{key}: {found[key]} is to be {wanted[key]}",
            )

"""Computes from a ledger what the views must show of every execution, step and call.

A plain fold, one execution at a time, over the rows that its records must have become. It also
holds what really happened, which no dashboard can know if nobody reported it. Of what happened at
one instant the lesser by bytes counts, as everywhere. Source: docs/views.md.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import msgspec

from simulator.call_tries import CallEvent, tries_of
from simulator.expected_rows import LoggedReport, expected_row
from simulator.expected_view_rows import (
    EventCountKey,
    ExpectedCall,
    ExpectedExecution,
    ExpectedLine,
    ExpectedStep,
    ExpectedViews,
    FirstEvent,
)
from simulator.ledger_file import CallLine, ExecutionLine, Line, RecordLine
from simulator.spill_partitions import PARTITIONS, SpillPartitions

_HOUR_US: Final = 3_600_000_000
_BEGINNING: Final = ("playbook.started", "playbook.initialized")
_CLOSING: Final = {
    "playbook.completed": "COMPLETED",
    "playbook.failed": "FAILED",
    "playbook.cancelled": "CANCELLED",
}
_OF_A_CALL: Final = ("command.", "call.")
_ENDING_A_CALL: Final = {
    # The call's own status before its command's, and what each means by its name alone.
    "call.done": (0, "COMPLETED"),
    "call.error": (0, "FAILED"),
    "command.completed": (1, "COMPLETED"),
    "command.failed": (1, "FAILED"),
    "command.cancelled": (1, "CANCELLED"),
}
_WORST_CALL_FIRST: Final = ("FAILED", "ERROR", "CANCELLED", "COMPLETED")
_WORST_FIRST: Final = ("FAILED", "CANCELLED", "COMPLETED")
ORCHESTRATE: Final = "__orchestrate__"
"""The engine's own calls, which no dashboard shows."""


class _Event(msgspec.Struct):
    fact: int
    kind: str
    numbered: bool
    pending: bool
    columns: dict[str, Any]

    @property
    def at_us(self) -> int:
        at_us: int = self.columns["created_us"]
        return at_us


class _Platform(msgspec.Struct):
    """What the platform knew of an execution: its own facts, and each fact's try."""

    playbook: str = ""
    outcome: str | None = None
    ends: set[int] = set()
    outcomes: dict[int, str] = {}


def expected_lines(lines: Iterable[Line]) -> Iterator[ExpectedLine]:
    """Yield the truth about every reported execution, with its steps and calls, as JSON lines."""
    for expected in expected_views(lines):
        yield expected.execution
        yield from expected.steps
        yield from expected.calls


def expected_views(lines: Iterable[Line]) -> Iterator[ExpectedViews]:
    """Yield the same, an execution at a time."""
    for execution_id, rows, real in _executions(lines):
        calls = [call for call in _calls(execution_id, rows, real) if call.step != ORCHESTRATE]
        yield ExpectedViews(
            execution=_execution(execution_id, rows, calls, real),
            steps=list(_steps(execution_id, rows, calls)),
            calls=calls,
            counts=Counter(map(_count, rows)),
        )


def _count(row: _Event) -> EventCountKey:
    columns = row.columns
    hour_us = row.at_us // _HOUR_US * _HOUR_US
    what = (columns["step"], columns["event_type"], columns["status"], columns["attempts"])
    return hour_us, *what


def _executions(lines: Iterable[Line]) -> Iterator[tuple[int, list[_Event], _Platform]]:
    """Yield (execution_id, its rows in the order of their time, what really happened)."""
    with ExitStack() as stack:
        expected, platform = SpillPartitions(stack), SpillPartitions(stack)
        for line in lines:
            _spill(line, expected, platform)
        for number in range(PARTITIONS):
            real = _platform(platform.take(number, ExecutionLine | CallLine))
            executions: dict[int, dict[tuple[int, int], list[LoggedReport]]] = defaultdict(
                lambda: defaultdict(list)
            )
            for event, fact, logged in expected.take(number, tuple[int, int, LoggedReport]):
                executions[logged.reported.execution_id][event, fact].append(logged)
            for execution_id, events in executions.items():
                rows = [_event(fact, reports) for (_, fact), reports in events.items()]
                rows.sort(key=lambda row: row.at_us)
                yield execution_id, rows, real.get(execution_id, _Platform())


def _spill(line: Line, expected: SpillPartitions, platform: SpillPartitions) -> None:
    match line:
        case RecordLine(partition=partition, offset=offset, ts=ts):
            for index, must_be in enumerate(line.outcomes):
                reported = must_be.reported
                if reported is not None:
                    logged = LoggedReport(partition, offset, index, ts, reported)
                    expected.put(reported.execution_id, (must_be.event, must_be.fact, logged))
        case ExecutionLine() | CallLine():
            platform.put(line.execution_id, line)
        case _:
            pass


def _platform(lines: Iterable[ExecutionLine | CallLine]) -> dict[int, _Platform]:
    real: dict[int, _Platform] = defaultdict(_Platform)
    for line in lines:
        one = real[line.execution_id]
        if isinstance(line, ExecutionLine):
            one.playbook, one.outcome = line.playbook, line.outcome
            one.ends = {fact for kind, _, fact in line.facts if kind in _CLOSING}
        else:
            one.outcomes |= {fact: line.outcome for _, fact in line.facts}
    return real


def _event(fact: int, reports: list[LoggedReport]) -> _Event:
    return _Event(
        fact=fact,
        kind=reports[0].reported.kind,
        numbered=any(logged.reported.attempts_rank for logged in reports),
        pending=any(logged.reported.pending for logged in reports),
        columns=expected_row(reports).columns,
    )


def _calls(execution_id: int, rows: list[_Event], real: _Platform) -> list[ExpectedCall]:
    expected = [
        row for row in rows if row.kind.startswith(_OF_A_CALL) and row.columns["command_id"]
    ]
    commands: dict[str, list[_Event]] = defaultdict(list)
    for row in expected:
        commands[row.columns["command_id"]].append(row)
    tries: dict[tuple[str, int], list[_Event]] = defaultdict(list)
    for key, events in commands.items():
        for row, attempts in zip(events, tries_of(list(map(_call_event, events))), strict=True):
            tries[key, attempts].append(row)
    return [
        _call(ExpectedCall(execution_id, key, attempts), one, real)
        for (key, attempts), one in tries.items()
    ]


def _call(call: ExpectedCall, rows: list[_Event], real: _Platform) -> ExpectedCall:
    """Fill in what these rows report of one try."""
    call.step = _earliest(rows, "step") or ""
    call.worker_id = _earliest(rows, "worker_id")
    call.max_attempts = _earliest(rows, "max_attempts")
    iterations = [row.columns["iteration"] for row in rows]
    call.iteration = min((one for one in iterations if one is not None), default=None)
    done = [row for row in rows if not row.pending]
    for row in done:
        _note_event(call.first_events, row.kind, row.at_us, row.columns["status"])
    # The surest status first: its command's counts only if the call itself reports none.
    sure = [[row for row in done if _ENDING_A_CALL.get(row.kind, (2,))[0] == n] for n in (0, 1)]
    ends = [
        (row.at_us, _WORST_CALL_FIRST.index(_outcome(row)), row.fact)
        for row in (sure[0] or sure[1])
    ]
    if ends:
        call.finished_us, rank, fact = min(ends)
        call.status = _WORST_CALL_FIRST[rank]
        call.platform_outcome = real.outcomes.get(fact)
        call.duration = _earliest(sure[0], "duration") or _earliest(sure[1], "duration")
        if call.status != "COMPLETED":
            call.error = _earliest(sure[0], "error") or _earliest(sure[1], "error")
    elif "command.started" in call.first_events:
        call.status = "RUNNING"
    else:
        call.status = "CLAIMED" if "command.claimed" in call.first_events else "PENDING"
    return call


def _outcome(row: _Event) -> str:
    status: str = row.columns["status"]
    return status if status in _WORST_CALL_FIRST else _ENDING_A_CALL[row.kind][1]


def _call_event(row: _Event) -> CallEvent:
    return CallEvent(
        at=row.at_us,
        role=row.kind.partition(".")[2],
        number=row.columns["attempts"] if row.numbered else None,
        end=row.kind if row.kind in _ENDING_A_CALL and not row.pending else "",
    )


def _steps(
    execution_id: int, rows: list[_Event], calls: list[ExpectedCall]
) -> Iterator[ExpectedStep]:
    steps: dict[str, ExpectedStep] = {}
    for row in rows:
        if row.kind.startswith("step."):
            step = row.columns["step"]
            one = steps.setdefault(step, ExpectedStep(execution_id, step))
            _note_event(one.first_events, row.kind, row.at_us, row.columns["status"])
    for call in calls:
        if call.step in steps:
            steps[call.step].calls += 1
            steps[call.step].retries += call.attempts > 0
    yield from steps.values()


def _execution(
    execution_id: int, rows: list[_Event], calls: list[ExpectedCall], real: _Platform
) -> ExpectedExecution:
    ended: dict[str, FirstEvent] = {}
    for row in rows:
        if row.kind in _CLOSING:
            status = row.columns["status"]
            outcome = status if status in _WORST_FIRST else _CLOSING[row.kind]
            _note_event(ended, outcome, row.at_us, status)
    begun = [row for row in rows if row.kind in _BEGINNING or row.kind in _CLOSING]
    parents = [row.columns["parent_execution_id"] for row in rows]
    return ExpectedExecution(
        execution_id=execution_id,
        status=min(ended, key=lambda o: (ended[o].at_us, _WORST_FIRST.index(o)), default="RUNNING"),
        playbook=real.playbook if begun else "",
        parent_execution_id=next((parent for parent in parents if parent is not None), None),
        first_us=rows[0].at_us,
        last_us=rows[-1].at_us,
        events=len(rows),
        attempts=max(row.columns["attempts"] for row in rows),
        failed_calls=sum(
            call.finished_us is not None and call.status != "COMPLETED" for call in calls
        ),
        ended=ended,
        platform_outcome=real.outcome if real.ends <= {row.fact for row in rows} else None,
    )


def _note_event(first_events: dict[str, FirstEvent], kind: str, at_us: int, status: str) -> None:
    if kind in first_events:
        first_events[kind].events += 1
        return
    first_events[kind] = FirstEvent(at_us=at_us, status=status)


def _earliest(rows: list[_Event], column: str) -> Any:
    """The value of the earliest row that has one."""
    expected = [(row.at_us, row.columns[column]) for row in rows]
    return min((one for one in expected if one[1] not in (None, "")), default=(0, None))[1]

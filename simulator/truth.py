"""A ledger in; for every execution, step and call what a truthful dashboard must show out.

A plain fold, one execution at a time, over the rows that its records must have become. Nothing is
decided here that a view could decide otherwise: for each kind of event a call or an execution has
the time, the status and the rest of the earliest one. Beside it stands what really happened, which
no dashboard can know where nobody told. Source: design, section 3, calls and executions.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import msgspec

from simulator.expected import Placed, expected
from simulator.ledger import ExecutionLine, Line, RecordLine
from simulator.piles import PILES, Piles

_CLOSING: Final = ("playbook.completed", "playbook.failed", "playbook.cancelled")
_OF_A_CALL: Final = ("command.", "call.")
_FAILED: Final = frozenset(("FAILED", "ERROR", "CANCELLED"))


class Seen(msgspec.Struct, omit_defaults=True):
    """The earliest event of one kind, and how many there were."""

    at_us: int
    status: str
    worker_id: str | None = None
    duration: float | None = None
    error: str | None = None
    events: int = 1


class CallTruth(msgspec.Struct, omit_defaults=True, tag="call", tag_field="line"):
    """One try. `key` is the command's id, else step and iteration.

    Events that do not say which try they tell of belong to the command's only numbered try, if it
    has one. `seen` is by kind; a completion that only hands over is left out.
    """

    execution_id: int
    key: str
    attempts: int
    step: str = ""
    worker_id: str | None = None
    iteration: int | None = None
    max_attempts: int | None = None
    seen: dict[str, Seen] = {}


class StepTruth(msgspec.Struct, omit_defaults=True, tag="step", tag_field="line"):
    """One step of one execution: `seen` by kind, and its calls."""

    execution_id: int
    step: str
    seen: dict[str, Seen] = {}
    calls: int = 0
    retries: int = 0


class ExecutionTruth(msgspec.Struct, omit_defaults=True, tag="execution", tag_field="line"):
    """One execution as told: `ended` by outcome, the earliest of which is its `status`.

    `really` is how it went on the platform: '' if it never ended, None if nothing there knew it.
    """

    execution_id: int
    status: str = "RUNNING"
    playbook: str = ""
    parent_execution_id: int | None = None
    first_us: int = 0
    last_us: int = 0
    events: int = 0
    attempts: int = 0
    failed_calls: int = 0
    ended: dict[str, Seen] = {}
    really: str | None = None


Truth = ExecutionTruth | StepTruth | CallTruth


class _Event(msgspec.Struct):
    kind: str
    numbered: bool
    pending: bool
    columns: dict[str, Any]


def truth(lines: Iterable[Line]) -> Iterator[Truth]:
    """The truth about every execution that was told of, with its steps and calls."""
    for execution_id, rows, really in _executions(lines):
        yield from _fold(execution_id, rows, really)


def counts(lines: Iterable[Line]) -> Counter[tuple[str, str, int]]:
    """How many events there are of each (event_type, status, attempts)."""
    counted: Counter[tuple[str, str, int]] = Counter()
    for _, rows, _ in _executions(lines):
        for row in rows:
            columns = row.columns
            counted[columns["event_type"], columns["status"], columns["attempts"]] += 1
    return counted


def _executions(lines: Iterable[Line]) -> Iterator[tuple[int, list["_Event"], str | None]]:
    """(execution_id, its rows in the order of their time, how it really ended)."""
    with ExitStack() as stack:
        told, lived = Piles(stack), Piles(stack)
        for line in lines:
            _deal(line, told, lived)
        for number in range(PILES):
            really = dict(lived.take(number, tuple[int, str]))
            executions: dict[int, dict[int, list[Placed]]] = defaultdict(lambda: defaultdict(list))
            for event, placed in told.take(number, tuple[int, Placed]):
                executions[placed.says.execution_id][event].append(placed)
            for execution_id, events in executions.items():
                rows = [_event(tellings) for tellings in events.values()]
                rows.sort(key=lambda row: row.columns["created_us"])
                yield execution_id, rows, really.get(execution_id)


def _deal(line: Line, told: Piles, lived: Piles) -> None:
    match line:
        case RecordLine(partition=partition, offset=offset, ts=ts):
            for index, must_be in enumerate(line.outcomes):
                says = must_be.says
                if says is not None:
                    placed = Placed(partition, offset, index, ts, says)
                    told.put(says.execution_id, (must_be.event, placed))
        case ExecutionLine(execution_id=execution_id, outcome=outcome):
            lived.put(execution_id, (execution_id, outcome))
        case _:
            pass


def _event(tellings: list[Placed]) -> _Event:
    return _Event(
        kind=tellings[0].says.kind,
        numbered=any(placed.says.attempts_rank for placed in tellings),
        pending=any(placed.says.pending for placed in tellings),
        columns=expected(tellings).columns,
    )


def _fold(execution_id: int, rows: list[_Event], really: str | None) -> Iterator[Truth]:
    """One execution from its rows, in the order of their time."""
    calls = _calls(execution_id, rows)
    yield _execution(execution_id, rows, calls, really)
    yield from _steps(execution_id, rows, calls)
    yield from calls


def _calls(execution_id: int, rows: list[_Event]) -> list[CallTruth]:
    told = [row for row in rows if row.kind.startswith(_OF_A_CALL) and not row.pending]
    numbered: dict[str, set[int]] = defaultdict(set)
    for row in told:
        if row.numbered:
            numbered[_key(row)].add(row.columns["attempts"])
    calls: dict[tuple[str, int, bool], CallTruth] = {}
    for row in told:
        key, columns = _key(row), row.columns
        attempts, known = columns["attempts"], row.numbered
        if not known and len(numbered[key]) == 1:
            (attempts,), known = numbered[key], True
        call = calls.setdefault((key, attempts, known), CallTruth(execution_id, key, attempts))
        call.step = call.step or columns["step"]
        for column in ("worker_id", "iteration", "max_attempts"):
            if getattr(call, column) is None:
                setattr(call, column, columns[column])
        _see(call.seen, row.kind, columns)
    return list(calls.values())


def _key(row: _Event) -> str:
    columns = row.columns
    return columns["command_id"] or f"{columns['step']}#{columns['iteration']}"


def _steps(execution_id: int, rows: list[_Event], calls: list[CallTruth]) -> Iterator[StepTruth]:
    steps: dict[str, StepTruth] = {}
    for row in rows:
        if row.kind.startswith("step."):
            step = row.columns["step"]
            one = steps.setdefault(step, StepTruth(execution_id, step))
            _see(one.seen, row.kind, row.columns)
    for call in calls:
        if call.step in steps:
            steps[call.step].calls += 1
            steps[call.step].retries += call.attempts > 0
    yield from steps.values()


def _execution(
    execution_id: int, rows: list[_Event], calls: list[CallTruth], really: str | None
) -> ExecutionTruth:
    ended: dict[str, Seen] = {}
    for row in rows:
        if row.kind in _CLOSING:
            status = row.columns["status"]
            known = status in ("COMPLETED", "FAILED", "CANCELLED")
            _see(ended, status if known else row.kind.partition(".")[2].upper(), row.columns)
    started = [row for row in rows if row.kind in ("playbook.started", "playbook.initialized")]
    parents = [row.columns["parent_execution_id"] for row in rows]
    return ExecutionTruth(
        execution_id=execution_id,
        status=next(iter(ended), "RUNNING"),
        playbook=started[0].columns["step"] if started else "",
        parent_execution_id=next((parent for parent in parents if parent is not None), None),
        first_us=rows[0].columns["created_us"],
        last_us=rows[-1].columns["created_us"],
        events=len(rows),
        attempts=max(row.columns["attempts"] for row in rows),
        failed_calls=sum(any(seen.status in _FAILED for seen in c.seen.values()) for c in calls),
        ended=ended,
        really=really,
    )


def _see(seen: dict[str, Seen], kind: str, columns: dict[str, Any]) -> None:
    if kind in seen:
        seen[kind].events += 1
        return
    seen[kind] = Seen(
        at_us=columns["created_us"],
        status=columns["status"],
        worker_id=columns["worker_id"],
        duration=columns["duration"],
        error=columns["error"],
    )

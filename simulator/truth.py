"""A ledger in; for every execution, step and call what a truthful dashboard must show out.

A plain fold, one execution at a time, over the rows that its records must have become. Beside it
stands what really happened, which no dashboard can know where nobody told. Of what happened at one
instant the lesser by bytes counts, as everywhere. Source: design, section 3, calls and executions.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import msgspec

from simulator.expected import Placed, expected
from simulator.ledger import CallLine, ExecutionLine, Line, RecordLine
from simulator.piles import PILES, Piles
from simulator.tries import CallEvent, tries_of

_HOUR_US: Final = 3_600_000_000
_BEGINNING: Final = ("playbook.started", "playbook.initialized")
_CLOSING: Final = {
    "playbook.completed": "COMPLETED",
    "playbook.failed": "FAILED",
    "playbook.cancelled": "CANCELLED",
}
_OF_A_CALL: Final = ("command.", "call.")
_ENDING_A_CALL: Final = {
    # The call's own word before its command's, and what each says by its name alone.
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

Count = tuple[int, str, str, str, int]
"""The hour it begins with in microseconds since 1970, step, event_type, status, attempts."""


class Seen(msgspec.Struct, omit_defaults=True):
    """The earliest event of one kind, and how many there were."""

    at_us: int
    status: str
    events: int = 1


class CallTruth(msgspec.Struct, omit_defaults=True, tag="call", tag_field="line"):
    """One try of the command `key`; events that do not say of which are placed by their time.

    `seen` is by kind, without completions that only hand over. `status`
    is its outcome, or how far it has come. `really` is the outcome, on the platform, of the try
    that was told to have ended: None if nothing tells of an end.
    """

    execution_id: int
    key: str
    attempts: int
    status: str = ""
    step: str = ""
    worker_id: str | None = None
    iteration: int | None = None
    max_attempts: int | None = None
    duration: float | None = None
    error: str | None = None
    finished_us: int | None = None
    seen: dict[str, Seen] = {}
    really: str | None = None


class StepTruth(msgspec.Struct, omit_defaults=True, tag="step", tag_field="line"):
    """One step of one execution: `seen` by kind, and its calls."""

    execution_id: int
    step: str
    seen: dict[str, Seen] = {}
    calls: int = 0
    retries: int = 0


class ExecutionTruth(msgspec.Struct, omit_defaults=True, tag="execution", tag_field="line"):
    """One execution as told: `ended` by outcome, the earliest of which is its `status`.

    `playbook` is what it really runs, '' where nothing told says so. `really` is how it went on the
    platform: '' if it never ended, None if nothing there knew it or one of its ends was not told.
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


class Told(msgspec.Struct):
    """An execution that was told of, its steps and calls, and how many events of each kind."""

    execution: ExecutionTruth
    steps: list[StepTruth]
    calls: list[CallTruth]
    counts: Counter[Count]


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


class _Real(msgspec.Struct):
    """What the platform knew of an execution: of itself, and the try that each fact is about."""

    playbook: str = ""
    outcome: str | None = None
    ends: set[int] = set()
    outcomes: dict[int, str] = {}


def truth(lines: Iterable[Line]) -> Iterator[Truth]:
    """The truth about every execution that was told of, with its steps and calls."""
    for told in tell(lines):
        yield told.execution
        yield from told.steps
        yield from told.calls


def tell(lines: Iterable[Line]) -> Iterator[Told]:
    """The same, an execution at a time."""
    for execution_id, rows, real in _executions(lines):
        calls = _calls(execution_id, rows, real)
        yield Told(
            execution=_execution(execution_id, rows, calls, real),
            steps=list(_steps(execution_id, rows, calls)),
            calls=calls,
            counts=Counter(map(_count, rows)),
        )


def _count(row: _Event) -> Count:
    columns = row.columns
    hour_us = row.at_us // _HOUR_US * _HOUR_US
    what = (columns["step"], columns["event_type"], columns["status"], columns["attempts"])
    return hour_us, *what


def _executions(lines: Iterable[Line]) -> Iterator[tuple[int, list[_Event], _Real]]:
    """(execution_id, its rows in the order of their time, what really happened)."""
    with ExitStack() as stack:
        told, lived = Piles(stack), Piles(stack)
        for line in lines:
            _deal(line, told, lived)
        for number in range(PILES):
            real = _real(lived.take(number, ExecutionLine | CallLine))
            executions: dict[int, dict[tuple[int, int], list[Placed]]] = defaultdict(
                lambda: defaultdict(list)
            )
            for event, fact, placed in told.take(number, tuple[int, int, Placed]):
                executions[placed.says.execution_id][event, fact].append(placed)
            for execution_id, events in executions.items():
                rows = [_event(fact, tellings) for (_, fact), tellings in events.items()]
                rows.sort(key=lambda row: row.at_us)
                yield execution_id, rows, real.get(execution_id, _Real())


def _deal(line: Line, told: Piles, lived: Piles) -> None:
    match line:
        case RecordLine(partition=partition, offset=offset, ts=ts):
            for index, must_be in enumerate(line.outcomes):
                says = must_be.says
                if says is not None:
                    placed = Placed(partition, offset, index, ts, says)
                    told.put(says.execution_id, (must_be.event, must_be.fact, placed))
        case ExecutionLine() | CallLine():
            lived.put(line.execution_id, line)
        case _:
            pass


def _real(lines: Iterable[ExecutionLine | CallLine]) -> dict[int, _Real]:
    real: dict[int, _Real] = defaultdict(_Real)
    for line in lines:
        one = real[line.execution_id]
        if isinstance(line, ExecutionLine):
            one.playbook, one.outcome = line.playbook, line.outcome
            one.ends = {fact for kind, _, fact in line.facts if kind in _CLOSING}
        else:
            one.outcomes |= {fact: line.outcome for _, fact in line.facts}
    return real


def _event(fact: int, tellings: list[Placed]) -> _Event:
    return _Event(
        fact=fact,
        kind=tellings[0].says.kind,
        numbered=any(placed.says.attempts_rank for placed in tellings),
        pending=any(placed.says.pending for placed in tellings),
        columns=expected(tellings).columns,
    )


def _calls(execution_id: int, rows: list[_Event], real: _Real) -> list[CallTruth]:
    told = [row for row in rows if row.kind.startswith(_OF_A_CALL) and row.columns["command_id"]]
    commands: dict[str, list[_Event]] = defaultdict(list)
    for row in told:
        commands[row.columns["command_id"]].append(row)
    tries: dict[tuple[str, int], list[_Event]] = defaultdict(list)
    for key, events in commands.items():
        for row, attempts in zip(events, tries_of(list(map(_call_event, events))), strict=True):
            tries[key, attempts].append(row)
    return [
        _call(CallTruth(execution_id, key, attempts), one, real)
        for (key, attempts), one in tries.items()
    ]


def _call(call: CallTruth, rows: list[_Event], real: _Real) -> CallTruth:
    """Fill in what these rows tell of one try."""
    call.step = _earliest(rows, "step") or ""
    call.worker_id = _earliest(rows, "worker_id")
    call.max_attempts = _earliest(rows, "max_attempts")
    iterations = [row.columns["iteration"] for row in rows]
    call.iteration = min((one for one in iterations if one is not None), default=None)
    done = [row for row in rows if not row.pending]
    for row in done:
        _see(call.seen, row.kind, row.at_us, row.columns["status"])
    # The surest word first: what only its command says counts where the call itself says nothing.
    sure = [[row for row in done if _ENDING_A_CALL.get(row.kind, (2,))[0] == n] for n in (0, 1)]
    ends = [
        (row.at_us, _WORST_CALL_FIRST.index(_outcome(row)), row.fact)
        for row in (sure[0] or sure[1])
    ]
    if ends:
        call.finished_us, rank, fact = min(ends)
        call.status = _WORST_CALL_FIRST[rank]
        call.really = real.outcomes.get(fact)
        call.duration = _earliest(sure[0], "duration") or _earliest(sure[1], "duration")
        if call.status != "COMPLETED":
            call.error = _earliest(sure[0], "error") or _earliest(sure[1], "error")
    elif "command.started" in call.seen:
        call.status = "RUNNING"
    else:
        call.status = "CLAIMED" if "command.claimed" in call.seen else "PENDING"
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


def _steps(execution_id: int, rows: list[_Event], calls: list[CallTruth]) -> Iterator[StepTruth]:
    steps: dict[str, StepTruth] = {}
    for row in rows:
        if row.kind.startswith("step."):
            step = row.columns["step"]
            one = steps.setdefault(step, StepTruth(execution_id, step))
            _see(one.seen, row.kind, row.at_us, row.columns["status"])
    for call in calls:
        if call.step in steps:
            steps[call.step].calls += 1
            steps[call.step].retries += call.attempts > 0
    yield from steps.values()


def _execution(
    execution_id: int, rows: list[_Event], calls: list[CallTruth], real: _Real
) -> ExecutionTruth:
    ended: dict[str, Seen] = {}
    for row in rows:
        if row.kind in _CLOSING:
            status = row.columns["status"]
            outcome = status if status in _WORST_FIRST else _CLOSING[row.kind]
            _see(ended, outcome, row.at_us, status)
    begun = [row for row in rows if row.kind in _BEGINNING or row.kind in _CLOSING]
    parents = [row.columns["parent_execution_id"] for row in rows]
    return ExecutionTruth(
        execution_id=execution_id,
        status=min(ended, key=lambda o: (ended[o].at_us, _WORST_FIRST.index(o)), default="RUNNING"),
        playbook=real.playbook if begun else "",
        parent_execution_id=next((parent for parent in parents if parent is not None), None),
        first_us=rows[0].at_us,
        last_us=rows[-1].at_us,
        events=len(rows),
        attempts=max(row.columns["attempts"] for row in rows),
        failed_calls=sum(
            call.finished_us is not None and call.status != "COMPLETED"
            for call in calls
            if call.step != ORCHESTRATE
        ),
        ended=ended,
        really=real.outcome if real.ends <= {row.fact for row in rows} else None,
    )


def _see(seen: dict[str, Seen], kind: str, at_us: int, status: str) -> None:
    if kind in seen:
        seen[kind].events += 1
        return
    seen[kind] = Seen(at_us=at_us, status=status)


def _earliest(rows: list[_Event], column: str) -> Any:
    """The value of the earliest row that has one."""
    told = [(row.at_us, row.columns[column]) for row in rows]
    return min((one for one in told if one[1] not in (None, "")), default=(0, None))[1]

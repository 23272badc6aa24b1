"""Computes what the views must show of each execution, step, and call of a run.

First it merges the reports of each event into a row (expected_rows.py). Then it computes the views
from the rows (view_fold.py). Each result also says what really happened, which the simulator knows
because it invented the events. So a mistake in view_fold.py shows as a difference from what really
happened.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set as AbstractSet
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from simulator.actual_views import ActualCall, ActualExecution, EventCountKey
from simulator.evidence import are_attempts_declared
from simulator.expected_rows import LoggedReport, view_input_row
from simulator.ledger_file import CallLine, ExecutionLine, Line, RecordLine
from simulator.spill_partitions import PARTITIONS, SpillPartitions
from simulator.view_fold import ORCHESTRATE, Row, call_role, fold_execution

ALL_NUMBERED: Final = "everything is numbered"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ENDING_A_CALL: Final = frozenset(
    ("call.done", "call.error", "command.completed", "command.failed", "command.cancelled")
)
_CLOSING: Final = frozenset(("playbook.completed", "playbook.failed", "playbook.cancelled"))


class ExpectedViews(msgspec.Struct):
    """The rows that the views must show for an execution, and what really happened.

    `counts` is the number of the execution's events by kind. `really` is how the execution really
    ended, or None if the reports leave that open or contradict each other. `real_calls` has the
    real outcome of each attempt, by command, or an empty text if the attempt hasn't ended. It
    leaves out a command if one of its ends wasn't reported, or if one of its events doesn't carry
    the right attempt number. A retried command of which only such numbers are missing is in
    `inferred_calls`, which also says which of its events are numbered.
    """

    execution: ActualExecution
    calls: list[ActualCall]
    counts: Counter[EventCountKey]
    really: str | None
    real_calls: dict[str, dict[int, str]]
    inferred_calls: dict[str, tuple[str, dict[int, str]]]


class _Platform(msgspec.Struct):
    """What the platform knows about an execution."""

    outcome: str = ""
    ends: set[int] = set()
    calls: dict[int, CallLine] = {}


def expected_lines(lines: Iterable[Line]) -> Iterator[dict[str, Any]]:
    """Yield the truth about every reported execution and its calls, each as one object."""
    for expected in expected_views(lines):
        execution = msgspec.structs.asdict(expected.execution)
        yield {"line": "execution", **execution, "really": expected.really}
        for call in expected.calls:
            really = expected.real_calls.get(call.command_id, {}).get(call.attempts)
            yield {"line": "call", **msgspec.structs.asdict(call), "really": really}


def expected_views(lines: Iterable[Line]) -> Iterator[ExpectedViews]:
    """Yield what the views must show, one execution at a time."""
    for rows, real in _executions(lines):
        execution, calls = fold_execution(rows)
        ends = {row["fact"] for row in rows if row["kind"] in _CLOSING}
        real_calls = list(_real_calls(rows, real))
        knows_end = real.outcome and not execution["contradicting"] and real.ends <= ends
        yield ExpectedViews(
            execution=_shown_execution(execution, calls),
            calls=list(map(_shown_call, calls)),
            counts=Counter(map(_count, rows)),
            really=real.outcome if knows_end else None,
            real_calls={name: really for name, how, really in real_calls if how == ALL_NUMBERED},
            inferred_calls={
                name: (how, really)
                for name, how, really in real_calls
                if how != ALL_NUMBERED and len(really) > 1
            },
        )


def _count(row: Row) -> EventCountKey:
    hour_us = _us(row["created_at"].replace(minute=0, second=0, microsecond=0))
    return hour_us, row["step"], row["event_type"], row["status"], row["attempts"]


def _executions(lines: Iterable[Line]) -> Iterator[tuple[list[Row], _Platform]]:
    """Yield the rows of each execution, and what really happened."""
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
                rows = [
                    view_input_row(reports) | {"fact": fact, "kind": reports[0].reported.kind}
                    for (_, fact), reports in events.items()
                ]
                yield rows, real.get(execution_id, _Platform())


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
            one.outcome = line.outcome
            one.ends = {fact for kind, _, fact in line.facts if kind in _CLOSING}
        else:
            one.calls |= {fact: line for _, fact in line.facts}
    return real


def _real_calls(rows: Sequence[Row], real: _Platform) -> Iterator[tuple[str, str, dict[int, str]]]:
    """Each command whose every end was reported, what is numbered, and how its attempts ended."""
    commands: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if call_role(row) and row["command_id"]:
            commands[row["command_id"]].append(row)
    for command_id, own in commands.items():
        reported = {row["fact"] for row in own}
        if not reported <= real.calls.keys():
            continue
        if any(real.calls[fact].step == ORCHESTRATE for fact in reported):
            continue
        is_true = {
            row["fact"]: row["attempts"] == real.calls[row["fact"]].attempts
            for row in own
            if are_attempts_declared(row["evidence"])
        }
        if not all(is_true.values()):
            continue
        lines = [real.calls[fact] for fact in reported]
        ends = {fact for line in lines for kind, fact in line.facts if kind in _ENDING_A_CALL}
        if ends <= reported:
            retries = {fact for fact in reported if real.calls[fact].attempts}
            yield (
                command_id,
                _numbering(own, is_true.keys(), retries),
                {line.attempts: line.outcome for line in lines},
            )


def _numbering(rows: Sequence[Row], numbered: AbstractSet[int], retries: AbstractSet[int]) -> str:
    """ALL_NUMBERED, or what the issuer numbers and what the worker does. All are sets of facts."""
    issued = {row["fact"] for row in rows if call_role(row) == "issued"}
    reported = {row["fact"] for row in rows}
    if reported <= numbered:
        return ALL_NUMBERED
    by_issuer, by_worker = (
        _habit(own, own & numbered, own & retries) for own in (issued, reported - issued)
    )
    return f"the issuer numbers {by_issuer}, the worker {by_worker}"


def _habit(own: AbstractSet[int], numbered: AbstractSet[int], retries: AbstractSet[int]) -> str:
    if not numbered:
        return "nothing"
    if numbered == own:
        return "all"
    return "retries only" if numbered == retries else "some"


def _shown_execution(execution: Row, calls: Sequence[Row]) -> ActualExecution:
    completed, failed, cancelled = execution["counts"]
    return ActualExecution(
        execution_id=execution["execution_id"],
        status=execution["status"],
        playbook=execution["playbook"],
        parent_execution_id=execution["parent_execution_id"],
        first_us=_us(execution["first_at"]),
        last_us=_us(execution["last_at"]),
        ended_us=_us(execution["ended_at"]),
        events=execution["events"],
        attempts=execution["highest_attempts"],
        failed_calls=sum(call["status"] not in (None, "COMPLETED") for call in calls),
        completed=completed,
        failed=failed,
        cancelled=cancelled,
    )


def _shown_call(call: Row) -> ActualCall:
    duration_us = call["duration_us"]
    return ActualCall(
        **{name: call[name] for name in ("execution_id", "command_id", "step", "iteration")},
        **{name: call[name] for name in ("attempts", "worker_id", "max_attempts", "error")},
        status=call_state(call),
        issued_us=_us(call["issued_at"]),
        claimed_us=_us(call["claimed_at"]),
        started_us=_us(call["started_at"]),
        finished_us=_us(call["finished_at"]),
        duration=None if duration_us is None else duration_us / 1_000_000,
    )


def call_state(call: Row) -> str:
    """How a call ended, or how far it has come."""
    if call["status"]:
        return str(call["status"])
    if call["started_at"]:
        return "RUNNING"
    return "CLAIMED" if call["claimed_at"] else "PENDING"


def _us(moment: datetime | None) -> Any:
    return None if moment is None else (moment - _EPOCH) // _MICROSECOND

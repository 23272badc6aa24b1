"""Computes what the views must show of an execution and its calls, from its stored events.

The simulator and the tests compare the views with the result. deploy/calls.py decides which attempt
an event belongs to, because users get that module too, so that its decisions are tested as well. A
row is a dict by column name, with times in UTC.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from deploy.calls import (
    ROLES,
    CallEvent,
    call_of_attempt,
    failures_before,
    is_retried,
    resolve_attempts,
)
from simulator.evidence import are_attempts_declared

Row = dict[str, Any]

LIFECYCLE: Final = {
    "begins": (
        "playbook.initialized",
        "playbook_initialized",
        "playbook.started",
        "playbook_started",
        "execution.started",
        "execution_start",
        "execution.start",
        "execution_started",
    ),
    "COMPLETED": (
        "playbook.completed",
        "playbook_completed",
        "execution.completed",
        "execution_complete",
        "execution_completed",
    ),
    "FAILED": (
        "playbook.failed",
        "playbook_failed",
        "execution.failed",
        "execution_error",
        "execution_failed",
    ),
    "CANCELLED": (
        "playbook.cancelled",
        "playbook_cancelled",
        "execution.cancelled",
        "execution_cancelled",
    ),
}
ORCHESTRATE: Final = "__orchestrate__"
"""The engine's own calls, which no dashboard shows."""
LATE: Final = timedelta(seconds=5)
"""A record that is this much later than its event has no place in its log."""
REPORTED_ELSEWHERE_FLAG: Final = 32
"""The bit of merge_flags: another record reports the event in another log, or before this one."""
_COORDINATES: Final = ("topic", "incarnation", "partition", "offset", "index")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_OF_EXECUTION: Final = ("playbook", "version", "parent_execution_id")
"""What a call has of its execution."""


def fold_execution(event_rows: Sequence[Row]) -> tuple[Row, list[Row]]:
    """One execution and its calls, from the rows of all its events."""
    execution = _execution(event_rows)
    calls = [
        call | {name: execution[name] for name in _OF_EXECUTION} for call in _calls(event_rows)
    ]
    return execution, [call for call in calls if call["step"] != ORCHESTRATE]


def _execution(event_rows: Sequence[Row]) -> Row:
    last = max(event_rows, key=lambda row: (row["created_at"], _last_words(row)))
    ends: dict[str, list[datetime]] = defaultdict(list)
    playbooks: list[tuple[int, datetime, bytes, bytes]] = []
    for row in event_rows:
        begins = row["event_type"] in LIFECYCLE["begins"]
        outcome = lifecycle_outcome(row)
        if outcome is not None:
            ends[outcome].append(row["created_at"])
        path, version = _named_by(row) if begins else ("", "")
        if path:
            playbooks.append((0, row["created_at"], *_named(path, version)))
        elif (begins or outcome is not None) and row["step"]:
            playbooks.append((1, row["created_at"], *_named(row["step"], "")))
    first_ends = {outcome: min(moments) for outcome, moments in ends.items()}
    worst_first = [word for word in ("FAILED", "CANCELLED", "COMPLETED") if word in first_ends]
    status = min(worst_first, key=lambda word: first_ends[word]) if worst_first else "RUNNING"
    activity = [row["created_at"] for row in event_rows if _is_activity(row)]
    playbook, version = (word.decode() for word in min(playbooks)[2:]) if playbooks else ("", "")
    return {
        "execution_id": event_rows[0]["execution_id"],
        "playbook": playbook,
        "version": version or None,
        "status": status,
        "catalog_id": _least(row["catalog_id"] for row in event_rows),
        "parent_execution_id": _least(row["parent_execution_id"] for row in event_rows),
        "first_at": min(row["created_at"] for row in event_rows),
        "begun_at": _least(
            row["created_at"] for row in event_rows if row["event_type"] in LIFECYCLE["begins"]
        ),
        "last_at": last["created_at"],
        "ended_at": first_ends.get(status),
        "events": len(event_rows),
        "highest_attempts": max(row["attempts"] for row in event_rows),
        "counts": tuple(len(ends[word]) for word in ("COMPLETED", "FAILED", "CANCELLED")),
        "firsts": tuple(first_ends.get(word) for word in ("COMPLETED", "FAILED", "CANCELLED")),
        "contradicting": len(first_ends) > 1,
        "active_at": max(activity, default=None),
        "last_event_type": last["event_type"],
        "last_step": last["step"],
    }


def _named(playbook: str, version: str) -> tuple[bytes, bytes]:
    return playbook[:200].encode(), version[:100].encode()


def _last_words(row: Row) -> tuple[bytes, bytes]:
    return row["event_type"].encode(), row["step"].encode()


def lifecycle_outcome(row: Row) -> str | None:
    """Return how the execution ended, if this event says so."""
    for outcome in ("COMPLETED", "FAILED", "CANCELLED"):
        if row["event_type"] in LIFECYCLE[outcome]:
            declared = row["status"]
            return declared if declared in ("COMPLETED", "FAILED", "CANCELLED") else outcome
    return None


def _is_activity(row: Row) -> bool:
    kind = row["event_type"]
    return not (call_role(row) == "ended" or lifecycle_outcome(row) or kind.startswith("workflow"))


def _named_by(row: Row) -> tuple[str, str]:
    """Return the path and version of the playbook that a start event names. The path may be "".

    Source: docs/spec/wire-shapes.md#k4.
    """
    for context in _contexts(row):
        if isinstance(path := context.get("path"), str) and path:
            version = context.get("version")
            return path, version if isinstance(version, str) else _spelled(version)
    return "", ""


def _spelled(version: Any) -> str:
    return "" if version is None else json.dumps(version, ensure_ascii=False)


def _contexts(row: Row) -> list[dict[str, Any]]:
    """The row's context, and that of its result, where a server keeps what a client sent."""
    result = row["result"]
    contexts = (row["context"], result.get("context") if isinstance(result, dict) else None)
    return [one for one in contexts if isinstance(one, dict)]


def _calls(event_rows: Sequence[Row]) -> Iterator[Row]:
    """The attempts of every command of one execution."""
    commands: dict[str, list[Row]] = defaultdict(list)
    for row in event_rows:
        if call_role(row) and row["command_id"]:
            commands[row["command_id"]].append(row)
    found = []
    for command_id, rows in commands.items():
        by_attempt: dict[int, list[Row]] = defaultdict(list)
        events = list(map(call_event, rows))
        for row, attempts in zip(rows, resolve_attempts(events), strict=True):
            by_attempt[attempts].append(row)
        for attempts, own in by_attempt.items():
            call = call_of_attempt(attempts, list(map(call_event, own)), retried=is_retried(events))
            found.append((own, (command_id, _least(row["iteration"] for row in own), call)))
    failed = failures_before([call for _, call in found])
    for (own, (command_id, iteration, call)), failed_us in zip(found, failed, strict=True):
        times = {name: _moment(getattr(call, f"{name.removesuffix('_at')}_us")) for name in _TIMES}
        yield times | {
            "execution_id": own[0]["execution_id"],
            "command_id": command_id,
            "iteration": iteration,
            **{name: getattr(call, name) for name in _AS_FOLDED},
            "worker_id": _first(own, "worker_id"),
            "max_attempts": _first(own, "max_attempts"),
            "previous_failure_at": _moment(failed_us),
            "events": own,
        }


_TIMES: Final = ("begun_at", "issued_at", "claimed_at", "started_at", "finished_at")
_AS_FOLDED: Final = (
    *("attempts", "step", "status", "error", "error_class", "duration_us", "queue_us", "exhausted"),
    "attribution",
)


def call_role(row: Row) -> str:
    """Return an event's role in a call, or '' if it's about none."""
    kind = ROLES.get(row["event_type"])
    return kind[0] if kind else ""


def call_event(row: Row) -> CallEvent:
    """An event of a call, as attempts are folded from it."""
    return CallEvent(
        event_type=row["event_type"],
        at_us=(row["created_at"] - _EPOCH) // _MICROSECOND,
        number=row["attempts"] if are_attempts_declared(row["evidence"]) else None,
        status=row["status"],
        step=row["step"],
        max_attempts=row["max_attempts"],
        duration_s=row["duration"],
        error=row["error"],
        pending_callback=hands_over(row),
        call_index=call_index(row),
        place=place_in_log(row),
    )


def place_in_log(row: Row) -> str | None:
    """Return the place of the row's record in Kafka.

    Returns None if the place says nothing about the order of events. That's so if the record
    arrived late, or if there's another report of the event at another place.
    """
    if row["recorded_at"] is None or row["merge_flags"] & REPORTED_ELSEWHERE_FLAG:
        return None
    if row["recorded_at"] - row["created_at"] >= LATE:
        return None
    return ":".join(str(row[f"source_{name}"]) for name in _COORDINATES)


def hands_over(row: Row) -> bool:
    """Return whether the row's context, or that of its result, hands its call over to a callback.

    Source: docs/spec/wire-shapes.md#s15.
    """
    return any(context.get("pending_callback") is True for context in _contexts(row))


def call_index(row: Row) -> int:
    """Which call of its command the row is about: the first one if it does not say.

    Source: docs/spec/wire-shapes.md#s17.
    """
    for context in _contexts(row):
        index = context.get("call_index")
        if type(index) is int and 0 <= index < 1_000_000_000:
            return index
    return 0


def _first(rows: Iterable[Row], column: str) -> Any:
    """Return the earliest value, or the lesser by bytes of two at the same time."""
    found = [
        (row["created_at"], value.encode() if isinstance(value, str) else value)
        for row in rows
        if (value := row[column]) not in (None, "")
    ]
    value = min(found, default=(None, None))[1]
    return value.decode() if isinstance(value, bytes) else value


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + microseconds * _MICROSECOND


def _least(values: Iterable[Any]) -> Any:
    return min((value for value in values if value is not None), default=None)

"""The fold for other engines makes the same calls as the plain fold that watches PostgreSQL."""

import re
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.calls import (
    ROLES,
    Call,
    CallEvent,
    attempts_of,
    calls_of_command,
    error_class_of,
    execution_calls,
    failures_before,
    iteration_of,
)
from normalizer.core.rules import names
from tests.support.event_histories import event_logs, repeated, retried_commands
from tests.support.event_kinds import EVENT_KINDS, spellings_of
from tests.support.projection_oracle import (
    CALL_ENDS,
    CALL_MARKS,
    Row,
    expected_views,
    hands_over,
    hour,
)

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
KNOWN: Final = {*CALL_ENDS, *(kind for kinds in CALL_MARKS.values() for kind in kinds)}


@given(rows=event_logs(most=20))
def test_any_events_give_the_calls_of_the_plain_fold(rows: list[Row]) -> None:
    assert actual(rows) == expected(rows)


@settings(max_examples=30)
@given(history=retried_commands(), twice=st.booleans())
def test_a_retried_command_gives_the_calls_of_the_plain_fold(
    history: Sequence[tuple[Row, int]], *, twice: bool
) -> None:
    rows = [row for row, _ in history]
    rows += repeated(rows) if twice else []

    assert actual(rows) == expected(rows)


def test_an_end_with_a_number_stays_in_its_attempt() -> None:
    events = [
        CallEvent("command.issued", 1, 0, "PENDING"),
        CallEvent("command.issued", 2, 1, "PENDING"),
        CallEvent("call.done", 3, 1, "FAILED"),
        CallEvent("call.done", 4, 1, "COMPLETED"),
    ]

    assert attempts_of(events) == [0, 1, 1, 1]


def test_a_command_of_many_attempts_is_folded_while_clickhouse_waits() -> None:
    events = [
        event
        for number in range(3_000)
        for event in (
            CallEvent("command.issued", 10 * number, number, "PENDING"),
            CallEvent("command.failed", 10 * number + 5, None, "FAILED"),
            CallEvent("call.done", 10 * number + 6, None, "FAILED"),
        )
    ]

    began_s = time.process_time()
    calls = calls_of_command(events)

    assert [call.finished_us for call in calls] == [10 * number + 6 for number in range(3_000)]
    assert time.process_time() - began_s < 2


def test_a_failure_that_ends_when_the_retry_begins_is_the_one_before_it() -> None:
    first, retry = calls_of_command([
        CallEvent("call.done", 5, 0, "FAILED"),
        CallEvent("command.started", 5, 1, "RUNNING"),
    ])  # fmt: skip

    assert failures_before([("c", None, first), ("c", None, retry)]) == [None, 5]


@given(error=st.text(alphabet="abu1 '\"#:-.é\t404codeHTP()", max_size=80))
def test_error_classes_are_those_of_the_plain_fold(error: str) -> None:
    [row] = expected_views([
        {**dict.fromkeys(("iteration", "worker_id", "max_attempts", "duration", "recorded_at",
                          "catalog_id", "parent_execution_id", "coercions", "context")),
         "event_id": 1, "execution_id": 1, "event_type": "call.done", "step": "a", "shape": "sql",
         "status": "FAILED", "attempts": 0, "evidence": 222, "created_at": EPOCH,
         "command_id": "c", "error": error},
    ])["failures_by_error"]  # fmt: skip

    assert error_class_of(error) == row[4]


def test_every_spelling_of_an_event_of_a_call_has_its_role() -> None:
    spellings = {
        spelling: (kind.role, kind.outcome, kind.event_class)
        for kind in EVENT_KINDS
        if kind.subject == "call"
        for spelling in spellings_of(kind)
    }

    assert spellings == ROLES


@given(command_id=st.from_regex(re.compile(r"[a-c:]{0,4}(:i[0-9]{1,11})?\n?"), fullmatch=True))
def test_the_iteration_of_a_command_is_that_of_the_rules(command_id: str) -> None:
    assert iteration_of(command_id) == names.iteration_of(command_id)


def actual(rows: Sequence[Row]) -> Counter[Any]:
    """Execution, command, and what the views say of each call."""
    executions: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        if row["event_type"] in KNOWN and row["command_id"]:
            executions.setdefault(row["execution_id"], []).append({
                "command_id": row["command_id"],
                "event_type": row["event_type"],
                "at_us": (row["created_at"] - EPOCH) // timedelta(microseconds=1),
                "number": row["attempts"] if row["evidence"] >= 100 else None,
                "status": row["status"],
                "step": row["step"],
                "max_attempts": row["max_attempts"],
                "duration_s": row["duration"],
                "error": row["error"],
                "pending_callback": hands_over(row),
            })  # fmt: skip
    return Counter(
        (execution_id, call.pop("command_id"), *shown(call.pop("failed_us"), Call(**call)))
        for execution_id, events in executions.items()
        for call in execution_calls(events)
        if call["step"] != "__orchestrate__"
    )


def shown(failed_us: int | None, call: Call) -> tuple[Any, ...]:
    begun, issued, claimed, started, finished = (
        None if us is None else EPOCH + timedelta(microseconds=us)
        for us in (
            call.begun_us, call.issued_us, call.claimed_us, call.started_us, call.finished_us
        )
    )  # fmt: skip
    backoff_us = None if failed_us is None else call.begun_us - failed_us
    state = "RUNNING" if started else "CLAIMED" if claimed else "PENDING"
    return (
        hour(finished or begun or EPOCH), call.step, call.attempts, call.status or state,
        begun, issued, claimed, started, finished,
        *(None if us is None else us / 1_000_000 for us in (
            call.duration_us, call.queue_us, backoff_us
        )),
        call.exhausted, call.error, call.error_class,
    )  # fmt: skip


def expected(rows: Sequence[Row]) -> Counter[Any]:
    """The same from the rows of view `calls`, where the iteration is that of the command_id."""
    views = expected_views(
        row | {"iteration": row["command_id"] and iteration_of(row["command_id"])} for row in rows
    )
    return Counter(
        (row[1], row[6], row[0], row[5], row[8], row[9], *row[10:18], row[19], row[21], row[22])
        for row in views["calls"]
    )

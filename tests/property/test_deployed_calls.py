"""The fold of calls that ships in deploy/, which is also the oracle of the views."""

import re
import time

import pytest
from hypothesis import given, strategies as st

from deploy.calls import (
    ROLES,
    CallEvent,
    calls_of_command,
    execution_calls,
    failures_before,
    parse_iteration,
)
from normalizer.core.rules import names
from simulator.view_fold import Row, call_event, call_role, fold_execution
from tests.support.event_histories import event_logs
from tests.support.event_kinds import EVENT_KINDS, list_spellings


@given(rows=event_logs(most=20))
def test_clickhouse_gets_the_calls_that_the_views_show(rows: list[Row]) -> None:
    one = [
        row | {"execution_id": 1, "iteration": parse_iteration(row["command_id"] or "")}
        for row in rows
    ]
    said = [
        {"command_id": row["command_id"], **call_event(row)._asdict()}
        for row in one
        if call_role(row) and row["command_id"]
    ]

    answered = {
        (call["command_id"], call["attempts"]): (
            *(call[name] for name in ("step", "status", "error", "error_class")),
            *(call[name] for name in ("duration_us", "queue_us", "exhausted")),
            call["failed_us"] is None,
        )
        for call in execution_calls(said)
        if call["step"] != "__orchestrate__"
    }

    assert answered == {
        (call["command_id"], call["attempts"]): (
            *(call[name] for name in ("step", "status", "error", "error_class")),
            *(call[name] for name in ("duration_us", "queue_us", "exhausted")),
            call["previous_failure_at"] is None,
        )
        for call in fold_execution(one)[1]
    }


@pytest.mark.parametrize(
    ("ends", "decided"),
    [
        # The worker's own check fails after the tool's success.
        (
            [
                CallEvent("call.done", 5, 0, "COMPLETED", duration_s=2.0),
                CallEvent("command.failed", 7, 0, "FAILED", error="no rows"),
            ],
            ("FAILED", 7, "no rows", 2_000_000),
        ),
        # A server gives up on a command whose worker reported success, in either order.
        (
            [
                CallEvent("call.done", 5, 0, "COMPLETED"),
                CallEvent("command.timeout", 9, 0, "FAILED", error="timed out"),
            ],
            ("FAILED", 9, "timed out", None),
        ),
        (
            [
                CallEvent("command.timeout", 5, 0, "FAILED", error="timed out"),
                CallEvent("call.done", 9, 0, "COMPLETED"),
            ],
            ("FAILED", 5, "timed out", None),
        ),
        # Somebody cancels the command after its call.
        (
            [
                CallEvent("call.done", 5, 0, "COMPLETED"),
                CallEvent("command.cancelled", 9, 0, "CANCELLED"),
            ],
            ("CANCELLED", 9, None, None),
        ),
        # A failure is worse than a cancellation, no matter who reports it and when.
        (
            [
                CallEvent("call.done", 3, 0, "CANCELLED", error="stopped"),
                CallEvent("command.failed", 8, 0, "FAILED"),
            ],
            ("FAILED", 8, "stopped", None),
        ),
        # Of one class the call comes before the command, whenever.
        (
            [
                CallEvent("command.failed", 3, 0, "FAILED", error="it failed"),
                CallEvent("call.done", 8, 0, "ERROR", error="HTTP 503"),
            ],
            ("ERROR", 8, "HTTP 503", None),
        ),
        # Then the earlier before the later. The next failing end gives the text that it lacks.
        (
            [
                CallEvent("call.error", 4, 0, "FAILED"),
                CallEvent("call.error", 8, 0, "FAILED", error="second"),
                CallEvent("call.done", 2, 0, "COMPLETED", error="a warning"),
            ],
            ("FAILED", 4, "second", None),
        ),
        # A completion gives no error text.
        (
            [
                CallEvent("call.done", 2, 0, "COMPLETED", error="a warning"),
                CallEvent("command.failed", 4, 0, "FAILED"),
            ],
            ("FAILED", 4, None, None),
        ),
        # The second call of a command completes after the first failed: nobody handled that.
        (
            [
                CallEvent("call.error", 2, 0, "FAILED", error="first"),
                CallEvent("call.done", 4, 0, "COMPLETED", call_index=1),
            ],
            ("FAILED", 2, "first", None),
        ),
    ],
)
def test_the_worst_end_decides_how_an_attempt_went(
    ends: list[CallEvent], decided: tuple[str, int, str | None, int | None]
) -> None:
    [call] = calls_of_command(ends)

    assert (call.status, call.finished_us, call.error, call.duration_us) == decided


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


def test_every_spelling_of_an_event_of_a_call_has_its_role() -> None:
    spellings = {
        spelling: (kind.role, kind.outcome, kind.event_class)
        for kind in EVENT_KINDS
        if kind.subject == "call"
        for spelling in list_spellings(kind)
    }

    assert spellings == ROLES


@given(command_id=st.from_regex(re.compile(r"[a-c:]{0,4}(:i[0-9]{1,11})?\n?"), fullmatch=True))
def test_the_iteration_of_a_command_is_that_of_the_rules(command_id: str) -> None:
    assert parse_iteration(command_id) == names.parse_iteration(command_id)

"""Histories of a few executions, small enough for every kind of collision."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

from hypothesis import strategies as st

from deploy.calls import ROLES
from simulator.view_fold import LIFECYCLE, Row
from tests.support.view_rows import T0, event

BASES: Final = (1_000, 400_000_000_000_000_000, 800_000_000_000_262_144, 1 << 62, 3 << 61)
"""Ids of every region: small, the application's, the doubled layout, derived and hashed."""

_CALL_TYPES: Final = sorted(ROLES)
_LIFE_TYPES: Final = sorted(kind for kinds in LIFECYCLE.values() for kind in kinds)
_OTHER_TYPES: Final = [
    "step.enter", "workflow.completed", "workflow_started", "command.heartbeat", "step\x1fenter",
]  # fmt: skip

_OUTCOME_TYPES: Final = {"call.done", "action_done", "call_done"}
_CONTEXTS: Final = [
    None, {}, {"path": "flow/a", "version": 3}, {"path": "flow/b"}, {"path": ""}, {"path": 7},
    {"path": "flow/b", "version": True}, {"path": "flow/b", "version": ["1", {"é": None}]},
    {"path": "long/" * 900}, {"path": "flow\x1fa", "version": "1\x1f2"},
    {"pending_callback": True}, {"pending_callback": "yes"}, {"pending_callback": 1},
    {"call_index": 1}, {"call_index": 1}, {"call_index": 2}, {"call_index": "1"},
    {"call_index": True}, {"call_index": -1}, {"call_index": 1.5}, {"call_index": 10**9},
    [1, 2], "text",
]  # fmt: skip
_RESULTS: Final = [
    None, None, {"context": {"pending_callback": True}}, {"pending_callback": True},
    {"context": [{"pending_callback": True}]}, {"context": {"pending_callback": 1}}, ["text"],
    {"context": {"path": "flow/c", "version": 4}}, {"context": {"path": ""}}, {"path": "flow/d"},
    {"context": {"call_index": 1}}, {"call_index": 1}, {"context": ["call_index", 1]},
]  # fmt: skip
_ERRORS: Final = [None, "", "HTTP 503 from 'host-7'", "rejected  by 10.0.0.1:80", "é" * 1_100]
_MOMENTS: Final = [0, 1, 2, 59, 60, 3_599, 3_600, 3_601, 90_000, -86_400 * 366 * 30]

moments = st.builds(
    lambda seconds, us: T0 + timedelta(seconds=seconds, microseconds=us),
    st.sampled_from(_MOMENTS),
    st.sampled_from([0, 0, 1, 500_000]),
)


@st.composite
def events(draw: st.DrawFn, event_id: int) -> Row:
    """Any event. Calls are the likeliest."""
    kind = draw(st.sampled_from(_CALL_TYPES * 3 + _LIFE_TYPES + _OTHER_TYPES))
    statuses = ["COMPLETED", "FAILED", "ERROR", "CANCELLED"]
    if kind not in _OUTCOME_TYPES:
        statuses += ["RUNNING", "SKIPPED"]
    recorded = draw(st.sampled_from([None, -5, 0, 3, 5, 30, 300, 2_000, 50_000, 100_000]))
    created_at = draw(moments)
    rule = draw(st.sampled_from([None, None, None, "opaque_id", "attempts_invalid"]))
    return event(
        event_id=event_id,
        execution_id=draw(st.integers(1, 2)),
        event_type=kind,
        step=draw(st.sampled_from(["", "a", "a", "b", "a\x1fb", "__orchestrate__"])),
        status=draw(st.sampled_from(statuses)),
        attempts=draw(st.integers(0, 2)),
        evidence=draw(st.sampled_from([2, 12, 112, 212, 220])),
        max_attempts=draw(st.sampled_from([None, None, 1, 2, 3])),
        created_at=created_at,
        worker_id=draw(st.sampled_from([None, "", "w1", "w2", "w1\x1f"])),
        command_id=draw(st.sampled_from([None, "", "c1", "c1", "c2", "#1 a", "c1\x1f"])),
        iteration=draw(st.sampled_from([None, None, 1, 2])),
        catalog_id=draw(st.sampled_from([None, 7, 8])),
        parent_execution_id=draw(st.sampled_from([None, None, 9])),
        duration=draw(st.sampled_from([None, None, 0.0, 0.25, 1.5, 2_592_000.5, 315_360_000.0])),
        error=draw(st.sampled_from(_ERRORS)),
        context=draw(st.sampled_from(_CONTEXTS)),
        result=draw(st.sampled_from(_RESULTS)),
        coercions=rule and [{"rule": rule, "field": "x"}, {"rule": "opaque_id", "field": "y"}],
        shape=draw(st.sampled_from(["worker", "executor"])),
        source_partition=draw(st.integers(0, 1)),
        source_offset=draw(st.integers(0, 9)),
        source_index=draw(st.integers(0, 1)),
        merge_flags=draw(st.sampled_from([0, 0, 4, 32, 36])),
        recorded_at=None if recorded is None else created_at + timedelta(seconds=recorded),
    )


@st.composite
def event_logs(draw: st.DrawFn, *, most: int = 14) -> list[Row]:
    """Events with ids of several regions, in any order."""
    count = draw(st.integers(1, most))
    rows = [draw(events(draw(st.sampled_from(BASES)) + number)) for number in range(count)]
    return draw(st.permutations(rows))


_ENDS: Final = [
    ["call.done"], ["call.done", "command.completed"], ["call.error", "command.failed"],
    ["call.error"], ["command.failed", "action_done"], ["call.done", "call.done", "call.done"],
    ["call.done", "call.error", "command.failed"],
    ["call.done", "command.started", "call.error", "command.failed"], [],
]  # fmt: skip
"""If a call reports several ends, each belongs to the next call of its command."""


@st.composite
def retried_commands(draw: st.DrawFn) -> list[tuple[Row, int]]:
    """Generate the events of a retried command, in order, each with the number of its try.

    The issuer and the worker number all tries, only retries, none, or some events only. Each try is
    issued, and ends after that if it ends at all. Either all events are in one log in this order,
    or none of them is.
    """
    issuer, worker = (draw(st.sampled_from(["all", "retries", "none", "some"])) for _ in range(2))
    rows: list[tuple[Row, int]] = []
    at = T0
    in_log = draw(st.booleans())
    for attempts in range(draw(st.integers(2, 4))):
        kinds = ["command.issued", *draw(st.sampled_from([["command.claimed"], []]))]
        kinds += draw(st.sampled_from([["command.started"], []])) + draw(st.sampled_from(_ENDS))
        done = 0
        for number, kind in enumerate(kinds):
            ends = ROLES[kind][0] in {"ended", "done"}
            at += timedelta(microseconds=draw(st.integers(0 if number and not ends else 1, 2)))
            habit = worker if number else issuer
            numbers = {"all": True, "retries": attempts > 0, "none": False}
            reported = numbers[habit] if habit in numbers else draw(st.booleans())
            row = event(
                event_id=draw(st.sampled_from(BASES)) + len(rows),
                event_type=kind,
                step="a",
                status=draw(st.sampled_from(["COMPLETED", "FAILED"])) if ends else "RUNNING",
                attempts=attempts if reported else 0,
                evidence=212 if reported else 12,
                created_at=at,
                command_id="c1",
                error=draw(st.sampled_from([None, "HTTP 503"])) if ends else None,
                context={"call_index": done} if done else None,
                source_offset=len(rows),
                recorded_at=at if in_log else None,
            )
            done += ROLES[kind][0] == "done"
            rows.append((row, attempts))
    return rows


@st.composite
def partly_late(draw: st.DrawFn, rows: Sequence[Row]) -> list[Row]:
    """The same events, some of them later in the log, or so late that their place tells nothing."""
    return [
        row
        | {
            "source_offset": row["source_offset"] + draw(st.sampled_from([0, 0, 0, 100])),
            "recorded_at": row["recorded_at"]
            and row["recorded_at"] + timedelta(seconds=draw(st.sampled_from([0, 0, 0, 10]))),
        }
        for row in rows
    ]


def repeated(rows: Sequence[Row]) -> list[Row]:
    """The same events reported again under other ids."""
    return [row | {"event_id": row["event_id"] + 100} for row in rows]


@st.composite
def splits(draw: st.DrawFn, rows: Sequence[Row]) -> list[list[Row]]:
    """The rows in batches, in their order."""
    places = sorted(draw(st.sets(st.integers(1, len(rows)), max_size=5)) | {0, len(rows)})
    return [list(rows[a:b]) for a, b in pairwise(places)]


@st.composite
def manual_changes(draw: st.DrawFn, rows: Sequence[Row]) -> list[tuple[str, Any]]:
    """Manual changes of a log with these rows: (update, rows) and (delete, ids), in order."""
    done: list[tuple[str, Any]] = []
    present = {row["event_id"]: row for row in rows}
    for _ in range(draw(st.integers(1, 4))):
        if not present:
            break
        chosen = draw(st.sets(st.sampled_from(sorted(present)), min_size=1, max_size=4))
        if draw(st.booleans()) and draw(st.booleans()):
            done.append(("delete", sorted(chosen)))
            for event_id in chosen:
                del present[event_id]
            continue
        changed = []
        for event_id in sorted(chosen):
            other = draw(events(event_id))
            kept = draw(st.sets(st.sampled_from(sorted(other)), min_size=10))
            row = other | {name: present[event_id][name] for name in kept}
            if row["event_type"] in _OUTCOME_TYPES and row["status"] in ("RUNNING", "SKIPPED"):
                row["status"] = "COMPLETED"
            changed.append(row | {"event_id": event_id})
            present[event_id] = changed[-1]
        done.append(("update", changed))
    return done

"""Writes the same event in up to three forms: as its client sent it, and as servers store it.

A server stores an event as a row. At the top of the row it writes the status that the event's name
implies, for example COMPLETED for a `call.done`, whether or not the call succeeded. In `result` it
keeps what the client sent: the Rust server keeps the whole payload, and the Python server only the
result in it. A reader must get the same event from each form. Source: docs/spec/wire-shapes.md#s6,
#s7, #s16, #k3.
"""

from copy import deepcopy
from typing import Any, Final

import msgspec

from simulator import time_formats
from simulator.facts import Fact
from simulator.rendering import (
    EXPLICIT,
    FROM_PRODUCER,
    RenderChoices,
    RenderedEvent,
    report_call,
    report_outcome,
    report_status,
    sent_and_kept,
    start_event,
)
from simulator.rust_worker import payload
from simulator.status_words import StatusWord

_OF_NAME: Final = {
    "playbook.started": "RUNNING",
    "playbook.completed": "COMPLETED",
    "playbook.failed": "FAILED",
    "playbook.cancelled": "CANCELLED",
    "workflow.completed": "COMPLETED",
    "workflow.failed": "FAILED",
    "step.enter": "RUNNING",
    "step.exit": "COMPLETED",
    "step.failed": "FAILED",
    "step.skipped": "SKIPPED",
    "command.issued": "PENDING",
    "command.claimed": "RUNNING",
    "command.started": "RUNNING",
    "command.completed": "COMPLETED",
    "command.failed": "FAILED",
    "command.cancelled": "CANCELLED",
    "call.error": "FAILED",
    "call.done": "COMPLETED",
}
"""The words that a server writes at the top because of the name. Only these kinds are in layers."""

_OWN: Final = ("playbook.", "workflow.")
"""Events whose word at the top is their own, also when it says no more than the name."""
_SILENT: Final = StatusWord(None, "RUNNING", 0)
_WITH_RESULT: Final = ("call.done", "step.exit", "command.completed")
"""Kinds in which a Python worker sends the result of its tool."""
_OF_TOOLS: Final = ("success", "error", "failed", "cancelled", "timeout", "BREAK", "PARTIAL")
"""The words that a tool may use for itself. A step that handles it may end in any way."""
_NORMALIZED: Final = {"OK": "COMPLETED", "SUCCESS": "COMPLETED", "ERROR": "FAILED"}
"""Words that the Python server writes otherwise."""
_COMPACT: Final = ("command_id", "worker_id")
"""Keys of a payload that the Python server adds to what it keeps of the result."""


def client_report(fact: Fact, choices: RenderChoices) -> RenderedEvent:
    """Build the client's report: a payload, and nothing at the top that says how it ended."""
    created, created_us = time_formats.micros_z(fact.at_us)
    body: dict[str, Any] = {
        "execution_id": fact.execution.execution_id,
        "event_type": fact.kind,
        "event_id": fact.event_id,
        "step": fact.step,
        "created_at": created,
        "meta": {"attempts": fact.attempts},
    }
    rendered = start_event(body, fact, "unknown", fact.kind)
    reported = rendered.reported
    reported.step, reported.event_id = fact.step, fact.event_id
    reported.created_us, reported.created_rank = created_us, FROM_PRODUCER
    reported.attempts, reported.attempts_rank = fact.attempts, EXPLICIT
    if fact.kind == "call.done":
        word: str | None = choices.call_word(fact.outcome)
        report_outcome(reported, fact, None)
    elif fact.outcome or fact.kind == "command.issued":
        word = report_status(reported, choices.nested_word(fact))
    else:
        word = report_status(reported, _SILENT)
    by_python = fact.kind in _WITH_RESULT and not fact.pending and choices.random() < 0.5
    tool = choices.pick(_OF_TOOLS) if by_python else None
    sent, kept = sent_and_kept(
        rendered,
        lambda side: _with_result(payload(fact, word, side, plain=True), word, tool),
    )
    parent = fact.execution.parent
    if fact.kind == "playbook.started" and parent is not None:
        reported.parent_execution_id = parent.execution_id
        sent, kept = ({**one, "parent_execution_id": parent.text} for one in (sent, kept))
    body["payload"], reported.context = sent, kept
    report_call(reported, fact)
    reported.worker_id = kept.get("worker_id")
    return rendered


def _with_result(body: dict[str, Any], word: str | None, tool: str | None) -> dict[str, Any]:
    """Build a Python worker's payload. `tool` is the word of its tool, if it's one."""
    if tool is None:
        return body
    if "result" in body:
        return body | {"result": {"status": "COMPLETED", "context": body["result"]}}
    status = (word or "COMPLETED").upper()
    return body | {"result": {"status": status, "context": {"status": tool}}}


def stored_rows(client: RenderedEvent) -> tuple[RenderedEvent, ...]:
    """Build the rows that the Rust server and the Python server make of a client's report.

    For a `step.exit` or `command.completed` from a Rust worker, only the Rust server's row is
    built, because a row of the Python server wouldn't say how the step or command ended (#s16).
    """
    kind = client.fact.kind
    if kind not in _OF_NAME:
        return ()
    if kind in _WITH_RESULT[1:] and "result" not in client.body["payload"]:
        return (_rust_row(client),)
    return _rust_row(client), _python_row(client)


def _rust_row(client: RenderedEvent) -> RenderedEvent:
    fact, sent = client.fact, client.body
    previous = fact.caused_by or fact.event_id - 1
    row = _row(client, "rust_row", {})
    row.body |= {
        "catalog_id": None,
        "node_type": None,
        "parent_event_id": None,
        "prev_event_id": previous,
        "parent_execution_id": None,
        "context": None,
        "result": {"status": row.body["status"], "context": deepcopy(sent["payload"])},
        "error": None,
        "worker_id": None,
    }
    row.reported.result = {"status": row.body["status"], "context": client.reported.context}
    row.reported.extra = row.reported.extra | {"prev_event_id": previous}
    return row


def _python_row(client: RenderedEvent) -> RenderedEvent:
    row = _row(client, "python", {"persisted_event_id": str(client.fact.event_id)})
    row.body["event_time"] = row.body["created_at"]
    row.body["result"] = _python_result(deepcopy(client.body["payload"]), row.body["status"])
    row.reported.result = _python_result(client.reported.context, row.body["status"])
    sent, content = client.body["payload"], client.fact.content
    if content is not None and "data" in sent and isinstance(sent.get("result"), dict):
        dropped = set(content.rules)  # the row has no `data`, so nothing in it is repaired
        row.reported.rules = tuple(rule for rule in row.reported.rules if rule not in dropped)
    return row


def _python_result(sent: dict[str, Any], by_name: str) -> dict[str, Any]:
    """Return what the Python server keeps: the result's status and context, or the payload."""
    result = sent.get("result")
    if not isinstance(result, dict):
        return {"status": by_name, "context": sent}
    compact = {key: sent[key] for key in _COMPACT if key in sent}
    status = _NORMALIZED.get(result["status"].upper(), result["status"].upper())
    return {"status": status, "context": compact | result.get("context", result)}


def _row(client: RenderedEvent, shape: str, meta: dict[str, Any]) -> RenderedEvent:
    """Build the part of a row that both servers write in the same way.

    `meta` is added to the event's meta. Each server adds something different there, so that merging
    the second server's row into the first one's changes the stored row.
    """
    fact, sent = client.fact, client.body
    top = _OF_NAME[fact.kind]
    body: dict[str, Any] = {
        "event_id": fact.event_id,
        "execution_id": sent["execution_id"],
        "event_type": fact.kind,
        "status": top,
        "created_at": sent["created_at"],
        "node_id": fact.step,
        "node_name": fact.step,
        "meta": {"attempts": fact.attempts} | meta,
    }
    reported = msgspec.structs.replace(
        client.reported, shape=shape, context=None, meta=meta, extra={"node_id": fact.step}
    )
    if top != reported.status:
        reported.rules = (*reported.rules, "status_overruled")
    elif top == "FAILED":
        reported.status_rank = 2
    elif top != "COMPLETED" or fact.kind.startswith(_OWN):
        reported.status_rank = max(reported.status_rank, 2 if top == "CANCELLED" else 1)
    return RenderedEvent(body, reported, fact)

"""One event in its layers: what the client sent, and the row that each server makes of it.

A server writes at the top what the event's name says, and keeps what the client sent below its
result. A reader must get the same from every layer.
Source: docs/spec/wire-shapes.md#s6, #s7, #k3.
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
    "call.error": "FAILED",
    "call.done": "COMPLETED",
}
"""What a server writes at the top because of the name; only these kinds are in layers."""

_OWN: Final = ("playbook.", "workflow.")
"""Events whose word at the top is their own, also when it says no more than the name."""
_SILENT: Final = StatusWord(None, "RUNNING", 0)


def client_report(fact: Fact, choices: RenderChoices) -> RenderedEvent:
    """The client's report: a payload, and nothing at the top that says how it ended."""
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
    sent, kept = sent_and_kept(rendered, lambda side: payload(fact, word, side, plain=True))
    parent = fact.execution.parent
    if fact.kind == "playbook.started" and parent is not None:
        reported.parent_execution_id = parent.execution_id
        sent, kept = ({**one, "parent_execution_id": parent.text} for one in (sent, kept))
    body["payload"], reported.context = sent, kept
    report_call(reported, fact)
    reported.worker_id = kept.get("worker_id")
    return rendered


def stored_rows(client: RenderedEvent) -> tuple[RenderedEvent, ...]:
    """The rows that the Rust server and the Python server make of the client's report."""
    if client.fact.kind not in _OF_NAME:
        return ()
    return _rust_row(client), _python_row(client)


def _rust_row(client: RenderedEvent) -> RenderedEvent:
    fact, sent = client.fact, client.body
    row = _row(client, "rust_row")
    row.body |= {
        "catalog_id": None,
        "node_type": None,
        "parent_event_id": None,
        "prev_event_id": fact.caused_by,
        "parent_execution_id": None,
        "context": None,
        "result": {"kind": "data", "context": deepcopy(sent["payload"])},
        "error": None,
        "worker_id": None,
    }
    row.reported.result = {"kind": "data", "context": client.reported.context}
    if fact.caused_by is not None:
        row.reported.extra = row.reported.extra | {"prev_event_id": fact.caused_by}
    return row


def _python_row(client: RenderedEvent) -> RenderedEvent:
    row = _row(client, "python")
    status = {"status": row.reported.status}
    row.body["event_time"] = row.body["created_at"]
    row.body["result"] = {**status, "context": deepcopy(client.body["payload"])}
    row.reported.result = {**status, "context": client.reported.context}
    return row


def _row(client: RenderedEvent, shape: str) -> RenderedEvent:
    """What both rows have; the answer is the client's, and who declared it the row's own."""
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
        "meta": {"attempts": fact.attempts},
    }
    reported = msgspec.structs.replace(
        client.reported, shape=shape, context=None, extra={"node_id": fact.step}
    )
    if top != reported.status:
        reported.rules = (*reported.rules, "status_overruled")
    elif top == "FAILED":
        reported.status_rank = 2
    elif top != "COMPLETED" or fact.kind.startswith(_OWN):
        reported.status_rank = max(reported.status_rank, 2 if top == "CANCELLED" else 1)
    return RenderedEvent(body, reported, fact)

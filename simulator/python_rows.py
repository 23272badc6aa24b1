"""The rows that the Python server stored: outbox rows, and the flat rows of 2025.

Source: docs/spec/wire-shapes.md#python-server.
"""

from typing import Any

from simulator import time_formats
from simulator.facts import Fact
from simulator.python_server import command_id_value
from simulator.rendering import (
    FROM_PRODUCER,
    ONE_BASED,
    WITH_ERROR,
    RenderChoices,
    RenderedEvent,
    report_call,
    report_ids,
    report_outcome,
    report_time_of_id,
    sent_and_kept,
    server_context,
    start_event,
    write_status,
)


def stored_row(fact: Fact, choices: RenderChoices) -> RenderedEvent:
    """The outbox: int ids and three equal times. The engine's own rows count milliseconds."""
    execution, parent = fact.execution, fact.execution.parent
    created, created_us = time_formats.blank_offset(fact.at_us)
    body: dict[str, Any] = {
        "catalog_id": execution.catalog_id,
        "created_at": created,
        "event_id": fact.event_id,
        "event_time": created,
        "event_type": fact.kind,
        "execution_id": execution.execution_id,
        "frame_id": None,
        "ingest_time": created,
        "node_id": fact.step,
        "node_name": fact.step,
        "node_type": fact.node_type,
        "parent_event_id": fact.caused_by,
        "parent_execution_id": None if parent is None else parent.execution_id,
        "stage_id": None,
    }
    rendered = start_event(body, fact, "python", fact.kind)
    reported = rendered.reported
    report_ids(reported, fact)
    reported.created_us, reported.created_rank = created_us, FROM_PRODUCER
    reported.node_type, reported.parent_event_id = fact.node_type, fact.caused_by
    reported.parent_execution_id = body["parent_execution_id"]
    reported.extra = {"node_id": fact.step}
    _maybe_drop_created(rendered, choices)
    _maybe_frame(rendered, choices)
    if fact.kind == "call.done":
        word: str | None = choices.call_word(fact.outcome)
        top = "COMPLETED" if choices.random() < 0.5 else choices.pick(("RUNNING", "", "STARTED"))
        body["status"] = report_outcome(reported, fact, top)
    else:
        word = write_status(rendered, choices.top_word(fact))
    if fact.call is None:
        body["context"] = reported.context = server_context(fact)
        body["meta"] = {}
    else:
        _put_call(rendered, word, choices)
    return rendered


def _maybe_drop_created(rendered: RenderedEvent, choices: RenderChoices) -> None:
    """Rows of some releases have only one of the three times, or only that in their id."""
    body, reported, fact = rendered.body, rendered.reported, rendered.fact
    draw = choices.random()
    if draw >= 0.15:
        return
    del body["created_at"]
    if draw < 0.1:
        del body["event_time"]
    if draw < 0.05 and fact.kind != "call.done":
        del body["ingest_time"]
        report_time_of_id(reported, fact)


def _maybe_frame(rendered: RenderedEvent, choices: RenderChoices) -> None:
    """Frame and stage rows have a tenant, a stream and a schema."""
    if choices.random() < 0.1:
        kept = {
            "tenant_id": "t-1",
            "organization_id": "org-9",
            "stream_id": f"execution-{rendered.fact.execution.number}",
            "stream_version": rendered.fact.number,
            "producer": "engine",
            "idempotency_key": f"idem-{rendered.fact.number}",
            "envelope_checksum": "9f86d081884c7d65",
        }
        rendered.body.update(kept)
        rendered.reported.extra = rendered.reported.extra | kept


def _put_call(rendered: RenderedEvent, word: str | None, choices: RenderChoices) -> None:
    body, reported, fact = rendered.body, rendered.reported, rendered.fact
    call = fact.call
    assert call is not None
    report_call(reported, fact)
    body["command_id"] = command_id_value(call.command_id)
    meta: dict[str, Any] = {"actionable": True, "attempt": fact.attempts + 1}
    reported.attempts, reported.attempts_rank = fact.attempts, ONE_BASED
    if fact.kind == "command.issued":
        meta["max_attempts"] = reported.max_attempts = call.max_attempts
        body["context"], reported.context = sent_and_kept(
            rendered, lambda side: {"args": side.data}
        )
        body["result"] = reported.result = {"status": "PENDING"}
        reported.status_rank = 1
    elif fact.kind == "call.done":
        body["result"], reported.result = sent_and_kept(
            rendered, lambda side: {"status": word, "context": {"data": side.data}}
        )
        body["duration"] = fact.duration_ms
    if fact.worker is not None:
        meta["worker_id"] = reported.worker_id = fact.worker
    if fact.kind in WITH_ERROR and fact.error is not None:
        plain = choices.random() < 0.5
        body["error"] = fact.error[0] if plain else {"kind": "tool", "message": fact.error[0]}
    body["meta"] = reported.meta = meta


def legacy_row(fact: Fact, choices: RenderChoices) -> RenderedEvent:
    """The flat rows of 2025: old names, loop fields at the top, attempts from the queue."""
    event_type = choices.spelled(fact.kind, 0.95)
    execution = fact.execution
    body: dict[str, Any] = {
        "event_id": str(fact.event_id),
        "execution_id": execution.text,
        "catalog_id": str(execution.catalog_id),
        "node_id": f"{execution.text}-step-{fact.step}",
        "node_name": fact.step,
        "node_type": fact.node_type or "step",
        "event_type": event_type,
    }
    rendered = start_event(body, fact, "python", event_type)
    reported = rendered.reported
    report_ids(reported, fact)
    report_time_of_id(reported, fact)
    reported.node_type = body["node_type"]
    reported.extra = {"node_id": body["node_id"]}
    if fact.kind == "call.done":
        body["status"] = choices.call_word(fact.outcome)
        report_outcome(reported, fact, None, alone=True)
    else:
        write_status(rendered, choices.top_word(fact))
    if fact.call is None:
        body["context"] = reported.context = server_context(fact)
        body["meta"] = {}
    else:
        _put_flat_call(rendered, choices)
    return rendered


def _put_flat_call(rendered: RenderedEvent, choices: RenderChoices) -> None:
    body, reported, fact = rendered.body, rendered.reported, rendered.fact
    call = fact.call
    assert call is not None
    report_call(reported, fact)
    reported.command_id = reported.iteration = None
    if fact.kind == "call.done":
        body["duration"] = (fact.duration_ms or 0) / 1000
        reported.duration = body["duration"]
        body["result"], reported.result = sent_and_kept(rendered, lambda side: {"data": side.data})
    if fact.kind in WITH_ERROR and fact.error is not None:
        body["error"] = fact.error[0]
        body["stack_trace"] = "Traceback (most recent call last):\n  ..."
    if fact.worker is not None:
        body["trace_component"] = {"worker": {"id": fact.worker}}
        reported.worker_id = fact.worker
    if call.index:
        loop = {
            "loop_id": f"loop-{call.step}",
            "loop_name": "cities",
            "iterator": "city",
            "current_index": call.index,
            "current_item": {"name": "London"},
            "items_count": 2,
        }
        body |= loop
        reported.extra = reported.extra | loop
    tries = fact.attempts + 1
    if choices.random() < 0.5:
        meta = {"queue_meta": {"attempts": tries, "max_attempts": call.max_attempts}}
        body["meta"] = reported.meta = meta
    else:
        context = {"retry": {"attempt": tries, "max_attempts": call.max_attempts}}
        body["context"] = reported.context = context
    reported.max_attempts = call.max_attempts
    reported.attempts, reported.attempts_rank = fact.attempts, ONE_BASED

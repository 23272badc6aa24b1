"""The Rust server's forms: stream rows, requests that it took, its projector's envelopes.

Source: docs/spec/wire-shapes.md#rust-server.
"""

from typing import Any

from simulator import time_formats
from simulator.facts import Fact
from simulator.rendering import (
    EXPLICIT,
    FROM_PRODUCER,
    ONE_BASED,
    PayloadForm,
    RenderChoices,
    RenderedEvent,
    report_call,
    report_ids,
    report_outcome,
    report_status,
    report_time_of_id,
    sent_and_kept,
    server_context,
    start_event,
    write_status,
)
from simulator.rust_worker import payload, tool_result


def stream_row(fact: Fact, choices: RenderChoices) -> RenderedEvent:
    """Seventeen keys with explicit nulls. A worker's payload is in result.context."""
    event_type = choices.spelled(fact.kind, 0.2)
    execution, parent = fact.execution, fact.execution.parent
    created, created_us = (
        time_formats.millis_z if choices.random() < 0.7 else time_formats.nanos_z
    )(fact.at_us)
    body: dict[str, Any] = {
        "event_id": fact.event_id,
        "execution_id": execution.execution_id,
        "catalog_id": execution.catalog_id,
        "event_type": event_type,
        "status": "COMPLETED",
        "created_at": created,
        "node_id": fact.step,
        "node_name": fact.step,
        "node_type": fact.node_type,
        "parent_event_id": fact.caused_by,
        "prev_event_id": fact.caused_by,
        "parent_execution_id": None if parent is None else parent.execution_id,
        "context": None,
        "result": None,
        "meta": None,
        "error": None,
        "worker_id": None,
    }
    rendered = start_event(body, fact, "rust_row", event_type)
    reported = rendered.reported
    report_ids(reported, fact)
    reported.created_us, reported.created_rank = created_us, FROM_PRODUCER
    reported.node_type, reported.parent_event_id = fact.node_type, fact.caused_by
    reported.parent_execution_id = body["parent_execution_id"]
    reported.extra = {"node_id": fact.step}
    if fact.caused_by is not None:
        reported.extra["prev_event_id"] = fact.caused_by
    if fact.kind == "call.done":
        word = choices.call_word(fact.outcome)
        top = fact.outcome if choices.random() < 0.4 else "COMPLETED"
        body["status"] = report_outcome(reported, fact, top)
    else:
        body["status"] = report_status(reported, choices.top_word(fact, silent=False))
        word = body["status"].lower()
    _hang_on(rendered, word)
    return rendered


def _hang_on(rendered: RenderedEvent, word: str) -> None:
    """Add the optional parts of a row: its context or result, and its meta."""
    body, reported, fact = rendered.body, rendered.reported, rendered.fact
    call = fact.call
    report_call(reported, fact)
    if call is None:
        body["context"] = reported.context = server_context(fact) | {"workload": {"env": "dev"}}
        body["meta"] = reported.meta = {"emitter": "control_plane"}
        if fact.outcome:
            status = {"status": body["status"], "context": {"reason": "played"}}
            body["result"] = reported.result = status
    elif fact.kind == "command.issued":
        tool = {"kind": call.node_type}
        body["context"], reported.context = sent_and_kept(
            rendered, lambda side: {"tool_config": tool, "args": side.data}
        )
        body["meta"] = reported.meta = _issued_meta(fact)
        reported.attempts, reported.attempts_rank = fact.attempts, ONE_BASED
        reported.max_attempts = call.max_attempts
    else:
        body["result"], reported.result = sent_and_kept(
            rendered,
            lambda side: {
                "status": body["status"],
                "context": payload(fact, word, side, plain=False),
            },
        )
        body["meta"] = reported.meta = {"attempts": fact.attempts, "worker_id": fact.worker}
        reported.attempts, reported.attempts_rank = fact.attempts, EXPLICIT
        reported.worker_id = fact.worker


def _issued_meta(fact: Fact) -> dict[str, Any]:
    call, execution = fact.call, fact.execution
    assert call is not None
    return {
        "command_id": call.command_id,
        "step": fact.step,
        "tool_kind": call.node_type,
        "max_attempts": call.max_attempts,
        "attempt": fact.attempts + 1,
        "execution_id": str(execution.execution_id),
        "catalog_id": str(execution.catalog_id),
        "actionable": True,
    }


def event_request(fact: Fact, choices: RenderChoices) -> RenderedEvent:
    """EventRequest as its caller sends it: always with result_kind, maybe id, status, time."""
    old = choices.random() < 0.2
    text = fact.execution.text
    body: dict[str, Any] = {
        "execution_id": text if choices.random() < 0.7 or not text.isdigit() else int(text),
        "step": fact.step,
        "name" if old else "event_type": fact.kind,
        "result_kind": "data",
        "actionable": choices.random() < 0.5,
        "informative": True,
    }
    rendered = start_event(body, fact, "rust_request", fact.kind)
    reported = rendered.reported
    reported.step = fact.step
    reported.extra = {"result_kind": "data", "actionable": body["actionable"], "informative": True}
    if fact.kind == "call.done":
        word: str | None = choices.call_word(fact.outcome)
        top = report_outcome(reported, fact, None if old or choices.random() < 0.5 else "COMPLETED")
        _maybe_refer(rendered, choices)
    else:
        status_word = choices.nested_word(fact) if old else choices.top_word(fact)
        word = report_status(reported, status_word)
        top = None if old else word
    name = "payload" if choices.random() < 0.8 else "context"
    body[name], reported.context = sent_and_kept(
        rendered, lambda side: payload(fact, word, side, plain=False)
    )
    report_call(reported, fact)
    reported.worker_id = reported.context.get("worker_id")
    if top is not None:
        body["status"] = top
    if not old:
        _put_identity(rendered, choices)
    return rendered


def _maybe_refer(rendered: RenderedEvent, choices: RenderChoices) -> None:
    """A result too large for the event: a URI, or the events that hold its parts."""
    body, reported, fact = rendered.body, rendered.reported, rendered.fact
    draw = choices.random()
    kept: dict[str, Any]
    if draw < 0.05:
        kept = {"result_kind": "ref", "result_uri": f"noetl://execution/{fact.execution.text}/1"}
    elif draw < 0.1:
        kept = {"result_kind": "refs", "event_ids": [fact.event_id - 2, fact.event_id - 1]}
    else:
        return
    body |= kept
    reported.extra = reported.extra | kept


def _put_identity(rendered: RenderedEvent, choices: RenderChoices) -> None:
    """Add what newer callers send: worker, attempts, and often id and time."""
    body, reported, fact = rendered.body, rendered.reported, rendered.fact
    body["worker_id"] = reported.worker_id = fact.worker
    body["meta"] = {"attempts": fact.attempts}
    reported.attempts, reported.attempts_rank = fact.attempts, EXPLICIT
    if choices.random() < 0.3:
        body["event_id"] = choices.pick((None, "", 0, -1, "0"))
        return
    body["event_id"] = fact.event_id if choices.random() < 0.5 else str(fact.event_id)
    reported.event_id = fact.event_id
    if choices.random() < 0.2:
        report_time_of_id(reported, fact)
        return
    body["created_at"], reported.created_us = choices.pick(_REQUEST_TIMES)(fact.at_us)
    reported.created_rank = FROM_PRODUCER


_REQUEST_TIMES = (time_formats.nanos_z, time_formats.east, time_formats.west, time_formats.micros_z)


def projector_envelope(fact: Fact, choices: RenderChoices) -> RenderedEvent:
    """`timestamp`, often without a zone, and little else."""
    event_type = choices.spelled(fact.kind, 0.2)
    created, created_us = (time_formats.naive if choices.random() < 0.7 else time_formats.micros_z)(
        fact.at_us
    )
    body: dict[str, Any] = {
        "event_id": fact.event_id,
        "execution_id": fact.execution.execution_id,
        "event_type": event_type,
        "node_name": fact.step,
        "timestamp": created,
    }
    rendered = start_event(body, fact, "rust_projector", event_type)
    reported = rendered.reported
    reported.step, reported.event_id = fact.step, fact.event_id
    reported.created_us, reported.created_rank = created_us, FROM_PRODUCER
    if fact.kind == "call.done":
        body["status"] = report_outcome(reported, fact, "COMPLETED")
        word = choices.call_word(fact.outcome)
        body["result"], reported.result = sent_and_kept(
            rendered, lambda side: _projected(fact, word, side)
        )
    else:
        write_status(rendered, choices.top_word(fact))
        if fact.error is not None:
            body["error"] = {"kind": "tool", "code": "E1", "message": fact.error[0]}
    if fact.call is None:
        body["context"] = reported.context = server_context(fact)
        return rendered
    report_call(reported, fact)
    if fact.worker is not None:
        body["worker_id"] = reported.worker_id = fact.worker
    body["meta"] = {"attempts": fact.attempts, "command_id": fact.call.command_id}
    reported.meta = {"command_id": fact.call.command_id}
    reported.attempts, reported.attempts_rank = fact.attempts, EXPLICIT
    return rendered


def _projected(fact: Fact, word: str, side: PayloadForm) -> dict[str, Any]:
    result = tool_result(fact, word, side, plain=False)
    return {"status": "COMPLETED", "context": {"result": result, "error": side.error}}

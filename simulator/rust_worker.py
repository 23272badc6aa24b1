"""The Rust worker's forms: first WorkerEvent, now ExecutorEvent, and older executor forms.

Source: docs/spec/wire-shapes.md#workerevent, #executorevent.
"""

from typing import Any

from simulator import time_formats
from simulator.facts import Fact
from simulator.rendering import (
    EXPLICIT,
    FROM_PRODUCER,
    PayloadForm,
    RenderChoices,
    RenderedEvent,
    report_call,
    report_outcome,
    report_status,
    sent_and_kept,
    server_context,
    start_event,
)


def worker_event(fact: Fact, choices: RenderChoices) -> RenderedEvent:
    """Three keys: no id, no time, no attempts, and the step often only in the command's id."""
    body: dict[str, Any] = {
        "event_type": fact.kind,
        "execution_id": fact.execution.execution_id,
        "payload": None,
    }
    rendered = start_event(body, fact, "worker", fact.kind)
    reported = rendered.reported
    if fact.kind == "call.done":
        word: str | None = choices.call_word(fact.outcome)
        report_outcome(reported, fact, None)
    else:
        word = report_status(reported, choices.nested_word(fact))
    _put_payload(rendered, "payload", word, plain=True)
    call = fact.call
    if "step" in reported.context or (call is not None and call.named):
        reported.step = fact.step
    return rendered


def executor_event(fact: Fact, choices: RenderChoices) -> RenderedEvent:
    """Nine fields: what the worker has sent since it numbers its tries."""
    rendered = executor_six(fact, choices)
    body, reported = rendered.body, rendered.reported
    body["event_id"] = fact.event_id if choices.random() < 0.9 else str(fact.event_id)
    reported.event_id = fact.event_id
    if fact.worker is not None:
        body["worker_id"] = reported.worker_id = fact.worker
    body["meta"] = {"attempts": fact.attempts}
    reported.attempts, reported.attempts_rank = fact.attempts, EXPLICIT
    return rendered


def executor_six(fact: Fact, choices: RenderChoices) -> RenderedEvent:
    """Six fields: the first releases, and runs of the command line."""
    created, created_us = (
        time_formats.nanos_z if choices.random() < 0.8 else time_formats.micros_z
    )(fact.at_us)
    text = fact.execution.text
    body: dict[str, Any] = {
        "execution_id": int(text) if text.isdigit() and choices.random() < 0.8 else text,
        "event_type": fact.kind,
        "step": fact.step,
        "status": "COMPLETED",
        "created_at": created,
    }
    context = choices.random() < 0.97
    rendered = start_event(body, fact, "executor" if context else "unknown", fact.kind)
    reported = rendered.reported
    reported.step, reported.created_us, reported.created_rank = fact.step, created_us, FROM_PRODUCER
    if fact.kind == "call.done":
        word = choices.call_word(fact.outcome)
        top = fact.outcome if choices.random() < 0.3 else "COMPLETED"
        body["status"] = report_outcome(reported, fact, top)
    else:
        body["status"] = report_status(reported, choices.top_word(fact, silent=False))
        word = body["status"].lower()
    _put_payload(rendered, "context" if context else "payload", word, plain=False)
    return rendered


def _put_payload(rendered: RenderedEvent, name: str, word: str | None, *, plain: bool) -> None:
    fact, reported = rendered.fact, rendered.reported
    sent, kept = sent_and_kept(rendered, lambda side: payload(fact, word, side, plain=plain))
    rendered.body[name], reported.context = sent, kept
    report_call(reported, fact)
    reported.worker_id = kept.get("worker_id")


def payload(fact: Fact, word: str | None, side: PayloadForm, *, plain: bool) -> dict[str, Any]:
    """Build the payload of each kind. `word` is its status, if the kind has one."""
    call = fact.call
    if call is None:
        return _payload_of_step(fact, word, side)
    body: dict[str, Any] = {"command_id": call.command_id}
    match fact.kind:
        case "command.claimed":
            body["worker_id"] = fact.worker
        case "command.started":
            body |= {"worker_id": fact.worker, "step": fact.step}
        case "call.done":
            result = tool_result(fact, word, side, plain=plain)
            body |= {"call_index": call.index, "result": result}
        case "call.error":
            body |= {"call_index": call.index, "error": side.error}
        case "command.completed":
            body["status"] = word
            if fact.pending:
                body["pending_callback"] = True
        case "command.issued":
            body["input"] = side.data
        case _:
            body["error"] = side.error
    return body


def _payload_of_step(fact: Fact, word: str | None, side: PayloadForm) -> dict[str, Any]:
    body = server_context(fact)
    if word:
        body["status"] = word
    if fact.kind in ("step.exit", "step.failed"):
        body["data"] = side.data
    return body


def tool_result(fact: Fact, word: str | None, side: PayloadForm, *, plain: bool) -> dict[str, Any]:
    """A tool's result: flat as the old worker sent it, or one level deeper as the new one does."""
    inner: dict[str, Any] = {"status": word, "data": side.data}
    if side.error is not None:
        inner["error"] = side.error
        if plain:
            inner |= {"stdout": "", "stderr": "boom", "exit_code": 2}
    if fact.duration_ms is not None:
        inner["duration_ms"] = fact.duration_ms
    return inner if plain else {"status": word, "context": inner}

"""The Python server's and its workers' present forms: requests, batch items, emit requests.

Source: docs/spec/wire-shapes.md#python-server.
"""

from typing import Any

from simulator import attempt_fields, time_formats
from simulator.facts import Fact
from simulator.rendering import (
    FROM_PRODUCER,
    WITH_ERROR,
    PayloadForm,
    RenderChoices,
    RenderedEvent,
    report_call,
    report_ids,
    report_outcome,
    report_status,
    sent_and_kept,
    server_context,
    start_event,
    write_status,
)


def request(fact: Fact, choices: RenderChoices) -> RenderedEvent:
    """EventRequest, the form in use: no id, no status, no time."""
    rendered = batch_item(fact, choices)
    rendered.body["execution_id"] = fact.execution.text
    if fact.worker is not None and choices.random() < 0.8:
        rendered.body["worker_id"] = rendered.reported.worker_id = fact.worker
    return rendered


def batch_item(fact: Fact, choices: RenderChoices) -> RenderedEvent:
    """A request inside a batch: the outer object names its execution."""
    new_names = choices.random() < 0.8
    body: dict[str, Any] = {
        "step" if new_names else "node_name": fact.step,
        "name" if new_names else "event_type": fact.kind,
        "actionable": choices.random() < 0.5,
        "informative": True,
    }
    rendered = start_event(body, fact, "python", fact.kind)
    reported = rendered.reported
    reported.step = fact.step
    reported.extra = {"actionable": body["actionable"], "informative": True}
    call = fact.call
    if call is not None and not call.named and fact.kind == "command.claimed":
        body["step" if new_names else "node_name"] = "unknown"
        reported.step = ""
    if fact.kind == "call.done":
        word: str | None = choices.call_word(fact.outcome)
        report_outcome(reported, fact, None)
    else:
        word = report_status(reported, choices.nested_word(fact))
    variant = int(choices.random() * 6)
    sent, kept = sent_and_kept(rendered, lambda side: _payload(fact, word, side, variant))
    body["payload" if choices.random() < 0.9 else "context"], reported.context = sent, kept
    if call is None:
        body["meta"] = None
        return rendered
    report_call(reported, fact)
    reported.worker_id = kept.get("worker_id")
    meta: dict[str, Any] = {"command_id": command_id_value(call.command_id)}
    if fact.attempts and _numbers_retries(fact):
        way = choices.pick(attempt_fields.REQUEST_FIELDS)
        payloads = (sent,) if sent is kept else (sent, kept)
        attempt_fields.write_attempts(
            way, fact.attempts, reported, body=body, meta=meta, payloads=payloads
        )
    if choices.random() < 0.9 or reported.attempts_rank:
        body["meta"] = reported.meta = meta
    return rendered


def _numbers_retries(fact: Fact) -> bool:
    """Return whether the worker numbers retries.

    One execution in five runs under an older release, which doesn't.
    """
    return fact.execution.number % 5 > 0


def _payload(fact: Fact, word: str | None, side: PayloadForm, variant: int) -> dict[str, Any]:
    """Build a payload of the Python worker. `variant` decides where a call's outcome is."""
    call = fact.call
    if call is None:
        if fact.kind in ("playbook.started", "playbook.initialized", "subscription.delivered"):
            return server_context(fact)
        return {"status": word, "data": side.data} if word is not None else {"data": side.data}
    body: dict[str, Any] = {"command_id": command_id_value(call.command_id)}
    if side.error is not None and variant % 2:
        body["error"] = side.error
    elif side.error is not None:
        body["error"] = {"kind": "tool", "code": "E1", "message": side.error}
    match fact.kind:
        case "call.done":
            body |= {"loop_event_id": None, "loop_iteration_index": None}
            body |= {"duration_ms": fact.duration_ms} | _outcome(variant, word, side)
        case "command.claimed" | "command.started":
            body["worker_id"] = fact.worker
        case "command.completed":
            body |= {"status": word, "result": {"status": word, "context": side.data}}
            if fact.pending:
                body["pending_callback"] = True
        case "command.issued":
            body["input"] = side.data
        case _:
            pass
    return body


def _outcome(variant: int, word: str | None, side: PayloadForm) -> dict[str, Any]:
    """The six fields of a payload that may hold a call's outcome."""
    match variant:
        case 0:
            return {"status": word, "result": {"data": side.data}}
        case 1:
            return {
                "response": {"status": word, "data": side.data},
                "result": {"status": "COMPLETED", "context": {"row_count": 1}},
            }
        case 2:
            return {"result": {"status": "ok", "context": {"status": word, "data": side.data}}}
        case 3:
            return {"result": {"context": {"terminal_state": word, "data": side.data}}}
        case 4:
            return {"response": {"status": 503}, "result": {"status": word, "data": side.data}}
        case _:
            reference = {"ref": "noetl://r/1", "bytes": 7, "token_id": "t-1"}
            return {"result": {"status": word, "reference": reference, "context": side.data}}


def command_id_value(command_id: str) -> int | str:
    """A command's id as the Python server writes it: a number if it is one."""
    return int(command_id) if command_id.isdigit() else command_id


def emit_request(fact: Fact, choices: RenderChoices) -> RenderedEvent:
    """EventEmitRequest: everything, under either name, with any clock."""
    event_type = choices.spelled(fact.kind)
    execution, parent = fact.execution, fact.execution.parent
    created, created_us = choices.pick(time_formats.PYTHON_FORMATS)(fact.at_us)
    body: dict[str, Any] = {
        "execution_id": execution.text,
        "event_type" if choices.random() < 0.9 else "name": event_type,
        "event_id": fact.event_id if choices.random() < 0.5 else str(fact.event_id),
        "node_id": fact.step,
        "node_name" if choices.random() < 0.8 else "step": fact.step,
        "catalog_id": str(execution.catalog_id),
        "created_at": created,
    }
    rendered = start_event(body, fact, "python", event_type)
    reported = rendered.reported
    report_ids(reported, fact)
    reported.created_us, reported.created_rank = created_us, FROM_PRODUCER
    reported.extra = {"node_id": fact.step}
    if fact.node_type is not None:
        body["node_type"] = reported.node_type = fact.node_type
    if fact.caused_by is not None:
        body["parent_event_id"] = str(fact.caused_by)
        reported.parent_event_id = fact.caused_by
    if parent is not None:
        body["parent_execution_id"] = parent.text
        reported.parent_execution_id = parent.execution_id
    if fact.worker is not None:
        body["worker_id"] = reported.worker_id = fact.worker
    if fact.kind == "call.done":
        _put_outcome(rendered, choices)
    else:
        write_status(rendered, choices.top_word(fact))
    if fact.call is None:
        body["context"] = reported.context = server_context(fact)
    else:
        _put_call(rendered, choices)
    return rendered


def _put_outcome(rendered: RenderedEvent, choices: RenderChoices) -> None:
    """Write the outcome of a call: at the top, or in its result under a top that hides it."""
    body, reported, fact = rendered.body, rendered.reported, rendered.fact
    word = choices.call_word(fact.outcome)
    at_the_top = choices.random() < 0.5
    hiding = None if at_the_top else choices.pick(("COMPLETED", "RUNNING", "STARTED"))
    body["status"] = report_outcome(reported, fact, hiding) or word
    inner = "COMPLETED" if at_the_top else word
    build = _RESULTS[int(choices.random() * len(_RESULTS))]
    body["result"], reported.result = sent_and_kept(rendered, lambda side: build(inner, side))


_RESULTS = (
    lambda word, side: {"status": word, "data": side.data},
    lambda word, side: {"status": "COMPLETED", "context": {"status": word, "data": side.data}},
    lambda word, side: {"context": {"terminal_state": word, "data": side.data}},
    lambda word, side: {"context": {"result": {"status": word, "data": side.data}}},
    lambda word, side: {"context": {"result": {"context": {"status": word, "data": side.data}}}},
)
"""The five fields of a result that may hold a call's outcome."""


def _put_call(rendered: RenderedEvent, choices: RenderChoices) -> None:
    body, reported, fact = rendered.body, rendered.reported, rendered.fact
    assert fact.call is not None
    report_call(reported, fact)
    context: dict[str, Any] = {"command_id": command_id_value(fact.call.command_id)}
    if fact.pending:
        context["pending_callback"] = True
    body["context"] = reported.context = context
    if fact.kind == "call.done" and fact.duration_ms is not None:
        body["duration"] = fact.duration_ms / 1000
    if fact.kind in WITH_ERROR and fact.error is not None:
        body["error"] = fact.error[0]
        body["stack_trace"] = "Traceback (most recent call last): ..."
        reported.extra = reported.extra | {"stack_trace": body["stack_trace"]}
    meta: dict[str, Any] = {"actionable": True}
    body["meta"] = reported.meta = meta
    if not fact.attempts and choices.random() < 0.2:
        return
    way = choices.pick(attempt_fields.EMIT_FIELDS)
    attempt_fields.write_attempts(
        way, fact.attempts, reported, body=body, meta=meta, payloads=(context,)
    )
    if way == attempt_fields.CORRELATION and choices.random() < 0.3:
        body["meta"] = meta | {"attempts": choices.pick((-1, True, 1.5, "two", 40_000))}
        reported.rules = (*reported.rules, "attempts_invalid")

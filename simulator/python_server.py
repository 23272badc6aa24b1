"""What the Python server and its workers send now: requests, batch items, emit requests.

Source: wire-shapes, section 2.1.
"""

from typing import Any

from simulator import attempts, times
from simulator.facts import Fact
from simulator.telling import (
    FROM_PRODUCER,
    WITH_ERROR,
    Pen,
    Side,
    Telling,
    both_sides,
    place_of,
    say_call,
    say_outcome,
    say_status,
    telling,
)


def request(fact: Fact, pen: Pen) -> Telling:
    """EventRequest, the one really mounted: no id, no status, no time."""
    told = batch_item(fact, pen)
    told.body["execution_id"] = fact.execution.text
    if fact.worker is not None and pen.random() < 0.8:
        told.body["worker_id"] = told.says.worker_id = fact.worker
    return told


def batch_item(fact: Fact, pen: Pen) -> Telling:
    """A request as it stands in a batch: the outer object says whose it is."""
    new_names = pen.random() < 0.8
    body: dict[str, Any] = {
        "step" if new_names else "node_name": fact.step,
        "name" if new_names else "event_type": fact.kind,
        "actionable": pen.random() < 0.5,
        "informative": True,
    }
    told = telling(body, fact, "python", fact.kind)
    says = told.says
    says.step = fact.step
    says.extra = {"actionable": body["actionable"], "informative": True}
    call = fact.call
    if call is not None and not call.named and fact.kind == "command.claimed":
        body["step" if new_names else "node_name"] = "unknown"
        says.step = ""
    if fact.kind == "call.done":
        word: str | None = pen.call_word(fact.outcome)
        say_outcome(says, fact, None)
    else:
        word = say_status(says, pen.nested_word(fact))
    place = int(pen.random() * 6)
    sent, kept = both_sides(told, lambda side: _payload(fact, word, side, place))
    body["payload" if pen.random() < 0.9 else "context"], says.context = sent, kept
    if call is None:
        body["meta"] = None
        return told
    say_call(says, fact)
    says.worker_id = kept.get("worker_id")
    meta: dict[str, Any] = {"command_id": number(call.command_id)}
    if fact.attempts and pen.random() < 0.8:
        way = pen.pick(attempts.INSIDE)
        payloads = (sent,) if sent is kept else (sent, kept)
        attempts.tell(way, fact.attempts, says, body=body, meta=meta, payloads=payloads)
    if pen.random() < 0.9 or says.attempts_rank:
        body["meta"] = says.meta = meta
    return told


def _payload(fact: Fact, word: str | None, side: Side, place: int) -> dict[str, Any]:
    """A payload of the Python worker; `place` says where a call's outcome lies."""
    call = fact.call
    if call is None:
        if fact.kind in ("playbook.started", "playbook.initialized", "subscription.delivered"):
            return place_of(fact)
        return {"status": word, "data": side.data} if word is not None else {"data": side.data}
    body: dict[str, Any] = {"command_id": number(call.command_id)}
    if side.error is not None and place % 2:
        body["error"] = side.error
    elif side.error is not None:
        body["error"] = {"kind": "tool", "code": "E1", "message": side.error}
    match fact.kind:
        case "call.done":
            body |= {"loop_event_id": None, "loop_iteration_index": None}
            body |= {"duration_ms": fact.duration_ms} | _outcome(place, word, side)
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


def _outcome(place: int, word: str | None, side: Side) -> dict[str, Any]:
    """The six places in a payload where a call's outcome may lie."""
    match place:
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


def number(command_id: str) -> int | str:
    """A command's id as the Python server writes it: a number if it is one."""
    return int(command_id) if command_id.isdigit() else command_id


def emit_request(fact: Fact, pen: Pen) -> Telling:
    """EventEmitRequest: everything, under either name, with any clock."""
    event_type = pen.spelled(fact.kind)
    execution, parent = fact.execution, fact.execution.parent
    created, created_us = pen.pick(times.ANY)(fact.at_us)
    body: dict[str, Any] = {
        "execution_id": execution.text,
        "event_type" if pen.random() < 0.9 else "name": event_type,
        "event_id": fact.event_id if pen.random() < 0.5 else str(fact.event_id),
        "node_id": fact.step,
        "node_name" if pen.random() < 0.8 else "step": fact.step,
        "catalog_id": str(execution.catalog_id),
        "created_at": created,
    }
    told = telling(body, fact, "python", event_type)
    says = told.says
    says.step, says.event_id, says.catalog_id = fact.step, fact.event_id, execution.catalog_id
    says.created_us, says.created_rank = created_us, FROM_PRODUCER
    says.extra = {"node_id": fact.step}
    if fact.node_type is not None:
        body["node_type"] = says.node_type = fact.node_type
    if fact.caused_by is not None:
        body["parent_event_id"] = str(fact.caused_by)
        says.parent_event_id = fact.caused_by
    if parent is not None:
        body["parent_execution_id"] = parent.text
        says.parent_execution_id = parent.execution_id
    if fact.worker is not None:
        body["worker_id"] = says.worker_id = fact.worker
    if fact.kind == "call.done":
        _put_outcome(told, pen)
    else:
        top = say_status(says, pen.top_word(fact))
        if top is not None:
            body["status"] = top
    if fact.call is None:
        body["context"] = says.context = place_of(fact)
    else:
        _put_call(told, pen)
    return told


def _put_outcome(told: Telling, pen: Pen) -> None:
    """The outcome of a call: at the top, or in its result under a top that hides it."""
    body, says, fact = told.body, told.says, told.fact
    word = pen.call_word(fact.outcome)
    at_the_top = pen.random() < 0.5
    hiding = None if at_the_top else pen.pick(("COMPLETED", "RUNNING", "STARTED"))
    body["status"] = say_outcome(says, fact, hiding) or word
    inner = "COMPLETED" if at_the_top else word
    build = _RESULTS[int(pen.random() * len(_RESULTS))]
    body["result"], says.result = both_sides(told, lambda side: build(inner, side))


_RESULTS = (
    lambda word, side: {"status": word, "data": side.data},
    lambda word, side: {"status": "COMPLETED", "context": {"status": word, "data": side.data}},
    lambda word, side: {"context": {"terminal_state": word, "data": side.data}},
    lambda word, side: {"context": {"result": {"status": word, "data": side.data}}},
    lambda word, side: {"context": {"result": {"context": {"status": word, "data": side.data}}}},
)
"""The five places in a result where a call's outcome may lie."""


def _put_call(told: Telling, pen: Pen) -> None:
    body, says, fact = told.body, told.says, told.fact
    assert fact.call is not None
    say_call(says, fact)
    context: dict[str, Any] = {"command_id": number(fact.call.command_id)}
    if fact.pending:
        context["pending_callback"] = True
    body["context"] = says.context = context
    if fact.kind == "call.done" and fact.duration_ms is not None:
        body["duration"] = fact.duration_ms / 1000
    if fact.kind in WITH_ERROR and fact.error is not None:
        body["error"] = fact.error[0]
        body["stack_trace"] = "Traceback (most recent call last): ..."
        says.extra = says.extra | {"stack_trace": body["stack_trace"]}
    meta: dict[str, Any] = {"actionable": True}
    body["meta"] = says.meta = meta
    if not fact.attempts and pen.random() < 0.2:
        return
    way = pen.pick(attempts.EVERYWHERE)
    attempts.tell(way, fact.attempts, says, body=body, meta=meta, payloads=(context,))
    if way == attempts.CORRELATION and pen.random() < 0.3:
        body["meta"] = meta | {"attempts": pen.pick((-1, True, 1.5, "two", 40_000))}
        says.rules = (*says.rules, "attempts_invalid")

"""What the Python server and its workers send: emit requests, requests, stored rows, old flat rows.

Source: wire-shapes, section 2.1.
"""

from typing import Any

import msgspec

from simulator import attempts, times
from simulator.facts import Fact
from simulator.telling import (
    FROM_ID,
    FROM_PRODUCER,
    ONE_BASED,
    Pen,
    Says,
    Telling,
    seconds,
    telling,
)
from simulator.worker import NO_DATA

_WITH_ERROR = frozenset(("call.done", "call.error", "command.failed", "command.cancelled"))


def request(fact: Fact, pen: Pen) -> Telling:
    """EventRequest, the one really mounted: no id, no status, no time."""
    text = fact.execution.text
    told = batch_item(fact, pen)
    told.body["execution_id"] = text
    if fact.worker is not None and pen.random() < 0.8:
        told.body["worker_id"] = told.says.worker_id = fact.worker
    return told


def batch_item(fact: Fact, pen: Pen) -> Telling:
    """A request as it stands in a batch: the outer object says whose it is."""
    plain = pen.random() < 0.8
    event_type = fact.kind
    body: dict[str, Any] = {
        "step" if plain else "node_name": fact.step,
        "name" if plain else "event_type": event_type,
        "actionable": pen.random() < 0.5,
        "informative": True,
    }
    told = telling(body, fact, "python", event_type)
    says = told.says
    says.step = fact.step
    says.extra = {"actionable": body["actionable"], "informative": True}
    call = fact.call
    if call is not None and not call.named and fact.kind == "command.claimed":
        body["step" if plain else "node_name"] = "unknown"
        says.step = ""
    place = int(pen.random() * 4)
    word, says.status, says.status_rank = _inner_word(fact, pen)
    sent, kept = (_payload(fact, word, data, place) for data in _data(fact))
    if call is not None:
        _say_call(says, fact)
        says.worker_id = kept.get("worker_id")
        meta: dict[str, Any] = {"command_id": _number(call.command_id)}
        if fact.attempts and pen.random() < 0.8:
            payloads = (sent,) if sent is kept else (sent, kept)
            way = pen.pick(attempts.INSIDE)
            attempts.tell(way, fact.attempts, says, body=body, meta=meta, payloads=payloads)
        if pen.random() < 0.9:
            body["meta"] = says.meta = meta
        elif not says.attempts_rank:
            body["meta"] = None
        else:
            body["meta"] = says.meta = meta
    body["payload" if pen.random() < 0.9 else "context"] = sent
    says.context = kept
    return told


def _inner_word(fact: Fact, pen: Pen) -> tuple[str | None, str, int]:
    if fact.kind == "call.done":
        return pen.call_word(fact.outcome), fact.outcome, 1 if fact.outcome == "COMPLETED" else 2
    return pen.nested_word(fact)


def _payload(fact: Fact, word: str | None, data: Any, place: int) -> dict[str, Any]:
    """A payload of the Python worker; `place` says where a call's outcome lies."""
    call = fact.call
    if call is None:
        if fact.kind in ("playbook.started", "playbook.initialized"):
            return {"path": fact.execution.playbook, "version": fact.execution.version}
        return {"status": word, "data": data} if word is not None else {"data": data}
    body: dict[str, Any] = {"command_id": _number(call.command_id)}
    if fact.error is not None:
        body["error"] = fact.error
    match fact.kind:
        case "call.done":
            body |= {"loop_event_id": None, "loop_iteration_index": None}
            body |= {"duration_ms": fact.duration_ms} | _outcome(place, word, data)
        case "command.claimed" | "command.started":
            body["worker_id"] = fact.worker
        case "command.completed":
            body |= {"status": word, "result": {"status": word, "context": data}}
            if fact.pending:
                body["pending_callback"] = True
        case "command.issued":
            body["input"] = data
        case _:
            pass
    return body


def _outcome(place: int, word: str | None, data: Any) -> dict[str, Any]:
    match place:
        case 0:
            return {"status": word, "result": {"data": data}}
        case 1:
            return {
                "response": {"status": word, "data": data},
                "result": {"status": "COMPLETED", "context": {"row_count": 1}},
            }
        case 2:
            return {"result": {"status": "COMPLETED", "context": {"status": word, "data": data}}}
        case _:
            return {"result": {"status": "COMPLETED", "context": {"terminal_state": word}}}


def _number(command_id: str) -> int | str:
    return int(command_id) if command_id.isdigit() else command_id


def _data(fact: Fact) -> tuple[msgspec.Raw, msgspec.Raw]:
    """The fact's content as it is sent and as it may be kept."""
    if fact.content is None:
        return NO_DATA, NO_DATA
    return fact.content.sent, fact.content.kept


def _say_call(says: Says, fact: Fact) -> None:
    call = fact.call
    if call is None:
        return
    says.command_id, says.iteration = call.command_id, call.iteration
    if fact.kind in _WITH_ERROR:
        says.error = fact.error
    if fact.kind == "call.done":
        says.duration = seconds(fact.duration_ms)
    if fact.content is not None:
        says.rules = fact.content.rules


def emit_request(fact: Fact, pen: Pen) -> Telling:
    """EventEmitRequest: everything, under either name, with any clock."""
    event_type = pen.spelled(fact.kind)
    execution = fact.execution
    written, created_us = pen.pick(times.ANY)(fact.at_us)
    body: dict[str, Any] = {
        "execution_id": execution.text,
        "event_type" if pen.random() < 0.9 else "name": event_type,
        "event_id": fact.event_id if pen.random() < 0.5 else str(fact.event_id),
        "node_id": fact.step,
        "node_name" if pen.random() < 0.8 else "step": fact.step,
        "catalog_id": str(execution.catalog_id),
        "created_at": written,
    }
    told = telling(body, fact, "python", event_type)
    says = told.says
    says.step, says.event_id = fact.step, fact.event_id
    says.catalog_id = execution.catalog_id
    says.created_us, says.created_rank = created_us, FROM_PRODUCER
    says.extra = {"node_id": fact.step}
    if fact.node_type is not None:
        body["node_type"] = says.node_type = fact.node_type
    if fact.caused_by is not None:
        body["parent_event_id"] = str(fact.caused_by)
        says.parent_event_id = fact.caused_by
    if execution.parent is not None:
        body["parent_execution_id"] = execution.parent.text
        says.parent_execution_id = execution.parent.execution_id
    if fact.worker is not None:
        body["worker_id"] = says.worker_id = fact.worker
    _emit_status(told, pen)
    if fact.call is not None:
        _emit_call(told, pen)
    elif fact.kind in ("playbook.started", "playbook.initialized"):
        body["context"] = says.context = {"path": execution.playbook, "version": execution.version}
    return told


def _emit_status(told: Telling, pen: Pen) -> None:
    body, says, fact = told.body, told.says, told.fact
    if fact.kind != "call.done":
        said = pen.top_word(fact)
        says.status, says.status_rank = said.means, said.rank
        if said.word is not None:
            body["status"] = said.word
        return
    word = pen.call_word(fact.outcome)
    sent, kept = _data(fact)
    says.status, says.status_rank = fact.outcome, 1 if fact.outcome == "COMPLETED" else 2
    if pen.random() < 0.5:
        body["status"] = word
        body["result"] = {"status": "COMPLETED", "context": {"data": sent}}
        says.result = {"status": "COMPLETED", "context": {"data": kept}}
    else:
        body["status"] = pen.pick(("COMPLETED", "RUNNING", "STARTED"))
        body["result"] = {"status": word, "context": {"data": sent}}
        says.result = {"status": word, "context": {"data": kept}}


def _emit_call(told: Telling, pen: Pen) -> None:
    body, says, fact = told.body, told.says, told.fact
    call = fact.call
    if call is None:
        return
    _say_call(says, fact)
    context: dict[str, Any] = {"command_id": _number(call.command_id)}
    body["context"] = says.context = context
    if fact.kind != "call.done":
        says.rules = ()
    elif fact.duration_ms is not None:
        body["duration"] = fact.duration_ms / 1000
    if fact.kind in _WITH_ERROR and fact.error is not None:
        body["error"] = fact.error
        body["stack_trace"] = "Traceback (most recent call last): ..."
    meta: dict[str, Any] = {"actionable": True}
    body["meta"] = says.meta = meta
    if not fact.attempts and pen.random() < 0.2:
        return
    way = pen.pick(attempts.EVERYWHERE)
    attempts.tell(way, fact.attempts, says, body=body, meta=meta, payloads=(context,))
    if way == attempts.CORRELATION and pen.random() < 0.3:
        meta["attempts"] = pen.pick((-1, True, 1.5))
        says.rules = (*says.rules, "attempts_invalid")


def stored_row(fact: Fact, pen: Pen) -> Telling:
    """The outbox: int ids, three equal times; the engine's own rows count milliseconds."""
    execution = fact.execution
    written, created_us = times.blank_offset(fact.at_us)
    body: dict[str, Any] = {
        "catalog_id": execution.catalog_id,
        "created_at": written,
        "event_id": fact.event_id,
        "event_time": written,
        "event_type": fact.kind,
        "execution_id": execution.execution_id,
        "frame_id": None,
        "ingest_time": written,
        "node_id": fact.step,
        "node_name": fact.step,
        "node_type": fact.node_type,
        "parent_event_id": fact.caused_by,
        "parent_execution_id": None if execution.parent is None else execution.parent.execution_id,
        "stage_id": None,
    }
    told = telling(body, fact, "python", fact.kind)
    says = told.says
    says.step, says.event_id, says.catalog_id = fact.step, fact.event_id, execution.catalog_id
    says.created_us, says.created_rank = created_us, FROM_PRODUCER
    says.node_type, says.parent_event_id = fact.node_type, fact.caused_by
    says.parent_execution_id = body["parent_execution_id"]
    says.extra = {"node_id": fact.step}
    if fact.kind == "call.done":
        word: str | None = pen.call_word(fact.outcome)
        says.status, says.status_rank = fact.outcome, 1 if fact.outcome == "COMPLETED" else 2
        body["status"] = "COMPLETED" if fact.outcome == "COMPLETED" else pen.pick(("RUNNING", ""))
    else:
        word, says.status, says.status_rank = pen.top_word(fact)
        if word is not None:
            body["status"] = word
    if fact.call is None:
        if fact.kind.startswith("playbook"):
            body["context"] = says.context = {
                "path": execution.playbook,
                "version": execution.version,
            }
        body["meta"] = {}
        return told
    _row_call(told, word, pen)
    return told


def _row_call(told: Telling, word: str | None, pen: Pen) -> None:
    body, says, fact = told.body, told.says, told.fact
    call = fact.call
    if call is None:
        return
    _say_call(says, fact)
    body["command_id"] = _number(call.command_id)
    says.worker_id = fact.worker
    meta: dict[str, Any] = {"actionable": True, "attempt": fact.attempts + 1}
    says.attempts, says.attempts_rank = fact.attempts, ONE_BASED
    sent, kept = _data(fact)
    if fact.kind == "command.issued":
        meta["max_attempts"] = says.max_attempts = call.max_attempts
        body["context"] = {"args": sent}
        says.context = {"args": kept}
        body["result"] = says.result = {"status": "PENDING"}
    elif fact.kind == "call.done":
        body["result"] = {"status": word, "context": {"data": sent}}
        says.result = {"status": word, "context": {"data": kept}}
        body["duration"] = fact.duration_ms
    else:
        says.rules = ()
        body["result"] = says.result = None
    if fact.worker is not None:
        meta["worker_id"] = fact.worker
    if fact.error is not None:
        plain = pen.random() < 0.5
        body["error"] = fact.error if plain else {"kind": "tool", "message": fact.error}
    body["meta"] = says.meta = meta


def legacy_row(fact: Fact, pen: Pen) -> Telling:
    """The flat rows of 2025: old names, loop fields at the top, attempts from the queue."""
    event_type = pen.spelled(fact.kind, 0.95)
    body: dict[str, Any] = {
        "execution_id": fact.execution.text,
        "catalog_id": str(fact.execution.catalog_id),
        "node_id": f"{fact.execution.text}-step-{fact.step}",
        "node_name": fact.step,
        "node_type": fact.node_type or "step",
        "event_type": event_type,
    }
    told = telling(body, fact, "python", event_type)
    says = told.says
    says.step, says.catalog_id = fact.step, fact.execution.catalog_id
    says.node_type = body["node_type"]
    says.extra = {"node_id": body["node_id"]}
    says.created_rank = FROM_ID
    body["event_id"] = str(fact.event_id)
    says.event_id = fact.event_id
    if fact.kind == "call.done":
        body["status"] = pen.call_word(fact.outcome)
        says.status, says.status_rank = fact.outcome, 1 if fact.outcome == "COMPLETED" else 2
    else:
        said = pen.top_word(fact)
        says.status, says.status_rank = said.means, said.rank
        if said.word is not None:
            body["status"] = said.word
    call = fact.call
    if fact.kind in ("playbook.started", "playbook.initialized"):
        body["context"] = says.context = {
            "path": fact.execution.playbook,
            "version": fact.execution.version,
        }
    if call is None:
        body["meta"] = {}
        return told
    _legacy_call(told, pen)
    return told


def _legacy_call(told: Telling, pen: Pen) -> None:
    body, says, fact = told.body, told.says, told.fact
    call = fact.call
    if call is None:
        return
    _say_call(says, fact)
    says.command_id = says.iteration = None
    if fact.kind == "call.done":
        sent, kept = _data(fact)
        body["duration"] = (fact.duration_ms or 0) / 1000
        body["result"] = {"data": sent}
        says.result = {"data": kept}
    else:
        says.rules = ()
    if fact.kind in _WITH_ERROR and fact.error is not None:
        body["error"] = fact.error
        body["stack_trace"] = "Traceback (most recent call last):\n  ..."
    if fact.worker is not None:
        body["trace_component"] = {"worker": {"id": fact.worker}}
        says.worker_id = fact.worker
    if call.iteration is not None:
        body |= {
            "loop_id": f"loop-{call.step}",
            "loop_name": "cities",
            "iterator": "city",
            "current_index": call.index,
            "current_item": {"name": "London"},
            "items_count": 2,
        }
        says.extra = {**(says.extra or {}), "loop_name": "cities", "current_index": call.index}
    says.attempts, says.attempts_rank = fact.attempts, ONE_BASED
    if pen.random() < 0.5:
        queue = {"attempts": fact.attempts + 1, "max_attempts": call.max_attempts}
        body["meta"] = says.meta = {"queue_meta": queue}
        says.max_attempts = call.max_attempts
    else:
        body["context"] = says.context = {
            "retry": {"attempt": fact.attempts + 1, "max_attempts": call.max_attempts}
        }
        says.max_attempts = call.max_attempts

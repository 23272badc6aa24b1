"""What the Rust server writes: stream rows, requests it took, its projector's envelopes.

Source: wire-shapes, section 2.2.
"""

from typing import Any

from simulator import times
from simulator.facts import Fact
from simulator.telling import (
    EXPLICIT,
    FROM_PRODUCER,
    ONE_BASED,
    Pen,
    Side,
    Telling,
    both_sides,
    place_of,
    say_call,
    say_outcome,
    say_status,
    say_time_of_id,
    telling,
)
from simulator.worker import payload, tool_result


def stream_row(fact: Fact, pen: Pen) -> Telling:
    """Seventeen keys with explicit nulls; a worker's payload lies in result.context."""
    event_type = pen.spelled(fact.kind, 0.2)
    execution, parent = fact.execution, fact.execution.parent
    created, created_us = (times.millis_z if pen.random() < 0.7 else times.nanos_z)(fact.at_us)
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
    told = telling(body, fact, "rust_row", event_type)
    says = told.says
    says.step, says.event_id, says.catalog_id = fact.step, fact.event_id, execution.catalog_id
    says.created_us, says.created_rank = created_us, FROM_PRODUCER
    says.node_type, says.parent_event_id = fact.node_type, fact.caused_by
    says.parent_execution_id = body["parent_execution_id"]
    says.extra = {"node_id": fact.step}
    if fact.caused_by is not None:
        says.extra["prev_event_id"] = fact.caused_by
    if fact.kind == "call.done":
        word = pen.call_word(fact.outcome)
        top = fact.outcome if pen.random() < 0.4 else "COMPLETED"
        body["status"] = say_outcome(says, fact, top)
    else:
        body["status"] = say_status(says, pen.top_word(fact, silent=False))
        word = body["status"].lower()
    _hang_on(told, word)
    return told


def _hang_on(told: Telling, word: str) -> None:
    """What hangs on a row: its context or result, and its meta."""
    body, says, fact = told.body, told.says, told.fact
    call = fact.call
    say_call(says, fact)
    if call is None:
        body["context"] = says.context = place_of(fact) | {"workload": {"env": "dev"}}
        body["meta"] = says.meta = {"emitter": "control_plane"}
        if fact.outcome:
            status = {"status": body["status"], "context": {"reason": "played"}}
            body["result"] = says.result = status
    elif fact.kind == "command.issued":
        tool = {"kind": call.node_type}
        body["context"], says.context = both_sides(
            told, lambda side: {"tool_config": tool, "args": side.data}
        )
        body["meta"] = says.meta = _issued_meta(fact)
        says.attempts, says.attempts_rank = fact.attempts, ONE_BASED
        says.max_attempts = call.max_attempts
    else:
        body["result"], says.result = both_sides(
            told,
            lambda side: {
                "status": body["status"],
                "context": payload(fact, word, side, plain=False),
            },
        )
        body["meta"] = says.meta = {"attempts": fact.attempts, "worker_id": fact.worker}
        says.attempts, says.attempts_rank = fact.attempts, EXPLICIT
        says.worker_id = fact.worker


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


def event_request(fact: Fact, pen: Pen) -> Telling:
    """EventRequest as its caller sends it: result_kind always; id, status, time if it has them."""
    old = pen.random() < 0.2
    text = fact.execution.text
    body: dict[str, Any] = {
        "execution_id": text if pen.random() < 0.7 or not text.isdigit() else int(text),
        "step": fact.step,
        "name" if old else "event_type": fact.kind,
        "result_kind": "data",
        "actionable": pen.random() < 0.5,
        "informative": True,
    }
    told = telling(body, fact, "rust_request", fact.kind)
    says = told.says
    says.step = fact.step
    says.extra = {"result_kind": "data", "actionable": body["actionable"], "informative": True}
    if fact.kind == "call.done":
        word: str | None = pen.call_word(fact.outcome)
        top = say_outcome(says, fact, None if old or pen.random() < 0.5 else "COMPLETED")
        _maybe_refer(told, pen)
    else:
        said = pen.nested_word(fact) if old else pen.top_word(fact)
        word = say_status(says, said)
        top = None if old else word
    name = "payload" if pen.random() < 0.8 else "context"
    body[name], says.context = both_sides(told, lambda side: payload(fact, word, side, plain=False))
    say_call(says, fact)
    says.worker_id = says.context.get("worker_id")
    if top is not None:
        body["status"] = top
    if not old:
        _put_identity(told, pen)
    return told


def _maybe_refer(told: Telling, pen: Pen) -> None:
    """A result too large for the event: a URI, or the events that hold its parts."""
    body, says, fact = told.body, told.says, told.fact
    draw = pen.random()
    kept: dict[str, Any]
    if draw < 0.05:
        kept = {"result_kind": "ref", "result_uri": f"noetl://execution/{fact.execution.text}/1"}
    elif draw < 0.1:
        kept = {"result_kind": "refs", "event_ids": [fact.event_id - 2, fact.event_id - 1]}
    else:
        return
    body |= kept
    says.extra = says.extra | kept


def _put_identity(told: Telling, pen: Pen) -> None:
    """What newer callers know: worker, attempts, and often id and time."""
    body, says, fact = told.body, told.says, told.fact
    body["worker_id"] = says.worker_id = fact.worker
    body["meta"] = {"attempts": fact.attempts}
    says.attempts, says.attempts_rank = fact.attempts, EXPLICIT
    if pen.random() < 0.3:
        body["event_id"] = pen.pick((None, "", 0, -1, "0"))
        return
    body["event_id"] = fact.event_id if pen.random() < 0.5 else str(fact.event_id)
    says.event_id = fact.event_id
    if pen.random() < 0.2:
        say_time_of_id(says, fact)
        return
    body["created_at"], says.created_us = pen.pick(_REQUEST_TIMES)(fact.at_us)
    says.created_rank = FROM_PRODUCER


_REQUEST_TIMES = (times.nanos_z, times.east, times.west, times.micros_z)


def projector_envelope(fact: Fact, pen: Pen) -> Telling:
    """`timestamp`, often without a zone, and little else."""
    event_type = pen.spelled(fact.kind, 0.2)
    created, created_us = (times.naive if pen.random() < 0.7 else times.micros_z)(fact.at_us)
    body: dict[str, Any] = {
        "event_id": fact.event_id,
        "execution_id": fact.execution.execution_id,
        "event_type": event_type,
        "node_name": fact.step,
        "timestamp": created,
    }
    told = telling(body, fact, "rust_projector", event_type)
    says = told.says
    says.step, says.event_id = fact.step, fact.event_id
    says.created_us, says.created_rank = created_us, FROM_PRODUCER
    if fact.kind == "call.done":
        body["status"] = say_outcome(says, fact, "COMPLETED")
        word = pen.call_word(fact.outcome)
        body["result"], says.result = both_sides(told, lambda side: _projected(fact, word, side))
    else:
        top = say_status(says, pen.top_word(fact))
        if top is not None:
            body["status"] = top
        if fact.error is not None:
            body["error"] = {"kind": "tool", "code": "E1", "message": fact.error[0]}
    if fact.call is None:
        body["context"] = says.context = place_of(fact)
        return told
    say_call(says, fact)
    if fact.worker is not None:
        body["worker_id"] = says.worker_id = fact.worker
    body["meta"] = {"attempts": fact.attempts, "command_id": fact.call.command_id}
    says.meta = {"command_id": fact.call.command_id}
    says.attempts, says.attempts_rank = fact.attempts, EXPLICIT
    return told


def _projected(fact: Fact, word: str, side: Side) -> dict[str, Any]:
    result = tool_result(fact, word, side, plain=False)
    return {"status": "COMPLETED", "context": {"result": result, "error": side.error}}

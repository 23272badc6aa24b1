"""What the Rust server writes: stream rows, requests it took, its projector's envelopes.

Source: wire-shapes, section 2.2.
"""

from typing import Any

from simulator import times
from simulator.facts import Fact
from simulator.telling import (
    EXPLICIT,
    FROM_ID,
    FROM_PRODUCER,
    ONE_BASED,
    Pen,
    Says,
    Telling,
    seconds,
    telling,
)
from simulator.worker import NO_DATA, tool_result
from simulator.worker import payload as worker_payload


def stream_row(fact: Fact, pen: Pen) -> Telling:
    """Seventeen keys with explicit nulls; a worker's payload lies in result.context."""
    event_type = pen.spelled(fact.kind, 0.2)
    execution = fact.execution
    written, created_us = (times.millis_z if pen.random() < 0.7 else times.nanos_z)(fact.at_us)
    if fact.kind == "call.done":
        word = pen.call_word(fact.outcome)
        top = "COMPLETED" if pen.random() < 0.6 else fact.outcome
        status, rank = fact.outcome, 1 if fact.outcome == "COMPLETED" else 2
    else:
        said = pen.top_word(fact, silent=False)
        top, status, rank = said.word or "", said.means, said.rank
        word = top.lower()
    parent = execution.parent
    body: dict[str, Any] = {
        "event_id": fact.event_id,
        "execution_id": execution.execution_id,
        "catalog_id": execution.catalog_id,
        "event_type": event_type,
        "status": top,
        "created_at": written,
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
    says.step, says.status, says.status_rank = fact.step, status, rank
    says.event_id = fact.event_id
    says.created_us, says.created_rank = created_us, FROM_PRODUCER
    says.catalog_id, says.node_type = execution.catalog_id, fact.node_type
    says.parent_event_id = fact.caused_by
    says.parent_execution_id = None if parent is None else parent.execution_id
    says.extra = {"node_id": fact.step}
    if fact.caused_by is not None:
        says.extra["prev_event_id"] = fact.caused_by
    _row_payload(told, word)
    return told


def _row_payload(told: Telling, word: str) -> None:
    """What hangs on a row: its context or result, and its meta."""
    body, says, fact = told.body, told.says, told.fact
    call, execution = fact.call, fact.execution
    if fact.kind in ("playbook.started", "playbook.initialized"):
        body["context"] = says.context = {
            "path": execution.playbook,
            "version": execution.version,
            "workload": {"env": "dev"},
        }
        body["meta"] = says.meta = {"emitter": "control_plane"}
    elif fact.kind == "command.issued" and call is not None:
        body["context"] = {"tool_config": {"kind": call.node_type}, "args": _data(fact, sent=True)}
        says.context = {"tool_config": {"kind": call.node_type}, "args": _data(fact, sent=False)}
        body["meta"] = says.meta = {
            "command_id": call.command_id,
            "step": fact.step,
            "tool_kind": call.node_type,
            "max_attempts": call.max_attempts,
            "attempt": fact.attempts + 1,
            "execution_id": str(execution.execution_id),
            "catalog_id": str(execution.catalog_id),
            "actionable": True,
        }
        says.attempts, says.attempts_rank = fact.attempts, ONE_BASED
        says.max_attempts = call.max_attempts
    elif call is not None:
        inner = worker_payload(fact, word, _data(fact, sent=True), plain=False)
        kept = worker_payload(fact, word, _data(fact, sent=False), plain=False)
        body["result"] = {"status": body["status"], "context": inner}
        says.result = {"status": body["status"], "context": kept}
        body["meta"] = says.meta = {"attempts": fact.attempts, "worker_id": fact.worker}
        says.attempts, says.attempts_rank = fact.attempts, EXPLICIT
    else:
        body["result"] = says.result = {"status": body["status"], "context": {"reason": "played"}}
    if call is not None:
        _say_call(says, fact)


def _say_call(says: Says, fact: Fact) -> None:
    call = fact.call
    if call is None:
        return
    says.command_id, says.iteration = call.command_id, call.iteration
    says.worker_id = fact.worker
    if fact.kind in ("call.done", "call.error", "command.failed", "command.cancelled"):
        says.error = fact.error
    if fact.kind == "call.done":
        says.duration = seconds(fact.duration_ms)
    if fact.content is not None:
        says.rules = fact.content.rules


def _data(fact: Fact, *, sent: bool) -> Any:
    if fact.content is None:
        return NO_DATA
    return fact.content.sent if sent else fact.content.kept


def event_request(fact: Fact, pen: Pen) -> Telling:
    """EventRequest: result_kind always; id, status and time if the caller has them."""
    old = pen.random() < 0.2
    event_type = fact.kind
    if fact.kind == "call.done":
        word: str | None = pen.call_word(fact.outcome)
        status, rank = fact.outcome, 1 if fact.outcome == "COMPLETED" else 2
        top: str | None = None if pen.random() < 0.5 else "COMPLETED"
    else:
        said = pen.nested_word(fact) if old else pen.top_word(fact)
        word, status, rank = said
        top = said.word
    sent = worker_payload(fact, word, _data(fact, sent=True), plain=False)
    kept = worker_payload(fact, word, _data(fact, sent=False), plain=False)
    text = fact.execution.text
    body: dict[str, Any] = {
        "execution_id": text if pen.random() < 0.7 or not text.isdigit() else int(text),
        "step": fact.step,
        "name" if old else "event_type": event_type,
        "result_kind": "data",
        "payload" if pen.random() < 0.8 else "context": sent,
        "actionable": pen.random() < 0.5,
        "informative": True,
    }
    told = telling(body, fact, "rust_request", event_type)
    says = told.says
    says.step, says.status, says.status_rank = fact.step, status, rank
    says.context = kept
    says.extra = {"result_kind": "data", "actionable": body["actionable"], "informative": True}
    _say_call(says, fact)
    says.worker_id = kept.get("worker_id")
    if old:
        return told
    if top is not None:
        body["status"] = top
    body["worker_id"] = says.worker_id = fact.worker
    body["meta"] = says.meta = {"attempts": fact.attempts}
    says.attempts, says.attempts_rank = fact.attempts, EXPLICIT
    if pen.random() < 0.3:
        body["event_id"] = pen.pick((None, "", 0))
        return told
    body["event_id"] = fact.event_id if pen.random() < 0.5 else str(fact.event_id)
    says.event_id = fact.event_id
    if pen.random() < 0.2:
        says.created_rank = FROM_ID
        return told
    written, says.created_us = (times.nanos_z if pen.random() < 0.7 else times.east)(fact.at_us)
    body["created_at"], says.created_rank = written, FROM_PRODUCER
    return told


def projector_envelope(fact: Fact, pen: Pen) -> Telling:
    """`timestamp`, often without a zone, and little else."""
    event_type = pen.spelled(fact.kind, 0.2)
    written, created_us = (times.naive if pen.random() < 0.7 else times.micros_z)(fact.at_us)
    body: dict[str, Any] = {
        "event_id": fact.event_id,
        "execution_id": fact.execution.execution_id,
        "event_type": event_type,
        "node_name": fact.step,
        "timestamp": written,
    }
    told = telling(body, fact, "rust_projector", event_type)
    says = told.says
    if fact.kind == "call.done":
        word = pen.call_word(fact.outcome)
        nested = {"result": tool_result(fact, word, NO_DATA, plain=False)}
        body["result"] = says.result = {"status": word, "context": nested}
        says.status, says.status_rank = fact.outcome, 1 if fact.outcome == "COMPLETED" else 2
        body["status"] = "COMPLETED"
    else:
        said = pen.top_word(fact)
        says.status, says.status_rank = said.means, said.rank
        if said.word is not None:
            body["status"] = said.word
    says.step, says.event_id = fact.step, fact.event_id
    says.created_us, says.created_rank = created_us, FROM_PRODUCER
    if fact.kind in ("playbook.started", "playbook.initialized"):
        body["context"] = says.context = {
            "path": fact.execution.playbook,
            "version": fact.execution.version,
        }
    if fact.call is not None:
        _say_call(says, fact)
        says.rules = ()
        body["meta"] = says.meta = {
            "attempts": fact.attempts,
            "command_id": fact.call.command_id,
        }
        says.attempts, says.attempts_rank = fact.attempts, EXPLICIT
        if fact.worker is not None:
            body["worker_id"] = fact.worker
        if fact.error is not None:
            body["error"] = {"kind": "tool", "code": "E1", "message": fact.error}
    return told

"""What the Rust worker says: WorkerEvent before, ExecutorEvent since; the executor's own old forms.

Source: wire-shapes, sections 2.3 and 2.4.
"""

from typing import Any

from simulator import times
from simulator.facts import Fact
from simulator.telling import (
    EXPLICIT,
    FROM_PRODUCER,
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


def worker_event(fact: Fact, pen: Pen) -> Telling:
    """Three keys: no id, no time, no attempts; the step often only inside the command's id."""
    body: dict[str, Any] = {
        "event_type": fact.kind,
        "execution_id": fact.execution.execution_id,
        "payload": None,
    }
    told = telling(body, fact, "worker", fact.kind)
    says = told.says
    if fact.kind == "call.done":
        word: str | None = pen.call_word(fact.outcome)
        say_outcome(says, fact, None)
    else:
        word = say_status(says, pen.nested_word(fact))
    _put_payload(told, "payload", word, plain=True)
    call = fact.call
    if "step" in says.context or (call is not None and call.named):
        says.step = fact.step
    return told


def executor_event(fact: Fact, pen: Pen) -> Telling:
    """Nine fields: what the worker has sent since it numbers its tries."""
    told = executor_six(fact, pen)
    body, says = told.body, told.says
    body["event_id"] = fact.event_id if pen.random() < 0.9 else str(fact.event_id)
    says.event_id = fact.event_id
    if fact.worker is not None:
        body["worker_id"] = says.worker_id = fact.worker
    body["meta"] = {"attempts": fact.attempts}
    says.attempts, says.attempts_rank = fact.attempts, EXPLICIT
    return told


def executor_six(fact: Fact, pen: Pen) -> Telling:
    """Six fields: the first releases, and the command line's own runs."""
    created, created_us = (times.nanos_z if pen.random() < 0.8 else times.micros_z)(fact.at_us)
    text = fact.execution.text
    body: dict[str, Any] = {
        "execution_id": int(text) if text.isdigit() and pen.random() < 0.8 else text,
        "event_type": fact.kind,
        "step": fact.step,
        "status": "COMPLETED",
        "created_at": created,
    }
    context = pen.random() < 0.97
    told = telling(body, fact, "executor" if context else "", fact.kind)
    says = told.says
    says.step, says.created_us, says.created_rank = fact.step, created_us, FROM_PRODUCER
    if fact.kind == "call.done":
        word = pen.call_word(fact.outcome)
        top = fact.outcome if pen.random() < 0.3 else "COMPLETED"
        body["status"] = say_outcome(says, fact, top)
    else:
        body["status"] = say_status(says, pen.top_word(fact, silent=False))
        word = body["status"].lower()
    _put_payload(told, "context" if context else "payload", word, plain=False)
    return told


def _put_payload(told: Telling, name: str, word: str | None, *, plain: bool) -> None:
    fact, says = told.fact, told.says
    sent, kept = both_sides(told, lambda side: payload(fact, word, side, plain=plain))
    told.body[name], says.context = sent, kept
    say_call(says, fact)
    says.worker_id = kept.get("worker_id")


def payload(fact: Fact, word: str | None, side: Side, *, plain: bool) -> dict[str, Any]:
    """The payload of each kind; `word` stands where the kind has a status in it."""
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


def _payload_of_step(fact: Fact, word: str | None, side: Side) -> dict[str, Any]:
    body = place_of(fact)
    if fact.kind in ("step.exit", "step.failed"):
        return body | {"status": word, "data": side.data}
    if fact.kind == "step.enter" and word:
        body["status"] = word
    return body


def tool_result(fact: Fact, word: str | None, side: Side, *, plain: bool) -> dict[str, Any]:
    """A tool's result: flat as the old worker sent it, or one level deeper as the new one does."""
    inner: dict[str, Any] = {"status": word, "data": side.data}
    if side.error is not None:
        inner["error"] = side.error
        if plain:
            inner |= {"stdout": "", "stderr": "boom", "exit_code": 2}
    if fact.duration_ms is not None:
        inner["duration_ms"] = fact.duration_ms
    return inner if plain else {"status": word, "context": inner}

"""What the Rust worker says: WorkerEvent before, ExecutorEvent since; the executor's own old forms.

Source: wire-shapes, sections 2.3 and 2.4.
"""

from typing import Any

import msgspec

from simulator import times
from simulator.facts import Fact
from simulator.telling import EXPLICIT, FROM_PRODUCER, Pen, Says, Telling, seconds, telling

NO_DATA = msgspec.Raw(b"null")


def worker_event(fact: Fact, pen: Pen) -> Telling:
    """Three keys: no id, no time, no attempts; the step often only inside the command's id."""
    if fact.kind == "call.done":
        word: str | None = pen.call_word(fact.outcome)
        status, rank = fact.outcome, 1 if fact.outcome == "COMPLETED" else 2
    else:
        word, status, rank = pen.nested_word(fact)
    sent, kept = _payloads(fact, word, plain=True)
    body = {
        "event_type": fact.kind,
        "execution_id": fact.execution.execution_id,
        "payload": sent,
    }
    told = telling(body, fact, "worker", fact.kind)
    says = told.says
    says.status, says.status_rank = status, rank
    _say_payload(says, fact, kept)
    call = fact.call
    if "step" in kept or (call is not None and call.named):
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
    body["meta"] = says.meta = {"attempts": fact.attempts}
    says.attempts, says.attempts_rank = fact.attempts, EXPLICIT
    return told


def executor_six(fact: Fact, pen: Pen) -> Telling:
    """Six fields: the first releases, and the command line's own runs."""
    if fact.kind == "call.done":
        word = pen.call_word(fact.outcome)
        top = "COMPLETED" if pen.random() < 0.7 else fact.outcome
        status, rank = fact.outcome, 1 if fact.outcome == "COMPLETED" else 2
    else:
        said = pen.top_word(fact, silent=False)
        top, status, rank = said.word or "", said.means, said.rank
        word = top.lower()
    sent, kept = _payloads(fact, word, plain=False)
    created, created_us = (times.nanos_z if pen.random() < 0.8 else times.micros_z)(fact.at_us)
    text = fact.execution.text
    body: dict[str, Any] = {
        "execution_id": int(text) if text.isdigit() and pen.random() < 0.8 else text,
        "event_type": fact.kind,
        "step": fact.step,
        "status": top,
        "created_at": created,
        "payload" if pen.random() < 0.03 else "context": sent,
    }
    told = telling(body, fact, "executor" if "context" in body else "", fact.kind)
    says = told.says
    says.step, says.status, says.status_rank = fact.step, status, rank
    says.created_us, says.created_rank = created_us, FROM_PRODUCER
    _say_payload(says, fact, kept)
    return told


def _payloads(
    fact: Fact, word: str | None, *, plain: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The payload as sent and as it may be kept; one object where they are the same."""
    content = fact.content
    sent = payload(fact, word, NO_DATA if content is None else content.sent, plain=plain)
    if content is None or content.sent is content.kept:
        return sent, sent
    return sent, payload(fact, word, content.kept, plain=plain)


def payload(fact: Fact, word: str | None, data: msgspec.Raw, *, plain: bool) -> dict[str, Any]:
    """The payload of each kind; `word` stands where the kind has a status in it."""
    call = fact.call
    if call is None:
        return _payload_of_no_call(fact, word, data)
    body: dict[str, Any] = {"command_id": call.command_id}
    match fact.kind:
        case "command.claimed":
            body["worker_id"] = fact.worker
        case "command.started":
            body["worker_id"] = fact.worker
            body["step"] = fact.step
        case "call.done":
            body["call_index"] = call.index
            body["result"] = tool_result(fact, word, data, plain=plain)
        case "call.error":
            body["call_index"] = call.index
            body["error"] = fact.error
        case "command.failed" | "command.cancelled":
            body["error"] = fact.error
        case "command.completed":
            body["status"] = word
            if fact.pending:
                body["pending_callback"] = True
        case _:
            body["input"] = data
    return body


def tool_result(fact: Fact, word: str | None, data: msgspec.Raw, *, plain: bool) -> dict[str, Any]:
    """A tool's result: flat as the old worker sent it, or one level deeper as the new one does."""
    inner: dict[str, Any] = {"status": word, "data": data}
    if fact.error is not None:
        inner["error"] = fact.error
        if plain:
            inner |= {"stdout": "", "stderr": "boom", "exit_code": 2}
    if fact.duration_ms is not None:
        inner["duration_ms"] = fact.duration_ms
    return inner if plain else {"status": word, "context": inner}


def _payload_of_no_call(fact: Fact, word: str | None, data: msgspec.Raw) -> dict[str, Any]:
    execution = fact.execution
    match fact.kind:
        case "step.exit":
            return {"step": fact.step, "status": word, "data": data}
        case "step.enter":
            return {"step": fact.step, "status": word} if word else {"step": fact.step}
        case "playbook.started" | "playbook.initialized":
            return {"path": execution.playbook, "version": execution.version}
        case "subscription.delivered":
            return {"subscription_id": f"sub-{execution.number}", "attempts": 4}
        case _:
            return {}


def _say_payload(says: Says, fact: Fact, kept: dict[str, Any]) -> None:
    """What a reader finds in the payload: the command, the worker, the error, the duration."""
    says.context = kept
    if fact.content is not None:
        says.rules = fact.content.rules
    call = fact.call
    if call is None:
        return
    says.command_id, says.iteration = call.command_id, call.iteration
    says.worker_id = kept.get("worker_id")
    if fact.kind in _WITH_ERROR:
        says.error = fact.error
    if fact.kind == "call.done":
        says.duration = seconds(fact.duration_ms)


_WITH_ERROR = frozenset(("call.done", "call.error", "command.failed", "command.cancelled"))

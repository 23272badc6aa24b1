"""What the Python server stored: outbox rows, and the flat rows of 2025.

Source: wire-shapes, section 2.1.
"""

from typing import Any

from simulator import times
from simulator.facts import Fact
from simulator.python_server import number
from simulator.telling import (
    FROM_PRODUCER,
    ONE_BASED,
    WITH_ERROR,
    Pen,
    Telling,
    both_sides,
    place_of,
    say_call,
    say_outcome,
    say_status,
    say_time_of_id,
    telling,
)


def stored_row(fact: Fact, pen: Pen) -> Telling:
    """The outbox: int ids, three equal times; the engine's own rows count milliseconds."""
    execution, parent = fact.execution, fact.execution.parent
    created, created_us = times.blank_offset(fact.at_us)
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
    told = telling(body, fact, "python", fact.kind)
    says = told.says
    says.step, says.event_id, says.catalog_id = fact.step, fact.event_id, execution.catalog_id
    says.created_us, says.created_rank = created_us, FROM_PRODUCER
    says.node_type, says.parent_event_id = fact.node_type, fact.caused_by
    says.parent_execution_id = body["parent_execution_id"]
    says.extra = {"node_id": fact.step}
    _maybe_drop_created(told, pen)
    _maybe_frame(told, pen)
    if fact.kind == "call.done":
        word: str | None = pen.call_word(fact.outcome)
        top = "COMPLETED" if pen.random() < 0.5 else pen.pick(("RUNNING", "", "STARTED"))
        body["status"] = say_outcome(says, fact, top)
    else:
        word = say_status(says, pen.top_word(fact))
        if word is not None:
            body["status"] = word
    if fact.call is None:
        body["context"] = says.context = place_of(fact)
        body["meta"] = {}
    else:
        _put_call(told, word, pen)
    return told


def _maybe_drop_created(told: Telling, pen: Pen) -> None:
    """Rows of some releases have only one of the three times, or none but that in their id."""
    body, says, fact = told.body, told.says, told.fact
    draw = pen.random()
    if draw >= 0.15:
        return
    del body["created_at"]
    if draw < 0.1:
        del body["event_time"]
    if draw < 0.05 and fact.kind != "call.done":
        del body["ingest_time"]
        say_time_of_id(says, fact)


def _maybe_frame(told: Telling, pen: Pen) -> None:
    """Frame and stage rows know their tenant, their stream and their schema."""
    if pen.random() < 0.1:
        kept = {
            "tenant_id": "t-1",
            "organization_id": "org-9",
            "stream_id": f"execution-{told.fact.execution.number}",
            "stream_version": told.fact.number,
            "producer": "engine",
            "idempotency_key": f"idem-{told.fact.number}",
            "envelope_checksum": "9f86d081884c7d65",
        }
        told.body.update(kept)
        told.says.extra = told.says.extra | kept


def _put_call(told: Telling, word: str | None, pen: Pen) -> None:
    body, says, fact = told.body, told.says, told.fact
    call = fact.call
    assert call is not None
    say_call(says, fact)
    body["command_id"] = number(call.command_id)
    meta: dict[str, Any] = {"actionable": True, "attempt": fact.attempts + 1}
    says.attempts, says.attempts_rank = fact.attempts, ONE_BASED
    if fact.kind == "command.issued":
        meta["max_attempts"] = says.max_attempts = call.max_attempts
        body["context"], says.context = both_sides(told, lambda side: {"args": side.data})
        body["result"] = says.result = {"status": "PENDING"}
    elif fact.kind == "call.done":
        body["result"], says.result = both_sides(
            told, lambda side: {"status": word, "context": {"data": side.data}}
        )
        body["duration"] = fact.duration_ms
    if fact.worker is not None:
        meta["worker_id"] = says.worker_id = fact.worker
    if fact.kind in WITH_ERROR and fact.error is not None:
        plain = pen.random() < 0.5
        body["error"] = fact.error[0] if plain else {"kind": "tool", "message": fact.error[0]}
    body["meta"] = says.meta = meta


def legacy_row(fact: Fact, pen: Pen) -> Telling:
    """The flat rows of 2025: old names, loop fields at the top, attempts from the queue."""
    event_type = pen.spelled(fact.kind, 0.95)
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
    told = telling(body, fact, "python", event_type)
    says = told.says
    says.step, says.event_id, says.catalog_id = fact.step, fact.event_id, execution.catalog_id
    say_time_of_id(says, fact)
    says.node_type = body["node_type"]
    says.extra = {"node_id": body["node_id"]}
    if fact.kind == "call.done":
        body["status"] = pen.call_word(fact.outcome)
        say_outcome(says, fact, None)
    else:
        top = say_status(says, pen.top_word(fact))
        if top is not None:
            body["status"] = top
    if fact.call is None:
        body["context"] = says.context = place_of(fact)
        body["meta"] = {}
    else:
        _put_flat_call(told, pen)
    return told


def _put_flat_call(told: Telling, pen: Pen) -> None:
    body, says, fact = told.body, told.says, told.fact
    call = fact.call
    assert call is not None
    say_call(says, fact)
    says.command_id = says.iteration = None
    if fact.kind == "call.done":
        body["duration"] = (fact.duration_ms or 0) / 1000
        says.duration = body["duration"]
        body["result"], says.result = both_sides(told, lambda side: {"data": side.data})
    if fact.kind in WITH_ERROR and fact.error is not None:
        body["error"] = fact.error[0]
        body["stack_trace"] = "Traceback (most recent call last):\n  ..."
    if fact.worker is not None:
        body["trace_component"] = {"worker": {"id": fact.worker}}
        says.worker_id = fact.worker
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
        says.extra = says.extra | loop
    tries = fact.attempts + 1
    if pen.random() < 0.5:
        meta = {"queue_meta": {"attempts": tries, "max_attempts": call.max_attempts}}
        body["meta"] = says.meta = meta
    else:
        context = {"retry": {"attempt": tries, "max_attempts": call.max_attempts}}
        body["context"] = says.context = context
    says.max_attempts = call.max_attempts
    says.attempts, says.attempts_rank = fact.attempts, ONE_BASED

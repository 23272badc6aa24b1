"""One conceptual event, reported by each producer in its own envelope, gives the same bytes."""

import json
from typing import Any

from hypothesis import given, strategies as st

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, to_canonical
from tests.property.raw_events import RECORDED_MS, as_json, trees

normalizer = Normalizer()

EXECUTION_ID = 333895119667515392
STATUSES = {
    "call.done": ("COMPLETED", "FAILED", "ERROR", "CANCELLED"),
    "step.enter": ("STARTED", "RUNNING", "ENTERED", "FAILED"),
    "command.completed": ("COMPLETED", "FAILED", "CANCELLED"),
    "step.exit": ("COMPLETED", "SKIPPED", "FAILED", "MY_CASE"),
}
NESTED = {"COMPLETED": "success", "FAILED": "failed", "ERROR": "timeout", "CANCELLED": "canceled"}

steps = st.sampled_from(["start", "fetch posts", "a:b", "Schritt-ß"])
workers = st.one_of(st.none(), st.just("noetl-worker-rust-0"))
metas = st.dictionaries(st.sampled_from(["emitter", "step", "tool"]), trees, max_size=2)
data = st.dictionaries(st.sampled_from(["data", "rows", "items", "note"]), trees, max_size=2)


@st.composite
def conceptual(draw: st.DrawFn) -> dict[str, Any]:
    """An event before any producer writes it down."""
    event_type = draw(st.sampled_from(sorted(STATUSES)))
    step = draw(steps)
    command_id = f"{EXECUTION_ID}:{step}:{draw(st.integers(1, 2**60))}{draw(st.just(':i3'))}"
    return {
        "event_id": draw(st.integers(2**50, 2**62 - 1)),
        "event_type": event_type,
        "step": step,
        "status": draw(st.sampled_from(STATUSES[event_type])),
        "time": f"2026-07-10T09:00:00.{draw(st.integers(0, 999_999)):06d}",
        "worker_id": draw(workers),
        "attempts": draw(st.integers(0, 4)),
        "context": {"command_id": command_id} | draw(data),
        "meta": draw(metas),
    }


def as_executor(e: dict[str, Any]) -> dict[str, Any]:
    return {
        "execution_id": EXECUTION_ID,
        "event_type": e["event_type"],
        "step": e["step"],
        "status": e["status"],
        "created_at": f"{e['time']}913Z",
        "context": e["context"],
        "event_id": e["event_id"],
        "worker_id": e["worker_id"],
        "meta": e["meta"] | {"attempts": e["attempts"]},
    }


def as_python_emit(e: dict[str, Any]) -> dict[str, Any]:
    return {
        "execution_id": f"0{EXECUTION_ID}",
        "name": e["event_type"],
        "node_id": e["step"],
        "node_name": e["step"],
        "status": e["status"].lower() if e["status"] != "ERROR" else "timed-out",
        "timestamp": f"{e['time'].replace('T', ' ')}",
        "payload": e["context"],
        "event_id": str(e["event_id"]),
        "worker_id": e["worker_id"],
        "meta": e["meta"] | {"attempts": str(e["attempts"])},
        "informative": True,
    }


def as_rust_request(e: dict[str, Any]) -> dict[str, Any]:
    return {
        "execution_id": str(EXECUTION_ID),
        "event_type": e["event_type"],
        "step": e["step"],
        "status": e["status"],
        "created_at": f"{e['time']}+00:00",
        "payload": e["context"],
        "event_id": str(e["event_id"]),
        "worker_id": e["worker_id"],
        "meta": e["meta"] | {"attempts": e["attempts"]},
        "result_kind": "data",
        "actionable": True,
    }


def as_rust_row(e: dict[str, Any]) -> dict[str, Any]:
    return {
        "event_id": e["event_id"],
        "execution_id": EXECUTION_ID,
        "catalog_id": None,
        "event_type": e["event_type"],
        "status": e["status"],
        "created_at": f"{e['time']}Z",
        "node_id": e["step"],
        "node_name": e["step"],
        "node_type": None,
        "parent_event_id": None,
        "prev_event_id": None,
        "parent_execution_id": None,
        "context": e["context"],
        "result": None,
        "meta": e["meta"] | {"attempts": e["attempts"]},
        "error": None,
        "worker_id": e["worker_id"],
    }


def line(value: bytes) -> bytes:
    (event,) = normalizer.normalize(RawRecord(value=value, topic="t", recorded_ms=RECORDED_MS))
    assert isinstance(event, Envelope), event
    return to_canonical(event)


@given(conceptual())
def test_an_event_with_its_own_id_gives_the_same_line_in_every_shape(e: dict[str, Any]) -> None:
    row = as_json(as_rust_row(e))
    request = as_rust_request(e)

    lines = {
        line(as_json(as_executor(e))),
        line(as_json(as_python_emit(e))),
        line(as_json(request)),
        line(row),
        line(as_json({"global_sequence": 7, "execution_id": "1", "payload": row.decode()})),
        line(as_json(row.decode())),
        line(as_json({"execution_id": request.pop("execution_id"), "events": [request]})),
    }

    assert len(lines) == 1


@given(conceptual(), st.booleans())
def test_a_worker_and_a_server_without_ids_say_the_same(e: dict[str, Any], nested: bool) -> None:
    """The nested outcome, the step in the command and the worker in the payload all count."""
    payload = e["context"] | {"worker_id": e["worker_id"]}
    if nested:
        payload |= {"status": NESTED.get(e["status"], "enter"), "step": e["step"]}
    worker = {"event_type": e["event_type"], "execution_id": EXECUTION_ID, "payload": payload}
    server = {
        "execution_id": str(EXECUTION_ID),
        "step": e["step"],
        "name": e["event_type"],
        "payload": payload,
        "worker_id": e["worker_id"],
        "actionable": False,
    }
    batch = {"events": [{key: server.pop(key) for key in ("step", "name", "payload")}], **server}

    lines = {line(as_json(worker)), line(as_json(batch))}

    assert len(lines) == 1


@given(conceptual())
def test_a_stored_row_says_the_same_but_for_where_the_result_lies(e: dict[str, Any]) -> None:
    """The server moves a payload into result.context, and the worker into meta."""
    outcome = {"result": {"status": NESTED.get(e["status"], "enter"), "error": "boom"}}
    worker = as_executor(e) | {"status": "COMPLETED", "context": e["context"] | outcome}
    row = as_rust_row(e) | {
        "status": "COMPLETED",
        "context": None,
        "result": {"status": "COMPLETED", "context": e["context"] | outcome},
        "meta": {"worker_id": e["worker_id"], "attempts": e["attempts"]},
        "worker_id": None,
    }

    sent, stored = (json.loads(line(as_json(shape))) for shape in (worker, row))

    for event in (sent, stored):
        event["meta"] = {"attempts": event["meta"]["attempts"]}
        del event["context"]
        event.pop("result", None)
    assert sent == stored
    assert sent["error"] == "boom"

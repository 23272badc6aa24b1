"""One event, one status: what a client reports, and the rows that both servers store of it.

The servers' parts are written down from their public sources: `normalize_event_to_row` of
noetl/server, `_build_reference_only_result` of noetl/noetl, and what noetl's Python worker adds to
a payload before it sends it.
"""

from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any, Final

import msgspec
import pytest

from normalizer.core.normalize import Normalizer
from normalizer.envelope import Envelope
from simulator import layers, python_server, rust_server, rust_worker
from simulator.facts import Fact
from simulator.mix import Mix
from simulator.rendering import RenderChoices
from simulator.world import World
from tests.support.factories import raw_record

EXECUTIONS: Final = 25
PRODUCERS: Final = {
    "Rust worker, WorkerEvent": rust_worker.worker_event,
    "Rust worker, ExecutorEvent": rust_worker.executor_event,
    "Rust server's client": rust_server.event_request,
    "Python worker": python_server.request,
    "layers": layers.client_report,
}
ENDS: Final = (
    *("call.done", "call.error", "step.exit", "step.failed"),
    *("command.completed", "command.failed", "command.cancelled"),
)
TOOLS: Final = ("success", "error", "failed", "cancelled", "timeout", "BREAK", "PARTIAL")
"""What a tool says of itself. A step that handles an error says something else."""
BY_PAYLOAD: Final = ("step.exit", "command.completed")
"""Events of which a Python server's row has a Rust worker's word only where a tool's may be."""

Body = dict[str, Any]

_normalize: Final = Normalizer().normalize


@pytest.mark.parametrize("producer", PRODUCERS)
def test_every_layer_of_an_event_gives_one_status(producer: str) -> None:
    pairs: Counter[tuple[str, str]] = Counter()
    differing = []

    for client, fact in _reports(producer):
        report = _envelope(client)
        for server, row in _rows(client):
            if server == "Python" and _hides_the_word(fact, report, row):
                continue
            pairs[fact.kind, server] += 1
            if _envelope(row).status != report.status:
                differing.append((report.status, _envelope(row).status, client, row))

    assert differing[:3] == []
    assert all(pairs[kind, server] for kind in BY_PAYLOAD for server in ("Rust", "Python"))


def _reports(producer: str) -> Iterator[tuple[Body, Fact]]:
    """A worker's reports of ends in some executions, by this producer, with each tool's word.

    The servers write all other events themselves, or keep no more than that something goes on.
    """
    render = PRODUCERS[producer]
    choices = RenderChoices(Random(7), Mix())
    mix = Mix(failing=0.4, cancelled=0.2, callbacks=0.1, odd_text=0.0)
    world = World(mix, Random(7), lambda _: None)
    for _, facts in world.facts(executions=EXECUTIONS):
        for fact in facts:
            if fact.kind not in ENDS:
                continue
            for tool in TOOLS if producer == "Python worker" else (None,):
                body = msgspec.json.decode(msgspec.json.encode(render(fact, choices).body))
                yield body if tool is None else _by_python_worker(body, tool), fact


def _by_python_worker(body: Body, tool: str) -> Body:
    """`_normalize_payload_reference_only`: the result of the tool is added to the payload."""
    name = "payload" if "payload" in body else "context"
    payload = body[name]
    source = payload.pop("response", None) or payload.get("result") or {}
    context = {key: value for key, value in source.items() if key not in ("data", "context")}
    inner = source.get("context")
    context |= inner if isinstance(inner, dict) else {}
    if _kind(body) != "call.done":
        context["status"] = tool
    word = (payload.get("status") or _by_name(body)).upper()
    return body | {name: payload | {"result": {"status": word, "context": context}}}


def _rows(client: Body) -> Iterator[tuple[str, Body]]:
    payload: Body = client["payload"] if "payload" in client else client["context"]
    row = {
        "event_id": 5,
        "execution_id": client["execution_id"],
        "event_type": _kind(client),
        "node_id": client.get("step"),
        "node_name": client.get("step"),
        "created_at": "2026-07-10T09:00:00Z",
        "meta": client.get("meta"),
    }
    status = client.get("status") or _by_name(client)
    result = {"status": status, "context": payload}
    yield "Rust", row | {"prev_event_id": 4, "status": status, "context": None, "result": result}
    times = {"event_time": row["created_at"], "ingest_time": row["created_at"]}
    result = _reference_only(payload, _by_name(client))
    yield "Python", row | times | {"status": _by_name(client), "result": result}


def _reference_only(payload: Body, by_name: str) -> Body:
    """`_build_reference_only_result` of the Python server."""
    source = payload.get("result") or payload.get("response")
    if not isinstance(source, dict):
        return {"status": by_name, "context": payload.get("context") or payload}
    own = source.get("status")
    word = own.strip().upper() if isinstance(own, str) and own.strip() else by_name
    if word in ("OK", "SUCCESS"):
        word = "COMPLETED"
    elif word == "ERROR":
        word = "FAILED"
    compact = {key: payload[key] for key in ("command_id", "worker_id") if key in payload}
    context = source.get("context") or source
    return {"status": word, "context": compact | context} if isinstance(context, dict) else {}


def _hides_the_word(fact: Fact, report: Envelope, row: Body) -> bool:
    """Whether the row has what the name says, and the worker's word only below it (#s16)."""
    sent = msgspec.json.decode(report.context or b"{}")
    by_rust = fact.kind in BY_PAYLOAD and "result" not in sent
    return by_rust and row["result"]["status"] == "COMPLETED" != report.status


def _by_name(body: Body) -> str:
    """`_status_from_event_name` of the Python server."""
    name = _kind(body)
    if "error" in name or "failed" in name:
        return "FAILED"
    return "COMPLETED" if any(part in name for part in ("done", "exit", "completed")) else "RUNNING"


def _kind(body: Body) -> str:
    kind: str = body.get("event_type") or body["name"]
    return kind


def _envelope(body: Body) -> Envelope:
    (event,) = _normalize(raw_record(value=msgspec.json.encode(body)))
    assert isinstance(event, Envelope), event
    return event

"""Records for the state machine of the store: few ids and few words, so that many collide."""

from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from tests.support.factories import snowflake

_EXECUTIONS: Final = (1, 2, 400_000_000_000_000_000)
_EVENT_IDS: Final = (None, None, 5, *(snowflake(number) for number in range(6)))
_TYPES: Final = (
    *("command.issued", "command.claimed", "command.started", "call.done", "call.done"),
    *("command.completed", "command.failed", "call.error", "step.enter"),
    *("playbook.initialized", "playbook.completed", "execution.failed"),
)
_MINUTES: Final = (0, 0, 1, 59, 61)
_NO_EVENTS: Final = (None, b"{broken", b'{"a":1}', b"[]", b"\xff")
_KINDS: Final = ("event", "event", "event", "event", "event", "batch", "nothing")


@st.composite
def values(draw: st.DrawFn) -> bytes | None:
    """The value of a record: one event, several in one request, or no event."""
    match draw(st.sampled_from(_KINDS)):
        case "event":
            return msgspec.json.encode(draw(_events()))
        case "batch":
            return msgspec.json.encode(
                {
                    "execution_id": str(draw(st.sampled_from(_EXECUTIONS))),
                    "events": draw(st.lists(_parts(), min_size=1, max_size=3)),
                    "worker_id": "w",
                }
            )
        case _:
            return draw(st.sampled_from(_NO_EVENTS))


@st.composite
def _events(draw: st.DrawFn) -> dict[str, Any]:
    """Events as a worker sends them, with their own ids or without."""
    event = {
        "event_id": draw(st.sampled_from(_EVENT_IDS)),
        "execution_id": draw(st.sampled_from(_EXECUTIONS)),
        "event_type": draw(st.sampled_from(_TYPES)),
        "step": draw(st.sampled_from((None, "a", "a", "b"))),
        "status": draw(st.sampled_from((None, "COMPLETED", "FAILED", "RUNNING"))),
        "created_at": f"2025-11-24T16:{draw(st.sampled_from(_MINUTES)) % 60:02}:00Z",
        "context": draw(_contexts()),
        "worker_id": draw(st.sampled_from((None, "w", "v"))),
        "meta": {"attempts": draw(st.integers(0, 2))} if draw(st.booleans()) else None,
        "error": draw(st.sampled_from((None, None, "HTTP 503"))),
    }
    return {name: value for name, value in event.items() if value is not None}


@st.composite
def _parts(draw: st.DrawFn) -> dict[str, Any]:
    """Several events in one request, as a server receives them."""
    return {
        "name": draw(st.sampled_from(_TYPES)),
        "step": draw(st.sampled_from(("a", "b"))),
        "payload": draw(_contexts()),
    }


@st.composite
def _contexts(draw: st.DrawFn) -> dict[str, Any]:
    command_id = draw(st.sampled_from((None, "c1", "c1", "c2")))
    context: dict[str, Any] = {"n": draw(st.integers(0, 1))}
    return context | ({"command_id": command_id} if command_id else {})

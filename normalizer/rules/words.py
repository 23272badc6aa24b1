"""A wire event in; its names out: event_type, step, worker_id, command_id, node_type.

Source: wire-shapes, section 4 and section 9, A, E, K, P, L1.
"""

import re
from typing import Final

from msgspec import Raw

from normalizer.wire_event import Refused, Scalar, WireEvent, limited, part, scalar, word

MAX_EVENT_TYPE_BYTES: Final = 200
MAX_WORD_BYTES: Final = 1000
MAX_ITERATION: Final = 2**31 - 1

_NO_STEP: Final = "unknown"
_STEP_OF_COMMAND: Final = re.compile(r"[^:]+:(.+?):[0-9]+(?::i[0-9]+)?", re.DOTALL)
_ITERATION_OF_COMMAND: Final = re.compile(r":i([0-9]{1,10})\Z")


def read_event_type(event: WireEvent) -> str:
    """Give the event's type as it came. Raises Refused (E1)."""
    first, second = event.value("event_type"), event.value("name")
    chosen = second if first is None else first
    if chosen is None:
        raise Refused("not_an_event", "expected event_type or name, got neither")
    if type(chosen) is not str or not chosen:
        raise Refused("not_an_event", "event_type: expected a string that is not empty")
    if first is not None and second is not None and second != first:
        event.lose("name")
    return limited("event_type", chosen, MAX_EVENT_TYPE_BYTES)


def read_command_id(event: WireEvent) -> str | None:
    """Give the command as text (K2). Raises Refused if it is too long."""
    top = event.value("command_id")
    command_id = _command(top)
    if command_id is None:
        if top not in (None, ""):
            event.keep("command_id")
        nested = event.nested
        for place in (
            nested.payload,
            event.meta,
            nested.payload_result,
            nested.payload_result_context,
            nested.result,
            nested.result_context,
        ):
            command_id = command_id or _command(scalar(place.command_id))
    return command_id and limited("command_id", command_id, MAX_WORD_BYTES)


def read_step(event: WireEvent, command_id: str | None) -> str:
    """Give the step, '' if none is known (P1). Raises Refused if it is too long."""
    step = ""
    for name in ("step", "node_name"):
        value = event.value(name)
        text = _step(value)
        if not text:
            if value not in (None, ""):
                event.keep(name)
        elif not step:
            step = text
        elif text != step:
            event.lose(name)
    step = step or _step(scalar(event.nested.payload.step)) or _step_of_command(command_id)
    return limited("step", step, MAX_WORD_BYTES)


def read_worker_id(event: WireEvent) -> str | None:
    """Give the worker (K1). Raises Refused if it is too long."""
    top = event.value("worker_id")
    worker_id = word(top)
    if not worker_id:
        if top not in (None, ""):
            event.keep("worker_id")
        trace_component = part(event.raw("trace_component"))
        worker_id = _first_word(
            event.nested.payload.worker_id,
            event.meta.worker_id,
            part(trace_component.worker).id,
        )
    return worker_id and limited("worker_id", worker_id, MAX_WORD_BYTES)


def read_node_type(event: WireEvent) -> str | None:
    """Give the node's type, None if there is none."""
    value = event.value("node_type")
    node_type = word(value) or None
    if node_type is None and value not in (None, ""):
        event.keep("node_type")
    return node_type


def read_iteration(command_id: str | None) -> int | None:
    """Give the turn of a loop that the command was for: the n of `:i{n}` at its end."""
    match = _ITERATION_OF_COMMAND.search(command_id or "")
    iteration = int(match[1]) if match else None
    return None if iteration is None or iteration > MAX_ITERATION else iteration


def _command(value: Scalar) -> str | None:
    """Give an integer or a string that is not empty as text."""
    return str(value) if type(value) is int or (type(value) is str and value) else None


def _step(value: Scalar) -> str:
    text = word(value) or ""
    return "" if text == _NO_STEP else text


def _step_of_command(command_id: str | None) -> str:
    match = _STEP_OF_COMMAND.fullmatch(command_id or "")
    return _step(match[1]) if match else ""


def _first_word(*places: Raw) -> str | None:
    return next((found for place in places if (found := word(scalar(place)))), None)

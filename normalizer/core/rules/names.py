"""Reads the names of an event: event_type, step, worker_id, command_id, node_type.

Producers use different fields for these, so each function looks in several places and takes the
first text that it finds. Source: docs/spec/wire-shapes.md#e1, #k1, #k2, #p1, #a1, #l1, #s6.
"""

import re
from typing import Final

from normalizer.core.decode.wire_event import WireEvent, nested_fields_or_empty
from normalizer.core.decode.wire_fields import NestedObjects
from normalizer.core.decode.wire_values import (
    RecordRejectedError,
    Value,
    as_integer,
    check_max_bytes,
    scalar_text_or_empty,
)

MAX_EVENT_TYPE_BYTES: Final = 200
MAX_NAME_BYTES: Final = 1000
_MAX_ITERATION: Final = 2**31 - 1

_SHORT_CHARS: Final = MAX_EVENT_TYPE_BYTES // 4
"""A word this short is within every limit, whatever its characters."""
_NO_STEP: Final = "unknown"
_STEP_OF_COMMAND: Final = re.compile(r"[^:]+:(.+?):[0-9]+(?::i[0-9]+)?", re.DOTALL)
_ITERATION_OF_COMMAND: Final = re.compile(r":i([0-9]{1,10})\Z")


def resolve_event_type(event: WireEvent) -> str:
    """Return the event's type as it was sent. Raises RecordRejectedError (#e1)."""
    first, second = event.sent.event_type, event.sent.name
    chosen = second if first is None else first
    event_type = chosen if type(chosen) is str else ""
    if not event_type:
        expected = "expected event_type or name" if chosen is None else "event_type: expected text"
        raise RecordRejectedError("not_an_event", f"{expected}, got {_kind(chosen)}")
    if first is not None and second is not None and second != first:
        event.keep_conflicting_alias("name")
    if len(event_type) <= _SHORT_CHARS:
        return event_type
    return check_max_bytes("event_type", event_type, MAX_EVENT_TYPE_BYTES)


def resolve_command_id(event: WireEvent) -> str | None:
    """Return the command as text (#k2). Raises RecordRejectedError if it's too long."""
    top, nested = event.sent.command_id, event.nested
    if type(top) is str and 0 < len(top) <= _SHORT_CHARS:
        return top
    if top is not None and top != "" and not _command(top):
        event.keep_extra("command_id")
    values = (top, nested.payload.command_id, event.meta.command_id)
    for value in (*values, *_deeper_commands(nested)) if nested.deep else values:
        if value is not None and (command_id := _command(value)):
            return check_max_bytes("command_id", command_id, MAX_NAME_BYTES)
    return None


def resolve_step(event: WireEvent, command_id: str | None) -> str:
    """Return the step, or '' if none is known (#p1).

    Raises RecordRejectedError if it's too long.
    """
    sent = event.sent
    step = "" if sent.step is None else _step(sent.step)
    if step and sent.node_name is None and len(step) <= _SHORT_CHARS:
        return step
    node_name = "" if sent.node_name is None else _step(sent.node_name)
    if not step and sent.step is not None and sent.step != "":
        event.keep_extra("step")
    if node_name and step and node_name != step:
        event.keep_conflicting_alias("node_name")
    elif not node_name and sent.node_name is not None and sent.node_name != "":
        event.keep_extra("node_name")
    nested = event.nested
    step = step or node_name or _step(nested.payload.step) or _step_of_command(command_id)
    step = step or _step(nested.stored_payload.step)
    return check_max_bytes("step", step, MAX_NAME_BYTES)


def resolve_worker_id(event: WireEvent) -> str | None:
    """Return the worker, or None (#k1). Raises RecordRejectedError if it's too long."""
    sent = event.sent
    top = sent.worker_id
    if type(top) is str and 0 < len(top) <= _SHORT_CHARS:
        return top
    if top is not None and top != "" and not scalar_text_or_empty(top):
        event.keep_extra("worker_id")
    values = (
        top,
        event.nested.payload.worker_id,
        event.meta.worker_id,
        nested_fields_or_empty(nested_fields_or_empty(sent.trace_component).worker).id
        if sent.trace_component
        else None,
        event.nested.stored_payload.worker_id,
    )
    for value in values:
        if value is not None and (worker_id := scalar_text_or_empty(value)):
            return check_max_bytes("worker_id", worker_id, MAX_NAME_BYTES)
    return None


def resolve_node_type(event: WireEvent) -> str | None:
    """Return the node's type, or None if there's none."""
    sent = event.sent.node_type
    if sent is None or sent == "":
        return None
    node_type = scalar_text_or_empty(sent)
    if not node_type:
        event.keep_extra("node_type")
    return node_type or None


def parse_iteration(command_id: str) -> int | None:
    """Return the loop iteration of a command, i.e. the n of `:i{n}` at its end, or None."""
    match = _ITERATION_OF_COMMAND.search(command_id)
    iteration = int(match[1]) if match else None
    return None if iteration is None or iteration > _MAX_ITERATION else iteration


def _deeper_commands(nested: NestedObjects) -> tuple[Value, ...]:
    return (
        nested.payload_result.command_id,
        nested.payload_result_context.command_id,
        nested.result.command_id,
        nested.stored_payload.command_id,
        nested.stored_payload_result.command_id,
        nested.stored_payload_result_context.command_id,
    )


def _command(value: Value) -> str:
    """Return text, or an integer as text, otherwise ''."""
    if type(value) is str:
        return value
    number = as_integer(value)
    return "" if number is None else str(number)


def _step(value: Value) -> str:
    """Return a step's name, or '' if there's none, or if it's `unknown`."""
    if value is None:
        return ""
    step = value if type(value) is str else scalar_text_or_empty(value)
    return "" if step == _NO_STEP else step


def _step_of_command(command_id: str | None) -> str:
    match = _STEP_OF_COMMAND.fullmatch(command_id) if command_id else None
    return _step(match[1]) if match else ""


def _kind(value: Value) -> str:
    """Return the name of a value's type, because a message must not hold the value itself."""
    if value is None:
        return "neither"
    return "an empty one" if value == "" else type(value).__name__

"""Reads the ids of an event: event_id, execution_id, catalog_id, and the ids of its parents.

An id may be sent as a number or as text. Text that isn't a number is replaced by its hash. If
event_id or execution_id is invalid, the event is rejected. If any other id is invalid, only its
column is empty. Source: docs/spec/wire-shapes.md#i1, #i2, #i3, #i4, #k3.
"""

import re
from typing import Final, Literal, NamedTuple, TypeAlias

from normalizer.core.decode.wire_event import WireEvent
from normalizer.core.decode.wire_values import NULL, RecordRejectedError, Value, as_integer
from normalizer.core.rules.event_types import EXECUTION_BEGIN_CLASS, event_class
from normalizer.envelope import MAX_ID
from normalizer.jsontext import JsonNumber
from normalizer.snowflake import hash_event_id, hash_text_id

SecondaryIdField: TypeAlias = Literal["catalog_id", "parent_event_id", "parent_execution_id"]

_DIGITS: Final = re.compile("[0-9]{1,19}")


class _NotAnId(NamedTuple):
    """Why a value isn't a numeric id.

    - opaque: text, or a number that's too large, which is replaced by a hash.
    - missing: no value, an empty text, or 0.
    - negative: a number below 0.
    - invalid: a value of another type.
    """

    kind: Literal["opaque", "missing", "negative", "invalid"]
    text: str = ""
    """The value as text, or the name of its type if it's neither text nor a number."""


def resolve_execution_id(event: WireEvent) -> int:
    """Return the execution's id. Raises RecordRejectedError (#i3)."""
    sent = _parse_id_value(event.sent.execution_id)
    if isinstance(sent, int):
        return sent
    if sent.kind == "opaque":
        event.record_coercion("opaque_id", "execution_id", sent.text)
        return hash_text_id(sent.text)
    if sent.kind == "missing":
        raise RecordRejectedError("missing_execution_id", "execution_id: expected an id, got none")
    raise RecordRejectedError(
        "invalid_id", f"execution_id: expected int or digits, got {sent.text}"
    )


def parse_execution_id(value: Value) -> int | None:
    """Return the execution's id, as `resolve_execution_id` does, or None if it can't be one."""
    sent = _parse_id_value(value)
    if isinstance(sent, int):
        return sent
    return hash_text_id(sent.text) if sent.kind == "opaque" else None


def resolve_event_id(event: WireEvent) -> int | None:
    """Return the producer's id of the event, or None. Raises RecordRejectedError (#i3)."""
    sent = _parse_id_value(event.sent.event_id)
    if isinstance(sent, int):
        return sent
    if sent.kind == "opaque":
        event.record_coercion("opaque_id", "event_id", sent.text)
        return hash_event_id(sent.text)
    if sent.kind == "invalid":
        raise RecordRejectedError(
            "invalid_id", f"event_id: expected int or digits, got {sent.text}"
        )
    if sent.text:
        event.keep_extra("event_id")
    return None


def resolve_secondary_id(event: WireEvent, name: SecondaryIdField) -> int | None:
    """Return an id that refers to something else. An invalid one doesn't reject the event (#i4)."""
    value = getattr(event.sent, name)
    if value is None:
        return None
    sent = _parse_id_value(value)
    if isinstance(sent, int):
        return sent
    if sent.kind == "opaque":
        event.record_coercion("opaque_id", name, sent.text)
        return hash_text_id(sent.text)
    if sent.kind != "missing":
        event.record_coercion("invalid_secondary_id", name, event.fields[name])
    elif sent.text:
        event.keep_extra(name)
    return None


def resolve_parent_execution_id(event: WireEvent, event_type: str, own_id: int) -> int | None:
    """Return the execution that began this one, or None.

    The event that begins an execution may name its parent in its context (#k3).
    """
    nested = event.nested
    parent = resolve_secondary_id(event, "parent_execution_id")
    values = (nested.payload.parent_execution_id, nested.stored_payload.parent_execution_id)
    if parent is not None or values == _NOWHERE or event_class(event_type) != EXECUTION_BEGIN_CLASS:
        return parent
    for value in values:
        number = as_integer(value)
        named = _parse_id_value(value if number is None else number)
        if isinstance(named, int) and named != own_id:
            return named
    return None


def keep_child_execution_id(event: WireEvent) -> None:
    """Store the child execution that a result names in `extra`, as it was sent (#k3)."""
    child = event.nested.result.child_execution_id
    if child and child != NULL:
        event.extra.setdefault("child_execution_id", child)


def _parse_id_value(value: Value) -> int | _NotAnId:
    """Parse a value as an id, or return a _NotAnId that says what it is instead (#i1, #i2)."""
    if type(value) is int:
        return value if 0 < value <= MAX_ID else _no_id_for_number(value, value)
    if type(value) is str and value:
        number = int(value) if _DIGITS.fullmatch(value) else MAX_ID + 1
        return number if 0 < number <= MAX_ID else _no_id_for_number(number, value)
    if value is None or value == "":
        return _MISSING
    return _NotAnId("invalid", value if isinstance(value, JsonNumber) else type(value).__name__)


def _no_id_for_number(number: int, sent: int | str) -> _NotAnId:
    if number > MAX_ID:
        return _NotAnId("opaque", str(sent))
    return _NotAnId("negative" if number else "missing", str(sent))


_MISSING: Final = _NotAnId("missing")
_NOWHERE: Final = (None, None)

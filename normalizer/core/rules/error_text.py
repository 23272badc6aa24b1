"""Finds the text of an event's error.

Source: docs/spec/wire-shapes.md#x2, #s6.
"""

from msgspec import Raw

from normalizer.core.decode.wire_event import WireEvent, nested_fields_or_empty
from normalizer.core.decode.wire_fields import NestedObjects
from normalizer.core.decode.wire_values import (
    ABSENT,
    NULL,
    Value,
    decode_raw_value,
    first_byte,
    text_or_empty,
)
from normalizer.envelope import canonical_json


def resolve_error(event: WireEvent) -> str | None:
    """Return the text of the first field that holds an error, or None."""
    top, nested = event.sent.error, event.nested
    if top == NULL:
        top = ABSENT
    if top is ABSENT and nested.payload.error is ABSENT and not nested.deep:
        return None  # nearly every event
    if top and first_byte(top) != b'"':
        event.keep_extra("error")
    for raw in (top, nested.payload.error, *(_deeper(nested) if nested.deep else ())):
        if raw and (error := _error(raw)):
            return error
    return None


def _deeper(nested: NestedObjects) -> tuple[Raw, ...]:
    return (
        nested.payload_result.error,
        nested.payload_result_context.error,
        nested.result.error,
        nested.stored_payload.error,
        nested.stored_payload_result.error,
        nested.stored_payload_result_context.error,
        nested.payload_response.error,
        nested.stored_payload_response.error,
    )


def _error(raw: Raw) -> str:
    """Return the text of an error, or '' if there's no error.

    An error that was sent as text is returned unchanged. An object is represented by its message,
    and any other value by its JSON. `false` isn't an error, because many tools return `{"error":
    false}` after a success.
    """
    if raw == NULL:
        return ""
    value: Value = decode_raw_value(raw)
    if value is False or value == "":
        return ""
    return (
        text_or_empty(value)
        or text_or_empty(nested_fields_or_empty(raw).message)
        or canonical_json(bytes(raw)).decode()
    )

"""Finds the duration of an event, in seconds.

Source: docs/spec/wire-shapes.md#u1, #u2, #s6.
"""

import re
from collections.abc import Iterator
from decimal import Context, Decimal
from typing import Final

from msgspec import Raw

from normalizer.core.decode.wire_event import WireEvent
from normalizer.core.decode.wire_fields import NestedObjects
from normalizer.core.decode.wire_values import Value
from normalizer.jsontext import MAX_NUMBER_DIGITS, MAX_NUMBER_EXPONENT, JsonNumber, jsonb_number

_MAX_OF_WORK_S: Final = 30 * 24 * 3600
_MAX_S: Final = 10 * 365 * 24 * 3600
"""30 days for a call, a command, or a step, and ten years for anything else. A longer duration was
sent in another unit, for example nanoseconds as seconds."""
_WORK: Final = re.compile("(?:call|action|command|step)(?![a-z0-9])", re.IGNORECASE)
"""Matches the beginning of an event type of a call, a command, or a step."""

# The result is exact, because no accepted number has more digits than this.
_EXACT: Final = Context(prec=MAX_NUMBER_DIGITS + MAX_NUMBER_EXPONENT)


def resolve_duration(event: WireEvent, event_type: str) -> float | None:
    """Return the duration declared at the top level, otherwise the first nested one, or None."""
    if event.sent.duration is not None and (seconds := _declared(event, event_type)) is not None:
        return seconds
    if event.nested.payload.duration_ms is None and not event.nested.deep:
        return None  # nearly every event
    return _nested(event, event_type)


def _declared(event: WireEvent, event_type: str) -> float | None:
    value = event.sent.duration
    if value == "":
        return None
    number = _number(value)
    if number is None:
        event.keep_extra("duration")
        return None
    if type(value) is int and (
        event.sent.event_time is not None or event.sent.ingest_time is not None
    ):
        number = _seconds(number)
    seconds = _storable(number, event_type)
    if seconds is None:
        event.record_coercion("duration_invalid", "duration", event.fields["duration"])
    elif repr(seconds) != value and Decimal(repr(seconds)) != number:
        event.extra["duration"] = Raw(_with_point(number).encode())
    return seconds


def _nested(event: WireEvent, event_type: str) -> float | None:
    for field, value in _milliseconds(event.nested):
        number = _number(value)
        if number is not None:
            seconds = _storable(_seconds(number), event_type)
            if seconds is not None:
                return seconds
            event.record_coercion("duration_invalid", field, event.raw_at_path(field))
    return None


def _milliseconds(nested: NestedObjects) -> Iterator[tuple[str, Value]]:
    """Yield each field that holds milliseconds, with its value, the strongest first (#u1)."""
    yield "context.duration_ms", nested.payload.duration_ms
    yield "context.result.duration_ms", nested.payload_result.duration_ms
    yield "context.result.context.duration_ms", nested.payload_result_context.duration_ms
    stored_context = nested.stored_payload_result_context
    yield "result.context.duration_ms", nested.stored_payload.duration_ms
    yield "result.context.result.duration_ms", nested.stored_payload_result.duration_ms
    yield "result.context.result.context.duration_ms", stored_context.duration_ms
    yield "context.response.duration_ms", nested.payload_response.duration_ms
    yield "result.context.response.duration_ms", nested.stored_payload_response.duration_ms


def _number(value: Value) -> Decimal | None:
    return Decimal(value) if isinstance(value, JsonNumber) or type(value) is int else None


def _seconds(milliseconds: Decimal) -> Decimal:
    return _EXACT.scaleb(milliseconds, -3)


def _storable(number: Decimal, event_type: str) -> float | None:
    """Return the float nearest to a duration, or None if it's negative or too long."""
    if not 0 <= number <= _MAX_S:
        return None
    if number > _MAX_OF_WORK_S and _WORK.match(event_type):
        return None
    return abs(float(number))


def _with_point(number: Decimal) -> str:
    """Return the number with a point, because an integer could be read as milliseconds."""
    text = jsonb_number(str(number))
    return text if "." in text else f"{text}.0"

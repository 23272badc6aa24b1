"""A wire event in; what went wrong, in words.

Source: wire-shapes, section 9, X2.
"""

from msgspec import Raw

from normalizer.envelope import canonical_json
from normalizer.wire_event import WireEvent, part, scalar


def read_error(event: WireEvent) -> str | None:
    """Give the text of the first error that is one."""
    top = event.raw("error")
    if top:
        if type(scalar(top)) is not str:
            event.keep("error")
        error = _text(top)
        if error:
            return error
    nested = event.nested
    for place in (
        nested.payload,
        nested.payload_result,
        nested.payload_result_context,
        nested.result,
        nested.result_context,
    ):
        error = _text(place.error)
        if error:
            return error
    return None


def _text(raw: Raw) -> str:
    """Give a string, an object's message, or the JSON of anything else; '' if there is no error.

    `false` is no error either: many tools answer `{"error": false}`.
    """
    value = scalar(raw)
    if value is None or value is False:
        return ""
    if type(value) is str:
        return value
    message = scalar(part(raw).message)
    return message if type(message) is str and message else canonical_json(bytes(raw)).decode()

"""Reads single JSON values of a wire event: text, integers, and raw bytes."""

from typing import Final, TypeAlias

import msgspec
from msgspec import Raw

from normalizer.envelope import canonical_json
from normalizer.errors import RejectionReason
from normalizer.jsontext import JsonNumber, jsonb_number

ABSENT: Final = Raw(b"")

NULL: Final = Raw(b"null")

Value: TypeAlias = object
"""A decoded value. It's None for both an absent field and null. A number with a point or an
exponent is a JsonNumber, which is a subclass of str, so the rules compare exact types to recognize
text and integers."""


class RecordRejectedError(Exception):
    """A record, or one event of it, is rejected."""

    def __init__(self, reason: RejectionReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class RecordIgnoredError(Exception):
    """A record holds no event, and that's no error. The message says why."""


def text_or_empty(value: Value) -> str:
    """Return the value if it's text, otherwise ''."""
    return value if type(value) is str else ""


def as_integer(value: Value) -> int | None:
    """Return the value if jsonb would hold it as an integer: 2e1 is 20, but 2.0 isn't one."""
    if type(value) is int:
        return value
    if isinstance(value, JsonNumber):
        number = jsonb_number(value)
        return None if "." in number else int(number)
    return None


def scalar_text_or_empty(value: Value) -> str:
    """Return text or a number as text, otherwise '' (#p1, #k1)."""
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    return str(jsonb_number(value)) if isinstance(value, JsonNumber) else ""


def check_max_bytes(field: str, value: str, max_bytes: int) -> str:
    """Return the text. Raises RecordRejectedError if it's longer than `max_bytes` (#l1)."""
    if len(value) * 4 > max_bytes and len(value.encode()) > max_bytes:
        raise RecordRejectedError(
            "too_large", f"{field}: expected at most {max_bytes} bytes, got {len(value.encode())}"
        )
    return value


def decode_raw_value(raw: Raw) -> Value:
    """Decode a raw value."""
    return _value_decoder.decode(raw)


def first_byte(raw: Raw) -> bytes:
    """Return the first byte, which shows whether a value is an object, a list, or a string."""
    return bytes(memoryview(raw)[:1])


def same_json(a: Raw, b: Raw) -> bool:
    """Return whether two raw values are the same JSON value, even if they're spelled differently.

    For two values of four megabytes, the comparison can take a second or two. That's one reason why
    large records are never normalized on the event loop.
    """
    return a == b or canonical_json(bytes(a)) == canonical_json(bytes(b))


_value_decoder: Final[msgspec.json.Decoder[object]] = msgspec.json.Decoder(
    object, float_hook=JsonNumber
)

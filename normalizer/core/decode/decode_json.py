"""Decodes one JSON text of a record: an object, or the text in a JSON string."""

import re
from typing import Final

import msgspec
from msgspec import Raw

from normalizer.core.decode.record_limits import (
    MAX_RECORD_DEPTH,
    check_depth,
    check_numbers,
    may_have_many_exponents,
    too_deep_error,
)
from normalizer.core.decode.wire_values import RecordRejectedError
from normalizer.core.redaction.prefilter import HasSign
from normalizer.core.redaction.suspicious_parts import parse_suspicious_parts
from normalizer.core.shapes import has_event_type
from normalizer.jsontext import (
    MAX_FIELD_DEPTH,
    Json,
    NumberError,
    nesting_outline,
)


def decode_object_or_string(text: bytes) -> dict[str, Raw] | str:
    """Return the fields of a JSON object, or the text of a JSON string.

    Raises RecordRejectedError for any other JSON value and for invalid JSON, which includes JSON
    with anything after its value. The limit on an event's nesting isn't checked here.
    """
    try:
        content = _decoder.decode(text)
    except msgspec.ValidationError as error:
        # msgspec rejects a value that isn't an object, such as a list, without reading the rest of
        # the text. Check the rest as well, because checks 4 and 5 come before 6 (see `decode`).
        reject_invalid_json(text)
        check_depth(text, MAX_RECORD_DEPTH)
        kind = "".join(_KIND.findall(str(error)))
        raise RecordRejectedError("not_an_event", f"expected an object, got {kind}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(text, error) from None
    return content


def decode_object(text: bytes) -> dict[str, Raw]:
    """Return the fields of a JSON object, in text that isn't a JSON string."""
    content = decode_object_or_string(text)
    assert not isinstance(content, str)
    return content


def strip_schema_header(value: bytes) -> bytes:
    """Return the JSON that follows a schema registry's header, i.e. a zero byte and a schema id.

    The header has five bytes. Records in Avro and Protobuf begin with the same header, so this
    raises RecordRejectedError if it isn't followed by JSON. JSON that is nested too deeply is
    returned all the same, because the decoder rejects it later with a more exact reason. Source:
    docs/spec/wire-shapes.md#w6.
    """
    text = value[_FRAME_BYTES:]
    try:
        _raw_decoder.decode(_SURROGATES.sub(rb"\\ufffd", text.removeprefix(UTF8_BOM)))
    except msgspec.DecodeError:
        raise RecordRejectedError(
            "unsupported_framing", "expected JSON behind the schema id, got another format"
        ) from None
    except RecursionError:
        pass
    return text


def check_json_if_many_exponents(text: bytes) -> None:
    """Do checks 4 to 7 (see `decode`) if the text may have many exponents, and otherwise nothing.

    Check 7 is for numbers that get too long when they're written out, which takes many exponents.
    Checks 4 to 6 come before it, because the first check that fails gives the reason. Raises
    RecordRejectedError.
    """
    if may_have_many_exponents(text):
        content = decode_object_or_string(_SURROGATES.sub(rb"\\ufffd", text))
        is_event = isinstance(content, dict) and has_event_type(content)
        check_depth(text, MAX_EVENT_DEPTH if is_event else MAX_RECORD_DEPTH)
        check_numbers(text)


def reject_invalid_json(text: bytes) -> None:
    """Raise RecordRejectedError for text that isn't one JSON value.

    Lone surrogates are allowed (#v5).
    """
    try:
        _raw_decoder.decode(_SURROGATES.sub(rb"\\ufffd", text))
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(text, error) from None


def parse_suspicious_parts_or_reject(text: bytes, has_sign: HasSign) -> Json:
    """Parse the parts of a JSON text for which `has_sign` returns True.

    The others are left as bytes. Raises RecordRejectedError.
    """
    try:
        return parse_suspicious_parts(text, has_sign)
    except (ValueError, RecursionError) as error:
        raise _unreadable(text, error) from None


def _unreadable(text: bytes, error: Exception) -> RecordRejectedError:
    """Return the error in our own words, because a library's message may quote the record."""
    if isinstance(error, RecursionError):
        # The text has too many levels to decode. It may be cut off as well, which shows in its
        # brackets. In that case report only that, because it's check 4 (see `decode`).
        braces = nesting_outline(text)
        if braces.count(b"{") == braces.count(b"}"):
            return too_deep_error()
        return RecordRejectedError(
            "invalid_json", "expected one JSON value, got one that is cut off"
        )
    if isinstance(error, NumberError):
        return RecordRejectedError("invalid_json", str(error))
    position = _POSITION.search(str(error))
    where = f"broken at byte {position[1]}" if position else "broken or cut off"
    return RecordRejectedError("invalid_json", f"expected one JSON value, got one that is {where}")


_decoder: Final[msgspec.json.Decoder[dict[str, Raw] | str]] = msgspec.json.Decoder(
    dict[str, Raw] | str
)

_raw_decoder: Final[msgspec.json.Decoder[Raw]] = msgspec.json.Decoder(Raw)

_POSITION: Final = re.compile(r"\(byte (\d+)\)")

_KIND: Final = re.compile(r"got `(\w+)`")

UTF8_BOM: Final = b"\xef\xbb\xbf"

_FRAME_BYTES: Final = 5

_SURROGATES: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
"""Escaped surrogates. msgspec calls a lone one invalid, so checks of the JSON replace them all."""

MAX_EVENT_DEPTH: Final = MAX_FIELD_DEPTH + 1
"""The most levels of an event, including the event's own object."""

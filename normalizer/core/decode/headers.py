"""Reads the headers of a record: as JSON without secrets, and the trace id.

Source: docs/spec/wire-shapes.md#v6, #w8.
"""

import re
from base64 import b64encode
from typing import Final

import msgspec

from normalizer.core.decode.unwrap import CLOUDEVENT_TYPE_PREFIX, EVENT_FIELDS_BY_ATTRIBUTE
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.core.redaction.unstorable import KeyPath
from normalizer.jsontext import Json, write_json

TRACEPARENT_PATTERN: Final = re.compile(
    "(?!ff|00.{54})[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
"""A valid traceparent: trace id, span id, and flags. In version 00 nothing follows these."""
_SPECVERSION: Final = "ce_specversion"
BASE64_HEADER_PREFIX: Final = "base64:"
"""The prefix of a value that isn't UTF-8. It's stored in base64."""


class RecordHeaders(msgspec.Struct, frozen=True, gc=False):
    """The headers of a record, without secrets.

    - `json` is a JSON object with the value of each header, which is a string or null. If a name
      occurs more than once, it has a list of these values.
    - `replaced` has the paths at which text was replaced because PostgreSQL can't store it.
    - `cloudevent` has the attributes of a CloudEvent in binary mode. Each is under the name of the
      event field that it supplies (#w8).
    """

    json: bytes | None = None
    trace_id: str | None = None
    replaced: set[KeyPath] = set()
    cloudevent: dict[str, str] = {}


NO_HEADERS: Final = RecordHeaders()


def read_headers(sent: tuple[tuple[str, bytes | None], ...], sanitizer: Sanitizer) -> RecordHeaders:
    """Return the headers of a record as they are stored."""
    headers: dict[str, Json] = {}
    trace_id: str | None = None
    for name, value in sent:
        text = None if value is None else header_text(value)
        if name not in headers:
            headers[name] = text
        elif isinstance(earlier := headers[name], list):
            earlier.append(text)
        else:
            headers[name] = [earlier, text]
        if trace_id is None and text is not None and name.lower() == "traceparent":
            match = TRACEPARENT_PATTERN.fullmatch(text)
            trace_id = match[1] if match else None
    cloudevent = _cloudevent(headers) if _SPECVERSION in headers else {}
    if "".join(headers).isascii():
        json = _encode(headers)
        if json.isascii() and not sanitizer.has_sign(json):
            return RecordHeaders(json, trace_id, cloudevent=cloudevent)
    cleaned, replaced = sanitizer.clean_headers(headers)
    return RecordHeaders(write_json(cleaned).encode(), trace_id, replaced, cloudevent)


def _cloudevent(headers: dict[str, Json]) -> dict[str, str]:
    texts = {field: headers.get(f"ce_{name}") for name, field in EVENT_FIELDS_BY_ATTRIBUTE.items()}
    return {
        field: text.removeprefix(CLOUDEVENT_TYPE_PREFIX) if field == "event_type" else text
        for field, text in texts.items()
        if isinstance(text, str) and not text.startswith(BASE64_HEADER_PREFIX)
    }


def header_text(value: bytes) -> str:
    """Return a header's value as text, or in base64 if it isn't UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return BASE64_HEADER_PREFIX + b64encode(value).decode()


_encode: Final = msgspec.json.Encoder().encode

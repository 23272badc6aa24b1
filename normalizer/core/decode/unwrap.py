"""Takes an event out of foreign envelopes: CloudEvents, Kafka Connect, and Debezium.

The decoder calls `unwrap_envelopes` if none of a value's keys names an event type, so the event may
be further inside. The JSON from the envelopes is then decoded like a record of its own, and its
secrets are removed. Source: docs/spec/wire-shapes.md#w7, #w8, #w9.
"""

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from normalizer.core.decode.wire_values import (
    ABSENT,
    NULL,
    RecordIgnoredError,
    RecordRejectedError,
    first_byte,
)
from normalizer.core.redaction.suspicious_parts import object_members, parse_whole_json
from normalizer.core.shapes import has_event_type
from normalizer.jsontext import Json, write_json

CLOUDEVENT_TYPE_PREFIX: Final = "io.noetl."
"""The prefix of the event type in the `type` of a CloudEvent that this project writes."""

FIELDS_FROM_ENVELOPE: Final = ("event_id", "event_type", "created_at")
"""The fields that an event without them takes from its envelope."""

EVENT_FIELDS_BY_ATTRIBUTE: Final = {"id": "event_id", "type": "event_type", "time": "created_at"}
"""The attributes of a CloudEvent that are fields of an event."""

_NOT_KEPT: Final = frozenset(("specversion", "datacontenttype", "data", "data_base64"))
_JSON_COLUMNS: Final = ("context", "payload", "result", "meta")


class UnwrappedContent(msgspec.Struct, frozen=True, gc=False):
    """The content of foreign envelopes.

    - `text` is the JSON of an event or a batch, or a JSON string that contains one. It may not be
      UTF-8 if it was in base64.
    - `attributes` is a JSON object with the envelopes' own attributes, such as a CloudEvent's time.
      Each is under the name of the event field that it supplies. It's None if there are none.
    """

    text: bytes
    attributes: bytes | None = None


def unwrap_envelopes(members: Mapping[str, Json]) -> UnwrappedContent | None:
    """Return the content of foreign envelopes, or None if the object isn't one.

    A value in `members` may be parsed, or be the bytes that were sent. Envelopes may be nested, for
    example a Debezium change inside a CloudEvent. Each kind is opened at most once and in a fixed
    order, until the content names an event type. Raises RecordIgnoredError if an envelope carries
    no event, for example because it reports a deleted row.
    """
    opener = _Opener()
    content: Json = ABSENT
    for open_if_any in (opener.cloudevent, opener.connect, opener.change, opener.outbox):
        if not open_if_any(members):
            continue
        if isinstance(opener.content, bytes):
            return UnwrappedContent(opener.content, opener.attributes_text())
        content = opener.content
        inner_members = object_members(content)
        if inner_members is None or has_event_type(inner_members):
            break
        members = inner_members
    return (
        None if content is ABSENT else UnwrappedContent(_write(content), opener.attributes_text())
    )


class _Opener:
    """Opens one envelope after the other, and collects the attributes of all.

    There's a method for each kind of envelope. It returns False if `members` aren't of this kind.
    Otherwise it sets `content` to what was in the envelope: a value, or bytes if it was in base64.
    """

    def __init__(self) -> None:
        self._attributes: dict[str, Json] = {}
        self.content: Json | bytes = ABSENT

    def cloudevent(self, members: Mapping[str, Json]) -> bool:
        """Open a structured CloudEvent (#w7)."""
        if "specversion" not in members or members.keys().isdisjoint(("data", "data_base64")):
            return False
        self._keep({name: value for name, value in members.items() if name not in _NOT_KEPT})
        event_type = _text(self._attributes.get("event_type"))
        if event_type is not None:
            self._attributes["event_type"] = event_type.removeprefix(CLOUDEVENT_TYPE_PREFIX)
        if "data" in members:
            self.content = members["data"]
        else:
            self.content = _decode_base64(members["data_base64"])
        return True

    def connect(self, members: Mapping[str, Json]) -> bool:
        """Open a value with its schema, as Kafka Connect's JSON converter writes it (#w9)."""
        if members.keys() != {"schema", "payload"}:
            return False
        if members["payload"] in (None, NULL):
            raise RecordIgnoredError("tombstone")
        self.content = members["payload"]
        return True

    def change(self, members: Mapping[str, Json]) -> bool:
        """Open the change of a row that Debezium captured (#w9)."""
        op = _text(members.get("op"))
        if op in ("d", "t") and "source" in members:
            raise RecordIgnoredError("a change that deletes rows")
        row = object_members(members.get("after"))
        if op not in ("c", "r", "u") or row is None:
            return False
        self.content = {name: _decode_column(name, value) for name, value in row.items()}
        return True

    def outbox(self, members: Mapping[str, Json]) -> bool:
        """Open a row of the outbox table that Debezium's event router reads (#w9)."""
        if not members.keys() >= {"aggregatetype", "aggregateid", "payload"}:
            return False
        self._keep({name: value for name, value in members.items() if name != "payload"})
        self.content = members["payload"]
        return True

    def attributes_text(self) -> bytes | None:
        """Return the attributes as a JSON object, or None.

        It always has the key `event_type`, so that it isn't taken for a batch.
        """
        named: dict[str, Json] = {"event_type": None} | self._attributes
        return _write(named) if self._attributes else None

    def _keep(self, attributes: Mapping[str, Json]) -> None:
        """Collect attributes under the fields' names. Those of an outer envelope stay.

        If an attribute such as `id` comes together with `event_id`, it keeps its own name.
        """
        for name, value in attributes.items():
            field = EVENT_FIELDS_BY_ATTRIBUTE.get(name, name)
            self._attributes.setdefault(name if field in attributes else field, value)


def _decode_column(name: str, value: Json) -> Json:
    """Return the value of a captured row's column. A jsonb column comes as text, so decode that."""
    text = _text(value) if name in _JSON_COLUMNS else None
    if text is None or text.lstrip(" \t\r\n")[:1] not in {"{", "["}:
        return value
    try:
        return parse_whole_json(_encode(text))
    except (ValueError, RecursionError):
        return value


def _decode_base64(value: Json) -> bytes:
    try:
        return b64decode(_text(value) or "", validate=True)
    except (binascii.Error, ValueError):
        raise RecordRejectedError("invalid_json", "data_base64: expected base64") from None


def _text(value: Json) -> str | None:
    if isinstance(value, Raw):
        return _text_decoder.decode(value) if first_byte(value) == b'"' else None
    return value if isinstance(value, str) else None


def _write(value: Json) -> bytes:
    return _encode(write_json(value))


def _encode(text: str) -> bytes:
    """Encode JSON. A lone surrogate, which UTF-8 can't hold, becomes an escape."""
    return text.encode(errors="backslashreplace")


_text_decoder: Final[msgspec.json.Decoder[str]] = msgspec.json.Decoder(str)

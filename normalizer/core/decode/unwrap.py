"""Takes an event out of foreign envelopes: CloudEvents, Kafka Connect, and Debezium.

The decoder calls `unwrap_envelopes` if none of a value's keys names an event type, so the event may
be further inside. The JSON from the envelopes is then decoded like a record of its own, and its
secrets are removed. Source: docs/spec/wire-shapes.md#w7, #w8, #w9.
"""

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Raw

from normalizer.core.decode.wire_values import (
    NULL,
    RecordIgnoredError,
    RecordRejectedError,
    first_byte,
)
from normalizer.core.shapes import has_event_type
from normalizer.jsontext import Json, JsonNumber, parse_json, write_json

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

    - `value` is the JSON of an event or a batch, or a JSON string that contains one.
    - `attributes` is a JSON object with the envelopes' own attributes, such as a CloudEvent's time.
      Each is under the name of the event field that it supplies. It's None if there are none.
    - `encoded` is True if the value was in base64. It hasn't been searched for secrets yet then,
      because the search of the record couldn't see them.
    """

    value: bytes
    attributes: bytes | None = None
    encoded: bool = False


class _RawValues:
    """Reads and writes the values of a clean record, which are still the bytes that were sent."""

    def members(self, value: Any) -> Mapping[str, Any] | None:
        if isinstance(value, dict):
            return value
        return _members_decoder.decode(value) if first_byte(value) == b"{" else None

    def string(self, value: Any) -> str | None:
        return _text_decoder.decode(value) if first_byte(value) == b'"' else None

    def parse(self, text: str) -> Any:
        return _raw_decoder.decode(text)

    def write(self, value: Any) -> bytes:
        return msgspec.json.encode(value)


class _ParsedValues:
    """Reads and writes the values of a suspicious record, which was parsed to find its secrets."""

    def members(self, value: Any) -> Mapping[str, Any] | None:
        return value if isinstance(value, dict) else None

    def string(self, value: Any) -> str | None:
        return value if isinstance(value, str) and not isinstance(value, JsonNumber) else None

    def parse(self, text: str) -> Json:
        return parse_json(text)

    def write(self, value: Any) -> bytes:
        # Keep a lone surrogate as an escape.
        return write_json(value).encode(errors="backslashreplace")


ValueReader: TypeAlias = _RawValues | _ParsedValues
"""Reads and writes values. `members` returns None for a value that isn't an object, and `string`
for one that isn't a string. `parse_json` raises ValueError or RecursionError."""

RAW_VALUE_READER: Final = _RawValues()
PARSED_VALUE_READER: Final = _ParsedValues()


def unwrap_envelopes(members: Mapping[str, Any], values: ValueReader) -> UnwrappedContent | None:
    """Return the content of foreign envelopes, or None if the value isn't in any.

    Envelopes may be nested, for example a Debezium change inside a CloudEvent. Each kind is opened
    at most once and in a fixed order, until the content names an event type. Raises
    RecordIgnoredError if an envelope carries no event, for example because it reports a deleted
    row.
    """
    opener = _Opener(values)
    inner: Any = None
    for open_if_any in (opener.cloudevent, opener.connect, opener.change, opener.outbox):
        if not open_if_any(members):
            continue
        inner = opener.inner
        if opener.encoded is not None:
            return UnwrappedContent(opener.encoded, opener.attributes_text(), encoded=True)
        inner_members = values.members(inner)
        if inner_members is None or has_event_type(inner_members):
            break
        members = inner_members
    return (
        None if inner is None else UnwrappedContent(values.write(inner), opener.attributes_text())
    )


class _Opener:
    """Opens one envelope after the other, and collects the attributes of all.

    There's a method for each kind of envelope. It returns False if `members` aren't of this kind.
    Otherwise it sets `inner` to the envelope's content, or `encoded` if that was in base64.
    """

    def __init__(self, values: ValueReader) -> None:
        self._values = values
        self._attributes: dict[str, Any] = {}
        self.inner: Any = None
        self.encoded: bytes | None = None

    def cloudevent(self, members: Mapping[str, Any]) -> bool:
        """Open a structured CloudEvent (#w7)."""
        if "specversion" not in members or members.keys().isdisjoint(("data", "data_base64")):
            return False
        self._keep({name: value for name, value in members.items() if name not in _NOT_KEPT})
        kind = self._values.string(self._attributes.get("event_type", NULL))
        if kind is not None:
            self._attributes["event_type"] = kind.removeprefix(CLOUDEVENT_TYPE_PREFIX)
        if "data" in members:
            self.inner = members["data"]
        else:
            self.encoded = self._base64(members["data_base64"])
        return True

    def connect(self, members: Mapping[str, Any]) -> bool:
        """Open a value with its schema, as Kafka Connect's JSON converter writes it (#w9)."""
        if members.keys() != {"schema", "payload"}:
            return False
        if members["payload"] in (None, NULL):
            raise RecordIgnoredError("tombstone")
        self.inner = members["payload"]
        return True

    def change(self, members: Mapping[str, Any]) -> bool:
        """Open the change of a row that Debezium captured (#w9)."""
        op = self._values.string(members.get("op", NULL))
        if op in ("d", "t") and "source" in members:
            raise RecordIgnoredError("a change that deletes rows")
        row = self._values.members(members.get("after", NULL))
        if op not in ("c", "r", "u") or row is None:
            return False
        self.inner = {name: self._column(name, value) for name, value in row.items()}
        return True

    def outbox(self, members: Mapping[str, Any]) -> bool:
        """Open a row of the outbox table that Debezium's event router reads (#w9)."""
        if not members.keys() >= {"aggregatetype", "aggregateid", "payload"}:
            return False
        self._keep({name: value for name, value in members.items() if name != "payload"})
        self.inner = members["payload"]
        return True

    def attributes_text(self) -> bytes | None:
        """Return the attributes as a JSON object, or None.

        It always has the key `event_type`, so that it isn't taken for a batch.
        """
        named = {"event_type": None} | self._attributes
        return self._values.write(named) if self._attributes else None

    def _keep(self, attributes: Mapping[str, Any]) -> None:
        """Collect attributes under the fields' names. Those of an outer envelope stay.

        If an attribute such as `id` comes together with `event_id`, it keeps its own name.
        """
        for name, value in attributes.items():
            field = EVENT_FIELDS_BY_ATTRIBUTE.get(name, name)
            self._attributes.setdefault(name if field in attributes else field, value)

    def _column(self, name: str, value: Any) -> Any:
        """Return the value of a captured row's column.

        A jsonb column comes as text, so parse that.
        """
        text = self._values.string(value) if name in _JSON_COLUMNS else None
        if text is None or text.lstrip(" \t\r\n")[:1] not in {"{", "["}:
            return value
        try:
            return self._values.parse(text)
        except (ValueError, RecursionError):
            return value

    def _base64(self, value: Any) -> bytes:
        try:
            return b64decode(self._values.string(value) or "", validate=True)
        except (binascii.Error, ValueError):
            raise RecordRejectedError("invalid_json", "data_base64: expected base64") from None


_members_decoder: Final[msgspec.json.Decoder[dict[str, Raw]]] = msgspec.json.Decoder(dict[str, Raw])
_text_decoder: Final[msgspec.json.Decoder[str]] = msgspec.json.Decoder(str)
_raw_decoder: Final[msgspec.json.Decoder[Raw]] = msgspec.json.Decoder(Raw)

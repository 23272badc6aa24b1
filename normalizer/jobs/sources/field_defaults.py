"""Gives defaults to fields that are missing from a JSON record (the option `--set NAME=VALUE`).

Files exported from other systems often lack a field that every event needs. For example, a file
with only one execution may not repeat the execution's id in each line.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Raw

from normalizer.core.decode.decode_json import UTF8_BOM
from normalizer.core.decode.wire_fields import CANONICAL_NAME_BY_ALIAS
from normalizer.core.decode.wire_values import NULL
from normalizer.errors import ConfigurationError

_fields: Final[msgspec.json.Decoder[dict[str, Raw]]] = msgspec.json.Decoder(dict[str, Raw])


def parse_field_defaults(settings: Iterable[str]) -> dict[str, str]:
    """Return the texts of `NAME=VALUE` by name. Raises ConfigurationError for any other form."""
    defaults: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name or not equals:
            raise ConfigurationError(
                f"--set: expected NAME=VALUE, such as created_at=2026-01-31; got {setting!r}"
            )
        defaults[name] = value
    return defaults


class FieldDefaults:
    """Adds fields to the values of records that don't have them.

    A field counts as missing if it's null or absent under all of its names. A default that's valid
    JSON is added as it is, and any other text as a JSON string. Records that aren't JSON objects
    stay unchanged.

        FieldDefaults({"created_at": "2026-01-31"}).add_missing_fields(b'{"name":"call.done"}')
        # b'{"name":"call.done","created_at":"2026-01-31"}'
    """

    def __init__(self, defaults: Mapping[str, str]) -> None:
        self._members = {
            name: msgspec.json.encode(name) + b":" + _as_json(value)
            for name, value in defaults.items()
        }

    def __bool__(self) -> bool:
        return bool(self._members)

    def add_missing_fields(self, value: bytes | None) -> bytes | None:
        """Append the missing fields at the end, because the last of duplicate keys counts."""
        if value is None or not self._members:
            return value
        try:
            fields = _fields.decode(value.removeprefix(UTF8_BOM))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return value
        present = {
            CANONICAL_NAME_BY_ALIAS.get(name, name) for name, raw in fields.items() if raw != NULL
        }
        lacking = [
            member
            for name, member in self._members.items()
            if CANONICAL_NAME_BY_ALIAS.get(name, name) not in present
        ]
        if not lacking:
            return value
        if fields:
            lacking.insert(0, value.rstrip()[:-1])
            return b",".join(lacking) + b"}"
        return b"{" + b",".join(lacking) + b"}"


def _as_json(value: str) -> bytes:
    """Return the value unchanged if it's JSON, otherwise as a JSON string."""
    text = value.encode()
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return msgspec.json.encode(value)
    return text

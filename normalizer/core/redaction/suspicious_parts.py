"""Parses only those parts of a JSON text that may contain a secret, to save time.

In a large record, usually a single value has a sign of a secret. Parsing everything and writing it
again would take most of the time of cleaning the record. So the other parts are kept as the bytes
that were sent. Source: docs/spec/wire-shapes.md#r6.
"""

import json
from collections.abc import Mapping
from typing import Final, cast

import msgspec
from msgspec import Raw

from normalizer.core.decode.wire_values import first_byte
from normalizer.core.redaction.prefilter import HasSign
from normalizer.jsontext import (
    MAX_POWER_OF_TEN,
    Json,
    check_number,
    object_from_pairs,
    reject_nan,
)

_SEARCHED_LEVELS: Final = 8
"""A deeper part is parsed as a whole, because each level takes one more search."""
_SHORT: Final = 1_000
"""A shorter text is parsed without a search, which is faster."""
_QUOTE: Final = b'"'
_QUOTE_ESCAPED: Final = b"\\u0022"
_CONTAINERS: Final = b"{["
_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")
_MANY_DIGITS: Final = b"0" * (MAX_POWER_OF_TEN + 1)
"""An integer with fewer digits than this is within the limits."""


def _number(text: str) -> Raw:
    check_number(text)
    return Raw(text)


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(float_hook=_number).decode
_decode_object: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list: Final = msgspec.json.Decoder(list[Raw]).decode
_exact: Final = json.JSONDecoder(
    parse_int=_number,
    parse_float=_number,
    parse_constant=reject_nan,
    object_pairs_hook=object_from_pairs,
)


def parse_suspicious_parts(text: bytes, has_sign: HasSign) -> Json:
    """Parse a JSON text, except for its objects and lists without a sign.

    `has_sign` returns whether a part has a sign. Parts without one become `Raw`, with the bytes
    that were sent. Raises the same errors as `parse_whole_json`.
    """
    return _parse(text, has_sign, 0)


def parse_whole_json(text: bytes) -> Json:
    """Parse all of a JSON text. Numbers become integers, or `Raw` with the bytes that were sent.

    If a key is repeated, its last value counts. Raises ValueError if the text isn't JSON or a
    number is beyond the limits. Raises RecursionError if the text is nested far more deeply than
    any record that we accept.
    """
    if len(text) <= MAX_POWER_OF_TEN or _MANY_DIGITS not in text.translate(_DIGITS):
        try:
            tree = _decode(text)
            if _has_all_keys(text, tree):
                return cast("Json", tree)
        except (msgspec.DecodeError, RecursionError):
            pass  # for example for a lone surrogate
    return cast("Json", _exact.decode(text.decode()))


def encode_tree(tree: Json) -> str:
    """Write such a tree as compact JSON. Strings escape only what they must."""
    return _encode(tree).decode()


def object_members(value: Json) -> Mapping[str, Json] | None:
    """Return the members of an object in such a tree, or None for another value."""
    if isinstance(value, Raw):
        return _decode_object(value) if first_byte(value) == b"{" else None
    return value if isinstance(value, dict) else None


def is_number(value: Json) -> bool:
    """Return whether a value of such a tree is a number."""
    if isinstance(value, Raw):
        return bytes(value)[0] not in _CONTAINERS
    return type(value) is int


def _parse(text: bytes, has_sign: HasSign, level: int) -> Json:
    if level < _SEARCHED_LEVELS and len(text) >= _SHORT:
        try:
            if text.startswith(b"{"):
                members = _decode_object(text)
                if _has_all_keys(text, members):
                    return {k: _part(raw, has_sign, level + 1) for k, raw in members.items()}
            elif text.startswith(b"["):
                return [_part(raw, has_sign, level + 1) for raw in _decode_list(text)]
        except (msgspec.DecodeError, RecursionError):
            pass  # for example for a lone surrogate
    return parse_whole_json(text)


def _part(raw: Raw, has_sign: HasSign, level: int) -> Json:
    text = bytes(raw)
    if text[0] not in _CONTAINERS:
        return (
            cast("Json", _decode(text)) if len(text) <= MAX_POWER_OF_TEN else parse_whole_json(text)
        )
    return _parse(text, has_sign, level) if has_sign(text) else raw


def _has_all_keys(text: bytes, tree: object) -> bool:
    """Return whether the tree has everything that is in the text, i.e. no key is repeated.

    The tree keeps only the last value of a repeated key. To find out whether it lost one, this
    writes the tree in its shortest form. If the result is as long as the text, nothing was lost. If
    it's shorter, the text has either spaces or a repeated key. Each key has two quotes. So nothing
    was lost if both have the same number of quotes, and no quote in the text is escaped.
    """
    written = _encode(tree)
    return len(written) == len(text) or (
        written.count(_QUOTE) == text.count(_QUOTE) and _QUOTE_ESCAPED not in text
    )

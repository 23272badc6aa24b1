"""Parses only the suspicious parts of a JSON text, and leaves the others as text.

A large record usually has a sign of a secret in one of its values. Reading, walking, and writing
the others would take most of the time. Source: docs/spec/wire-shapes.md#r6.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Raw

from normalizer.jsontext import Json, Verbatim, parse, quote

_SEARCHED_LEVELS: Final = 8
"""Deeper parts are parsed as a whole, because each level costs one more search."""
_SHORT: Final = 1_000
"""A shorter text is parsed faster than it's searched."""
_JOINTS: Final = ((",", ":"), (", ", ": "))
"""How writers of JSON separate members, and keys from values."""

_decode_object: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list: Final = msgspec.json.Decoder(list[Raw]).decode


def parse_suspicious(text: bytes, suspects: Callable[[bytes], bool]) -> Json:
    """Return the tree of a JSON text, in which objects and lists without a sign are `Verbatim`.

    `suspects` tells whether a text has a sign. Raises as `parse` does.
    """
    return _parse(text, suspects, 0)


def _parse(text: bytes, suspects: Callable[[bytes], bool], level: int) -> Json:
    if level < _SEARCHED_LEVELS and len(text) >= _SHORT:
        try:
            if text.startswith(b"{") and (members := _members(text)) is not None:
                return {key: _part(raw, suspects, level + 1) for key, raw in members.items()}
            if text.startswith(b"["):
                return [_part(bytes(raw), suspects, level + 1) for raw in _decode_list(text)]
        except (msgspec.DecodeError, RecursionError):
            pass  # a lone surrogate in a key, or broken: `parse` knows which
    return parse(text.decode())


def _part(text: bytes, suspects: Callable[[bytes], bool], level: int) -> Json:
    if text.startswith(b'"'):
        return parse(text.decode()) if b"\\" in text else text[1:-1].decode()
    if len(text) < _SHORT or not text.startswith((b"{", b"[")):
        return parse(text.decode())
    if suspects(text):
        return _parse(text, suspects, level)
    return Verbatim(text.decode())


def _members(text: bytes) -> dict[str, bytes] | None:
    """Return the members of an object, or None if a key may be repeated.

    No key is repeated if the members, written again, give the same text.
    """
    members = {key: bytes(raw) for key, raw in _decode_object(text).items()}
    for comma, colon in _JOINTS:
        between = colon.encode()
        again = comma.encode().join(
            [quote(key).encode() + between + raw for key, raw in members.items()]
        )
        if len(again) + 2 == len(text) and b"{%b}" % again == text:
            return members
    return None

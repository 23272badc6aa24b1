"""Parses only the suspicious parts of a JSON text, and leaves the others as text.

A large record usually has a sign of a secret in one of its values. Reading, walking, and writing
the others would take most of the time. Source: docs/spec/wire-shapes.md#r6.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Raw

from normalizer.jsontext import Json, Verbatim, parse

_SEARCHED_LEVELS: Final = 8
"""Deeper parts are parsed as a whole, because each level costs one more search."""
_SHORT: Final = 1_000
"""A shorter text is parsed faster than it's searched."""

_MOST: Final = 0.75
"""A part that is more of its text than this isn't searched if the shorter text around it can be."""
_NULL: Final = Raw(b"null")

_encode: Final = msgspec.json.Encoder().encode
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
                return _parse_members(text, members, suspects, level + 1)
            if text.startswith(b"["):
                return [_part(bytes(raw), suspects, level + 1) for raw in _decode_list(text)]
        except (msgspec.DecodeError, RecursionError):
            pass  # a lone surrogate in a key, or broken: `parse` knows which
    return parse(text.decode())


def _parse_members(
    text: bytes, members: dict[str, Raw], suspects: Callable[[bytes], bool], level: int
) -> dict[str, Json]:
    tree: dict[str, Json] = {}
    for key, raw in members.items():
        part = bytes(raw)
        if len(part) > len(text) * _MOST and not suspects(_encode(members | {key: _NULL})):
            # Nothing around this part has a sign, so it has one itself.
            tree[key] = _parse(part, suspects, level)
        else:
            tree[key] = _part(part, suspects, level)
    return tree


def _part(text: bytes, suspects: Callable[[bytes], bool], level: int) -> Json:
    if text.startswith(b'"'):
        return parse(text.decode()) if b"\\" in text else text[1:-1].decode()
    if len(text) < _SHORT or not text.startswith((b"{", b"[")):
        return parse(text.decode())
    if suspects(text):
        return _parse(text, suspects, level)
    return Verbatim(text.decode())


def _members(text: bytes) -> dict[str, Raw] | None:
    """Return the members of an object, or None if a key may be repeated.

    There is no shorter text of the same members than the one that the encoder writes. So if it's as
    long as the text sent, nothing is missing. If spaces are between the members, the text must be
    the same.
    """
    members = _decode_object(text)
    if len(_encode(members)) == len(text):
        return members
    again = b", ".join([b"%b: %b" % (_encode(key), raw) for key, raw in members.items()])
    return members if text == b"{%b}" % again else None

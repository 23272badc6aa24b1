"""Reads a row's coercions: the values whose meaning a rule has changed or guessed.

Source: docs/spec/wire-shapes.md#v2.
"""

from typing import Final

import msgspec
from msgspec import Raw

from normalizer.core.decode.wire_values import ABSENT


class Coercion(msgspec.Struct, frozen=True):
    """One change that a rule made to a value.

    `field` is the path of the value, and `original` is the value before the change. It's ABSENT if
    the original isn't stored with the coercion. `more` is True if the rule replaced text at further
    paths, too many to list each as a coercion.
    """

    rule: str
    field: str = ""
    original: Raw = msgspec.field(name="from", default=ABSENT)
    more: bool = False


def read_coercions(coercions: bytes | None) -> list[Coercion]:
    """Return the coercions of a row, in their order."""
    return [] if coercions is None else _list_decoder.decode(coercions)


def read_coercion(coercion: Raw) -> Coercion:
    """Decode a single entry of a row's coercions."""
    return _decoder.decode(coercion)


_decoder: Final[msgspec.json.Decoder[Coercion]] = msgspec.json.Decoder(Coercion)
_list_decoder: Final[msgspec.json.Decoder[list[Coercion]]] = msgspec.json.Decoder(list[Coercion])

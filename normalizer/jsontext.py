"""Parses JSON into a tree that keeps numbers as written, writes it, and measures its depth.

Most JSON is read with msgspec, which is faster but changes how a number is written, for example
from 1.50 to 1.5. So this parser is used for text that's written out again after a change, such as a
document from which a secret was removed.
"""

import json
import re
from array import array
from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from itertools import accumulate
from json.encoder import encode_basestring
from types import NoneType
from typing import Final, TypeAlias, cast

from msgspec import Raw

MAX_NUMBER_DIGITS: Final = 400
"""The most digits that a number may have, both as written and as jsonb prints it. Source:
docs/spec/wire-shapes.md#l3."""
MAX_NUMBER_EXPONENT: Final = 400
MAX_POWER_OF_TEN: Final = 308
"""A number must be below ten to this power, so that readers can convert it to a double (#l3)."""

MAX_FIELD_DEPTH: Final = 126
"""The most levels below a field of an event. With the event's own object it's 127, and Rust readers
accept 128."""

JSON_STRING_PATTERN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_LIST: Final = ord("[")
"""The number of the byte, because searching bytes for b"[" takes five times as long."""
_BRACES: Final = bytes.maketrans(b"[]", b"{}")
_STEPS: Final = bytes.maketrans(b"{}", b"\x01\xff")
_NO_OUTLINE: Final = bytes(set(range(256)) - set(b'[{]}"'))
_QUICK_LEVELS: Final = 8


class JsonNumber(str):
    """A JSON number as it was written, with every digit that a float would lose."""

    __slots__ = ()


class RepeatedKeyObject(dict[str, "Json"]):
    """A JSON object with a repeated key. Its text has a value that the tree lacks."""


class NumberError(ValueError):
    """A number beyond the limits. The message doesn't repeat it."""


Json: TypeAlias = "bool | int | Raw | JsonNumber | str | list[Json] | dict[str, Json] | None"
"""A parsed value. A number is a JsonNumber. In a text that may hold secrets, it's an int or a Raw
instead, and parts that aren't parsed are a Raw too."""


def parse_json_keeping_numbers(text: str) -> Json:
    """Parse one JSON value, and keep its numbers as they were written.

    If a key is repeated, its last value counts, as in jsonb. Strings may contain U+0000 and lone
    surrogates. Raises ValueError if the text isn't JSON or a number is beyond the limits, and
    RecursionError if it's nested far deeper than any event may be.
    """
    return cast("Json", _decoder.decode(text))


def parse_json_canonically(text: str) -> Json:
    """Parse a value, but sort the keys and write numbers as jsonb prints them.

    The rest is as in `parse_json_keeping_numbers`.
    """
    return cast("Json", _canonical_decoder.decode(text))


def write_json(tree: Json) -> str:
    """Write compact JSON. Strings escape only what they must, and numbers stay as they are."""
    text = StringIO()
    _write(tree, text.write)
    return text.getvalue()


quote: Callable[[str], str] = encode_basestring
"""Write a JSON string. It escapes quotes, backslashes, and control characters, with the short form
of an escape if there is one."""


def parse_json_number(text: str) -> JsonNumber:
    """Return the number as written. Raises ValueError if it's beyond the limits (#l3)."""
    if (known := _SMALL.get(text)) is not None:
        return known
    check_number(text)
    return JsonNumber(text)


def check_number(text: str) -> None:
    """Raise ValueError for a number beyond the limits (#l3)."""
    if len(text) > MAX_POWER_OF_TEN or "e" in text or "E" in text:
        _check_limits(text)


def jsonb_number(text: str) -> JsonNumber:
    """Return the number as jsonb prints it: no exponent, no -0, and trailing zeros stay.

    Source: docs/spec/envelope.md#c7.
    """
    parse_json_number(text)
    if "e" in text or "E" in text:
        text = format(Decimal(text), "f")
    if text.startswith("-") and not text.strip("-0."):
        text = text[1:]
    return JsonNumber(text)


def is_deeper(text: bytes, most: int) -> bool:
    """Return whether JSON has more levels than `most`."""
    # Counting levels is slow, so three cheap checks come first, which rule out nearly every text:
    #     1. The text must be longer than two bytes per allowed level, because a level takes at
    #        least two brackets, such as `[]`.
    #     2. If it has no list, it must be longer than five bytes per allowed level, because an
    #        object around another takes the four bytes `{"":` and the closing `}`.
    #     3. It must have more opening brackets than there are allowed levels.
    return (
        len(text) > 2 * most
        and (len(text) > 5 * most or _LIST in text)
        and text.count(b"{") + text.count(b"[") > most
        and _depth(nesting_outline(text)) > most
    )


def nesting_outline(text: bytes) -> bytes:
    """Return the brackets of JSON outside of strings, with a brace for each."""
    # Remove escaped quotes first, so that every remaining quote begins or ends a string. Then whole
    # strings can be removed, and with them the brackets that they contain.
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return JSON_STRING_PATTERN.sub(b"", text.translate(_BRACES, _NO_OUTLINE).replace(b'""', b""))


def _depth(braces: bytes) -> int:
    levels = 0
    while braces and levels < _QUICK_LEVELS:
        braces = braces.replace(b"{}", b"")  # removes the innermost level everywhere
        levels += 1
    return levels + max(accumulate(array("b", braces.translate(_STEPS))), default=0)


def _check_limits(text: str) -> None:
    mantissa, _, exponent = text.lower().partition("e")
    digits = sum(map(str.isdigit, mantissa))
    power = exponent.lstrip("+-").lstrip("0")
    if (
        digits > MAX_NUMBER_DIGITS
        or len(power) > len(str(MAX_NUMBER_EXPONENT))
        or int(power or 0) > MAX_NUMBER_EXPONENT
    ):
        msg = (
            f"a number has more than {MAX_NUMBER_DIGITS} digits or an exponent beyond "
            f"{MAX_NUMBER_EXPONENT}"
        )
        raise NumberError(msg)
    number = Decimal(text)
    if number and number.adjusted() >= MAX_POWER_OF_TEN:
        msg = f"a number is too large: its magnitude is 1e{MAX_POWER_OF_TEN} or more"
        raise NumberError(msg)
    if sum(map(str.isdigit, format(number, "f"))) > MAX_NUMBER_DIGITS:
        msg = f"a number has more than {MAX_NUMBER_DIGITS} digits when its exponent is written out"
        raise NumberError(msg)


def _write(tree: Json, out: Callable[[str], object]) -> None:
    # Take only one stack frame per level, because 256 levels must fit into any caller's stack.
    if (scalar := _SCALARS.get(type(tree))) is not None:
        out(scalar(tree))
    elif isinstance(tree, dict):
        separator = "{"
        for key, value in tree.items():
            if (scalar := _SCALARS.get(type(value))) is not None:
                out(f"{separator}{quote(key)}:{scalar(value)}")
            else:
                out(f"{separator}{quote(key)}:")
                _write(value, out)
            separator = ","
        out("}" if tree else "{}")
    else:
        assert isinstance(tree, list)
        separator = "["
        for value in tree:
            if (scalar := _SCALARS.get(type(value))) is not None:
                out(f"{separator}{scalar(value)}")
            else:
                out(separator)
                _write(value, out)
            separator = ","
        out("]" if tree else "[]")


_SMALL: Final = {str(number): JsonNumber(number) for number in range(-99, 1_000)}
"""Shared objects for small numbers. Without them a list of millions of numbers takes hundreds of
megabytes."""

_SCALARS: Final[dict[type, Callable[..., str]]] = {
    JsonNumber: str,
    int: str,
    Raw: lambda raw: bytes(raw).decode(),
    str: quote,
    bool: {True: "true", False: "false"}.__getitem__,
    NoneType: {None: "null"}.__getitem__,
}
"""How to write a value of each type that has no members."""


def reject_nan(name: str) -> JsonNumber:
    """Raise ValueError for NaN and the like, which Python's parser would accept."""
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _sorted_object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    last = dict(pairs)
    return {key: last[key] for key in sorted(last)}


def object_from_pairs(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """Return an object, or a RepeatedKeyObject if a key is repeated."""
    last = dict(pairs)
    return last if len(last) == len(pairs) else RepeatedKeyObject(last)


_decoder: Final = json.JSONDecoder(
    parse_int=parse_json_number,
    parse_float=parse_json_number,
    parse_constant=reject_nan,
    object_pairs_hook=object_from_pairs,
)
_canonical_decoder: Final = json.JSONDecoder(
    parse_int=jsonb_number,
    parse_float=jsonb_number,
    parse_constant=reject_nan,
    object_pairs_hook=_sorted_object,
)

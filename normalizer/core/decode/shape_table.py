"""An operator's table of shapes, i.e. of further formats in which producers may send events.

A shape says which names a producer uses for the fields of an event, and where it puts their values.
If an event has the keys of a shape in the table, its fields are renamed to the documented names
before any rule reads the event. So the rules need no knowledge of the table.

docs/adding-a-shape.md shows how to write one. Source: docs/spec/wire-shapes.md#d3.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Annotated, Final, Self

import msgspec
from msgspec import Meta, Raw

from normalizer.core.decode.wire_event import WireEvent
from normalizer.core.decode.wire_fields import (
    CANONICAL_NAME_BY_ALIAS,
    FIELD_ALIASES,
    KEYS_WITH_COLUMN,
    READ_FIELDS,
)
from normalizer.core.decode.wire_values import NULL, first_byte, same_json
from normalizer.core.shapes import SHAPES
from normalizer.errors import ConfigurationError

_ALIASABLE_FIELDS: Final = frozenset(
    name for name in KEYS_WITH_COLUMN if CANONICAL_NAME_BY_ALIAS.get(name, name) == name
) | {"attempt", "retry_count", "max_attempts"}
"""The fields that an alias or a place may stand for: the columns, and the three counts of tries
(#n1)."""

_NAMES: Final = {names[0]: names for names in FIELD_ALIASES}
_NAME: Final = re.compile("[a-z][a-z0-9_]{0,39}")
_NOT_ALIASES: Final = READ_FIELDS | {"events", "records", "node_id"}
_SHOWN: Final = 300

_Words = Annotated[tuple[str, ...], Meta(min_length=1)]


class ShapeTestVector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record of the shape, and the canonical line that it must become."""

    raw: str
    gives: str


class CustomShape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shape of an operator's table.

    `keys` are the keys by which an event of this shape is recognized. `aliases` maps a producer's
    key to the documented field that it stands for. `places` maps a field to the paths at which its
    value may be, and the first path with a value is used.
    """

    keys: _Words
    aliases: dict[str, str] = {}
    places: dict[str, _Words] = {}
    vectors: Annotated[tuple[ShapeTestVector, ...], Meta(min_length=1)]

    def rename_fields(self, event: WireEvent) -> WireEvent:
        """Return the event with its fields under the names that the rules know."""
        fields = dict(event.fields)
        renamed: dict[str, str] = {}
        conflicts: list[str] = []
        for alias, field in self.aliases.items():
            if (sent := fields.get(alias, NULL)) == NULL:
                continue
            if (own := _first_value(fields, field)) == NULL:
                del fields[alias]
                fields[field] = sent
                renamed[alias] = field
            elif same_json(own, sent):
                del fields[alias]
            else:
                conflicts.append(alias)
        for field, paths in self.places.items():
            if _first_value(fields, field) == NULL and (sent := _sent_at(fields, paths)) != NULL:
                fields[field] = sent
        if fields != event.fields:
            extra = {name: raw for name, raw in event.extra.items() if name not in event.fields}
            coercions = [_renamed(coercion, renamed) for coercion in event.coercions]
            text = msgspec.json.encode(fields)
            event = WireEvent.decode(text, fields, event.index, extra, coercions)
        for alias in conflicts:
            event.record_coercion_without_original("alias_conflict", alias)
        return event


class ShapeTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All shapes of a table by name, in the order in which they're tried."""

    shapes: Annotated[dict[str, CustomShape], Meta(min_length=1)]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a table. Raises ConfigurationError, which lists every mistake."""
        try:
            table = msgspec.convert(tomllib.loads(text), cls)
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"expected TOML: {error}") from None
        except msgspec.ValidationError as error:
            raise ConfigurationError(str(error).replace("`", "")) from None
        if mistakes := [*table.mistakes()]:
            raise ConfigurationError("\n".join(mistakes))
        return table

    @property
    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits.

        Two tables that read every event the same way have the same.
        """
        read_as = [
            (name, sorted(shape.keys), [*shape.aliases.items()], [*shape.places.items()])
            for name, shape in self.shapes.items()
        ]
        return sha256(msgspec.json.encode(read_as)).hexdigest()[:16]

    @property
    def named_keys(self) -> frozenset[str]:
        """Return every key that the table names."""
        return frozenset(
            name for shape in self.shapes.values() for name in (*shape.keys, *shape.aliases)
        )

    def match_shape_and_translate(self, event: WireEvent) -> tuple[str, WireEvent]:
        """Return the event's shape, or '', and the event as the rules read it."""
        for name, shape in self.shapes.items():
            if event.fields.keys() >= {*shape.keys}:
                return name, shape.rename_fields(event)
        return "", event

    def mistakes(self) -> Iterator[str]:
        """Yield a description of each mistake in the table."""
        for name, shape in self.shapes.items():
            where = f"shapes.{name}"
            if not _NAME.fullmatch(name) or name in SHAPES:
                yield f"{where}: expected a new name of small letters, digits and _"
            for alias in shape.aliases:
                if alias in _NOT_ALIASES:
                    yield f"{where}.aliases: {alias} is read by the rules already"
            for field in (*shape.aliases.values(), *shape.places):
                if field not in _ALIASABLE_FIELDS:
                    known = " ".join(sorted(_ALIASABLE_FIELDS))
                    yield f"{where}: {field} is no field; expected one of {known}"
            for path in (path for paths in shape.places.values() for path in paths):
                if "" in (steps := path.split(".")) or len(steps) == 1:
                    yield f"{where}.places: expected a path such as agent.id, got {path}"


def describe_vector_mistake(
    name: str, number: int, vector: ShapeTestVector, gives: Iterable[str]
) -> str:
    """Describe how the result differs from the vector's canonical line, or return ''."""
    given = "; ".join(gives) or "nothing"
    if given == vector.gives:
        return ""
    return (
        f"shapes.{name}.vectors[{number}]: expected {_shortened(vector.gives)}\n"
        f"shapes.{name}.vectors[{number}]: got      {_shortened(given)}"
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _first_value(fields: dict[str, Raw], field: str) -> Raw:
    """Return the value of a field under the first of its names that has one, or NULL."""
    sent = (fields.get(name, NULL) for name in _NAMES.get(field, (field,)))
    return next((raw for raw in sent if raw != NULL), NULL)


def _sent_at(fields: dict[str, Raw], paths: Iterable[str]) -> Raw:
    """Return the value at the first path that has one, or NULL."""
    for path in paths:
        first, *steps = path.split(".")
        raw = fields.get(first, NULL)
        for step in steps:
            raw = _decoder.decode(raw).get(step, NULL) if first_byte(raw) == b"{" else NULL
        if raw != NULL:
            return raw
    return NULL


def _renamed(coercion: dict[str, object], renamed: dict[str, str]) -> dict[str, object]:
    first, dot, rest = str(coercion["field"]).partition(".")
    return coercion | {"field": f"{renamed.get(first, first)}{dot}{rest}"}


_decoder: Final[msgspec.json.Decoder[dict[str, Raw]]] = msgspec.json.Decoder(dict[str, Raw])

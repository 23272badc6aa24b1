"""Writes the words, names, and limits of the Python rules as Rust, for the native lane.

`python -m tests.support.lane_tables` writes native/lane/src/tables.rs.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from normalizer import snowflake
from normalizer.core import shapes
from normalizer.core.decode import record_limits, wire_fields
from normalizer.core.decode.wire_event import WireEvent
from normalizer.core.rules import attempt_numbers, durations, event_types, names, status, timestamps
from normalizer.envelope import CALL_DONE_EVENT_TYPES, MAX_ATTEMPTS, RULES_VERSION

TABLES: Final = Path(__file__).parents[2] / "native" / "lane" / "src" / "tables.rs"

_SHAPE_KEYS: Final = {
    "RUST_ROW": {"prev_event_id"},
    "RUST_REQUEST": shapes._RUST_REQUEST,
    "NOT_WORKER": shapes._NOT_WORKER,
    "PYTHON_ROW": shapes._PYTHON_ROW,
    "PYTHON_LEGACY": shapes._PYTHON_LEGACY,
    "PYTHON": shapes._PYTHON,
    "RUST_FLAGS": shapes._RUST_FLAGS,
    **{f"HAS_{key.upper()}": {key} for key in ("event_type", "event_id", "name", "timestamp")},
    **{f"HAS_{key.upper()}": {key} for key in sorted(shapes._EXECUTOR)},
}
"""Facts about the keys of an event, each a bit. The shape is recognized from them."""


def tables() -> str:
    """Return the text of the file."""
    top = sorted(wire_fields.READ_FIELDS - wire_fields.KEYS_WITH_COLUMN)
    columns = sorted(wire_fields.KEYS_WITH_COLUMN)
    members = wire_fields.NestedFields.__struct_fields__
    parts = [
        "//! Generated from the Python rules: type `python -m tests.support.lane_tables`.",
        _constants(
            {
                "RULES_VERSION": ("i32", RULES_VERSION),
                "MAX_EVENT_TYPE_BYTES": ("usize", names.MAX_EVENT_TYPE_BYTES),
                "MAX_NAME_BYTES": ("usize", names.MAX_NAME_BYTES),
                "MAX_STATUS_BYTES": ("usize", status.MAX_STATUS_BYTES),
                "MAX_EVENTS_IN_RECORD": ("usize", record_limits.MAX_EVENTS_IN_RECORD),
                "MAX_ATTEMPTS": ("i32", MAX_ATTEMPTS),
                "MAX_WORK_S": ("f64", float(durations._MAX_OF_WORK_S)),
                "MAX_S": ("f64", float(durations._MAX_S)),
                "MAX_RECORDED_MS": ("i64", timestamps._MAX_RECORDED_MS),
                "EPOCH_MS": ("i64", snowflake.EPOCH_MS),
                "FAILED_PREFIX": ("&str", status._FAILED_PREFIX),
                "NO_STEP": ("&str", names._NO_STEP),
                "NO_STATUS": ("&str", status._UNKNOWN),
            }
        ),
        _names(
            "CALL_DONE_EVENT_TYPES", "The types of events that end a call.", CALL_DONE_EVENT_TYPES
        ),
        _names(
            "BEGINS",
            "The types of events that begin an execution.",
            event_types.EVENT_TYPE_SPELLINGS[0],
        ),
        _names(
            "STEP_EXIT",
            "The types of events whose nested status may be a user's own word.",
            next(known for known in event_types.EVENT_TYPE_SPELLINGS if known[0] == "step.exit"),
        ),
        _names(
            "LEGACY_EVENT_TYPES",
            "The first characters of event types in the flat rows of 2025.",
            shapes._LEGACY_EVENT_TYPES,
        ),
        _names(
            "WORK",
            "The first words of event types of a call, a command, or a step.",
            sorted(status._WORK),
        ),
        _names("FAILURES", "The outcomes that are failures.", sorted(status._FAILURES)),
        _names("NESTED_ENDINGS", "Nested words that mean an end.", sorted(status._NESTED_ENDINGS)),
        _names(
            "ENDINGS", "The status words of an event that ends something.", sorted(status._ENDINGS)
        ),
        _names(
            "WEAKER",
            "Words that count less than the type of an event that ends something.",
            sorted(status._WEAKER),
        ),
        _names(
            "COUNTED_FROM_ONE",
            "Fields that count attempts from one, in the order in which they are tried.",
            [field for field, _ in attempt_numbers._counted_from_one(_event_with_every_field())],
        ),
        _names(
            "DURATIONS",
            "Fields that hold milliseconds, in the order in which they are tried.",
            [field for field, _ in durations._milliseconds(wire_fields.NO_NESTED_OBJECTS)],
        ),
        _name_words(),
        _mapping("call_outcome", "Returns the outcome of a finished call.", status._CALL_OUTCOMES),
        _mapping(
            "other_word", "Returns the canonical word of any other event.", status._OTHER_WORDS
        ),
        _pairs(),
        _fields("Top", "A top-level field that a rule reads.", (*top, *columns), named=True),
        _first_column(len(top)),
        _fields("Member", "A field that a rule reads in a nested object.", members, named=False),
        _shape_bits(),
    ]
    return "\n".join(parts)


def _event_with_every_field() -> WireEvent:
    """Return an event that has every field which a rule reads, at its top and in each object."""
    members = wire_fields.NestedFields.__struct_fields__
    value: object = 1
    for _ in range(3):
        value = dict.fromkeys(members, value)
    fields = dict.fromkeys(("correlation", "context", "meta", "result"), value)
    text = msgspec.json.encode(dict.fromkeys(wire_fields.READ_FIELDS, 1) | fields)
    return WireEvent.decode(text, msgspec.json.decode(text, type=dict[str, msgspec.Raw]))


def _constants(constants: Mapping[str, tuple[str, object]]) -> str:
    return "".join(
        f"/// The constant of this name in Python.\npub const {name}: {kind} = {_literal(value)};\n"
        for name, (kind, value) in constants.items()
    )


def _literal(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value:_}" if isinstance(value, int) else f"{value:_.1f}"


def _names(name: str, says: str, words: Iterable[str]) -> str:
    lines = "".join(f'    "{word}",\n' for word in words)
    return f"/// {says}\npub const {name}: &[&str] = &[\n{lines}];\n"


def _name_words() -> str:
    lines = "".join(
        f'    ("{word}", &[{", ".join(map(_literal, sorted(words)))}]),\n'
        for word, words in status._TYPE_WORDS
    )
    return (
        "/// Each status, and the words of an event's type that imply it. The first match counts.\n"
        f"pub const NAME_WORDS: &[(&str, &[&str])] = &[\n{lines}];\n"
    )


def _mapping(name: str, says: str, words: Mapping[str, str]) -> str:
    arms = ""
    for canonical in dict.fromkeys(words.values()):
        found = "\n        | ".join(
            f'"{word}"' for word, status_word in words.items() if status_word == canonical
        )
        arms += f'        {found} => Some("{canonical}"),\n'
    return (
        f"/// {says} `folded` is in upper case, with `_` for `-` and blanks.\n"
        f"pub fn {name}(folded: &str) -> Option<&'static str> {{\n"
        f"    match folded {{\n{arms}        _ => None,\n    }}\n}}\n"
    )


def _pairs() -> str:
    lines = "".join(
        f"    &[{', '.join(f'Top::{_variant(name)}' for name in names)}],\n"
        for names in wire_fields.FIELD_ALIASES
    )
    return (
        "/// Names for the same field, the strongest first.\n"
        f"pub const PAIRS: &[&[Top]] = &[\n{lines}];\n"
    )


def _fields(kind: str, says: str, names: Iterable[str], *, named: bool) -> str:
    names = tuple(names)
    variants = "".join(f"    /// `{name}`\n    {_variant(name)},\n" for name in names)
    arms = "".join(f'            "{name}" => Some(Self::{_variant(name)}),\n' for name in names)
    words = "".join(f'        "{name}",\n' for name in names)
    listed = (
        f"    /// Their names, in order.\n    pub const NAMES: [&'static str; {len(names)}] = [\n"
        f"{words}    ];\n\n"
    )
    return (
        f"/// {says}\n"
        "#[derive(Clone, Copy, Debug, PartialEq, Eq)]\n"
        f"pub enum {kind} {{\n{variants}}}\n\n"
        f"impl {kind} {{\n"
        f"    /// The number of fields.\n    pub const COUNT: usize = {len(names)};\n"
        f"{listed if named else ''}"
        "    /// Returns the field with this name.\n"
        f"    pub fn of_key(key: &str) -> Option<Self> {{\n        match key {{\n{arms}"
        "            _ => None,\n        }\n    }\n}\n"
    )


def _first_column(at: int) -> str:
    return f"/// The first field that becomes a column.\npub const FIRST_COLUMN: usize = {at};\n"


def _shape_bits() -> str:
    bits = {name: 1 << at for at, name in enumerate(_SHAPE_KEYS)}
    constants = "".join(
        f"/// The bit of this fact about the keys.\npub const {name}: u32 = {bit};\n"
        for name, bit in bits.items()
    )
    keys_by_sets: dict[str, list[str]] = {}
    for key in sorted(set().union(*_SHAPE_KEYS.values())):
        sets = " | ".join(name for name, of in _SHAPE_KEYS.items() if key in of)
        keys_by_sets.setdefault(sets, []).append(f'"{key}"')
    arms = "".join(
        f"        {' | '.join(keys)} => {sets},\n" for sets, keys in keys_by_sets.items()
    )
    executor = " | ".join(f"HAS_{key.upper()}" for key in sorted(shapes._EXECUTOR))
    return (
        f"{constants}/// The bits of all keys of an executor's event.\n"
        f"pub const EXECUTOR: u32 = {executor};\n\n"
        "/// Returns the bits that a top-level key sets.\n"
        "pub fn key_sets(key: &str) -> u32 {\n"
        f"    match key {{\n{arms}        _ => 0,\n    }}\n}}\n"
    )


def _variant(name: str) -> str:
    return "".join(map(str.capitalize, name.split("_")))


if __name__ == "__main__":
    TABLES.write_text(tables())

"""Describes the differences between a vector and the core's result."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from normalizer.envelope import Envelope, Ignored, Normalized, Rejected, to_canonical
from tests.vectors.corpus import JSON_COLUMNS, parse_json

REGIONS: Final = {"derived": 0b10, "hashed": 0b11}
"""Bits 62 and 61 of an id: made from a record's place, or from a hash alone."""


def differences(expected: list[dict[str, Any]], given: tuple[Normalized, ...]) -> Iterator[str]:
    """Yield where a record's outcomes differ from its vector."""
    if len(expected) != len(given):
        yield f"{len(expected)} outcomes expected, got {len(given)}: {given}"
        return
    for reported, outcome in zip(expected, given, strict=True):
        yield from outcome_differences(reported, outcome)


def outcome_differences(reported: dict[str, Any], outcome: Normalized) -> Iterator[str]:
    """The differences of one outcome."""
    if "quarantine" in reported:
        match outcome:
            case Rejected(reason=reason, index=index) if reason == reported["quarantine"]:
                if index != reported.get("index", index):
                    yield f"index: expected {reported['index']}, got {index}"
            case _:
                yield f"expected quarantine {reported['quarantine']}, got {outcome}"
    elif "ignored" in reported:
        if not isinstance(outcome, Ignored):
            yield f"expected to be ignored, got {outcome}"
    elif isinstance(outcome, Envelope):
        yield from _row_differences(reported, outcome)
    else:
        yield f"expected an event, got {outcome}"


def _row_differences(  # noqa: C901, PLR0912 - one case for each thing a vector can say
    reported: dict[str, Any], event: Envelope
) -> Iterator[str]:
    for key, value in reported.items():
        match key:
            case "absent":
                for column in value:
                    if (given := column_value(event, column)) is not None:
                        yield f"{column}: expected none, got {given!r}"
            case "has":
                for column, members in value.items():
                    yield from _missing(column, members, column_value(event, column))
            case "lacks":
                for column, keys in value.items():
                    for member in set(keys) & set(column_value(event, column) or ()):
                        yield f"{column}.{member}: expected none"
            case "not":
                for column, other in value.items():
                    if same(other, column_value(event, column)):
                        yield f"{column}: expected anything but {other!r}"
            case "coerced":
                yield from _coercion_differences(value, column_value(event, "coercions") or [])
            case "family":
                if not event.shape.startswith(value + "_"):
                    yield f"shape: expected one of {value}'s, got {event.shape}"
            case "region":
                if event.event_id is None or event.event_id >> 61 != REGIONS[value]:
                    yield f"event_id: expected a {value} one, got {event.event_id}"
            case "canonical":
                if (line := to_canonical(event).decode()) != value:
                    yield f"canonical: expected {value}\n{'':>20} got {line}"
            case _:
                if not same(value, given := column_value(event, key)):
                    yield f"{key}: expected {value!r}, got {given!r}"


def column_value(event: Envelope, column: str) -> Any:
    """A column by value: JSON parsed, a time as canonical text, JSON null as none."""
    value = getattr(event, column)
    if value is not None and column in JSON_COLUMNS:
        return parse_json(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are one: 1 is 1.0, but true is not 1."""
    match a, b:
        case dict(), dict():
            return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
        case list(), list():
            return len(a) == len(b) and all(map(same, a, b))
        case (bool(), _) | (_, bool()):
            return a is b
        case ((int() | float() | Decimal()), (int() | float() | Decimal())):
            return Decimal(str(a)) == Decimal(str(b))
        case _:
            return type(a) is type(b) and bool(a == b)


def _missing(column: str, members: dict[str, Any], given: Any) -> Iterator[str]:
    for key, value in members.items():
        if not isinstance(given, dict) or key not in given or not same(value, given[key]):
            yield f"{column}.{key}: expected {value!r} in {given!r}"


def _coercion_differences(
    reported: list[dict[str, Any]], given: list[dict[str, Any]]
) -> Iterator[str]:
    left = list(given)
    for wanted in reported:
        for coercion in left:
            if all(key in coercion and same(wanted[key], coercion[key]) for key in wanted):
                left.remove(coercion)
                break
        else:
            yield f"coercions: expected {wanted!r} in {given!r}"
    for coercion in left:
        yield f"coercions: did not expect {coercion!r}"

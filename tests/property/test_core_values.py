"""Nothing that a producer sent is lost: every value stands in the record rebuilt from its row."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.rebuild_record import rebuild_record
from normalizer.core.redaction.unstorable import replace_unstorable
from normalizer.core.rules.timestamps import TIME_FIELDS, parse_time
from normalizer.envelope import Envelope
from tests.property.raw_events import RECORDED_MS, as_json, events

normalizer = Normalizer()


def leaves(tree: Any) -> Iterator[str]:
    """Every value of a tree as text: numbers by value, ids as text or number, case as it may be."""
    match tree:
        case dict():
            for value in tree.values():
                yield from leaves(value)
        case list():
            for value in tree:
                yield from leaves(value)
        case bool():
            yield str(tree)
        case int() | Decimal():
            yield spelled(f"{Decimal(tree):f}")
        case str() if tree:
            yield spelled(replace_unstorable(tree))
        case _:
            pass


def spelled(text: str) -> str:
    try:
        digits = text.isascii() and len(text) < 400
        return f"{Decimal(text).normalize() + 0:f}" if digits else text.upper()
    except ArithmeticError:
        return text.upper()


def parse(value: bytes) -> dict[str, Any]:
    tree = json.loads(value.removeprefix(b"\xef\xbb\xbf"), parse_float=Decimal)
    assert isinstance(tree, dict)
    return tree


def times(event: dict[str, Any]) -> set[Any]:
    """The instants that an event names: their spelling is not kept."""
    sent = [event.get(name) for name in TIME_FIELDS]
    decoded = [int(each) if each is not True and isinstance(each, int) else each for each in sent]
    return {parse_time(str(each) if isinstance(each, Decimal) else each) for each in decoded}


@given(events())
def test_every_value_that_was_sent_is_in_the_denormalized_record(sent: dict[str, Any]) -> None:
    value = as_json(sent)
    outcomes = normalizer.normalize(RawRecord(value=value, topic="t", recorded_ms=RECORDED_MS))
    for event in outcomes:
        if not isinstance(event, Envelope):
            continue
        original, rebuilt = parse(value), parse(rebuild_record(event).value or b"")

        assert times(original) <= times(rebuilt) | {None}
        seconds = original.pop("duration", None)
        readable = [name for name in TIME_FIELDS if parse_time(_value(original.get(name)))]
        for name in readable:
            del original[name]
        assert set(leaves(original)) <= set(leaves(rebuilt))
        if isinstance(seconds, int | Decimal) and not isinstance(seconds, bool):
            kept = Decimal(str(rebuilt["duration"]))
            assert kept in {Decimal(seconds), Decimal(seconds) / 1000}


def _value(value: Any) -> object:
    return str(value) if isinstance(value, Decimal) else value


def test_a_denormalized_record_says_where_it_stood() -> None:
    record = RawRecord(
        value=msgspec.json.encode({"execution_id": 1, "event_type": "x"}),
        topic="noetl.events",
        incarnation=1,
        partition=2,
        offset=3,
        headers=(("a", b"1"), ("a", None), ("b", b"\xff")),
        recorded_ms=RECORDED_MS,
    )
    (event,) = normalizer.normalize(record)
    assert isinstance(event, Envelope)

    rebuilt = rebuild_record(event)

    assert msgspec.structs.replace(rebuilt, value=record.value, shape=None) == record
    assert rebuilt.shape == "unknown"

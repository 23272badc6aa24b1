"""A part that isn't parsed because it has no sign would have been kept as it is."""

import json
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, strategies as st

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.redaction import suspicious_parts
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.core.redaction.suspicious_parts import (
    encode_tree,
    parse_suspicious_parts,
    parse_whole_json,
)
from normalizer.envelope import Envelope
from normalizer.jsontext import (
    RepeatedKeyObject,
    parse_json_canonically,
    parse_json_keeping_numbers,
    write_json,
)
from tests.property.raw_events import as_json
from tests.property.test_sanitize_laws import secretive

sanitizer = Sanitizer(["iban"])


@given(secretive, st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")]), st.booleans())
def test_parts_without_a_sign_are_kept_as_they_are(
    tree: Any, joints: tuple[str, str], is_wrapped: bool
) -> None:
    if is_wrapped:
        tree = {"result": tree, "password": "hunter2hunter2"}
    text = json.dumps(
        parse_json_keeping_numbers(as_json(tree).decode()), separators=joints, ensure_ascii=False
    )
    sent = _encoded(text).decode()
    with patch.object(suspicious_parts, "_SHORT", 0):
        some = sanitizer.clean(sent, parse_suspicious_parts(sent.encode(), sanitizer.has_sign))

    whole = sanitizer.clean(sent, parse_whole_json(sent.encode()))

    assert parse_json_canonically(some.text) == parse_json_canonically(whole.text)
    assert some.replaced == whole.replaced


@given(secretive, st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")]), st.booleans())
def test_a_tree_has_all_that_its_text_has(
    tree: Any, joints: tuple[str, str], is_ascii: bool
) -> None:
    sent = json.dumps(
        parse_json_keeping_numbers(as_json(tree).decode()), separators=joints, ensure_ascii=is_ascii
    )
    sent = _encoded(sent).decode()

    read = parse_whole_json(sent.encode())

    assert parse_json_canonically(write_json(read)) == parse_json_canonically(sent)


@pytest.mark.parametrize(
    "number",
    [
        *("-0", "0", "12345678901234567890123", "-99", "1.50", "1E5", "-0.0", "1e-7"),
        *("9" * 307, "1" + "0" * 307, "0." + "1" * 300),
    ],
)
def test_a_number_keeps_its_digits(number: str) -> None:
    tree = parse_whole_json(f'{{"a":[{number}]}}'.encode())

    assert parse_json_canonically(encode_tree(tree)) == parse_json_canonically(
        f'{{"a":[{number}]}}'
    )


@pytest.mark.parametrize("number", ["9" * 309, "-" + "9" * 400, "1e309", "1e-500", "NaN", "01"])
def test_a_number_beyond_the_limits_is_rejected(number: str) -> None:
    for read in (parse_whole_json, lambda text: parse_json_keeping_numbers(text.decode())):
        with pytest.raises(ValueError, match=r"number|JSON|delimiter"):
            read(f"[{number}]".encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"a":1, "a":1}',
        '{"b":[{"a":"x","a":"y"}],"c":1}',
        r'{"a":1,"a":2,"b":"\u0022\u0022"}',
        r'{"\u0061":1,"a":2,"b":"\u0022"}',
        r'{"a":"\ud800","a":1}',
    ],
)
def test_a_repeated_key_is_seen(text: str) -> None:
    tree = parse_whole_json(text.encode())

    assert _repeats(tree)


def _repeats(tree: Any) -> bool:
    if isinstance(tree, list):
        return any(map(_repeats, tree))
    return isinstance(tree, RepeatedKeyObject) or (
        isinstance(tree, dict) and any(map(_repeats, tree.values()))
    )


def test_a_large_part_without_a_sign_is_not_parsed() -> None:
    rows = write_json([{"id": str(number)} for number in range(1_000)])
    text = f'{{"rows":{rows},"password":"hunter2hunter2"}}'.encode()

    tree = parse_suspicious_parts(text, sanitizer.has_sign)

    assert isinstance(tree, dict)
    assert isinstance(tree["rows"], msgspec.Raw)
    assert bytes(tree["rows"]) == rows.encode()


def test_a_list_beside_a_large_batch_without_a_sign_is_cleaned() -> None:
    """The list looks like a batch too, if the batch isn't seen because it isn't parsed."""
    events = [{"event_type": "x", "created_at": 1e9, "context": {"text": "y" * 2_000}}]
    sent = {"execution_id": 1, "events": events, "records": ["password=hunter2hunter2"]}

    (event,) = Normalizer().normalize(RawRecord(value=msgspec.json.encode(sent), topic="t"))

    assert isinstance(event, Envelope)
    assert event.extra == b'{"records":["password=[REDACTED]"]}'


def test_the_earlier_value_of_a_repeated_key_does_not_stay() -> None:
    rows = write_json([{"id": str(number)} for number in range(1_000)])
    text = f'{{"rows":{rows},"note":"password=hunter2hunter2","note":"fine"}}'

    kept = sanitizer.clean(text, parse_suspicious_parts(text.encode(), sanitizer.has_sign)).text

    assert "hunter2" not in kept
    assert msgspec.json.decode(kept)["note"] == "fine"


def _encoded(text: str) -> bytes:
    return text.encode(errors="replace")

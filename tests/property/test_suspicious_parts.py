"""A part that isn't parsed because it has no sign would have been kept as it is."""

import json
from typing import Any
from unittest.mock import patch

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.redaction import suspicious_parts
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.core.redaction.suspicious_parts import parse_suspicious
from normalizer.envelope import Envelope
from normalizer.jsontext import Verbatim, parse, parse_canonical, write
from tests.property.raw_events import as_json
from tests.property.test_sanitize_laws import secretive

sanitizer = Sanitizer(["iban"])


@given(secretive, st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")]), st.booleans())
def test_parts_without_a_sign_are_kept_as_they_are(
    tree: Any, joints: tuple[str, str], is_wrapped: bool
) -> None:
    if is_wrapped:
        tree = {"result": tree, "password": "hunter2hunter2"}
    text = json.dumps(parse(as_json(tree).decode()), separators=joints, ensure_ascii=False)
    sent = _encoded(text).decode()
    with patch.object(suspicious_parts, "_SHORT", 0):
        some = sanitizer.clean(sent, parse_suspicious(sent.encode(), sanitizer.suspects))

    whole = sanitizer.clean(sent, parse(sent))

    assert parse_canonical(some.text) == parse_canonical(whole.text)
    assert some.replaced == whole.replaced


def test_a_large_part_without_a_sign_is_not_parsed() -> None:
    rows = write([{"id": str(number)} for number in range(1_000)])
    text = f'{{"rows":{rows},"password":"hunter2hunter2"}}'.encode()

    tree = parse_suspicious(text, sanitizer.suspects)

    assert isinstance(tree, dict)
    assert tree["rows"] == rows
    assert isinstance(tree["rows"], Verbatim)


def test_a_list_beside_a_large_batch_without_a_sign_is_cleaned() -> None:
    """The list looks like a batch too, if the batch isn't seen because it isn't parsed."""
    events = [{"event_type": "x", "created_at": 1e9, "context": {"text": "y" * 2_000}}]
    sent = {"execution_id": 1, "events": events, "records": ["password=hunter2hunter2"]}

    (event,) = Normalizer().normalize(RawRecord(value=msgspec.json.encode(sent), topic="t"))

    assert isinstance(event, Envelope)
    assert event.extra == b'{"records":["password=[REDACTED]"]}'


def test_the_earlier_value_of_a_repeated_key_does_not_stay() -> None:
    rows = write([{"id": str(number)} for number in range(1_000)])
    text = f'{{"rows":{rows},"note":"password=hunter2hunter2","note":"fine"}}'

    kept = sanitizer.clean(text, parse_suspicious(text.encode(), sanitizer.suspects)).text

    assert "hunter2" not in kept
    assert msgspec.json.decode(kept)["note"] == "fine"


def _encoded(text: str) -> bytes:
    return text.encode(errors="replace")

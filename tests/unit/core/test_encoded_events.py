"""The columns of an event decode to what was encoded, and the fixed ones lie at fixed places."""

import struct
from datetime import UTC, datetime, timedelta

import pytest

from normalizer.core.encoded_events import (
    ENCODED_COLUMNS,
    FIXED_LENGTH_COLUMNS,
    EncodedEvent,
    decode_envelope,
    encode_envelope,
    recorded_or_created_at,
    to_encoded_columns,
    to_envelope,
)
from normalizer.envelope import Envelope
from tests.support.factories import envelope, recorded_at

FULL = envelope(
    7,
    max_attempts=3,
    worker_id="",
    command_id="9:fetch:1:i3",
    iteration=3,
    node_type="http",
    catalog_id=2**63 - 1,
    parent_event_id=-(2**63),
    parent_execution_id=5,
    duration=0.018,
    error="ß 🙂",
    context=b'{"b": 1,  "a": 1.50}',
    result=b'"text"',
    extra=b"{}",
    coercions=b"[]",
    headers=b"{}",
    trace_id="00ff",
    created_at=datetime(1, 1, 1, tzinfo=UTC),
    recorded_at=datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    attempts=32_767,
    merge_flags=3,
)


@pytest.mark.parametrize("event", [envelope(), FULL, envelope(recorded_at=None, worker_id="w")])
def test_decoded_columns_are_the_event(event: Envelope) -> None:
    assert decode_envelope(encode_envelope(event)) == event


def test_every_field_of_an_envelope_is_a_column() -> None:
    assert sorted(ENCODED_COLUMNS) == sorted(Envelope.__struct_fields__)


def test_fixed_columns_lie_at_fixed_places() -> None:
    columns = encode_envelope(FULL)

    assert columns[:24] == struct.pack(">iqiq", 8, FULL.execution_id, 8, FULL.event_id)[:24]
    assert struct.unpack_from(">iq", columns, 32) == (8, -63_082_281_600_000_000)
    assert len(FIXED_LENGTH_COLUMNS) == 11


@pytest.mark.parametrize(
    "fields",
    [
        {"execution_id": 2**63},
        {"attempts": 2**31},
        {"evidence": 2**15},
        {"catalog_id": -(2**63) - 1},
        {"event_type": "\ud800"},
        {"event_id": None},
        {"created_at": None},
        {"created_at": recorded_at().replace(tzinfo=None)},
    ],
    ids=str,
)
def test_value_that_no_column_can_hold_is_named_as_such(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"column|surrogates"):
        encode_envelope(envelope(**fields))


def test_encoded_event_and_envelope_give_the_same_columns() -> None:
    encoded = EncodedEvent(1, 2, "executor", None, encode_envelope(FULL))

    assert to_encoded_columns(encoded) == to_encoded_columns(FULL)
    assert to_envelope(encoded) == to_envelope(FULL) == FULL


@pytest.mark.parametrize("event", [FULL, envelope(recorded_at=None, worker_id="w")])
def test_time_of_an_encoded_event_is_that_of_its_envelope(event: Envelope) -> None:
    encoded = EncodedEvent(1, 2, "executor", None, encode_envelope(event))

    assert recorded_or_created_at(encoded) == recorded_or_created_at(event)
    assert recorded_or_created_at(event) == (event.recorded_at or event.created_at)


def test_microseconds_are_exact_on_both_sides_of_the_epoch() -> None:
    epoch = datetime(2000, 1, 1, tzinfo=UTC)

    for microseconds in (-86_400_000_001, -1, 0, 1, 999_999, 86_400_000_001):
        event = envelope(created_at=epoch + timedelta(microseconds=microseconds))
        assert struct.unpack_from(">q", encode_envelope(event), 36) == (microseconds,)
        assert decode_envelope(encode_envelope(event)) == event

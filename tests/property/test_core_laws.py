"""The laws of the core, over raw events of every shape with junk in every field."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, reject, strategies as st

from normalizer.core.decode.decode_json import MAX_EVENT_DEPTH
from normalizer.core.decode.record_limits import MAX_LARGE_EXPONENTS
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.rebuild_record import rebuild_record
from normalizer.envelope import (
    Envelope,
    Ignored,
    Normalized,
    Rejected,
    to_canonical,
)
from tests.property.raw_events import records
from tests.support.factories import raw_record
from tests.support.hostile_records import hostile_values
from tests.support.merging import as_stored

_HOSTILE = list(hostile_values(seed=7, count=3_000))

normalizer = Normalizer()


def _with_context(context: bytes) -> bytes:
    return b'{"event_type":"step.exit","execution_id":"7","context":%b}' % context


def envelopes(record: RawRecord) -> list[Envelope]:
    return [event for event in normalizer.normalize(record) if isinstance(event, Envelope)]


@given(st.binary())
def test_any_bytes_have_an_outcome(value: bytes) -> None:
    outcomes = normalizer.normalize(RawRecord(value=value, topic="t", recorded_ms=0))

    assert outcomes


def test_hostile_values_have_an_outcome_each() -> None:
    for value in _HOSTILE:
        outcomes = normalizer.normalize(RawRecord(value=value, topic="t", recorded_ms=0))

        assert outcomes
        assert all(isinstance(outcome, Envelope | Rejected | Ignored) for outcome in outcomes)


@given(st.one_of(records().map(lambda record: record.value), st.sampled_from(_HOSTILE)))
@example(_with_context(b"[" * MAX_EVENT_DEPTH + b"]" * MAX_EVENT_DEPTH))
@example(_with_context(b"[" + b",".join([b"1e99"] * (MAX_LARGE_EXPONENTS + 1)) + b"]"))
def test_fast_path_has_the_outcomes_of_the_slow_path(value: bytes | None) -> None:
    """A blank before an object keeps it off the fast path of `decode_events`."""
    if value is None or not value.startswith(b"{"):
        reject()

    fast, slow = (
        [without_text(outcome) for outcome in normalizer.normalize(raw_record(1, value=sent))]
        for sent in (value, b" " + value)
    )

    assert fast == slow


def without_text(outcome: Normalized) -> Normalized:
    """Without what a rejection says about bytes, because the blank moves them."""
    if isinstance(outcome, Rejected):
        return msgspec.structs.replace(outcome, detail="", sample=None)
    return outcome


@given(records())
def test_a_denormalized_row_normalises_to_the_same_row(record: RawRecord) -> None:
    for event in envelopes(record):
        for row in (event, as_stored(event)):
            again = envelopes(rebuild_record(row))

            assert [as_stored(each) for each in again] == [as_stored(event)]


@given(records())
def test_a_canonical_line_normalises_to_itself(record: RawRecord) -> None:
    for event in envelopes(record):
        line = to_canonical(event)

        again = envelopes(RawRecord(value=line))

        assert [to_canonical(each) for each in again] == [line]


@pytest.mark.parametrize("nested", [None, 900, "900", "cli-local-2", 1000, 0, [1]])
@pytest.mark.parametrize("top", [None, 901, -1, 0, 1.5, [1], "cli-local-1"])
def test_a_begin_that_names_its_parent_twice_normalises_to_itself(top: Any, nested: Any) -> None:
    sent = {
        "execution_id": 1000,
        "event_id": 5,
        "event_type": "playbook.started",
        "parent_execution_id": top,
        "context": {"parent_execution_id": nested},
    }

    (event,) = envelopes(raw_record(value=sent))

    assert envelopes(rebuild_record(event)) == [event]
    (line,) = envelopes(RawRecord(value=to_canonical(event)))
    assert to_canonical(line) == to_canonical(event)


@pytest.mark.parametrize("number", [b"9e2", b"900e0", b"-9e2", b"9.5e0", b"9.0", b"0e0", b"1e19"])
@pytest.mark.parametrize("where", [b'"context":{%b}', b'"result":{"context":{%b}}'])
def test_a_begin_with_a_parent_of_another_spelling_normalises_to_itself(
    where: bytes, number: bytes
) -> None:
    sent = where % (b'"parent_execution_id":' + number)
    value = b'{"execution_id":1000,"event_id":5,"event_type":"playbook.started",%b}' % sent

    (event,) = envelopes(RawRecord(value=value))

    assert [to_canonical(one) for one in envelopes(RawRecord(value=to_canonical(event)))] == [
        to_canonical(event)
    ]
    assert envelopes(rebuild_record(as_stored(event))) == [as_stored(event)]

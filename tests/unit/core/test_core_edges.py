"""Edges of the core that no vector states: hostile forms, and what a rejection may say."""

import json
import time
from base64 import b64encode
from typing import Any

import pytest

from normalizer.core.decode import wire_event
from normalizer.core.decode.record_layers import MAX_UNSTORABLE_COERCIONS
from normalizer.core.decode.record_limits import check_depth
from normalizer.core.decode.wire_values import RecordRejectedError
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.rules.timestamps import _TEXT
from normalizer.envelope import (
    RULES_VERSION,
    Envelope,
    Ignored,
    Normalized,
    Rejected,
    to_canonical,
)
from normalizer.snowflake import hash_text_id


def _alike(bits: int) -> list[bytes]:
    """Keys that all become the same when they are cleaned."""
    signs = (b"\\u0000", b"\\ud800")
    keys = (b"".join(signs[n >> bit & 1] for bit in range(bits)) for n in range(1 << bits))
    return [b'"%b":1' % key for key in keys]


RECORDED_MS = 1_784_000_000_000
SECRET = "hunter2hunter2"
NORMALIZE = Normalizer().normalize


def outcomes(value: Any, **changes: Any) -> tuple[Normalized, ...]:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    coordinates: dict[str, Any] = {
        "topic": "noetl.events",
        "partition": 3,
        "offset": 42,
        "recorded_ms": RECORDED_MS,
    }
    return NORMALIZE(RawRecord(value=raw, **coordinates | changes))


def envelope(value: Any = None, **changes: Any) -> Envelope:
    event = {"execution_id": 1, "event_type": "x"}
    (outcome,) = outcomes(event | (value or {}), **changes)
    assert isinstance(outcome, Envelope), outcome
    return outcome


def rejected(value: Any, **changes: Any) -> Rejected:
    (outcome,) = outcomes(value, **changes)
    assert isinstance(outcome, Rejected), outcome
    return outcome


def test_null_in_an_envelope_is_rejected_alike_beside_a_secret() -> None:
    for beside in ({"source": "s"}, {"token": SECRET}):
        found = rejected({"specversion": "1.0", "data": None} | beside)

        assert (found.reason, found.shape) == ("not_an_event", "")
        assert found.detail.endswith("expected an object, got null")


@pytest.mark.parametrize(
    "inside", [{"global_sequence": 1, "payload": "%s"}, {"events": ["%s"]}], ids=["feed", "batch"]
)
def test_secret_in_a_string_in_base64_is_removed(inside: dict[str, Any]) -> None:
    event = {"execution_id": 1, "name": "a", "context": {"password": SECRET}}
    # Indented, it doesn't begin as a JSON web token in base64 does, which is a sign itself.
    sent = json.dumps(inside, indent=1).replace('"%s"', json.dumps(json.dumps(event))).encode()

    (outcome,) = outcomes({"specversion": "1.0", "data_base64": b64encode(sent).decode()})

    assert isinstance(outcome, Envelope)
    assert outcome.context == b'{"password":"[REDACTED]"}'


def test_an_event_names_the_rules_that_read_it() -> None:
    assert envelope().normalizer_version == RULES_VERSION


def test_a_rejection_names_place_field_and_number() -> None:
    outcome = rejected(b'{"execution_id":5.4e17,"event_type":"x"}')

    assert outcome.reason == "invalid_id"
    assert outcome.detail == (
        "noetl.events[3]@42: execution_id: expected int or digits, got 5.4e17"
    )


def test_a_rejected_item_names_its_place_in_the_batch() -> None:
    first, second = outcomes({"events": [{"name": "x", "execution_id": 1}, {"name": "x"}]})

    assert isinstance(first, Envelope)
    assert isinstance(second, Rejected)
    assert (second.index, second.shape) == (1, "python_request")
    assert second.detail == "noetl.events[3]@42 events[1]: execution_id: expected an id, got none"


DEEP = json.loads("[" * 130 + "]" * 130)
"""Levels that a batch may have, but none of its events."""


@pytest.mark.parametrize(
    ("item", "execution_id"),
    [
        (5, 7),
        ("{broken", 7),
        ({"event_type": "x", "context": DEEP}, 7),
        ({"event_type": "x", "context": DEEP, "execution_id": None}, 7),
        ({"event_type": "x", "context": DEEP, "execution_id": "8"}, 8),
        ({"event_type": "x", "context": DEEP, "execution_id": [8]}, None),
        ({"transaction_id": 1, "execution_id": 8, "payload": "{broken"}, 8),
        (
            {
                "transaction_id": 1,
                "execution_id": 8,
                "payload": json.dumps({"event_type": "x", "execution_id": 9, "context": DEEP}),
            },
            9,
        ),
    ],
)
def test_an_undecodable_item_has_the_execution_of_its_batch_unless_it_has_its_own(
    item: Any, execution_id: int | None
) -> None:
    batch = {"events": [item]}

    (in_batch,) = outcomes(batch | {"execution_id": 7})
    (in_wrapper,) = outcomes({"global_sequence": 1, "execution_id": 7, "payload": batch})

    for outcome in (in_batch, in_wrapper):
        assert isinstance(outcome, Rejected)
        assert outcome.reason in {"not_an_event", "invalid_json", "too_deep"}
        assert outcome.execution_id == execution_id


def test_an_undecodable_item_has_the_hash_of_an_execution_that_is_no_number() -> None:
    (outcome,) = outcomes({"execution_id": "cli-local-1", "events": [5]})

    assert isinstance(outcome, Rejected)
    assert outcome.execution_id == hash_text_id("cli-local-1")


def test_a_line_of_a_file_names_its_number() -> None:
    assert rejected(b"null", topic=None).detail == "line 42: expected an object, got null"


@pytest.mark.parametrize(
    "value",
    [
        {"execution_id": SECRET * 100, "event_type": [SECRET]},
        {"execution_id": [SECRET], "event_type": "x"},
        {"execution_id": 1, "event_type": "x", "event_id": {SECRET: 1}},
        {"execution_id": 1, "event_type": SECRET * 20},
        {"execution_id": 1, "event_type": "x", "status": SECRET * 20},
        {"execution_id": 1, "event_type": "x", "step": SECRET * 200},
        [SECRET],
        SECRET,
        {"events": [SECRET], "execution_id": 1},
        {SECRET: 1},
        f'{{"a":{SECRET}}}'.encode(),
        f'{{"a":"{SECRET}'.encode(),
        f'{{"{SECRET}":1e999}}'.encode(),
        f'{{"{SECRET}":"\\u00'.encode(),
        SECRET.encode() + b"\xff",
        f'{{"{SECRET}":'.encode() + b"[" * 300 + b"]" * 300 + b"}",
    ],
)
def test_a_rejection_never_holds_content(value: Any) -> None:
    assert SECRET not in rejected(value).detail


@pytest.mark.parametrize(("opened", "closed"), [(b'{"":', b"}"), (b"[", b"]")])
def test_the_shortest_text_that_is_too_deep_is_seen(opened: bytes, closed: bytes) -> None:
    check_depth(opened * 126 + b"0" + closed * 126, 126)
    with pytest.raises(RecordRejectedError, match="levels"):
        check_depth(opened * 127 + b"0" + closed * 127, 126)


@pytest.mark.parametrize(("keys", "remembered"), [(60, 1), (70, 0)])
def test_an_event_of_many_keys_is_not_remembered(keys: int, remembered: int) -> None:
    kept = wire_event._remembered_keys.cache_info
    wire_event._remembered_keys.cache_clear()

    assert envelope({f"own_{keys}_{number}": 1 for number in range(keys)}).extra is not None

    assert kept().currsize == remembered


@pytest.mark.parametrize("end", ["", '\\"[{'])
def test_brackets_in_strings_are_no_levels(end: str) -> None:
    text = "[{" * 1000 + end

    assert envelope({"context": {"a": text}}).context is not None
    (doubled,) = outcomes(json.dumps({"execution_id": 1, "event_type": "x", "a": text}))
    assert isinstance(doubled, Envelope)


def test_a_batch_that_would_grow_beyond_measure_is_too_large() -> None:
    batch = {"execution_id": 1, "context": "x" * 100_000, "events": [{"name": "x"}] * 1_000}

    outcome = rejected(batch)

    assert outcome.reason == "too_large"
    assert "expected a batch of at most 67108864 bytes" in outcome.detail


def test_many_recovered_places_are_named_up_to_a_number() -> None:
    event = envelope({"context": {f"k{number:03}": "\0" for number in range(50)}})

    coercions = json.loads(event.coercions or b"")

    assert len(coercions) == MAX_UNSTORABLE_COERCIONS
    assert coercions[0] == {"rule": "unstorable_text", "field": "context.k000"}
    assert coercions[-1] == {"rule": "unstorable_text", "field": "context.k019", "more": True}


def test_other_fields_of_a_wrapper_keep_their_own_name() -> None:
    event = {"execution_id": "7", "event_type": "x", "foo": 1, "wrapper.foo": 2, "bar": "b"}
    wrapper = {
        "global_sequence": 9,
        "transaction_id": None,
        "execution_id": 8,
        "retry_count": 3,
        "foo": 4,
        "bar": "b",
        "payload": json.dumps(event),
    }

    (read,) = outcomes(wrapper)

    assert isinstance(read, Envelope)
    assert (read.execution_id, read.attempts) == (7, 0)
    assert json.loads(read.extra or b"") == {
        "foo": 1,
        "wrapper.foo": 2,
        "bar": "b",
        "global_sequence": 9,
        "wrapper.execution_id": 8,
        "wrapper.retry_count": 3,
        "wrapper.wrapper.foo": 4,
    }


def test_a_mark_before_a_wrapped_text_is_noted_once() -> None:
    inner = "\ufeff" + json.dumps({"execution_id": 1, "event_type": "x"})
    for value in (
        b"\xef\xbb\xbf" + json.dumps(inner).encode(),
        json.dumps(inner, ensure_ascii=False).encode(),
        b"\xef\xbb\xbf" + json.dumps(inner.removeprefix("\ufeff")).encode(),
        b"\xef\xbb\xbf" + json.dumps({"transaction_id": 1, "payload": inner}).encode(),
    ):
        (event,) = outcomes(value)

        assert isinstance(event, Envelope)
        assert json.loads(event.coercions or b"") == [{"rule": "bom_stripped", "field": "value"}]


@pytest.mark.parametrize("recorded_ms", [-1, 253_402_214_400_001, 2**63])
def test_a_record_time_that_is_none_is_no_time(recorded_ms: int) -> None:
    event = envelope({"created_at": "2026-07-10"}, recorded_ms=recorded_ms)

    assert event.recorded_at is None
    assert event.event_id is not None
    assert event.event_id >> 61 == 0b11


def test_a_number_of_hundreds_of_digits_is_a_time_when_it_says_one() -> None:
    digits = f"1783674000.{'9' * 380}"

    for created_at in (digits, f'"{digits}"'):
        (event,) = outcomes(
            f'{{"execution_id":1,"event_type":"x","created_at":{created_at}}}'.encode()
        )

        assert isinstance(event, Envelope)
        assert json.loads(to_canonical(event))["created_at"] == "2026-07-10T09:00:00.999999Z"


def test_no_python_reads_hour_24() -> None:
    """Python 3.14 does."""
    assert _TEXT.fullmatch("2026-07-10T23:00")
    assert not _TEXT.fullmatch("2026-07-10T24:00")


def test_a_time_that_is_a_very_long_text_of_digits_is_none() -> None:
    event = envelope({"created_at": "9" * 100_000})

    assert event.created_at == event.recorded_at


def test_headers_are_kept_by_name_without_their_secrets() -> None:
    event = envelope(
        headers=(
            ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("Authorization", b"Bearer abcdefgh"),
            ("x-api-key", b"\xff"),
            ("a", b"1"),
            ("a", None),
            ("a", b"\xff\xfe"),
            ("b\0", b"c\0"),
            ("\ud800", b""),
        )
    )

    assert json.loads(event.headers or b"") == {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Authorization": "[REDACTED]",
        "x-api-key": "[REDACTED]",
        "a": ["1", None, "base64://4="],
        "b\ufffd": "c\ufffd",
        "\ufffd": "",
    }
    assert event.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert {each["field"] for each in json.loads(event.coercions or b"")} == {
        "headers.b\ufffd",
        "headers.\ufffd",
    }


@pytest.mark.parametrize(
    "traceparent",
    [
        *("", "00-0af7651916cd43dd8448eb211c80319c", "ff-" + "1" * 32 + "-" + "1" * 16 + "-01"),
        *("00-" + "0" * 32 + "-" + "1" * 16 + "-01", "00-" + "G" * 32 + "-" + "1" * 16 + "-01"),
    ],
)
def test_a_trace_that_is_not_well_formed_is_no_trace(traceparent: str) -> None:
    assert envelope(headers=(("Traceparent", traceparent.encode()),)).trace_id is None


@pytest.mark.parametrize(
    "value",
    [
        b'{"events":[' + b",".join([b"{}"] * 20_000) + b"]}",
        b'{"a":[' + b",".join([b'"\\u0000"'] * 40_000) + b"]}",
        b'{"a":{' + b",".join(b'"%d\\u0000":1' % n for n in range(20_000)) + b"}}",
        b'{"a":{' + b",".join([b'"\\u0000":"\\ud800"', b'"\\ud800":1'] * 10_000) + b"}}",
        b'{"a":{' + b",".join(_alike(14)) + b"}}",
        b'{"a":[' + b",".join([b"[" * 250 + b"]" * 250] * 1_000) + b"]}",
        b'{"execution_id":1,"event_type":"x","command_id":"' + b":1" * 200_000 + b'"}',
        b'"' + b'\\"' * 200_000 + b'"',
        b'{"event_type":"' + b"-" * 4_000_000 + b'"}',
    ],
)
def test_no_record_takes_longer_than_it_is_long(value: bytes) -> None:
    start = time.process_time()

    assert outcomes(value)

    assert time.process_time() - start < 5


@pytest.mark.parametrize("escape", ["a", "\\u0061"])
@pytest.mark.parametrize("order", [("events", "records"), ("records", "events")])
def test_a_batch_is_the_key_whose_value_is_a_list(order: tuple[str, str], escape: str) -> None:
    """A `\\u` escape lets the sanitizer choose the key as well."""
    item = f'{{"execution_id":7,"event_type":"{escape}","event_id":1,"password":"{SECRET}"}}'
    for other in ("null", "{}", "[]"):
        held = {"events": other, "records": other} | {order[0]: f"[{item}]"}
        is_first = order[0] == "events" or other != "[]"

        result = outcomes(f'{{"events":{held["events"]},"records":{held["records"]}}}'.encode())

        assert [type(one) for one in result] == [Envelope if is_first else Ignored]
        assert SECRET not in repr(result)


def test_a_feed_wrapper_with_the_columns_of_an_outbox_stays_one() -> None:
    event = json.dumps(
        '{"event_type":"step.exit","event_id":5,"created_at":"2026-07-10T09:00:00Z"}'
    )
    row = f'{{"aggregatetype":"e","global_sequence":1,"execution_id":7,"payload":{event}}}'

    (stored,) = outcomes(row.encode())

    assert isinstance(stored, Envelope)
    assert (stored.execution_id, stored.event_id) == (7, 5)

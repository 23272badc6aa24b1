"""The limits of records, and which records go to the helper process."""

import pytest

from normalizer.core.decode import decode, record_layers, record_limits
from normalizer.core.decode.record_limits import (
    _LIGHT_BYTES,
    _LIGHT_VALUES,
    MAX_EVENTS_IN_RECORD,
    MAX_RECORD_BYTES,
    MAX_VALUE_BYTES,
    is_slow_to_normalize,
)
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import OversizedRecordFacts, RawRecord
from normalizer.envelope import Envelope, Normalized, Rejected
from normalizer.jsontext import is_deeper

NORMALIZE = Normalizer().normalize


def outcomes(value: bytes) -> tuple[Normalized, ...]:
    return NORMALIZE(RawRecord(value=value, topic="t", recorded_ms=0))


def event(context: bytes) -> bytes:
    return b'{"execution_id":1,"event_type":"x","context":' + context + b"}"


def listed(item: bytes, times: int) -> bytes:
    return b"[" + b",".join([item] * times) + b"]"


def batch(items: bytes, outer: bytes = b"") -> bytes:
    return b'{"execution_id":1,' + outer + b'"events":' + items + b"}"


def wrapped(value: bytes, note: bytes = b"0") -> bytes:
    payload = b'"' + value.replace(b'"', b'\\"') + b'"'
    return b'{"global_sequence":1,"note":' + note + b',"payload":' + payload + b"}"


@pytest.mark.parametrize(
    "context",
    [
        listed(b"1e300", 10_000),
        listed(b"1e22", 20_000),
        listed(b"-1.5E-0022", 20_000),
        listed(b'"1e300"', 20_000),
        b'"' + b"1e300," * 20_000 + b'"',
        listed(b"1e22", 600_000),
        listed(b'"\\ud800"', 10) + b" " * 60_000,
    ],
)
def test_a_record_within_the_size_limits_is_stored(context: bytes) -> None:
    (read,) = outcomes(event(context))

    assert isinstance(read, Envelope)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (event(listed(b"1e300", 130_000)), "too_large"),
        (event(listed(b"1e399", 60_000)), "invalid_json"),
        (event(listed(b"1e-23", 10_001)), "too_large"),
        (event(listed(b"1e22", 1_000_000)), "too_large"),
        (
            event(b"[" + listed(b'"\\ud800"', 2) + b"," + listed(b"1e23", 10_001) + b"]"),
            "too_large",
        ),
        (event(listed(b"1e23", 10_001) + b"}"), "invalid_json"),
        (b'"' + event(listed(b"1e23", 10_001)).replace(b'"', b'\\"') + b'"', "too_large"),
        (batch(listed(b"{}", MAX_EVENTS_IN_RECORD + 1)), "too_large"),
        (batch(listed(b'{"a":[1,2],"b":"]"}', 24_000)), "too_large"),
        (
            batch(listed(b"{}", MAX_EVENTS_IN_RECORD), b'"context":"' + b"x" * 7_000 + b'",'),
            "too_large",
        ),
        (batch(listed(b"{}", 9_000), b'"context":' + listed(b"1e22", 400) + b","), "too_large"),
        (
            wrapped(batch(listed(b"{}", MAX_EVENTS_IN_RECORD)), b'"' + b"x" * 7_000 + b'"'),
            "too_large",
        ),
    ],
)
def test_a_record_above_the_size_limits_is_rejected_whole(value: bytes, reason: str) -> None:
    (rejected,) = outcomes(value)

    assert isinstance(rejected, Rejected)
    assert rejected.reason == reason


def test_a_wrapper_around_a_batch_that_is_too_deep_refuses_each_event() -> None:
    deep = b"[" * 127 + b"]" * 127

    read = outcomes(wrapped(batch(listed(b'{"name":"x"}', 2)), deep))

    assert [(one.reason, one.index) for one in read if isinstance(one, Rejected)] == [
        ("too_deep", 0),
        ("too_deep", 1),
    ]


def test_only_the_event_of_a_batch_that_is_too_deep_is_rejected() -> None:
    deep = [b'{"name":"x","context":%b}' % (b"[" * n + b"]" * n) for n in (126, 127)]

    fine, rejected = outcomes(batch(b"[" + b",".join(deep) + b"]"))

    assert isinstance(fine, Envelope)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.index) == ("too_deep", 1)


@pytest.mark.parametrize("numbers", [b"[]", listed(b"1e22", 20_000)])
def test_the_deepest_event_is_stored_in_a_wrapper_too(numbers: bytes) -> None:
    deepest = b'{"execution_id":1,"name":"x","context":{"deep":%b,"numbers":%b}}'
    value = deepest % (b"[" * 125 + b"]" * 125, numbers)

    for sent in (value, b'{"global_sequence":1,"payload":%b}' % value, wrapped(value)):
        (read,) = outcomes(sent)
        assert isinstance(read, Envelope), read


def test_a_field_of_wrapper_and_batch_counts_once() -> None:
    note = b'"' + b"x" * 100_000 + b'"'

    read = outcomes(wrapped(batch(listed(b'{"name":"x"}', 400), b'"note":' + note + b","), note))

    assert len(read) == 400


def test_a_wrapper_around_a_batch_is_looked_through_once_not_for_each_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = wrapped(batch(listed(b'{"name":"x"}', 100)))
    looked_through: list[int] = []

    def count(text: bytes, most: int) -> bool:
        looked_through.append(len(text))
        return is_deeper(text, most)

    for module in (record_limits, decode, record_layers):
        monkeypatch.setattr(module, "is_deeper", count)

    assert len(outcomes(value)) == 100
    assert sum(looked_through) < 3 * len(value)


@pytest.mark.parametrize(
    "items",
    [
        listed(b'{"name":"x"}', MAX_EVENTS_IN_RECORD),
        listed(b'{"name":"x","context":[1,{"a":[2,3]},"[,\\","]}', MAX_EVENTS_IN_RECORD // 2),
    ],
)
def test_a_batch_of_as_many_events_as_it_may_have_is_read(items: bytes) -> None:
    read = outcomes(batch(items))

    assert {type(one) for one in read} == {Envelope}


@pytest.mark.parametrize(
    ("record", "heavy"),
    [
        (RawRecord(None), False),
        (RawRecord(event(b"{}")), False),
        (RawRecord(b"x" * _LIGHT_BYTES), False),
        (RawRecord(b"x" * _LIGHT_BYTES + b"x"), True),
        (RawRecord(b"," * (2 * _LIGHT_VALUES) + b"x"), True),
        (RawRecord(b"\\u002c" * _LIGHT_VALUES + b"x"), False),
        (RawRecord(b"\\u002C" * _LIGHT_VALUES + b","), True),
        (RawRecord(b"x" * (MAX_VALUE_BYTES + 1)), False),
        (RawRecord(b"{}", headers=(("a", b"x"), ("b", None))), False),
        (RawRecord(b"{}", headers=(("a", b"x" * _LIGHT_BYTES), ("b", b"x"))), True),
        (RawRecord(b"{}", headers=(("a", None),) * (_LIGHT_VALUES + 1)), True),
    ],
)
def test_a_record_is_heavy_by_its_bytes_or_by_how_much_is_in_it(
    record: RawRecord,
    heavy: bool,
) -> None:
    assert is_slow_to_normalize(record) is heavy


def test_a_record_is_too_large_by_its_key_and_headers_too() -> None:
    held = RawRecord(b"{}", key=b"k" * MAX_RECORD_BYTES)
    cut = OversizedRecordFacts(value_bytes=2, record_bytes=MAX_RECORD_BYTES + 1, sha256=b"s", crc=7)

    for record in (held, RawRecord(b"{}", cut=cut)):
        (rejected,) = NORMALIZE(record)
        assert isinstance(rejected, Rejected)
        assert rejected.reason == "too_large"
        assert "16777216 bytes with key and headers" in rejected.detail

"""The canonical bytes, and the schema of them: the library a producer imports."""

import math
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from normalizer.envelope import Envelope, canonical_json, meta_with_attempts, to_canonical


def envelope(**changes: Any) -> Envelope:
    sense: dict[str, Any] = {
        "event_id": 5,
        "execution_id": 1001,
        "event_type": "step.enter",
        "step": "s",
        "status": "RUNNING",
        "attempts": 2,
        "created_at": datetime(2026, 7, 10, 9, tzinfo=UTC),
    }
    return Envelope(**sense | changes)


@pytest.mark.parametrize("name", ["execution_id", "event_type", "status"])
def test_required_fields_must_be_given(name: str) -> None:
    given: dict[str, Any] = {"execution_id": 1, "event_type": "x", "status": "OPEN"}
    del given[name]

    with pytest.raises(TypeError, match=f"Missing required argument .{name}."):
        Envelope(**given)


def test_the_nine_fields_come_first_and_always() -> None:
    assert to_canonical(envelope()) == (
        b'{"event_id":5,"execution_id":1001,"event_type":"step.enter","step":"s",'
        b'"status":"RUNNING","created_at":"2026-07-10T09:00:00.000000Z","context":null,'
        b'"worker_id":null,"meta":{"attempts":2}}'
    )


def test_extensions_follow_where_they_are_known() -> None:
    line = to_canonical(
        envelope(
            event_id=None,
            created_at=None,
            context=b'{"b":1e2,"a":"\\u00e9\\/"}',
            worker_id="w",
            meta=b'{"z":1,"attempts":"9","a":-0.0}',
            command_id="c",
            catalog_id=1,
            node_type="n",
            parent_event_id=2,
            parent_execution_id=3,
            result=b"[1.50]",
            error='e"\n',
            duration=0.018,
        )
    )

    assert line.decode() == (
        '{"execution_id":1001,"event_type":"step.enter","step":"s","status":"RUNNING",'
        '"context":{"a":"é/","b":100},"worker_id":"w","meta":{"a":0.0,"attempts":2,"z":1},'
        '"command_id":"c","catalog_id":1,"node_type":"n","parent_event_id":2,'
        '"parent_execution_id":3,"result":[1.50],"error":"e\\"\\n","duration":0.018}'
    )


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [(2.0, "2.0"), (0.0, "0.0"), (1e-7, "0.0000001"), (1e22, "10000000000000000000000.0")],
)
def test_seconds_have_a_point_and_no_exponent(seconds: float, printed: str) -> None:
    assert to_canonical(envelope(duration=seconds)).endswith(f'"duration":{printed}}}'.encode())


def test_a_time_without_a_zone_is_in_utc_wherever_the_process_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        line = to_canonical(envelope(created_at=datetime(2026, 7, 10, 9)))  # noqa: DTZ001 - no zone is what the test is about
    time.tzset()

    assert b'"2026-07-10T09:00:00.000000Z"' in line


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("execution_id", 0, ""),
        ("execution_id", -5, ""),
        ("execution_id", 2**63, ""),
        ("event_id", 2**63, "expected an id of at most 9223372036854775807, got more"),
        ("catalog_id", 2**63, ""),
        ("event_type", "", ""),
        ("status", "", ""),
        ("attempts", 40_000, ""),
        ("attempts", -1, ""),
        ("meta", b"[1]", "expected an object"),
        ("meta", b'["a":1]', ""),
        ("duration", math.nan, ""),
        ("duration", math.inf, ""),
        ("duration", -0.5, ""),
        ("context", b"[" * 127 + b"]" * 127, "expected at most 126 levels, got more"),
        ("context", b"[" * 100_000 + b"]" * 100_000, ""),
        ("result", b"[1e400]", "a number is too large: its magnitude is 1e308 or more"),
        ("meta", b'{"a":1e400}', ""),
        ("meta", b'{"a":"\\ud800"}', ""),
        ("context", b"{", ""),
        ("context", b'"\xff"', ""),
        ("duration", 1.7e308, ""),
        ("duration", 10**400, ""),
        ("step", "\ud800", ""),
        ("error", "\udfff", ""),
        ("created_at", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), ""),
        ("created_at", datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))), ""),
    ],
)
def test_values_that_no_line_may_hold_raise(field: str, value: object, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: {why}") as raised:
        to_canonical(envelope(**{field: value}))

    assert not isinstance(raised.value, msgspec.MsgspecError)


def test_a_finished_call_is_not_written_with_another_status() -> None:
    with pytest.raises(ValueError, match="status"):
        to_canonical(envelope(event_type="call.done", status="success"))


def test_the_deepest_field_that_is_read_is_written() -> None:
    deepest = b"[" * 126 + b'"]["' + b"]" * 126
    wide = b"[" + b",".join([b"{}"] * 1000) + b"]"

    for context in (deepest, wide):
        assert b'"context":' + context in to_canonical(envelope(context=context))


def test_values_that_count_as_absent_are_not_written() -> None:
    none = {"event_id": 0, "catalog_id": -1, "parent_event_id": 0, "parent_execution_id": -5}
    words = {"step": "unknown", "worker_id": "", "command_id": "", "node_type": "", "error": ""}
    said = envelope(**none, **words, result=b" null ", duration=-0.0)

    assert to_canonical(said) == to_canonical(envelope(event_id=None, step="", duration=0.0))
    assert to_canonical(said).endswith(b',"duration":0.0}')


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        (b' { "b" : 1 , "a" : 2 } ', '{"a":2,"b":1}'),
        (b'{"a":1,"b":2,"a":3}', '{"a":3,"b":2}'),
        (b"[1e2,1.50e1,-0,0e-3,-0.0,1E-2]", "[100,15.0,0,0.000,0.0,0.01]"),
        (b'"\\u0041\\/\\u001f\\b\\u007f"', '"A/\\u001f\\b\x7f"'),
        (b'{"\xf0\x9f\x98\x80":1,"\xef\xbf\xbd":2,"a":3}', '{"a":3,"\ufffd":2,"😀":1}'),
        (b"[true,false,null,{},[],[[]]]", "[true,false,null,{},[],[[]]]"),
    ],
)
def test_canonical_json_is_one_spelling_for_all(value: bytes, canonical: str) -> None:
    assert canonical_json(value).decode() == canonical


@pytest.mark.parametrize(
    "value", [b"", b"{", b"NaN", b"1 2", b"\xff", b'"\\ud800"', b"1e401", b"1" * 401, b"[1e999]"]
)
def test_canonical_json_refuses_what_no_event_may_hold(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical_json(value)


@pytest.mark.parametrize(
    ("meta", "with_it"),
    [
        (b"", b'{"attempts":3}'),
        (b"{}", b'{"attempts":3}'),
        (b" { } ", b'{"attempts":3}'),
        (b'{"a": {}}', b'{"a": {},"attempts":3}'),
        (b'{"attempts":"3"}', b'{"attempts":"3","attempts":3}'),
    ],
)
def test_attempts_come_last_in_the_meta(meta: bytes, with_it: bytes) -> None:
    assert meta_with_attempts(meta, 3) == with_it

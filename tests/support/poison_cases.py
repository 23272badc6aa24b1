"""The poison list: records that may only fail themselves, each with its expected outcome."""

from base64 import b64encode
from itertools import count
from typing import Any, Final

import msgspec

from normalizer.core.raw_record import RawRecord
from normalizer.errors import RejectionReason
from tests.support import factories
from tests.support.factories import raw_record


class Poison(msgspec.Struct, frozen=True, kw_only=True):
    """A record, and how many of its events must be stored.

    `reason` is set if the record, or an event of it, must be rejected. `keeps` has values of the
    stored row by column, with JSON decoded.
    """

    name: str
    record: RawRecord
    stored: int = 0
    reason: RejectionReason | None = None
    keeps: dict[str, Any] = {}

    def __str__(self) -> str:
        """The outcome, as a name for the test."""
        if self.reason:
            return f"{self.name} goes to quarantine as {self.reason}"
        return f"{self.name} is {'stored' if self.stored else 'ignored'}"


_numbers: Final = count(1_000_000)


def raw_event(**fields: Any) -> dict[str, Any]:
    """An event with its own id."""
    return factories.raw_event(next(_numbers), **fields)


def rejected(name: str, reason: RejectionReason, value: Any) -> Poison:
    return Poison(name=name, record=raw_record(value=value), reason=reason)


def stored(name: str, value: Any, *, events: int = 1, **keeps: Any) -> Poison:
    return Poison(name=name, record=raw_record(value=value), stored=events, keeps=keeps)


def event(text: bytes, **fields: Any) -> bytes:
    """An event with this text as its context."""
    sent = msgspec.json.encode(raw_event(context=0, **fields))
    return sent.replace(b'"context":0', b'"context":' + text)


def nested(depth: int) -> bytes:
    return event(b"[" * depth + b"]" * depth)


ARROW: Final = b"ARROW1\0\0\xff\xff\xff\xff\x78\x01\0\0" + bytes(64)
BIG: Final = b'{"event_type":"call.done","execution_id":1,"context":"%b"}' % (b"x" * 20_000_000)

TWICE: Final = raw_event()
MET: Final = raw_event()

POISON: Final[tuple[Poison, ...]] = (
    stored("NUL in a text", event(b'"x\\u0000y"'), context="x\ufffdy"),
    stored("NUL in a key", event(b'{"a\\u0000":1}'), context={"a\ufffd": 1}),
    stored("NUL in a text column", raw_event(worker_id="a\0b"), worker_id="a\ufffdb"),
    stored("a lone surrogate", event(b'"x\\ud800y"'), context="x\ufffdy"),
    stored(
        "two surrogates the wrong way round", event(b'"\\udc00\\ud800"'), context="\ufffd\ufffd"
    ),
    rejected("NaN", "invalid_json", event(b"NaN")),
    rejected("Infinity", "invalid_json", event(b"[-Infinity]")),
    rejected("1e308", "invalid_json", event(b"1e308")),
    stored("1e307", event(b"1e307")),
    rejected("10,001 exponents", "too_large", event(b"[" + b"1e300," * 10_000 + b"1e300]")),
    rejected("10,001 items", "too_large", {"execution_id": 1, "events": [{}] * 10_001}),
    rejected("1e200000", "invalid_json", event(b"1e200000")),
    rejected("an integer of 400,000 digits", "invalid_json", event(b"9" * 400_000)),
    stored("nesting of 126", nested(126)),
    rejected("nesting of 127", "too_deep", nested(127)),
    rejected("nesting of 5,000", "too_deep", nested(5_000)),
    rejected("nesting of 20,000", "too_deep", nested(20_000)),
    stored("a duplicate key", event(b'{"a":1,"a":2}'), context={"a": 2}),
    rejected("invalid UTF-8", "invalid_utf8", event(b'"\xff"')),
    rejected("UTF-8 cut off in the middle", "invalid_utf8", b'{"event_type":"\xc3'),
    stored("a byte order mark", b"\xef\xbb\xbf" + event(b"1"), context=1),
    rejected("an empty value", "invalid_json", b""),
    rejected("two values in one", "invalid_json", event(b"1") + b"{}"),
    rejected("a value cut off in the middle", "invalid_json", event(b"1")[:-1]),
    Poison(name="a tombstone", record=msgspec.structs.replace(raw_record(), value=None)),
    rejected("null", "not_an_event", b"null"),
    Poison(name="an empty list", record=raw_record(value=b"[]")),
    rejected("a list in a list", "not_an_event", b"[[]]"),
    rejected("a number", "not_an_event", b"1"),
    rejected("a text", "invalid_json", b'"text"'),
    rejected("an empty object", "not_an_event", b"{}"),
    rejected("a command notification", "not_an_event", {"command_id": "1:a:2", "step": "a"}),
    stored("an execution_id of 2^63", raw_event(execution_id=1 << 63)),
    stored("an event_id of 2^63", event(b"1", event_id=1 << 63)),
    stored("an event_id of 2^63 - 1", raw_event(event_id=(1 << 63) - 1)),
    rejected("an execution_id that is a float", "invalid_id", raw_event(execution_id=5.4e17)),
    rejected("a negative execution_id", "invalid_id", raw_event(execution_id=-1)),
    rejected("no execution_id", "missing_execution_id", raw_event(execution_id=None)),
    rejected("a value of 20 MB", "too_large", BIG),
    rejected("a step of 1,001 bytes", "too_large", raw_event(step="s" * 1_001)),
    rejected("Arrow", "invalid_utf8", ARROW),
    rejected("Avro behind a schema id", "unsupported_framing", b"\0\0\0\0\7\2\n1001"),
    stored("JSON behind a schema id", b"\0\0\0\0\7" + event(b"1"), context=1),
    stored(
        "a CloudEvent in base64",
        {"specversion": "1.0", "data_base64": b64encode(event(b"1")).decode()},
        context=1,
    ),
    Poison(
        name="a deleted row",
        record=raw_record(value={"op": "d", "source": {}, "before": {"event_id": 1}}),
    ),
    Poison(
        name="a key that is not UTF-8",
        record=raw_record(value=raw_event(), key=b"\xff\0"),
        stored=1,
    ),
    Poison(
        name="10,000 headers",
        record=raw_record(
            value=raw_event(), headers=tuple((f"h{at}", b"\xff\0") for at in range(10_000))
        ),
        stored=1,
    ),
    stored(
        "the same event twice in one record",
        {"execution_id": 1, "events": [TWICE, TWICE | {"error": "e"}]},
        error="e",
    ),
    stored(
        "two events with one id in one record",
        {"execution_id": 1, "events": [MET, MET | {"step": "other"}]},
        events=2,
    ),
    Poison(
        name="one bad event of a batch of three",
        record=raw_record(
            value={
                "execution_id": 1,
                "events": [raw_event(), {"no": "event"}, raw_event(event_id=5, step="b")],
            }
        ),
        stored=2,
        reason="not_an_event",
    ),
    Poison(name="a batch of no events", record=raw_record(value={"execution_id": 1, "events": []})),
)

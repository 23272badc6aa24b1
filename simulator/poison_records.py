"""The poison list: records that break readers, each with its expected outcome.

Source: docs/spec/wire-shapes.md#l2, #l3.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from simulator import ids, time_formats
from simulator.rendering import EXPLICIT, FROM_ID, FROM_PRODUCER, RenderChoices, ReportedFields
from simulator.sent_record import MustIgnore, MustReject, SentEvent, SentOutcome

MIB: Final = 1024 * 1024
Poison = tuple[bytes | None, list[SentOutcome]]


class PoisonMaker:
    """Makes events that are valid except for one thing. `numbers` count the ledger's events."""

    def __init__(self, choices: RenderChoices, numbers: Callable[[], int]) -> None:
        self.choices = choices
        self._number = numbers
        self._minter = ids.Minter(333)

    def make(self, at_us: int, execution_id: int) -> Poison:
        """Make one from the list, and a value of 9 MiB only at the mix's share."""
        if self.choices.random() < self.choices.mix.huge:
            return _filled(9 * MIB), [MustReject("too_large")]
        return self.choices.pick(_LIST)(self, at_us, execution_id)

    def _sound(self, at_us: int, execution_id: int) -> tuple[dict[str, Any], ReportedFields]:
        """A sound event, to be spoiled."""
        event_id = self._minter.mint(at_us // 1000)
        written, created_us = time_formats.micros_z(at_us)
        body = {
            "execution_id": execution_id,
            "event_type": "call.error",
            "step": "shell",
            "status": "FAILED",
            "created_at": written,
            "context": {},
            "event_id": event_id,
            "meta": {"attempts": 1},
        }
        reported = ReportedFields(
            execution_id=execution_id,
            event_type="call.error",
            kind="call.error",
            shape="executor",
            step="shell",
            status="FAILED",
            status_rank=2,
            attempts=1,
            attempts_rank=EXPLICIT,
            event_id=event_id,
            created_us=created_us,
            created_rank=FROM_PRODUCER,
            context={},
        )
        return body, reported

    def event(self, reported: ReportedFields) -> list[SentOutcome]:
        """The only event of a record."""
        return [SentEvent(self._number(), 0, reported)]

    def replaced_text(self, at_us: int, execution_id: int) -> Poison:
        """U+0000 in a column of text, which is replaced."""
        body, reported = self._sound(at_us, execution_id)
        body["step"] = "bad\0step"
        reported.step, reported.rules = "bad\ufffdstep", ("unstorable_text",)
        return msgspec.json.encode(body), self.event(reported)

    def with_mark(self, at_us: int, execution_id: int) -> Poison:
        """A byte order mark."""
        body, reported = self._sound(at_us, execution_id)
        reported.rules = ("bom_stripped",)
        return b"\xef\xbb\xbf" + msgspec.json.encode(body), self.event(reported)

    def doubled_key(self, at_us: int, execution_id: int) -> Poison:
        """A key given twice: the last counts."""
        body, reported = self._sound(at_us, execution_id)
        value = msgspec.json.encode(body)
        return b'{"status":"OPEN","step":"first",' + value[1:], self.event(reported)

    def opaque_event_id(self, at_us: int, execution_id: int) -> Poison:
        """An event id beyond int64, as a number or as text, or a word."""
        body, reported = self._sound(at_us, execution_id)
        text = self.choices.pick(("", "evt-"))
        sent = f"{text}{2**63 + (reported.event_id or 0)}"
        body["event_id"] = msgspec.Raw(sent.encode()) if not text else sent
        reported.event_id, reported.rules = ids.hash_opaque_event_id(sent), ("opaque_id",)
        return msgspec.json.encode(body), self.event(reported)

    def opaque_execution_id(self, at_us: int, execution_id: int) -> Poison:
        """An execution id beyond int64, or digits behind a blank: hashed as received."""
        body, reported = self._sound(at_us, execution_id)
        text = str(2**63 + execution_id)
        body["execution_id"] = msgspec.Raw(text.encode())
        if self.choices.random() < 0.5:
            body["execution_id"] = text = f" {execution_id}"
        reported.execution_id, reported.rules = ids.hash_opaque_id(text), ("opaque_id",)
        return msgspec.json.encode(body), self.event(reported)

    def id_only_time(self, at_us: int, execution_id: int) -> Poison:
        """A time that nobody can read: the time inside the id counts."""
        body, reported = self._sound(at_us, execution_id)
        body["created_at"] = self.choices.pick(
            ("yesterday", "1999-12-31T23:59:59Z", "2096-01-01", -5)
        )
        made_ms = ids.minted_ms(body["event_id"])
        assert made_ms is not None
        reported.created_us, reported.created_rank = made_ms * 1000, FROM_ID
        reported.rules = ("created_at_unreadable",)
        return msgspec.json.encode(body), self.event(reported)

    def twice_in_a_batch(self, at_us: int, execution_id: int) -> Poison:
        """One id twice in one record."""
        body, reported = self._sound(at_us, execution_id)
        del body["execution_id"]
        batch = {"execution_id": str(execution_id), "events": [body, body]}
        event = SentEvent(self._number(), 0, reported)
        return msgspec.json.encode(batch), [event, event]

    def mixed_batch(self, at_us: int, execution_id: int) -> Poison:
        """A batch of which one item has no readable id, and others are no events."""
        body, reported = self._sound(at_us, execution_id)
        inner = {"execution_id": execution_id, "events": [body]}
        events = [7, body, body | {"event_id": 1.5}, {"no": "event"}, inner, "[]"]
        batch = {"execution_id": execution_id, "events": events}
        rejected, bad_id = MustReject("not_an_event"), MustReject("invalid_id")
        sound = SentEvent(self._number(), 0, reported)
        return msgspec.json.encode(batch), [rejected, sound, bad_id, rejected, rejected, rejected]

    def deep_but_fine(self, at_us: int, execution_id: int) -> Poison:
        """Depth 101 is deep, and stored."""
        body, reported = self._sound(at_us, execution_id)
        deep = msgspec.Raw(b"[" * 100 + b"]" * 100)
        body["context"] = reported.context = {"deep": deep}
        return msgspec.json.encode(body), self.event(reported)


def _filled(size: int) -> bytes:
    return b'{"execution_id":1,"event_type":"step.enter","context":"' + b"x" * size + b'"}'


def _rejected(reason: str, *values: bytes) -> Callable[[PoisonMaker, int, int], Poison]:
    def poison(maker: PoisonMaker, at_us: int, execution_id: int) -> Poison:
        del at_us
        value = maker.choices.pick(values)
        return value.replace(b"EXECUTION", str(execution_id).encode()), [MustReject(reason)]

    return poison


def _nothing(value: bytes | None, why: Any) -> Callable[[PoisonMaker, int, int], Poison]:
    def poison(maker: PoisonMaker, at_us: int, execution_id: int) -> Poison:
        del maker, at_us, execution_id
        return value, [MustIgnore(why)]

    return poison


def _event(fields: bytes) -> bytes:
    return b'{"execution_id":EXECUTION,"event_type":"step.enter","step":"s",' + fields + b"}"


_LIST: Final[tuple[Callable[[PoisonMaker, int, int], Poison], ...]] = (
    PoisonMaker.replaced_text,
    PoisonMaker.with_mark,
    PoisonMaker.doubled_key,
    PoisonMaker.opaque_event_id,
    PoisonMaker.opaque_execution_id,
    PoisonMaker.id_only_time,
    PoisonMaker.twice_in_a_batch,
    PoisonMaker.mixed_batch,
    PoisonMaker.deep_but_fine,
    _rejected(
        "invalid_json",
        _event(b'"context":NaN'),
        _event(b'"context":[Infinity]'),
        _event(b'"context":1e308'),
        _event(b'"context":1e200000'),
        _event(b'"context":' + b"7" * 309),
        _event(b'"context":' + b"9" * 400_000),
        b"",
        b"{}{}",
        _event(b'"context":{}') + _event(b'"context":{}'),
        b'{"execution_id":EXECUTION,',
        b'"not json inside"',
        b"hello",
    ),
    _rejected(
        "unsupported_framing",
        b"\0\0\0\0\x07\x02\x0eEXECUTION",
        b"\0\0\0\0\x07" + _event(b'"context":{}') + b"}",
        b"\0\0\0",
    ),
    _rejected(
        "too_deep",
        _event(b'"context":' + b"[" * 5_000 + b"]" * 5_000),
        _event(b'"context":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
        _event(b'"context":' + b"[" * 127 + b"]" * 127),
    ),
    _rejected(
        "invalid_utf8",
        _event(b'"context":"\xff\xfe"'),
        b"ARROW1\x00\x00\xff\xff\xff\xff\x10\x00\x00\x00",
        b"\xff\xff\xff\xff\x70\x00\x00\x00\x10\x00\x00\x00",
        _event(b'"context":"\xed\xa0\x80"'),
    ),
    _rejected(
        "not_an_event",
        b"null",
        b"[[]]",
        b"7",
        b"true",
        b"{}",
        b'{"execution_id":EXECUTION,"event_id":12,"command_id":"EXECUTION:start:12",'
        b'"step":"start","server_url":"http://server.example.com:8082"}',
        b'{"execution_id":EXECUTION,"event_type":""}',
        b'{"execution_id":EXECUTION,"event_type":7}',
        b'"\\"{}\\""',
    ),
    _rejected(
        "missing_execution_id",
        b'{"event_type":"step.enter","step":"x","status":"RUNNING"}',
        b'{"execution_id":null,"event_type":"step.enter"}',
        b'{"execution_id":"","event_type":"step.enter"}',
        b'{"execution_id":0,"event_type":"step.enter"}',
    ),
    _rejected(
        "invalid_id",
        b'{"execution_id":5.439424027806933e17,"step":"s","event_type":"step.enter"}',
        b'{"execution_id":-7,"event_type":"step.enter"}',
        b'{"execution_id":true,"event_type":"step.enter"}',
        b'{"execution_id":[1],"event_type":"step.enter"}',
        b'{"execution_id":{"id":1},"event_type":"step.enter"}',
        _event(b'"event_id":1.5'),
        _event(b'"event_id":[]'),
        _event(b'"event_id":false'),
    ),
    _rejected(
        "too_large",
        b'{"execution_id":EXECUTION,"event_type":"' + b"e" * 201 + b'"}',
        _event(b'"status":"' + b"s" * 101 + b'"'),
        b'{"execution_id":EXECUTION,"event_type":"step.enter","step":"' + b"s" * 1001 + b'"}',
        _event(b'"worker_id":"' + b"w" * 1001 + b'"'),
        _event(b'"command_id":"' + b"c" * 1001 + b'"'),
    ),
    _nothing(None, "tombstone"),
    _nothing(b'{"execution_id":7,"events":[]}', "empty_batch"),
)

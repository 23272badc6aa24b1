"""The canonical event: its fields and its bytes. Producers can use it as a library.

Whatever format a producer uses, the rules turn each of its events into an Envelope. Equal events
have equal bytes.

    line = to_canonical(Envelope(execution_id=7, event_type="call.done", status="COMPLETED"))
"""

import contextlib
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal, get_args

import msgspec

from normalizer.errors import RejectionReason
from normalizer.jsontext import (
    MAX_FIELD_DEPTH,
    MAX_POWER_OF_TEN,
    is_deeper,
    jsonb_number,
    parse_json_canonically,
    quote,
    write_json,
)

RULES_VERSION: Final = 6
"""The version of the rules, stored with every row as `normalizer_version`. Raise it whenever a rule
changes a result."""


CALL_DONE_EVENT_TYPES: Final = ("call.done", "action_done", "call_done")
"""The event types that end a call."""
CALL_OUTCOMES: Final = ("COMPLETED", "FAILED", "ERROR", "CANCELLED")
"""The statuses that such an event can have."""

MAX_ID: Final = 2**63 - 1
MAX_ATTEMPTS: Final = 32_767

CoercionRule = Literal[
    "bom_stripped",
    "unstorable_text",
    "alias_conflict",
    "meta_not_object",
    "status_not_text",
    "status_overruled",
    "status_unmapped",
    "opaque_id",
    "invalid_secondary_id",
    "event_id_conflict",
    "ambiguous_report",
    "created_at_unreadable",
    "attempts_invalid",
    "duration_invalid",
]
"""The `rule` of a coercion. Each is a way in which a rule changes or guesses the meaning of a
value.

bom_stripped            a byte order mark before the JSON was removed
unstorable_text         U+0000 or a lone surrogate became U+FFFD at `field`
alias_conflict          both names of a field were sent with different values, and the value under
                        `field` wasn't used
meta_not_object         meta wasn't an object, so it's in extra
status_not_text         status wasn't a string, so it's in extra
status_overruled        the declared status was weaker than other evidence in the event
status_unmapped         the declared status of a finished call isn't a known word
opaque_id               an id that isn't a number was replaced by the hash of its text
invalid_secondary_id    catalog_id or a parent's id wasn't a valid id
event_id_conflict       the id belonged to another event (set by the store)
ambiguous_report        two events have the id, and a report of the row lacks step or command, so it
                        may be about the other event (set by the store)
created_at_unreadable   a time couldn't be read or is outside the limits
attempts_invalid        the number of attempts wasn't valid
duration_invalid        the duration was negative, or too long for its event

Source: docs/spec/wire-shapes.md#v2."""

COERCION_RULES: Final[tuple[CoercionRule, ...]] = get_args(CoercionRule)


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """One canonical event and where it came from. The fields are the columns of `events`.

    JSON columns (context, result, meta, extra, coercions, headers) are UTF-8 JSON that PostgreSQL
    can store. They hold the producer's own bytes, unless a rule replaced something in them. None
    means that a value is absent. Only execution_id, event_type, and status are always set.
    `event_id` and `created_at` are None only if the producer sent none and the event didn't come
    from a log, which would otherwise provide them. `attempts` is also written into `meta`.

    Pass keyword arguments, because the order of the fields may change. (The struct isn't `kw_only`,
    because msgspec is slow with many keywords.)
    """

    execution_id: int
    event_type: str
    status: str
    event_id: int | None = None
    step: str = ""
    attempts: int = 0
    max_attempts: int | None = None
    created_at: datetime | None = None
    worker_id: str | None = None
    command_id: str | None = None
    iteration: int | None = None
    node_type: str | None = None
    catalog_id: int | None = None
    parent_event_id: int | None = None
    parent_execution_id: int | None = None
    duration: float | None = None
    error: str | None = None
    context: bytes | None = None
    result: bytes | None = None
    meta: bytes = b"{}"
    extra: bytes | None = None
    coercions: bytes | None = None
    evidence: int = 0
    shape: str = "unknown"
    normalizer_version: int = RULES_VERSION
    source_topic: str | None = None
    source_incarnation: int = 0
    source_partition: int = 0
    source_offset: int = 0
    source_index: int = 0
    headers: bytes | None = None
    trace_id: str | None = None
    recorded_at: datetime | None = None
    merge_flags: int = 0


class Rejected(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record that goes to quarantine, or one event of it, because a rule rejected it.

    - `reason` is a fixed word, and `detail` a sentence that never quotes the record.
    - `shape` is the producer's format, or '' if it wasn't recognized.
    - `index` is the event's position in its record, counted from 0.
    - `sqlstate` is set only if the database rejected the row.
    - `sample` has the first bytes of the record as text. Only the first rejected event of a record
      has it, and only if the bytes are text and can't hold a secret.
    - `execution_id` is None if it can't be read from the value.
    """

    reason: RejectionReason
    detail: str
    shape: str = ""
    index: int = 0
    sqlstate: str | None = None
    sample: str | None = None
    execution_id: int | None = None


class Ignored(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A valid record without an event: a tombstone, a deleted row, or an empty batch."""

    why: str


Normalized = Envelope | Rejected | Ignored


def canonical_json(value: bytes) -> bytes:
    """Return JSON in its canonical form, so that equal values have equal bytes.

    The result is compact UTF-8. Keys are sorted by their bytes, and if a key is repeated, its last
    value counts. Strings escape only what they must, and numbers look as jsonb prints them. Raises
    ValueError if the input isn't JSON, or if it contains a number or a lone surrogate that no event
    may have. Source: docs/spec/envelope.md#c5, #c6, #c7.

        canonical_json(b'{ "b": 1e2, "a": null }')  # b'{"a":null,"b":100}'
    """
    if len(value) <= MAX_POWER_OF_TEN or not _LONG_NUMBER.search(value):
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _sorting_encoder.encode(_exact_decoder.decode(value))
    return write_json(parse_json_canonically(value.decode())).encode()


def meta_with_attempts(meta: bytes, attempts: int) -> bytes:
    """Return the meta with `attempts` as its last key, because the last of duplicate keys counts.

    `meta` is a JSON object, or empty.
    """
    members = meta.strip()[1:-1].strip()
    return b'{%b%b"attempts":%d}' % (members, b"," if members else b"", attempts)


def to_canonical(event: Envelope) -> bytes:
    """Return the canonical line of an event, without a line feed.

    Nothing is redacted here, because a `Normalizer` has done that already. The line begins with the
    nine fields of noetl-events 0.1, of which only event_id and created_at may be missing. Other
    fields follow if they have a value. An optional id below 1, an empty text, the step `unknown`,
    and the result null count as no value, as they do when an event is read.

    Raises ValueError with the field's name for a value that no line may hold. Source:
    docs/spec/envelope.md#c1, #c2, #c3, #c4, #c11.
    """
    _check(event)
    present, field = [], ""
    try:
        for field, write_value in _MEMBERS:
            if (text := write_value(event)) is not None:
                present.append(b'"%b":%b' % (field.encode(), text.encode()))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{field}: {error}") from error
    return b"{%b}" % b",".join(present)


def _check(event: Envelope) -> None:
    """Raise ValueError for the first field whose value no canonical line may hold (#c11)."""
    seconds, status = event.duration, event.status
    for field, is_allowed in (
        ("execution_id", 0 < event.execution_id <= MAX_ID),
        ("event_type", event.event_type != ""),
        (
            "status",
            status in CALL_OUTCOMES if event.event_type in CALL_DONE_EVENT_TYPES else status != "",
        ),
        ("attempts", 0 <= event.attempts <= MAX_ATTEMPTS),
        ("duration", seconds is None or 0 <= seconds < math.inf),
    ):
        if not is_allowed:
            raise ValueError(
                f"{field}: no canonical event may have this value. See docs/spec/envelope.md#c11"
            )


def _as_written(text: str) -> msgspec.Raw:
    # A value may contain millions of numbers, and parsing all of them would take seconds. Most are
    # short, with neither a sign nor an exponent. Such a number is in canonical form already, so
    # return it without parsing it.
    if len(text) < _PLAIN and text[0] != "-" and "e" not in text and "E" not in text:
        return msgspec.Raw(text)
    return msgspec.Raw(jsonb_number(text).encode())


_PLAIN: Final = 32
_LONG_NUMBER: Final = re.compile(rb"[0-9]{%d}" % (MAX_POWER_OF_TEN + 1))
_exact_decoder: Final[msgspec.json.Decoder[object]] = msgspec.json.Decoder(float_hook=_as_written)
_sorting_encoder: Final = msgspec.json.Encoder(order="sorted")


def _canonical(value: bytes | None) -> str | None:
    """Return JSON as canonical text.

    Raises ValueError for a value that no field may hold (#c11).
    """
    if value is None:
        return None
    try:
        text = canonical_json(value)
    except RecursionError:
        text = value
    if is_deeper(text, MAX_FIELD_DEPTH):
        raise ValueError(f"expected at most {MAX_FIELD_DEPTH} levels, got more")
    return text.decode()


def _quoted(text: str | None) -> str | None:
    return quote(text) if text else None


def _meta(event: Envelope) -> str | None:
    sent = event.meta.strip()
    if sent and not (sent.startswith(b"{") and sent.endswith(b"}")):
        raise ValueError("expected an object")
    return _canonical(meta_with_attempts(sent, event.attempts))


def _id(number: int | None) -> str | None:
    if number is None or number <= 0:
        return None
    if number > MAX_ID:
        raise ValueError(f"expected an id of at most {MAX_ID}, got more")
    return str(number)


def _time(time: datetime | None) -> str | None:
    """Return RFC 3339 in UTC with microseconds. A time without a zone counts as UTC (#t2)."""
    if time is None:
        return None
    utc = time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
    return quote(f"{utc.isoformat(timespec='microseconds')}Z")


def _seconds(seconds: float | None) -> str | None:
    """Return seconds such as 0.018 or 2.0, with a point and without exponent or minus (#c4)."""
    if seconds is None:
        return None
    text = jsonb_number(repr(float(seconds)))
    return text if "." in text else f"{text}.0"


def _result(event: Envelope) -> str | None:
    result = _canonical(event.result)
    return None if result == "null" else result


_MEMBERS: Final[tuple[tuple[str, Callable[[Envelope], str | None]], ...]] = (
    ("event_id", lambda event: _id(event.event_id)),
    ("execution_id", lambda event: _id(event.execution_id)),
    ("event_type", lambda event: quote(event.event_type)),
    ("step", lambda event: quote("" if event.step == "unknown" else event.step)),
    ("status", lambda event: quote(event.status)),
    ("created_at", lambda event: _time(event.created_at)),
    ("context", lambda event: _canonical(event.context) or "null"),
    ("worker_id", lambda event: _quoted(event.worker_id) or "null"),
    ("meta", _meta),
    ("command_id", lambda event: _quoted(event.command_id)),
    ("catalog_id", lambda event: _id(event.catalog_id)),
    ("node_type", lambda event: _quoted(event.node_type)),
    ("parent_event_id", lambda event: _id(event.parent_event_id)),
    ("parent_execution_id", lambda event: _id(event.parent_execution_id)),
    ("result", _result),
    ("error", lambda event: _quoted(event.error)),
    ("duration", lambda event: _seconds(event.duration)),
)
"""The fields of a line in order, each with the function that writes its value (#c1)."""

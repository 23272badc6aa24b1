"""Encodes events as rows of a binary COPY, and decodes such rows.

The native lane, a library in Rust, turns most records straight into these bytes, so that no
Envelope has to be built for them. The write path needs an Envelope only to compare or merge an
event, and decodes the bytes in that case.

The bytes of one event are its row, except for the number of columns and the column `batch_id`,
which the store writes before them. Each column is a 32-bit length and that many bytes, big-endian.
A null has the length -1 and no bytes. By type:

bigint, integer, smallint   8, 4, or 2 bytes, two's complement
timestamptz                 8 bytes: microseconds since 2000-01-01T00:00:00Z, two's complement
double precision            8 bytes, IEEE 754
text                        UTF-8
jsonb                       the byte 1, then the JSON text exactly as the Envelope has it

FIXED_LENGTH_COLUMNS come first and are never null, so each is at a fixed place. `source_topic`
follows them and is never null either. Source: the PostgreSQL manual, COPY, Binary Format.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Protocol

import msgspec

from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Ignored, Rejected

FIXED_LENGTH_COLUMNS: Final = {
    "execution_id": "bigint",
    "event_id": "bigint",
    "attempts": "integer",
    "created_at": "timestamptz",
    "evidence": "smallint",
    "normalizer_version": "integer",
    "source_incarnation": "integer",
    "source_partition": "integer",
    "source_offset": "bigint",
    "source_index": "integer",
    "merge_flags": "smallint",
}
"""The columns that are never null and always have the same length, in their order."""

_VARIABLE_LENGTH_COLUMNS: Final = {
    "source_topic": "text",
    "recorded_at": "timestamptz",
    "event_type": "text",
    "status": "text",
    "step": "text",
    "shape": "text",
    "max_attempts": "integer",
    "worker_id": "text",
    "command_id": "text",
    "iteration": "integer",
    "node_type": "text",
    "catalog_id": "bigint",
    "parent_event_id": "bigint",
    "parent_execution_id": "bigint",
    "duration": "double precision",
    "error": "text",
    "context": "jsonb",
    "result": "jsonb",
    "meta": "jsonb",
    "extra": "jsonb",
    "coercions": "jsonb",
    "headers": "jsonb",
    "trace_id": "text",
}
"""The columns that follow these, in their order."""

ENCODED_COLUMNS: Final = (*FIXED_LENGTH_COLUMNS, *_VARIABLE_LENGTH_COLUMNS)
"""The columns of an encoded event. They're the fields of an Envelope in another order."""


class EncodedEvent(msgspec.Struct, frozen=True, gc=False):
    """One event in the binary form of its row, with a few values that the write path always needs.

    `columns` has the encoded row. `event_id`, `execution_id`, `shape`, and `coercions` repeat four
    of its columns, so that the write path needn't decode the row. The event comes from a log, so it
    always has an id and a time. Pass the fields by position, which is faster than by name.
    """

    event_id: int
    execution_id: int
    shape: str
    coercions: bytes | None
    columns: bytes


EnvelopeOrEncoded = Envelope | EncodedEvent

EventOutcome = EnvelopeOrEncoded | Rejected | Ignored
"""The result for one event of a record, or for a record without events."""

MAX_LANE_CALL_RECORDS: Final = 50
"""The most records that the lane reads in one call, during which no other task runs. It takes about
0.2 milliseconds, or some milliseconds if Python must remove secrets from each record."""
MAX_LANE_CALL_BYTES: Final = 64 * 1024
"""The most bytes of their values, unless a single record has more. 64 kB of records that hold
batches of events take about four milliseconds."""


class NativeLane(Protocol):
    """A faster implementation of the rules, which may leave any record to the rules in Python.

    The class `Lane` of the module `event_normalizer_native` implements it. Create one with
    `Lane(EncodedEvent, LaneCleaner(words))`. The lane calls EncodedEvent with its five fields by
    position. RULES_SHA256 in that module is the hash of the rules that the lane was built from. If
    `normalizer.core.rules_hash.rules_sha256()` returns another hash, the lane is outdated.
    """

    panics: int
    """How many calls of `read` have panicked. Each such call left all its records to Python."""

    def read(self, records: Sequence[RawRecord]) -> Sequence[tuple[EncodedEvent, ...] | None]:
        """Return each record's encoded events, or None for a record that Python must normalize.

        The events are those that `Normalizer().normalize` would return, in the same order, and
        never an empty tuple. Python must normalize a record that may contain a secret, that is
        rejected or ignored, or whose form the lane doesn't know. This method never raises. Every
        record must have a topic, and one call takes at most MAX_LANE_CALL_RECORDS records with
        MAX_LANE_CALL_BYTES bytes in total.
        """


def select_events(outcomes: Iterable[EventOutcome]) -> list[EnvelopeOrEncoded]:
    """Return the events among the outcomes."""
    return [one for one in outcomes if isinstance(one, (Envelope, EncodedEvent))]


def to_envelope(event: EnvelopeOrEncoded) -> Envelope:
    """Return the event as an Envelope."""
    return event if isinstance(event, Envelope) else decode_envelope(event.columns)


def recorded_or_created_at(event: EnvelopeOrEncoded) -> datetime | None:
    """Return the time that Kafka recorded, or else the event's own time."""
    if isinstance(event, EncodedEvent):
        columns = event.columns
        (topic_bytes,) = _LENGTH.unpack_from(columns, _FIXED.size)
        size, recorded_at = _BIGINT_COLUMN.unpack_from(columns, _TOPIC_AT + topic_bytes)
        if size < 0:  # null
            return _time(_FIXED_VALUES.unpack_from(columns)[_CREATED_AT])
        return _time(recorded_at)
    return event.recorded_at or event.created_at


def to_encoded_columns(event: EnvelopeOrEncoded) -> bytes:
    """Return the event as the columns of its row. Raises ValueError as `encode_envelope` does."""
    return encode_envelope(event) if isinstance(event, Envelope) else event.columns


def decode_coordinates(columns: bytes) -> tuple[str, int, int, int, int]:
    """Return the topic, incarnation, partition, offset, and index in these columns."""
    *_, incarnation, partition, offset, index, _merge_flags = _FIXED_VALUES.unpack_from(columns)
    (size,) = _LENGTH.unpack_from(columns, _FIXED.size)
    topic = columns[_TOPIC_AT : _TOPIC_AT + size].decode()
    return topic, incarnation, partition, offset, index


def encode_envelope(event: Envelope) -> bytes:
    """Encode an event of a log. Raises ValueError for a value that its column can't hold."""
    try:
        return _encode(event)
    except (struct.error, OverflowError, TypeError) as error:
        raise ValueError(f"the event has a value that its column can't hold: {error}") from error


def decode_envelope(columns: bytes) -> Envelope:
    """Decode what `encode_envelope` or the lane encoded."""
    fixed = _FIXED_VALUES.unpack_from(columns)
    values: dict[str, Any] = dict(zip(FIXED_LENGTH_COLUMNS, fixed, strict=True))
    values["created_at"] = _time(values["created_at"])
    at = _FIXED.size
    for name, decode in _DECODERS:
        (size,) = _LENGTH.unpack_from(columns, at)
        at += _LENGTH.size
        if size < 0:
            values[name] = None
            continue
        values[name] = decode(columns[at : at + size])
        at += size
    return Envelope(**values)


def _encode(event: Envelope) -> bytes:
    """Encode the columns in the order of ENCODED_COLUMNS, each as its length and its value."""
    recorded_at, max_attempts, iteration = event.recorded_at, event.max_attempts, event.iteration
    parent_id, parent_execution_id = event.parent_event_id, event.parent_execution_id
    catalog_id, duration = event.catalog_id, event.duration
    command_id, error, trace_id = event.command_id, event.error, event.trace_id
    context, result, meta = event.context, event.result, event.meta
    extra, coercions, headers = event.extra, event.coercions, event.headers
    return b"".join(
        (
            _pack_fixed(
                *(8, event.execution_id, 8, event.event_id, 4, event.attempts),
                *(8, _microseconds(event.created_at), 2, event.evidence),
                *(4, event.normalizer_version, 4, event.source_incarnation),
                *(4, event.source_partition, 8, event.source_offset, 4, event.source_index),
                *(2, event.merge_flags),
            ),
            _word(event.source_topic),
            _NULL if recorded_at is None else _pack_bigint(8, _microseconds(recorded_at)),
            _word(event.event_type),
            _word(event.status),
            _word(event.step),
            _word(event.shape),
            _NULL if max_attempts is None else _pack_integer(4, max_attempts),
            _word(event.worker_id),
            _NULL if command_id is None else _text(command_id),
            _NULL if iteration is None else _pack_integer(4, iteration),
            _word(event.node_type),
            _NULL if catalog_id is None else _pack_bigint(8, catalog_id),
            _NULL if parent_id is None else _pack_bigint(8, parent_id),
            _NULL if parent_execution_id is None else _pack_bigint(8, parent_execution_id),
            _NULL if duration is None else _pack_double(8, duration),
            _NULL if error is None else _text(error),
            _NULL if context is None else _pack_json(len(context) + 1, 1) + context,
            _NULL if result is None else _pack_json(len(result) + 1, 1) + result,
            _pack_json(len(meta) + 1, 1) + meta,
            _NULL if extra is None else _pack_json(len(extra) + 1, 1) + extra,
            _NULL if coercions is None else _pack_json(len(coercions) + 1, 1) + coercions,
            _NULL if headers is None else _pack_json(len(headers) + 1, 1) + headers,
            _NULL if trace_id is None else _text(trace_id),
        )
    )


_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_FORMATS: Final = {"bigint": "q", "integer": "i", "smallint": "h", "timestamptz": "q"}
_FIXED: Final = struct.Struct(
    ">" + "".join("i" + _FORMATS[kind] for kind in FIXED_LENGTH_COLUMNS.values())
)
"""The fixed columns, each as its length and its value."""
_FIXED_VALUES: Final = struct.Struct(
    ">" + "".join("4x" + _FORMATS[kind] for kind in FIXED_LENGTH_COLUMNS.values())
)
"""The same bytes, read without the lengths."""
_CREATED_AT: Final = [*FIXED_LENGTH_COLUMNS].index("created_at")
_LENGTH: Final = struct.Struct(">i")
_TOPIC_AT: Final = _FIXED.size + _LENGTH.size
"""Where the text of `source_topic` begins."""
_BIGINT: Final = struct.Struct(">q")
_INTEGER: Final = struct.Struct(">i")
_DOUBLE: Final = struct.Struct(">d")
_NULL: Final = _LENGTH.pack(-1)
_BIGINT_COLUMN: Final = struct.Struct(">iq")
"""A column of type bigint or timestamptz, as its length and its value."""
_pack_fixed: Final = _FIXED.pack
_pack_length: Final = _LENGTH.pack
_pack_bigint: Final = _BIGINT_COLUMN.pack
_pack_integer: Final = struct.Struct(">ii").pack
_pack_json: Final = struct.Struct(">iB").pack
_pack_double: Final = struct.Struct(">id").pack


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _pack_length(len(encoded)) + encoded


@lru_cache(maxsize=4096)
def _word(text: str | None) -> bytes:
    """Encode text of a column that has few different values, so that most are in the cache."""
    return _NULL if text is None else _text(text)


def _microseconds(time: datetime | None) -> int:
    if time is None:
        raise TypeError("the event has no created_at, although an event from a log always has one")
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _decode_bigint(value: bytes) -> int:
    number: int = _BIGINT.unpack(value)[0]
    return number


def _decode_integer(value: bytes) -> int:
    number: int = _INTEGER.unpack(value)[0]
    return number


def _decode_double(value: bytes) -> float:
    number: float = _DOUBLE.unpack(value)[0]
    return number


_DECODERS_BY_KIND: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "text": bytes.decode,
    "jsonb": lambda value: value[1:],
    "timestamptz": lambda value: _time(_decode_bigint(value)),
    "bigint": _decode_bigint,
    "integer": _decode_integer,
    "double precision": _decode_double,
}
_DECODERS: Final = tuple(
    (name, _DECODERS_BY_KIND[kind]) for name, kind in _VARIABLE_LENGTH_COLUMNS.items()
)

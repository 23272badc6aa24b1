"""Turns a stored row back into a raw record from which the normalizer computes the same row.

The record has every value that was sent, but not in its original form: fields and ids are written
as in the canonical envelope, without a wrapper or batch. Redacted values stay redacted. Source:
docs/spec/wire-shapes.md#v4.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from msgspec import Raw

from normalizer.core.coercions import read_coercions
from normalizer.core.decode.decode_json import UTF8_BOM
from normalizer.core.decode.wire_event import WireEvent
from normalizer.core.decode.wire_fields import canonical_path
from normalizer.core.decode.wire_values import ABSENT
from normalizer.core.evidence import TIME_FROM_LOG, Evidence
from normalizer.core.raw_record import RawRecord
from normalizer.core.redaction.unstorable import KeyPath, dotted_path
from normalizer.core.restore_text import restore_headers, restore_unstorable
from normalizer.core.rules.attempt_numbers import resolve_attempts
from normalizer.core.rules.durations import resolve_duration
from normalizer.core.rules.status import resolve_status
from normalizer.core.rules.timestamps import TIME_FIELDS, to_recorded_ms
from normalizer.envelope import CoercionRule, Envelope
from normalizer.jsontext import parse_json_keeping_numbers, write_json
from normalizer.snowflake import decode_id, derive_id, hash_text_id

_Fields = dict[str, Raw]


def rebuild_record(event: Envelope) -> RawRecord:
    """Return a record with the row's coordinates, record time, and headers.

    The record has the id that the producer sent, even if the row is stored under another one. If
    the producer sent none, the record has none either, because the id in the row was derived or
    assigned by us. When such a record is normalized again, the store finds its row by the
    coordinates.
    """
    coercions = _Coercions(event.coercions)
    recorded_ms = to_recorded_ms(event.recorded_at)
    fields = _fields(event, coercions, recorded_ms)
    tree = restore_unstorable(
        parse_json_keeping_numbers(_written(fields).decode()), (), coercions.marks
    )
    value = write_json(tree).encode()
    return RawRecord(
        value=UTF8_BOM + value if coercions.has("bom_stripped") else value,
        topic=event.source_topic,
        incarnation=event.source_incarnation,
        partition=event.source_partition,
        offset=event.source_offset,
        headers=restore_headers(event.headers, coercions.marks),
        recorded_ms=recorded_ms,
        shape=event.shape,
        index=event.source_index,
    )


class _Coercions:
    """The coercions of the row: the values that the rules changed, with the originals."""

    def __init__(self, coercions: bytes | None) -> None:
        self._all: Final = read_coercions(coercions)

    def has(self, rule: CoercionRule) -> bool:
        return any(each.rule == rule for each in self._all)

    def originals(self, *rules: CoercionRule, field: str) -> list[Raw]:
        """Return the original values of a field, except those that are in `extra`."""
        return [
            each.original
            for each in self._all
            if each.rule in rules and each.field == field and each.original
        ]

    def fields(self, rule: CoercionRule) -> set[str]:
        return {each.field for each in self._all if each.rule == rule}

    def marks(self, path: KeyPath) -> bool:
        """Return whether U+FFFD at this path may have replaced unstorable text."""
        path_text = dotted_path(canonical_path(path))
        return any(
            path_text == each.field or (each.more and path_text > each.field)
            for each in self._all
            if each.rule == "unstorable_text"
        )


def _fields(event: Envelope, coercions: _Coercions, recorded_ms: int | None) -> _Fields:
    """Return the top-level fields of the event. Fields in `extra` keep their names."""
    fields = _object(event.extra)
    _put(fields, "event_id", _event_id(event, coercions, recorded_ms))
    _put(fields, "execution_id", _id(event.execution_id, "execution_id", coercions))
    _put(fields, "event_type", _raw(event.event_type))
    _put_first_free(fields, ("step", "node_name"), _raw(event.step or None))
    _put_times(fields, event, coercions)
    _put(fields, "context", _json(event.context))
    _put(fields, "result", _json(event.result))
    _put(fields, "worker_id", _raw(event.worker_id))
    _put(fields, "command_id", _raw(event.command_id))
    _put(fields, "node_type", _raw(event.node_type))
    _put(fields, "error", _raw(event.error))
    for name in ("catalog_id", "parent_event_id", "parent_execution_id"):
        _put(fields, name, _id(getattr(event, name), name, coercions))
    _put_meta(fields, event, coercions)
    _put_status(fields, event, coercions)
    _put_duration(fields, event, coercions)
    return fields


def _event_id(event: Envelope, coercions: _Coercions, recorded_ms: int | None) -> Raw:
    """Return the id as the producer sent it, or ABSENT if the normalizer made it."""
    event_id = event.event_id
    opaque = coercions.originals("opaque_id", field="event_id")
    conflict = coercions.originals("event_id_conflict", field="event_id")
    if event_id is None or opaque or conflict:
        return next(iter(opaque + conflict), ABSENT)
    derived = event.source_topic is not None and event_id == derive_id(
        event.source_topic,
        event.source_incarnation,
        event.source_partition,
        event.source_offset,
        event.source_index,
        recorded_ms,
    )
    # Leave out an id that the database assigned, because no producer sent it. Ids of this form
    # contain a time. If a producer had sent this one, `created_at` would be that time, but it was
    # taken from Kafka instead.
    in_id = decode_id(event_id, recorded_ms)
    is_from_log = Evidence.unpack(event.evidence).created_at == TIME_FROM_LOG
    assigned = is_from_log and in_id is not None and in_id.layout != "derived"
    return ABSENT if derived or assigned else _raw(event_id)


def _id(number: int | None, name: str, coercions: _Coercions) -> Raw:
    invalid = coercions.originals("invalid_secondary_id", field=name)
    # If the id that was sent is invalid, the number comes from elsewhere in the event (#k3). Return
    # the invalid id, because that's what the producer sent.
    if invalid or number is None:
        return next((_not_an_int(raw) for raw in invalid), ABSENT)
    opaque = coercions.originals("opaque_id", field=name)
    texts = (_text_decoder.decode(raw) for raw in opaque)
    return _raw(next((text for text in texts if hash_text_id(text) == number), number))


def _not_an_int(raw: Raw) -> Raw:
    """Return a value that isn't an id. A positive integer had an exponent, which jsonb drops."""
    text = bytes(raw)
    return Raw(text + b"e0") if text.isdigit() else raw


def _put_times(fields: _Fields, event: Envelope, coercions: _Coercions) -> None:
    """Put the producer's time under the first name after the names of the unreadable times."""
    free: list[str] = []
    for name in TIME_FIELDS:
        unreadable = coercions.originals("created_at_unreadable", field=name)
        if unreadable:
            free.clear()
            fields[name] = unreadable[0]
        elif name not in fields:
            free.append(name)
    if Evidence.unpack(event.evidence).is_time_declared:
        _put_first_free(fields, free, _raw(event.created_at))


def _put_meta(fields: _Fields, event: Envelope, coercions: _Coercions) -> None:
    stored = _object(event.meta)
    sent = {name: raw for name, raw in stored.items() if name != "attempts"}
    invalid = coercions.originals("attempts_invalid", field="meta.attempts")

    def fits(read: WireEvent) -> bool:
        attempts = (event.attempts, Evidence.unpack(event.evidence).attempts)
        return resolve_attempts(read) == attempts and _agree(read, coercions, "attempts_invalid")

    metas = [_json(_written({**sent, "attempts": raw})) for raw in invalid]
    without = _json(_written(sent)) if sent else ABSENT
    _put_fitting(fields, "meta", [*metas, _json(event.meta), without], fits)


def _put_status(fields: _Fields, event: Envelope, coercions: _Coercions) -> None:
    declared = coercions.originals("status_overruled", "status_unmapped", field="status")

    def fits(read: WireEvent) -> bool:
        status = (event.status, Evidence.unpack(event.evidence).status)
        return resolve_status(read, event.event_type) == status

    _put_fitting(fields, "status", [*declared, _raw(event.status), ABSENT], fits)


def _put_duration(fields: _Fields, event: Envelope, coercions: _Coercions) -> None:
    declared = coercions.originals("duration_invalid", field="duration")

    def fits(read: WireEvent) -> bool:
        seconds = resolve_duration(read, event.event_type)
        return seconds == event.duration and _agree(read, coercions, "duration_invalid")

    _put_fitting(fields, "duration", [*declared, _raw(event.duration), ABSENT], fits)


def _put_fitting(
    fields: _Fields, name: str, values: list[Raw], fits: Callable[[WireEvent], bool]
) -> None:
    """Put the first of the values from which the rules would compute the row's columns again.

    If `extra` has a value under this name, that one is tried first. Sometimes no value fits,
    because the row was merged from several reports and no single one of them had all of its
    columns. This then puts the row's own value, which is the second to last of `values`.
    """
    kept_values = [fields[name]] if name in fields else []
    others = {key: raw for key, raw in fields.items() if key != name}
    for value in (*kept_values, *values):
        candidate = {**others, name: value} if value else others
        if fits(WireEvent.decode(_written(candidate), candidate)):
            break
    else:
        value = values[-2]
    fields.pop(name, None)
    _put(fields, name, value)


def _agree(read: WireEvent, coercions: _Coercions, rule: CoercionRule) -> bool:
    found = {coercion["field"] for coercion in read.coercions if coercion["rule"] == rule}
    return found == coercions.fields(rule)


def _put(fields: _Fields, name: str, value: Raw) -> None:
    """Put a value under a name, unless the name is taken."""
    if value:
        fields.setdefault(name, value)


def _put_first_free(fields: _Fields, names: Iterable[str], value: Raw) -> None:
    """Put a value under the first name that isn't taken."""
    free = next((name for name in names if name not in fields), None)
    if free is not None:
        _put(fields, free, value)


def _raw(value: object) -> Raw:
    return ABSENT if value is None else Raw(msgspec.json.encode(value))


def _json(value: bytes | None) -> Raw:
    return ABSENT if value is None else Raw(value)


def _object(value: bytes | None) -> _Fields:
    return {} if value is None else _object_decoder.decode(value)


def _written(fields: _Fields) -> bytes:
    return msgspec.json.encode(fields)


_object_decoder: Final[msgspec.json.Decoder[_Fields]] = msgspec.json.Decoder(_Fields)
_text_decoder: Final[msgspec.json.Decoder[str]] = msgspec.json.Decoder(str)

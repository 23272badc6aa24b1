"""A stored row in, a raw record out that normalizes to the same row and holds all that was sent.

Spelling is not kept: names, wrappers, batches and the form of ids are those of the envelope, and
redacted values stay redacted.
Source: docs/spec/wire-shapes.md#v4.
"""

from base64 import b64decode
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final

import msgspec
from msgspec import Raw

from normalizer.core.headers import NOT_TEXT, header_text
from normalizer.core.raw_record import RawRecord
from normalizer.core.rules.attempt_numbers import resolve_attempts
from normalizer.core.rules.durations import resolve_duration
from normalizer.core.rules.status import resolve_status
from normalizer.core.rules.timestamps import EPOCH, SOURCES
from normalizer.core.sanitize import REPLACEMENT, Path, child_path, dotted_path
from normalizer.core.wire_event import ABSENT, WireEvent, canonical_path
from normalizer.envelope import Envelope, Rule
from normalizer.jsontext import Json, Number, parse, write
from normalizer.snowflake import decode, derive_id, hash_text_id

_BOM: Final = b"\xef\xbb\xbf"
_Fields = dict[str, Raw]


def denormalize(event: Envelope) -> RawRecord:
    """Give the record, at the same coordinates, with the same time and headers.

    A row that was stored under another id than its producer gave is rebuilt under the producer's,
    and one whose id was derived or assigned without any: the store finds its way to the same row.
    """
    coercions = _Coercions(event.coercions)
    recorded_ms = _recorded_ms(event)
    fields = _fields(event, coercions, recorded_ms)
    tree = _restore_unstorable(parse(_written(fields).decode()), (), coercions.marks)
    value = write(tree).encode()
    return RawRecord(
        value=_BOM + value if coercions.has("bom_stripped") else value,
        topic=event.source_topic,
        incarnation=event.source_incarnation,
        partition=event.source_partition,
        offset=event.source_offset,
        headers=_headers(event.headers, coercions.marks),
        recorded_ms=recorded_ms,
        shape=event.shape,
        index=event.source_index,
    )


class _Coercions:
    """What was changed on the way in, and from what."""

    def __init__(self, coercions: bytes | None) -> None:
        self._all: Final = [] if coercions is None else _coercions_decoder.decode(coercions)

    def has(self, rule: Rule) -> bool:
        return any(each.rule == rule for each in self._all)

    def originals(self, *rules: Rule, field: str) -> list[Raw]:
        """Give what was sent under a field, where it is not kept in `extra`."""
        return [
            each.original
            for each in self._all
            if each.rule in rules and each.field == field and each.original
        ]

    def fields(self, rule: Rule) -> set[str]:
        return {each.field for each in self._all if each.rule == rule}

    def marks(self, path: Path) -> bool:
        """Tell whether U+FFFD at this place may stand for what could not be stored."""
        path_text = dotted_path(canonical_path(path))
        return any(
            path_text == each.field or (each.more and path_text > each.field)
            for each in self._all
            if each.rule == "unstorable_text"
        )


class _Coercion(msgspec.Struct, frozen=True):
    rule: str
    field: str
    original: Raw = msgspec.field(name="from", default=ABSENT)
    more: bool = False


def _fields(event: Envelope, coercions: _Coercions, recorded_ms: int | None) -> _Fields:
    """Give the top-level fields of the event; what stands in `extra` stands where it stood."""
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
    """Give the id as the producer gave it; nothing for one that is ours."""
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
    # A producer's snowflake id would have given its time.
    in_id = decode(event_id, recorded_ms)
    assigned = event.evidence % 10 == 0 and in_id is not None and in_id.layout != "derived"
    return ABSENT if derived or assigned else _raw(event_id)


def _id(number: int | None, name: str, coercions: _Coercions) -> Raw:
    if number is not None:
        opaque = coercions.originals("opaque_id", field=name)
        texts = (_text_decoder.decode(raw) for raw in opaque)
        return _raw(next((text for text in texts if hash_text_id(text) == number), number))
    invalid = coercions.originals("invalid_secondary_id", field=name)
    return next((_not_an_int(raw) for raw in invalid), ABSENT)


def _not_an_int(raw: Raw) -> Raw:
    """Give a value that is no id. An integer above 0 came with an exponent, which jsonb drops."""
    text = bytes(raw)
    return Raw(text + b"e0") if text.isdigit() else raw


def _put_times(fields: _Fields, event: Envelope, coercions: _Coercions) -> None:
    """Put the producer's time after those that were not readable, before those that lost."""
    free: list[str] = []
    for name in SOURCES:
        unreadable = coercions.originals("created_at_unreadable", field=name)
        if unreadable:
            free.clear()
            fields[name] = unreadable[0]
        elif name not in fields:
            free.append(name)
    if event.evidence % 10 == 2:
        _put_first_free(fields, free, _raw(event.created_at))


def _put_meta(fields: _Fields, event: Envelope, coercions: _Coercions) -> None:
    stored = _object(event.meta)
    sent = {name: raw for name, raw in stored.items() if name != "attempts"}
    invalid = coercions.originals("attempts_invalid", field="meta.attempts")

    def fits(read: WireEvent) -> bool:
        attempts = (event.attempts, event.evidence // 100)
        return resolve_attempts(read) == attempts and _agree(read, coercions, "attempts_invalid")

    metas = [_json(_written({**sent, "attempts": raw})) for raw in invalid]
    without = _json(_written(sent)) if sent else ABSENT
    _put_fitting(fields, "meta", [*metas, _json(event.meta), without], fits)


def _put_status(fields: _Fields, event: Envelope, coercions: _Coercions) -> None:
    declared = coercions.originals("status_overruled", "status_unmapped", field="status")

    def fits(read: WireEvent) -> bool:
        status = (event.status, event.evidence // 10 % 10)
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
    """Put the first value from which the rules read what the row says, the one in `extra` first.

    The last but one value is the row's own. A row joined from several tellings may say what no
    single event does: then its own value it is.
    """
    kept_values = [fields[name]] if name in fields else []
    others = {key: raw for key, raw in fields.items() if key != name}
    for value in (*kept_values, *values):
        candidate = {**others, name: value} if value else others
        if fits(WireEvent.read(_written(candidate), candidate)):
            break
    else:
        value = values[-2]
    fields.pop(name, None)
    _put(fields, name, value)


def _agree(read: WireEvent, coercions: _Coercions, rule: Rule) -> bool:
    found = {coercion["field"] for coercion in read.coercions if coercion["rule"] == rule}
    return found == coercions.fields(rule)


def _put(fields: _Fields, name: str, value: Raw) -> None:
    """Put a value where nothing stands yet."""
    if value:
        fields.setdefault(name, value)


def _put_first_free(fields: _Fields, names: Iterable[str], value: Raw) -> None:
    """Put a value under the first name that is free: what is weaker stands after it."""
    free = next((name for name in names if name not in fields), None)
    if free is not None:
        _put(fields, free, value)


def _restore_unstorable(tree: Json, path: Path, marked: Callable[[Path], bool]) -> Json:
    """Give the tree with U+0000 where U+FFFD stands at a marked place; one frame a level."""
    if isinstance(tree, str) and not isinstance(tree, Number):
        return _marked(tree, path, marked)
    if isinstance(tree, list):
        items: list[Json] = []
        inner = child_path(path, "[]")
        for item in tree:
            items.append(_restore_unstorable(item, inner, marked))  # noqa: PERF401 - two frames a level
        return items
    if isinstance(tree, dict):
        members: dict[str, Json] = {}
        for key, value in tree.items():
            inner = child_path(path, key)
            members[_marked(key, inner, marked)] = _restore_unstorable(value, inner, marked)
        return members
    return tree


def _marked(text: str, path: Path, marked: Callable[[Path], bool]) -> str:
    if REPLACEMENT not in text or not marked(path):
        return text
    return text.replace(REPLACEMENT, "\0")


def _headers(
    headers: bytes | None, marked: Callable[[Path], bool]
) -> tuple[tuple[str, bytes | None], ...]:
    tree = (
        None
        if headers is None
        else _restore_unstorable(parse(headers.decode()), ("headers",), marked)
    )
    return tuple(
        (name, _header(value))
        for name, values in (tree.items() if isinstance(tree, dict) else ())
        for value in (values if isinstance(values, list) else [values])
    )


def _header(value: Json) -> bytes | None:
    if not isinstance(value, str):
        return None
    if value.startswith(NOT_TEXT):
        try:
            sent = b64decode(value.removeprefix(NOT_TEXT), validate=True)
        except ValueError:
            return value.encode()
        # A text may begin like one of ours.
        return sent if header_text(sent) == value else value.encode()
    return value.encode()


def _recorded_ms(event: Envelope) -> int | None:
    if event.recorded_at is None:
        return None
    return (event.recorded_at - EPOCH) // timedelta(milliseconds=1)


def _raw(value: object) -> Raw:
    return ABSENT if value is None else Raw(msgspec.json.encode(value))


def _json(value: bytes | None) -> Raw:
    return ABSENT if value is None else Raw(value)


def _object(value: bytes | None) -> _Fields:
    return {} if value is None else _object_decoder.decode(value)


def _written(fields: _Fields) -> bytes:
    return msgspec.json.encode(fields)


_object_decoder: Final[msgspec.json.Decoder[_Fields]] = msgspec.json.Decoder(_Fields)
_coercions_decoder: Final[msgspec.json.Decoder[list[_Coercion]]] = msgspec.json.Decoder(
    list[_Coercion]
)
_text_decoder: Final[msgspec.json.Decoder[str]] = msgspec.json.Decoder(str)

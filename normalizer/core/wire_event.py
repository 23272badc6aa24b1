"""One wire event as the rules read it: its fields, what nests in them, and what is left over.

Every field a producer may send and a rule reads is named here. Values stay the bytes they came as;
beside them, scalars are decoded with what holds them, and so are the four objects that rules look
into (context, payload, result, meta). What nests deeper is decoded when it is asked for.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Self, TypeAlias

import msgspec
from msgspec import Raw

from normalizer.core.shapes import Shape, shape_of
from normalizer.envelope import Rule, canonical_json
from normalizer.errors import Reason
from normalizer.jsontext import Number, canonical_number

PAIRS: Final = (
    ("event_type", "name"),
    ("step", "node_name"),
    ("context", "payload"),
    ("created_at", "timestamp", "event_time", "ingest_time"),
)
"""Names of one thing, the stronger first. Source: docs/spec/wire-shapes.md#a1, #a2."""

CANONICAL_NAME: Final = {alias: names[0] for names in PAIRS for alias in names}

COLUMN_KEYS: Final = frozenset(
    (
        *CANONICAL_NAME,
        *("event_id", "execution_id", "status", "worker_id", "meta", "command_id"),
        *("catalog_id", "node_type", "parent_event_id", "parent_execution_id"),
        *("result", "error", "duration"),
    )
)
"""The keys that become columns. Every other key is kept in `extra` as it was sent, read or not
(#v1)."""

ABSENT: Final = Raw(b"")
NULL: Final = Raw(b"null")

Value: TypeAlias = object
"""A decoded value. A number with a point or an exponent is a Number, a kind of str: so texts and
integers are told by their exact type. Absent and null are both None."""


class RecordRefused(Exception):  # noqa: N818 - control flow inside the core: it becomes a Rejected
    """This record, or this event of it, is refused."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class NestedObject(msgspec.Struct, frozen=True, gc=False):
    """Everything that a rule reads inside a payload, a meta or a result."""

    attempt: Value = None
    attempt_number: Value = None
    attempts: Value = None
    command_id: Value = None
    context: Raw = ABSENT
    correlation: Raw = ABSENT
    data: Raw = ABSENT
    duration_ms: Value = None
    error: Raw = ABSENT
    id: Value = None
    max_attempts: Value = None
    message: Value = None
    queue_meta: Raw = ABSENT
    response: Raw = ABSENT
    result: Raw = ABSENT
    retry: Raw = ABSENT
    status: Value = None
    step: Value = None
    terminal_state: Value = None
    worker: Raw = ABSENT
    worker_id: Value = None


class SentFields(msgspec.Struct, frozen=True, gc=False):
    """Every top-level field that a rule reads. None: absent, null, or no object where one is read.

    A Raw is ABSENT, or as it came.
    """

    attempt: Value = None
    attempt_number: Value = None
    catalog_id: Value = None
    command_id: Value = None
    context: NestedObject | None = None
    correlation: Raw = ABSENT
    created_at: Value = None
    duration: Value = None
    error: Raw = ABSENT
    event_id: Value = None
    event_time: Value = None
    event_type: Value = None
    execution_id: Value = None
    ingest_time: Value = None
    max_attempts: Value = None
    meta: NestedObject | None = None
    name: Value = None
    node_name: Value = None
    node_type: Value = None
    parent_event_id: Value = None
    parent_execution_id: Value = None
    payload: NestedObject | None = None
    result: NestedObject | None = None
    retry_count: Value = None
    status: Value = None
    step: Value = None
    timestamp: Value = None
    trace_component: Raw = ABSENT
    worker_id: Value = None


READ_FIELDS: Final = frozenset(SentFields.__struct_fields__)


NOTHING: Final = NestedObject()


class NestedObjects(msgspec.Struct, frozen=True, gc=False):
    """The places where an outcome, an error, a duration or a command may nest.

    `payload` is what counts of the pair context and payload; the names read as paths:
    payload_result_context is payload.result.context, result_inner is result.context.result and
    result_response is result.context.response.
    `deep`: something nests elsewhere than in the payload itself; of most events nothing does.
    """

    payload: NestedObject
    payload_result: NestedObject = NOTHING
    payload_result_context: NestedObject = NOTHING
    payload_response: NestedObject = NOTHING
    result: NestedObject = NOTHING
    result_context: NestedObject = NOTHING
    result_inner: NestedObject = NOTHING
    result_inner_context: NestedObject = NOTHING
    result_response: NestedObject = NOTHING
    deep: bool = False


NOTHING_NESTED: Final = NestedObjects(NOTHING)


class Layout(msgspec.Struct, frozen=True, gc=False):
    """What the top-level keys of an event say.

    `unread`: those that no rule reads into a column. `shape`: who sends such keys without an
    object as payload; `shape_with_payload`: with one.
    """

    unread: tuple[str, ...]
    shape: Shape
    shape_with_payload: Shape


class WireEvent(msgspec.Struct, gc=False):
    """One event while it is read. Rules read `sent` and what nests in it, and leave the rest.

    `fields` are its top-level values as they came. `extra` and `coercions` become the columns of
    that name.
    """

    sent: SentFields
    fields: dict[str, Raw]
    layout: Layout
    index: int
    extra: dict[str, Raw]
    coercions: list[dict[str, object]]
    context: Raw = ABSENT
    result: Raw = ABSENT
    meta_sent: Raw = ABSENT
    meta: NestedObject = NOTHING
    nested: NestedObjects = NOTHING_NESTED

    @classmethod
    def read(
        cls,
        text: bytes,
        fields: dict[str, Raw],
        index: int = 0,
        extra: dict[str, Raw] | None = None,
        coercions: Iterable[dict[str, object]] = (),
    ) -> Self:
        """Give the event of a JSON object; `fields` are its members."""
        names = tuple(fields)
        common = len(names) <= _COMMON_KEYS and len(text) <= _COMMON_BYTES
        layout = _remembered_layout(names) if common else _layout(names)
        try:
            sent = _sent_decoder.decode(text)
            others = _NO_OTHERS
        except msgspec.ValidationError:
            sent, others = _read_others(fields)
        event = cls(sent, fields, layout, index, {} if extra is None else extra, [*coercions])
        for name in layout.unread:
            if fields[name] != NULL:
                event.extra[name] = fields[name]
        payload = event._read_payload(others)
        if sent.result is not None:
            event.result = fields["result"]
            event.nested = _read_deep(payload, sent.result)
        else:
            event.result = others.get("result", ABSENT)
            if payload is not NOTHING:
                event.nested = _read_nested(payload)
        if sent.meta is not None:
            event.meta_sent, event.meta = fields["meta"], sent.meta
        elif "meta" in others:
            event.keep_extra("meta")
            event.flag("meta_not_object", "meta")  # #n2
        return event

    def keep_extra(self, name: str) -> None:
        """Keep a field that was not used in `extra`."""
        self.extra[name] = self.fields[name]

    def drop_alias(self, name: str) -> None:
        """Keep the weaker one of a pair that differ, and count it (#a1)."""
        self.keep_extra(name)
        self.flag("alias_conflict", name)

    def flag(self, rule: Rule, field: str) -> None:
        """Record a coercion of a value that `extra` holds."""
        self.coercions.append({"rule": rule, "field": field})

    def coerce(self, rule: Rule, field: str, original: object) -> None:
        """Record that the meaning of a value was changed or guessed."""
        self.coercions.append({"rule": rule, "field": field, "from": original})

    def original(self, field: str) -> Raw:
        """Give what was sent at a place, as it came: `created_at`, `meta.queue_meta.attempts`."""
        first, *rest = field.split(".")
        raw = self.context if first == "context" else self.fields[first]
        for key in rest:
            raw = _fields_decoder.decode(raw)[key]
        return raw

    def _read_payload(self, others: dict[str, Raw]) -> NestedObject:
        """Give what counts of the pair context and payload, as it was sent (#a1, #x1)."""
        sent, fields = self.sent, self.fields
        context = others.get("context", ABSENT) if sent.context is None else fields["context"]
        payload = others.get("payload", ABSENT) if sent.payload is None else fields["payload"]
        if context is ABSENT:
            self.context = payload
            return sent.payload or NOTHING
        if payload is not ABSENT and not same_json(context, payload):
            self.drop_alias("payload")
        self.context = context
        return sent.context or NOTHING


def nested_object(raw: Raw) -> NestedObject:
    """Give what a rule reads inside an object; nothing inside anything else."""
    if raw is ABSENT or raw == NULL:
        return NOTHING
    try:
        return _part_decoder.decode(raw)
    except msgspec.ValidationError:
        return NOTHING


def text(value: Value) -> str:
    """Give a text; '' for everything else."""
    return value if type(value) is str else ""


def integer_of(value: Value) -> int | None:
    """Give an integer as jsonb holds it: 2e1 is 20, 2.0 is none."""
    if type(value) is int:
        return value
    if isinstance(value, Number):
        number = canonical_number(value)
        return None if "." in number else int(number)
    return None


def text_or_number(value: Value) -> str:
    """Give a text or a number as text; '' for everything else (#p1, #k1)."""
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    return str(canonical_number(value)) if isinstance(value, Number) else ""


def within_bytes(field: str, value: str, max_bytes: int) -> str:
    """Give the text. Raises Refused if it is longer than it may be (#l1)."""
    if len(value) * 4 > max_bytes and len(value.encode()) > max_bytes:
        raise RecordRefused(
            "too_large", f"{field}: expected at most {max_bytes} bytes, got {len(value.encode())}"
        )
    return value


def decode_value(raw: Raw) -> Value:
    """Give a raw value decoded."""
    return _value_decoder.decode(raw)


def first_byte(raw: Raw) -> bytes:
    """Give the byte that tells an object, a list and a string apart."""
    return bytes(memoryview(raw)[:1])


def same_json(a: Raw, b: Raw) -> bool:
    """Tell whether two raw values say the same, whatever their spelling.

    Of four megabytes each that differ: a second or two, and so they are never read on the loop.
    """
    return a == b or canonical_json(bytes(a)) == canonical_json(bytes(b))


def canonical_path(path: tuple[str, ...]) -> tuple[str, ...]:
    """Give the path under the stronger name of a pair: `context.error` also for payload's."""
    return (CANONICAL_NAME.get(path[0], path[0]), *path[1:])


def _layout(names: tuple[str, ...]) -> Layout:
    keys = frozenset(names)
    return Layout(
        tuple(name for name in names if name not in COLUMN_KEYS),
        shape_of(keys, payload_is_object=False),
        shape_of(keys, payload_is_object=True),
    )


_remembered_layout: Final = lru_cache(maxsize=1024)(_layout)
_COMMON_BYTES: Final = 8192
_COMMON_KEYS: Final = 64
"""Only so small an event's keys are remembered: producers have few layouts, a hostile one any.
What is kept comes to forty megabytes at most."""


def _read_others(fields: dict[str, Raw]) -> tuple[SentFields, dict[str, Raw]]:
    """Give an event's fields, and apart from them what came where an object is read."""
    others = {
        name: raw
        for name, raw in fields.items()
        if name in _OBJECTS and raw != NULL and first_byte(raw) != b"{"
    }
    text = msgspec.json.encode(fields | dict.fromkeys(others, NULL))
    return _sent_decoder.decode(text), others


def _read_nested(payload: NestedObject) -> NestedObjects:
    if payload.result is ABSENT and payload.response is ABSENT:
        return NestedObjects(payload)  # nearly every event
    return _read_deep(payload, NOTHING)


def _read_deep(payload: NestedObject, result: NestedObject) -> NestedObjects:
    payload_result = nested_object(payload.result)
    result_context = nested_object(result.context)
    result_inner = nested_object(result_context.result)
    return NestedObjects(
        payload,
        payload_result,
        nested_object(payload_result.context),
        nested_object(payload.response),
        result,
        result_context,
        result_inner,
        nested_object(result_inner.context),
        nested_object(result_context.response),
        deep=True,
    )


_OBJECTS: Final = frozenset(("context", "payload", "result", "meta"))
_NO_OTHERS: Final[dict[str, Raw]] = {}
_sent_decoder: Final[msgspec.json.Decoder[SentFields]] = msgspec.json.Decoder(
    SentFields, float_hook=Number
)
_part_decoder: Final[msgspec.json.Decoder[NestedObject]] = msgspec.json.Decoder(
    NestedObject, float_hook=Number
)
_value_decoder: Final[msgspec.json.Decoder[object]] = msgspec.json.Decoder(
    object, float_hook=Number
)
_fields_decoder: Final[msgspec.json.Decoder[dict[str, Raw]]] = msgspec.json.Decoder(dict[str, Raw])

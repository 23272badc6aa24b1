"""Decodes one wire event into its fields, its nested objects, and the rest for `extra`.

Every value is kept as the bytes that were sent, so that it can be stored unchanged. Scalars are
decoded as well, and so are the four objects that rules read: context, payload, result, and meta.
Deeper objects are decoded only when a rule needs them.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, Self

import msgspec
from msgspec import Raw

from normalizer.core.decode.wire_fields import (
    EMPTY_NESTED_FIELDS,
    KEYS_WITH_COLUMN,
    NO_NESTED_OBJECTS,
    NestedFields,
    NestedObjects,
    SentFields,
)
from normalizer.core.decode.wire_values import ABSENT, NULL, first_byte, same_json
from normalizer.core.shapes import Shape, detect_shape_by_keys
from normalizer.envelope import CoercionRule
from normalizer.jsontext import JsonNumber


class _TopLevelKeys(msgspec.Struct, frozen=True, gc=False):
    """The facts that follow from an event's top-level keys alone. They're cached by the keys.

    - `unread` holds the keys that don't belong to a column.
    - `shape` is the shape of an event with these keys, i.e. which producer wrote it.
    - `shape_with_payload` is the shape if the event's payload is an object.
    """

    unread: tuple[str, ...]
    shape: Shape
    shape_with_payload: Shape


class WireEvent(msgspec.Struct, gc=False):
    """One decoded event, on which the rules work.

    `fields` has the top-level values as they were sent, while `sent` and `nested` have the decoded
    values. Rules add entries to `extra` and `coercions`, which end up in the columns of these
    names.
    """

    sent: SentFields
    fields: dict[str, Raw]
    top_level_keys: _TopLevelKeys
    index: int
    extra: dict[str, Raw]
    coercions: list[dict[str, object]]
    context: Raw = ABSENT
    result: Raw = ABSENT
    meta_sent: Raw = ABSENT
    meta: NestedFields = EMPTY_NESTED_FIELDS
    nested: NestedObjects = NO_NESTED_OBJECTS

    @classmethod
    def decode(
        cls,
        text: bytes,
        fields: dict[str, Raw],
        index: int = 0,
        extra: dict[str, Raw] | None = None,
        coercions: Iterable[dict[str, object]] = (),
    ) -> Self:
        """Decode the JSON object `text`, whose members are `fields`."""
        names = tuple(fields)
        common = len(names) <= _COMMON_KEYS and len(text) <= _COMMON_BYTES
        keys = _remembered_keys(names) if common else _read_keys(names)
        try:
            sent = _sent_decoder.decode(text)
            not_objects = _NO_SUCH_FIELDS
        except msgspec.ValidationError:
            sent, not_objects = _read_not_objects(fields)
        event = cls(sent, fields, keys, index, {} if extra is None else extra, [*coercions])
        for name in keys.unread:
            if fields[name] != NULL:
                event.extra[name] = fields[name]
        payload = event._read_payload(not_objects)
        if sent.result is not None:
            event.result = fields["result"]
            event.nested = _read_deep(payload, sent.result)
        else:
            event.result = not_objects.get("result", ABSENT)
            if payload is not EMPTY_NESTED_FIELDS:
                event.nested = _read_nested(payload)
        if sent.meta is not None:
            event.meta_sent, event.meta = fields["meta"], sent.meta
        elif "meta" in not_objects:
            event.keep_extra("meta")
            event.record_coercion_without_original("meta_not_object", "meta")  # #n2
        return event

    def shape_from_keys(self) -> Shape:
        """Return the shape that the event's keys show, i.e. which producer wrote it (#d2)."""
        keys = self.top_level_keys
        return keys.shape if self.nested.payload is EMPTY_NESTED_FIELDS else keys.shape_with_payload

    def keep_extra(self, name: str) -> None:
        """Store a field in `extra`, because no rule could use it."""
        self.extra[name] = self.fields[name]

    def keep_conflicting_alias(self, name: str) -> None:
        """Store a field in `extra`, because its other name has another value (#a1).

        The coercion alias_conflict records that.
        """
        self.keep_extra(name)
        self.record_coercion_without_original("alias_conflict", name)

    def record_coercion_without_original(self, rule: CoercionRule, field: str) -> None:
        """Record a coercion of a field whose original value is stored in `extra`."""
        self.coercions.append({"rule": rule, "field": field})

    def record_coercion(self, rule: CoercionRule, field: str, original: object) -> None:
        """Record that a rule changed or guessed a value, with the original value."""
        self.coercions.append({"rule": rule, "field": field, "from": original})

    def raw_at_path(self, field: str) -> Raw:
        """Return the bytes sent at a path such as `created_at` or `meta.queue_meta.attempts`."""
        first, *rest = field.split(".")
        raw = self.context if first == "context" else self.fields[first]
        for key in rest:
            raw = _fields_decoder.decode(raw)[key]
        return raw

    def has_prev_event_id(self) -> bool:
        """Return whether the event names the one before it, as rows of a Rust server do (#s16)."""
        return self.fields.get("prev_event_id", NULL) != NULL

    def _read_payload(self, not_objects: Mapping[str, Raw]) -> NestedFields:
        """Read the context, or the payload if there's no context (#a1, #x1)."""
        sent, fields = self.sent, self.fields
        context = not_objects.get("context", ABSENT) if sent.context is None else fields["context"]
        payload = not_objects.get("payload", ABSENT) if sent.payload is None else fields["payload"]
        if context is ABSENT:
            self.context = payload
            return sent.payload or EMPTY_NESTED_FIELDS
        if payload is not ABSENT and not same_json(context, payload):
            self.keep_conflicting_alias("payload")
        self.context = context
        return sent.context or EMPTY_NESTED_FIELDS


def nested_fields_or_empty(raw: Raw) -> NestedFields:
    """Decode an object for the rules. Returns EMPTY_NESTED_FIELDS for any other value."""
    if raw is ABSENT or raw == NULL:
        return EMPTY_NESTED_FIELDS
    try:
        return _part_decoder.decode(raw)
    except msgspec.ValidationError:
        return EMPTY_NESTED_FIELDS


def _read_keys(names: tuple[str, ...]) -> _TopLevelKeys:
    keys = frozenset(names)
    return _TopLevelKeys(
        tuple(name for name in names if name not in KEYS_WITH_COLUMN),
        detect_shape_by_keys(keys, payload_is_object=False),
        detect_shape_by_keys(keys, payload_is_object=True),
    )


_remembered_keys: Final = lru_cache(maxsize=1024)(_read_keys)
_COMMON_BYTES: Final = 8192
_COMMON_KEYS: Final = 64
"""Don't cache an event with more keys than this. Producers use few sets of keys, but a hostile one
may send any number of them. The cache takes at most forty megabytes."""


def _read_not_objects(fields: dict[str, Raw]) -> tuple[SentFields, Mapping[str, Raw]]:
    """Decode an event with fields that should be objects but aren't. Also returns these fields."""
    not_objects = {
        name: raw
        for name, raw in fields.items()
        if name in _OBJECTS and raw != NULL and first_byte(raw) != b"{"
    }
    text = msgspec.json.encode(fields | dict.fromkeys(not_objects, NULL))
    return _sent_decoder.decode(text), not_objects


def _read_nested(payload: NestedFields) -> NestedObjects:
    if payload.result is ABSENT and payload.response is ABSENT:
        return NestedObjects(payload)  # nearly every event
    return _read_deep(payload, EMPTY_NESTED_FIELDS)


def _read_deep(payload: NestedFields, result: NestedFields) -> NestedObjects:
    payload_result = nested_fields_or_empty(payload.result)
    stored_payload = nested_fields_or_empty(result.context)
    stored_payload_result = nested_fields_or_empty(stored_payload.result)
    return NestedObjects(
        payload,
        payload_result,
        nested_fields_or_empty(payload_result.context),
        nested_fields_or_empty(payload.response),
        result,
        stored_payload,
        stored_payload_result,
        nested_fields_or_empty(stored_payload_result.context),
        nested_fields_or_empty(stored_payload.response),
        deep=True,
    )


_OBJECTS: Final = frozenset(("context", "payload", "result", "meta"))
_NO_SUCH_FIELDS: Final[Mapping[str, Raw]] = {}
"""The `not_objects` of nearly every event, in which each of these fields is an object."""
_sent_decoder: Final[msgspec.json.Decoder[SentFields]] = msgspec.json.Decoder(
    SentFields, float_hook=JsonNumber
)
_part_decoder: Final[msgspec.json.Decoder[NestedFields]] = msgspec.json.Decoder(
    NestedFields, float_hook=JsonNumber
)
_fields_decoder: Final[msgspec.json.Decoder[dict[str, Raw]]] = msgspec.json.Decoder(dict[str, Raw])

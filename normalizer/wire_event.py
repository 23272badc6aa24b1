"""One wire event as the rules read it: its fields, what nests in them, and what is left over.

Only small parts are ever decoded; payloads stay the bytes they came as.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec
from msgspec import Raw

from normalizer.envelope import Rule
from normalizer.errors import Reason
from normalizer.jsontext import Number, canonical_number, parse_canonical, write

PAIRS: Final = (
    ("event_type", "name"),
    ("step", "node_name"),
    ("context", "payload"),
    ("created_at", "timestamp", "event_time", "ingest_time"),
)
"""Names of one thing, the stronger first. Source: wire-shapes, section 9, A1 and A2."""

CANONICAL_NAME: Final = {alias: names[0] for names in PAIRS for alias in names}

READ: Final = frozenset(
    (
        *CANONICAL_NAME,
        *("event_id", "execution_id", "status", "worker_id", "meta", "command_id"),
        *("catalog_id", "node_type", "parent_event_id", "parent_execution_id"),
        *("result", "error", "duration"),
    )
)
"""The keys that become columns. Every other key is kept in `extra` as it came, read or not."""

ABSENT: Final = Raw(b"")
NULL: Final = Raw(b"null")

Scalar: TypeAlias = "None | bool | int | Number | str | list[object] | dict[str, object]"
"""A value as the rules tell values apart: int where jsonb prints an integer, Number otherwise."""


class Refused(Exception):  # noqa: N818 - control flow inside the core: it becomes a Rejected
    """This record, or this event of it, is refused."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Part(msgspec.Struct, frozen=True, gc=False):
    """Everything that is ever read inside a payload, a meta or a result, each as raw JSON."""

    attempt: Raw = ABSENT
    attempts: Raw = ABSENT
    command_id: Raw = ABSENT
    context: Raw = ABSENT
    correlation: Raw = ABSENT
    duration_ms: Raw = ABSENT
    error: Raw = ABSENT
    id: Raw = ABSENT
    max_attempts: Raw = ABSENT
    message: Raw = ABSENT
    queue_meta: Raw = ABSENT
    response: Raw = ABSENT
    result: Raw = ABSENT
    retry: Raw = ABSENT
    status: Raw = ABSENT
    step: Raw = ABSENT
    terminal_state: Raw = ABSENT
    worker: Raw = ABSENT
    worker_id: Raw = ABSENT


NOTHING: Final = Part()


class Nested(msgspec.Struct, frozen=True, gc=False):
    """The places where an outcome, an error, a duration or a command may nest.

    `payload` is what counts of the pair context and payload; the names read as paths:
    payload_result_context is payload.result.context, result_inner is result.context.result.
    """

    payload: Part
    payload_result: Part
    payload_result_context: Part
    payload_response: Part
    result: Part
    result_context: Part
    result_inner: Part
    result_inner_context: Part


class WireEvent:
    """One event while it is read. Rules take from `fields`, and put what they leave into `extra`.

    `extra` and `coercions` become the columns of that name; `fields` are the top-level keys with
    their raw values, null included.
    """

    __slots__ = (
        *("coercions", "context", "extra", "fields", "index"),
        *("meta", "meta_raw", "nested", "result"),
    )

    def __init__(
        self,
        fields: dict[str, Raw],
        *,
        index: int = 0,
        extra: dict[str, Raw] | None = None,
        coercions: Iterable[dict[str, object]] = (),
    ) -> None:
        self.fields = fields
        self.index = index
        self.extra = {} if extra is None else extra
        self.coercions = list(coercions)
        self._keep_unread()
        self.context = self._read_context()
        self.result = self.raw("result")
        self.meta_raw = self._read_meta()
        self.meta = part(self.meta_raw)
        self.nested = _read_nested(part(self.context), part(self.result))

    def raw(self, name: str) -> Raw:
        """Give the raw value of a field, ABSENT also for null."""
        value = self.fields.get(name, ABSENT)
        return ABSENT if value == NULL else value

    def value(self, name: str) -> Scalar:
        """Give the value of a field, None if it is absent or null."""
        return scalar(self.fields.get(name, ABSENT))

    def keep(self, name: str) -> None:
        """Keep a field that was not used in `extra`."""
        self.extra[name] = self.fields[name]

    def lose(self, name: str) -> None:
        """Keep the weaker one of a pair that differ, and count it (A1)."""
        self.keep(name)
        self.coerce("alias_conflict", name)

    def coerce(self, rule: Rule, field: str, original: object = ABSENT) -> None:
        """Record that a meaning was changed or guessed; `original` unless `extra` holds it."""
        coercion: dict[str, object] = {"rule": rule, "field": field}
        if original is not ABSENT:
            coercion["from"] = original
        self.coercions.append(coercion)

    def _keep_unread(self) -> None:
        if not READ.issuperset(self.fields):
            for name, value in self.fields.items():
                if name not in READ and value != NULL:
                    self.extra[name] = value

    def _read_context(self) -> Raw:
        context, payload = self.raw("context"), self.raw("payload")
        if not context:
            return payload
        if payload and not same_json(context, payload):
            self.lose("payload")
        return context

    def _read_meta(self) -> Raw:
        """Give the meta if it is an object, else nothing (N2)."""
        meta = self.raw("meta")
        if meta and first_byte(meta) != b"{":
            self.keep("meta")
            self.coerce("meta_not_object", "meta")
            return ABSENT
        return meta


def scalar(raw: Raw) -> Scalar:
    """Give a raw value as the rules tell values apart; None also for what is absent."""
    value = decode_any(raw)
    if isinstance(value, Number):
        number = canonical_number(value)
        return number if "." in number else int(number)
    return value


def decode_any(raw: Raw) -> Scalar:
    """Give a raw value as it was written: a number with a point or an exponent is a Number."""
    return _any_decoder.decode(raw) if raw else None


def part(raw: Raw) -> Part:
    """Give what may be read inside an object; nothing inside anything else."""
    if not raw or raw == NULL:
        return NOTHING
    try:
        return _part_decoder.decode(raw)
    except msgspec.ValidationError:
        return NOTHING


def word(value: Scalar) -> str | None:
    """Give a text or the text of a number; None for everything else (P1, K1)."""
    if isinstance(value, str):
        return str(value)
    return str(value) if type(value) is int else None


def limited(field: str, text: str, max_bytes: int) -> str:
    """Give the text. Raises Refused if it is longer than it may be (L1)."""
    if len(text) * 4 > max_bytes and len(text.encode()) > max_bytes:
        raise Refused(
            "too_large", f"{field}: expected at most {max_bytes} bytes, got {len(text.encode())}"
        )
    return text


def first_byte(raw: Raw) -> bytes:
    """Give the byte that tells an object, a list and a string apart; empty if absent."""
    return bytes(memoryview(raw)[:1])


def same_json(a: Raw, b: Raw) -> bool:
    """Tell whether two raw values say the same, whatever their spelling."""
    return a == b or write(parse_canonical(text_of(a))) == write(parse_canonical(text_of(b)))


def canonical_path(path: tuple[str, ...]) -> tuple[str, ...]:
    """Give the path under the stronger name of a pair: `context.error` also for payload's."""
    return (CANONICAL_NAME.get(path[0], path[0]), *path[1:])


def text_of(raw: Raw) -> str:
    """Give the JSON text of a raw value."""
    return bytes(raw).decode()


def _read_nested(payload: Part, result: Part) -> Nested:
    payload_result = part(payload.result)
    result_context = part(result.context)
    result_inner = part(result_context.result)
    return Nested(
        payload,
        payload_result,
        part(payload_result.context),
        part(payload.response),
        result,
        result_context,
        result_inner,
        part(result_inner.context),
    )


_any_decoder: Final[msgspec.json.Decoder[Scalar]] = msgspec.json.Decoder(float_hook=Number)
_part_decoder: Final[msgspec.json.Decoder[Part]] = msgspec.json.Decoder(Part)

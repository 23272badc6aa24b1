"""Decodes the bytes of a record into wire events: unwraps wrappers and splits batches.

Source: docs/spec/wire-shapes.md#w1, #w2, #w3, #w4, #w5, #b1, #b2, #l2, #l3.
The limits of a record are in `bounds`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec import Raw

from normalizer.core.bounds import (
    MAX_DEPTH,
    MAX_NESTING,
    MAX_VALUE_BYTES,
    PLAIN_BYTES,
    check_depth,
    check_items,
    check_shared,
)
from normalizer.core.decode_json import (
    EVENT_DEPTH,
    decode_object_or_text,
    parse_tree,
    refuse_invalid,
    refuse_numbers,
)
from normalizer.core.sanitize import Sanitizer
from normalizer.core.shapes import BatchKey, batch_key, is_named, is_wrapper
from normalizer.core.unstorable import Path, dotted_path
from normalizer.core.wire_event import WireEvent
from normalizer.core.wire_fields import CANONICAL_NAME, READ_FIELDS, canonical_path
from normalizer.core.wire_values import (
    NULL,
    RecordRefused,
    decode_value,
    first_byte,
    same_json,
    text_or_number,
)
from normalizer.envelope import Rule
from normalizer.errors import Reason

MAX_COERCIONS: Final = 20
"""How many paths of replaced text become coercions; the last one records that there are more."""

_BOM: Final = b"\xef\xbb\xbf"
_LIST: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?=[ \t\r\n]*\[)")
"""A list, with the byte order mark before it, if any."""


class UndecodableItem(msgspec.Struct, frozen=True, gc=False):
    """An item of a batch that was refused before it could be decoded."""

    index: int
    reason: Reason
    detail: str


class _Unwrapped(msgspec.Struct, frozen=True, gc=False):
    """The JSON object of one event or batch, and what was undone to decode it."""

    text: bytes
    fields: dict[str, Raw]
    replaced: dict[int | None, set[Path]]
    bom: bool
    wrapper: "_Unwrapped | None" = None


def decode_events(value: bytes, sanitizer: Sanitizer) -> Iterable[WireEvent | UndecodableItem]:
    """Give the events of a record, in order; none for an empty batch.

    Raises RecordRefused, before the first event, where the whole record is refused.
    """
    if len(value) > MAX_VALUE_BYTES:
        raise RecordRefused(
            "too_large", f"expected at most {MAX_VALUE_BYTES} bytes, got {len(value)}"
        )
    if not value.isascii():
        try:
            value.decode()
        except UnicodeDecodeError as error:
            raise RecordRefused("invalid_utf8", f"byte {error.start} is not UTF-8") from None
    suspicious = sanitizer.suspects(value)
    if not suspicious and value.startswith(b"{"):
        content = decode_object_or_text(value)
        if not isinstance(content, str) and is_named(content):
            check_depth(value, EVENT_DEPTH)
            if len(value) > PLAIN_BYTES:
                refuse_numbers(value)
            return (WireEvent.read(value, content),)  # nothing to unwrap: nearly every record
    return _RecordDecoder(sanitizer, suspicious=suspicious).read(value)


class _RecordDecoder:
    """Decodes one record. `suspicious` text is cleaned, at each of its levels."""

    def __init__(self, sanitizer: Sanitizer, *, suspicious: bool) -> None:
        self._sanitizer = sanitizer
        self._suspicious = suspicious

    def read(self, value: bytes) -> Iterable[WireEvent | UndecodableItem]:
        if bare := _LIST.match(value):
            text = value[bare.end() :]
            refuse_invalid(text)
            value = b'%b{"events":%b}' % (bare[0], text)  # a batch without outer fields (#w4)
        level = self._open(self._decode(value))
        key = batch_key(level.fields)
        if key is not None and first_byte(level.fields[key]) == b"[":
            return self._decode_batch(level, key)
        return (_wire_event(level, None, 0, {}),)

    def _decode_batch(
        self, batch: _Unwrapped, key: BatchKey
    ) -> Iterator[WireEvent | UndecodableItem]:
        shared = {k: raw for k, raw in batch.fields.items() if k != key and raw != NULL}
        shared = _execution_of(batch.wrapper) | shared
        outer = {k: bytes(raw) for k, raw in shared.items()}
        for value in outer.values():
            check_depth(value, MAX_DEPTH)
        check_items(bytes(batch.fields[key]))
        items = _list_decoder.decode(batch.fields[key])
        check_shared(outer, len(items))
        return (self._decode_item(batch, shared, index, item) for index, item in enumerate(items))

    def _decode_item(
        self, batch: _Unwrapped, shared: dict[str, Raw], index: int, item: Raw
    ) -> WireEvent | UndecodableItem:
        """Decode one item with the fields it inherits (#b1); unwraps it at most once (#b2)."""
        text = bytes(item)
        try:
            content = decode_object_or_text(text)
            level = self._open(
                content
                if isinstance(content, str)
                else _Unwrapped(text, content, _replaced_at(batch, index), bom=False)
            )
            return _wire_event(level, batch, index, shared)
        except RecordRefused as refusal:
            return UndecodableItem(index, refusal.reason, refusal.detail)

    def _open(self, content: "_Unwrapped | str") -> _Unwrapped:
        """Unwrap a JSON string, then a feed wrapper, each once (#w1, #w2)."""
        level = self._open_text(content) if isinstance(content, str) else content
        if not is_wrapper(level.fields) or first_byte(level.fields["payload"]) != b'"':
            return level
        payload = _text_decoder.decode(level.fields["payload"])
        return msgspec.structs.replace(self._open_text(payload), wrapper=level)

    def _open_text(self, text: str) -> _Unwrapped:
        content = self._decode(text.encode())
        if isinstance(content, str):
            raise RecordRefused(
                "not_an_event", "expected an object, got a JSON string twice encoded"
            )
        return content

    def _decode(self, text: bytes) -> "_Unwrapped | str":
        """Decode one level: an object, or the text within a JSON string."""
        bom = text.startswith(_BOM)
        if bom:
            text = text[len(_BOM) :]
        replaced: dict[int | None, set[Path]] = {}
        if self._suspicious:
            refuse_numbers(text)
            as_sent = text.decode()
            tree = parse_tree(as_sent, text)
            check_depth(text, MAX_NESTING)
            as_kept, replaced = self._sanitizer.clean(as_sent, tree)
            text = as_kept.encode()
            content = decode_object_or_text(text)
        else:
            content = decode_object_or_text(text)
            check_depth(text, MAX_NESTING)
            refuse_numbers(text)
        if not isinstance(content, str):
            return _Unwrapped(text, content, replaced, bom)
        # A byte order mark before a JSON string counts as one before the text within it.
        return "\ufeff" + content.removeprefix("\ufeff") if bom else content


def _replaced_at(batch: _Unwrapped, index: int) -> dict[int | None, set[Path]]:
    return {None: batch.replaced[index]} if index in batch.replaced else {}


def _wire_event(
    level: _Unwrapped, batch: _Unwrapped | None, index: int, shared: dict[str, Raw]
) -> WireEvent:
    """Make the event with the fields it inherits, those of its wrappers, and its coercions."""
    text, fields = level.text, level.fields
    levels = [level] if batch is None else [level, batch]
    wrappers = [each.wrapper for each in levels if each.wrapper is not None]
    for each in (level, *wrappers):
        check_depth(each.text, EVENT_DEPTH)
    if level.wrapper is not None:
        shared = shared | _execution_of(level.wrapper)
    inherited = _inherited(shared, fields) if shared else {}
    if inherited:
        fields = inherited | {k: raw for k, raw in fields.items() if k not in inherited}
        text = msgspec.json.encode(fields)
    extra: dict[str, Raw] = {}
    adopted = [(wrapper, _adopt(wrapper, fields, extra)) for wrapper in wrappers]
    if not any(each.bom or each.replaced for each in (*levels, *wrappers)):
        return WireEvent.read(text, fields, index, extra)  # nearly always
    paths = {canonical_path(path) for path in level.replaced.get(None, ())}
    if batch is not None and batch.replaced:
        outer = batch.replaced.get(None, ())
        paths |= {canonical_path(path) for path in outer if path[0] in inherited}
    for wrapper, names in adopted:
        outer = wrapper.replaced.get(None, ())
        names |= {key: key for key in inherited if key not in names}
        paths |= {(names[path[0]], *path[1:]) for path in outer if path[0] in names}
    marked = any(each.bom for each in (*levels, *wrappers))
    coercions = [_coercion("bom_stripped", "value")] if marked else []
    coercions += unstorable_coercions(paths)
    return WireEvent.read(text, fields, index, extra, coercions)


def _execution_of(wrapper: _Unwrapped | None) -> dict[str, Raw]:
    """Give the execution id of a feed wrapper, for an event that has none (#w5)."""
    sent = NULL if wrapper is None else wrapper.fields.get("execution_id", NULL)
    return {} if sent == NULL else {"execution_id": sent}


def _adopt(wrapper: _Unwrapped, fields: dict[str, Raw], extra: dict[str, Raw]) -> dict[str, str]:
    """Keep the other fields of a feed wrapper in `extra`; give their names there."""
    names: dict[str, str] = {}
    for key, raw in wrapper.fields.items():
        if key == "payload" or raw == NULL or (key in fields and _same_value(fields[key], raw)):
            continue
        names[key] = key
        while names[key] in READ_FIELDS or names[key] in fields or names[key] in extra:
            names[key] = f"wrapper.{names[key]}"
        extra[names[key]] = raw
    return names


def unstorable_coercions(paths: Iterable[Path]) -> list[dict[str, object]]:
    """Give a coercion for each path where text was replaced, sorted by path."""
    paths_text = sorted(set(map(dotted_path, paths)))
    coercions = [
        _coercion("unstorable_text", path_text) for path_text in paths_text[:MAX_COERCIONS]
    ]
    if len(paths_text) > MAX_COERCIONS:
        coercions[-1]["more"] = True
    return coercions


def _inherited(shared: dict[str, Raw], own: dict[str, Raw]) -> dict[str, Raw]:
    """Give the outer fields that an item inherits: those that it has no value of its own for.

    An item's own value under one name of a field also excludes outer values under its other names.
    """
    has_own = {CANONICAL_NAME.get(key, key) for key, raw in own.items() if raw != NULL}
    return {k: raw for k, raw in shared.items() if CANONICAL_NAME.get(k, k) not in has_own}


def _same_value(a: Raw, b: Raw) -> bool:
    """Tell whether two values are equal; an id may be text in one and a number in the other."""
    return (
        same_json(a, b) or text_or_number(decode_value(a)) == text_or_number(decode_value(b)) != ""
    )


def _coercion(rule: Rule, field: str) -> dict[str, object]:
    return {"rule": rule, "field": field}


_list_decoder: Final[msgspec.json.Decoder[list[Raw]]] = msgspec.json.Decoder(list[Raw])
_text_decoder: Final[msgspec.json.Decoder[str]] = msgspec.json.Decoder(str)

"""The bytes of a record in, its wire events out: decoded once, unwrapped, batches exploded.

Source: docs/spec/wire-shapes.md#w1, #w2, #w3, #w4, #w5, #b1, #b2, #l2, #l3.
What a record may come to: `bounds`.
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
    check_numbers,
    check_shared,
    may_be_expansive,
    nesting,
    too_deep,
)
from normalizer.core.sanitize import Path, Sanitizer, dotted_path
from normalizer.core.shapes import BatchKey, batch_key, is_named, is_wrapper
from normalizer.core.wire_event import (
    CANONICAL_NAME,
    NULL,
    READ_FIELDS,
    RecordRefused,
    WireEvent,
    canonical_path,
    decode_value,
    first_byte,
    same_json,
    text_or_number,
)
from normalizer.envelope import Rule
from normalizer.errors import Reason
from normalizer.jsontext import Json, NumberError, parse

MAX_COERCIONS: Final = 20
"""A coercion for each place that was mended, up to so many; the last says that there are more."""

_EVENT_DEPTH: Final = MAX_DEPTH + 1
_BOM: Final = b"\xef\xbb\xbf"
_LIST: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?=[ \t\r\n]*\[)")
"""The mark, if any, before a list."""
_POSITION: Final = re.compile(r"\(byte (\d+)\)")
_KIND: Final = re.compile(r"got `(\w+)`")
_SURROGATES: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


class UndecodableItem(msgspec.Struct, frozen=True, gc=False):
    """An item of a batch that was refused before it could be read."""

    index: int
    reason: Reason
    detail: str


class _Unwrapped(msgspec.Struct, frozen=True, gc=False):
    """One event or batch, unwrapped: its JSON object, and what had to be done to get at it."""

    text: bytes
    fields: dict[str, Raw]
    replaced: dict[int | None, set[Path]]
    bom: bool
    wrapper: "_Unwrapped | None" = None


def decode_events(value: bytes, sanitizer: Sanitizer) -> Iterable[WireEvent | UndecodableItem]:
    """Give the events of a record, in order; none for an empty batch.

    Raises Refused, before anything is given, where the whole record is refused.
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
        content = _decode(value)
        if not isinstance(content, str) and is_named(content):
            check_depth(value, _EVENT_DEPTH)
            if len(value) > PLAIN_BYTES:
                _check_numbers(value)
            return (WireEvent.read(value, content),)  # nothing to undo: nearly every record
    return _RecordDecoder(sanitizer, suspicious=suspicious).read(value)


class _RecordDecoder:
    """Reads one record. `suspicious` text is looked into, at each of its levels."""

    def __init__(self, sanitizer: Sanitizer, *, suspicious: bool) -> None:
        self._sanitizer = sanitizer
        self._suspicious = suspicious

    def read(self, value: bytes) -> Iterable[WireEvent | UndecodableItem]:
        if bare := _LIST.match(value):
            text = value[bare.end() :]
            _validate(text)
            value = b'%b{"events":%b}' % (bare[0], text)  # a batch without more (#w4)
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
        """Give one item with what it inherits (#b1); strings and wrappers are undone once (#b2)."""
        text = bytes(item)
        try:
            content = _decode(text)
            level = self._open(
                content
                if isinstance(content, str)
                else _Unwrapped(text, content, _replaced_at(batch, index), bom=False)
            )
            return _wire_event(level, batch, index, shared)
        except RecordRefused as refusal:
            return UndecodableItem(index, refusal.reason, refusal.detail)

    def _open(self, content: "_Unwrapped | str") -> _Unwrapped:
        """Undo a JSON string, then a feed wrapper, each once (#w1, #w2)."""
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
        """Give one level of text: an object, or the text within a JSON string."""
        bom = text.startswith(_BOM)
        if bom:
            text = text[len(_BOM) :]
        replaced: dict[int | None, set[Path]] = {}
        if self._suspicious:
            _check_numbers(text)
            as_sent = text.decode()
            tree = _parse(as_sent, text)
            check_depth(text, MAX_NESTING)
            as_kept, replaced = self._sanitizer.clean(as_sent, tree)
            text = as_kept.encode()
            content = _decode(text)
        else:
            content = _decode(text)
            check_depth(text, MAX_NESTING)
            _check_numbers(text)
        if not isinstance(content, str):
            return _Unwrapped(text, content, replaced, bom)
        # A mark before a JSON string is one before the text within it.
        return "\ufeff" + content.removeprefix("\ufeff") if bom else content


def _replaced_at(batch: _Unwrapped, index: int) -> dict[int | None, set[Path]]:
    return {None: batch.replaced[index]} if index in batch.replaced else {}


def _wire_event(
    level: _Unwrapped, batch: _Unwrapped | None, index: int, shared: dict[str, Raw]
) -> WireEvent:
    """Give the event with what it inherits, what wrappers held, and what was done to its text."""
    text, fields = level.text, level.fields
    levels = [level] if batch is None else [level, batch]
    wrappers = [each.wrapper for each in levels if each.wrapper is not None]
    for each in (level, *wrappers):
        check_depth(each.text, _EVENT_DEPTH)
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
    """Give the execution that a feed wrapper names, for what names none within it (#w5)."""
    sent = NULL if wrapper is None else wrapper.fields.get("execution_id", NULL)
    return {} if sent == NULL else {"execution_id": sent}


def _adopt(wrapper: _Unwrapped, fields: dict[str, Raw], extra: dict[str, Raw]) -> dict[str, str]:
    """Keep what else a feed wrapper held in `extra`; under which names."""
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
    """Give a coercion for each place where text was mended, in order of their names."""
    paths_text = sorted(set(map(dotted_path, paths)))
    coercions = [
        _coercion("unstorable_text", path_text) for path_text in paths_text[:MAX_COERCIONS]
    ]
    if len(paths_text) > MAX_COERCIONS:
        coercions[-1]["more"] = True
    return coercions


def _inherited(shared: dict[str, Raw], own: dict[str, Raw]) -> dict[str, Raw]:
    """Give the outer fields that an item takes over: all but those it has a value of its own for.

    An item's own value, under any name of a pair, shuts out the outer values of that pair.
    """
    has_own = {CANONICAL_NAME.get(key, key) for key, raw in own.items() if raw != NULL}
    return {k: raw for k, raw in shared.items() if CANONICAL_NAME.get(k, k) not in has_own}


def _same_value(a: Raw, b: Raw) -> bool:
    """Tell whether two values say the same; an id may be text in one and a number in the other."""
    return (
        same_json(a, b) or text_or_number(decode_value(a)) == text_or_number(decode_value(b)) != ""
    )


def _coercion(rule: Rule, field: str) -> dict[str, object]:
    return {"rule": rule, "field": field}


def _decode(text: bytes) -> dict[str, Raw] | str:
    """Give the fields of a JSON object or the text of a JSON string, valid to the last byte.

    How deep it is, is not known then.
    """
    try:
        content = _decoder.decode(text)
    except msgspec.ValidationError as error:
        # It begins as something else, and may be broken further on: that would come first (#l2).
        _validate(text)
        check_depth(text, MAX_NESTING)
        kind = "".join(_KIND.findall(str(error)))
        raise RecordRefused("not_an_event", f"expected an object, got {kind}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(text, error) from None
    return content


def _check_numbers(text: bytes) -> None:
    """Refuse what would come to far more than its bytes, but what is broken or too deep first."""
    if may_be_expansive(text):
        content = _decode(_SURROGATES.sub(rb"\\ufffd", text))
        is_event = isinstance(content, dict) and batch_key(content) is None
        check_depth(text, _EVENT_DEPTH if is_event else MAX_NESTING)
        check_numbers(text)


def _validate(text: bytes) -> None:
    try:
        _raw_decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(text, error) from None


def _parse(text: str, encoded: bytes) -> Json:
    try:
        return parse(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(encoded, error) from None


def _unreadable(text: bytes, error: Exception) -> RecordRefused:
    """Say why, in words of our own: an error's message may hold content."""
    if isinstance(error, RecursionError):
        # Too deep to be read to its end; what is cut off is broken first of all (#l2).
        if sum(nesting(text)) == 0:
            return too_deep()
        return RecordRefused("invalid_json", "expected one JSON value, got one that is cut off")
    if isinstance(error, NumberError):
        return RecordRefused("invalid_json", str(error))
    position = _POSITION.search(str(error))
    where = f"broken at byte {position[1]}" if position else "broken or cut off"
    return RecordRefused("invalid_json", f"expected one JSON value, got one that is {where}")


_decoder: Final[msgspec.json.Decoder[dict[str, Raw] | str]] = msgspec.json.Decoder(
    dict[str, Raw] | str
)
_raw_decoder: Final[msgspec.json.Decoder[Raw]] = msgspec.json.Decoder(Raw)
_list_decoder: Final[msgspec.json.Decoder[list[Raw]]] = msgspec.json.Decoder(list[Raw])
_text_decoder: Final[msgspec.json.Decoder[str]] = msgspec.json.Decoder(str)

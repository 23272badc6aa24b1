"""Decodes the bytes of a record into wire events: opens envelopes, splits batches.

A record may hold one event, a list of events, or either of these in an envelope such as a
CloudEvent. Nearly every record is one event without an envelope, and `decode_events` decodes it
right away. Source: docs/spec/wire-shapes.md#w1, #w2, #w3, #w4, #w5, #w6, #w7, #w8, #w9, #b1, #b2,
#l2, #l3. The limits of a record are in `bounds`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Raw

from normalizer.core.decode.bounds import (
    MAX_RECORD_DEPTH,
    NUMBER_CHECK_MIN_BYTES,
    check_depth,
    check_event_count,
    check_shared_fields,
    too_deep_error,
)
from normalizer.core.decode.decode_json import (
    MAX_EVENT_DEPTH,
    UTF8_BOM,
    decode_object_or_text,
    parse_tree,
    reject_invalid_json,
    reject_long_numbers,
    strip_schema_header,
)
from normalizer.core.decode.levels import (
    JsonLevel,
    add_wrapper,
    build_wire_event,
    fields_beside_event,
    supplied_fields,
    wrappers_around,
)
from normalizer.core.decode.unwrap import (
    FIELDS_FROM_ENVELOPE,
    PARSED_VALUE_READER,
    RAW_VALUE_READER,
    UnwrappedContent,
    ValueReader,
    unwrap_envelopes,
)
from normalizer.core.decode.wire_event import WireEvent
from normalizer.core.decode.wire_values import (
    NULL,
    RecordRejectedError,
    first_byte,
    same_json,
)
from normalizer.core.redaction.prefilter import HasSign
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.core.redaction.unstorable import KeyPath
from normalizer.core.shapes import (
    BatchKey,
    find_batch_key,
    has_event_type,
    holds_event,
    is_feed_wrapper,
    may_be_envelope,
)
from normalizer.errors import Reason
from normalizer.jsontext import MAX_FIELD_DEPTH, is_deeper

_NO_ATTRIBUTES: Final[Mapping[str, str]] = {}

_BEFORE_LIST: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?=[ \t\r\n]*\[)")
"""Matches if the text is a JSON list, namely the byte order mark before it, or nothing."""


class UndecodableItem(msgspec.Struct, frozen=True, gc=False):
    """An event of a batch that was rejected before it was decoded."""

    index: int
    reason: Reason
    detail: str


def decode_events(
    value: bytes, sanitizer: Sanitizer, cloudevent: Mapping[str, str] = _NO_ATTRIBUTES
) -> Iterable[WireEvent | UndecodableItem]:
    """Return the events of a record in order, or nothing for an empty batch.

    If the record is a CloudEvent in binary mode, its attributes are in the record's headers and
    must be passed as `cloudevent` (#w8). If the whole record is rejected or ignored, this raises
    RecordRejectedError or RecordIgnoredError before it returns any event.
    """
    begins_an_object = value.startswith(b"{")
    if not begins_an_object and value.startswith(b"\0"):
        value = strip_schema_header(value)
    if not value.isascii():
        _reject_invalid_utf8(value)
    has_sign = sanitizer.find_signs(value)
    if has_sign is None and begins_an_object:
        fields = decode_object_or_text(value)
        if not isinstance(fields, str) and has_event_type(fields) and not cloudevent:
            check_depth(value, MAX_EVENT_DEPTH)
            if len(value) > NUMBER_CHECK_MIN_BYTES:
                reject_long_numbers(value)
            return (WireEvent.read(value, fields),)  # nothing to open, as in nearly every record
    return _RecordDecoder(sanitizer, is_clean=has_sign is None).read(value, has_sign, cloudevent)


class _JsonString(msgspec.Struct, frozen=True, gc=False):
    """The text of a JSON string. It may be JSON itself, which isn't decoded yet."""

    text: str
    bom: bool = False
    """Whether a byte order mark stood before the string."""


class _RecordDecoder:
    """Decodes one record from the outside in: envelope, JSON string, feed wrapper, batch, event.

    Each text comes with its `has_sign`, which is None if the text is clean. Otherwise it's a
    function that returns whether a part of the text has a sign of a secret.

    If `is_clean` is True, the whole record is clean, and then the texts in its JSON strings are
    too. Otherwise each of them is searched when it's decoded, because escapes can hide its secrets
    until then.
    """

    def __init__(self, sanitizer: Sanitizer, *, is_clean: bool) -> None:
        self._sanitizer = sanitizer
        self._is_clean = is_clean

    def read(
        self, value: bytes, has_sign: HasSign | None, cloudevent: Mapping[str, str]
    ) -> Iterable[WireEvent | UndecodableItem]:
        """Return the record's events, as `decode_events` does."""
        content = self._decode_text(_list_to_batch(value), has_sign, may_be_enveloped=True)
        level = self._open_wrapper(content)
        key = find_batch_key(level.fields)
        if key is not None:
            return self._split_batch(level, key)
        if cloudevent:
            attributes = self._decode_attributes(msgspec.json.encode(cloudevent))
            level = add_wrapper(level, msgspec.structs.replace(attributes, is_kept=False))
        return (build_wire_event(level, batch=None, index=0, shared={}),)

    def decode_content(self, value: bytes) -> JsonLevel:
        """Decode what was in an envelope: an event, a batch, or either one in a JSON string."""
        return self._decode_string(
            self._decode_text(_list_to_batch(value), self._find_signs(value))
        )

    def _find_signs(self, text: bytes) -> HasSign | None:
        return None if self._is_clean else self._sanitizer.find_signs(text)

    def _decode_text(
        self, text: bytes, has_sign: HasSign | None, *, may_be_enveloped: bool = False
    ) -> JsonLevel | _JsonString:
        """Decode a JSON text, which must be an object or a string.

        An object that may be an envelope is opened first, and the result is that of its content.
        """
        bom = text.startswith(UTF8_BOM)
        if bom:
            text = text[len(UTF8_BOM) :]
        if has_sign is None:
            content = self._decode_clean(text, may_be_enveloped=may_be_enveloped)
        else:
            content = self._decode_suspicious(text, has_sign, may_be_enveloped=may_be_enveloped)
        return msgspec.structs.replace(content, bom=True) if bom else content

    def _decode_clean(self, text: bytes, *, may_be_enveloped: bool) -> JsonLevel | _JsonString:
        content = decode_object_or_text(text)
        may_be_deep = _may_be_deep(text)
        reject_long_numbers(text)
        if may_be_enveloped and (unwrapped := _unwrapped(content, RAW_VALUE_READER)):
            return self._decode_unwrapped(unwrapped)
        if isinstance(content, str):
            return _JsonString(content)
        return JsonLevel(text, content, may_be_deep)

    def _decode_suspicious(
        self, text: bytes, has_sign: HasSign, *, may_be_enveloped: bool
    ) -> JsonLevel | _JsonString:
        """Decode a text and remove its secrets. Those in an envelope are removed from its content.

        Only the parts with a sign are parsed, unless the text is an envelope.
        """
        reject_long_numbers(text)
        tree = parse_tree(text, has_sign)
        may_be_deep = _may_be_deep(text)
        if may_be_enveloped and isinstance(tree, dict) and may_be_envelope(tree):
            whole = parse_tree(text)
            if unwrapped := _unwrapped(whole, PARSED_VALUE_READER):
                return self._decode_unwrapped(unwrapped)
        cleaned, replaced = self._sanitizer.clean(text.decode(), tree, has_sign)
        text = cleaned.encode()
        content = decode_object_or_text(text)
        if isinstance(content, str):
            return _JsonString(content)
        return JsonLevel(text, content, may_be_deep, replaced)

    def _decode_unwrapped(self, unwrapped: UnwrappedContent) -> JsonLevel:
        """Decode the content of foreign envelopes, and the envelopes' own attributes (#w7, #w9)."""
        decoder = self
        if unwrapped.encoded:
            _reject_invalid_utf8(unwrapped.value)
            decoder = self._for_hidden(unwrapped.value)
        level = decoder.decode_content(unwrapped.value)
        if unwrapped.attributes is None:
            return level
        return add_wrapper(level, self._decode_attributes(unwrapped.attributes))

    def _decode_attributes(self, text: bytes) -> JsonLevel:
        level = self._for_hidden(text).decode_content(text)
        return msgspec.structs.replace(level, supplies=FIELDS_FROM_ENVELOPE)

    def _for_hidden(self, text: bytes) -> "_RecordDecoder":
        """Return a decoder for a text that a search of the record couldn't see, such as base64."""
        is_clean = self._is_clean and self._sanitizer.find_signs(text) is None
        return _RecordDecoder(self._sanitizer, is_clean=is_clean)

    def _open_wrapper(self, content: JsonLevel | _JsonString) -> JsonLevel:
        """Decode a JSON string, then open a feed wrapper, each at most once (#w1, #w2)."""
        level = self._decode_string(content)
        if not is_feed_wrapper(level.fields):
            return level
        others = dict(level.fields)
        payload = others.pop("payload")
        match first_byte(payload):
            case b'"':
                text = _text_decoder.decode(payload)
            case b"{" if holds_event(_members_decoder.decode(payload)):
                text = bytes(payload).decode()
                # The levels of the event are checked separately, so leave it out of the wrapper's
                # text.
                level = msgspec.structs.replace(
                    level, fields=others, text=msgspec.json.encode(others)
                )
            case _:
                return level
        return msgspec.structs.replace(self._decode_string(_JsonString(text)), wrapper=level)

    def _decode_string(self, content: JsonLevel | _JsonString) -> JsonLevel:
        """Decode the text of a JSON string, which must be an object. Returns a Level unchanged."""
        if isinstance(content, JsonLevel):
            return content
        text = content.text.encode()
        level = self._decode_text(text, self._find_signs(text))
        if isinstance(level, _JsonString):
            raise RecordRejectedError(
                "not_an_event", "expected an object, got a JSON string twice encoded"
            )
        return msgspec.structs.replace(level, bom=True) if content.bom else level

    def _split_batch(
        self, batch: JsonLevel, key: BatchKey
    ) -> Iterable[WireEvent | UndecodableItem]:
        """Return the events of a batch. Each one is decoded only when the caller comes to it.

        This mustn't be a generator function. A batch beyond the limits has to be rejected here,
        before the caller gets any of its events.
        """
        wrappers = tuple(wrappers_around(batch))
        shared = _shared_fields(batch, key, wrappers)
        items = _list_of_items(batch, key, shared, wrappers)
        # The text of a wrapper contains the whole batch, so check the wrappers once here, and not
        # again for each event.
        are_deep = any(wrapper.is_too_deep() for wrapper in wrappers)
        return (
            self._decode_item(batch, shared, index, item, are_deep=are_deep)
            for index, item in enumerate(items)
        )

    def _decode_item(
        self, batch: JsonLevel, shared: dict[str, Raw], index: int, item: Raw, *, are_deep: bool
    ) -> WireEvent | UndecodableItem:
        """Decode one event of a batch, with the fields that it inherits from the batch (#b1).

        If the event is in a wrapper, it's unwrapped, but a wrapper inside a wrapper isn't (#b2).
        The batch's text was cleaned, so only a JSON string in it must be cleaned again. `are_deep`
        is True if a wrapper around the whole batch is nested too deeply, which makes each of its
        events undecodable.
        """
        text = bytes(item)
        try:
            content = decode_object_or_text(text)
            if isinstance(content, str):
                level = self._open_wrapper(_JsonString(content))
            else:
                replaced = _replaced_at(batch, index)
                level = self._open_wrapper(JsonLevel(text, content, batch.may_be_deep, replaced))
            if are_deep:
                raise too_deep_error()
            return build_wire_event(level, batch=batch, index=index, shared=shared)
        except RecordRejectedError as why:
            return UndecodableItem(index, why.reason, why.detail)


def _list_to_batch(value: bytes) -> bytes:
    """Return a bare list as a batch without fields of its own (#w4), and other JSON as it is.

    The list is checked first. Otherwise text such as `[],"a":[]` would become part of the object
    around it. What's added has no sign, so a search of `value` holds for the result too.
    """
    if not (bom := _BEFORE_LIST.match(value)):
        return value
    text = value[bom.end() :]
    reject_invalid_json(text)
    return b'%b{"events":%b}' % (bom[0], text)


def _shared_fields(
    batch: JsonLevel, key: BatchKey, wrappers: tuple[JsonLevel, ...]
) -> dict[str, Raw]:
    """Return the fields that a batch gives to its events, its own before those of its wrappers."""
    shared = {name: raw for name, raw in batch.fields.items() if name != key and raw != NULL}
    for wrapper in wrappers:
        shared = supplied_fields(wrapper, ("execution_id",)) | shared
    return shared


def _list_of_items(
    batch: JsonLevel, key: BatchKey, shared: dict[str, Raw], wrappers: tuple[JsonLevel, ...]
) -> list[Raw]:
    """Return the items of a batch. Raises RecordRejectedError if it's beyond a limit (#l3)."""
    copied = [(name, bytes(raw)) for name, raw in shared.items()]
    for _, value in copied:
        check_depth(value, MAX_FIELD_DEPTH)
    check_event_count(bytes(batch.fields[key]))
    items = _list_decoder.decode(batch.fields[key])
    copied += [
        (name, bytes(raw))
        for wrapper in wrappers
        for name, raw in fields_beside_event(wrapper).items()
        if not (name in shared and same_json(shared[name], raw))
    ]
    check_shared_fields(copied, len(items))
    return items


def _reject_invalid_utf8(value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise RecordRejectedError("invalid_utf8", f"byte {error.start} is not UTF-8") from None


def _may_be_deep(text: bytes) -> bool:
    """Return whether this JSON is nested more deeply than a single event may be.

    A batch or a wrapper may exceed the limit of an event, because the events inside are checked
    separately. Raises RecordRejectedError if the JSON exceeds even the limit for batches and
    wrappers.
    """
    if not is_deeper(text, MAX_EVENT_DEPTH):
        return False
    check_depth(text, MAX_RECORD_DEPTH)
    return True


def _unwrapped(content: object, values: ValueReader) -> UnwrappedContent | None:
    if not isinstance(content, dict) or not may_be_envelope(content):
        return None
    return unwrap_envelopes(content, values)


def _replaced_at(batch: JsonLevel, index: int) -> dict[int | None, set[KeyPath]]:
    return {None: batch.replaced[index]} if index in batch.replaced else {}


_members_decoder: Final[msgspec.json.Decoder[dict[str, Raw]]] = msgspec.json.Decoder(dict[str, Raw])
_list_decoder: Final[msgspec.json.Decoder[list[Raw]]] = msgspec.json.Decoder(list[Raw])
_text_decoder: Final[msgspec.json.Decoder[str]] = msgspec.json.Decoder(str)

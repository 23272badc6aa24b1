"""Decodes the bytes of a record into wire events: opens envelopes, splits batches.

A record may hold one event, a list of events, or either of these in an envelope such as a
CloudEvent. Nearly every record is one event without an envelope, and `decode_events` decodes it
right away. Source: docs/spec/wire-shapes.md#w1, #w2, #w3, #w4, #w5, #w6, #w7, #w8, #w9, #b1, #b2,
#l2, #l3. The limits of a record are in `bounds`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec
from msgspec import Raw

from normalizer.core.decode.bounds import (
    MAX_NESTING,
    NUMBER_CHECK_MIN_BYTES,
    check_depth,
    check_items,
    check_shared,
    too_deep,
)
from normalizer.core.decode.decode_json import (
    BOM,
    EVENT_DEPTH,
    decode_object_or_text,
    parse_tree,
    reject_invalid,
    reject_long_numbers,
    unframe,
)
from normalizer.core.decode.levels import (
    Level,
    add_wrapper,
    build_wire_event,
    other_fields,
    supplied_fields,
    wrappers_around,
)
from normalizer.core.decode.unwrap import (
    PARSED_VALUES,
    RAW_VALUES,
    SUPPLIED,
    Unwrapped,
    ValueReader,
    unwrap,
)
from normalizer.core.decode.wire_event import WireEvent
from normalizer.core.decode.wire_values import (
    NULL,
    RecordRejectedError,
    first_byte,
    same_json,
)
from normalizer.core.redaction.prefilter import Search
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.core.redaction.unstorable import KeyPath
from normalizer.core.shapes import (
    BatchKey,
    batch_key,
    has_event_type,
    holds_event,
    is_enveloped,
    is_wrapper,
)
from normalizer.errors import Reason
from normalizer.jsontext import MAX_DEPTH, is_deeper

NO_ATTRIBUTES: Final[Mapping[str, str]] = {}

_BEFORE_LIST: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?=[ \t\r\n]*\[)")
"""Matches if the text is a JSON list, namely the byte order mark before it, or nothing."""


class UndecodableItem(msgspec.Struct, frozen=True, gc=False):
    """An event of a batch that was rejected before it was decoded."""

    index: int
    reason: Reason
    detail: str


def decode_events(
    value: bytes, sanitizer: Sanitizer, cloudevent: Mapping[str, str] = NO_ATTRIBUTES
) -> Iterable[WireEvent | UndecodableItem]:
    """Return the events of a record in order, or nothing for an empty batch.

    If the record is a CloudEvent in binary mode, its attributes are in the record's headers and
    must be passed as `cloudevent` (#w8). If the whole record is rejected or ignored, this raises
    RecordRejectedError or RecordIgnoredError before it returns any event.
    """
    begins_an_object = value.startswith(b"{")
    if not begins_an_object and value.startswith(b"\0"):
        value = unframe(value)
    if not value.isascii():
        _reject_invalid_utf8(value)
    search = sanitizer.search(value)
    if search is None and begins_an_object:
        fields = decode_object_or_text(value)
        if not isinstance(fields, str) and has_event_type(fields) and not cloudevent:
            check_depth(value, EVENT_DEPTH)
            if len(value) > NUMBER_CHECK_MIN_BYTES:
                reject_long_numbers(value)
            return (WireEvent.read(value, fields),)  # nothing to open, as in nearly every record
    return _RecordDecoder(sanitizer, is_clean=search is None).read(value, search, cloudevent)


class _RecordDecoder:
    """Decodes one record from the outside in: envelope, JSON string, feed wrapper, batch, event.

    If `is_clean` is True, a search of the whole record has found nothing that must not be stored.
    Otherwise each JSON string in it is searched again when it's decoded, because escapes in the
    string can hide secrets until then. The `search` of a text is None if the text is clean.
    Otherwise it finds the suspicious parts of the text.
    """

    def __init__(self, sanitizer: Sanitizer, *, is_clean: bool) -> None:
        self._sanitizer = sanitizer
        self._is_clean = is_clean

    def read(
        self, value: bytes, search: Search | None, cloudevent: Mapping[str, str]
    ) -> Iterable[WireEvent | UndecodableItem]:
        """Return the record's events, as `decode_events` does."""
        level = self._open_wrapper(self._decode_value(value, search, may_be_enveloped=True))
        key = batch_key(level.fields)
        if key is not None:
            return self._split_batch(level, key)
        if cloudevent:
            attributes = self._decode_attributes(msgspec.json.encode(cloudevent))
            level = add_wrapper(level, msgspec.structs.replace(attributes, is_kept=False))
        return (build_wire_event(level, batch=None, index=0, shared={}),)

    def decode_content(self, value: bytes) -> Level:
        """Decode what was in an envelope: an event, a batch, or either one in a JSON string."""
        content = self._decode_value(value, self._search(value), may_be_enveloped=False)
        return self._decode_string(content)

    def _search(self, text: bytes) -> Search | None:
        if self._is_clean:
            return None
        return self._sanitizer.search(text) or self._sanitizer.suspects

    def _decode_value(
        self, value: bytes, search: Search | None, *, may_be_enveloped: bool
    ) -> Level | str:
        """Decode a JSON text. A bare list becomes a batch without fields of its own (#w4)."""
        if bom := _BEFORE_LIST.match(value):
            text = value[bom.end() :]
            reject_invalid(text)
            value = b'%b{"events":%b}' % (bom[0], text)
        return self._decode_text(value, search, may_be_enveloped=may_be_enveloped)

    def _decode_text(
        self, text: bytes, search: Search | None, *, may_be_enveloped: bool
    ) -> Level | str:
        """Decode a JSON object to a Level, or a JSON string to its text.

        An object that may be an envelope is opened first, and the result is that of its content.
        """
        bom = text.startswith(BOM)
        if bom:
            text = text[len(BOM) :]
        if search is None:
            content = self._decode_clean(text, may_be_enveloped=may_be_enveloped)
        else:
            content = self._decode_suspicious(text, search, may_be_enveloped=may_be_enveloped)
        if isinstance(content, Unwrapped):
            content = self._decode_unwrapped(content)
        if not bom:
            return content
        if isinstance(content, str):
            # Put the byte order mark before the text of the string, so that the next step, which
            # decodes this text, reports the mark.
            return "\ufeff" + content.removeprefix("\ufeff")
        return msgspec.structs.replace(content, bom=True)

    @staticmethod
    def _decode_clean(text: bytes, *, may_be_enveloped: bool) -> Level | str | Unwrapped:
        content = decode_object_or_text(text)
        may_be_deep = _may_be_deep(text)
        reject_long_numbers(text)
        if may_be_enveloped and (unwrapped := _unwrapped(content, RAW_VALUES)):
            return unwrapped
        if isinstance(content, str):
            return content
        return Level(text, content, may_be_deep)

    def _decode_suspicious(
        self, text: bytes, search: Search, *, may_be_enveloped: bool
    ) -> Level | str | Unwrapped:
        """Decode a text and remove its secrets. Those in an envelope are removed from its content.

        Only the suspicious parts of the text are parsed, unless it's an envelope.
        """
        reject_long_numbers(text)
        tree = parse_tree(text, search)
        may_be_deep = _may_be_deep(text)
        if may_be_enveloped and isinstance(tree, dict) and is_enveloped(tree):
            whole = parse_tree(text)
            if unwrapped := _unwrapped(whole, PARSED_VALUES):
                return unwrapped
        cleaned, replaced = self._sanitizer.clean(text.decode(), tree, search)
        text = cleaned.encode()
        content = decode_object_or_text(text)
        if isinstance(content, str):
            return content
        return Level(text, content, may_be_deep, replaced)

    def _decode_unwrapped(self, unwrapped: Unwrapped) -> Level:
        """Decode the content of foreign envelopes, and the envelopes' own attributes (#w7, #w9)."""
        decoder = self
        if unwrapped.encoded:
            _reject_invalid_utf8(unwrapped.value)
            decoder = self._for_hidden(unwrapped.value)
        level = decoder.decode_content(unwrapped.value)
        if unwrapped.attributes is None:
            return level
        return add_wrapper(level, self._decode_attributes(unwrapped.attributes))

    def _decode_attributes(self, text: bytes) -> Level:
        level = self._for_hidden(text).decode_content(text)
        return msgspec.structs.replace(level, supplies=SUPPLIED)

    def _for_hidden(self, text: bytes) -> "_RecordDecoder":
        """Return a decoder for a text that a search of the record couldn't see, such as base64."""
        is_clean = self._is_clean and self._sanitizer.search(text) is None
        return _RecordDecoder(self._sanitizer, is_clean=is_clean)

    def _open_wrapper(self, content: Level | str) -> Level:
        """Decode a JSON string, then open a feed wrapper, each at most once (#w1, #w2)."""
        level = self._decode_string(content)
        if not is_wrapper(level.fields):
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
        return msgspec.structs.replace(self._decode_string(text), wrapper=level)

    def _decode_string(self, content: Level | str) -> Level:
        """Decode the text of a JSON string, which must be an object. Returns a Level unchanged."""
        if isinstance(content, str):
            text = content.encode()
            content = self._decode_text(text, self._search(text), may_be_enveloped=False)
        if isinstance(content, str):
            raise RecordRejectedError(
                "not_an_event", "expected an object, got a JSON string twice encoded"
            )
        return content

    def _split_batch(self, batch: Level, key: BatchKey) -> Iterator[WireEvent | UndecodableItem]:
        """Yield the events of a batch. Its limits are checked before the first is decoded."""
        shared = {name: raw for name, raw in batch.fields.items() if name != key and raw != NULL}
        wrappers = tuple(wrappers_around(batch))
        for wrapper in wrappers:
            shared = supplied_fields(wrapper, ("execution_id",)) | shared
        copied = [(name, bytes(raw)) for name, raw in shared.items()]
        for _, value in copied:
            check_depth(value, MAX_DEPTH)
        check_items(bytes(batch.fields[key]))
        items = _list_decoder.decode(batch.fields[key])
        copied += [
            (name, bytes(raw))
            for wrapper in wrappers
            for name, raw in other_fields(wrapper).items()
            if not (name in shared and same_json(shared[name], raw))
        ]
        check_shared(copied, len(items))
        # The text of a wrapper contains the whole batch, so check the wrappers once here, and not
        # again for each event.
        are_deep = any(wrapper.is_too_deep() for wrapper in wrappers)
        return (
            self._decode_item(batch, shared, index, item, are_deep=are_deep)
            for index, item in enumerate(items)
        )

    def _decode_item(
        self, batch: Level, shared: dict[str, Raw], index: int, item: Raw, *, are_deep: bool
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
                level = self._open_wrapper(content)
            else:
                replaced = _replaced_at(batch, index)
                level = self._open_wrapper(Level(text, content, batch.may_be_deep, replaced))
            if are_deep:
                raise too_deep()
            return build_wire_event(level, batch=batch, index=index, shared=shared)
        except RecordRejectedError as why:
            return UndecodableItem(index, why.reason, why.detail)


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
    if not is_deeper(text, EVENT_DEPTH):
        return False
    check_depth(text, MAX_NESTING)
    return True


def _unwrapped(content: object, values: ValueReader) -> Unwrapped | None:
    if not isinstance(content, dict) or not is_enveloped(content):
        return None
    return unwrap(content, values)


def _replaced_at(batch: Level, index: int) -> dict[int | None, set[KeyPath]]:
    return {None: batch.replaced[index]} if index in batch.replaced else {}


_members_decoder: Final[msgspec.json.Decoder[dict[str, Raw]]] = msgspec.json.Decoder(dict[str, Raw])
_list_decoder: Final[msgspec.json.Decoder[list[Raw]]] = msgspec.json.Decoder(list[Raw])
_text_decoder: Final[msgspec.json.Decoder[str]] = msgspec.json.Decoder(str)

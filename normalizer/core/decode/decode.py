"""Decodes the bytes of a record into wire events: opens envelopes, splits batches.

A record may hold one event, a list of events, or either of these in an envelope such as a
CloudEvent. Source: docs/spec/wire-shapes.md#w1, #w2, #w3, #w4, #w5, #w6, #w7, #w8, #w9, #b1, #b2,
#l2, #l3. The limits of a record are in `bounds`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec
from msgspec import Raw

from normalizer.core.decode.bounds import (
    MAX_NESTING,
    PLAIN_BYTES,
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
    reject_numbers,
    unframe,
)
from normalizer.core.decode.levels import (
    Level,
    kept_beside,
    supplied_fields,
    wire_event,
    within,
    wrappers_around,
)
from normalizer.core.decode.unwrap import (
    RAWS,
    SUPPLIED,
    TREES,
    Unwrapped,
    Values,
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
from normalizer.core.redaction.unstorable import Path
from normalizer.core.shapes import (
    BatchKey,
    batch_key,
    holds_event,
    is_enveloped,
    is_named,
    is_wrapper,
)
from normalizer.errors import Reason
from normalizer.jsontext import MAX_DEPTH, is_deeper

NO_ATTRIBUTES: Final[Mapping[str, str]] = {}

_LIST: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?=[ \t\r\n]*\[)")
"""The beginning of a JSON list, with the byte order mark before it if there is one."""


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
        content = decode_object_or_text(value)
        if not isinstance(content, str) and is_named(content) and not cloudevent:
            check_depth(value, EVENT_DEPTH)
            if len(value) > PLAIN_BYTES:
                reject_numbers(value)
            return (WireEvent.read(value, content),)  # nothing to unwrap, as in nearly every record
    return _RecordDecoder(sanitizer, search).read(value, cloudevent)


class _RecordDecoder:
    """Decodes one record from the outside in, and removes secrets from the JSON at each level.

    `search` finds the parts of the record that may contain a secret or text that PostgreSQL can't
    store. It's None if an earlier search of the whole record found neither.
    """

    def __init__(self, sanitizer: Sanitizer, search: Search | None) -> None:
        self._sanitizer = sanitizer
        self._search = search

    def read(
        self, value: bytes, cloudevent: Mapping[str, str]
    ) -> Iterable[WireEvent | UndecodableItem]:
        level = self._open(self.decode_value(value, is_record=True))
        key = batch_key(level.fields)
        if key is not None:
            return self._decode_batch(level, key)
        if cloudevent:
            attributes = self._attributes(msgspec.json.encode(cloudevent))
            level = within(level, msgspec.structs.replace(attributes, is_kept=False))
        return (wire_event(level, None, 0, {}),)

    def decode_value(self, value: bytes, *, is_record: bool) -> "Level | str":
        if bare := _LIST.match(value):
            text = value[bare.end() :]
            reject_invalid(text)
            value = b'%b{"events":%b}' % (bare[0], text)  # a batch without fields of its own (#w4)
        return self.decode(value, is_record=is_record)

    def _decode_batch(self, batch: Level, key: BatchKey) -> Iterator[WireEvent | UndecodableItem]:
        shared = {k: raw for k, raw in batch.fields.items() if k != key and raw != NULL}
        wrappers = tuple(wrappers_around(batch))
        for wrapper in wrappers:
            shared = supplied_fields(wrapper, ("execution_id",)) | shared
        outer = [(k, bytes(raw)) for k, raw in shared.items()]
        for _, value in outer:
            check_depth(value, MAX_DEPTH)
        check_items(bytes(batch.fields[key]))
        items = _list_decoder.decode(batch.fields[key])
        kept = [
            (k, bytes(raw))
            for one in wrappers
            for k, raw in kept_beside(one).items()
            if not (k in shared and same_json(shared[k], raw))
        ]
        check_shared(outer + kept, len(items))
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
        `are_deep` is True if a wrapper around the whole batch is nested too deeply, which makes
        each of its events undecodable.
        """
        text = bytes(item)
        try:
            content = decode_object_or_text(text)
            level = self._open(
                content
                if isinstance(content, str)
                else Level(
                    text,
                    content,
                    _replaced_at(batch, index),
                    bom=False,
                    may_be_deep=batch.may_be_deep,
                )
            )
            if are_deep:
                raise too_deep()
            return wire_event(level, batch, index, shared)
        except RecordRejectedError as why:
            return UndecodableItem(index, why.reason, why.detail)

    def _open(self, content: "Level | str") -> Level:
        """Unwrap a JSON string, then a feed wrapper, each at most once (#w1, #w2)."""
        level = self.open_text(content) if isinstance(content, str) else content
        if not is_wrapper(level.fields):
            return level
        fields = dict(level.fields)
        payload = fields.pop("payload")
        match first_byte(payload):
            case b'"':
                text = _text_decoder.decode(payload)
            case b"{" if holds_event(_members_decoder.decode(payload)):
                text = bytes(payload).decode()
                # The levels of the event are checked separately, so leave it out of the wrapper's
                # text.
                level = msgspec.structs.replace(
                    level, fields=fields, text=msgspec.json.encode(fields)
                )
            case _:
                return level
        return msgspec.structs.replace(self.open_text(text), wrapper=level)

    def open_text(self, text: str) -> Level:
        content = self.decode(text.encode())
        if isinstance(content, str):
            raise RecordRejectedError(
                "not_an_event", "expected an object, got a JSON string twice encoded"
            )
        return content

    def _open_envelope(self, unwrapped: Unwrapped, *, bom: bool) -> Level:
        """Decode the content of foreign envelopes, and the envelopes' other fields (#w7, #w9)."""
        decoder = self
        if unwrapped.encoded:
            _reject_invalid_utf8(unwrapped.value)
            search = self._search or self._sanitizer.search(unwrapped.value)
            decoder = _RecordDecoder(self._sanitizer, search)
        content = decoder.decode_value(unwrapped.value, is_record=False)
        level = decoder.open_text(content) if isinstance(content, str) else content
        if bom:
            level = msgspec.structs.replace(level, bom=True)
        if unwrapped.attributes is None:
            return level
        return within(level, self._attributes(unwrapped.attributes))

    def _attributes(self, text: bytes) -> Level:
        search = self._search or self._sanitizer.search(text)
        level = _RecordDecoder(self._sanitizer, search).decode(text)
        assert not isinstance(level, str)
        return msgspec.structs.replace(level, supplies=SUPPLIED)

    def decode(self, text: bytes, *, is_record: bool = False) -> "Level | str":
        """Decode one level, and return the fields of its object or the text of its JSON string.

        If the text is the whole record and is an envelope such as a CloudEvent, the envelope is
        opened first. Secrets in its content are then removed as they would be from any other event.
        """
        bom = text.startswith(BOM)
        if bom:
            text = text[len(BOM) :]
        replaced: dict[int | None, set[Path]] = {}
        if (search := self._search) is not None:
            # Without its escapes, this text may show a secret that the record's text hides.
            if not is_record:
                search = self._sanitizer.search(text) or self._sanitizer.suspects
            reject_numbers(text)
            tree = parse_tree(text, search)
            may_be_deep = _may_be_deep(text)
            if is_record and isinstance(tree, dict) and is_enveloped(tree):
                whole = parse_tree(text)
                if unwrapped := _unwrapped(whole, TREES):
                    return self._open_envelope(unwrapped, bom=bom)
            as_kept, replaced = self._sanitizer.clean(text.decode(), tree, search)
            text = as_kept.encode()
            content = decode_object_or_text(text)
        else:
            content = decode_object_or_text(text)
            may_be_deep = _may_be_deep(text)
            reject_numbers(text)
            if is_record and (unwrapped := _unwrapped(content, RAWS)):
                return self._open_envelope(unwrapped, bom=bom)
        if not isinstance(content, str):
            return Level(text, content, replaced, bom, may_be_deep)
        # If a byte order mark stands before a JSON string, put it before the text of the string, so
        # that the next step reports it.
        return "\ufeff" + content.removeprefix("\ufeff") if bom else content


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


def _unwrapped(content: object, values: Values) -> Unwrapped | None:
    if not isinstance(content, dict) or not is_enveloped(content):
        return None
    return unwrap(content, values)


def _replaced_at(batch: Level, index: int) -> dict[int | None, set[Path]]:
    return {None: batch.replaced[index]} if index in batch.replaced else {}


_members_decoder: Final[msgspec.json.Decoder[dict[str, Raw]]] = msgspec.json.Decoder(dict[str, Raw])
_list_decoder: Final[msgspec.json.Decoder[list[Raw]]] = msgspec.json.Decoder(list[Raw])
_text_decoder: Final[msgspec.json.Decoder[str]] = msgspec.json.Decoder(str)

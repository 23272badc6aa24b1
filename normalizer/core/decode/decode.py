"""Decodes the bytes of a record into wire events: opens envelopes, splits batches.

A record may hold one event, a list of events, or either of these in an envelope such as a
CloudEvent. Nearly every record is one event without an envelope, and `decode_events` decodes it
right away. Foreign envelopes are opened only in the order CloudEvents, Kafka Connect, Debezium, and
outbox, and none in a JSON string, base64, a feed wrapper, or a batch. A feed wrapper in a feed
wrapper, a batch in a batch, and a string or a list in a string aren't opened either. Such content
is read as an event, and usually rejected as not_an_event (docs/spec/wire-shapes.md#w1, #w9, #b2). A
*sign* is a short text such as `password`. Every secret that we recognize comes with a sign, and so
does everything else that mustn't be stored, so other texts aren't cleaned.

The first check that fails gives the reason. The checks run in this order:

1. too_large: the bytes of the value and of the record (`check_record_size`, before this module)
2. unsupported_framing: what follows the header of a schema registry isn't JSON
3. invalid_utf8
4. invalid_json, here and below also for each text within the record
5. too_deep: more levels than a record may have, or for a plain event, than an event may have
6. not_an_event: JSON that's neither an object nor a string with an object
7. too_large: numbers that get too long when they're written out
8. too_deep, then too_large: the limits of a batch (`_list_of_items`)
9. too_deep: an event or a wrapper around it has more levels than an event may have

After these, the rules check that it's an event. The limits are in `record_limits`. Source:
docs/spec/wire-shapes.md#l2, #w3.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

import msgspec
from msgspec import Raw

from normalizer.core.decode.decode_json import (
    MAX_EVENT_DEPTH,
    UTF8_BOM,
    check_json_if_many_exponents,
    decode_object,
    decode_object_or_string,
    parse_suspicious_parts_or_reject,
    reject_invalid_json,
    strip_schema_header,
)
from normalizer.core.decode.record_layers import (
    RecordLayer,
    add_outermost_wrapper,
    build_wire_event,
    fields_beside_event,
    fields_supplied_by_wrapper,
    wrappers_around,
)
from normalizer.core.decode.record_limits import (
    MAX_RECORD_DEPTH,
    NUMBER_CHECK_MIN_BYTES,
    check_depth,
    check_event_count,
    check_shared_size,
    too_deep_error,
)
from normalizer.core.decode.unwrap import (
    FIELDS_FROM_ENVELOPE,
    unwrap_envelopes,
)
from normalizer.core.decode.wire_event import WireEvent
from normalizer.core.decode.wire_values import (
    NULL,
    RecordRejectedError,
    Value,
    decode_raw_value,
    first_byte,
    same_json,
)
from normalizer.core.redaction.prefilter import HasSign
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.core.redaction.unstorable import escape_unstorable
from normalizer.core.shapes import (
    EventsKey,
    find_events_key,
    has_event_type,
    holds_event,
    is_feed_wrapper,
    may_be_foreign_envelope,
)
from normalizer.errors import RejectionReason
from normalizer.jsontext import MAX_FIELD_DEPTH, Json, is_deeper

_NO_ATTRIBUTES: Final[Mapping[str, str]] = {}

_members_decoder: Final[msgspec.json.Decoder[dict[str, Raw]]] = msgspec.json.Decoder(dict[str, Raw])
_list_decoder: Final[msgspec.json.Decoder[list[Raw]]] = msgspec.json.Decoder(list[Raw])
_text_decoder: Final[msgspec.json.Decoder[str]] = msgspec.json.Decoder(str)

_BEFORE_LIST: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?=[ \t\r\n]*\[)")
"""Matches if the text is a JSON list, namely the byte order mark before it, or nothing."""


class UndecodableItem(msgspec.Struct, frozen=True, gc=False):
    """An event of a batch that was rejected before it was decoded.

    `execution_id` is the value that it has itself or inherits from its batch, or None.
    """

    index: int
    reason: RejectionReason
    detail: str
    execution_id: Value


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
        begins_an_object = value.startswith(b"{")
    if not value.isascii():
        _reject_invalid_utf8(value)
    sign_search = sanitizer.sign_search_for_parts_of(value)
    if sign_search is None and begins_an_object:
        fields = decode_object_or_string(value)
        if not isinstance(fields, str) and has_event_type(fields) and not cloudevent:
            # An object that names its event type is the event, so there's nothing to open. Its
            # `payload` or `events`, if any, is just a field (has_event_type).
            # This fast path repeats checks 4 (in decoding, above), 5, and 7 of `_RecordDecoder`,
            # in the same order. `test_fast_path_has_the_outcomes_of_the_slow_path` compares both.
            check_depth(value, MAX_EVENT_DEPTH)
            if len(value) > NUMBER_CHECK_MIN_BYTES:  # saves a call for nearly every record
                check_json_if_many_exponents(value)
            return (WireEvent.decode(value, fields),)  # as for nearly every record
        # Otherwise it's a batch or in an envelope, and `_parse_text` decodes it again. That costs
        # little, because its members are left as bytes, and such records are rare.
    return _RecordDecoder(sanitizer).decode(value, sign_search, cloudevent)


class _CleanText(msgspec.Struct, frozen=True, gc=False):
    """A parsed JSON text without signs of anything that mustn't be stored (see `prefilter`).

    `tree` is a JSON string, or an object whose members are the bytes that were sent. `may_be_deep`
    and `bom` are those of the layer that it becomes. `bom` leads to the coercion `bom_stripped`.
    """

    text: bytes
    tree: dict[str, Raw] | str
    may_be_deep: bool
    bom: bool


class _SuspiciousText(msgspec.Struct, frozen=True, gc=False):
    """A parsed JSON text with signs of what mustn't be stored, such as secrets, still in it.

    `has_sign` returns whether a part of the text has a sign. In `tree`, parts without one are left
    as bytes. The other fields are those of `_CleanText`.
    """

    text: bytes
    tree: Json
    may_be_deep: bool
    bom: bool
    has_sign: HasSign


_ParsedText: TypeAlias = _CleanText | _SuspiciousText


class _RecordDecoder:
    r"""Decodes one record from the outside in.

    For example, this record is a CloudEvent around a feed wrapper, whose payload is a JSON string
    with a batch:

        {"specversion": "1.0", "id": "7", "data":
            {"global_sequence": 77, "payload":
                "{\"execution_id\": 5, \"events\": [{\"name\": \"step.exit\"}, ...]}"}}

    It needs every step, in this order:

    _open_foreign_envelopes  opens the CloudEvent. What's beside its data becomes a wrapper.
    _open_feed_wrapper       opens the feed wrapper, which becomes another wrapper.
    _decode_string           decodes the payload.
    _split_batch             takes the list of events out of the batch.
    _decode_item             decodes each event, when the caller comes to it.

    A *text* is some JSON as bytes. `_search_and_parse` searches it for signs and turns it into a
    *tree*. `_clean` removes the secrets and returns a *layer*, which is one JSON object. What's
    found in a string or in base64 is a text in its turn, because the search of the text around it
    couldn't see its secrets.
    """

    def __init__(self, sanitizer: Sanitizer) -> None:
        self._sanitizer = sanitizer

    def decode(
        self, value: bytes, sign_search: HasSign | None, cloudevent: Mapping[str, str]
    ) -> Iterable[WireEvent | UndecodableItem]:
        """Return the record's events, as `decode_events` does.

        `sign_search` is what `sign_search_for_parts_of` returned for `value`, which isn't searched
        twice.
        """
        record = _parse_text(_list_to_batch(value), sign_search)
        layer = self._open_feed_wrapper(self._open_foreign_envelopes(record))
        key = find_events_key(layer.fields)
        if key is not None:
            # The id, type, and time in the headers belong to one event, so a batch takes none of
            # them (#w8). Its events store the headers as they are. A structured CloudEvent is
            # another case. `_open_foreign_envelopes` has made its attributes a wrapper of the
            # batch, and `extra` keeps them, because no header does. Like any wrapper of a batch, it
            # supplies an execution_id (#w5), but no id, type, or time (#w7).
            return self._split_batch(layer, key)
        if cloudevent:
            attributes = self._decode_attributes(msgspec.json.encode(cloudevent))
            # The event stores the record's headers, so `extra` needn't have the attributes too.
            layer = add_outermost_wrapper(layer, msgspec.structs.replace(attributes, is_kept=False))
        return (build_wire_event(layer, batch=None, index=0, shared={}),)

    def _open_foreign_envelopes(self, record: _ParsedText) -> RecordLayer:
        """Decode the content of foreign envelopes, or the record itself if it isn't in any.

        The envelopes are opened before the secrets are removed. Those in the content are removed
        when it's decoded in turn, and nothing else of the envelopes is stored but the attributes.
        """
        content = None
        if isinstance(record.tree, dict) and may_be_foreign_envelope(record.tree):
            content = unwrap_envelopes(record.tree)
        if content is None:
            return self._decode_parsed(record)
        _reject_invalid_utf8(content.text)
        layer = self._decode_parsed(self._search_and_parse(_list_to_batch(content.text)))
        if content.attributes is not None:
            layer = add_outermost_wrapper(layer, self._decode_attributes(content.attributes))
        return msgspec.structs.replace(layer, bom=True) if record.bom else layer

    def _decode_attributes(self, text: bytes) -> RecordLayer:
        """Decode the attributes of foreign envelopes, as a wrapper around the event (#w7, #w9)."""
        return msgspec.structs.replace(
            self._clean(self._search_and_parse(text)), supplies=FIELDS_FROM_ENVELOPE
        )

    def _open_feed_wrapper(self, layer: RecordLayer) -> RecordLayer:
        """Return the event or the batch in a feed wrapper, and any other layer as it is (#w2)."""
        if not is_feed_wrapper(layer.fields):
            return layer
        others = dict(layer.fields)
        payload = others.pop("payload")
        # These two decoders can't raise. The payload is a member of a layer, so msgspec has read it
        # before with its escapes and brackets, and cleaning has replaced lone surrogates.
        match first_byte(payload):
            case b'"':
                opened = self._decode_string(_text_decoder.decode(payload))
            case b"{" if holds_event(_members_decoder.decode(payload)):
                opened = self._clean(self._search_and_parse(bytes(payload)))
            case _:
                return layer
        # Take the payload out of the wrapper, because its levels of nesting are checked by itself.
        wrapper = msgspec.structs.replace(layer, fields=others, text=msgspec.json.encode(others))
        return msgspec.structs.replace(opened, wrapper=wrapper)

    def _decode_parsed(self, parsed: _ParsedText) -> RecordLayer:
        """Decode an object, or a JSON string that contains one (#w1)."""
        if not isinstance(parsed.tree, str):
            return self._clean(parsed)
        layer = self._decode_string(parsed.tree)
        return msgspec.structs.replace(layer, bom=True) if parsed.bom else layer

    def _decode_string(self, string: str) -> RecordLayer:
        """Decode the object in a JSON string. A string in the string isn't decoded.

        Only here may a text have lone surrogates or U+0000, because the string had them as escapes.
        Bytes can't, because UTF-8 has no surrogates, and JSON has no U+0000 but as an escape.
        """
        return self._clean(self._search_and_parse(escape_unstorable(string).encode()))

    def _search_and_parse(self, text: bytes) -> _ParsedText:
        """Search a text for signs, and parse it. The record itself has been searched already."""
        return _parse_text(text, self._sanitizer.sign_search_for_parts_of(text))

    def _clean(self, parsed: _ParsedText) -> RecordLayer:
        """Return a parsed object as a layer without secrets.

        A _CleanText is one already. A _SuspiciousText is cleaned, and its new text decoded. Raises
        RecordRejectedError for a string, in a text of either type.
        """
        if isinstance(parsed.tree, str):
            raise RecordRejectedError(
                "not_an_event", "expected an object, got a JSON string twice encoded"
            )
        if isinstance(parsed, _CleanText):
            return RecordLayer(parsed.text, parsed.tree, parsed.may_be_deep, bom=parsed.bom)
        cleaned = self._sanitizer.clean(parsed.text.decode(), parsed.tree, parsed.has_sign)
        text = cleaned.text.encode()
        fields = decode_object(text)
        return RecordLayer(text, fields, parsed.may_be_deep, cleaned.replaced, parsed.bom)

    def _split_batch(
        self, batch: RecordLayer, key: EventsKey
    ) -> Iterable[WireEvent | UndecodableItem]:
        """Return the events of a batch. Each one is decoded only when the caller comes to it.

        This mustn't be a generator function. A batch beyond the limits has to be rejected here,
        before the caller gets any of its events.
        """
        wrappers = tuple(wrappers_around(batch))
        shared = _shared_fields(batch, key, wrappers)
        items = _list_of_items(batch, key, shared, wrappers)
        # The wrappers are around the whole batch, so check them once here, and not for each event.
        are_deep = any(wrapper.is_too_deep() for wrapper in wrappers)
        return (
            self._decode_item(batch, shared, index, item, are_deep=are_deep)
            for index, item in enumerate(items)
        )

    def _decode_item(
        self, batch: RecordLayer, shared: dict[str, Raw], index: int, item: Raw, *, are_deep: bool
    ) -> WireEvent | UndecodableItem:
        """Decode one event of a batch, with the fields that it inherits from the batch (#b1).

        If the event is in a wrapper, it's unwrapped, but a wrapper inside a wrapper isn't (#b2).
        The batch's text was cleaned, but not what's in a JSON string there, so `_decode_string`
        cleans that. `are_deep` is True if a wrapper around the whole batch is nested too deeply.
        This rejects each event instead of the record, because the checks of its own string come
        first.
        """
        text = bytes(item)
        own: Mapping[str, Raw] = {}
        inner: Mapping[str, Raw] = {}
        try:
            content = decode_object_or_string(text)
            if isinstance(content, str):
                layer = self._decode_string(content)
            else:
                replaced = batch.replaced_paths_in_item(index)
                layer = RecordLayer(text, content, batch.may_be_deep, replaced)
            own = layer.fields
            layer = self._open_feed_wrapper(layer)
            inner = layer.fields
            if are_deep:  # check 9, after those of an item's string
                raise too_deep_error()
            return build_wire_event(layer, batch=batch, index=index, shared=shared)
        except RecordRejectedError as why:
            execution_id = _first_execution_id(inner, own, shared)
            return UndecodableItem(index, why.reason, why.detail, execution_id)


def _first_execution_id(*layers: Mapping[str, Raw]) -> Value:
    """Return the execution_id of the first layer that has one, or None."""
    for fields in layers:
        if (raw := fields.get("execution_id", NULL)) != NULL:
            # No object or list is an id, so don't decode one, which may be large. Decoding can't
            # fail, because the text around this value was parsed and cleaned.
            return None if first_byte(raw) in b"{[" else decode_raw_value(raw)
    return None


def _parse_text(text: bytes, sign_search: HasSign | None) -> _ParsedText:
    """Parse a text and do checks 4 to 7.

    If the text may have many exponents, `check_json_if_many_exponents` does all of them.
    """
    bom = text.startswith(UTF8_BOM)
    if bom:
        text = text[len(UTF8_BOM) :]
    check_json_if_many_exponents(text)
    if sign_search is None:
        clean = decode_object_or_string(text)
        return _CleanText(text, clean, _check_record_depth(text), bom)
    suspicious = parse_suspicious_parts_or_reject(text, sign_search)
    return _SuspiciousText(text, suspicious, _check_record_depth(text), bom, sign_search)


def _check_record_depth(text: bytes) -> bool:
    """Raise RecordRejectedError if this JSON is nested more deeply than any record may be.

    Returns whether it's nested more deeply than a single event may be. A batch or a wrapper may be,
    because the events inside are checked separately.
    """
    is_deeper_than_event = is_deeper(text, MAX_EVENT_DEPTH)
    if is_deeper_than_event:
        check_depth(text, MAX_RECORD_DEPTH)
    return is_deeper_than_event


def _list_to_batch(value: bytes) -> bytes:
    """Return a bare list as a batch without fields of its own (#w4), and other JSON as it is.

    The list is checked first. Otherwise text such as `[],"a":[]` would become part of the object
    around it. What's added has no sign, so a search of `value` holds for the result too.
    """
    if not (before := _BEFORE_LIST.match(value)):
        return value
    text = value[before.end() :]
    reject_invalid_json(text)
    return b'%b{"events":%b}' % (before[0], text)


def _shared_fields(
    batch: RecordLayer, key: EventsKey, wrappers: tuple[RecordLayer, ...]
) -> dict[str, Raw]:
    """Return the fields that a batch gives to its events, its own before those of its wrappers."""
    shared = {name: raw for name, raw in batch.fields.items() if name != key and raw != NULL}
    for wrapper in wrappers:
        shared = fields_supplied_by_wrapper(wrapper, ("execution_id",)) | shared
    return shared


def _list_of_items(
    batch: RecordLayer, key: EventsKey, shared: dict[str, Raw], wrappers: tuple[RecordLayer, ...]
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
    check_shared_size(copied, len(items))
    return items


def _reject_invalid_utf8(value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise RecordRejectedError("invalid_utf8", f"byte {error.start} is not UTF-8") from None

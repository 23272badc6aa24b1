"""Removes secrets from a record's value on behalf of the native lane, i.e. of the rules in Rust.

The rules that find secrets exist only in Python. When the lane sees a sign of a secret in a
record's value, it calls these rules and continues with the cleaned text. If the headers may contain
a secret, it doesn't read the record at all, and Python normalizes it instead. Source:
docs/spec/wire-shapes.md#r6.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Raw

from normalizer.core.decode.decode_json import parse_suspicious_parts_or_reject
from normalizer.core.decode.record_limits import MAX_RECORD_DEPTH, check_depth
from normalizer.core.decode.wire_values import RecordRejectedError
from normalizer.core.redaction.prefilter import may_have_extreme_number
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.core.redaction.suspicious_parts import object_members
from normalizer.core.shapes import (
    find_events_key,
    has_event_type,
    is_feed_wrapper,
    may_be_foreign_envelope,
)
from normalizer.jsontext import Json

MAX_CLEANED_BYTES: Final = 4_000
"""The most bytes of a text that is cleaned for the lane. For a longer text this would take as long
as the rules in Python, and searching it here and again in Python would take longer."""


class LaneCleaner:
    """Cleans events for the native lane, with the words that an operator added."""

    def __init__(self, redact_keys: Iterable[str] = ()) -> None:
        self._sanitizer = Sanitizer(redact_keys)
        self.search_tables: Final = self._sanitizer.prefilter.search_tables

    def headers_may_hold_secret(self, headers: bytes) -> bool:
        """Return whether headers, as JSON, may hold a secret, so that the lane must leave them."""
        return self._sanitizer.has_sign(headers)

    def clean(self, text: bytes) -> bytes | None:
        """Return the record's text without secrets, or None if Python must normalize the record.

        Only a plain event or a batch of plain events can be cleaned here. A wrapper may hold its
        event as a JSON string, which would have to be decoded first. The result is also None if
        escapes in the text may hide a word that marks a secret, if PostgreSQL can't store the text,
        if a number may be beyond the limits, or if the text is longer than MAX_CLEANED_BYTES bytes.
        """
        if len(text) > MAX_CLEANED_BYTES:
            return None
        sanitizer = self._sanitizer
        sign_search = sanitizer.sign_search_for_parts_of(text)
        if sign_search is None:
            return text
        if sign_search == sanitizer.has_sign or may_have_extreme_number(text):
            return None
        try:
            tree = parse_suspicious_parts_or_reject(text, sign_search)
            if not _holds_no_text_to_decode(tree):
                return None
            check_depth(text, MAX_RECORD_DEPTH)  # a secret may be deeper than what's left
        except RecordRejectedError:
            return None
        cleaned = sanitizer.clean(text.decode(), tree, sign_search)
        assert not cleaned.replaced  # unstorable text is always escaped
        return cleaned.text.encode()


def _holds_no_text_to_decode(tree: Json) -> bool:
    """Return whether this is an event or a batch of events, none of them in a text."""
    if not isinstance(tree, dict):
        return False
    if has_event_type(tree):
        return True
    if (
        is_feed_wrapper(tree)
        or may_be_foreign_envelope(tree)
        or (key := find_events_key(tree)) is None
    ):
        return False
    items = tree[key]
    assert isinstance(items, (Raw, list))
    events = map(object_members, _list_decoder.decode(items) if isinstance(items, Raw) else items)
    return all(event is not None and not is_feed_wrapper(event) for event in events)


_list_decoder: Final[msgspec.json.Decoder[list[Raw]]] = msgspec.json.Decoder(list[Raw])

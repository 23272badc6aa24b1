"""Removes the secrets of an event before the native lane reads it.

The rules that find secrets exist only in Python. The lane asks for them when it finds a sign of a
secret in a record's value, and reads the text that's left. It leaves a record whose headers may
hold a secret. Source: docs/spec/wire-shapes.md#r6.
"""

from collections.abc import Iterable
from typing import Final

from normalizer.core.decode.bounds import MAX_NESTING, check_depth
from normalizer.core.decode.decode_json import decode_object_or_text, parse_tree
from normalizer.core.decode.wire_values import RecordRejectedError
from normalizer.core.redaction.prefilter import may_be_extreme
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.core.shapes import is_named

LONGEST: Final = 4_000
"""The most bytes of a text that is cleaned for the lane. For a longer text this would take as long
as the rules in Python."""


class EventCleaner:
    """Cleans events for the native lane, with the words that an operator added."""

    def __init__(self, redact_keys: Iterable[str] = ()) -> None:
        self._sanitizer = Sanitizer(redact_keys)
        self.automaton: Final = self._sanitizer.prefilter.automaton

    def suspects(self, headers: bytes) -> bool:
        """Return whether headers, as JSON, may hold a secret, so that the lane must leave them."""
        return self._sanitizer.suspects(headers)

    def clean(self, text: bytes) -> bytes | None:
        """Return the text of a record without its secrets, or None if the lane must leave it.

        Only a JSON object that's an event itself is cleaned here. A wrapper and a batch may hold
        events as text, which must be cleaned after they're decoded. The lane also leaves text
        whose escapes may hide a word, text that PostgreSQL can't store, numbers that may be beyond
        the limits, and text of more than LONGEST bytes.
        """
        sanitizer = self._sanitizer
        search = sanitizer.search(text)
        if search is None:
            return text
        if len(text) > LONGEST or search == sanitizer.suspects or may_be_extreme(text):
            return None
        try:
            content = decode_object_or_text(text)
            if isinstance(content, str) or not is_named(content):
                return None
            tree = parse_tree(text, search)
            check_depth(text, MAX_NESTING)  # a secret may be deeper than what's left
        except RecordRejectedError:
            return None
        cleaned = sanitizer.clean(text.decode(), tree, search)
        assert not cleaned.replaced  # unstorable text is always escaped
        return cleaned.text.encode()

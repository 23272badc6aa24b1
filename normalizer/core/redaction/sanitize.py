"""Removes secrets from JSON text, and replaces text that PostgreSQL can't store.

This runs only on text in which the prefilter has found a sign of something to remove, which is
rare. The text is parsed, and if it turns out that nothing has to change, the original bytes are
returned. Source: docs/spec/wire-shapes.md#v5, #r1, #r2, #r3, #r4, #r5, #r6.
"""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple, TypeAlias

from normalizer.core.redaction.json_in_text import json_spans
from normalizer.core.redaction.key_classifier import KeyClassifier, value_needs_no_cleaning
from normalizer.core.redaction.prefilter import HasSign, Prefilter
from normalizer.core.redaction.secret_by_neighbor import SecretByNeighborFinder
from normalizer.core.redaction.secret_names import REDACTED, SecrecyLevel, SecretKeyWords
from normalizer.core.redaction.secret_text import MIN_SECRET_TEXT_CHARS, TextRedactor
from normalizer.core.redaction.suspicious_parts import (
    encode_tree,
    is_number,
    object_members,
    parse_whole_json,
)
from normalizer.core.redaction.unstorable import (
    REPLACEMENT_CHARACTER,
    KeyPath,
    child_path,
    escape_unstorable,
    replace_unstorable,
)
from normalizer.core.shapes import find_events_key, holds_event, is_feed_wrapper
from normalizer.jsontext import Json, RepeatedKeyObject, write_json

_MOST_TEXTS: Final = 2  # read JSON in a text, and JSON in a text of that JSON
_REFERENCE: Final = "reference"
_REFERENCE_KEYS: Final = frozenset(("ref", "uri", "locator", "sha256", "bytes"))


class CleanedText(NamedTuple):
    """The clean text, and the paths at which text was replaced because PostgreSQL can't store it.

    In a batch, the paths are grouped by the index of their event, with the key None for all paths
    outside of the events.
    """

    text: str
    replaced: dict[int | None, set[KeyPath]]


class Sanitizer:
    """Finds and removes what must not be stored."""

    def __init__(self, redact_keys: Iterable[str] = ()) -> None:
        redaction = SecretKeyWords(redact_keys)
        self.prefilter: Final = Prefilter(redaction.added_words)
        self.has_sign: Final = self.prefilter.has_sign
        self.sign_search_for_parts_of: Final = self.prefilter.sign_search_for_parts_of
        self.texts: Final = TextRedactor(redaction.secrecy, self.has_sign)
        self.secrets_by_neighbor: Final = SecretByNeighborFinder(self.texts)
        self.keys: Final = KeyClassifier(self.texts, self.secrets_by_neighbor)

    def clean(self, text: str, tree: Json, has_sign: HasSign | None = None) -> CleanedText:
        """Return `text` without its secrets, or `text` itself if nothing must change.

        `tree` is the parsed text, and `has_sign` is an optional faster search for signs in its
        parts. A JSON string that may contain a whole event isn't cleaned here, because the decoder
        unwraps it later and then cleans its content. Such a string may be the whole record, the
        payload of a feed wrapper, or an item of a batch. Cleaning text twice changes nothing the
        second time.
        """
        # Use the full search if the text has escapes, because an escape can hide a sign of a
        # secret. For example, `p\u0061ssword` reads `password` once it's decoded.
        rewriter = _Rewriter(self, self.has_sign if has_sign is None or "\\" in text else has_sign)
        cleaned = rewriter.record(tree)
        return CleanedText(encode_tree(cleaned) if rewriter.changed else text, rewriter.replaced)

    def clean_headers(self, headers: dict[str, Json]) -> tuple[Json, set[KeyPath]]:
        """Clean the headers of a record. Also returns the paths at which text was replaced."""
        rewriter = _Rewriter(self, self.has_sign)
        cleaned = rewriter.walk(headers, ("headers",), "plain")
        return cleaned, rewriter.replaced.get(None, set())


_Mode: TypeAlias = Literal["root", "plain", "reference", "untouched"]
"""How much of a subtree may change. It isn't an Enum, because looking up its members would take a
quarter of the time.

root       everything except the values of the envelope's own keys
plain      everything
reference  everything except the address of a stored result
untouched  only text that PostgreSQL can't store"""


class _Rewriter:
    """Walks over one tree, cleans it, and records what it changed."""

    def __init__(self, sanitizer: Sanitizer, has_sign: HasSign, *, within_texts: int = 0) -> None:
        self._sanitizer = sanitizer
        self._has_sign = has_sign
        self._within_texts = within_texts
        self._item: int | None = None
        self.changed = False
        self.redacted = False
        self.replaced: dict[int | None, set[KeyPath]] = {}

    def record(self, tree: Json) -> Json:
        """Clean the value of a record: an event, a batch of events, or either one in a wrapper."""
        if not isinstance(tree, dict) or _opens(tree) or (key := find_events_key(tree)) is None:
            return self._event(tree)
        items = tree[key]
        self.changed |= isinstance(tree, RepeatedKeyObject)
        batch = self.walk({**tree, key: None}, (), "root")
        assert isinstance(batch, dict)
        if not isinstance(items, list):
            return batch | {key: items}  # no event has a sign
        events: list[Json] = []
        for self._item, item in enumerate(items):
            events.append(self._event(item))
        return batch | {key: events}

    def _event(self, tree: Json) -> Json:
        if isinstance(tree, str):
            return self._wrapped(tree)
        if isinstance(tree, dict) and is_feed_wrapper(tree):
            payload = tree["payload"]
            if isinstance(payload, dict) and holds_event(payload):
                # Turn the payload into text. The decoder unwraps that text later, and cleans its
                # content then.
                payload, self.changed = write_json(payload), True
            if isinstance(payload, str):
                self.changed |= isinstance(tree, RepeatedKeyObject)
                wrapper = self.walk({**tree, "payload": None}, (), "root")
                assert isinstance(wrapper, dict)
                return wrapper | {"payload": self._wrapped(payload)}
        return self.walk(tree, (), "root")

    def walk(self, tree: Json, path: KeyPath, mode: _Mode) -> Json:  # noqa: C901, PLR0912 - one stack frame per level
        """Clean a tree. Returns the same object if nothing changes.

        Takes one stack frame per level.
        """
        if isinstance(tree, str):
            return self._text(tree, path, mode)
        if isinstance(tree, list):
            items = tree
            inner = child_path(path, "[]")
            below: _Mode = "plain" if mode == "root" else mode
            for at, item in enumerate(tree):
                if value_needs_no_cleaning(item):
                    continue
                kept_item = self.walk(item, inner, below)
                if kept_item is not item:
                    items = items if items is not tree else tree.copy()
                    items[at] = kept_item
            if len(items) > 1 and mode != "untouched" and str in map(type, items):
                return self._redact_neighbours(items, copied=items is not tree)
            return items
        if not isinstance(tree, dict):
            return tree
        # Write the tree again if a key was repeated, because the text still has the key's earlier
        # value, and that value may be a secret.
        self.changed |= isinstance(tree, RepeatedKeyObject)
        keys, at_top = self._sanitizer.keys, mode == "root"
        facts = keys.classify_keys(tree, at_top=at_top)
        named = (
            self._sanitizer.secrets_by_neighbor.secret_keys(tree, at_top=at_top)
            if facts.may_name and mode != "untouched"
            else ()
        )
        members = tree
        if not facts.are_plain:
            members = dict(zip(self._keys(tree, path, mode), tree.values(), strict=True))
            facts = keys.classify_keys(members, at_top=at_top)
        kept_tree = members
        find_secrecy = facts.secrecy
        for key, value in members.items():
            secrecy = find_secrecy(key)
            if secrecy is None and key not in named:
                if value_needs_no_cleaning(value):
                    continue  # nearly always
            elif value is None or isinstance(value, bool):
                continue
            inside = _mode_under(key, mode)
            hides = secrecy is not None and inside != "untouched"
            if (hides or key in named) and (
                (hides and secrecy is SecrecyLevel.NUMBERS_TOO) or not is_number(value)
            ):
                self._redact(changed=value != REDACTED)
                kept: Json = REDACTED
            else:
                kept = self.walk(value, child_path(path, key), inside)
            if kept is not value:
                kept_tree = kept_tree if kept_tree is not members else {**members}
                kept_tree[key] = kept
        return kept_tree

    def _wrapped(self, text: str) -> str:
        escaped = escape_unstorable(text)
        self.changed |= escaped != text
        return escaped

    def _redact_neighbours(self, items: list[Json], *, copied: bool) -> list[Json]:
        """Return the list without the items that earlier items show to be secret."""
        for at, kept in self._sanitizer.secrets_by_neighbor.secret_item_replacements(items):
            if items[at] != kept:
                items = items if copied else items.copy()
                copied = True
                items[at] = kept
                self._redact(changed=True)
        return items

    def _redact(self, *, changed: bool) -> None:
        self.changed |= changed
        self.redacted |= changed

    def _text(self, text: str, path: KeyPath, mode: _Mode) -> str:
        replaced = replace_unstorable(text)
        kept = replaced if mode == "untouched" else self._without_secrets(replaced)
        if kept != text:
            self._note(path, text, replaced, kept)
        return kept

    def _without_secrets(self, text: str) -> str:
        texts = self._sanitizer.texts
        if len(text) < MIN_SECRET_TEXT_CHARS or not texts.may_hold_secret(text, self._has_sign):
            return text
        kept: str | None = None
        if self._within_texts == 0 and text.lstrip()[:1] in ("{", "["):
            kept = self._within(text)
        if kept is None:
            is_outer = self._within_texts < _MOST_TEXTS
            outside = self._without_json(text) if is_outer else text
            kept = texts.redact_text(outside, is_suspicious=outside is text)
        self.redacted |= kept != text
        return kept

    def _without_json(self, text: str) -> str:
        """Return the text without the secrets of the JSON in it."""
        kept, end = [], 0
        for start, after in json_spans(text):
            clean = self._within(text[start:after])
            kept += [text[end:start], text[start:after] if clean is None else clean]
            end = after
        return "".join((*kept, text[end:])) if kept else text

    def _within(self, text: str) -> str | None:
        """Return JSON in a string without its secrets, or None if it can't be cleaned as JSON."""
        try:
            tree = parse_whole_json(text.encode())
        except (ValueError, RecursionError):
            return None
        within_texts = self._within_texts + 1
        inner = _Rewriter(self._sanitizer, self._sanitizer.has_sign, within_texts=within_texts)
        kept = inner.walk(tree, (), "plain")
        if inner.redacted:
            return encode_tree(kept)
        return None if inner.changed else text

    def _keys(self, tree: dict[str, Json], path: KeyPath, mode: _Mode) -> list[str]:
        """Return the cleaned keys. All of them are different."""
        keys: list[str] = []
        taken: set[str] = set()
        numbers: dict[str, int] = {}
        for sent in tree:
            replaced = replace_unstorable(sent)
            kept = key = replaced if mode == "untouched" else self._key(replaced)
            if kept != sent:
                taken = taken or set(tree)
                while key in taken:
                    numbers[kept] = numbers.get(kept, 1) + 1
                    key = f"{kept} ({numbers[kept]})"
                taken.add(key)
                self._note(child_path(path, key), sent, replaced, key)
            keys.append(key)
        return keys

    def _key(self, key: str) -> str:
        kept = self._sanitizer.keys.clean_key(key)
        self.redacted |= kept != key
        return kept

    def _note(self, path: KeyPath, sent: str, replaced: str, kept: str) -> None:
        self.changed = True
        if replaced != sent and REPLACEMENT_CHARACTER in kept:
            self.replaced.setdefault(self._item, set()).add(path)


def _opens(tree: dict[str, Json]) -> bool:
    """Return whether this is a feed wrapper whose payload will be opened by the decoder.

    In that case, the event is in the payload. A list beside the payload isn't a batch of events
    then, but an ordinary field that is cleaned like any other.
    """
    if not is_feed_wrapper(tree):
        return False
    payload = tree["payload"]
    members = object_members(payload)
    return isinstance(payload, str) or (members is not None and holds_event(members))


def _mode_under(key: str, mode: _Mode) -> _Mode:
    if mode == "untouched":
        return "untouched"
    if mode == "reference":
        named = key in _REFERENCE_KEYS or key.endswith("_id")
        return "untouched" if named else "reference"
    return "reference" if key == _REFERENCE else "plain"

"""JSON text in; the same text out, without secrets and with all text that Postgres can hold.

Looking costs less than a microsecond and nearly always finds nothing, so the text is only taken
apart on a hit, and its own bytes stay unless something in it had to change.
Source: docs/spec/wire-shapes.md#v5, #r1, #r2, #r3, #r4, #r5, #r6.
"""

import re
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from normalizer.core.prefilter import Prefilter
from normalizer.core.rules.redaction import REDACTED, Redaction, Secrecy
from normalizer.core.rules.secret_members import SecretMembers
from normalizer.core.rules.secret_text import SHORTEST_SECRET, SecretText
from normalizer.core.rules.secret_values import SHORTEST_TOKEN
from normalizer.core.shapes import batch_key, is_wrapper
from normalizer.jsontext import Json, Number, Repeated, parse, write

Path: TypeAlias = tuple[str, ...]
"""Keys from the event down to a text, `[]` for any item of a list; at most MAX_PATH of them."""

MAX_PATH: Final = 8
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

NEVER_SECRET: Final = frozenset(
    (
        *("event_id", "execution_id", "event_type", "name", "step", "node_name", "status"),
        *("created_at", "timestamp", "event_time", "ingest_time", "worker_id", "command_id"),
        *("catalog_id", "parent_event_id", "parent_execution_id", "node_type", "duration"),
        *("context", "payload", "result", "meta", "events", "records"),
    )
)
"""The envelope's own keys. A word that an operator adds hides what is in them, never them: with
`name` added, node_name must still say which step it was."""

_MAY_SAY: Final = re.compile("[=:@ ]")
"""Without one of these a short key names something, and says nothing of it."""
_REMEMBERED_CHARS: Final = 500
_REFERENCE: Final = "reference"
_REFERENCE_KEYS: Final = frozenset(("ref", "uri", "locator", "sha256", "bytes"))

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")

_MAY_HIDE: Final = (str, list, dict)
"""Only such a value is ever a secret, or holds one."""


class Cleaned(NamedTuple):
    """The text, and where U+FFFD was written: for each item of a batch, None for all else."""

    text: str
    replaced: dict[int | None, set[Path]]


class Sanitizer:
    """Looks for what must not be stored, and takes it out."""

    def __init__(self, redact_keys: Iterable[str] = ()) -> None:
        redaction = Redaction(redact_keys)
        self.suspects: Final = Prefilter(redaction.added_words).suspects
        self.texts: Final = SecretText(redaction.secrecy, self.suspects)
        self.secret_members: Final = SecretMembers(self.texts)
        self._remembered: Final = lru_cache(maxsize=1024)(self._are_plain)

    def are_plain(self, keys: str) -> bool:
        """Tell whether keys, a line each, hold neither a secret nor what cannot be stored."""
        return (self._remembered if len(keys) <= _REMEMBERED_CHARS else self._are_plain)(keys)

    def _are_plain(self, keys: str) -> bool:
        return replace_unstorable(keys) == keys and not self.texts.may_hold_secret(keys)

    def clean(self, text: str, tree: Json) -> Cleaned:
        """Give `text`, whose tree is `tree`, as it may be stored; unchanged where nothing is wrong.

        A text within the text (a JSON string, the payload of a feed wrapper, a string in a batch)
        is left alone: its turn comes when it is unwrapped. Idempotent.
        """
        rewriter = _Rewriter(self)
        cleaned = rewriter.record(tree)
        return Cleaned(write(cleaned) if rewriter.changed else text, rewriter.replaced)

    def clean_headers(self, headers: dict[str, Json]) -> tuple[Json, set[Path]]:
        """Give the headers of a record as they may be stored, and where they were mended."""
        rewriter = _Rewriter(self)
        cleaned = rewriter.walk(headers, ("headers",), _Mode.PLAIN)
        return cleaned, rewriter.replaced.get(None, set())


def child_path(path: Path, key: str) -> Path:
    """Give the path of what is under a key, or `[]`, of what is at `path`."""
    return (*path, key) if len(path) < MAX_PATH else path


def dotted_path(path: Path) -> str:
    """Give a path as coercions name it: `context.rows[].error`."""
    return ".".join(path).replace(".[]", "[]")


def replace_unstorable(text: str) -> str:
    """Give the text with U+FFFD for each U+0000 and each lone surrogate."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub(REPLACEMENT, text)


def _is_harmless(value: Json) -> bool:
    """Tell at a glance that a value holds no secret, and nothing that cannot be stored."""
    if type(value) is not str:
        return not value or not isinstance(value, (list, dict))
    return (
        len(value) < SHORTEST_TOKEN
        and value.isascii()
        and (value.isalnum() or (len(value) < SHORTEST_SECRET and "\0" not in value))
    )


class _Mode(Enum):
    """How much of a part of the tree may be changed."""

    ROOT = "an event's own keys are the envelope's, not secrets"
    PLAIN = "everything"
    REFERENCE = "everything but what says where a result lies"
    UNTOUCHED = "only text that cannot be stored"


class _Rewriter:
    """One walk over one tree: what becomes of it, and what was done."""

    def __init__(self, sanitizer: Sanitizer, *, within_text: bool = False) -> None:
        self._sanitizer = sanitizer
        self._secrecy = sanitizer.texts.secrecy
        self._within_text = within_text
        self._item: int | None = None
        self.changed = False
        self.redacted = False
        self.replaced: dict[int | None, set[Path]] = {}

    def record(self, tree: Json) -> Json:
        """A record's own value: an event, a batch of events, or either one wrapped."""
        if not isinstance(tree, dict) or (key := batch_key(tree)) is None:
            return self._event(tree)
        items = tree[key]
        if not isinstance(items, list):
            return self._event(tree)
        self.changed |= isinstance(tree, Repeated)
        batch = self.walk({**tree, key: None}, (), _Mode.ROOT)
        assert isinstance(batch, dict)
        events: list[Json] = []
        for self._item, item in enumerate(items):
            events.append(self._event(item))
        return batch | {key: events}

    def _event(self, tree: Json) -> Json:
        if isinstance(tree, str) and not isinstance(tree, Number):
            return self._wrapped(tree)
        if isinstance(tree, dict) and is_wrapper(tree):
            payload = tree["payload"]
            if isinstance(payload, str) and not isinstance(payload, Number):
                self.changed |= isinstance(tree, Repeated)
                wrapper = self.walk({**tree, "payload": None}, (), _Mode.ROOT)
                assert isinstance(wrapper, dict)
                return wrapper | {"payload": self._wrapped(payload)}
        return self.walk(tree, (), _Mode.ROOT)

    def walk(self, tree: Json, path: Path, mode: _Mode) -> Json:  # noqa: C901 - one frame a level
        """Give the tree as it may be stored, itself where nothing changes; one frame a level."""
        if isinstance(tree, str):
            return tree if isinstance(tree, Number) else self._text(tree, path, mode)
        if isinstance(tree, list):
            items = tree
            inner = child_path(path, "[]")
            inside = _Mode.PLAIN if mode is _Mode.ROOT else mode
            for at, item in enumerate(tree):
                kept = item if _is_harmless(item) else self.walk(item, inner, inside)
                if kept is not item:
                    items = items if items is not tree else tree.copy()
                    items[at] = kept
            if len(items) > 1 and type(items[0]) is str and mode is not _Mode.UNTOUCHED:
                return self._redact_neighbours(items, copied=items is not tree)
            return items
        if not isinstance(tree, dict):
            return tree
        # The value that lost is still in the text, and may be a secret.
        self.changed |= isinstance(tree, Repeated)
        members: dict[str, Json] = {}
        changed_before, self.changed = self.changed, False
        named = self._sanitizer.secret_members.keys(tree) if mode is _Mode.PLAIN else ()
        for key, value in zip(self._keys(tree, path, mode), tree.values(), strict=True):
            if not isinstance(value, _MAY_HIDE):
                members[key] = value
                continue
            mode_inside = _mode_under(key, mode)
            if self._hides(key, value, mode, mode_inside) or (
                key in named and not isinstance(value, Number)
            ):
                self._redact(changed=value != REDACTED)
                members[key] = REDACTED
            elif _is_harmless(value):
                members[key] = value
            else:
                members[key] = self.walk(value, child_path(path, key), mode_inside)
        kept, self.changed = members if self.changed else tree, changed_before or self.changed
        return kept

    def _wrapped(self, text: str) -> str:
        """Give JSON text with escapes that say which unstorable characters stood in it."""
        escaped = _UNSTORABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
        self.changed |= escaped != text
        return escaped

    def _hides(self, key: str, value: Json, mode: _Mode, inside: _Mode) -> bool:
        """Tell whether what is under the key has to go."""
        if inside is _Mode.UNTOUCHED or (mode is _Mode.ROOT and key in NEVER_SECRET):
            return False
        secrecy = self._secrecy(key)
        if secrecy is Secrecy.NOTHING:
            return False
        return secrecy is Secrecy.NUMBERS_TOO or not isinstance(value, Number)

    def _redact_neighbours(self, items: list[Json], *, copied: bool) -> list[Json]:
        """Give the list without what the items before make secret."""
        for at, kept in self._sanitizer.secret_members.items(items):
            if items[at] != kept:
                items = items if copied else items.copy()
                copied = True
                items[at] = kept
                self._redact(changed=True)
        return items

    def _redact(self, *, changed: bool) -> None:
        self.changed |= changed
        self.redacted |= changed

    def _text(self, text: str, path: Path, mode: _Mode) -> str:
        replaced = replace_unstorable(text)
        kept = replaced if mode is _Mode.UNTOUCHED else self._without_secrets(replaced)
        if kept != text:
            self._note(path, text, replaced, kept)
        return kept

    def _without_secrets(self, text: str) -> str:
        if len(text) < SHORTEST_SECRET or not self._sanitizer.texts.may_hold_secret(text):
            return text
        if not self._within_text and text.lstrip()[:1] in ("{", "["):
            kept = self._within(text)
            if kept is not None:
                self.redacted |= kept != text
                return kept
        kept = self._sanitizer.texts.cut(text)
        self.redacted |= kept != text
        return kept

    def _within(self, text: str) -> str | None:
        """Give JSON in a string without its secrets; None if it is none that can be read whole."""
        try:
            tree = parse(text)
        except (ValueError, RecursionError):
            return None
        inner = _Rewriter(self._sanitizer, within_text=True)
        kept = inner.walk(tree, (), _Mode.PLAIN)
        if inner.redacted:
            return write(kept)
        return None if inner.changed else text

    def _keys(self, tree: dict[str, Json], path: Path, mode: _Mode) -> list[str]:
        """Give the keys as they may be stored, no two alike."""
        if self._sanitizer.are_plain("\n".join(tree)):
            return list(tree)
        keys: list[str] = []
        taken: set[str] = set()
        numbers: dict[str, int] = {}
        for sent in tree:
            replaced = replace_unstorable(sent)
            kept = key = replaced if mode is _Mode.UNTOUCHED else self._key(replaced)
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
        """Give a key without a secret in it; short names, which nearly all are, hold none."""
        if len(key) < SHORTEST_TOKEN and not _MAY_SAY.search(key):
            return key
        kept = self._sanitizer.texts.cut(key)
        self.redacted |= kept != key
        return kept

    def _note(self, path: Path, sent: str, replaced: str, kept: str) -> None:
        self.changed = True
        if replaced != sent and REPLACEMENT in kept:
            self.replaced.setdefault(self._item, set()).add(path)


def _mode_under(key: str, mode: _Mode) -> _Mode:
    if mode is _Mode.UNTOUCHED:
        return _Mode.UNTOUCHED
    if mode is _Mode.REFERENCE:
        named = key in _REFERENCE_KEYS or key.endswith("_id")
        return _Mode.UNTOUCHED if named else _Mode.REFERENCE
    return _Mode.REFERENCE if key == _REFERENCE else _Mode.PLAIN

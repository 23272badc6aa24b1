"""Replaces text that PostgreSQL can't store. Its paths name the places at which it did."""

import re
from typing import Final, TypeAlias

KeyPath: TypeAlias = tuple[str, ...]
"""The keys from the event down to a text, with `[]` for an item of a list. At most _MAX_PATH_KEYS
of them."""

_MAX_PATH_KEYS: Final = 8

REPLACEMENT_CHARACTER: Final = "\N{REPLACEMENT CHARACTER}"

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def replace_unstorable(text: str) -> str:
    """Return the text with U+FFFD in place of each U+0000 and each lone surrogate."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub(REPLACEMENT_CHARACTER, text)


def escape_unstorable(text: str) -> str:
    """Return JSON text with an escape in place of each character that can't be stored.

    Such JSON was in a JSON string. The escapes are replaced once the JSON is parsed.
    """
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def child_path(path: KeyPath, key: str) -> KeyPath:
    """Return the path of the value under `key` below `path`. `[]` is the key of a list's items."""
    return (*path, key) if len(path) < _MAX_PATH_KEYS else path


def dotted_path(path: KeyPath) -> str:
    """Return a path as coercions name it, such as `context.rows[].error`."""
    return ".".join(path).replace(".[]", "[]")

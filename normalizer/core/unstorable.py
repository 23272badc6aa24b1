"""Replaces text that PostgreSQL cannot hold, and names the path where it was replaced."""

import re
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str, ...]
"""The keys from the event down to a text, `[]` for an item of a list; at most MAX_PATH."""

MAX_PATH: Final = 8

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def replace_unstorable(text: str) -> str:
    """Give the text with U+FFFD for each U+0000 and each lone surrogate."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub(REPLACEMENT, text)


def child_path(path: Path, key: str) -> Path:
    """Give the path of the value under `key` in the object at `path`; `[]` for a list's item."""
    return (*path, key) if len(path) < MAX_PATH else path


def dotted_path(path: Path) -> str:
    """Give a path as coercions name it: `context.rows[].error`."""
    return ".".join(path).replace(".[]", "[]")

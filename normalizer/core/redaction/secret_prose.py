"""Cuts out secrets that a sentence names, as in `using token x` or `the password for jane is x`.

Nothing marks where the secret starts in a sentence, so only words that look like a secret are
removed. A word that consists only of letters is never removed.
"""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from normalizer.core.redaction.secret_names import SecrecyLevel
from normalizer.core.redaction.secret_values import (
    RedactedTextBuilder,
    looks_like_token,
    may_be_secret,
)

SECRET_SECOND_WORDS: Final = ("key", "string", "word", "phrase", "wd", "code")
"""Words that mean a secret only together with the word before them, as in `api key`."""

_GENERATED: Final = re.compile(r"(?<![\w/.:@\-])[A-Za-z0-9+_~=][A-Za-z0-9+/_~=\-]{11,}+", re.ASCII)
_WORDS_BEFORE: Final = re.compile(r"[\w.\-]+")
_CHARS_BEFORE: Final = 60
_WORDS_OF_SAID: Final = 5
_MIXED: Final = re.compile(
    r"""(?<![\w/.:@\-])(?=[^\s"'`()<>,;]{0,40}[0-9])(?=[^\s"'`()<>,;]{0,40}[A-Za-z])"""
    r"""(?:[^\W_]|[!#$%&*+^~])[^\s"'`()<>\[\]{},;/:]{6,}+"""
)
"""Letters and digits mixed, as in passwords of people and programs."""
_FILLERS: Final = "is|was|are|for|provided|given|supplied|entered|used|sent"
_SAID: Final = re.compile(
    rf"""(?i)(?:(?P<before>[a-z][a-z\-]{{1,20}})[ ])?(?!(?:{_FILLERS})\b)(?P<name>[\w.]+)"""
    rf"""(?:\s+for\s+[\w.@\-]{{1,40}})?(?:\s+(?:{_FILLERS}))?\s*:?\s*[\\"'`(]{{0,3}}\Z"""
)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_]{8,}\Z", re.ASCII)
_HEX: Final = re.compile(r"(?:[0-9a-f]{32,}|[0-9A-F]{32,})\Z")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}|[0-9]+[A-Za-z]{1,2}\Z")
_WHOSE_SECRET: Final = ("client", "api", "app", "shared", "webhook", "consumer")
"""Words before `secret` after which its value may follow. After other words, the name of a stored
secret may follow."""
_PARSER_WORDS: Final = ("unexpected", "next", "end", "last", "first")
"""Words before `token` with which it means a word of a programming language."""


def redact_prose(text: str, secrecy: Callable[[str], SecrecyLevel]) -> str:
    """Cut values near the name of a secret that look random.

    Right after the name, a value needs to look less random.
    """
    cuts = RedactedTextBuilder(text)
    for match in _GENERATED.finditer(text):
        if looks_like_token(match[0]) and _is_near_name(text, match.start(), secrecy):
            cuts.add(*match.span())
    text = cuts.text()
    cuts = RedactedTextBuilder(text)
    for match in _MIXED.finditer(text):
        value = match[0].rstrip(".!?:")
        if may_be_secret(value) and _is_said(text, match.start(), value, secrecy):
            cuts.add(match.start(), match.start() + len(value))
    return cuts.text()


def _is_near_name(text: str, at: int, secrecy: Callable[[str], SecrecyLevel]) -> bool:
    near = _WORDS_BEFORE.findall(text[max(0, at - _CHARS_BEFORE) : at])
    pairs = [f"{a} {b}" for a, b in pairwise(near[-4:]) if b.lower() in SECRET_SECOND_WORDS]
    return any(secrecy(name) is not SecrecyLevel.NOTHING for name in (*near[-3:], *pairs))


def _is_said(text: str, at: int, value: str, secrecy: Callable[[str], SecrecyLevel]) -> bool:
    """Return whether the words right before a value name a secret, and the value looks like one."""
    near = [word.start() for word in _WORDS_BEFORE.finditer(text, max(0, at - _CHARS_BEFORE), at)]
    for start in near[-_WORDS_OF_SAID:]:
        if said := _SAID.match(text, start, at):
            return _is_named(said, value, secrecy)
    return False


def _is_named(said: re.Match[str], value: str, secrecy: Callable[[str], SecrecyLevel]) -> bool:
    before, name = (said["before"] or "").lower(), said["name"]
    if name.lower() in SECRET_SECOND_WORDS and before:
        name = f"{before} {name}"
    kind = secrecy(name)
    if kind is SecrecyLevel.NUMBERS_TOO:
        return _DATE.match(value) is None
    if kind is SecrecyLevel.NOTHING or before in _PARSER_WORDS:
        return False
    is_value = name.lower().endswith(("token", "key", "jwt")) or (
        name.lower() == "secret" and before in _WHOSE_SECRET
    )
    return _HEX.match(value) is not None or (is_value and _PLAIN.match(value) is not None)

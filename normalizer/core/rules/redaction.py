"""A key or a text in; whether it is secret, and what of it may be kept.

Source: wire-shapes, section 7 and section 9, R1-R3.
"""

import re
from collections.abc import Callable, Iterable
from enum import Enum
from functools import lru_cache
from typing import Final

REDACTED: Final = "[REDACTED]"

SECRET_WORDS: Final = (
    "password",
    "passwd",
    "pwd",
    "secret",
    "token",
    "bearer",
    "api_key",
    "apikey",
    "auth",
    "credential",
    "private_key",
    "privatekey",
    "connection_string",
    "connectionstring",
    "gcp_key",
    "azure_key",
    "ssh_key",
    "sshkey",
    "passphrase",
    "pem",
    "cert",
    "encryption_key",
    "decrypt_key",
    "master_key",
)
"""A key that contains one of these is secret, unless a look-alike explains it."""

SECRET_WHOLE_WORD: Final = "pin"  # noqa: S105 - the name of a secret
"""Secret only as a word of its own: `user_pin`, `pinCode`, but not `mapping`."""

_NUMBER_WORDS: Final = ("password", "passwd", "pwd", "passphrase")
_LOOKALIKES: Final = frozenset(
    "author authors authority authorized authorised certainty certified secretary".split()
)
_LOOKALIKE_PREFIXES: Final = ("author_", "certain", "concert", "uncertain", "certif")
_LOOKALIKE_SUFFIXES: Final = ("page_token", "pagetoken", "_tokens_details")

_HUMP: Final = "\x1f"
"""Stands between the words of a camel-cased key: one character, in neither a key nor a word."""
_HUMPS: Final = re.compile("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LETTERS: Final = re.compile("[a-z]+")
_FOLD: Final = {ord(upper): upper.lower() for upper in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"} | {
    ord("-"): "_"
}


def _any_of(words: Iterable[str]) -> Callable[[str], object]:
    """Give a search for any of the words, none of which is empty."""
    return re.compile("|".join(map(re.escape, words))).search


_secret_words: Final = _any_of(SECRET_WORDS)

_REMEMBERED_CHARS: Final = 100
_CREDENTIAL: Final = re.compile(
    r"\s*(?:bearer|basic)\s+[a-z0-9+/._~-]{8,}=*\s*", re.IGNORECASE | re.ASCII
)
_JWT: Final = re.compile(r"(?<![\w-])eyJ[\w-]*+\.[\w-]*+\.[\w.-]*+", re.ASCII)
_JWT_LONGER_THAN: Final = 50
_URL_PASSWORD: Final = re.compile(r"""(://[^\s/:"'<>]*+:)[^\s/"'<>]+@""")

SHORTEST_SECRET: Final = len("basic 12345678")
"""No text that is shorter is a secret or holds one, but for a URL's password."""


class Secrecy(Enum):
    """What a key hides."""

    NOTHING = "nothing"
    CONTENT = "strings, lists and objects; numbers, booleans and null stay"
    NUMBERS_TOO = "numbers as well"


class Redaction:
    """The rules with the words an operator added; none can be taken away.

    An added word hides numbers too: whoever adds `iban` means the value, whatever its type.
    """

    def __init__(self, added_words: Iterable[str] = ()) -> None:
        self.added_words: Final = tuple(word for given in added_words if (word := _fold(given)))
        self._number_words = _any_of((*_NUMBER_WORDS, *self.added_words))
        self._remembered = lru_cache(maxsize=4096)(self._secrecy)

    def secrecy(self, key: str) -> Secrecy:
        """Tell what this key hides; short keys are remembered, for a hostile one may be any."""
        return (self._remembered if len(key) <= _REMEMBERED_CHARS else self._secrecy)(key)

    def _secrecy(self, key: str) -> Secrecy:
        """Tell what this key hides, spelled plain, with `-` or in camel case."""
        marked = _fold(_HUMPS.sub(_HUMP, key))
        rest = _without_lookalike(marked)
        # `gcpKey` is found in words, `passWord` run together, and neither may hide the other.
        spellings = {rest.replace(_HUMP, "_"), rest.replace(_HUMP, "")}
        if any(map(self._number_words, spellings)) or SECRET_WHOLE_WORD in _LETTERS.findall(rest):
            return Secrecy.NUMBERS_TOO
        return Secrecy.CONTENT if any(map(_secret_words, spellings)) else Secrecy.NOTHING


def redact_text(text: str) -> str:
    """Give the text without its secrets: whole if it is one, else with them cut out.

    Idempotent. Source: section 9, R3.
    """
    kept = cut_secrets(text)
    secret = _is_secret(text) or (kept != text and _is_secret(kept))
    return REDACTED if secret else kept


def cut_secrets(text: str) -> str:
    """Give the text with each JWT and each URL's password in it replaced."""
    if "eyJ" in text:
        text = _JWT.sub(_cut_jwt, text)
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\1{REDACTED}@", text)
    return text


def _fold(key: str) -> str:
    return key.translate(_FOLD)


def _without_lookalike(marked: str) -> str:
    """Take out what only looks like a secret; whatever is left is judged."""
    key = marked.replace(_HUMP, "_")
    if key in _LOOKALIKES:
        return ""
    for prefix in _LOOKALIKE_PREFIXES:
        if key.startswith(prefix):
            marked, key = marked[len(prefix) :], key[len(prefix) :]
            break
    for suffix in _LOOKALIKE_SUFFIXES:
        if key.endswith(suffix):
            return marked[: -len(suffix)]
    return marked


def _is_secret(text: str) -> bool:
    return (
        (len(text) >= SHORTEST_SECRET and _CREDENTIAL.fullmatch(text) is not None)
        or (text.startswith("eyJ") and text.count(".") == 2 and len(text) > _JWT_LONGER_THAN)
        or ("-----BEGIN" in text and "PRIVATE KEY" in text)
    )


def _cut_jwt(match: re.Match[str]) -> str:
    return REDACTED if len(match[0]) > _JWT_LONGER_THAN else match[0]

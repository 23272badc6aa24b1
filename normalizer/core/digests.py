"""Compares JSON values by their digests, as PostgreSQL makes them of a jsonb's text.

Two spellings of one value are one jsonb: so nothing is written out, sorted or compared here, and a
value of megabytes costs the loop nothing. Whoever settles a batch asks the database for what is
missing.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

Digest = tuple[int, bytes]
"""How many bytes the value's jsonb has as text, and their sha256; of a short text, itself."""

SHORT: Final = 64
_SMALL: Final = 4_096
_DIGITS: Final = 19
_LITERALS: Final = frozenset((b"true", b"false", b"null", b"{}", b"[]"))


class Digests:
    """The digests that are known; it notes the values whose digests it was asked for in vain."""

    def __init__(self) -> None:
        self._known: dict[bytes, Digest] = {}
        self._missing: dict[bytes, None] = {}

    def of(self, value: bytes) -> Digest:
        """The digest of a JSON value; while it is missing, one that equals no other value's."""
        digest = self._known.get(value) or _own_digest(value)
        if digest is None:
            self._missing[value] = None
            return len(value), value
        return digest

    def missing(self) -> list[bytes]:
        """The values that `of` could not tell."""
        return list(self._missing)

    def learn(self, values: Sequence[bytes], digests: Iterable[Digest]) -> None:
        """Take the digests of these values."""
        self._known |= zip(values, digests, strict=True)
        for value in values:
            self._missing.pop(value, None)


def digest_of_text(text: bytes) -> Digest:
    """The digest of a value that is written as jsonb writes it."""
    return len(text), text if len(text) <= SHORT else hashlib.sha256(text).digest()


def hash_of(digest: Digest) -> bytes:
    """The sha256 of the value's jsonb as text."""
    length, content = digest
    return hashlib.sha256(content).digest() if length <= SHORT else content


def _own_digest(value: bytes) -> Digest | None:
    """The digest of a small value that jsonb writes as it stands: most that differ are."""
    if len(value) > _SMALL:
        return None
    is_canonical = (
        (value[:1] == b'"' == value[-1:] and b"\\" not in value)
        or (len(value) < _DIGITS and value.isdigit())
        or value in _LITERALS
    )
    return digest_of_text(value) if is_canonical else None

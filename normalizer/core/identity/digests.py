"""Compares JSON values by the digests that PostgreSQL computes of their text as jsonb.

PostgreSQL writes equal values as the same text, however they were spelled, so equal values have
equal digests. Since nothing has to be decoded or sorted here, even a value of several megabytes
doesn't block the event loop. `reconcile` gets missing digests from the database.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

Digest = tuple[int, bytes]
"""The length in bytes of the value's jsonb text, and its sha256. A short text is stored instead of
its sha256."""

MAX_UNHASHED_BYTES: Final = 64
"""The most bytes of a text that is stored in its digest."""
_SMALL: Final = 4_096
"""The most bytes of a value that is checked here, and not by the database."""
_DIGITS: Final = 19
"""An integer with fewer digits is jsonb text already."""
_LITERALS: Final = frozenset((b"true", b"false", b"null", b"{}", b"[]"))


class DigestCache:
    """The digests that are known, and the values whose digests are missing."""

    def __init__(self) -> None:
        self._known: dict[bytes, Digest] = {}
        self._missing: dict[bytes, None] = {}

    def digest_or_placeholder(self, value: bytes) -> Digest:
        """Return the digest of a JSON value. If it's missing, return one that equals no other."""
        digest = self._known.get(value) or _own_digest(value)
        if digest is None:
            self._missing[value] = None
            return len(value), value
        return digest

    def missing_values(self) -> list[bytes]:
        """Return the values for which `digest_or_placeholder` returned a placeholder."""
        return list(self._missing)

    def add(self, values: Sequence[bytes], digests: Iterable[Digest]) -> None:
        """Add the digests of these values."""
        self._known |= zip(values, digests, strict=True)
        for value in values:
            self._missing.pop(value, None)


def digest_jsonb_text(text: bytes) -> Digest:
    """Return the digest of a value that is canonical jsonb text already."""
    return len(text), text if len(text) <= MAX_UNHASHED_BYTES else hashlib.sha256(text).digest()


def sha256_from_digest(digest: Digest) -> bytes:
    """Return the sha256 of the value's jsonb text."""
    length, content = digest
    return hashlib.sha256(content).digest() if length <= MAX_UNHASHED_BYTES else content


def _own_digest(value: bytes) -> Digest | None:
    """Return the digest of a small value that's jsonb text already, or None.

    Most values that differ between reports are like this.
    """
    if len(value) > _SMALL:
        return None
    is_canonical = (
        (value[:1] == b'"' == value[-1:] and b"\\" not in value)
        or (len(value) < _DIGITS and value.isdigit())
        or value in _LITERALS
    )
    return digest_jsonb_text(value) if is_canonical else None

"""Searches text for signs of anything that must not be stored, such as a secret.

A sign is a short piece of text, for example `password`. Every secret that we can recognize comes
with at least one sign, so text without a sign needs no further work. The search takes a few
microseconds and finds nothing in nearly every record. Only text with a sign has to be parsed.
Source: docs/spec/wire-shapes.md#r6.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import product
from typing import Final, TypeAlias

from ahocorasick_rs import BytesAhoCorasick, Implementation

from normalizer.core.redaction.secret_commands import (
    COMMAND_OPTION_PATTERN_TEMPLATE,
    PASSWORD_PROGRAMS,
)
from normalizer.core.redaction.secret_names import SECRET_WHOLE_WORDS, SECRET_WORDS
from normalizer.core.redaction.secret_text import SECRET_TEXT_SIGNS
from normalizer.core.redaction.secret_tokens import TOKEN_PATTERNS
from normalizer.jsontext import MAX_NUMBER_DIGITS

HasSign: TypeAlias = Callable[[bytes], bool]
"""Returns whether a text has a sign."""

_SEPARATORS: Final = b"-_+ \t\r\n\\"
"""Characters that are removed before the search. JSON inside a text has backslashes before its
quotes."""
_FOLDED: Final = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ123456789.=", b"abcdefghijklmnopqrstuvwxyz000000000::"
)
"""Makes letters small and all digits the same. That leaves fewer than 32 kinds of bytes, which
halves the size of the automaton's table."""
_LONG_NUMBER: Final = b"0" * (MAX_NUMBER_DIGITS // 2)
"""A number that's beyond the limits has this many digits in a row, before or after its point."""
_ZEROS: Final = bytes.maketrans(b"123456789E", b"000000000e")
_AT_ONCE_BYTES: Final = 1 << 16
_FEW: Final = 8
"""Searching for up to eight signs one by one is faster than the automaton."""


def _looked_at(text: bytes) -> bytes:
    return text.translate(_FOLDED, _SEPARATORS)


_DISGUISES: Final = {
    lead: re.compile(lead + after)
    for lead, after in (
        (b"\xc2", rb"\xad[A-Za-z_-]"),
        (b"\xe2", rb"(?:\x80[\x8b-\x8f\xaa-\xae]|\x81[\xa0-\xaf])[A-Za-z_-]"),
        (b"\xef", rb"(?:\xbb\xbf[A-Za-z_-]|\xbc[\xa1-\xba]|\xbd[\x81-\x9a])"),
        (b"\xf0", rb"\x9d[\x90-\x9f]"),
    )
}
"""Ways to hide a word, by their first byte: invisible characters inside the word, or letters in
another style. Searching for one byte is far faster than for two, or for one of several."""
_BEGINS: Final = rb"(?:(?<![A-Za-z])|(?<=\\[bfnrt]))"
"""Matches before a word: either no letter is there, or an escape that ends in a letter."""
_WEAK_SIGNS: Final = {
    b"://": re.compile(
        rb"://(?:[^\s\"\\/@:]*+:(?!\d{1,5}[/?#\"'\\<>,;)])(?>(?:[^\s\"\\:@]++|(?:\\.)++|:+(?!//))*)"
        rb"|[^\s\"\\/@:]++)@"
    ),
    b"eyj": re.compile(rb"eyJ"),
    b"0e000": re.compile(rb"(?:^|[\[:,\s])-?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]{3}"),
    b"pin": re.compile(rb"(?:%bp|P)[Ii][Nn](?![a-z])" % _BEGINS),
    b"sensitive": re.compile(
        rb"[Ss]ensitive\\*+\"\s*+(?:\\++[nrt]\s*+)*+:\s*+(?:\\++[nrt]\s*+)*+true"
    ),
    b"otp": re.compile(rb"(?:%bt?o|T?O|To)[Tt][Pp](?![a-z])" % _BEGINS),
    b"psk": re.compile(rb"(?:%bp|P)[Ss][Kk](?![a-z])" % _BEGINS),
    b"pass": re.compile(rb"[Pp][Aa][Ss][Ss](?![A-Za-z])"),
    b"pw": re.compile(rb"[Pp][Ww](?![A-Za-z])"),
    **{
        name.encode(): re.compile(COMMAND_OPTION_PATTERN_TEMPLATE.format(name).encode())
        for name in PASSWORD_PROGRAMS
    },
    b"xha": re.compile(rb"\bxh[\"',\s]+-a"),
    b"0zx": re.compile(rb"7z[\s+_-]+x"),
    b"0za": re.compile(rb"7z[\s+_-]*a"),
    b"token": re.compile(
        rb"(?i:token)(?!(?:s|_(?:ids?|type|count|limit|usage|length|url|uri|endpoint))\")"
    ),
    b"tcp": re.compile(rb"@tcp\("),
    b"unix": re.compile(rb"@unix\("),
    **{
        _looked_at(sign.encode()): re.compile(pattern.encode())
        for signs, pattern in TOKEN_PATTERNS
        for sign in signs
    },
}
"""Signs that are common in harmless text. They count only if their expression matches the text."""


def _spelled(words: Iterable[str]) -> set[bytes]:
    """Return the signs of words, with nothing or a dot between their parts."""
    return {
        _looked_at("".join(spelled).encode())
        for word in words
        for spelled in product(*(("_", ".") if char == "_" else char for char in word))
    }


class Prefilter:
    """Searches for signs of secrets, unstorable text, and extreme numbers."""

    def __init__(self, added_words: Iterable[str] = ()) -> None:
        own = (
            _spelled((*SECRET_WORDS, *SECRET_WHOLE_WORDS, *SECRET_TEXT_SIGNS)) - _WEAK_SIGNS.keys()
        )
        found = own | ({_looked_at(word.encode()) for word in added_words} - {b""})
        strong = {sign for sign in found if not any(part in sign for part in found - {sign})}
        self._signs: Final = [*_WEAK_SIGNS, _LONG_NUMBER, *sorted(strong)]
        self._looker: Final = BytesAhoCorasick(self._signs, implementation=Implementation.DFA)
        self._search_for: Final = lru_cache(maxsize=256)(self._search_for_few)

    def has_sign(self, text: bytes) -> bool:
        """Return whether the text must be parsed and cleaned.

        False is certain, and means that there's nothing to clean. True may be a false alarm, which
        costs only the time to parse the text.
        """
        return self.sign_search_for_parts_of(text) is not None

    def sign_search_for_parts_of(self, text: bytes) -> HasSign | None:
        """Return None if the text has no sign. Otherwise return a `has_sign` for parts of the text.

        For any part of this text, it returns the same as the method `has_sign`, but faster, because
        it searches only for those signs that the whole text contains.
        """
        if b"\\" in text and (b"\\u" in text or b"\\/" in text):
            return self.has_sign  # an escape may hide any word
        if not text.isascii() and _is_disguised(text):
            return self.has_sign
        looked_at = text.translate(_FOLDED, _SEPARATORS)
        is_long = len(looked_at) > _AT_ONCE_BYTES
        if is_long:
            signs = self._signs_in_long(looked_at)
        else:
            hits = self._looker.find_matches_as_indexes(looked_at, overlapping=True)
            if not hits:
                return None
            signs = {hit[0] for hit in hits}
        if max(signs, default=0) < len(_WEAK_SIGNS) and not any(
            _WEAK_SIGNS[self._signs[sign]].search(text) for sign in signs
        ):
            return None
        return self.has_sign if is_long else self._search_for(frozenset(signs))

    def _search_for_few(self, signs: frozenset[int]) -> HasSign:
        """Return a search for these signs, or for all signs if these are many."""
        if len(signs) > _FEW:
            return self.has_sign
        strong = tuple([self._signs[sign] for sign in signs if sign >= len(_WEAK_SIGNS)])
        weak = tuple(
            [
                (self._signs[sign], _WEAK_SIGNS[self._signs[sign]])
                for sign in signs
                if sign < len(_WEAK_SIGNS)
            ]
        )

        def has_sign(text: bytes) -> bool:
            looked_at = text.translate(_FOLDED, _SEPARATORS)
            for sign in strong:
                if sign in looked_at:
                    return True
            for sign, rest in weak:  # noqa: SIM110 - a generator would take as long as the search
                if sign in looked_at and rest.search(text):
                    return True
            return False

        return has_sign

    def search_tables(self) -> tuple[list[bytes], bytes, bytes]:
        """Return the tables from which the native lane builds the same search.

        They're the signs, the byte that each byte is replaced by before the search, and the bytes
        that are removed before it.
        """
        return self._signs, _FOLDED, _SEPARATORS

    def _signs_in_long(self, looked_at: bytes) -> set[int]:
        """Search a long text piece by piece, and stop at the first strong sign.

        Searching all of it at once could take too much memory, because each hit takes 160 bytes.
        The pieces overlap, so that a sign which crosses the border of two pieces is found too.
        """
        longest = max(map(len, self._signs))
        signs: set[int] = set()
        for start in range(0, len(looked_at), _AT_ONCE_BYTES):
            piece = looked_at[start : start + _AT_ONCE_BYTES + longest]
            hits = self._looker.find_matches_as_indexes(piece, overlapping=True)
            signs |= {hit[0] for hit in hits}
            if any(sign >= len(_WEAK_SIGNS) for sign in signs):
                break
        return signs


def _is_disguised(text: bytes) -> bool:
    return any(lead in text and rest.search(text) for lead, rest in _DISGUISES.items())


def may_have_extreme_number(text: bytes) -> bool:
    """Return whether the text may have a number that's beyond the limits (#v4)."""
    zeros = text.translate(_ZEROS)
    return any(sign in zeros for sign in (_LONG_NUMBER, b"0e000", b"0e+000", b"0e-000"))

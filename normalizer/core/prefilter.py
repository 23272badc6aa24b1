"""Tells at a look whether a text may hold what must not be stored.

Looking costs few microseconds and nearly always finds nothing; only on a sign is a text taken
apart. Source: docs/spec/wire-shapes.md#r6.
"""

import re
from collections.abc import Iterable
from typing import Final

from ahocorasick_rs import BytesAhoCorasick, Implementation

from normalizer.core.rules.redaction import SECRET_WHOLE_WORDS, SECRET_WORDS
from normalizer.core.rules.secret_text import SIGNS
from normalizer.core.rules.secret_tokens import TOKENS
from normalizer.jsontext import MAX_DIGITS

_SEPARATORS: Final = b"-_+ "
_FOLDED: Final = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ123456789.=", b"abcdefghijklmnopqrstuvwxyz000000000::"
)
"""Fewer than 32 kinds of bytes: the looker's table is half as large then."""
_ESCAPES: Final = (b"\\u", b"\\/")
"""Behind these any word may hide."""
_LONG_NUMBER: Final = b"0" * (MAX_DIGITS // 2)
"""A number beyond the limits has a run of so many digits before or after its point."""
_AT_ONCE_BYTES: Final = 1 << 16


def _looked_at(text: bytes) -> bytes:
    return text.translate(_FOLDED, _SEPARATORS)


_OPTIONS: Final = re.compile(rb"[\s\"'=]-(?:[A-Za-z]{0,6}[uUpb]|-user|-proxy-user)")
_DISGUISED: Final = re.compile(
    rb"(?:\xe2\x80[\x8b-\x8f\xaa-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xc2\xad)[A-Za-z_-]"
    rb"|\xef(?:\xbc[\xa1-\xba]|\xbd[\x81-\x9a])|\xf0\x9d[\x90-\x9f]"
)
"""Letters that a word may hide behind: invisible ones within it, and those in another style."""
_WEAK_SIGNS: Final = {
    b"://": re.compile(
        rb"://(?:[^\s\"\\/@:]*+:(?!\d{1,5}[/?#\"'\\<>,;)])(?:[^\s\"\\:@]|\\.|:(?!//))*+"
        rb"|[^\s\"\\/@:]++)@"
    ),
    b"eyj": re.compile(rb"eyJ"),
    b"0e000": re.compile(rb"(?:^|[\[:,\s])-?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]{3}"),
    b"pin": re.compile(rb"(?<![A-Za-z])pin(?![a-z])|P[Ii][Nn](?![a-z])"),
    b"pass": re.compile(rb"[Pp][Aa][Ss][Ss](?![A-Za-z])"),
    b"pw": re.compile(rb"(?<![A-Z])[Pp][Ww](?![A-Za-z])"),
    **dict.fromkeys((b"mysql", b"mariadb", b"login", b"curl"), _OPTIONS),
    b"tcp": re.compile(rb"@tcp\("),
    b"unix": re.compile(rb"@unix\("),
    **{
        _looked_at(sign.encode()): re.compile(pattern.encode())
        for signs, pattern in TOKENS
        for sign in signs
    },
}
"""Common in harmless text: a hit counts only if the expression finds it in the text as it is."""


class Prefilter:
    """Looks for signs of secrets, of text that cannot be stored and of extreme numbers."""

    def __init__(self, added_words: Iterable[str] = ()) -> None:
        words = (*SECRET_WORDS, *SECRET_WHOLE_WORDS, *added_words, *SIGNS)
        found = {_looked_at(word.encode()) for word in words} - {b""}
        strong = {sign for sign in found if not any(part in sign for part in found - {sign})}
        self._signs: Final = [*_WEAK_SIGNS, *_ESCAPES, _LONG_NUMBER, *sorted(strong)]
        self._looker: Final = BytesAhoCorasick(self._signs, implementation=Implementation.DFA)

    def suspects(self, text: bytes) -> bool:
        """Tell whether the text has to be looked into. Never misses; may be wrong the other way."""
        if not text.isascii() and _is_disguised(text):
            return True
        looked_at = _looked_at(text)
        if len(looked_at) > _AT_ONCE_BYTES:
            signs = self._signs_in_long(looked_at)
        else:
            hits = self._looker.find_matches_as_indexes(looked_at, overlapping=True)
            if not hits:
                return False
            signs = {hit[0] for hit in hits}
        return any(
            sign >= len(_WEAK_SIGNS) or _WEAK_SIGNS[self._signs[sign]].search(text) is not None
            for sign in signs
        )

    def _signs_in_long(self, looked_at: bytes) -> set[int]:
        """Look piece by piece, up to the first strong sign: a hit takes 160 bytes, at each byte.

        A sign may begin in one piece and end in the next. Weak ones are judged in the whole text.
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
    return (
        b"\xef" in text
        or b"\xe2\x80" in text
        or b"\xe2\x81" in text
        or b"\xf0\x9d" in text
        or b"\xc2\xad" in text  # one after the other: far faster than the expression alone
    ) and _DISGUISED.search(text) is not None

"""Decides where a value in a text ends, and whether it looks like a secret."""

import base64
import binascii
import re
from typing import Final

from normalizer.core.redaction.secret_names import REDACTED

MIN_TOKEN_CHARS: Final = 16
"""A shorter text of only letters and digits is never a secret."""
_QUOTED: Final = re.compile(
    r"""(?P<open>\\*["'`])(?P<value>(?:(?!(?P=open)).|(?P=open)(?P=open))*+)(?:(?P=open)|\Z)""",
    re.DOTALL,
)
_ESCAPED: Final = {
    '"': re.compile(r'"(?P<value>(?:[^"\\]|\\.|"")*+)(?:"|\\?\Z)', re.DOTALL),
    "'": re.compile(r"'(?P<value>(?:[^'\\]|\\.|'')*+)(?:'|\\?\Z)", re.DOTALL),
}
# Matches at most 1,000 repetitions at a time. Inside an atomic group, Python's regex engine stores
# a state for each repetition, so without the limit a long value would take a lot of memory. To read
# such a value, `unquoted_value_end` matches the pattern again from where the last match ended.
_BARE: Final = re.compile(
    r"""
    (?>(?: [^\s;&"'`<,\\%]++
      | <+(?!/) | %+(?!26) | \\+(?![nrtu"'])
      | &(?!(?:amp;)?(?:[\w.%\-]+(?:\[[\w.%\-]*\])*)?= | [&\s] | \Z)
      | ["'`,](?=\w)(?![\w.\-]+\s*[=:])
    ){1,1000})
    """,
    re.VERBOSE,
)
_PLACEHOLDER: Final = re.compile(
    r"""[*•x.]{3,}\Z|<[^<>]*>?|\$\{|\$[A-Z_][A-Z0-9_]*\Z|\{\{|\{[\w.]*\}|\{\Z|\[|%\(|%s|\(|\{["'\s]
    |\[?REDACTED|\$\(|%[A-Z_]+%\Z|\$\d|\?\Z|[:@][a-z]\w*\Z|[Yy](?:our|OUR)[_\-\ ]""",
    re.VERBOSE,
)
MAX_PLACEHOLDER_CHARS: Final = 200
"""A longer value is cut without a check, so that no text is scanned twice."""
_HARMLESS_WORDS: Final = frozenset(
    """none null nil true false yes no undefined empty missing required optional invalid incorrect
    wrong expired unknown failed failure denied must is are was not cannot can should has have for
    and or to the a an of in on at with from by string str text bytes integer int bool boolean
    object error ok success valid changed reset updated revoked rotated rejected refused accepted
    too password token secret key default enabled disabled found basic bearer digest oauth oauth2
    jwt iam ldap kerberos x509 self anonymous option flag argument file env prompt identifier field
    successful succeeded progress method session user users sha1 sha256 sha512 md5 bcrypt argon2
    argon2id pbkdf2 scrypt base64 utf8 mismatch authentication unauthorized forbidden passed skipped
    pending unset set""".split()
)
_WORD: Final = re.compile(r"[A-Za-z]?[a-z]+(?:[-/._][a-z]+)*\Z|[A-Z]{1,20}\Z")
_ODD: Final = re.compile(r"(?i)([bcdfgjkpqvxz])(?!\1|(?<=c)k)(?=[bcdfgjkpqvxz])")
_MIXED: Final = re.compile(r"(?=.*[a-z])(?=.*[A-Z])")


class RedactedTextBuilder:
    """Collects the parts to cut out of a text, from left to right."""

    def __init__(self, whole: str) -> None:
        self.whole = whole
        self.end = 0
        self._kept: list[str] = []

    def add(self, start: int, end: int) -> None:
        """Cut from `start` to `end`, unless that's already cut or empty."""
        if start < self.end or end <= start:
            return
        self._kept += (self.whole[self.end : start], REDACTED)
        self.end = end

    def text(self) -> str:
        """Return the text with each part replaced that was cut."""
        return "".join((*self._kept, self.whole[self.end :])) if self._kept else self.whole


def redact_value_at_offset(cuts: RedactedTextBuilder, at: int) -> None:
    """Cut the value that begins at `at`, quoted or not."""
    start, end = span_inside_quotes_at(cuts.whole, at) or (at, unquoted_value_end(cuts.whole, at))
    if may_be_secret(cuts.whole[start:end], loose=True):
        cuts.add(start, end)


def span_inside_quotes_at(text: str, at: int) -> tuple[int, int] | None:
    """Return where the quoted text at `at` starts and ends, or None."""
    match = _ESCAPED.get(text[at : at + 1], _QUOTED).match(text, at)
    return match.span("value") if match else None


def match_end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Return the end of the match at `at`, or `at` itself without a match."""
    match = pattern.match(text, at)
    return match.end() if match else at


def unquoted_value_end(text: str, at: int) -> int:
    """Return the end of the unquoted value at `at`, or `at` itself if there's none."""
    while match := _BARE.match(text, at):
        at = match.end()
    return at


def may_be_secret(value: str, *, quoted: bool = False, loose: bool = False) -> bool:
    """Return whether a value may be a secret instead of a placeholder or a word about one."""
    if not value or len(value) > MAX_PLACEHOLDER_CHARS:
        return bool(value)
    if _PLACEHOLDER.match(value):
        return False
    if loose and reads_as_word(value) and value.isupper():
        return False  # as in usage lines: --password PASSWORD
    return not is_harmless_word(value) or (
        quoted and value.lower() in ("secret", "password", "default")
    )


def is_harmless_word(value: str) -> bool:
    """Return whether this is a harmless word in the place of a secret, such as `missing`."""
    return value.lower().strip(":.,;!?") in _HARMLESS_WORDS


def reads_as_word(value: str) -> bool:
    """Return whether this reads as a word: only letters, and at most one unlikely pair of them."""
    return _WORD.match(value) is not None and len(_ODD.findall(value)) < 2


def looks_random(value: str) -> bool:
    """Return whether a credential looks random: it has digits, or is long and in both cases."""
    has_digit = any(map(str.isdigit, value))
    return (
        value.endswith("=")
        or (has_digit and any(map(str.isalpha, value)))
        or (len(value) >= MIN_TOKEN_CHARS and _MIXED.match(value) is not None)
    )


def looks_like_token(value: str) -> bool:
    """Return whether a word is long and has digits and letters in both cases, unlike real words."""
    has_digit = any(map(str.isdigit, value))
    return len(value) >= MIN_TOKEN_CHARS and has_digit and _MIXED.match(value) is not None


def looks_like_basic_auth(value: str) -> bool:
    """Return whether this looks like a user and password in base64."""
    if value.endswith("=") or (
        len(value) >= MIN_TOKEN_CHARS and looks_random(value) and _MIXED.match(value)
    ):
        return True
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False

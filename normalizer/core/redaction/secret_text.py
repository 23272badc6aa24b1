"""Cuts secrets out of text, and leaves the rest unchanged.

A secret is recognized by its own prefix or by the text before it. That may be a word such as
`password`, a scheme such as Bearer, the user name in a URL, or an option of a program. The time of
each rule grows only linearly with the length of the text. Source: docs/spec/wire-shapes.md#r3, #r7.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Final

from normalizer.core.redaction.secret_commands import (
    PASSWORD_COMMAND_SIGNS,
    redact_command_passwords,
)
from normalizer.core.redaction.secret_names import SecrecyLevel
from normalizer.core.redaction.secret_patterns import (
    redact_auth_credentials,
    redact_cookies,
    redact_dsn_passwords,
    redact_insert_values,
    redact_multipart_fields,
    redact_private_keys,
    redact_secret_tuples,
    redact_sql_passwords,
    redact_tokens,
    redact_url_passwords,
    redact_url_signatures,
)
from normalizer.core.redaction.secret_prose import SECRET_SECOND_WORDS, redact_prose
from normalizer.core.redaction.secret_values import (
    MAX_PLACEHOLDER_CHARS,
    RedactedTextBuilder,
    is_harmless_word,
    match_end,
    may_be_secret,
    reads_as_word,
    redact_value_at_offset,
    span_inside_quotes_at,
    unquoted_value_end,
)

MIN_SECRET_TEXT_CHARS: Final = len("pwd=x")
"""A shorter text holds no secret."""
SECRET_TEXT_SIGNS: Final = (
    *(
        "basic",
        "privatelines",
        "identifiedby",
        "requirepass",
        "sig=",
        ":thin:",
        "kty",
    ),
    *PASSWORD_COMMAND_SIGNS,
    *("signature=", "?code=", "&code=", "?key=", "&key=", "pass.word", "pass.phrase"),
)
"""Further signs of the rules in this file, spelled as the prefilter searches for them."""
_ALWAYS: Final = ("",)
"""The sign of a rule that applies to every text."""
_PIECE_CHARS: Final = 1 << 13
_BLANK: Final = re.compile(r"\s")
_INVISIBLE: Final = "\u00ad\u200b-\u200f\u2060\ufeff"
_NAME: Final = rf"[\w.\-{_INVISIBLE}]"
_NAMED: Final = re.compile(
    rf"""
    (?<!{_NAME})(?:(?P<before>[A-Za-z][A-Za-z\-]{{1,15}})\ )?(?!(?:is|was)\b)(?P<name>{_NAME}++)
    (?:\]?(?:\[\d{{0,3}}\]){{1,2}}(?==[^=\s])|(?:%5[dD])?(?:%5[bB]\d{{0,3}}%5[dD]){{0,2}})
    (?:
        [\\"'`\])]{{0,8}}\s{{0,4}}(?P<sign>=>|(?<=-)>|:=|={{1,3}}|:(?!//)|%3[dD])\s{{0,4}}(?:!!(?:str|binary)\s{{1,4}})?(?:[|>][+-]?\s{{1,20}})?
        | \s+(?P<verb>is|was):?\s+
    )
    """,
    re.VERBOSE,
)
"""A name and the sign after it, such as `password =`. The match ends before the value, because the
value may hold another name."""
_WITH_BLANKS: Final = re.compile(r"""[^;"'\n=]+(?=;\s{0,4}[A-Za-z][\w ]{0,40}=)""")
"""A value of a connection string up to the semicolon. It may hold spaces."""
_BRACKETS: Final = re.compile(
    r"""\[(?=\s*\\*["'])[^\[\]{}]++\]|\((?=\s*\\*["'])[^(){}]++\)|\{(?=\s*\\*["'])[^\[\]{}]++\}"""
)
"""A list or an object that holds text, but no other list or object."""
_OPTION: Final = re.compile(
    r"-(?<!\w-)(?<!\w--)(?<!---)(?P<name>[A-Za-z][\w\-]*+)[\"']?,?\s+(?=[^\s\-])"
)
_ELEMENT: Final = re.compile(
    r"""<(?P<name>[\w.:\-]++)(?P<attributes>\s[^<>]*+)?>"""
    r"""(?:\s{0,80}<!\[CDATA\[(?P<literal>(?:(?!\]\]>)[\s\S]){1,1000})|(?P<value>[^<>]++)</)"""
    r"""|<(?P<tag>[\w.:\-]++)\s(?:[^<>]*?\s)?value=["'](?P<attribute>[^<>"']++)"""
)
_NAMES_ELEMENT: Final = re.compile(r"""\s(?:name|key|id)=["'](?P<name>[^<>"']++)""")
_PAIR: Final = re.compile(
    r"""(?i)(?<!\w)(?:name|key|id|(?P<type>type))[\\"']{0,8}\s{0,4}[:=]\s{0,4}[\\"']{0,8}"""
    r"""(?P<name>[\w.\- ]{1,100}+)"""
    r"""[\\"']{0,8}\s{0,4},?\s{0,80}[\\"']{0,8}value[\\"']{0,8}\s{0,4}[:=]\s{0,4}"""
)
_AUTHORIZATION: Final = re.compile(r"(?i)auth(?:ori[sz]ation)?\Z")
_SCHEME: Final = re.compile(
    r"(?i)(?:(?P<all>digest|oauth|signature|hmac|aws4-hmac-sha256|sharedkey)|[a-z][\w\-]{1,30})\s+(?=\S)"
)
_SCHEMES: Final = ("bearer", "basic", "token")
_REST_OF_LINE: Final = re.compile(r"[^\r\n']+")
_SHORTEST_CODE: Final = 5
_RANGE: Final = re.compile(r"\d{1,3}-\d{1,3}\Z")
_NUMBER: Final = re.compile(r"[+-]?[\d.,:]+%?\Z")
_REFERENCE: Final = re.compile(r"[A-Za-z_][\w.]*[(\[]|(?:self|config|settings|os|args)\.\w")
"""A value in source code: a call or an attribute."""
_IDENTIFIER: Final = re.compile("[_-]|[a-z][A-Z]|[Aa]uthorization$|^[A-Z]{4,}$")
"""A name that doesn't occur in prose."""


class TextRedactor:
    """Cuts secrets out of texts.

    `secrecy` returns which values of a name are secret, and `has_sign` whether a text has a
    sign of a secret.
    """

    def __init__(
        self, secrecy: Callable[[str], SecrecyLevel], has_sign: Callable[[bytes], bool]
    ) -> None:
        self.secrecy = secrecy
        self._has_sign = has_sign
        self._rules: tuple[tuple[Callable[[str], str], tuple[str, ...]], ...] = (
            (redact_private_keys, ("private key", "private-lines")),
            (redact_tokens, _ALWAYS),
            (redact_cookies, ("cookie",)),
            (self._cut_named, ("=", ":", "->", " is ", " was ", "%3d")),
            (self._cut_options, ("-",)),
            (redact_sql_passwords, ("pass", "pwd", "identified", "masterauth", "auth(")),
            (redact_dsn_passwords, (":thin:", "@tcp(", "@unix(")),
            (partial(redact_command_passwords, is_secret=self.is_secret_unless_word), _ALWAYS),
            (self._cut_elements, ("<",)),
            (self._cut_pairs, ("value",)),
            (partial(redact_insert_values, is_secret=self._is_secret), ("insert",)),
            (
                partial(redact_secret_tuples, is_secret=self.is_secret_by_name),
                ("('", '("', "(b'", '(b"'),
            ),
            (partial(redact_multipart_fields, is_secret=self._is_secret), ("form-data",)),
            (redact_url_signatures, ("sig=", "signature=", "code=", "key=")),
            (redact_auth_credentials, ("bearer", "basic")),
            (partial(redact_prose, secrecy=self.secrecy), _ALWAYS),
        )

    def may_hold_secret(self, text: str, has_sign: Callable[[bytes], bool] | None = None) -> bool:
        """Return whether a text has a sign of a secret, such as a URL with a user name.

        `has_sign` is an optional faster search, which looks only for the signs that this text can
        have.
        """
        return ("://" in text and "@" in text) or (has_sign or self._has_sign)(
            text.encode(errors="replace")
        )

    def redact_text(self, text: str, *, is_suspicious: bool = False) -> str:
        """Return the text without its secrets. Cutting a second time changes nothing.

        Pass `is_suspicious` if the text is known to have a sign, so that it isn't searched again.
        In a long text, only the pieces with a sign and their direct neighbors are searched for
        secrets. The neighbors are needed because a secret may come before or after its sign, and
        because a sign may cross the border of two pieces.
        """
        if len(text) <= _PIECE_CHARS:
            return self._cut(text) if is_suspicious or self.may_hold_secret(text) else text
        text = redact_private_keys(text)
        kept: list[str] = []
        run: list[str] = []
        for piece, following in pairwise((*_pieces(text), "")):
            if self.may_hold_secret(piece + following):
                run.append(piece)
            elif run:
                kept.append(self._cut("".join((*run, piece))))
                run = []
            else:
                kept.append(piece)
        return "".join((*kept, self._cut("".join(run))))

    def _cut(self, text: str) -> str:
        if "://" in text:
            text = redact_url_passwords(text)
            if not self._has_sign(text.replace("://", " ").encode(errors="replace")):
                return text  # a URL's user is the only sign
        folded = text.lower()
        for rule, signs in self._rules:
            for sign in signs:
                if sign in folded:
                    text = rule(text)
                    break
        return text

    def is_secret_by_name(self, name: str, value: str) -> bool:
        """Return whether the value of an argument is a secret."""
        return self.secrecy(name) is not SecrecyLevel.NOTHING and may_be_secret(value, loose=True)

    def is_secret_unless_word(self, name: str, value: str) -> bool:
        """Return whether the value of a name is a secret, unless it reads like a word."""
        return self.is_secret_by_name(name, value) and not reads_as_word(value)

    def _cut_named(self, text: str) -> str:
        """Cut the value of `word = value`, in every notation, if `word` would make a key secret."""
        cuts = RedactedTextBuilder(text)
        for match in _NAMED.finditer(text):
            if match.start("name") < cuts.end:
                continue
            name, before = match["name"], match["before"]
            secrecy = self.secrecy(name)
            if before and name.lower() in SECRET_SECOND_WORDS:
                secrecy = self.secrecy(f"{before} {name}")
            if secrecy is not SecrecyLevel.NOTHING:
                self._cut_value(cuts, match, secrecy)
        return cuts.text()

    def _cut_value(
        self, cuts: RedactedTextBuilder, match: re.Match[str], secrecy: SecrecyLevel
    ) -> None:
        """Cut the value after a name and its sign, if it may be a secret."""
        text, at = cuts.whole, match.end()
        is_authorization = _AUTHORIZATION.search(match["name"]) is not None
        if brackets := _BRACKETS.match(text, at):
            cuts.add(*brackets.span())
        elif quoted := span_inside_quotes_at(text, at):
            start, end = quoted
            if is_authorization and (scheme := _SCHEME.match(text, start, end)):
                start = scheme.end()
            if may_be_secret(text[start:end], quoted=True):
                cuts.add(start, end)
        elif is_authorization and (scheme := _SCHEME.match(text, at)) and _is_scheme(scheme, match):
            at = scheme.end()
            end = (
                match_end(_REST_OF_LINE, text, at)
                if scheme["all"]
                else unquoted_value_end(text, at)
            )
            if may_be_secret(text[at:end]):
                cuts.add(at, end)
        else:
            _cut_bare(cuts, match, secrecy)

    def _cut_options(self, text: str) -> str:
        cuts = RedactedTextBuilder(text)
        for match in _OPTION.finditer(text):
            if self.secrecy(match["name"]) is not SecrecyLevel.NOTHING:
                redact_value_at_offset(cuts, match.end())
        return cuts.text()

    def _cut_elements(self, text: str) -> str:
        cuts = RedactedTextBuilder(text)
        for match in _ELEMENT.finditer(text):
            named = _NAMES_ELEMENT.search(match["attributes"] or "")
            names = (match["name"] or match["tag"], *((named["name"],) if named else ()))
            is_secret = any(self.secrecy(name) is not SecrecyLevel.NOTHING for name in names)
            held = match.lastgroup or 0
            if is_secret and may_be_secret(match[held].strip(), quoted=True):
                cuts.add(*match.span(held))
        return cuts.text()

    def _cut_pairs(self, text: str) -> str:
        """Cut x in `name: DB_PASSWORD, value: x`, in any notation."""
        cuts = RedactedTextBuilder(text)
        for match in _PAIR.finditer(text):
            secrecy = self.secrecy(match["name"])
            if secrecy is SecrecyLevel.NUMBERS_TOO or (
                secrecy is SecrecyLevel.CONTENT and not match["type"]
            ):
                redact_value_at_offset(cuts, match.end())
        return cuts.text()

    def _is_secret(self, name: str) -> bool:
        return self.secrecy(name) is not SecrecyLevel.NOTHING


def _cut_bare(cuts: RedactedTextBuilder, match: re.Match[str], secrecy: SecrecyLevel) -> None:
    """Cut a value without quotes: any value after `=`, but in prose only one that isn't a word."""
    text, at, sign = cuts.whole, match.end(), match["sign"]
    spaced = match[0][-1].isspace()
    is_prose = sign == ":" and spaced and not _IDENTIFIER.search(match["name"])
    tight = sign is not None and sign != ":" and not spaced
    end = match_end(_WITH_BLANKS, text, at) if tight else at
    if end == at:
        end = unquoted_value_end(text, at)
    if end - at > MAX_PLACEHOLDER_CHARS:
        cuts.add(at, end)
        return
    value = text[at:end].rstrip(".,)]}>" if tight else ".,:)]}>!?")
    is_count = len(value) < _SHORTEST_CODE or "token" in match["name"].lower()
    if secrecy is SecrecyLevel.CONTENT and is_count and _NUMBER.match(value):
        return
    if spaced and _RANGE.match(value):
        return
    at_end = end >= len(text) or text[end] in "\r\n\"'&;,"
    may_be_word = not is_prose or (secrecy is SecrecyLevel.NUMBERS_TOO and at_end)
    if (match["verb"] or not may_be_word) and reads_as_word(value):
        return
    if may_be_secret(value) and (tight or not _REFERENCE.match(value)):
        cuts.add(at, at + len(value))


def _is_scheme(scheme: re.Match[str], named: re.Match[str]) -> bool:
    """Return whether the first word of an Authorization header is its scheme."""
    word = scheme[0].strip().lower()
    if scheme["all"] is not None or word in _SCHEMES:
        return True
    return named["sign"] == ":" and not is_harmless_word(word)


def _pieces(text: str) -> Iterator[str]:
    """Split the text into pieces that end at white space."""
    start = 0
    while start < len(text):
        blank = _BLANK.search(text, start + _PIECE_CHARS)
        end = blank.end() if blank else len(text)
        yield text[start:end]
        start = end

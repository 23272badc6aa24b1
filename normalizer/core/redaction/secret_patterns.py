"""Cuts out secrets that are recognizable by their own form, whatever the text around them.

Each function returns the text without these secrets, and its time grows only linearly with the
length of the text.
"""

import re
from collections.abc import Callable
from typing import Final

from normalizer.core.redaction.secret_names import REDACTED
from normalizer.core.redaction.secret_tokens import (
    ANY_TOKEN_PATTERN,
)
from normalizer.core.redaction.secret_values import (
    MIN_TOKEN_CHARS,
    RedactedTextBuilder,
    looks_like_basic_auth,
    looks_like_token,
    looks_random,
    match_end,
    may_be_secret,
    reads_as_word,
    redact_value_at_offset,
    span_inside_quotes_at,
)

_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY"
    r".*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:\s+\Z)?|\Z)"
    r"|(?<=Private-Lines:).*?(?=Private-MAC|\Z)",
    re.DOTALL,
)
_JWT: Final = re.compile(r"(?<![\w-])eyJ[\w-]*+\.[\w-]*+\.[\w.-]*+", re.ASCII)
_JWT_LONGER_THAN: Final = 50
_QUOTED_NEXT: Final = re.compile(
    r"(?i)(?<![\w.])(?:(?P<name>pass(?:word|wd|phrase)|pwd)(?:\s+for\s+\S{1,100}(?=\s*[=(]))?"
    r"|identified\s+(?:with\s+\S{1,100}\s+)?by|requirepass|masterauth"
    r"|login\s+\S{1,100}\s+password)"
    r"(?:\s*[=(]\s*|\s+(?:(?:to|as|is)\s+)?)(?=\S)"
    r"|(?i:http\w{0,10}auth)\(\s*[\"'][^\"']{0,100}[\"']\s*,\s*(?=[\"'])"
)
_INSERT: Final = re.compile(
    r"""(?i)\binsert\s+into\s+[\w."`\[\]\\]{1,200}\s*\((?P<columns>[^()]{1,2000})\)\s*values\s*(?=\()"""
)
_FORM_FIELD: Final = re.compile(
    r"""(?i)\bname=["'](?P<name>[^"'\r\n]{1,100})["'][^\r\n]{0,200}\r?\n(?:[\w-]{1,50}:[^\r\n]{0,200}\r?\n){0,5}"""
    r"""\r?\n(?P<value>[^\r\n]+)"""
)
"""A field of a multipart form: its header, an empty line, and its value."""
_ROW: Final = re.compile(
    r"""\s*,?\s*\((?P<values>(?>(?:'[^']*+(?:''[^']*+)*+'|[^'()]++|\([^()]*+\))*))\)"""
)
_VALUE: Final = re.compile(
    r"""\s*(?:'(?P<value>[^']*+(?:''[^']*+)*+)'|[^',()]*+(?:\([^()]*+\)[^',()]*+)*+)[^,]*+,?"""
)
_TUPLE: Final = re.compile(
    r"""(?<![\w\])])\(b?(?P<quote>["'])(?P<name>[\w.\- ]{1,100}+)(?P=quote),\s{0,4}b?(?=["'])"""
)
"""The beginning of a pair as Python prints it. A function call has a name before the parenthesis.
"""
_SIGNATURE: Final = re.compile(
    r"(?i)(?:(?:[?&;]|&amp;|%26)sig(?:nature)?=|(?<!\w)sig(?:nature)?=(?=[\w%+/.~-]{16}))"
    r"(?P<value>[^\s&\"'<>,;]++)"
    r"|[?&](?:amp;)?(?:code|key)=(?P<generated>[\w%+/.~-]{16,}+)"
)
"""A signature, or a sign-in code or key that only its random look shows to be secret."""
_COOKIES: Final = re.compile(
    r"""(?i)(?<![A-Za-z])cookie[\\"']{0,8}\s{0,4}(?:[:=]|\s)\s{0,4}[\\"']{0,8}"""
    r"""(?P<value>[\w.\-]+=[^\s;,"'\\]*+(?>(?:;\s*+[\w.\-]++(?:=[^\s;,"'\\]*+)?)*))"""
)
_CREDENTIAL: Final = re.compile(
    r"(?i)(?<![\w])(?P<scheme>bearer|basic)\s+(?P<value>[a-z0-9+/._~-]{8,}+=*+)(?![\w=!])", re.ASCII
)
_ADDRESS: Final = re.compile(
    r"""
    :(?<=\w:)(?=[^\s@:]{1,200}@(?:tcp|unix)\()
    | :thin:[^\s/:@"']{1,100}/(?=[^\s/@"']+@)
    """,
    re.VERBOSE,
)
_UP_TO_AT: Final = re.compile(r"""[^\s"']+?(?=@)|[^\s"']+""")
_URL: Final = re.compile(r"://([^\s]+)")
_AUTHORITY: Final = re.compile(r"""[^/?#"'<>]*""")
_PORT: Final = re.compile(r"""\d{1,5}(?:[/?#"'<>,;)\]\\]|\Z)""")


def redact_private_keys(text: str) -> str:
    """Cut private keys from the first to the last line. One that's cut off is cut to the end."""
    return _PEM.sub(REDACTED, text)


def redact_tokens(text: str) -> str:
    """Cut JSON web tokens, and tokens with a published prefix."""
    if text.startswith("eyJ") and text.count(".") == 2 and len(text) > _JWT_LONGER_THAN:
        return REDACTED
    if "eyJ" in text:
        text = _JWT.sub(lambda jwt: REDACTED if len(jwt[0]) > _JWT_LONGER_THAN else jwt[0], text)
    return ANY_TOKEN_PATTERN.sub(REDACTED, text)


def redact_url_passwords(text: str) -> str:
    """Cut the password of a URL's user. A user that is a token is cut too."""
    cuts = RedactedTextBuilder(text)
    for match in _URL.finditer(text):
        at = match.start(1)
        for part in match[1].split("://"):
            if "@" in part:
                _cut_user(cuts, part, at)
            at += len(part) + len("://")
    return cuts.text()


def _cut_user(cuts: RedactedTextBuilder, url: str, at: int) -> None:
    """Cut the secret of a URL. `at` is where the URL begins, after its `://`."""
    authority = url[: match_end(_AUTHORITY, url, 0)]
    user, has_user, host = authority.rpartition("@")
    name, has_password, password = user.partition(":")
    if has_user and has_password:
        if looks_like_token(name) or password == "x-oauth-basic":  # noqa: S105 - GitHub's placeholder for no password
            cuts.add(at, at + len(name))  # the user is a token, and the password a placeholder
        if not host.startswith("sha256:"):
            cuts.add(at + len(name) + 1, at + len(user))
    elif has_user:
        if len(name) >= MIN_TOKEN_CHARS and looks_random(name):
            cuts.add(at, at + len(name))
    else:
        # The password has an unescaped character, such as a slash, that ends the part of a URL with
        # user, password, and host. So take everything up to the last @ as user and password.
        name, has_password, password = url.rpartition("@")[0].partition(":")
        if has_password and not re.search(r"""[/?#"'<>]""", name) and not _PORT.match(password):
            cuts.add(at + len(name) + 1, at + len(name) + 1 + len(password))


def redact_cookies(text: str) -> str:
    """Cut the content of cookie headers, including the names of the cookies."""
    cuts = RedactedTextBuilder(text)
    for match in _COOKIES.finditer(text):
        cuts.add(*match.span("value"))
    return cuts.text()


def redact_sql_passwords(text: str) -> str:
    """Cut the value of `PASSWORD 'x'`, and of other SQL and settings without a sign before it."""
    cuts = RedactedTextBuilder(text)
    for match in _QUOTED_NEXT.finditer(text):
        if not match["name"] or span_inside_quotes_at(text, match.end()):
            redact_value_at_offset(cuts, match.end())
    return cuts.text()


def redact_insert_values(text: str, is_secret: Callable[[str], bool]) -> str:
    """Cut the values of secret columns in `insert into t (a, password) values ('x', 'y')`."""
    cuts = RedactedTextBuilder(text)
    for insert in _INSERT.finditer(text):
        columns = [is_secret(column) for column in insert["columns"].split(",")]
        row = _ROW.match(text, insert.end()) if any(columns) else None
        while row:
            at = row.start("values")
            for is_cut in columns:
                value = _VALUE.match(text, at, row.end("values"))
                if value and is_cut and value["value"]:
                    cuts.add(*value.span("value"))
                at = value.end() if value else at
            row = _ROW.match(text, row.end())
    return cuts.text()


def redact_multipart_fields(text: str, is_secret: Callable[[str], bool]) -> str:
    """Cut the value of a secret field in a multipart form."""
    cuts = RedactedTextBuilder(text)
    for field in _FORM_FIELD.finditer(text):
        if is_secret(field["name"]):
            cuts.add(*field.span("value"))
    return cuts.text()


def redact_secret_tuples(text: str, is_secret: Callable[[str, str], bool]) -> str:
    """Cut x1 in `('password', 'x1')`, unless it looks like a word or a sentence."""
    cuts = RedactedTextBuilder(text)
    for pair in _TUPLE.finditer(text):
        start, end = span_inside_quotes_at(text, pair.end()) or (0, 0)
        is_last = text[end + 1 : end + 2] in ("", ")")
        value = text[start:end]
        if is_last and " " not in value and looks_random(value) and is_secret(pair["name"], value):
            cuts.add(start, end)
    return cuts.text()


def redact_dsn_passwords(text: str) -> str:
    """Cut the password in `user:x@tcp(host)` and in Oracle's `thin:user/x@host`."""
    cuts = RedactedTextBuilder(text)
    for match in _ADDRESS.finditer(text):
        cuts.add(match.end(), match_end(_UP_TO_AT, text, match.end()))
    return cuts.text()


def redact_url_signatures(text: str) -> str:
    """Cut the signatures, codes, and keys of URLs, which give access to anyone."""
    cuts = RedactedTextBuilder(text)
    for match in _SIGNATURE.finditer(text):
        generated = match["generated"]
        if looks_like_token(generated) if generated else may_be_secret(match["value"]):
            cuts.add(*match.span(match.lastgroup or 0))
    return cuts.text()


def redact_auth_credentials(text: str) -> str:
    """Cut `Bearer x` and `Basic x` if x looks like a credential, or if there's no other text."""
    cuts = RedactedTextBuilder(text)
    for match in _CREDENTIAL.finditer(text):
        value, alone = match["value"], match[0] == text.strip()
        is_basic = match["scheme"].lower() == "basic"
        looks = looks_like_basic_auth if is_basic else looks_random
        if looks(value) or (alone and not is_basic and not reads_as_word(value)):
            cuts.add(0 if alone else match.start("value"), len(text) if alone else match.end())
    return cuts.text()

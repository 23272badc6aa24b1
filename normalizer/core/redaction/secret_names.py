"""Decides whether a value is secret because of its key.

A key is secret if it contains one of a list of words, for example `password`. Some words count
anywhere in a key, while others count only as a whole word. Source: docs/spec/wire-shapes.md#r1,
#r2, #r7.
"""

import re
from collections.abc import Callable, Iterable
from enum import Enum
from functools import lru_cache
from typing import Final
from unicodedata import normalize

REDACTED: Final = "[REDACTED]"

SECRET_WORDS: Final = (
    *("password", "passwd", "passphrase", "secret", "api_key", "private_key"),
    *("connection_string", "access_token"),
)
"""A key that contains one of these is secret, with or without separators."""

SECRET_WHOLE_WORDS: Final = (
    *("auth", "authorization", "authorisation", "oauth", "token", "bearer", "credential"),
    *("credentials", "creds", "pem", "cert", "pwd", "cookie", "cookies", "gcp_key", "azure_key"),
    *("ssh_key", "encryption_key", "decryption_key", "decrypt_key", "master_key", "signing_key"),
    *("access_key", "account_key", "subscription_key", "amz_signature", "goog_signature"),
    *("hmac_key", "aes_key", "deploy_key", "session_key", "jwt", "mnemonic", "passcode"),
    *("seed_phrase", "recovery_phrase", "passwrd", "pswd"),
    *("jsessid", "jsessionid", "phpsessid", "phpsessionid", "aspsessid", "aspsessionid"),
    *("client_key", "priv_key", "shared_key", "tls_key", "ssl_key", "enc_key"),
    *("crypt_key", "crypto_key", "unseal_key", "stripe_key"),
    *("sendgrid_key", "openai_key", "anthropic_key", "twilio_key", "datadog_key", "dd_app_key"),
    *(
        "mailgun_key",
        "algolia_key",
        "algolia_admin_key",
        "newrelic_key",
        "otp_code",
        "mfa_code",
        "fa_code",
        "sms_code",
    ),
    *("time_code", "recovery_code", "backup_code", "verification_code", "security_code"),
)
"""These count only as whole words: `next_auth` is secret, but `author` and `tokens` aren't."""

_WHOSE: Final = (
    "db|database|sql|pg|postgres|mysql|redis|mongo|smtp|imap|mail|email|ftp|ssh|ldap|proxy|http|"
    "web|admin|root|user|login|auth|api|app|rabbitmq|mq|amqp|vault|db_user|my|client|server|sudo|"
    "become|(?:key|trust)?store|key|cert|p12|pfx|wifi|wpa|vpn|svc|service"
)
_NUMBERS: Final = re.compile(
    "password(?!less)|passwd|passphrase|passcode|(?:^|_)pass_(?:word|wd|phrase)|pwd(?:_|$)"
    "|(?:^|_)(?:pin|t?otp|psk|passwrd|pswd)(?:_|$)"
    "|(?:^|_)(?:mfa|fa|sms|one_?time|recovery|backup|verification|security)_codes?(?:_|$)"
)
_CONTENT: Final = re.compile(
    "secret(?!ar)|api_?key|private_?key|connection_?string|access_?token"
    "|(?:token|auth|bearer|credentials?|creds)(?:_|$)"
    "|(?:^|_)(?:authori[sz]ation|pem|cert|jwt|mnemonic|(?:seed|recovery)_phrase|(?:amz|goog)_signature)(?:_|$)"
    "|(?:^|_)(?:cookies?|pw|(?:j|php|asp)sess(?:ion)?id)$"
    f"|(?:^|(?:^|_)(?:{_WHOSE})_{{0,2}})pass$|(?:^|_)(?:{_WHOSE})_?pw$"
    "|(?:^|_)(?:gcp|azure|ssh|encrypt(?:ion)?|decrypt(?:ion)?|master|signing|access|account"
    "|subscription|hmac|aes|deploy|session|auth|client|priv|(?:pre_?)?shared|tls|ssl|enc|crypto?"
    "|unseal|stripe|sendgrid|openai|anthropic|twilio|datadog|dd_app|mailgun|algolia"
    "|algolia_admin|newrelic)_?keys?(?:_|$)"
)
_LOOKALIKE_SUFFIX: Final = re.compile("_{0,2}page_{0,2}token$|_tokens__?details$")
_DESCRIBES: Final = re.compile(
    "(?:^(?:has|is|are|needs?|requires?|required|uses?|allows?|enabled?|max|min|num|total|show)_.*"
    "|(?<!pem)(?<!pem_)_(?:name|ref|id|ids|at|on|by|count|type|kind|provider|method|policy|mode|status|state|scheme"
    "|algorithm|alg|issuer|version|arn|path|file|dir|url|uri|endpoint|length|len|size|limit|usage"
    "|expiry|expires|expires__?in|expiration|ttl|age|date|time|days|seconds|enabled|required|valid"
    "|present|exists|expired|details|source|format|label|rotation|reset__?at))$"
)
"""Keys that say something about a secret (how many, of which kind, when, where) but never hold one.
"""
_SECRET_ID: Final = re.compile("(?:^|_)secret__?id$")
"""The exception to these: an application signs in to a vault with this id."""

_HUMPS: Final = re.compile("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_ODD_CASE: Final = re.compile("[a-z][A-Z][a-z][A-Z]")
"""Capital letters that don't begin words, as in `pAsSwOrD`."""
_PARTS: Final = re.compile("[A-Za-z]+|[0-9]+")
_APART: Final = re.compile("[^A-Za-z0-9_+ .:=-]|[.:=][_+ -]*[.:=]")
"""Characters that stand between two words. The prefilter ignores all others that may be there. Two
words with one of these between them are joined by `__`, and parts of one word by `_`."""
_FOLD: Final = {ord(upper): upper.lower() for upper in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"} | {
    ord("-"): "_"
}
_INVISIBLE: Final = re.compile(
    "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]+(?=[A-Za-z_-])"
)
_STYLED: Final = re.compile("[\uff21-\uff3a\uff41-\uff5a\U0001d400-\U0001d7ff]")
_REMEMBERED_CHARS: Final = 100
_LONGEST_NAME: Final = 1000
"""If a key is longer, check only its beginning and its end."""


class SecrecyLevel(Enum):
    """Which values of a key are secret."""

    NOTHING = "nothing"
    CONTENT = "strings, lists and objects; numbers, booleans and null stay"
    NUMBERS_TOO = "numbers as well"


class SecretKeyWords:
    """The words that make a key secret, including those that an operator added.

    Operators can add words, but can't remove any. An added word matches anywhere in a key, and
    makes even numbers secret, which the built-in words leave alone. For example, once an operator
    has added `iban`, text and numbers under every key that contains `iban` are redacted.
    """

    def __init__(self, added_words: Iterable[str] = ()) -> None:
        self.added_words: Final = tuple(word for given in added_words if (word := _fold(given)))
        self._added = _any_word(self.added_words)
        self._remembered = lru_cache(maxsize=4096)(self._secrecy)

    def secrecy(self, key: str) -> SecrecyLevel:
        """Return which values of the key are secret. Results are cached for short keys only."""
        return (self._remembered if len(key) <= _REMEMBERED_CHARS else self._secrecy)(key)

    def _secrecy(self, key: str) -> SecrecyLevel:
        if len(key) > _LONGEST_NAME:
            key = f"{key[: _LONGEST_NAME // 2]}x{key[-_LONGEST_NAME // 2 :]}"
        if not key.isascii():
            key = _plain_letters(key)
        if self.added_words:
            humps = _HUMPS.sub("_", key), key
            if any(self._added(_fold(spelling)) for spelling in humps):
                return SecrecyLevel.NUMBERS_TOO
        spelled = key if _ODD_CASE.search(key) else _HUMPS.sub("_", key)
        runs = ("_".join(_PARTS.findall(run)) for run in _APART.split(spelled))
        words = "__".join(filter(None, runs)).lower()
        if _DESCRIBES.search(words) and not _SECRET_ID.search(words):
            return SecrecyLevel.NOTHING
        if _NUMBERS.search(words):
            return SecrecyLevel.NUMBERS_TOO
        rest = _LOOKALIKE_SUFFIX.sub("", words)
        return SecrecyLevel.CONTENT if _CONTENT.search(rest) else SecrecyLevel.NOTHING


def _plain_letters(text: str) -> str:
    """Return the text with plain letters, and without invisible characters inside words."""
    return _INVISIBLE.sub("", _STYLED.sub(lambda styled: normalize("NFKC", styled[0]), text))


def _any_word(words: Iterable[str]) -> Callable[[str], object]:
    """Build a search for any of the words. None of them may be empty."""
    return re.compile("|".join(map(re.escape, words))).search


def _fold(key: str) -> str:
    return key.translate(_FOLD)

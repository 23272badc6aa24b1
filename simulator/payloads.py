"""Makes inputs and results of calls, in every size, some with secrets or odd characters.

Each payload has two forms: as it's sent, and as it may be stored, with its secrets redacted. The
same seed always gives the same payloads. Source: docs/spec/wire-shapes.md#r1, #r3, #v5.
"""

from random import Random
from typing import Any, Final

import msgspec

from simulator.facts import Payload
from simulator.mix import Mix

REDACTED: Final = "[REDACTED]"
_POOL: Final = 512
_JWT: Final = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0."
    "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
)
_PEM: Final = (
    "-----BEGIN PRIVATE KEY-----\nMIIBVgIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"
)

SECRETS: Final[tuple[tuple[dict[str, Any], dict[str, Any]], ...]] = (
    ({"access_token": "tok-1f2e3d"}, {"access_token": REDACTED}),
    ({"db_password": "hunter2"}, {"db_password": REDACTED}),
    ({"password": 123456}, {"password": REDACTED}),
    ({"user-passwd": ["a", "b"]}, {"user-passwd": REDACTED}),
    ({"pwd": {"old": "x", "new": "y"}}, {"pwd": REDACTED}),
    ({"client_secret": "s-998877"}, {"client_secret": REDACTED}),
    ({"api-key": "k-123"}, {"api-key": REDACTED}),
    ({"apiKey": "k-456"}, {"apiKey": REDACTED}),
    ({"Authorization": "Digest user"}, {"Authorization": REDACTED}),
    ({"aws_credentials": {"id": "AKIA"}}, {"aws_credentials": REDACTED}),
    ({"private-key": "0xabc"}, {"private-key": REDACTED}),
    ({"connectionString": "Server=db;Pwd=1"}, {"connectionString": REDACTED}),
    ({"gcp_key": "g"}, {"gcp_key": REDACTED}),
    ({"SSH_KEY": "ssh-rsa AAAA"}, {"SSH_KEY": REDACTED}),
    ({"passphrase": 42}, {"passphrase": REDACTED}),
    ({"tls_cert": "-----"}, {"tls_cert": REDACTED}),
    ({"master_key": ""}, {"master_key": REDACTED}),
    ({"azure-key": "a", "pem_file": "p"}, {"azure-key": REDACTED, "pem_file": REDACTED}),
    (
        {"encryptionKey": "e", "decrypt_key": "d"},
        {"encryptionKey": REDACTED, "decrypt_key": REDACTED},
    ),
    ({"bearer": "b", "basic_auth": "c"}, {"bearer": REDACTED, "basic_auth": REDACTED}),
    ({"note": "Bearer abcdef0123456789"}, {"note": REDACTED}),
    ({"list": ["Basic dXNlcjpwYXNzd29yZA==", "fine"]}, {"list": [REDACTED, "fine"]}),
    ({"jwt": _JWT}, {"jwt": REDACTED}),
    ({"blob": _PEM}, {"blob": REDACTED}),
    (
        {"dsn": "postgres://bob:s3cr3t@db.example.com/app"},
        {"dsn": f"postgres://bob:{REDACTED}@db.example.com/app"},
    ),
)
"""(sent, kept): one of each rule."""

LOOK_ALIKES: Final[tuple[dict[str, Any], ...]] = (
    {"author": "jane", "authority": "city", "authorized": True},
    {"certainty": "high", "certified": "yes", "secretary": "Ann"},
    {"author_name": "jane", "concert_hall": "blue", "uncertainty": "low"},
    {"next_page_token": "p2", "pageToken": "p3"},
    {"prompt_tokens_details": {"cached_tokens": 3}, "total_tokens": 118},
    {"passwd": True, "api_key": None, "secret": False},
    {"note": "bearer of good news", "title": "basic idea"},
    {"reference": {"uri": "store://bucket/secret", "credential_id": "c-7", "bytes": 10}},
)
"""Texts that must stay unchanged."""

ODD_TEXT: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b'{"log":"a\\u0000b"}', '{"log":"a\ufffdb"}'.encode()),
    (b'{"log":"half \\ud83d emoji"}', '{"log":"half \ufffd emoji"}'.encode()),
    (b'{"a\\u0000key":1}', '{"a\ufffdkey":1}'.encode()),
    (b'{"log":["\\udc00"]}', '{"log":["\ufffd"]}'.encode()),
)
"""(sent, kept): U+0000 and lone surrogates become U+FFFD."""

_NOUNS: Final = [
    "calendar",
    "city",
    "invoice",
    "météo",
    "order",
    "東京",
    "parcel",
    "patient",
    "price",
    "quote",
    "reading",
    "rows",
    "sensor",
    "station",
    "temperature",
    "ticket",
    "transfer",
    "value",
]


class PayloadPool:
    """A pool of payloads. To draw one takes a single random number, so a run repeats exactly."""

    def __init__(self, mix: Mix, random: Random) -> None:
        low = max(mix.event_bytes_low - 200, 0)
        self._pool = [self._made(index, low, mix, random) for index in range(_POOL)]

    def draw(self, random: float) -> Payload:
        """The payload at `random` (0 to 1) of the pool."""
        return self._pool[int(random * _POOL)]

    def _made(self, index: int, low: int, mix: Mix, random: Random) -> Payload:
        high = max(mix.event_bytes_high - 250, low + 1)
        size = int(max(low, 10) * (high / max(low, 10)) ** (random.random() ** 8))
        if index == 0:
            size = high
        sent = _rows(size, random)
        draw = random.random()
        if draw < mix.odd_text:
            return _raw(*ODD_TEXT[int(random.random() * len(ODD_TEXT))], "unstorable_text")
        if draw < mix.odd_text + mix.secrets:
            secret, kept = SECRETS[int(random.random() * len(SECRETS))]
            alike = LOOK_ALIKES[int(random.random() * len(LOOK_ALIKES))]
            return _raw(_json(sent | secret | alike), _json(sent | kept | alike))
        return _raw(_json(sent), _json(sent))


def _rows(size: int, random: Random) -> dict[str, Any]:
    """An object of about `size` bytes of JSON."""
    value: dict[str, Any] = {"ok": random.random() < 0.5, "row_count": int(random.random() * 1000)}
    rows: list[dict[str, Any]] = []
    used = 30
    while used < size:
        noun = _NOUNS[int(random.random() * len(_NOUNS))]
        row = {
            "id": int(random.random() * 2**40),
            "name": noun,
            "score": round(random.random() * 100, 3),
            "tags": [noun, None, True],
        }
        rows.append(row)
        used += 75
    if rows:
        value["rows"] = rows
    return value


def _json(value: object) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _raw(sent: bytes, kept: bytes, *rules: str) -> Payload:
    return Payload(msgspec.Raw(sent), msgspec.Raw(kept), rules)

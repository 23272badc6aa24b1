"""Merges without a database: computes the digests of PostgreSQL's jsonb text."""

from collections.abc import Sequence
from typing import Final

import msgspec

from normalizer.core.identity import merge as joins
from normalizer.core.identity.digests import Digest, DigestCache, digest_jsonb_text
from normalizer.envelope import Envelope, canonical_json
from normalizer.jsontext import Json, parse_json_canonically, quote, write_json

JSON_COLUMNS: Final = ("context", "result", "meta", "extra", "coercions", "headers")


class KnownDigests(DigestCache):
    """Knows every value's digest."""

    def digest_or_placeholder(self, value: bytes) -> Digest:
        return digest_jsonb_text(jsonb_text(value))


def python_digests(values: Sequence[bytes]) -> list[Digest]:
    """The digests of these values."""
    return list(map(KnownDigests().digest_or_placeholder, values))


def merge(stored: Envelope, report: Envelope) -> Envelope:
    """The row of both reports."""
    return joins.merge(stored, report, KnownDigests())


def as_stored(row: Envelope) -> Envelope:
    """The row as PostgreSQL gives it back: jsonb keeps values, not spelling."""
    columns = {name: getattr(row, name) for name in JSON_COLUMNS}
    return msgspec.structs.replace(
        row, **{name: value and canonical_json(value) for name, value in columns.items()}
    )


def jsonb_text(value: bytes) -> bytes:
    """The value as jsonb writes it: shorter keys first, blanks after colons and commas."""
    return _text(parse_json_canonically(value.decode())).encode()


def _text(tree: Json) -> str:
    match tree:
        case list():
            return f"[{', '.join(map(_text, tree))}]"
        case dict():
            keys = sorted(tree, key=lambda key: (len(key.encode()), key.encode()))
            return f"{{{', '.join(f'{quote(key)}: {_text(tree[key])}' for key in keys)}}}"
        case _:
            return write_json(tree)

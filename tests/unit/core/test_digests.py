"""The digests by which JSON values are compared, and which ones the database must compute."""

import pytest

from normalizer.core.identity.digests import (
    MAX_UNHASHED_BYTES,
    DigestCache,
    digest_jsonb_text,
    sha256_from_digest,
)


@pytest.mark.parametrize("value", [b'"a"', b"0", b"1234", b"true", b"null", b"{}", b"[]"])
def test_json_in_jsonb_spelling_needs_no_digest_from_the_database(value: bytes) -> None:
    digests = DigestCache()

    assert digests.digest_or_placeholder(value) == (len(value), value)
    assert digests.missing_values() == []


@pytest.mark.parametrize(
    "value", [b'"\\u0041"', b"1e2", b"-0", b"1" * 19, b'{"a":1}', b"[ ]", b'"%b"' % (b"x" * 4_095)]
)
def test_json_in_another_spelling_is_digested_once(value: bytes) -> None:
    digests = DigestCache()

    unknown = digests.digest_or_placeholder(value)
    assert digests.missing_values() == [value]
    digests.add([value], [(7, b"learnt")])

    assert unknown != digests.digest_or_placeholder(value) == (7, b"learnt")
    assert digests.missing_values() == []


def test_a_short_text_stands_for_itself_and_hashes_as_any_other() -> None:
    short, long = b"x" * MAX_UNHASHED_BYTES, b"x" * (MAX_UNHASHED_BYTES + 1)

    assert digest_jsonb_text(short) == (MAX_UNHASHED_BYTES, short)
    assert len(digest_jsonb_text(long)[1]) == 32
    assert sha256_from_digest(digest_jsonb_text(long)) == digest_jsonb_text(long)[1]
    assert len(sha256_from_digest(digest_jsonb_text(short))) == 32

"""How a rejected record begins may be read by everybody: it is text, and holds no secret."""

import pytest

from normalizer.core.decode.record_limits import MAX_VALUE_BYTES
from normalizer.core.decode.rejected_sample import MAX_SAMPLE_BYTES, sample_unless_secret
from normalizer.core.normalize import Normalizer
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.envelope import Rejected
from tests.support.factories import raw_record

SANITIZER = Sanitizer(["iban"])


@pytest.mark.parametrize(
    ("value", "sample"),
    [
        (b'{"a": 1, ', '{"a": 1, '),
        (b"", ""),
        (b"\xff\xfe", None),
        (b"a\x00b", None),
        ("\u00e9".encode() * 2_000, "\u00e9" * (MAX_SAMPLE_BYTES // 2)),
        (b"x" + "\u00e9".encode() * 2_000, "x" + "\u00e9" * (MAX_SAMPLE_BYTES // 2 - 1)),
        (b'{"password": "hunter2", "n": 1}', None),
        (b'{"iban": "DE12", "n": 1}', None),
        (b'{"password": "hunter2", ', None),
        (b"password=hunter2", None),
        (b"x" * 2_040 + b" postgres://bob:hunter2@db/x", None),
        (b'{"token": ' + b"[" * 9_000, None),
        (b'{"specversion": "1.0", "data_base64": "eyJ9"}', None),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_sample_is_text_without_secrets(value: bytes, sample: str | None) -> None:
    assert sample_unless_secret(value, SANITIZER) == sample


def test_only_the_first_rejection_of_a_record_has_a_sample() -> None:
    outcomes = Normalizer().normalize(raw_record(value=b'[{"a": 1}, {"b": 2}]'))

    samples = [outcome.sample for outcome in outcomes if isinstance(outcome, Rejected)]
    assert samples == ['[{"a": 1}, {"b": 2}]', None]


@pytest.mark.parametrize("pad", [0, 2_000, 4_200, 7_000_000])
def test_a_sample_shows_no_secret_whose_name_comes_later_in_the_record(pad: int) -> None:
    value = b'{"value": "hunter2", "pad": "%b", "name": "DB_PASSWORD"}' % (b"." * pad)

    (outcome,) = Normalizer().normalize(raw_record(value=value))

    assert isinstance(outcome, Rejected)
    assert outcome.sample is None


def test_a_record_too_large_to_be_searched_has_no_sample() -> None:
    (outcome,) = Normalizer().normalize(raw_record(value=b"." * (MAX_VALUE_BYTES + 1)))

    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.sample) == ("too_large", None)

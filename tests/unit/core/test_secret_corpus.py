"""The corpus of secrets, through the rules alone: all four shapes, headers, errors, rejections."""

from typing import Any

import msgspec
import pytest

from normalizer.core.normalize import Normalizer
from normalizer.envelope import Envelope, to_canonical
from tests.support import secret_corpus
from tests.support.factories import raw_record

SECRETS = list(secret_corpus.secrets())
HARMLESS = secret_corpus.harmless()
normalize = Normalizer().normalize


def rows(value: Any) -> str:
    """All that is kept of the value, as text."""
    return "\n".join(
        to_canonical(event).decode() + repr(event)
        for sent in secret_corpus.shapes(value)
        for event in normalize(raw_record(value=sent))
        if isinstance(event, Envelope)
    )


def test_the_corpus_is_large_enough() -> None:
    assert len(SECRETS) >= 300
    assert len(HARMLESS) >= 100


def test_no_secret_of_the_corpus_is_kept() -> None:
    kept = [(form, value) for form, value, secret in SECRETS if secret in rows(value)]

    assert not kept, f"{len(kept)} of {len(SECRETS)}:\n" + "\n".join(map(repr, kept))


def test_no_harmless_text_is_changed() -> None:
    changed = []
    for value in HARMLESS:
        (event,) = normalize(raw_record(value=secret_corpus.shapes(value)[0]))
        assert isinstance(event, Envelope)
        kept = msgspec.json.decode(event.context or b"")
        if kept != value:
            changed.append((value, kept))

    assert not changed, f"{len(changed)} of {len(HARMLESS)}:\n" + "\n".join(map(repr, changed))


def test_no_secret_header_is_kept() -> None:
    (event,) = normalize(raw_record(headers=tuple(secret_corpus.headers())))

    assert [secret for secret in secret_corpus.HEADER_SECRETS if secret in repr(event)] == []


@pytest.mark.parametrize("form", ["key", "text"])
def test_text_around_a_secret_stays(form: str) -> None:
    text = "user=jane password=hK3xQ9 host=db" if form == "text" else "see a://u:hK3xQ9@h/x"
    (event,) = normalize(raw_record(value=secret_corpus.shapes({"note": text})[0]))

    assert isinstance(event, Envelope)
    assert msgspec.json.decode(event.context or b"") == {
        "note": text.replace("hK3xQ9", "[REDACTED]")
    }

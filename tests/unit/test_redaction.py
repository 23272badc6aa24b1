"""Which keys are secret, and what of a text is."""

import pytest

from normalizer.core.rules.redaction import REDACTED, SECRET_WORDS, Redaction, Secrecy, redact_text

secrecy = Redaction().secrecy


def camel(word: str) -> str:
    first, *rest = word.split("_")
    return first + "".join(part.capitalize() for part in rest)


@pytest.mark.parametrize("word", SECRET_WORDS)
def test_each_word_is_secret_however_it_is_spelled(word: str) -> None:
    for key in (
        *(word, word.upper(), word.title(), camel(word), camel(f"my_{word}")),
        *(f"x_{word}_y", f"x{word}y", word.replace("_", "-"), f"X-{word.replace('_', '-')}"),
    ):
        assert secrecy(key) is not Secrecy.NOTHING, key


@pytest.mark.parametrize(
    "key",
    [
        *("author", "authors", "Authority", "authorized", "authorised", "certainty", "certified"),
        *("secretary", "author_name", "authorName", "author-id", "certain", "concert", "concerto"),
        *("uncertainty", "certificate", "certification", "next_page_token", "nextPageToken"),
        *("pagetoken", "prompt_tokens_details", "promptTokensDetails", "mapping", "pinned"),
        *("shipping", "user", "key", "keys", "id", "", "tok-en", "group_email", "a_pi_key"),
    ],
)
def test_a_look_alike_is_no_secret(key: str) -> None:
    assert secrecy(key) is Secrecy.NOTHING


@pytest.mark.parametrize(
    "key", ["author_password", "certificate_private_key", "secret_page_token", "concertTicketAuth"]
)
def test_a_look_alike_hides_no_secret_beside_it(key: str) -> None:
    assert secrecy(key) is not Secrecy.NOTHING


@pytest.mark.parametrize(
    "key", ["password", "user_passwd", "dbPwd", "passphrase", "pin", "userPin", "PIN_CODE", "pin2"]
)
def test_numbers_are_secret_under_words_that_name_numbers(key: str) -> None:
    assert secrecy(key) is Secrecy.NUMBERS_TOO


def test_an_added_word_is_folded_and_hides_numbers_too() -> None:
    added = Redaction(["Session-Id", "", "IBAN"])

    assert added.added_words == ("session_id", "iban")
    assert added.secrecy("userSessionId") is Secrecy.NUMBERS_TOO
    assert added.secrecy("IbanNumber") is Secrecy.NUMBERS_TOO
    assert added.secrecy("password") is Secrecy.NUMBERS_TOO
    assert added.secrecy("iba") is Secrecy.NOTHING


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Bearer abcdefgh", REDACTED),
        ("bearer\tabcdefgh==", REDACTED),
        ("BASIC dXNlcjpwYXNz", REDACTED),
        ("basic abc", "basic abc"),
        ("the bearer of abcdefgh", "the bearer of abcdefgh"),
        (JWT, REDACTED),
        (f"refused: {JWT}", f"refused: {REDACTED}"),
        ("eyJ.a.b", "eyJ.a.b"),
        (f"x{JWT}", f"x{JWT}"),
        ("eyJ this has two. dots and is longer than. fifty characters", REDACTED),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", REDACTED),
        ("-----BEGIN CERTIFICATE-----\nMIIE", "-----BEGIN CERTIFICATE-----\nMIIE"),
        ("postgres://me:p@ss@host/db", "postgres://me:[REDACTED]@host/db"),
        ("redis://:pw@a, amqp://u:q@b", "redis://:[REDACTED]@a, amqp://u:[REDACTED]@b"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("http://user@host", "http://user@host"),
        ("mail me: a://b at c@d", "mail me: a://b at c@d"),
    ],
)
def test_a_text_keeps_what_is_no_secret(text: str, kept: str) -> None:
    assert redact_text(text) == kept


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", ["eyJ", "eyJ.", "://", "://a:", "://a:b", "bearer ", "basic  "])
def test_no_text_takes_longer_than_it_is_long(part: str) -> None:
    redact_text(part * 400_000)

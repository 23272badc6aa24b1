"""Which keys are secret, and what of a text is."""

import pytest

from normalizer.core.redaction.json_in_text import json_spans
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.core.redaction.secret_names import (
    REDACTED,
    SECRET_WORDS,
    SecrecyLevel,
    SecretKeyWords,
)
from normalizer.core.redaction.secret_text import _PIECE_CHARS

redact_text = Sanitizer().texts.redact_text

secrecy = SecretKeyWords().secrecy


def camel(word: str) -> str:
    first, *rest = word.split("_")
    return first + "".join(part.capitalize() for part in rest)


@pytest.mark.parametrize("word", SECRET_WORDS)
def test_each_word_is_secret_however_it_is_spelled(word: str) -> None:
    for key in (
        *(word, word.upper(), word.title(), camel(word), camel(f"my_{word}")),
        *(f"x_{word}_y", f"x{word}y", word.replace("_", "-"), f"X-{word.replace('_', '-')}"),
    ):
        assert secrecy(key) is not SecrecyLevel.NOTHING, key


@pytest.mark.parametrize(
    "key",
    [
        *("author", "authors", "Authority", "authorized", "authorised", "certainty", "certified"),
        *("secretary", "author_name", "authorName", "author-id", "certain", "concert", "concerto"),
        *("uncertainty", "certificate", "certification", "next_page_token", "nextPageToken"),
        *("pagetoken", "prompt_tokens_details", "promptTokensDetails", "mapping", "pinned"),
        *("shipping", "user", "key", "keys", "id", "", "tok-en", "group_email", "a_pi_key"),
        *("next/page/token", "x[page][token]", "prompt/tokens/details"),
        *("token/expires/in", "secret/reset/at"),
    ],
)
def test_a_look_alike_is_no_secret(key: str) -> None:
    assert secrecy(key) is SecrecyLevel.NOTHING


@pytest.mark.parametrize("gap", ["_", "/", "][", "::", "|", "\t", "\xa0"])
@pytest.mark.parametrize("key", ["db_pass", "config_db_pass", "vault_secret_id", "pem_id"])
def test_separators_between_words_do_not_hide_a_secret_name(key: str, gap: str) -> None:
    assert secrecy(key.replace("_", gap)) is SecrecyLevel.CONTENT


@pytest.mark.parametrize(
    "key", ["author_password", "certificate_private_key", "secret_page_token", "concertTicketAuth"]
)
def test_a_look_alike_hides_no_secret_beside_it(key: str) -> None:
    assert secrecy(key) is not SecrecyLevel.NOTHING


@pytest.mark.parametrize(
    "key", ["password", "user_passwd", "dbPwd", "passphrase", "pin", "userPin", "PIN_CODE", "pin2"]
)
def test_numbers_are_secret_under_words_that_name_numbers(key: str) -> None:
    assert secrecy(key) is SecrecyLevel.NUMBERS_TOO


def test_an_added_word_is_folded_and_hides_numbers_too() -> None:
    added = SecretKeyWords(["Session-Id", "", "IBAN"])

    assert added.added_words == ("session_id", "iban")
    assert added.secrecy("userSessionId") is SecrecyLevel.NUMBERS_TOO
    assert added.secrecy("IbanNumber") is SecrecyLevel.NUMBERS_TOO
    assert added.secrecy("password") is SecrecyLevel.NUMBERS_TOO
    assert added.secrecy("iba") is SecrecyLevel.NOTHING


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
        (f"rejected: {JWT}", f"rejected: {REDACTED}"),
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
@pytest.mark.parametrize(
    "part", ["eyJ", "eyJ.", "://", "://a:", "://a:b", "bearer ", "basic  ", "rar zip ", "mysql -u "]
)
def test_no_text_takes_longer_than_it_is_long(part: str) -> None:
    """Not even begun, where a step takes as long as the square of its text: the test times out."""
    assert redact_text(part * 50_000)


def test_json_in_a_text_is_found_until_much_of_it_is_broken() -> None:
    """JSON is read once, but text that only begins like JSON may be read to its end."""
    assert len(list(json_spans('{"a": 1} ' * 20))) == 20
    assert len(list(json_spans('{"a" ' * 15 + '["a"]'))) == 1
    assert not list(json_spans('{"a" ' * 16 + '["a"]'))
    assert list(json_spans('x ["a"] y')) == [(2, 7)]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("key A1b2C3d4E5f6G7h8I9 of a map", "key A1b2C3d4E5f6G7h8I9 of a map"),
        ("token A1b2C3d4E5f6G7h8I9", "token [REDACTED]"),
        ("api key A1b2C3d4E5f6G7h8I9", "api key [REDACTED]"),
        ("password=" + "a" * 300, "password=[REDACTED]"),
        ("password='" + "a" * 300 + "'", "password='[REDACTED]'"),
        ("token=5, password=5", "token=5, password=[REDACTED]"),
        ("token = get_token()", "token = get_token()"),
        ("password: correct", "password: [REDACTED]"),
        ("password: correct horse", "password: correct horse"),
        ("token: correct", "token: correct"),
        ("token is correct", "token is correct"),
        ("password is correct", "password is correct"),
        ("authorization: required", "authorization: required"),
        ("Authorization: Bearer token", "Authorization: Bearer token"),
        ("Authorization: 'Bearer x1'", "Authorization: 'Bearer [REDACTED]'"),
        ('Authorization: Digest a="b", c="d"', "Authorization: Digest [REDACTED]"),
        ("token: ''", "token: ''"),
        ("<token></token>", "<token></token>"),
        ("<token>none</token><a>b</a>", "<token>none</token><a>b</a>"),
        ("name: token, value: none", "name: token, value: none"),
        ("name: x, value: y, password", "name: x, value: y, password"),
        ("--token none", "--token none"),
        ("?sig=none", "?sig=none"),
        ("?sig=abc&a=b", "?sig=[REDACTED]&a=b"),
        ("password=a b;user=c", "password=[REDACTED];user=c"),
        ("token=x token=y", "token=[REDACTED] token=[REDACTED]"),
        ("password=token=x", "password=[REDACTED]"),
        ("see https://A1b2C3d4E5f6G7h8@h/", "see https://[REDACTED]@h/"),
        ("https://A1b2C3d4E5f6G7h8:x-oauth-basic@h/", "https://[REDACTED]:[REDACTED]@h/"),
        ("docker://a:b@sha256:0", "docker://a:b@sha256:0"),
        ("jdbc:oracle:thin:u/p@h", "jdbc:oracle:thin:u/[REDACTED]@h"),
        ("root:pw@tcp(h)/db", "root:[REDACTED]@tcp(h)/db"),
        ("basic abcdefghijkl", "basic abcdefghijkl"),
        ("basic dXNlcjpw", REDACTED),
        ("basic 12345678", "basic 12345678"),
        ("basic cut-throat", "basic cut-throat"),
        (
            "?user[password]=s3&password[]=s3&a[0]=b",
            "?user[password]=[REDACTED]&password[]=[REDACTED]&a[0]=b",
        ),
        (
            "?user%5Bpassword%5D=s3&password%5B%5D=s3&a=b",
            "?user%5Bpassword%5D=[REDACTED]&password%5B%5D=[REDACTED]&a=b",
        ),
        ("[('a', 'b'), ('password', 's3cret')]", "[('a', 'b'), ('password', '[REDACTED]')]"),
        ("[(b'x-api-key', b's3cret')]", "[(b'x-api-key', b'[REDACTED]')]"),
        ("('password', 's3c", "('password', '[REDACTED]"),
        (
            "('password', 'email'), ('password', 'h1', 'h2')",
            "('password', 'email'), ('password', 'h1', 'h2')",
        ),
        ("environ.get('API_TOKEN', 'dev1')", "environ.get('API_TOKEN', 'dev1')"),
        ("password: !!str s3cret", "password: !!str [REDACTED]"),
        (
            "?user[password][]=s3&user%5Bpassword%5D%5B0%5D=s3",
            "?user[password][]=[REDACTED]&user%5Bpassword%5D%5B0%5D=[REDACTED]",
        ),
        ("password=ab&x[y=cd", "password=[REDACTED]"),
        ('if token[0] == "*": token[5] = LPAREN', 'if token[0] == "*": token[5] = LPAREN'),
        ("token[0]: identifier1 expected", "token[0]: identifier1 expected"),
        ('in ("oauth2_token", "openIdConnect")', 'in ("oauth2_token", "openIdConnect")'),
        ("('CreateToken', '_')", "('CreateToken', '_')"),
        ("('token', 'expired at 10:00')", "('token', 'expired at 10:00')"),
        ("failed using default.password s3cretPart", "failed using default.password [REDACTED]"),
        ("HTTP AUTH sha256-rsa", "HTTP AUTH sha256-rsa"),
        ("a://u:@h", "a://u:@h"),
        ("Bearer 12345678", REDACTED),
        ("PASSWORD 'x' for u", "PASSWORD '[REDACTED]' for u"),
        ("password x for u", "password x for u"),
        ("token: ['a', 'b']", "token: [REDACTED]"),
        ("mysql mysql mysql mysql mysql -pA1b2C3d4", "mysql mysql mysql mysql mysql -p[REDACTED]"),
        ("sqlplus scott/A1b2C3d4@db password", "sqlplus scott/[REDACTED]@db password"),
        (
            'form-data; name="a"\r\n\r\nplain\r\nform-data; name="password"\r\n\r\nA1b2C3d4',
            'form-data; name="a"\r\n\r\nplain\r\nform-data; name="password"\r\n\r\n[REDACTED]',
        ),
    ],
)
def test_only_the_secret_is_cut(text: str, kept: str) -> None:
    assert redact_text(text) == kept


@pytest.mark.parametrize(
    "secret", ["password=s3cretpart", "token: {'a': 's3cretpart'}", "a://u:s3cretpart@h"]
)
def test_a_secret_is_found_anywhere_in_a_long_text(secret: str) -> None:
    lines = "nothing of interest happens in this line\n" * 500

    for text in (f"{lines}{secret}\n{lines}", f"{lines}{secret}", f"{secret} {lines}"):
        assert redact_text(text) == text.replace(secret, redact_text(secret))
        assert "s3cretpart" not in redact_text(text)


@pytest.mark.parametrize(
    ("command", "others"),
    [
        ("mysqldump {} -u root -ps3cretPart1 orders", "--ignore-table=orders.archived_lines " * 12),
        ("curl -X POST -d '{}' -u jane:s3cretPart1 https://h", "x " * 1500),
        ("ldapsearch {} -w s3cretPart1", "-b ou=people,dc=example,dc=org " * 20),
    ],
)
def test_a_password_is_found_behind_many_other_options(command: str, others: str) -> None:
    text = command.format(others)

    assert redact_text(text) == text.replace("s3cretPart1", REDACTED)


@pytest.mark.parametrize(
    "said",
    [
        *("create user u identified by 's3cretPart1'", "api key: s3cretPart1"),
        *(
            "mysql -u root -ps3cretPart1",
            "curl https://h/x -u user:s3cretPart1",
            "vault login s3cretPart1",
        ),
        *("echo s3cretPart1 | docker login -u u --password-stdin", "echo u:s3cretPart1 | chpasswd"),
    ],
)
def test_a_secret_is_found_wherever_a_long_text_is_cut_into_pieces(said: str) -> None:
    """The word before it, or behind it, may lie in another piece."""
    line = "nothing of interest\n"

    for border in (at for at, char in enumerate(said) if char == " "):
        text = f"{line * 500}"[: _PIECE_CHARS - border - 1] + f"\n{said}\n{line * 500}"
        assert "s3cretPart1" not in redact_text(text)


@pytest.mark.parametrize(
    "text",
    [
        *("password={}", "password: {}", "--password={}", "--password {}", "PASSWORD '{}'"),
        *("export TOKEN={}", "?token={}", "?api_key={}", "mysql -p{}"),
        *("host=h password={} user=u", "Server=h;Password={};User=u", "jdbc:x://h?password={}"),
        *("https://u:{}@h", "Authorization: Basic {}", '{{"password":"{}"}}', "curl -u u:{} h"),
    ],
)
@pytest.mark.parametrize("secret", ["x", "hunter", "12345", "S3cret", "correct-horse"])
def test_a_secret_may_be_any_word(text: str, secret: str) -> None:
    if secret == "12345" and "token" in text.lower():
        return

    assert redact_text(text.format(secret)) == text.format(REDACTED)


def test_a_long_name_is_judged_by_its_begin_and_its_end() -> None:
    assert secrecy("password_" + "a" * 2_000) is SecrecyLevel.NUMBERS_TOO
    assert secrecy("a" * 2_000 + "_token") is SecrecyLevel.CONTENT
    assert secrecy("a" * 2_000) is SecrecyLevel.NOTHING
    assert secrecy("a" * 496 + "_pin" + "g" * 2_000) is SecrecyLevel.NOTHING
    assert secrecy("a" * 497 + "api" + "b" * 2_000 + "key" + "c" * 497) is SecrecyLevel.NOTHING

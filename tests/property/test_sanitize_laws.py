"""The laws of looking first and of taking out: nothing is missed, and twice is once."""

import base64
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

from hypothesis import example, given, strategies as st

from normalizer.core.redaction.key_classifier import KeyClassifier, ObjectKeyFacts
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.core.redaction.secret_names import REDACTED, SECRET_WORDS
from normalizer.core.redaction.suspicious_parts import parse_whole_json
from normalizer.envelope import canonical_json
from normalizer.jsontext import Json, parse_json_keeping_numbers, write_json
from tests.property.raw_events import as_json, trees

sanitizer = Sanitizer(["iban", "NAME"])
redact_text = Sanitizer().texts.redact_text


class _EachKey(KeyClassifier):
    """Finds no keys plain, and remembers nothing about them."""

    def classify_keys(self, names: Collection[str], *, at_top: bool) -> ObjectKeyFacts:  # noqa: ARG002 - as its base
        return ObjectKeyFacts(partial(self._secrecy, at_top=at_top), are_plain=False, may_name=True)


one_by_one = Sanitizer(["iban", "NAME"])
setattr(one_by_one, "keys", _EachKey(one_by_one.texts, one_by_one.secrets_by_neighbor))  # noqa: B010 - Final

_JWT = ".".join(base64.urlsafe_b64encode(part).decode() for part in (b'{"alg":"HS256"}', b"x" * 30))

secret_texts = st.one_of(
    st.sampled_from(
        [
            *("Bearer abcdefgh12", "basic dXNlcjpwYXNz==", "BEARER  12345678", "basic training"),
            *("https://user:pw@host/path", "x://:pw@h amqp://a:b@c@d", "://u:[REDACTED]@h"),
            *(f"{_JWT}.abc", f"token {_JWT}.c, eyJ a. b", f"eyJ a. b. {_JWT}.c and so on and on"),
            *("-----BEGIN RSA PRIVATE KEY-----\nabc", "://a:80/b@c", "eyJ", REDACTED),
        ]
    ),
    st.text("eyJ.:/@ab-_ \n\0\ud800Bearsic", max_size=60),
)
secret_keys = st.one_of(
    st.sampled_from(SECRET_WORDS),
    st.sampled_from(["userPin", "api-key", "Authorization", "author_name", "nextPageToken", "pin"]),
    st.sampled_from(["reference", "ref", "events", "payload", "global_sequence", "name", "Iban"]),
    st.text("aptoken_-Ki\0\ud800x", max_size=8),
    st.sampled_from(["x://u:p@h", "x://u:q@h", "event_type", "a\0", "a\ud800", "a\ufffd"]),
)
secretive = st.recursive(
    st.one_of(secret_texts, trees, st.integers(), st.none(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(secret_keys, inner, max_size=4)
    ),
    max_leaves=8,
)


@given(secretive)
def test_cleaning_twice_is_cleaning_once(tree: Any) -> None:
    sent = as_json(tree).decode()
    once = sanitizer.clean(sent, _tree(sent)).text

    twice = sanitizer.clean(once, _tree(once))

    assert twice.text == once
    assert not twice.replaced


@given(secretive, st.booleans())
def test_looking_first_misses_nothing(tree: Any, escaped: bool) -> None:
    sent = as_json(tree).decode()
    if not escaped:
        sent = write_json(parse_json_keeping_numbers(sent)).encode(errors="replace").decode()

    cleaned = sanitizer.clean(sent, _tree(sent))

    assert cleaned.text == sent or sanitizer.has_sign(sent.encode())


@given(secretive, st.booleans())
def test_keys_that_are_judged_and_strings_that_are_searched_together_give_the_same(
    tree: Any, escaped: bool
) -> None:
    """Each key and each string is looked at alone on the other side."""
    sent = as_json(tree).decode()
    if not escaped:
        sent = write_json(parse_json_keeping_numbers(sent)).encode(errors="replace").decode()

    together = sanitizer.clean(sent, _tree(sent), sanitizer.sign_search_for_parts_of(sent.encode()))

    assert together == one_by_one.clean(sent, _tree(sent))


@given(secretive, st.booleans())
@example(tree={name: [name, "Oslo"] for name in SECRET_WORDS}, escaped=False)
def test_the_search_for_the_signs_of_a_text_finds_what_the_search_for_all_finds(
    tree: Any, escaped: bool
) -> None:
    sent = as_json(tree)
    if not escaped:
        sent = write_json(parse_json_keeping_numbers(sent.decode())).encode(errors="replace")

    has_sign = sanitizer.sign_search_for_parts_of(sent)

    for part in _parts(_tree(sent.decode())):
        assert sanitizer.has_sign(part) == (has_sign is not None and has_sign(part))


def _tree(text: str) -> Json:
    return parse_whole_json(text.encode())


def _parts(tree: Any) -> Iterator[bytes]:
    yield write_json(tree).encode(errors="replace")
    for below in (
        tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    ):
        yield from _parts(below)


@given(secretive)
def test_a_cleaned_text_is_one_that_postgres_holds(tree: Any) -> None:
    """UTF-8, and no escape for U+0000. Other tests try the database itself."""
    sent = as_json({"execution_id": 1, "event_type": "x", "context": tree}).decode()

    cleaned = sanitizer.clean(sent, _tree(sent)).text

    assert "\\u0000" not in canonical_json(cleaned.encode()).decode().replace("\\\\", "")


@given(secret_texts)
@example(f"eyJ a. b. {_JWT}.c and so on and on")
def test_redacting_a_text_twice_is_redacting_it_once(text: str) -> None:
    once = redact_text(text)

    assert redact_text(once) == once


@given(trees)
def test_canonical_json_is_a_fixed_point_and_keeps_the_value(tree: Any) -> None:
    text = write_json(parse_json_keeping_numbers(as_json(tree).decode())).encode(errors="replace")

    canonical = canonical_json(text)

    assert canonical_json(canonical) == canonical
    assert canonical_json(b" " + text + b"\n") == canonical

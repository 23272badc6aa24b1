"""Looking first, and taking out: what is changed, and what is left alone."""

import json
from functools import cache
from itertools import product
from typing import Any

import pytest

from normalizer.core.redaction.prefilter import Prefilter
from normalizer.core.redaction.sanitize import CleanedText, Sanitizer
from normalizer.core.redaction.secret_names import SecrecyLevel
from normalizer.core.redaction.suspicious_parts import parse_suspicious_parts, parse_whole_json

sanitizer = Sanitizer()
find_sanitizer = cache(Sanitizer)


def clean(sent: Any, redact_keys: tuple[str, ...] = ()) -> CleanedText:
    text = sent if isinstance(sent, str) else json.dumps(sent)
    return find_sanitizer(redact_keys).clean(text, parse_whole_json(text.encode()))


def cleaned(sent: Any, redact_keys: tuple[str, ...] = ()) -> Any:
    return json.loads(clean(sent, redact_keys).text)


def test_an_untouched_text_keeps_its_own_bytes() -> None:
    text = ' { "author" : "jane", "n": 1.50 ,"é":"\\u00e9" } '

    assert clean(text).text is text


def test_where_a_result_lies_is_never_touched() -> None:
    where = {
        "ref": "x://u:p@h",
        "uri": "Bearer abcdefgh",
        "locator": {"token": "t"},
        "token_id": "t",
        "meta": {"sha256": "Basic abcdefgh", "bytes": 5, "password": "p"},
    }

    kept = cleaned({"context": {"reference": where, "ref": "x://u:p@h"}})

    where["meta"] = {"sha256": "Basic abcdefgh", "bytes": 5, "password": "[REDACTED]"}
    assert kept == {"context": {"reference": where, "ref": "x://u:[REDACTED]@h"}}


def test_a_result_reference_is_recovered_all_the_same() -> None:
    result = clean({"context": {"reference": {"ref": "a\0"}}})

    assert json.loads(result.text) == {"context": {"reference": {"ref": "a\ufffd"}}}
    assert result.replaced == {None: {("context", "reference", "ref")}}


def test_an_added_word_hides_what_is_in_an_event_never_the_event() -> None:
    sent = {"name": "call.done", "node_name": "s", "context": {"name": "jane"}, "nickname": "j"}

    assert cleaned(sent, ("name",)) == {
        "name": "call.done",
        "node_name": "s",
        "context": {"name": "[REDACTED]"},
        "nickname": "[REDACTED]",
    }
    items = {"execution_id": 1, "events": [sent, "x", 1, None]}
    assert cleaned(items, ("name",))["events"][0]["node_name"] == "s"


def test_unstorable_text_becomes_u_fffd_and_is_named() -> None:
    sent = r'{"a":"x\u0000","b":["\ud800",{"c\u0000":"\udc00"}],"d":"\ud83d\ude00"}'

    result = clean(sent)

    assert json.loads(result.text) == {
        "a": "x\ufffd",
        "b": ["\ufffd", {"c\ufffd": "\ufffd"}],
        "d": "😀",
    }
    assert result.replaced == {None: {("a",), ("b", "[]"), ("b", "[]", "c\ufffd")}}


def test_two_keys_that_become_equal_lose_no_value() -> None:
    sent = r'{"a\ufffd":0,"a\u0000":1,"a\ud800":2,"a\udfff":3,"a\ufffd (3)":4}'

    kept = cleaned(sent)

    assert list(kept.values()) == [0, 1, 2, 3, 4]
    assert list(kept) == ["a\ufffd", "a\ufffd (2)", "a\ufffd (4)", "a\ufffd (5)", "a\ufffd (3)"]


def test_a_line_break_in_a_key_makes_it_no_two_keys() -> None:
    """What is remembered about the keys `a` and `password` says nothing about the key with both."""
    assert cleaned({"x": {"a": "x", "password": "y"}}) == {
        "x": {"a": "x", "password": "[REDACTED]"}
    }

    assert cleaned({"x": {"a\npassword": "y"}}) == {"x": {"a\npassword": "[REDACTED]"}}


def test_a_string_with_a_sign_is_found_among_others() -> None:
    sent = {
        "a": "x" * 20,
        "é": ["password=hunter2", "Bearer abcdefgh12"],
        "b": {"c": "token: x1y2z3"},
    }

    assert cleaned(json.dumps(sent, ensure_ascii=False)) == {
        "a": "x" * 20,
        "é": ["password=[REDACTED]", "[REDACTED]"],
        "b": {"c": "token: [REDACTED]"},
    }


def test_a_secret_in_a_key_is_cut_out() -> None:
    assert cleaned({"a": {"x://u:p@h": 1, "x://u:q@h": 2}}) == {
        "a": {"x://u:[REDACTED]@h": 1, "x://u:[REDACTED]@h (2)": 2}
    }


def test_a_value_that_a_later_key_overrides_is_not_kept() -> None:
    assert "hunter2" not in clean('{"a":{"password":"hunter2"},"a":1}').text
    assert "hunter2" not in clean('{"events":[],"token":"hunter2","token":1}').text
    assert (
        "hunter2"
        not in clean('{"payload":"{}","global_sequence":"hunter2","global_sequence":1}').text
    )


def test_a_text_within_the_text_is_left_until_its_turn_comes() -> None:
    inner = '{"password":"x","a":"-----BEGIN PRIVATE KEY-----"}'

    for sent in (inner, {"global_sequence": 1, "payload": inner}, {"events": [inner]}):
        text = json.dumps(sent)

        assert clean(text).text is text


@pytest.mark.parametrize(
    "payload", [{"name": "x"}, '{"name":"x"}', {"name": "x", "y": "y" * 2_000}]
)
@pytest.mark.parametrize("beside", ["events", "records"])
def test_a_list_beside_the_payload_of_a_wrapper_is_no_batch(beside: str, payload: Any) -> None:
    sent = {"global_sequence": 1, "payload": payload, beside: ["password=hunter2hunter2"]}
    text = json.dumps(sent)

    for tree in (
        parse_whole_json(text.encode()),
        parse_suspicious_parts(text.encode(), sanitizer.has_sign),
    ):
        kept = json.loads(sanitizer.clean(text, tree).text)

        assert kept[beside] == ["password=[REDACTED]"]


def test_an_unstorable_character_in_a_wrapped_text_becomes_its_escape() -> None:
    result = clean(r'{"events":["{\"a\":\"x\u0000\ud800\"}"]}')

    assert json.loads(result.text) == {"events": [r'{"a":"x\u0000\ud800"}']}
    assert not result.replaced


def test_each_item_of_a_batch_is_reported_its_own_places() -> None:
    result = clean(r'{"x":"\u0000","events":[{"a":"\u0000"},{"b":1},{"c":{"d":"\u0000"}}]}')

    assert result.replaced == {None: {("x",)}, 0: {("a",)}, 2: {("c", "d")}}


def test_the_name_of_a_place_ends_after_eight_keys() -> None:
    result = clean({"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": {"j": "\0"}}}}}}}}}})

    assert result.replaced == {None: {tuple("abcdefgh")}}


@pytest.mark.parametrize(
    "text",
    [
        *('{"a":"ab3e4512"}', '{"a":1e99}', '{"id":"3f2504e0-4f89-11d3-9a0c-0305e82c3301"}'),
        *('{"a":"http://host:80/x","b":"c@d"}', '{"mapping":"pinned shipping"}', '"eyj"'),
        *('{"pipeline":1}', '"a://b"', "{}", "", '{"token_id":"t-1"}', '{"max_tokens":4096}'),
        *('"01J0000000024ZXCVBNMASDFGH"', '"00-4b7zxe-01"', '"5ZA"'),
    ],
)
def test_plainly_harmless_text_is_not_suspicious(text: str) -> None:
    assert not sanitizer.has_sign(text.encode())


def test_a_key_with_a_token_is_looked_into_unless_it_is_none() -> None:
    parts = product(
        ("", "x_", "auth-", "access_", "Bearer", "MY_"),
        ("token", "Token", "TOKEN", "tokens", "to_ken"),
        (
            "",
            "s",
            "_id",
            "Id",
            "_ids",
            "_type",
            "_count",
            "_limit",
            "_url",
            "_x",
            "_secret_id",
            "1",
        ),
    )

    missed = {
        text
        for text in (f'{{"{"".join(key)}":"value-1234"}}' for key in parts)
        if clean(text).text != text and not sanitizer.has_sign(text.encode())
    }

    assert not missed


def test_the_prefilter_splits_words_like_keys() -> None:
    for parted in ("private/key", "api[key]", "api#key", "api\tkey", "api\xa0key", "to\u212aen"):
        assert cleaned({parted: "Abcdef123456", "n": "\xe9"})[parted] == "Abcdef123456"
        assert sanitizer.texts.secrecy(parted) is SecrecyLevel.NOTHING
    for joined in ("api.key", "dd.app_key", "api - key", "api+key", "api:key"):
        assert sanitizer.has_sign(json.dumps({joined: 1}).encode())
        assert cleaned({joined: "Abcdef123456"})[joined] == "[REDACTED]"


@pytest.mark.parametrize("before", [0, 65_535 - 3, 65_536, 200_000])
def test_a_long_text_is_looked_at_in_pieces(before: int) -> None:
    long = "x" * before + "%s" + "y" * 70_000

    assert sanitizer.has_sign((long % ("1" * 200)).encode())
    assert sanitizer.has_sign((long % "pass_word").encode())
    assert sanitizer.has_sign((long % "z://u:p@h").encode())
    assert not sanitizer.has_sign((long % "z://h/u@h").encode())
    assert sanitizer.has_sign((long % "-PIN-").encode())
    assert not sanitizer.has_sign((long % "mapping").encode())
    assert sanitizer.has_sign((long % ",1e999,").encode())
    assert not sanitizer.has_sign((long % "x1e400").encode())
    assert Sanitizer(["q" * 700]).has_sign((long % ("q" * 700)).encode())
    assert not sanitizer.has_sign((long % "").encode())


def test_an_added_word_is_looked_for() -> None:
    added = Sanitizer(["Session-Key9", " - "])

    assert added.has_sign(b'{"SESSION_key3":1}')
    assert Sanitizer(["token"]).has_sign(b'{"token_id":1}')
    assert cleaned({"token_id": 5}, ("token",)) == {"token_id": "[REDACTED]"}
    assert cleaned({"mySessionKey9": 5}, ("Session-Key9",)) == {"mySessionKey9": "[REDACTED]"}


def test_neighbors_make_a_value_secret() -> None:
    sent: dict[str, Any] = {
        "env": [{"name": "DB_PASSWORD", "value": "x", "n": 1}, {"name": "A", "value": "b"}],
        "args": [["run", "--token", "x", "--n", "5"], ["mysql", "-px"], ["curl", "-u", "a:b"]],
        "jwk": {"kty": "RSA", "n": "public", "d": "x"},
        "form": {"type": "password", "value": "x"},
        "token": {"type": "token", "value": "x"},
        "pairs": [["token", "x1"], ["token", "word"], ["-x", "y"]],
        "reference": {"ref": ["--token", "x"], "list": ["--token", "x"]},
    }

    kept = cleaned({"context": sent})["context"]

    assert kept["env"] == [sent["env"][0] | {"value": "[REDACTED]"}, sent["env"][1]]
    assert kept["args"] == [
        ["run", "--token", "[REDACTED]", "--n", "5"],
        ["mysql", "-p[REDACTED]"],
        ["curl", "-u", "a:[REDACTED]"],
    ]
    assert kept["jwk"] == sent["jwk"] | {"d": "[REDACTED]"}
    assert kept["form"] == sent["form"] | {"value": "[REDACTED]"}
    assert kept["pairs"] == [["token", "[REDACTED]"], ["token", "word"], ["-x", "y"]]
    assert kept["reference"] == {
        "ref": ["--token", "x"],
        "list": ["--token", "[REDACTED]"],
    }
    assert clean({"context": kept}).text == json.dumps({"context": kept})


def test_json_in_a_string_is_read_once() -> None:
    inner = {"password": "x", "n": 1.50}

    assert cleaned({"body": json.dumps(inner)}) == {"body": '{"password":"[REDACTED]","n":1.5}'}
    for text in ('{"tokens": [ 5 ]}', '{"tokens": 5', '{"a":1,"a":{"token":1}}', "[" * 300):
        assert cleaned({"body": text}) == {"body": text}
    twice = cleaned({"body": '{"token":"x1","token":"x2"}'})
    assert "x1" not in twice["body"]
    assert "x2" not in twice["body"]


@pytest.mark.parametrize(
    "line",
    [
        '["password", "s3cretpart"]',
        '{"kind": "Secret", "data": {"key": "s3cretpart"}}',
        '{"password": {"of": {"jane": "s3cretpart"}}}',
    ],
)
def test_each_line_of_json_in_a_text_is_read(line: str) -> None:
    harmless = '{"level": "info"}\n'

    kept = cleaned({"stdout": f"ran:\n{harmless * 40}{line}\n{harmless}"})["stdout"]

    assert "s3cretpart" not in kept
    assert kept.count(harmless) == 41


def test_many_keys_are_looked_at_as_few_are() -> None:
    keys = [f"key number {number}" for number in range(200)]

    kept = cleaned({"a": dict.fromkeys([*keys, "a://u:p@h"], 1)})

    assert kept == {"a": dict.fromkeys([*keys, "a://u:[REDACTED]@h"], 1)}


@pytest.mark.parametrize(
    "beside",
    [
        {"key": "DB_PASSWORD", "value": "hunter2x"},
        {"envName": "API_TOKEN", "envValue": "hunter2x"},
        {"sensitive": True, "value": "hunter2x"},
        {"kind": "Secret", "data": {"a": "hunter2x"}},
        {"reference": {"name": "DB_PASSWORD", "value": "hunter2x"}},
    ],
)
def test_neighbours_count_at_the_top_of_an_event_and_under_reference(beside: Any) -> None:
    event = {"execution_id": 7, "event_type": "variable.set"}

    for sent in (event | beside, {"events": [event | beside]}, beside | {"records": [event]}):
        assert "hunter2x" not in clean(sent).text


def test_identity_fields_make_no_neighbor_secret() -> None:
    for key in ("name", "type", "id", "title"):
        sent = {"execution_id": 7, "event_type": "x", key: "user.password.reset", "value": "v"}

        assert cleaned(sent) == sent


@pytest.mark.parametrize(
    "members",
    [
        {"name": "DB_PASSWORD", "envName": "API_TOKEN", "value": "x1", "envValue": "x2"},
        {"kind": "Secret", "name": "DB_PASSWORD", "value": "x1", "data": "x2"},
        {"kty": "RSA", "name": "DB_PASSWORD", "value": "x1", "d": "x2"},
        {"aName": "DB_PASSWORD", "aValue": "x1", "bKey": "API_TOKEN", "bValue": "x2"},
        {"secret": True, "value": "x1", "aName": "DB_PASSWORD", "aValue": "x2"},
    ],
)
def test_every_neighbour_counts_in_any_order(members: dict[str, Any]) -> None:
    for order in (members, dict(reversed(members.items()))):
        once = cleaned({"a": order})["a"]

        assert "x1" not in once.values()
        assert "x2" not in once.values()
        assert cleaned({"a": once}) == {"a": once}


def test_a_list_is_read_as_a_command_whatever_it_begins_with() -> None:
    sent = [[8080, "--password", "hunter2x"], [{"a": 1}, "mysql", "-psecret1"], [None, 5]]

    assert cleaned(sent) == [
        [8080, "--password", "[REDACTED]"],
        [{"a": 1}, "mysql", "-p[REDACTED]"],
        [None, 5],
    ]


def test_parts_of_the_automaton_find_an_added_word_in_any_spelling() -> None:
    signs, folds, removed = Prefilter(["Tax-Number"]).search_tables()

    looked_at = b'{"TAX_number": 7}'.translate(folds, removed)

    assert any(sign in looked_at for sign in signs)
    assert not any(sign in b'{"city":7}'.translate(folds, removed) for sign in signs)

"""Counting over bytes says what a slow reading of each number says."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from hypothesis import example, given, strategies as st

from normalizer.core.decode import record_limits
from normalizer.core.decode.wire_values import RecordRejectedError
from normalizer.jsontext import (
    MAX_NUMBER_DIGITS,
    MAX_NUMBER_EXPONENT,
    NumberError,
    jsonb_number,
    parse_json_keeping_numbers,
)

wholes = st.one_of(st.integers(0, 10**12), st.integers(0, 10**305)).map(str)
fractions = st.one_of(
    st.just(""), st.text("0123456789", min_size=1, max_size=100).map(".{}".format)
)
exponents = st.one_of(st.integers(-25, 25), st.integers(-420, 420)).map(str)
numbers = st.builds(
    lambda sign, whole, fraction, e, plus, zeros, exponent: (
        f"{sign}{whole}{fraction}{e}"
        + (f"{plus}{zeros}{exponent}" if exponent[0] != "-" else f"-{zeros}{exponent[1:]}")
    ),
    st.sampled_from(["", "-"]),
    wholes,
    fractions,
    st.sampled_from("eE"),
    st.sampled_from(["", "+"]),
    st.sampled_from(["", "0", "000"]),
    exponents,
)
trees = st.recursive(
    st.one_of(numbers, st.just('"1e300, [{"'), st.just('"\\\\\\"9e9"'), st.just("null")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map(lambda items: f"[{','.join(items)}]"),
        st.lists(inner, max_size=5).map(
            lambda items: "{" + ",".join(f'"k{at}":{item}' for at, item in enumerate(items)) + "}"
        ),
    ),
    max_leaves=20,
)


def rejected(text: str) -> str:
    """By decimals: whether a number may not be at all."""
    mantissa, _, exponent = text.lower().partition("e")
    digits = sum(map(str.isdigit, mantissa))
    if digits > MAX_NUMBER_DIGITS or abs(int(exponent or 0)) > MAX_NUMBER_EXPONENT:
        return "invalid_json"
    number = Decimal(text)
    if (
        abs(number) >= Decimal("1e308")
        or len(f"{abs(number):f}".replace(".", "")) > MAX_NUMBER_DIGITS
    ):
        return "invalid_json"
    return ""


def written(text: str) -> int:
    """By decimals: how long a number is as jsonb prints it."""
    number = Decimal(text)
    return len(f"{number:f}") - (text[0] == "-" and number == 0)


def leaves(text: str) -> Iterator[str]:
    """Every number with an exponent, outside of strings."""
    inside = escaped = False
    token = ""
    for letter in text + " ":
        if inside:
            inside = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter in "+-.eE0123456789":
            token += letter
        else:
            if "e" in token.lower() and token[0] in "-0123456789":
                yield token
            token = ""
            inside = letter == '"'


@given(numbers)
@example("-0e5")
@example("-0.50e1")
@example("0.05e1")
@example("0.0001e312")
@example("1e0400")
def test_a_number_is_rejected_and_written_out_as_decimals_say(text: str) -> None:
    try:
        length: int | None = len(jsonb_number(text))
    except NumberError:
        length = None

    assert length == (None if rejected(text) else written(text))


@given(trees)
def test_a_text_is_rejected_as_decimals_say(text: str) -> None:
    tokens = list(leaves(text))
    expected = next(filter(None, map(rejected, tokens)), "")
    total = len(text)
    if not expected:
        total += sum(written(token) - len(token) for token in tokens)
        beyond = sum(abs(int(token.lower().partition("e")[2])) > 22 for token in tokens)
        expected = "too_large" if beyond > 2 or total > 500 else ""

    with_small = {"MAX_LARGE_EXPONENTS": 2, "MAX_JSONB_TEXT_BYTES": 500}
    found = ""
    kept = {name: getattr(record_limits, name) for name in with_small}
    for name, value in with_small.items():
        setattr(record_limits, name, value)
    try:
        record_limits.check_numbers(text.encode())
    except RecordRejectedError as rejection:
        found = rejection.reason
    finally:
        for name, value in kept.items():
            setattr(record_limits, name, value)

    assert found == expected


@given(st.lists(trees, max_size=12))
def test_the_items_of_a_list_are_counted(items: list[str]) -> None:
    text = f"[{' , '.join(items)}]"
    most, record_limits.MAX_EVENTS_IN_RECORD = record_limits.MAX_EVENTS_IN_RECORD, 5  # type: ignore[misc]
    try:
        record_limits.check_event_count(text.encode())
        found = False
    except RecordRejectedError:
        found = True
    finally:
        record_limits.MAX_EVENTS_IN_RECORD = most  # type: ignore[misc]

    assert found == (len(items) > 5)


@given(trees)
def test_the_depth_is_that_of_the_tree(text: str) -> None:
    opened = "[" * 200 + text + "]" * 200

    def depth(tree: Any) -> int:
        inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
        return (1 + max(map(depth, inner), default=0)) if isinstance(tree, (dict, list)) else 0

    try:
        deep = depth(parse_json_keeping_numbers(opened))
    except NumberError:
        return

    for most in (deep - 1, deep):
        try:
            record_limits.check_depth(opened.encode(), most)
            found = False
        except RecordRejectedError:
            found = True
        assert found == (deep > most)

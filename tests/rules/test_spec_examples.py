"""Tries the lists of docs/spec/wire-shapes.md: words, and sources in their order."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.redaction.secret_names import SecrecyLevel, SecretKeyWords
from normalizer.envelope import Envelope

PAGE = (Path(__file__).parents[2] / "docs" / "spec" / "wire-shapes.md").read_text()

_normalize = Normalizer().normalize


def _rule(label: str) -> str:
    """The text of a rule, up to the next."""
    text = PAGE.partition(f"**{label}.")[2]
    assert text, label
    return re.split(r'\n<a id="|\n#+ ', text)[0]


def _table(label: str) -> dict[str, list[str]]:
    """The words of a rule's table, by its first column."""
    rows = re.findall(r"^\| ([A-Z]+) \| ([^|]+) \|$", _rule(label), re.MULTILINE)
    return {status: re.findall(r"\b\w+\b", words.partition(",")[0]) for status, words in rows}


def _event(fields: dict[str, Any]) -> Envelope:
    (event,) = _normalize(RawRecord(value=json.dumps({"execution_id": 7, **fields}).encode()))
    assert isinstance(event, Envelope)
    return event


@pytest.mark.parametrize(("status", "words"), _table("S13").items())
def test_a_declared_word_is_what_the_table_says(status: str, words: list[str]) -> None:
    for word in words:
        done = _event({"event_type": "call.done", "status": word.lower()})
        other = _event({"event_type": "x", "status": word.lower()})

        assert done.status == status, word
        if word in ("NOOP", "BREAK", "PARTIAL"):
            assert other.status == word
        else:
            assert other.status == ("FAILED" if status == "ERROR" else status), word


@pytest.mark.parametrize(("status", "words"), _table("S1").items())
def test_a_name_gives_what_the_table_says(status: str, words: list[str]) -> None:
    for word in words:
        assert _event({"event_type": f"run.{word}"}).status == status, word


def test_a_weaker_word_gives_way_to_the_name_of_what_ends() -> None:
    weaker = re.findall(r"[A-Z]{5,}", _rule("S2").partition("Weaker words are")[2])

    assert len(weaker) == 8
    for word in weaker:
        assert _event({"event_type": "run.failed", "status": word}).status == "FAILED"


def _sources(label: str, after: str) -> list[str]:
    """The paths in backticks that follow a phrase of a rule."""
    found = re.findall(r"`([a-z_.]+)`", _rule(label).partition(after)[2].partition(". ")[0])
    assert len(found) > 2, label
    return found


def _at(path: str, value: object, into: dict[str, Any]) -> dict[str, Any]:
    """The fields with the value at the path."""
    *parents, name = path.split(".")
    inside = into
    for key in parents:
        inside = inside.setdefault(key, {})
    inside[name] = value
    return into


LISTS: list[tuple[str, str, str, list[Any], list[Any]]] = [
    ("N3", "in order:**", "attempts", [3, 5], [2, 4]),
    ("N4", "the first count of", "max_attempts", [3, 5], [3, 5]),
    ("K1", "is the first of", "worker_id", ["w1", "w2"], ["w1", "w2"]),
    ("K2", "as text, of", "command_id", ["c1", "c2"], ["c1", "c2"]),
    ("X2", "is the first of", "error", ["e1", "e2"], ["e1", "e2"]),
]
"""A rule, the phrase before its sources, the field, two values sent, and what each becomes."""


@pytest.mark.parametrize(("label", "after", "field", "sent", "read"), LISTS, ids=lambda one: one)
def test_sources_count_in_the_order_of_the_list(
    label: str, after: str, field: str, sent: list[Any], read: list[Any]
) -> None:
    sources = _sources(label, after)

    for stronger, weaker in pairwise(sources):
        alone = _event(_at(weaker, sent[1], {"event_type": "x"}))
        both = _event(_at(stronger, sent[0], _at(weaker, sent[1], {"event_type": "x"})))

        assert getattr(alone, field) == read[1], weaker
        assert getattr(both, field) == read[0], (stronger, weaker)


def test_the_keys_that_the_spec_names_are_secret_and_its_examples_of_others_are_not() -> None:
    secrecy = SecretKeyWords().secrecy
    secret = re.sub(r"\(.*?\)|or a key of [^(]*|ends in the word", "", _rule("R7"))
    lines = re.findall(r"^- .*?(?=^- |\n\n)", secret, re.MULTILINE | re.DOTALL)[:3]
    words = re.findall(r"[a-z_]{3,}", " ".join(line.partition(":")[2] for line in lines))
    harmless = re.findall(r"`(\w+)`", _rule("R2").partition(";")[0])

    assert len(words) > 15
    assert [word for word in words if secrecy(word) is SecrecyLevel.NOTHING and word != "or"] == []
    assert len(harmless) > 5
    assert [word for word in harmless if secrecy(word) is not SecrecyLevel.NOTHING] == []
    assert secrecy("secret_id") is SecrecyLevel.CONTENT

"""Docstrings and comments read like English: two rates per 1,000 words stay under their ceilings.

They are a thermometer, not an aim: never write a worse sentence to pass.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from typing import Final

import pytest

from tests.support.tracked_files import ROOT, tracked

CEILINGS: Final = {
    ("py", "semicolons"): 1.0,
    ("py", "headless clauses"): 0.2,
    ("sql", "semicolons"): 1.0,
    ("sql", "headless clauses"): 0.2,
}
"""The highest rate per 1,000 words, by the kind of file and the habit. They only ever fall."""

HABITS: Final = {
    "semicolons": re.compile(r";"),
    # For example "What is planned is carried out." Name the thing first: "Carries out the plan."
    "headless clauses": re.compile(
        r"(?:^|[.:;]\s)(?:What|Who|Whatever|Which of|One that|That which"
        r"|Of (?:two|several|what|those|these|a|an|the))\s[^?]*?(?:,|\bis\b|\bare\b)"
    ),
}

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z'-]*")
_CODE: Final = re.compile(r"``[^`]*``|`[^`\n]*`")
_END: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"(0-9])")


def _docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Every string that stands alone as a statement, so those below constants too."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text)), lineno=line):
                yield line, text
            case _:
                pass


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Each comment, with the lines right below it that continue it."""
    found: list[tuple[int, int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            (line, column), text = token.start, token.string.lstrip("#! ")
            if found and found[-1][:2] == (line - 1, column):
                text = f"{found.pop()[2]} {text}"
            found.append((line, column, text))
    yield from ((line, text) for line, _, text in found)


def _sql_comments(source: str) -> Iterator[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for line, text in enumerate(source.splitlines(), 1):
        if comment := re.search(r"(?:^|\s)--\s(.*)", text):
            joined = found and found[-1][0] == line - 1 and text.lstrip().startswith("--")
            found.append((line, f"{found.pop()[1]} {comment[1]}" if joined else comment[1]))
    yield from found


@cache
def _sentences(kind: str) -> list[tuple[str, str]]:
    """Each sentence, and where it ends. Questions and examples in backticks do not count."""
    found: list[tuple[str, str]] = []
    for path in tracked(f"*.{kind}"):
        source = path.read_text()
        texts = (
            [*_docstrings(source), *_comments(source)] if kind == "py" else _sql_comments(source)
        )
        for line, text in texts:
            for paragraph in _CODE.sub("x", text).split("\n\n"):
                found += [
                    (f"{path.relative_to(ROOT)}:{line}", sentence)
                    for sentence in _END.split(" ".join(paragraph.split()))
                    if not sentence.endswith("?")
                ]
    return found


@pytest.mark.parametrize(("kind", "habit"), CEILINGS)
def test_rate_of_a_habit_never_rises(kind: str, habit: str) -> None:
    sentences = _sentences(kind)
    words = sum(len(_WORD.findall(sentence)) for _, sentence in sentences)

    counted = [
        (where, sentence) for where, sentence in sentences for _ in HABITS[habit].findall(sentence)
    ]

    rate = 1000 * len(counted) / words
    report = "\n".join(f"{where}: {sentence}" for where, sentence in counted)
    assert rate <= CEILINGS[kind, habit], f"{rate:.2f} {habit} per 1,000 words:\n{report}"


@pytest.mark.parametrize(
    ("sentence", "semicolons", "headless"),
    [
        ("Reads a record; then it writes the row.", 1, 0),
        ("What is planned in the first transaction is carried out in its second.", 0, 1),
        ("Reads the rows. Of two values the better declared one stays, as declared.", 0, 1),
        ("The second transaction carries out the plan made in the first.", 0, 0),
    ],
)
def test_a_habit_is_counted(sentence: str, semicolons: int, headless: int) -> None:
    assert len(HABITS["semicolons"].findall(sentence)) == semicolons
    assert len(HABITS["headless clauses"].findall(sentence)) == headless

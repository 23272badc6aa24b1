"""How the pages read: few semicolons, no headless clauses, and a limit on all words."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.tracked_files import ROOT, tracked

PAGES: Final = sorted(page for page in tracked("*.md") if page.name != "CHANGELOG.md")

MOST_WORDS: Final = 65_000
SEMICOLONS: Final = 2.0
HEADLESS: Final = 0.3
"""The most for 1,000 words of a page."""

_CODE: Final = re.compile(r"```[\s\S]*?```|`[^`\n]*`|^[ \t]{4,}\S.*$", re.MULTILINE)
_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z'\u2019-]*")
_HEADLESS: Final = re.compile(
    r"(?:^|[.;:]\s+)(?:What|Who|Of (?:two|several|what|a|an|the)|One that|That which)"
    r"\s[^.?!]*?(?:,|\bis\b|\bare\b)",
    re.MULTILINE,
)
_WANTED: Final = {
    "you": (re.compile(r"\b(?:you|your)\b", re.IGNORECASE), 12),
    "contractions": (
        re.compile(r"\b\w+(?:n't|'re|'ll|'ve)\b|\b(?:it|that|there|here)'s\b", re.IGNORECASE),
        3,
    ),
    "examples": (re.compile(r"\b(?:such as|for example|for instance)", re.IGNORECASE), 1),
}
"""Printed for Start, Operate, and Produce together, with the least that we aim at."""


def _prose(page: Path) -> str:
    return _LINK.sub(r"\1", _CODE.sub(" ", page.read_text()))


def _rate(pattern: re.Pattern[str], text: str) -> float:
    return 1000 * len(pattern.findall(text)) / max(len(_WORD.findall(text)), 1)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_has_few_semicolons_and_no_headless_clauses(page: Path) -> None:
    text = _prose(page)

    headless = [found[0] for found in _HEADLESS.finditer(text)]
    assert _rate(re.compile(";"), text) <= SEMICOLONS, "split the sentence"
    assert 1000 * len(headless) / max(len(_WORD.findall(text)), 1) <= HEADLESS, headless


def test_all_pages_together_stay_below_the_limit_of_words() -> None:
    words = {page: len(page.read_text().split()) for page in PAGES}

    longest = sorted(words, key=lambda page: -words[page])[:5]
    assert sum(words.values()) <= MOST_WORDS, [str(page.relative_to(ROOT)) for page in longest]


def test_pages_for_readers_speak_to_them(capsys: pytest.CaptureFixture[str]) -> None:
    """The rates are proxies, so they are printed and fail nothing."""
    navigation = (ROOT / "mkdocs.yml").read_text()
    sections = navigation.partition("  - Start:\n")[2].partition("  - Read:\n")[0]
    pages = [ROOT / "docs" / name for name in re.findall(r"\S+\.md", sections)]

    text = "\n".join(_prose(page) for page in [ROOT / "README.md", *pages] if page.is_file())

    assert len(_WORD.findall(text)) > 10_000
    with capsys.disabled():
        for name, (pattern, least) in _WANTED.items():
            rate = f"{_rate(pattern, text):.1f}"
            print(f"\n{name}: {rate} for 1,000 words, aim: {least}", end="")  # noqa: T201 - for a reader

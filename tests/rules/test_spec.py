"""Every rule that code, tests and pages cite is in docs/."""

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = sorted((ROOT / "docs" / "spec").glob("*.md"))

CITED = re.compile(r"(?<![\w/.])(docs/[\w/.-]+\.md)((?:(?:, | and |, and )?#[\w-]+)+)")
"""A page and one anchor or several: `docs/spec/wire-shapes.md#n1, #n2 and #s6`."""


def _anchors(page: Path) -> list[str]:
    """The anchors of a page that are written out, and those that GitHub makes of headings."""
    text = page.read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings]
    return [*re.findall(r'<a id="([\w-]+)"></a>', text), *slugs]


def _citations() -> list[tuple[str, str, str]]:
    """File, page and anchor of each citation in the tree, its own lines joined."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True)
    found = []
    for name in listed.stdout.decode().splitlines():
        if not (ROOT / name).is_file():
            continue
        text = (ROOT / name).read_bytes().decode(errors="replace")
        text = re.sub(r",\s*\n[ \t#*-]*(?=#\w)", ", ", text)
        for page, anchors in CITED.findall(text):
            found += [(name, page, anchor) for anchor in re.findall(r"#([\w-]+)", anchors)]
    return found


def test_every_cited_anchor_is_on_its_page() -> None:
    pages = {page for _, page, _ in _citations()}
    anchors = {page: set(_anchors(ROOT / page)) for page in pages if (ROOT / page).exists()}

    missing = [
        f"{name}: {page}#{anchor}"
        for name, page, anchor in _citations()
        if anchor not in anchors.get(page, ())
    ]

    assert missing == []


@pytest.mark.parametrize("page", SPEC, ids=lambda page: page.name)
def test_no_anchor_is_on_a_page_twice(page: Path) -> None:
    assert [anchor for anchor, times in Counter(_anchors(page)).items() if times > 1] == []


@pytest.mark.parametrize("page", SPEC, ids=lambda page: page.name)
def test_every_rule_has_the_anchor_of_its_label(page: Path) -> None:
    """`<a id="n1"></a>`, and on the next line `**N1.`."""
    text = page.read_text()

    anchored = re.findall(r'^<a id="([a-z][0-9]+)"></a>\n\*\*([A-Z][0-9]+)\.', text, re.MULTILINE)
    labels = re.findall(r"^\*\*([A-Z][0-9]+)\.", text, re.MULTILINE)

    assert [label for _, label in anchored] == labels
    assert [anchor.upper() for anchor, _ in anchored] == labels

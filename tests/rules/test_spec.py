"""The spec in docs/spec agrees with the code, and every rule that is cited is on its page."""

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.rules.event_types import EVENT_TYPE_SPELLINGS
from normalizer.core.shapes import SHAPES
from normalizer.envelope import COERCION_RULES, Envelope, to_canonical
from normalizer.errors import REJECTION_REASONS
from tests.support.doc_pages import blocks

ROOT = Path(__file__).parents[2]
SPEC = sorted((ROOT / "docs" / "spec").glob("*.md"))
RULE_PAGES = {f"docs/spec/{page.name}" for page in SPEC}

CITED = re.compile(r"(?<![\w/.])(docs/[\w/.-]+\.md)((?:(?:, | and |, and )?#[\w-]+)+)")
"""A page and one anchor or several: `docs/spec/wire-shapes.md#n1, #n2 and #s6`."""
INLINE = re.compile(r"(?<![\w&/])#([a-z][0-9]{1,2})\b")
"""An anchor without its page, in a module that names the page elsewhere: `(#n1)`."""
LABELS = re.compile(r"([A-Z][0-9]+(?:, [A-Z][0-9]+)*): ")
"""The rules that a vector is about, at the beginning of its `about`."""


@cache
def _tracked() -> dict[str, str]:
    """The text of every file in the tree, by name, with wrapped lists of anchors joined."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True)
    texts = {
        name: (ROOT / name).read_bytes().decode(errors="replace")
        for name in listed.stdout.decode().splitlines()
        if (ROOT / name).is_file()
    }
    return {name: re.sub(r",\s*\n[ \t#*/!-]*(?=#\w)", ", ", text) for name, text in texts.items()}


@cache
def _anchors(page: str) -> list[str]:
    """The anchors of a page that are written out, and those that GitHub makes of headings."""
    if not (ROOT / page).exists():
        return []
    text = (ROOT / page).read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings]
    return [*re.findall(r'<a id="([\w-]+)"></a>', text), *slugs]


def _citations() -> Iterator[tuple[str, str, str]]:
    """File, page and anchor of each citation that names its page."""
    for name, text in _tracked().items():
        for page, anchors in CITED.findall(text):
            for anchor in re.findall(r"#([\w-]+)", anchors):
                yield name, page, anchor


def _inline_citations() -> Iterator[tuple[str, str]]:
    """File and anchor of each citation of a rule without its page."""
    for name, text in _tracked().items():
        is_code = name.endswith((".py", ".rs")) and name != "tests/rules/test_spec.py"
        if is_code and "docs/spec/" in text:
            for anchor in INLINE.findall(text):
                yield name, anchor


def _vectors() -> Iterator[tuple[str, str]]:
    """Name and rule of each vector that says which rules it is about."""
    for name, text in _tracked().items():
        if re.fullmatch(r"(tests|contract)/vectors/\w+\.ndjson", name):
            for line in filter(None, text.split("\n")):
                vector = json.loads(line)
                if labels := LABELS.match(vector.get("about", "")):
                    for label in labels[1].split(", "):
                        yield f"{name} {vector.get('id')}", label.lower()


def _rules() -> set[str]:
    """The anchors of all rules."""
    anchors = (anchor for page in RULE_PAGES for anchor in _anchors(page))
    return {anchor for anchor in anchors if re.fullmatch("[a-z][0-9]+", anchor)}


def test_every_cited_anchor_is_on_its_page() -> None:
    missing = [
        f"{name}: {page}#{anchor}"
        for name, page, anchor in _citations()
        if anchor not in _anchors(page)
    ]
    unknown = [
        f"{name}: #{anchor}" for name, anchor in _inline_citations() if anchor not in _rules()
    ]

    assert missing + unknown == []


def test_every_rule_that_a_vector_is_about_is_in_the_spec() -> None:
    assert [f"{name}: {rule}" for name, rule in _vectors() if rule not in _rules()] == []


def test_every_rule_is_cited_by_a_module_or_a_test() -> None:
    cited = {anchor for name, page, anchor in _citations() if page in RULE_PAGES and _is_code(name)}
    cited |= {anchor for _, anchor in _inline_citations()} | {rule for _, rule in _vectors()}

    assert sorted(_rules() - cited) == []


def test_rules_in_rust_cite_what_their_python_counterparts_cite() -> None:
    cited: dict[str, set[str]] = {}
    for name, _, anchor in _citations():
        cited.setdefault(name, set()).add(anchor)
    for name, anchor in _inline_citations():
        cited.setdefault(name, set()).add(anchor)
    modules = {Path(name).stem: name for name in cited if name.startswith("native/lane/src/rules/")}

    assert len(modules) >= 7
    for stem, module in modules.items():
        assert cited[f"normalizer/core/rules/{stem}.py"] <= cited[module], module


def _is_code(name: str) -> bool:
    return name.endswith((".py", ".sql", ".rs", ".js"))


@pytest.mark.parametrize("page", SPEC, ids=lambda page: page.name)
def test_every_rule_has_the_anchor_of_its_label(page: Path) -> None:
    """`<a id="n1"></a>`, and on the next line `**N1.`."""
    text = page.read_text()

    anchored = re.findall(r'^<a id="([a-z][0-9]+)"></a>\n\*\*([A-Z][0-9]+)\.', text, re.MULTILINE)
    labels = re.findall(r"^\*\*([A-Z][0-9]+)\.", text, re.MULTILINE)

    assert [label for _, label in anchored] == labels
    assert [anchor.upper() for anchor, _ in anchored] == labels


def _rows(page: str, rule: str) -> list[list[str]]:
    """The cells of the table under a rule or a heading, without its head."""
    text = (ROOT / "docs" / "spec" / page).read_text()
    _, _, after = text.partition(rule)
    table = re.search(r"^\|.*?(?=\n[^|]|\Z)", after, re.MULTILINE | re.DOTALL)
    assert table is not None
    rows = [re.split(r"(?<!\\) *\| *", line.strip("| ")) for line in table[0].splitlines()]
    return rows[2:]


def test_the_tables_of_the_spec_are_those_of_the_code() -> None:
    spellings = [(row[0], *row[1].split()) for row in _rows("wire-shapes.md", "**E2.")[:-1]]
    coercions = [row[0].strip("`") for row in _rows("wire-shapes.md", "**V2.")]
    reasons = [row[0].strip("`") for row in _rows("wire-shapes.md", "**L2.")]
    shapes = {row[0].strip("`") for row in _rows("wire-shapes.md", "**D2.")}

    assert spellings == list(EVENT_TYPE_SPELLINGS)
    assert coercions == list(COERCION_RULES)
    assert reasons == list(REJECTION_REASONS)
    assert shapes == set(SHAPES)


def _example() -> Envelope:
    (record,) = blocks("spec/envelope.md", "json record")
    (event,) = Normalizer().normalize(
        RawRecord(
            value=record.text.strip().encode(),
            topic="noetl.events",
            partition=3,
            offset=1042,
            headers=(("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),),
            recorded_ms=1_783_674_000_100,
        )
    )
    assert isinstance(event, Envelope)
    return event


def _written(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value.decode() if isinstance(value, bytes) else str(value)


def test_the_fields_of_the_envelope_are_those_of_the_struct() -> None:
    rows = _rows("envelope.md", "## Fields")
    hints = get_type_hints(Envelope)
    event = _example()
    types = {int: "int", str: "text", bytes: "JSON", datetime: "time", float: "seconds"}

    assert [row[0] for row in rows] == list(Envelope.__struct_fields__)
    for field, kind, null, *_, example in rows:
        of = [
            one
            for one in types
            if one is hints[field] or one in getattr(hints[field], "__args__", ())
        ]
        may_be_null = type(None) in getattr(hints[field], "__args__", ())
        assert any(kind.startswith((types[one], "three", "bits")) for one in of), field
        assert (null != "no") == may_be_null, field
        assert example.strip("`") == _written(getattr(event, field)), field


def test_the_line_of_the_envelope_page_is_that_of_its_record() -> None:
    (line,) = blocks("spec/envelope.md", "json line")

    assert to_canonical(_example()).decode() == line.text.strip()

"""Words of this project's former dialect stay out, and names say what a function computes."""

import ast
import re
from typing import Final

from tests.support.tracked_files import ROOT, tracked

CHECKED: Final = (
    *("normalizer", "projector", "simulator", "migrations", "bench", "deploy", "contract", "docs"),
    *("release", "docs_site"),
    *("tests", ":(exclude)tests/specs", ":(exclude)tests/rules/test_names.py"),
    *("README.md", "SECURITY.md", "CONTRIBUTING.md"),
    *("Makefile", "Dockerfile", "compose.yaml", ".ci"),
)
"""Folders and files in which no retired word may occur. CHANGELOG.md has them as former names."""

RETIRED: Final = {
    "anew": "again, recreated, rebuilt",
    "asked": "requested, queried; spec of a job",
    "beat": "heartbeat",
    "by commas": "comma-separated",
    "fate": "outcome",
    "fates": "outcomes",
    "for ever": "indefinitely, endlessly",
    "give_up": "abort",
    "giving up": "abort",
    "hang_up": "terminate",
    "is away": "is unreachable",
    "job_refusals": "job_rejections",
    "mend": "repair, fix",
    "mended": "recovered, repaired",
    "mends": "repairs",
    "mistake of ours": "our bug",
    "playback": "file replay",
    "radar": "drift detector",
    "refused_topic": "rejected_topic",
    "settle": "reconcile",
    "settled": "write plan; complete",
    "so many": "a number, with a unit",
    "stretch": "range",
    "stretches": "ranges",
    "telling": "report",
    "tellings": "reports, merged records",
    "told": "reported",
    "whoever": "the owner, the caller",
}
"""A retired word, and what to write for it."""

_BINARY: Final = {".webp", ".ico", ".svg"}


def test_no_retired_word_is_used() -> None:
    """In names too: `told_at` and `ToldAt` have the word, `untold` has not."""
    whole = re.compile(rf"(?<![a-z])({'|'.join(RETIRED)})(?![a-z])", re.IGNORECASE)
    camel = re.compile(rf"(?<![A-Z])({'|'.join(map(str.capitalize, RETIRED))})(?![a-z])")

    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}; write: {RETIRED[match[1].lower()]}"
        for path in tracked(*CHECKED)
        if path.suffix not in _BINARY
        if whole.search(text := path.read_text()) or camel.search(text)
        for number, line in enumerate(text.splitlines(), 1)
        if (match := whole.search(line) or camel.search(line))
    ]

    assert found == []


def test_a_name_says_what_it_computes_and_not_only_of_what() -> None:
    """`start_of_hour` says it, but `hour_of` and `_of_call` leave it open."""
    created = re.compile(r"^create .*(?:function|view|table) \w+\.(\w+)", re.MULTILINE)
    bare = re.compile(r"_?(of_\w+|(?!is_|as_)[a-z]+_of)", re.IGNORECASE)
    names = [
        (path, node.name)
        for path in tracked("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("test_")
    ] + [
        (path, name)
        for path in tracked("migrations/*.sql")
        for name in created.findall(path.read_text())
    ]

    found = [f"{path.relative_to(ROOT)}: {name}" for path, name in names if bare.fullmatch(name)]

    assert len(names) > 2000
    assert found == []

"""Everything that docs/guarantees.md names exists: each promise has a mechanism and tests."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "guarantees.md").read_text()
_, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
TESTS: Final = {
    node.name
    for path in (ROOT / "tests").rglob("test_*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.splitlines()[0])
def test_a_promise_names_its_mechanism_and_tests_that_exist(section: str) -> None:
    mechanism = re.search(r"^- \*\*Rests on\*\*: (\S.*)$", section, re.MULTILINE)
    tests = re.search(r"^- \*\*Tests\*\*: (.*?)(?=^- |\Z)", section, re.MULTILINE | re.DOTALL)

    assert mechanism is not None
    assert tests is not None
    named = re.findall(r"`(test_\w+)`", tests[1])
    assert named
    assert [name for name in named if name not in TESTS] == []


def test_every_module_that_the_page_names_is_there() -> None:
    for name in re.findall(r"`([\w/]+\.(?:py|sql))`", PAGE):
        path = ROOT / name if "/" in name else ROOT / "migrations" / name
        assert path.is_file(), name

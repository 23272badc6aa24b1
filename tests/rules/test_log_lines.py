"""docs/operations.md says of every warning and error that the programs log what to do about it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "operations.md").read_text()


@cache
def _nodes() -> tuple[ast.AST, ...]:
    paths = [*(ROOT / "normalizer").rglob("*.py"), *(ROOT / "projector").rglob("*.py")]
    return tuple(node for path in paths for node in ast.walk(ast.parse(path.read_text())))


def _logged() -> Iterator[str]:
    """The name of each event, where it is logged from warning on."""
    for node in _nodes():
        match node:
            case ast.Call(
                func=ast.Attribute(attr="warning" | "error" | "critical" | "log_mistake")
                | ast.Name(id="log_mistake"),
                args=[ast.Constant(value=str(event)), *_],
            ):
                yield event
            case _:
                pass


def test_the_page_has_a_row_for_every_warning_and_error() -> None:
    table = PAGE.partition("\n## Log lines\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+`) \| \S", table, re.MULTILINE)

    listed = [event for row in rows for event in re.findall(r"`(\w+)`", row)]

    logged = set(_logged())
    assert len(logged) > 30
    assert sorted(listed) == sorted(logged)


def test_a_text_that_the_page_quotes_is_one_that_is_logged() -> None:
    constants = [node.value for node in _nodes() if isinstance(node, ast.Constant)]
    texts = [value for value in constants if isinstance(value, str)]

    quoted = re.findall(r'"`([^`]+)`"', PAGE)

    assert len(quoted) > 5
    for words in quoted:
        assert any(words in text for text in texts), words

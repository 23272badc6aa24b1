"""docs/operate says what to do about every warning and error that is logged.

And about every reason of /readyz.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from tests.support.messages import KINDS, messages

ROOT: Final = Path(__file__).parents[2]
OPERATE: Final = ROOT / "docs" / "operate"


@cache
def _nodes() -> tuple[ast.AST, ...]:
    paths = [*(ROOT / "normalizer").rglob("*.py"), *(ROOT / "projector").rglob("*.py")]
    return tuple(node for path in paths for node in ast.walk(ast.parse(path.read_text())))


WARNINGS: Final = ("warning", "error", "critical", "log_unexpected_error")


def test_the_list_of_messages_has_each_kind_and_no_sql() -> None:
    found = messages()

    assert {message.kind for message in found} == set(KINDS)
    assert not [message for message in found if " from normalizer." in message.text]


def _logged(*levels: str) -> Iterator[str]:
    """The name of each event that's logged at one of these levels."""
    for node in _nodes():
        match node:
            case ast.Call(
                func=ast.Attribute(attr=level) | ast.Name(id=level),
                args=[ast.Constant(value=str(event)), *_],
            ) if level in levels:
                yield event
            case _:
                pass


def test_every_event_says_its_area_and_what_happened() -> None:
    for event in _logged("debug", "info", *WARNINGS):
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", event), event


def test_the_page_has_a_row_for_every_warning_and_error() -> None:
    table = (OPERATE / "log-lines.md").read_text()
    rows = re.findall(r"^\| (`[^|]+`) \| \S", table, re.MULTILINE)

    listed = [event for row in rows for event in re.findall(r"`([\w.]+)`", row)]

    logged = set(_logged(*WARNINGS))
    assert len(logged) > 30
    assert sorted(listed) == sorted(logged)


def _reasons() -> Iterator[str]:
    """Each reason of /readyz, `...` where it names something."""
    for module in ("monitoring/monitoring_server.py", "consumer/chunk_normalizer.py"):
        tree = ast.parse((ROOT / "normalizer" / module).read_text())
        for node in ast.walk(tree):
            match node:
                case ast.Yield(value=ast.Constant(value=str(reason))):
                    yield reason
                case (
                    ast.Yield(value=ast.JoinedStr(values=parts))
                    | ast.Return(value=ast.JoinedStr(values=parts))
                ):
                    yield "".join(
                        str(part.value) if isinstance(part, ast.Constant) else "..."
                        for part in parts
                    )
                case _:
                    pass


def test_the_page_has_a_row_for_every_reason_of_readyz() -> None:
    table = (OPERATE / "README.md").read_text().partition("\n## Something is wrong\n")[2]
    cells = re.findall(r"^\| ([^|]+) \| \S", table, re.MULTILINE)
    quoted = [words for cell in cells for words in re.findall(r"`([^`]+)`", cell)]
    shown = [re.sub(r"\b[NM]\b", "...", words).rstrip(" .") for words in quoted]

    reasons = list(_reasons())

    assert len(reasons) > 12
    for reason in reasons:
        assert any(reason.startswith(words) for words in shown), reason


def test_a_text_that_the_page_quotes_is_one_that_is_logged() -> None:
    constants = [node.value for node in _nodes() if isinstance(node, ast.Constant)]
    texts = [value for value in constants if isinstance(value, str)]

    pages = "\n".join(page.read_text() for page in OPERATE.glob("*.md"))
    quoted = re.findall(r'"`([^`]+)`"', pages)

    assert len(quoted) > 5
    for words in quoted:
        assert any(words in text for text in texts), words

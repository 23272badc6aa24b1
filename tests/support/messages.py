"""Lists every text that the code shows to an operator: `python -m tests.support.messages`.

Read the list aloud from top to bottom before a release. It has every string of two words or more
that isn't a docstring, SQL, or a pattern, so no message can be missing. `{}` stands for a value.
"""

import ast
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

import yaml

ROOT: Final = Path(__file__).parents[2]

KINDS: Final = ("error", "log", "help", "other", "sql", "alert")

_SQL: Final = re.compile(
    r"^\s*(select|insert|update|delete|with|from|where|and|or|order|group|set|create|drop|alter"
    r"|begin|lock|case|coalesce|values|union|join|left|cross|exists|max|min|count|sum|array_agg"
    r"|declare|fetch|copy|grant|reset|not|on conflict|returning|limit|having|round)\b[\s(]"
)
_SQL_LATER: Final = re.compile(
    r"\n\s+(from|where|and|order by|group by|join|set|end)\b", re.IGNORECASE
)
_WORDS: Final = re.compile(r"[A-Za-z]{2,}[,:.]? +[A-Za-z'{`(]")
_LEVELS: Final = {"debug", "info", "warning", "error", "critical", "log_unexpected_error"}


class Message(NamedTuple):
    """A text, and where it is."""

    kind: str
    where: str
    text: str


def messages() -> list[Message]:
    """Return every message once, sorted by kind and file."""
    found = [*_in_python(), *_in_sql(), *_in_alerts()]
    order = {kind: number for number, kind in enumerate(KINDS)}
    return sorted(set(found), key=lambda message: (order[message.kind], message.where))


def _in_python() -> Iterator[Message]:
    for package in ("normalizer", "projector"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            for kind, line, text in _texts(ast.parse(path.read_text())):
                if _WORDS.search(text) and not _SQL.match(text) and not _SQL_LATER.search(text):
                    yield Message(kind, f"{name}:{line:03}", " ".join(text.split()))


def _texts(node: ast.AST, kind: str = "other") -> Iterator[tuple[str, int, str]]:
    """Yield each string below a node, with the kind of the call or raise around it."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return  # a docstring
        case ast.JoinedStr(values=parts):
            texts = [str(one.value) if isinstance(one, ast.Constant) else "{}" for one in parts]
            yield kind, node.lineno, "".join(texts)
            return
        case ast.Constant(value=str(text)):
            yield kind, node.lineno, text
            return
        case _:
            pass
    for child in ast.iter_child_nodes(node):
        yield from _texts(child, _kind(node) or kind)


def _kind(node: ast.AST) -> str | None:
    match node:
        case ast.Raise():
            return "error"
        case ast.keyword(arg="help"):
            return "help"
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
            return "log" if name in _LEVELS else "error" if name.endswith("Error") else None
        case _:
            return None


def _in_sql() -> Iterator[Message]:
    for path in sorted((ROOT / "migrations").rglob("*.sql")):
        source = path.read_text()
        for found in re.finditer(r"raise (?:exception|warning|notice)\s+((?:'[^']*'\s*)+)", source):
            line = source.count("\n", 0, found.start()) + 1
            text = "".join(re.findall(r"'([^']*)'", found[1]))
            yield Message("sql", f"{path.relative_to(ROOT)}:{line:03}", text)


def _in_alerts() -> Iterator[Message]:
    path = ROOT / "deploy" / "prometheus" / "alerts.yml"
    for group in yaml.safe_load(path.read_text())["groups"]:
        for rule in group["rules"]:
            for key, text in rule.get("annotations", {}).items():
                if key in {"summary", "description"}:
                    yield Message("alert", f"{rule['alert']}:{key}", " ".join(text.split()))


def main() -> None:
    """Print the list."""
    for kind, group in groupby(messages(), key=lambda message: message.kind):
        print(f"\n## {kind}\n")  # noqa: T201 - for a reader
        for _, where, text in group:
            print(f"{where}  {text}")  # noqa: T201 - for a reader


if __name__ == "__main__":
    main()

"""Counts how many small mutants of a fixed sample the tests kill: in a commit, and in a later one.

`python -m tests.promises.sample COMMIT` runs the tests of COMMIT on each mutant, for hours. It
appends each answer to `.noetl/mutants-COMMIT.ndjson`, so you can stop it and start it again.
MUTANTS=40 runs the first 40 of the sample of 400 only.
"""

import ast
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).parents[2]
DRAWN_FROM: Final = "7ad1d7b8"
"""The commit before tests were cut: the sample is drawn from its source."""
SEED: Final = 46
PYTHON, SQL = 300, 100
"""Mutants of each language."""
KILLERS: Final = (
    ("pytest", "-x", "-q", "-n", "auto", "tests/unit", "tests/property"),
    (
        "tests.support.one_kafka",
        ".venv/bin/pytest",
        "-x",
        "-q",
        "-n",
        "4",
        "tests/integration",
        "tests/chaos",
    ),
)
"""Modules to run in turn until one of their tests fails.

tests/rules compares texts, so it would kill a mutant for its spelling.
"""
LONGEST_S: Final = 2_400

_SWAPS: Final = dict(
    pair.split("|")
    for pair in (
        *("==|!=", "!=|==", "<|<=", "<=|<", ">|>=", ">=|>", "in|not in", "not in|in"),
        *("is|is not", "is not|is", "and|or", "or|and", "+|-", "-|+", "True|False", "False|True"),
    )
)
_SQL_SWAPS: Final = dict(
    pair.split("|")
    for pair in (
        *("and|or", "or|and", "least|greatest", "greatest|least", "min|max", "max|min"),
        *("is null|is not null", "is not null|is null", "exists|not exists", "true|false"),
        *("false|true", "<|<=", "<=|<", ">|>=", ">=|>", "=|<>", "<>|=", "+|-", "left join|join"),
    )
)
_SQL_TOKENS: Final = re.compile(
    r"--.*|'[^']*'|<=|>=|<>|(?<![:=<>-])[<>=](?![=>])|\+"
    r"|\b(?:is not null|is null|left join|and|or|least|greatest|min|max|exists|true|false)\b"
)

_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", re.MULTILINE)


class Site(msgspec.Struct, frozen=True):
    """One change of one line: the `number`th line of a file that has exactly this text."""

    path: str
    line: str
    number: int
    begin: int
    end: int
    new: str


class Answer(msgspec.Struct, frozen=True):
    """Return the first test that fails twice with the mutant, or none if it survives."""

    site: Site
    killed_by: str | None
    is_there: bool = True


def commit_now() -> str:
    """The commit that is checked out."""
    return _git("rev-parse", "--short", "HEAD").strip()


def drawn() -> list[Site]:
    """The sample: the same sites each time."""
    tree = ("normalizer", "projector", "migrations")
    listed = _git("ls-tree", "-r", "--name-only", DRAWN_FROM, *tree).splitlines()
    python, sql = (
        [
            site
            for name in listed
            if re.fullmatch(files, name)
            for site in _sites(name, _git("show", f"{DRAWN_FROM}:{name}"))
        ]
        for files in (r".*\.py", r"migrations/\d+_\w+\.sql")
    )
    draw = random.Random(SEED)
    sample = draw.sample(python, PYTHON) + draw.sample(sql, SQL)
    draw.shuffle(sample)
    return sample


def mutated(text: str, site: Site) -> str | None:
    """Return the file with the mutant in it, or None if the line isn't there."""
    lines = text.split("\n")
    same = [number for number, line in enumerate(lines) if line == site.line]
    if site.number >= len(same):
        return None
    lines[same[site.number]] = site.line[: site.begin] + site.new + site.line[site.end :]
    return "\n".join(lines)


def answers(commit: str, sites: list[Site]) -> Iterator[Answer]:
    """Run this commit's tests on each mutant that no earlier run has answered."""
    kept = ROOT / ".noetl" / f"mutants-{commit}.ndjson"
    kept.parent.mkdir(exist_ok=True)
    kept.touch()
    known = {one.site: one for one in msgspec.json.Decoder(Answer).decode_lines(kept.read_bytes())}
    with tempfile.TemporaryDirectory(prefix="noetl-mutants-") as folder:
        tree = Path(folder)
        subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, tree], check=True)
        subprocess.run(["git", "checkout", "--quiet", commit], cwd=tree, check=True)
        (tree / ".venv").symlink_to(ROOT / ".venv")
        suites = KILLERS if any(site not in known for site in sites) else ()
        broken = [f"--deselect={name}" for words in suites for name in _failing(tree, words)]
        for site in sites:
            answer = known.get(site) or _answer(tree, site, broken)
            if site not in known:
                with kept.open("ab") as file:
                    file.write(msgspec.json.encode(answer) + b"\n")
            yield answer


def _failing(tree: Path, words: Sequence[str]) -> list[str]:
    """The tests that fail without a mutant: they say nothing about one."""
    return _FAILED.findall(_run(tree, *(word for word in words if word != "-x")) or "")


def _answer(tree: Path, site: Site, broken: Sequence[str]) -> Answer:
    path = _path_now(tree, site)
    before = path.read_text() if path.exists() else ""
    changed = mutated(before, site)
    if changed is None:
        return Answer(site, None, is_there=False)
    path.write_text(changed)
    try:
        return Answer(
            site, next(filter(None, (_killer(tree, *words, *broken) for words in KILLERS)), None)
        )
    finally:
        path.write_text(before)


def _path_now(tree: Path, site: Site) -> Path:
    """The file of the site. A line of SQL may have moved to a file that alone has it."""
    path = tree / site.path
    if path.exists() or path.suffix != ".sql":
        return path
    holders = [
        holder
        for holder in (tree / "migrations").rglob("*.sql")
        if site.line in holder.read_text().split("\n")
    ]
    return holders[0] if len(holders) == 1 else path


def _killer(tree: Path, module: str, *words: str) -> str | None:
    """The test that fails, in all of them and then alone. A run that hangs is a death as well."""
    output = _run(tree, module, *words)
    if output is None:
        return "hangs"
    if failed := _FAILED.search(output):
        again = _run(tree, "pytest", "-q", "-p", "no:xdist", failed[1])
        return failed[1] if again is None or _FAILED.search(again) else None
    return None


def _run(tree: Path, module: str, *words: str) -> str | None:
    try:
        return subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=LONGEST_S,
        ).stdout
    except subprocess.TimeoutExpired:
        return None


def _sites(name: str, text: str) -> Iterator[Site]:
    lines = text.split("\n")
    for at, begin, end, new in sorted(
        _sql_mutations(lines) if name.endswith(".sql") else set(_python_mutations(text, lines))
    ):
        yield Site(name, lines[at], lines[:at].count(lines[at]), begin, end, new)


def _sql_mutations(lines: list[str]) -> Iterator[tuple[int, int, int, str]]:
    for at, line in enumerate(lines):
        for token in _SQL_TOKENS.finditer(line):
            if new := _SQL_SWAPS.get(token[0]):
                yield at, *token.span(), new


def _python_mutations(text: str, lines: list[str]) -> Iterator[tuple[int, int, int, str]]:
    """Operators between two operands, `not`, numbers, and what a function returns."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Compare(left=left, comparators=[right]) | ast.BinOp(left=left, right=right):
                yield from _between(lines, left, right)
            case ast.BoolOp(values=[left, right, *_]):
                yield from _between(lines, left, right)
            case ast.UnaryOp(op=ast.Not(), operand=operand) if operand.lineno == node.lineno:
                yield node.lineno - 1, node.col_offset, operand.col_offset, ""
            case ast.Constant(value=bool() | int() as value):
                begin, old = node.col_offset, repr(value)
                if lines[node.lineno - 1].startswith(old, begin):
                    new = _SWAPS.get(old) or f"{value + 1}"
                    yield node.lineno - 1, begin, begin + len(old), new
            case ast.Return(value=ast.expr(end_col_offset=int(end)) as value):
                if value.lineno == value.end_lineno:
                    yield node.lineno - 1, value.col_offset, end, "None"
            case _:
                pass


def _between(
    lines: list[str], left: ast.expr, right: ast.expr
) -> Iterator[tuple[int, int, int, str]]:
    if left.end_lineno != right.lineno:
        return
    at, begin, end = right.lineno - 1, left.end_col_offset or 0, right.col_offset
    operator = lines[at][begin:end]
    if new := _SWAPS.get(operator.strip()):
        yield at, begin, end, operator.replace(operator.strip(), new)


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout


def main() -> None:
    """Answer for one commit, and say each answer."""
    killed = there = 0
    for answer in answers(sys.argv[1], drawn()[: int(os.environ.get("MUTANTS", "400"))]):
        there += answer.is_there
        killed += answer.killed_by is not None
        outcome = answer.killed_by or "lives"
        print(f"{answer.site.path}: {answer.site.line.strip()}: {outcome}", flush=True)  # noqa: T201 - a tool
    print(f"{killed} of {there} killed")  # noqa: T201 - a tool


if __name__ == "__main__":
    main()

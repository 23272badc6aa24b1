"""Adds the figures of a run to docs/results.csv, with date, commit, and command."""

import argparse
import csv
import io
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

PrintLine = Callable[[str], None]
"""Prints a line of progress, which pytest does not capture."""

_ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = _ROOT / "docs" / "results.csv"
"""It has a row for each figure. docs/results.md lists the runs."""


_DEFECTS: Final = "make soak ARGS=\"-k 'heavy_record_of_full or thousand_random_ids'\""


def head_commit(root: Path) -> str:
    """The commit that is checked out, and whether its files are changed, figures excepted."""

    def git(*arguments: str) -> str:
        answer = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=root,
        )
        return answer.stdout.strip()

    changed = git(
        *("status", "--porcelain", "--untracked-files=no"), "--", ".", ":(exclude)docs/results.csv"
    )
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+changes" if changed else "")


_COMMIT: Final = head_commit(_ROOT)
"""At the import: during a long run others may commit."""


def option_parser(text: str | None, *, results: bool = False) -> argparse.ArgumentParser:
    """A parser whose help shows the text as it's written, perhaps with the option to add rows."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if results:
        parser.add_argument("--results", action="store_true", help="add rows to docs/results.csv")
    return parser


def command_line() -> str:
    """The command that started this module, with all its options."""
    spec = sys.modules["__main__"].__spec__
    assert spec
    return shlex.join(("python", "-m", spec.name.removesuffix(".__main__"), *sys.argv[1:]))


def write_results(
    name: str,
    command: str,
    figures: Mapping[str, object],
    *,
    columns: Sequence[str] = ("",),
) -> None:
    """Add a row per figure, and remove all rows that the last run of this name added.

    If there are several columns, a figure's value has a cell for each, separated by ` | `. An empty
    cell is left out.
    """
    rows = []
    for what, value in figures.items():
        cells = str(value).split(" | ")
        named = zip(columns, cells, strict=True)
        text = "; ".join(f"{column}: {cell}" if column else cell for column, cell in named if cell)
        rows.append(_row(f"{name}: {what}", text, command))
    _replace(rows, lambda figure: figure.startswith(f"{name}: "))


def write_row(name: str, key: str, value: str, command: str) -> None:
    """Add the row of one figure, in place of the one that the last run of this key added."""
    _replace([_row(f"{name}: {key}", value, command)], lambda figure: figure == f"{name}: {key}")


def write_defect(done: str, seen: str, *, seconds: float, peak_mb: float) -> None:
    """Add the row of a former defect that was reproduced at full size."""
    value = f"{seen}; seconds: {seconds:.0f}; peak MB: {peak_mb:.0f}"
    write_row("defects", done, value, _DEFECTS)


def _row(figure: str, value: str, command: str) -> list[str]:
    return [figure, value, f"{datetime.now(UTC):%Y-%m-%d %H:%M}", _COMMIT, command]


def _replace(rows: list[list[str]], is_old: Callable[[str], bool]) -> None:
    """Put the rows where the first old one stood, or at the end."""
    before = list(csv.reader(RESULTS.read_text().splitlines()))
    old = [number for number, row in enumerate(before) if is_old(row[0])]
    at = old[0] if old else len(before)
    kept = [row for number, row in enumerate(before) if number not in old]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([*kept[:at], *rows, *kept[at:]])
    RESULTS.write_text(text.getvalue())

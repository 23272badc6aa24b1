"""Adds the figures of a run to the one table of docs/results.md, with date, commit, and command."""

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
RESULTS: Final = _ROOT / "docs" / "results.md"
"""Its last table has a row per figure."""


def commit_of(root: Path) -> str:
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
        *("status", "--porcelain", "--untracked-files=no"), "--", ".", ":(exclude)docs/results.md"
    )
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+changes" if changed else "")


_COMMIT: Final = commit_of(_ROOT)
"""At the import: during a long run others may commit."""


def command_line() -> str:
    """What started this module, with all its options."""
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
    """Add a row per figure, in place of all rows that the last run of this name added.

    With several columns the value of a figure has a cell for each, separated by ` | `. An empty
    cell is left out.
    """
    rows = []
    for what, value in figures.items():
        cells = str(value).split(" | ")
        named = zip(columns, cells, strict=True)
        text = "; ".join(f"{column}: {cell}" if column else cell for column, cell in named if cell)
        rows.append(_row(f"{name}: {what}", text, command))
    _replace(f"{name}: ", rows)


def write_row(name: str, key: str, value: str, command: str) -> None:
    """Add the row of one figure, in place of the one that the last run of this key added."""
    _replace(f"{name}: {key} |", [_row(f"{name}: {key}", value, command)])


def write_defect(done: str, seen: str, *, seconds: float, peak_mb: float) -> None:
    """Add the row of a former defect that was reproduced at full size."""
    value = f"{seen}; seconds: {seconds:.0f}; peak MB: {peak_mb:.0f}"
    write_row("defects", done, value, 'make soak ARGS="-k test_defects"')


def _row(figure: str, value: str, command: str) -> str:
    date = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    return f"| {' | '.join((figure, value, date, _COMMIT, f'`{command}`'))} |"


def _replace(beginning: str, rows: Sequence[str]) -> None:
    """Put the rows where the first one stood that begins like this, or at the end."""
    lines = RESULTS.read_text().splitlines()
    old = [number for number, line in enumerate(lines) if line.startswith(f"| {beginning}")]
    at = old[0] if old else len(lines)
    kept = [line for number, line in enumerate(lines) if number not in old]
    RESULTS.write_text("\n".join([*kept[:at], *rows, *kept[at:], ""]))

"""Writes figures of a run to docs/results/NAME.md, with date, commit, machine and versions."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PrintLine = Callable[[str], None]
"""Prints a line of progress, which pytest does not capture."""

_ROOT = Path(__file__).parents[2]
_FOLDER = _ROOT / "docs" / "results"
_PACKAGES = ("aiokafka", "asyncpg", "msgspec", "uvloop")


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
        *("status", "--porcelain", "--untracked-files=no"), "--", ".", ":(exclude)docs/results"
    )
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+changes" if changed else "")


_COMMIT = commit_of(_ROOT)
"""At the import: during a long run others may commit."""


def command_line() -> str:
    """What started this module, with all its options."""
    spec = sys.modules["__main__"].__spec__
    assert spec
    return shlex.join(("python", "-m", spec.name.removesuffix(".__main__"), *sys.argv[1:]))


def write_results(
    name: str,
    title: str,
    command: str,
    figures: Mapping[str, object],
    servers: str,
    *,
    columns: Sequence[str] = ("", ""),
    after: Sequence[str] = (),
) -> None:
    """Write one page of figures; a new run replaces it. Figures of more columns hold `|`.

    `after`: lines that follow the table, such as charts.
    """
    packages = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    python = f"Python {platform.python_version()}"
    machine = f"{os.cpu_count()} cores, {_memory_gb()} GB, {platform.system()}"
    lines = [
        f"# {title}",
        "",
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"- commit: {_COMMIT}",
        f"- machine: {machine}; load average {os.getloadavg()[2]:.1f}",
        f"- versions: {python}, {packages}; {servers}",
        f"- command: `{command}`",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {what} | {value} |" for what, value in figures.items()),
        "",
        *after,
    ]
    _FOLDER.mkdir(parents=True, exist_ok=True)
    (_FOLDER / f"{name}.md").write_text("\n".join(lines))


def write_row(
    page: str, title: str, columns: Sequence[str], key: str, values: Sequence[object]
) -> None:
    """Write one row of a page that several runs fill; a new run of the same key replaces it.

    Each row has its date and commit. Columns: those of the key, then those of the values.
    """
    path = _FOLDER / f"{page}.md"
    head = [
        f"# {title}",
        "",
        f"| {' | '.join((*columns, 'date', 'commit'))} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    kept = path.read_text().splitlines()[len(head) :] if path.exists() else []
    cells = (
        key,
        *values,
        f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        _COMMIT,
    )
    row = f"| {' | '.join(map(str, cells))} |"
    rows = [row if line.startswith(f"| {key} |") else line for line in kept]
    path.write_text("\n".join([*head, *rows, *([] if row in rows else [row]), ""]))


def write_defect(done: str, seen: str, *, seconds: float, peak_mb: float) -> None:
    """Write the row of a former defect that was reproduced at full size."""
    write_row(
        "defects",
        "What once broke a promise, done again",
        ("what was done", "what was seen", "seconds", "peak MB"),
        done,
        (seen, round(seconds), round(peak_mb)),
    )


def _memory_gb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**3

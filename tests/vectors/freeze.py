"""Write the vectors' rows: `python -m tests.vectors.freeze` says what would change, and stops.

With `--write` it writes. A person reads the difference before it is committed: a row that changes
is a rule that changed its answer.
"""

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.vectors.corpus import (
    CONTRACT,
    WITH_ROWS,
    contract_lines_with_rows_today,
    kept_here,
    lines_with_rows_today,
    rows_today,
    stored_rows,
    vectors_path,
)


def main(arguments: list[str]) -> int:
    """Print the difference of the stored rows and today's. Returns 1 if there is one."""
    write = arguments == ["--write"]
    if arguments and not write:
        sys.stderr.write("usage: python -m tests.vectors.freeze [--write]\n")
        return 2
    differs = False
    for name in WITH_ROWS:
        path = vectors_path(name)
        stored, today = stored_rows(name), rows_today(name)
        if stored == today:
            continue
        differs = True
        for line in difflib.unified_diff(stored, today, str(path), "today", n=0, lineterm=""):
            sys.stdout.write(line + "\n")
        if write and kept_here(name):
            _write(path, lines_with_rows_today(name))
    if write and differs:
        _write(CONTRACT / "records.ndjson", contract_lines_with_rows_today())
    if differs and not write:
        sys.stdout.write("Nothing was written: read the difference, then say --write.\n")
    return int(differs and not write)


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

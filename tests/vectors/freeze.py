"""Write the vectors' rows: `python -m tests.vectors.freeze` says what would change, and stops.

With `--write` it writes. A person reads the difference before it is committed: a row that changes
is a rule that changed its answer.
"""

import difflib
import sys

from tests.vectors.corpus import (
    FOLDER,
    WITH_ROWS,
    lines_with_rows_today,
    rows_today,
    stored_rows,
)


def main(arguments: list[str]) -> int:
    """Print the difference of the stored rows and today's. Returns 1 if there is one."""
    write = arguments == ["--write"]
    if arguments and not write:
        sys.stderr.write("usage: python -m tests.vectors.freeze [--write]\n")
        return 2
    differs = False
    for name in WITH_ROWS:
        path = FOLDER / f"{name}.ndjson"
        stored, today = stored_rows(name), rows_today(name)
        if stored == today:
            continue
        differs = True
        for line in difflib.unified_diff(stored, today, str(path), "today", n=0, lineterm=""):
            sys.stdout.write(line + "\n")
        if write:
            text = "".join(line + "\n" for line in lines_with_rows_today(name))
            path.write_text(text, encoding="utf-8")
    if differs and not write:
        sys.stdout.write("Nothing was written: read the difference, then say --write.\n")
    return int(differs and not write)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""Write the second layer: `python -m tests.vectors.freeze` says what would change, and stops.

With `--write` it writes. The frozen files are read by a person before they are committed; a line
that changes there is a rule that changed its answer.
"""

import difflib
import sys

from tests.vectors.corpus import FROZEN, SINGLE, frozen_lines


def main(arguments: list[str]) -> int:
    """Print the difference of what is frozen and what the core says today; 1 if there is one."""
    write = arguments == ["--write"]
    if arguments and not write:
        sys.stderr.write("usage: python -m tests.vectors.freeze [--write]\n")
        return 2
    differs = False
    for name in (*SINGLE, "groups", "joins"):
        path = FROZEN / f"{name}.ndjson"
        frozen = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        today = list(frozen_lines(name))
        if frozen == today:
            continue
        differs = True
        for line in difflib.unified_diff(frozen, today, str(path), "today", n=0, lineterm=""):
            sys.stdout.write(line + "\n")
        if write:
            FROZEN.mkdir(exist_ok=True)
            path.write_text("".join(line + "\n" for line in today), encoding="utf-8")
    if differs and not write:
        sys.stdout.write("Nothing was written: read the difference, then say --write.\n")
    return int(differs and not write)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

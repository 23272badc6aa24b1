"""Writes JSON with each value on one line where it fits."""

import json
import sys
from pathlib import Path
from typing import Any, Final

WIDTH: Final = 140


def short_json(value: Any, *, indent: int = 0, before: int = 0) -> str:
    """Return `value` as JSON whose lines are at most WIDTH long, unless one string is longer.

    `before` is the number of characters in front of it on its first line.
    """
    text = json.dumps(value, ensure_ascii=False)
    if not value or not isinstance(value, dict | list) or indent + before + len(text) < WIDTH:
        return text
    named = value.items() if isinstance(value, dict) else (("", one) for one in value)
    parts = []
    for name, one in named:
        key = f"{json.dumps(name, ensure_ascii=False)}: " if isinstance(value, dict) else ""
        parts.append(" " * (indent + 1) + key + short_json(one, indent=indent + 1, before=len(key)))
    opened, closed = "{}" if isinstance(value, dict) else "[]"
    return f"{opened}\n" + ",\n".join(parts) + f"\n{' ' * indent}{closed}"


def main() -> None:
    """Rewrite the named files."""
    for path in map(Path, sys.argv[1:]):
        path.write_text(short_json(json.loads(path.read_text())) + "\n")


if __name__ == "__main__":
    main()

"""Finds the files of the file source."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from normalizer.errors import FatalError

STANDARD_INPUT: Final = Path("-")


def list_files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files, and those in folders without hidden ones; in the order of their names."""
    for path in paths:
        if path.is_dir():
            yield from sorted(
                found
                for found in path.rglob("*")
                if found.is_file()
                and not any(part.startswith(".") for part in found.relative_to(path).parts)
            )
        elif path.is_file():
            yield path
        elif path.exists() or path == STANDARD_INPUT:
            raise FatalError(
                f"{path}: a stream can be read only once, and a run must be able to go on: "
                "save it as a file first"
            )
        else:
            raise FatalError(f"{path}: no such file or folder")

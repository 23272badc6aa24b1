"""Finds the files of the file source."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

from normalizer.errors import FatalError

STANDARD_INPUT: Final = Path("-")


def list_files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files, and those in folders without hidden ones; in the order of their names."""
    for path in paths:
        if path.is_dir():
            yield from sorted(_files_in(path))
        elif path.is_file():
            yield path
        elif path.exists() or path == STANDARD_INPUT:
            raise FatalError(
                f"{path}: a stream can be read only once, and a run must be able to go on: "
                "save it as a file first"
            )
        else:
            raise FatalError(f"{path}: no such file or folder")


def _files_in(folder: Path) -> Iterator[Path]:
    """Every regular file in it that is not hidden. A folder that cannot be read is no empty one."""
    for place, folders, names in os.walk(folder, onerror=_fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = (Path(place, name) for name in names if not name.startswith("."))
        yield from (file for file in files if file.is_file())


def _fail(error: OSError) -> NoReturn:
    raise FatalError(f"{error.filename}: {error.strerror}") from error

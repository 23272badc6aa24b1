"""Lists the files that a backfill of files and folders reads.

The order is the same in each run. Each skipped file is logged, so that you can see why its events
are missing.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

from normalizer.errors import ConfigurationError, FatalError
from normalizer.runtime.logging_setup import get_logger

_log: Final = get_logger()


def list_files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files, and the visible files in the folders, sorted by name within each folder."""
    for path in paths:
        if path.is_dir():
            yield from sorted(_files_in(path))
        elif path.is_file():
            yield path
        elif path.exists() or path == Path("-"):
            raise ConfigurationError(
                f"{path}: a stream can't be backfilled, because a run that was interrupted has to "
                "read it again. Save it as a file first"
            )
        else:
            raise ConfigurationError(f"{path}: no such file or folder")


def _files_in(folder: Path) -> Iterator[Path]:
    """Yield every regular file in the folder and in folders inside it, except hidden files.

    Links to folders aren't followed, because a link may lead back to its own folder, or to files
    that are read anyway. A warning names everything that's skipped. Raises FatalError if a folder
    can't be read.
    """
    for place, folders, names in os.walk(folder, onerror=_fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for link in (Path(place, name) for name in folders):
            if link.is_symlink():
                _pass_over(link, "it is a link to a folder, so name it too if you want it read")
        for file in (Path(place, name) for name in names if not name.startswith(".")):
            if file.is_file():
                yield file
            else:
                _pass_over(file, "it is not a regular file, or a link to something else")


def _pass_over(path: Path, why: str) -> None:
    _log.warning("file.skipped", file=str(path), why=why)


def _fail(error: OSError) -> NoReturn:
    raise FatalError(f"{error.filename}: {error.strerror}") from error

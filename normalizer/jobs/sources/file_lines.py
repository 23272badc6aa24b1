"""Finds files, and tells whole lines in them, for the file source."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from normalizer.errors import FatalError
from normalizer.files.unpack import Unpacked

STANDARD_INPUT: Final = Path("-")


class EndDetector:
    """A stream that remembers whether its end was reached."""

    def __init__(self, stream: Unpacked) -> None:
        self._stream = stream
        self.ended = False

    def read1(self, size: int, /) -> bytes:
        """Read from the stream."""
        chunk = self._stream.read1(size)
        self.ended = not chunk
        return chunk


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


def is_whole(line: bytes) -> bool:
    """Whether a line without its newline is one complete JSON value, as far as a line shows."""
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True

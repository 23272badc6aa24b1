"""Writes events to archive files before they are deleted: canonical lines, compressed with zstd.

A file is complete and on disk before its events are deleted. If the process dies in between, the
next run writes the events again, possibly to another file. `normalizer backfill` reads any number
of these files back and stores an event once, also if it is in two files.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg
import zstandard

from normalizer.envelope import Envelope, to_canonical
from normalizer.errors import FatalError

_LEVEL: Final = 3
_JSON: Final = frozenset({"context", "result", "meta", "extra", "coercions", "headers"})

COLUMNS: Final = ", ".join(
    f"{name}::text" if name in _JSON else name for name in Envelope.__struct_fields__
)
"""The select list of the rows that `write` takes."""


class ArchiveFolder:
    """A folder of files that are named by their first and last event_id; created if missing."""

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FatalError(f"{path}: {error.strerror}") from error
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def write(self, rows: Sequence[asyncpg.Record]) -> Path:
        """Write rows (ascending by event_id) to a new file, which is synced to disk on return.

        No existing file is overwritten. Raises FatalError if the file cannot be written, or if a
        row that somebody inserted holds what no line can.
        """
        lines = b"".join(map(_line, rows))
        packed = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(lines)
        least, greatest = rows[0]["event_id"], rows[-1]["event_id"]
        name = f"events_{least:019}_{greatest:019}"
        try:
            return self._put(name, packed)
        except OSError as error:
            raise FatalError(f"{self._path / name}: {error.strerror}") from error

    def _put(self, name: str, packed: bytes) -> Path:
        unfinished = self._path / f".{name}.{os.getpid()}.unfinished"
        try:
            with unfinished.open("wb") as file:
                file.write(packed)
                file.flush()
                os.fsync(file.fileno())
            number, path = 1, self._path / f"{name}.ndjson.zst"
            while path.exists():
                number += 1
                path = self._path / f"{name}_{number}.ndjson.zst"
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        folder = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return path


def _line(row: asyncpg.Record) -> bytes:
    try:
        return to_canonical(_envelope(row)) + b"\n"
    except ValueError as error:
        raise FatalError(f"event {row['event_id']}: {error}") from error


def _envelope(row: asyncpg.Record) -> Envelope:
    columns: dict[str, Any] = {
        name: value.encode() if name in _JSON and value is not None else value
        for name, value in row.items()
    }
    return Envelope(**columns)

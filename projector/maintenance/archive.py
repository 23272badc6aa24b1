"""Writes events to archive files before they are deleted: canonical lines, compressed with zstd.

A file is complete and on disk before its events are deleted, and gets its name when they are, right
before that is committed: deleting takes seconds, and may fail. If the process dies in between, the
next run writes the events again, possibly to another file. `normalizer backfill` reads any number
of these files back and stores an event once, also if it is in two files.

Several databases may share a folder. Name and first line of a file are a hash of its lines, so only
a file of the same lines has the same name, and files that share their first events still begin with
different bytes. A backfill knows a file by its first bytes, and its records by file and line.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import asyncpg
import zstandard

from normalizer.envelope import to_canonical
from normalizer.errors import FatalError
from projector.event_rows import envelope_of

_LEVEL: Final = 3
_KILLED_AFTER_S: Final = 86_400.0
"""Deleting the events of one file takes a minute or two: then nobody finishes it any more."""
_BLANKS: Final = bytes.maketrans(b"01", b" \t")


class ArchiveFolder:
    """A folder of files named by their first and last event_id and a hash; created if missing."""

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FatalError(f"{path}: {error.strerror}") from error
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def remove_unfinished(self) -> None:
        """Remove what killed processes left. Raises FatalError if that fails."""
        with self._says("*.unfinished"):
            for path in self._path.glob(".events_*.unfinished"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < time.time() - _KILLED_AFTER_S:
                        path.unlink()

    @contextmanager
    def write(self, rows: Sequence[asyncpg.Record]) -> Iterator[None]:
        """Write rows, ascending by event_id, to a new file, which gets its name after the block.

        The file is synced before the block, and nothing of it stays if the block fails. Raises
        FatalError if the file cannot be written, or if a row that somebody inserted holds what no
        line can.
        """
        lines = b"".join(map(_line, rows))
        digest = hashlib.blake2b(lines, digest_size=8).digest()
        packed = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(
            _blank_line(digest) + lines
        )
        least, greatest = rows[0]["event_id"], rows[-1]["event_id"]
        name = f"events_{least:019}_{greatest:019}_{digest.hex()}.ndjson.zst"
        # Not the number of this process: in each of two containers it is 1.
        unfinished = self._path / f".{name}.{secrets.token_hex(8)}.unfinished"
        try:
            with self._says(name):
                _write_synced(unfinished, packed)
            yield
            with self._says(name):
                unfinished.replace(self._path / name)
                _sync_folder(self._path)
        finally:
            with self._says(name):
                unfinished.unlink(missing_ok=True)

    @contextmanager
    def _says(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FatalError(f"{self._path / name}: {error.strerror}") from error


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _blank_line(digest: bytes) -> bytes:
    """The bits of the digest as spaces and tabs: a backfill, like any reader of JSON, skips it."""
    return f"{int.from_bytes(digest):064b}\n".encode().translate(_BLANKS)


def _line(row: asyncpg.Record) -> bytes:
    try:
        return to_canonical(envelope_of(row)) + b"\n"
    except ValueError as error:
        raise FatalError(f"event {row['event_id']}: {error}") from error

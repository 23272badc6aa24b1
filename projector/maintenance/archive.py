"""Writes events to compressed files before retention deletes them (`maintain --archive`).

A file holds canonical events as JSON lines, compressed with zstd, and `normalizer backfill` can
read it back. The transaction that deletes the events writes the file and syncs it to disk before it
commits, so no event is deleted that isn't in a file. Until the commit is certain, the file's name
begins with a dot and contains the id of the transaction. If the process dies before it can rename
the file, a later run asks PostgreSQL whether that transaction committed.

Several databases may write to one folder. A backfill identifies a file by its first bytes, so each
file begins with a blank line whose spaces and tabs encode the server, the database, and the
transaction.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple, Self

import asyncpg
import zstandard

from normalizer.envelope import to_canonical
from normalizer.errors import FatalError
from projector.event_rows import to_envelope

_LEVEL: Final = 3
_BLANKS: Final = bytes.maketrans(b"01", b" \t")
_INCOMPLETE: Final = "events"
_UNFINISHED: Final = re.compile(r"\.(.*)\.(\d+)-(\d+)-(\d+)\.unfinished")


class _Transaction(NamedTuple):
    """The transaction that deletes the events of a file."""

    server: int
    database: int
    number: int


class ArchiveFolder:
    """The folder of the archive files, which is created if it's missing.

    The name of a file consists of the smallest and the greatest event_id in it, and a hash of the
    transaction that wrote it.
    """

    def __init__(self, path: Path) -> None:
        with _translated(path):
            path.mkdir(parents=True, exist_ok=True)
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    async def resolve_unfinished(self, connection: asyncpg.Connection) -> None:
        """Give files of committed transactions their final names, and remove those of aborted ones.

        PostgreSQL can't always tell the outcome of a transaction: it forgets very old ones, and a
        restored database doesn't know those from after its backup. In these cases a complete file
        gets its final name, and an incomplete one is removed. A complete file does no harm even if
        its events weren't deleted, because a backfill skips events that are still stored. Raises
        FatalError if a file can't be renamed or removed.
        """
        here = [str(one) for one in await connection.fetchrow(_HERE)]
        for path in sorted(self._path.glob(".*.unfinished")):
            match = _UNFINISHED.fullmatch(path.name)
            if not match or [match[2], match[3]] != here:
                continue
            status = None
            with suppress(asyncpg.InvalidParameterValueError):  # it's in the future
                status = await connection.fetchval(_STATUS, match[4])
            with _translated(path):
                if status == "aborted" or (status is None and match[1] == _INCOMPLETE):
                    path.unlink()
                elif status != "in progress":
                    path.replace(self._path / match[1])
                    _sync_folder(self._path)

    async def begin_file(self, connection: asyncpg.Connection) -> "ArchiveFile":
        """Begin the file of the connection's transaction. Raises FatalError if that fails."""
        server, database = await connection.fetchrow(_HERE)
        number = int(await connection.fetchval("select pg_current_xact_id()::text"))
        return ArchiveFile(self._path, _Transaction(server, database, number))


class ArchiveFile:
    """The file of one transaction, which `ArchiveFolder.finish` names after the commit."""

    def __init__(self, folder: Path, transaction: _Transaction) -> None:
        self._folder = folder
        self._ending = f".{'-'.join(map(str, transaction))}.unfinished"
        self._path = folder / f".{_INCOMPLETE}{self._ending}"
        self._digest = hashlib.blake2b(repr(transaction).encode(), digest_size=8).digest()
        self._ids: tuple[int, int] | None = None
        self._packer = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
        with _translated(self._path):
            self._file: BinaryIO = self._path.open("wb")

    def __enter__(self) -> Self:
        self._write(_blank_line(self._digest))
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, rows: Sequence[asyncpg.Record]) -> None:
        """Add the lines of these rows.

        Raises FatalError if they can't be written, or if somebody inserted a row that no line can
        hold.
        """
        self._write(b"".join(map(_line, rows)))
        ids = [*(self._ids or ()), *(row["event_id"] for row in rows)]
        self._ids = min(ids), max(ids)

    def sync_before_commit(self) -> None:
        """Sync the whole file to disk, still unfinished. Raises FatalError if that fails."""
        assert self._ids
        name = f"events_{self._ids[0]:019}_{self._ids[1]:019}_{self._digest.hex()}.ndjson.zst"
        with _translated(self._path):
            self._file.write(self._packer.flush())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._path.replace(self._folder / f".{name}{self._ending}")
            _sync_folder(self._folder)

    def _write(self, lines: bytes) -> None:
        with _translated(self._path):
            self._file.write(self._packer.compress(lines))


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Raise FatalError with the path and the system's words for a file error."""
    try:
        yield
    except OSError as error:
        raise FatalError(f"{path}: {error.strerror}") from error


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _blank_line(digest: bytes) -> bytes:
    """Return the bits of the digest as spaces and tabs, which any reader of JSON skips."""
    return f"{int.from_bytes(digest):064b}\n".encode().translate(_BLANKS)


def _line(row: asyncpg.Record) -> bytes:
    try:
        return to_canonical(to_envelope(row)) + b"\n"
    except ValueError as error:
        raise FatalError(f"event {row['event_id']} can't be archived: {error}") from error


_HERE: Final = """
    select system_identifier,
           (select oid::bigint from pg_database where datname = current_database())
    from   pg_control_system()
"""

_STATUS: Final = "select pg_xact_status($1::text::xid8)"

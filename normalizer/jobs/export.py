"""Exports stored events as canonical lines, with the same bytes every time.

Events are read in the order of their ids, one page per statement. So no snapshot stays open that
would hold back VACUUM, and after an outage only one page has to be read again. The lines are the
same as those of `normalizer normalize`, so a backfill can read the file.
"""

import fcntl
import os
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Protocol, Self

import asyncpg
import msgspec
import zstandard

from normalizer.envelope import Envelope, to_canonical
from normalizer.errors import FatalError
from normalizer.jobs.engine.id_ranges import (
    ALL_IDS,
    BELOW_ALL_IDS,
    IdRange,
    IdRangeWalk,
    read_pages,
)
from normalizer.runtime.progress import JobProgress
from normalizer.store.retrying_session import RetryingSession
from normalizer.store.session import READ_ONLY_TRANSACTION_SETTINGS
from normalizer.store.stored_rows import ENVELOPE_COLUMNS_SQL

ROWS_PER_CHUNK: Final = 5_000
_ZSTD_LEVEL: Final = 3
_PIECE_BYTES: Final = 1 << 20
"""Compress in pieces of this size. The compressed bytes depend on where the input is cut, so
they're the same for the same lines."""


class ExportSelection(msgspec.Struct, frozen=True, kw_only=True):
    """Which events to export. None everywhere means all of them.

    Times are compared with created_at.
    """

    from_time: datetime | None = None
    to_time: datetime | None = None
    executions: tuple[int, ...] = ()


_EVENTS_BETWEEN: Final = f"""
    select   {ENVELOPE_COLUMNS_SQL}
    from     normalizer.events
    where    event_id between $1::bigint and $2::bigint
    and      ($3::timestamptz is null or created_at >= $3::timestamptz)
    and      ($4::timestamptz is null or created_at < $4::timestamptz)
    order by event_id
"""  # noqa: S608 - column names of this project

_EVENTS_OF_EXECUTIONS: Final = f"""
    select   {ENVELOPE_COLUMNS_SQL}
    from     normalizer.events
    where    event_id between $1::bigint and $2::bigint
    and      execution_id = any((select $3::bigint[])::bigint[])
    and      ($4::timestamptz is null or created_at >= $4::timestamptz)
    and      ($5::timestamptz is null or created_at < $5::timestamptz)
    order by event_id
"""  # noqa: S608 - column names of this project


class Export:
    """One export. `run` returns the number of events written, and `work_progress` how far it is."""

    def __init__(self, database_url: str, selection: ExportSelection) -> None:
        self._selection = selection
        self._times: tuple[object, ...] = (selection.from_time, selection.to_time)
        self._session = RetryingSession(
            database_url,
            application_name="normalizer export",
            settings=READ_ONLY_TRANSACTION_SETTINGS,
        )
        self._events = 0
        self._share: Callable[[], float | None] = lambda: None

    def work_progress(self) -> JobProgress:
        """Return how many events were written, and the share of rows read so far."""
        return JobProgress("events", self._events, self._share())

    async def run(
        self,
        write: Callable[[bytes], object],
        to_line: Callable[[Envelope], bytes] = to_canonical,
    ) -> int:
        """Write the line of every event, and return the number of events.

        Raises StoreUnavailableError, FatalError, and the errors of `write`. One cause of a
        FatalError is a row that can't be written as a canonical line, because somebody inserted it
        with SQL.
        """
        try:
            async for rows in self._pages():
                write(b"".join(_line(Envelope(**row), to_line) for row in rows))
                self._events += len(rows)
        finally:
            self._session.terminate()
        return self._events

    async def _pages(self) -> AsyncIterator[Sequence[asyncpg.Record]]:
        statement, values = _EVENTS_BETWEEN, self._times
        if self._selection.executions:
            statement = _EVENTS_OF_EXECUTIONS
            values = (sorted(self._selection.executions), *self._times)
        async for ids in self._id_ranges():
            async for rows in read_pages(self._session, statement, ids, values):
                yield rows

    async def _id_ranges(self) -> AsyncIterator[IdRange]:
        """Yield ranges that cover all ids.

        If executions are given, it yields a single range, because an index finds their rows.
        """
        if self._selection.executions:
            yield ALL_IDS
            return
        walk = IdRangeWalk(self._session.fetch, ROWS_PER_CHUNK)
        self._share = walk.progress_ratio
        async for ids in walk.ranges_above(BELOW_ALL_IDS):
            yield ids


def _line(event: Envelope, to_line: Callable[[Envelope], bytes]) -> bytes:
    try:
        return to_line(event) + b"\n"
    except ValueError as error:
        raise FatalError(f"event {event.event_id}: {error}") from error


class _Packer(Protocol):
    """Compresses a stream. `flush` ends it."""

    def compress(self, content: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    """Leaves a stream uncompressed."""

    def compress(self, content: bytes, /) -> bytes:
        return content

    def flush(self) -> bytes:
        return b""


def _zstd() -> _Packer:
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()


def _gzip() -> _Packer:
    # Use zlib, because the module `gzip` writes the current time into the file's header. zlib
    # writes neither a name nor a time, so the same lines always give the same bytes.
    return zlib.compressobj(wbits=16 + zlib.MAX_WBITS)


_COMPRESSORS: Final[Mapping[str, Callable[[], _Packer]]] = {".zst": _zstd, ".gz": _gzip}
"""The compression for each ending of a file name."""


class ExportFile:
    """A file that gets its name only when it's complete, i.e. when its `with` block ends.

    Until then, the file has a hidden name in the same folder, and this process locks it. If a
    killed process left an unfinished file there, it's overwritten.

    A file is compressed with zstd if its name ends in .zst, and with gzip if its name ends in .gz.
    Its bytes depend only on the lines, and not on how the lines are divided between calls of
    `write`.

        with ExportFile(Path("events.ndjson.zst")) as file:
            await Export(database_url, ExportSelection()).run(file.write)
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.parent / f".{path.name}.unfinished"
        self._file: BinaryIO | None = None
        self._packer = _COMPRESSORS.get(path.suffix.lower(), _Plain)()
        self._waiting = bytearray()

    def __enter__(self) -> Self:
        if self._path.exists() and not self._path.is_file():
            raise FatalError(
                f"{self._path} can't be the output, because it is not a regular file and the "
                "export would replace it. Choose another path"
            )
        try:
            self._file = self._opened()
        except BlockingIOError as error:
            raise FatalError(
                f"{self._path} can't be the output, because another export is writing this file. "
                "Wait for that export, or choose another path"
            ) from error
        except OSError as error:
            raise FatalError(f"{self._path}: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._file
        is_complete = False
        # The lock ends when the file is closed. Until then no other process writes this file.
        with self._file:
            try:
                if error is None:
                    self._put(self._packer.compress(bytes(self._waiting)) + self._packer.flush())
                    self._file.flush()
                    os.fsync(self._file.fileno())
                    self._unfinished.replace(self._path)
                    is_complete = True
            except OSError as failure:
                raise FatalError(f"{self._path}: {failure.strerror}") from failure
            finally:
                # Once the file is complete, don't remove the temporary file, because another export
                # may have created a new one with the same name.
                if not is_complete:
                    self._unfinished.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        """Open the unfinished file, empty and locked.

        Raises BlockingIOError if another process is writing the file. Between our opening the file
        and locking it, another process may complete or remove it. The file that we've locked then
        no longer has that name, so we open a new one.
        """
        while True:
            file = self._unfinished.open("ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_named(file):
                    file.truncate(0)
                    return file
            except BaseException:
                file.close()
                raise
            file.close()

    def _is_named(self, file: BinaryIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._unfinished.stat())
        except FileNotFoundError:
            return False

    def write(self, content: bytes) -> None:
        """Write. Raises FatalError if that fails."""
        self._waiting += content
        while len(self._waiting) >= _PIECE_BYTES:
            part = bytes(self._waiting[:_PIECE_BYTES])
            del self._waiting[:_PIECE_BYTES]
            self._put(self._packer.compress(part))

    def _put(self, packed: bytes) -> None:
        assert self._file
        try:
            self._file.write(packed)
        except OSError as error:
            raise FatalError(f"{self._path}: {error.strerror}") from error

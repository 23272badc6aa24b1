"""Reads the lines and rows of files and folders as records, each with its coordinates.

A file has neither a topic nor offsets, so this module makes them up. Its topic is a hash of its
first 64 KiB, which stays the same if the file is renamed, compressed in another way, or grows. The
offset of a line is its number, counted from 1. So a second backfill of the file stores nothing
twice. A line that `kcat -J` has printed keeps its own topic, partition, offset, and time. Source:
docs/spec/wire-shapes.md#g6.
"""

import asyncio
import os
from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from operator import attrgetter
from pathlib import Path
from typing import Final, Literal, NoReturn, Self

import msgspec
from msgspec.structs import replace

from normalizer.core.batch import holes_between
from normalizer.core.raw_record import RawRecord
from normalizer.errors import ConfigurationError, FatalError
from normalizer.files.api_dumps import is_api_dump, read_api_dump_rows
from normalizer.files.decompressed_file import DecompressedFile, read_file_beginning
from normalizer.files.record_lines import (
    TOPIC_HASH_INPUT_BYTES,
    looks_like_complete_json,
    parse_record_lines,
    read_line_chunks,
    topic_from_content_hash,
)
from normalizer.jobs.sources.field_defaults import FieldDefaults
from normalizer.jobs.sources.job_source import PartKey, ReadPosition, SourcePage, SourcePart
from normalizer.runtime.logging_setup import get_logger

FileFormat = Literal["auto", "lines", "dump"]

_LONGEST_LINE_BYTES: Final = 1 << 26
"""The most bytes in a line. kcat escapes the value, which can make 8 MiB six times as long."""


ResolveIncarnation = Callable[[str, int], int]
"""Returns the incarnation for records of a topic and partition."""

_Numbered = tuple[Sequence[int], list[RawRecord]]
"""The numbers of lines or rows, ascending, and their records."""

_log: Final = get_logger()


class _File(msgspec.Struct, frozen=True, kw_only=True):
    path: Path
    topic: str
    packed_bytes: int
    dump: bool

    @property
    def key(self) -> PartKey:
        return (self.topic, 0, 0)


class FileSource:
    """Reads the files at the given paths, and all files in the folders at these paths.

    Files in a folder are sorted by name. `known` has the topics of files that were read before. A
    file that has grown since then keeps its topic, so that its old lines aren't stored again.
    """

    positions_need_cursor = False
    cluster_id = None

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        form: FileFormat = "auto",
        defaults: FieldDefaults | None = None,
        resolve_incarnation: ResolveIncarnation = lambda _topic, _partition: 0,
        known: Collection[str] = (),
    ) -> None:
        self._paths = paths
        self._form = form
        self._defaults = defaults or FieldDefaults({})
        self._resolve_incarnation = resolve_incarnation
        self._known = known
        self._files: list[_File] = []
        self._read_bytes = 0
        self._open: DecompressedFile | None = None
        self._cut = False
        self.truncation_reason: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *why: object) -> None:
        if self._open:
            self._open.__exit__(*why)

    async def list_parts(self) -> list[SourcePart]:
        """Return one part per file. Raises FatalError and ConfigurationError."""
        self._files = await asyncio.to_thread(self._find)
        return [SourcePart(key=file.key, start=1) for file in self._files]

    async def read(
        self, positions: Mapping[PartKey, ReadPosition]
    ) -> AsyncGenerator[SourcePage, None]:
        """Yield the pages of one file after the other, each from the line of its position on."""
        for key in sorted(positions.keys() - {file.key for file in self._files}):
            if positions[key].next_offset > positions[key].start:
                _log.warning("file.gone", topic=key[0], next_line=positions[key].next_offset)
        for file in self._files:
            at = positions.get(file.key)
            if at is not None:
                _log.info(
                    "file.reading", file=str(file.path), topic=file.topic, from_line=at.next_offset
                )
                next_offset = at.next_offset
                async with aclosing(self._read(file, next_offset)) as read:
                    async for numbers, records in read:
                        if page := self._page(file, next_offset, numbers, records):
                            next_offset = page.next_offset
                            yield page
                        else:
                            await asyncio.sleep(0)
                if self._cut:
                    self._is_truncated(f"{file.path} is truncated after line {next_offset - 1}")
            self._read_bytes += file.packed_bytes

    def progress_ratio(self) -> float | None:
        """Return the share of the files' bytes that was read.

        For a compressed file, compressed bytes count.
        """
        total = sum(file.packed_bytes for file in self._files)
        read = self._read_bytes + (self._open.read_bytes if self._open else 0)
        return min(read / total, 1.0) if total else None

    def _find(self) -> list[_File]:
        files: dict[str, _File] = {}
        for path in _list_files(self._paths):
            first, cut = read_file_beginning(path, TOPIC_HASH_INPUT_BYTES)
            if not first and cut:
                self._is_truncated(f"{path} is truncated before its first byte")
                continue
            if not first:
                _log.info("file.skipped", file=str(path), why="it is empty")
                continue
            topic = topic_from_content_hash(first, self._known)
            file = _File(
                path=path,
                topic=topic,
                packed_bytes=path.stat().st_size,
                dump=self._form == "dump" or (self._form == "auto" and is_api_dump(first)),
            )
            same = files.setdefault(topic, file)
            if same is not file:
                raise ConfigurationError(
                    f"{same.path} and {path} can't be read together, because they begin with the "
                    "same bytes and so count as the same file. Name only one of them"
                )
        if not files:
            _log.warning("file.nothing_to_read", paths=[str(path) for path in self._paths])
        return list(files.values())

    async def _read(self, file: _File, from_line: int) -> AsyncGenerator[_Numbered, None]:
        """Yield about a mebibyte at a time. The first lines may come before `from_line`.

        A separate thread waits for the disk, and also searches a dump for its rows. Lines are
        decompressed and decoded in the calling thread, because two threads that compete for
        Python's global lock would take longer.
        """
        self._cut = False
        with await asyncio.to_thread(DecompressedFile.open, file.path) as stream:
            self._open = stream
            if file.dump:
                reading = _rows(stream, file)
                while numbered := await asyncio.to_thread(next, reading, None):
                    yield numbered
            else:
                lines = self._lines(stream, file, from_line)
                while True:
                    if stream.needs_prefetch:
                        await asyncio.to_thread(stream.prefetch)
                    if (numbered := next(lines, None)) is None:
                        break
                    yield numbered
            self._open = None
            self._cut = stream.cut

    def _lines(self, stream: DecompressedFile, file: _File, from_line: int) -> Iterator[_Numbered]:
        """Yield the lines of a file, except for a last line that's truncated."""
        number = 1
        for text in read_line_chunks(stream, longest_bytes=_LONGEST_LINE_BYTES):
            has_newline = text.endswith(b"\n")
            if text and not has_newline and not self._ends_whole(stream, file, number, text):
                return
            if number < from_line and (after := number + text.count(b"\n")) <= from_line:
                number = after
                yield (), []
                continue
            number, numbers, records = parse_record_lines(
                number, text, file.topic, longest_bytes=_LONGEST_LINE_BYTES
            )
            yield numbers, records

    def _ends_whole(self, stream: DecompressedFile, file: _File, number: int, line: bytes) -> bool:
        """Return whether the last line is complete although it has no newline at its end."""
        if stream.cut:
            return False
        if looks_like_complete_json(line) or line.isspace():
            return True
        self._is_truncated(f"{file.path} is truncated in line {number}")
        return False

    def _page(
        self, file: _File, from_offset: int, numbers: Sequence[int], records: list[RawRecord]
    ) -> SourcePage | None:
        """Return a page of lines, or None if there are none.

        Blank lines before and between them are holes.
        """
        unread = bisect_left(numbers, from_offset)
        numbers, records = numbers[unread:], records[unread:]
        if not records:
            return None
        next_offset = numbers[-1] + 1
        return SourcePage(
            part=file.key,
            from_offset=from_offset,
            next_offset=next_offset,
            records=self._completed(records, file),
            holes=holes_between(numbers, from_offset, next_offset),
        )

    def _completed(self, records: list[RawRecord], file: _File) -> list[RawRecord]:
        """Add missing fields to each record, and the incarnation if it names its topic."""
        if self._defaults:
            records = [
                replace(one, value=self._defaults.add_missing_fields(one.value)) for one in records
            ]
        incarnations = {
            (topic, partition): self._resolve_incarnation(topic or "", partition)
            for topic, partition in dict.fromkeys(map(attrgetter("topic", "partition"), records))
            if topic != file.topic
        }
        if any(incarnations.values()):
            records = [
                replace(one, incarnation=incarnations.get((one.topic, one.partition), 0))
                for one in records
            ]
        return records

    def _is_truncated(self, why: str) -> None:
        earlier = self.truncation_reason
        self.truncation_reason = why if earlier is None else f"{earlier}; {why}"


def _rows(stream: DecompressedFile, file: _File) -> Iterator[_Numbered]:
    """Yield the rows of a dump."""
    for page in read_api_dump_rows(stream, str(file.path)):
        yield (
            [number for number, _ in page],
            [RawRecord(row, topic=file.topic, offset=number) for number, row in page],
        )


def _list_files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files, and the visible files in the folders, sorted by name within each folder.

    The order is the same in each run.
    """
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

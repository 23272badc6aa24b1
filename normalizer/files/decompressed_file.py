"""Reads a file, decompresses gzip and zstd, and notes whether it was truncated.

The first bytes show how the file is compressed, so its name doesn't matter. Only a small piece of
the file is in memory at a time, even if a few compressed bytes become gigabytes.
"""

import zlib
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import zstandard

from normalizer.errors import FatalError

_PLAIN_BYTES: Final = 1 << 20
_PACKED_BYTES: Final = 1 << 17
"""Compressed bytes per step. The decompressed bytes may be many times as many."""
_PIECE_BYTES: Final = 1 << 12
"""Decompress this many bytes at once. A few bytes may hold a thousand equal lines (in zstd, four
bytes can be 128 KiB), so a whole step might not fit in memory."""
_AHEAD_BYTES: Final = 1 << 22
"""Bytes to read from the file at once. The first read takes only one step."""
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPED: Final = tuple(bytes([0x50 + low, 0x2A, 0x4D, 0x18]) for low in range(16))
"""A zstd file may begin with a skippable frame."""


class DecompressedFile:
    """Reads the decompressed bytes of a file, which may consist of several compressed frames.

    Use it with `with`, which closes the file. `cut` becomes True if the file ends in the middle of
    a frame, which means that the file is incomplete. `read_bytes` counts the bytes of the file
    itself, before decompression, so it shows how much of the file is left.

        with DecompressedFile.open(Path("events.ndjson.gz")) as stream:
            while chunk := stream.read1():
                ...
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._ahead = b""
        self._taken_of_ahead = 0
        self._ended = False
        self._broken: FatalError | None = None
        self._packed = b""
        self._frame: Any = None
        self._begun = False
        self._kind = ""
        self.cut = False
        self.read_bytes = 0

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file. Raises FatalError if that fails."""
        try:
            return cls(path.open("rb", buffering=0), str(path))
        except OSError as error:
            raise FatalError(f"{path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def needs_prefetch(self) -> bool:
        """Return whether everything read ahead is consumed, and the file may have more."""
        return self._taken_of_ahead >= len(self._ahead) and not self._ended

    def prefetch(self) -> None:
        """Read the next bytes of the file into memory, for the next calls of `read1`.

        Call this only if `needs_prefetch`, and in a separate thread, because a disk or a network
        drive may hang. It raises no errors itself. `read1` raises them later, after it has returned
        the bytes that were read before the error.
        """
        assert self.needs_prefetch
        try:
            self._ahead = self._file.read(_AHEAD_BYTES if self._ahead else _PACKED_BYTES)
        except OSError as error:
            self._broken = FatalError(f"{self._name}: {error.strerror}")
            self._broken.__cause__ = error
        self._taken_of_ahead = 0
        self._ended = not self._ahead

    def read1(self, _size: int = -1, /) -> bytes:
        """Return some bytes, or none at the end. Raises FatalError if the file is damaged."""
        if not self._kind:
            self._detect()
        if self._kind == "plain":
            return self._taken() or self._read()
        try:
            return self._unpack()
        except (zlib.error, zstandard.ZstdError) as error:
            raise FatalError(
                f"{self._name}: the file can't be decompressed, because its {self._kind} data "
                f"is damaged before byte {self.read_bytes}"
            ) from error

    def _unpack(self) -> bytes:
        """Decompress the next bytes, about as many as one read of a plain file returns."""
        unpacked = bytearray()
        while len(unpacked) < _PLAIN_BYTES:
            packed = self._taken() or (b"" if unpacked else self._read())
            if not packed:
                self.cut = self._begun and not unpacked
                break
            if self._frame is None:
                if not packed.strip(b"\0"):  # padding after the last member
                    continue
                self._frame = self._new_frame()
                self._begun = True
            unpacked += self._frame.decompress(packed[:_PIECE_BYTES])
            self._packed = packed[_PIECE_BYTES:]
            if self._frame.eof:
                self._packed = self._frame.unused_data + self._packed
                self._frame = None
                self._begun = False
        return bytes(unpacked)

    def _new_frame(self) -> Any:
        if self._kind == "gzip":
            return zlib.decompressobj(wbits=31)
        return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()

    def _detect(self) -> None:
        while len(self._packed) < len(_ZSTD) and (more := self._read()):
            self._packed += more
        if self._packed.startswith(_GZIP):
            self._kind = "gzip"
        elif self._packed.startswith((_ZSTD, *_ZSTD_SKIPPED)):
            self._kind = "zstd"
        else:
            self._kind = "plain"

    def _taken(self) -> bytes:
        packed, self._packed = self._packed, b""
        return packed

    def _read(self) -> bytes:
        if self.needs_prefetch:
            self.prefetch()
        if self._broken:
            raise self._broken
        begin = self._taken_of_ahead
        chunk = self._ahead[
            begin : begin + (_PLAIN_BYTES if self._kind == "plain" else _PACKED_BYTES)
        ]
        self._taken_of_ahead += len(chunk)
        self.read_bytes += len(chunk)
        return chunk


def read_file_beginning(path: Path, size: int) -> tuple[bytes, bool]:
    """Return the first bytes of a file, decompressed, and whether it's truncated there.

    There are fewer bytes if the file is shorter or truncated. Raises FatalError.
    """
    first = b""
    with DecompressedFile.open(path) as stream:
        while len(first) < size and (more := stream.read1()):
            first += more
    return first[:size], stream.cut

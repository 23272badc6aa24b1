"""Reads the fields of Kafka records from bytes that arrive in pieces.

With it, the lenient reader can read a compressed batch of any size without holding all of it in
memory.
"""

from collections.abc import Iterator
from typing import Final

from aiokafka.errors import CorruptRecordException

_LONGEST_NUMBER: Final = 10
"""The most bytes that a 64-bit varint takes."""
_CHUNK_BYTES: Final = 1 << 18


class RecordFieldReader:
    """Reads one field after the other. Only the current piece and field are in memory."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""
        self._at = 0
        self._before = 0

    @property
    def position(self) -> int:
        """Return how many bytes were read so far."""
        return self._before + self._at

    def has_more(self) -> bool:
        """Return whether another byte follows."""
        while self._at == len(self._held):
            if (piece := next(self._pieces, None)) is None:
                return False
            self._before += self._at
            self._held, self._at = piece, 0
        return True

    def read_varint(self) -> int:
        """Read a signed varint. Source: Kafka's protocol, varints."""
        value = shift = 0
        while self.has_more() and shift < 7 * _LONGEST_NUMBER:
            byte = self._held[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
        raise CorruptRecordException(
            f"a number can't be read, because it has more than {_LONGEST_NUMBER} bytes or the "
            "batch ends within it"
        )

    def read_bytes_or_null(self, *, end: int) -> bytes | None:
        """Read a field of bytes: its length, and that many bytes. A negative length means null.

        `end` is the position at which the record ends. If the field would extend beyond it, the
        length is wrong, and this raises CorruptRecordException.
        """
        length = self.read_varint()
        if length > end - self.position:
            raise CorruptRecordException(
                f"a field claims to have {length} bytes, but its record ends before the field does"
            )
        return None if length < 0 else b"".join(self.read_chunks(length))

    def read_chunks(self, length: int) -> Iterator[bytes]:
        """Read this many bytes, and yield them in chunks of at most 256 KiB."""
        while length > 0:
            if not self.has_more():
                raise CorruptRecordException(
                    f"a field can't be read, because the batch ends {length} bytes before the "
                    "field does"
                )
            part = self._held[self._at : self._at + min(length, _CHUNK_BYTES)]
            self._at += len(part)
            length -= len(part)
            yield part

    def skip_bytes(self, length: int) -> None:
        """Skip this many bytes."""
        for _ in self.read_chunks(length):
            pass

"""Reads the fields of records from bytes that arrive in pieces."""

from collections.abc import Iterator
from typing import Final

from aiokafka.errors import CorruptRecordException

_LONGEST_NUMBER: Final = 10
"""Bytes of a varint of 64 bits."""
_PART_BYTES: Final = 1 << 18


class FieldReader:
    """Reads fields one after the other; holds no more than a piece and the field being read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""
        self._at = 0
        self._before = 0

    @property
    def position(self) -> int:
        """How many bytes were read."""
        return self._before + self._at

    def has_more(self) -> bool:
        """Whether any byte follows."""
        while self._at == len(self._held):
            if (piece := next(self._pieces, None)) is None:
                return False
            self._before += self._at
            self._held, self._at = piece, 0
        return True

    def number(self) -> int:
        """Read a signed number of variable length. Source: Kafka's protocol, varints."""
        value = shift = 0
        while self.has_more() and shift < 7 * _LONGEST_NUMBER:
            byte = self._held[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
        raise CorruptRecordException("a number does not end")

    def bytes_or_null(self, *, end: int) -> bytes | None:
        """Read as many bytes as the length before them says; a negative length is null.

        `end` is the position where their record ends.
        """
        length = self.number()
        if length > end - self.position:
            raise CorruptRecordException(f"{length} bytes do not fit into their record")
        return None if length < 0 else b"".join(self.parts(length))

    def parts(self, length: int) -> Iterator[bytes]:
        """Read that many bytes, in parts of 256 KiB at most."""
        while length > 0:
            if not self.has_more():
                raise CorruptRecordException(f"{length} bytes are missing")
            part = self._held[self._at : self._at + min(length, _PART_BYTES)]
            self._at += len(part)
            length -= len(part)
            yield part

    def skip(self, length: int) -> None:
        """Read that many bytes, and drop them."""
        for _ in self.parts(length):
            pass

"""Divides values into 64 partitions by a number, and returns one partition at a time.

The values needn't fit into memory, because a partition that grows beyond 512 KiB is written to a
temporary file.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final

import msgspec

PARTITIONS: Final = 64
_SHIFT: Final = 58
_MIXER: Final = 0x9E37_79B9_7F4A_7C15
_SMALL_BYTES: Final = 512 * 1024


class SpillPartitions:
    """64 partitions of one kind of value, removed when `stack` is closed."""

    def __init__(self, stack: ExitStack) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        # `stack` closes them.
        opened = (SpooledTemporaryFile(max_size=_SMALL_BYTES) for _ in range(PARTITIONS))  # noqa: SIM115 - closed below
        self._files: list[IO[bytes]] = [stack.enter_context(file) for file in opened]

    def put(self, key: int, value: Any) -> None:
        """Add a value to the partition of `key`."""
        written = self._encode(value)
        # The low bits of a snowflake are nearly always 0. Mixing spreads the keys evenly over the
        # partitions.
        file = self._files[(key * _MIXER % 2**64) >> _SHIFT]
        file.write(len(written).to_bytes(4, "big"))
        file.write(written)

    def take(self, number: int, kind: Any) -> Iterator[Any]:
        """Return everything in partition `number`, in the order of its arrival."""
        decode = msgspec.msgpack.Decoder(kind).decode
        file = self._files[number]
        file.seek(0)
        while size := file.read(4):
            yield decode(file.read(int.from_bytes(size, "big")))

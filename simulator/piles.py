"""Values dealt into files by a number, and taken out a file at a time: bounded memory."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

PILES: Final = 64


class Piles:
    """64 files of one kind of value, opened in `stack`, in a folder that somebody else removes."""

    def __init__(self, folder: Path, name: str, stack: ExitStack) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._files: list[BinaryIO] = [
            stack.enter_context((folder / f"{name}{number}").open("w+b")) for number in range(PILES)
        ]

    def put(self, key: int, value: Any) -> None:
        """Onto the pile of `key`."""
        written = self._encode(value)
        file = self._files[key % PILES]
        file.write(len(written).to_bytes(4, "big"))
        file.write(written)

    def take(self, number: int, kind: Any) -> Iterator[Any]:
        """Everything on pile `number`, in the order in which it was put there."""
        decode = msgspec.msgpack.Decoder(kind).decode
        file = self._files[number]
        file.seek(0)
        while size := file.read(4):
            yield decode(file.read(int.from_bytes(size, "big")))

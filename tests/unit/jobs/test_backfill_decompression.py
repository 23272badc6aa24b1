"""Files decompressed: whole ones to the last byte, cut ones said to be cut, bad ones rejected."""

import errno
import gzip
import io
import random
from collections.abc import Callable
from typing import Final

import pytest
import zstandard

from normalizer.errors import FatalError
from normalizer.files import decompressed_file
from normalizer.files.decompressed_file import DecompressedFile

CONTENT: Final = b"".join(b"line %d of many\n" % number for number in range(20_000))
ZSTD: Final = zstandard.ZstdCompressor(write_checksum=True).compress(CONTENT)
GZIP: Final = gzip.compress(CONTENT)
SKIPPED: Final = b"\x51\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"about"


def unpacked(packed: bytes) -> tuple[bytes, bool]:
    """The bytes, and whether the file was cut off."""
    stream = DecompressedFile(io.BytesIO(packed), "file")
    content = b"".join(iter(stream.read1, b""))
    assert stream.read_bytes == len(packed)
    return content, stream.cut


@pytest.mark.parametrize(
    "packed", [CONTENT, ZSTD, GZIP, SKIPPED + ZSTD], ids=["plain", "zstd", "gzip", "skipped frame"]
)
def test_every_packing_gives_the_same_bytes(packed: bytes) -> None:
    assert unpacked(packed) == (CONTENT, False)


@pytest.mark.parametrize("packed", [ZSTD + ZSTD, GZIP + GZIP], ids=["zstd", "gzip"])
def test_frames_follow_each_other_in_a_grown_file(packed: bytes) -> None:
    assert unpacked(packed) == (CONTENT + CONTENT, False)


@pytest.mark.parametrize("pack", [zstandard.compress, gzip.compress], ids=["zstd", "gzip"])
def test_a_highly_compressed_file_is_unpacked_piece_by_piece(
    pack: Callable[[bytes], bytes],
) -> None:
    stream = DecompressedFile(io.BytesIO(pack(b"the same line\n" * 6_000_000)), "file")
    sizes = [len(piece) for piece in iter(stream.read1, b"")]

    assert sum(sizes) == 84_000_000
    assert max(sizes) < 64 << 20


def test_padding_after_the_last_member_is_no_member() -> None:
    assert unpacked(GZIP + b"\0" * 1024) == (CONTENT, False)


@pytest.mark.parametrize("packed", [ZSTD[:-3], ZSTD[:5000], GZIP[:-3], GZIP[:5000]])
def test_a_file_that_is_cut_off_says_so(packed: bytes) -> None:
    content, cut = unpacked(packed)

    assert cut
    assert CONTENT.startswith(content)


@pytest.mark.parametrize(
    "packed", [ZSTD[:1000] + bytes(99) + ZSTD[1099:], GZIP[:-8] + bytes(8)], ids=["zstd", "gzip"]
)
def test_a_damaged_file_is_rejected_and_says_where(packed: bytes) -> None:
    with pytest.raises(FatalError, match=r"^file: .* its \w+ data is damaged before byte \d+$"):
        unpacked(packed)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_nothing_is_lost_between_what_is_read_at_once(
    monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    """Incompressible bytes, so that they're read in many parts."""
    monkeypatch.setattr(decompressed_file, "_AHEAD_BYTES", 10_007)
    monkeypatch.setattr(decompressed_file, "_PACKED_BYTES", 1_009)
    monkeypatch.setattr(decompressed_file, "_PLAIN_BYTES", 2_003)
    content = random.Random(1).randbytes(200_000)

    assert unpacked(pack(content)) == (content, False)


def test_a_disk_that_breaks_gives_what_was_read_before() -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    stream = DecompressedFile(Breaking(CONTENT), "file")
    first = stream.read1()
    stream.prefetch()

    with pytest.raises(FatalError, match=r"^file: Input/output error$"):
        stream.read1()
    assert first == CONTENT[: len(first)] != b""


def test_an_empty_file_is_empty_and_whole() -> None:
    assert unpacked(b"") == (b"", False)

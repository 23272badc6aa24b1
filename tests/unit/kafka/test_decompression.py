"""Batches unpacked piece by piece: every codec to the last byte, damage and excess named."""

import contextlib
import gzip
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any, Final

import cramjam
import pytest
import zstandard
from aiokafka.codec import snappy_encode
from aiokafka.errors import CorruptRecordException

from normalizer.kafka.decompression import (
    MAX_DECOMPRESSED_BATCH_BYTES,
    DecompressedTooLargeError,
    decompress_in_pieces,
)
from normalizer.kafka.record_field_reader import RecordFieldReader

LONGEST_PIECE: Final = 4 << 20


def lz4(content: bytes, **options: bool) -> bytes:
    compressor = cramjam.lz4.Compressor(**options)
    compressor.compress(content)
    return bytes(compressor.finish())


PACKERS: Final[dict[str, tuple[str, Callable[[bytes], bytes]]]] = {
    "gzip": ("gzip", gzip.compress),
    "two members of gzip": ("gzip", lambda b: gzip.compress(b[:99]) + gzip.compress(b[99:])),
    "zstd": ("zstd", zstandard.compress),
    "two frames of zstd": (
        "zstd",
        lambda b: zstandard.compress(b[:99]) + zstandard.compress(b[99:]),
    ),
    "lz4": ("lz4", lambda b: lz4(b, block_linked=False)),
    "lz4, linked": ("lz4", lambda b: lz4(b, block_linked=True)),
    "lz4 with checksums": ("lz4", lambda b: lz4(b, content_checksum=True, block_linked=True)),
    "two frames of lz4": ("lz4", lambda b: lz4(b[:99]) + lz4(b[99:])),
    "snappy": ("snappy", lambda b: bytes(snappy_encode(b))),
    "snappy without blocks": ("snappy", lambda b: bytes(snappy_encode(b, xerial_compatible=False))),
}


def mixed(size: int) -> bytes:
    """Bytes that repeat earlier ones near and far, between noise and zeros."""
    chance, content = random.Random(1), bytearray()
    while len(content) < size:
        begin = chance.randrange(len(content) + 1)
        content += chance.randbytes(chance.randrange(70_000))
        content += bytes(chance.randrange(500_000))
        content += content[begin : begin + chance.randrange(200_000)]
    return bytes(content[:size])


@pytest.mark.parametrize("size", [0, 1, 100, 70_000, 9_000_000])
@pytest.mark.parametrize("packer", PACKERS)
def test_every_codec_unpacks_to_the_last_byte_in_small_pieces(packer: str, size: int) -> None:
    codec, pack = PACKERS[packer]
    content = mixed(size)

    unpacked = list(decompress_in_pieces(codec, pack(content)))

    assert b"".join(unpacked) == content
    assert packer == "snappy without blocks" or max(map(len, unpacked), default=0) <= LONGEST_PIECE


@pytest.mark.parametrize("packer", PACKERS)
def test_a_batch_that_is_cut_off_gives_nothing_else(packer: str) -> None:
    codec, pack = PACKERS[packer]
    content = mixed(300_000)
    packed = pack(content)

    for end in (1, 5, 20, len(packed) // 2, len(packed) - 9):
        found = b""
        with contextlib.suppress(Exception):  # each codec has errors of its own
            for piece in decompress_in_pieces(codec, packed[:end]):
                found += piece
        assert content.startswith(found)


def test_more_than_a_gibibyte_is_too_far() -> None:
    packer = zstandard.ZstdCompressor().compressobj()
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1_025)) + packer.flush()
    unpacked = decompress_in_pieces("zstd", packed)

    allowed = sum(map(len, itertools.islice(unpacked, MAX_DECOMPRESSED_BATCH_BYTES >> 18)))

    assert allowed == MAX_DECOMPRESSED_BATCH_BYTES
    with pytest.raises(DecompressedTooLargeError):
        next(unpacked)


def fields(*parts: bytes) -> RecordFieldReader:
    return RecordFieldReader(iter(parts))


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        *((0, b"\0"), (-1, b"\1"), (1, b"\2"), (-65, b"\x81\1"), (300, b"\xd8\4")),
        (2**63 - 1, b"\xfe" + b"\xff" * 8 + b"\1"),
    ],
)
def test_a_number_is_read_over_the_border_of_two_pieces(number: int, encoded: bytes) -> None:
    one_by_one: Iterable[bytes] = (bytes([byte]) for byte in encoded)

    assert fields(*one_by_one, b"").read_varint() == number


def test_a_field_is_read_over_the_border_of_pieces() -> None:
    reader = fields(b"\x0aab", b"", b"cd", b"e\1")

    assert reader.read_bytes_or_null(end=7) == b"abcde"
    assert reader.position == 6
    assert reader.read_bytes_or_null(end=7) is None
    assert not reader.has_more()


@pytest.mark.parametrize(
    "read",
    [
        lambda: fields(b"\xff" * 11).read_varint(),
        lambda: fields(b"\x80").read_varint(),
        lambda: fields().read_varint(),
        lambda: fields(b"\x0aab").read_bytes_or_null(end=99),
        lambda: fields(b"\x0aabcde").read_bytes_or_null(end=5),
        lambda: fields(b"ab").skip_bytes(3),
    ],
    ids=["endless number", "cut number", "nothing", "cut field", "beyond its record", "skip"],
)
def test_damaged_batches_raise(read: Callable[[], Any]) -> None:
    with pytest.raises(CorruptRecordException):
        read()

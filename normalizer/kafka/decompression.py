"""Decompresses batches in bounded memory, because a few kilobytes may expand to gigabytes.

aiokafka decompresses a whole batch before it reads the first record, and has no limit. If a process
ran out of memory there, it would restart, fetch the same batch, and run out of memory again. So
this module gives aiokafka a limit, and the lenient reader uses it to decompress larger batches
piece by piece.
"""

import gzip
import io
import mmap
import struct
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO, Final, cast

import cramjam
import zstandard
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.record import default_records
from aiokafka.record._crecords import default_records as compiled_records

from normalizer.errors import NormalizerError

MAX_CHUNK_BYTES: Final = 16 << 20
"""The most bytes of one partition's records to take at once."""
MAX_DECOMPRESSED_BATCH_BYTES: Final = 1 << 30
"""If a batch decompresses to more than this, its partition stops, because reading the batch would
take too long."""
_PIECE_BYTES: Final = 1 << 18
_XERIAL: Final = b"\x82SNAPPY\0"
"""Java clients write snappy in blocks of 32 kB after this header, because snappy itself has no
frames."""
_XERIAL_HEADER_BYTES: Final = 16
_LZ4_FRAME: Final = b"\x04\x22\x4d\x18"
_LZ4_LINKED_FRAME: Final = _LZ4_FRAME + b"\x40\x70\xdf"
"""The beginning of a frame without checksums, whose blocks of up to 4 MiB may refer to earlier
blocks."""
_LZ4_BLOCK_BYTES: Final = 4 << 20
_LZ4_WINDOW_BYTES: Final = 1 << 16
_LZ4_PLAIN: Final = 1 << 31
"""The bit that's set in the length of an uncompressed block."""
_LZ4_END: Final = bytes(4)

_local: Final = threading.local()
"""Holds the memory to decompress into, one per thread. Reusing it avoids page faults."""


class DecompressedTooLargeError(NormalizerError):
    """A batch decompresses to more bytes than we hold in memory.

    aiokafka and the lenient reader each have their own limit. `next_offset` is the first offset
    after the batch, or 0 if that isn't known.
    """

    next_offset = 0


def limit_decompression(most_bytes: int) -> None:
    """Make every aiokafka client of this process reject batches that decompress to more bytes.

    Snappy needs no limit, because its output is at most 21 times as large as its input.
    """
    for name in ("gzip", "lz4", "zstd"):
        unpack = partial(_unpack, getattr(cramjam, name), most_bytes)
        for module in (default_records, compiled_records):
            setattr(module, f"{name}_decode", unpack)
    FetchResult.getall = _take


def _take(fetched: Any, max_records: int | None = None) -> list[Any]:
    """Take the next records of a fetch response, but at most about MAX_CHUNK_BYTES.

    This replaces aiokafka's `FetchResult.getall`, which takes all of them at once. A response may
    have many batches that are each below the limit, but don't fit in memory together.
    """
    if not fetched.check_assignment(fetched._topic_partition) or not fetched.has_more():  # noqa: SLF001 - aiokafka has no limit
        return []
    taken, room_bytes = [], MAX_CHUNK_BYTES
    for record in fetched._partition_records:  # noqa: SLF001 - as above
        taken.append(record)
        room_bytes -= record.serialized_value_size
        if room_bytes <= 0 or len(taken) == max_records:
            fetched._update_position()  # noqa: SLF001 - as above
            break
    else:
        fetched._update_position()  # noqa: SLF001 - as above
        fetched._partition_records = None  # noqa: SLF001 - as above
    return taken


def _unpack(codec: Any, most_bytes: int, payload: Any) -> bytes:
    memory = getattr(_local, "memory", b"")
    if len(memory) != most_bytes:
        memory = _local.memory = mmap.mmap(-1, most_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        return bytes(memory[: codec.decompress_into(bytes(payload), memory)])
    except cramjam.DecompressionError as error:
        if "whole buffer" not in str(error):
            raise
        raise DecompressedTooLargeError(
            f"the batch can't be read, because it decompresses to more than {most_bytes} bytes"
        ) from error


def decompress_in_pieces(codec: str, packed: bytes) -> Iterator[bytes]:
    """Decompress a batch, and yield it in pieces of at most 4 MiB.

    Snappy data without the blocks that Java writes is an exception. It's yielded as a single piece,
    which may be up to 21 times as large as the batch. Raises DecompressedTooLargeError, and the
    codec's own errors.
    """
    total = 0
    for piece in _CODECS[codec](packed):
        total += len(piece)
        if total > MAX_DECOMPRESSED_BATCH_BYTES:
            raise DecompressedTooLargeError(
                "the batch can't be read, because it decompresses to more than "
                f"{MAX_DECOMPRESSED_BATCH_BYTES} bytes"
            )
        yield piece


def _read(stream: BinaryIO) -> Iterator[bytes]:
    return iter(partial(stream.read, _PIECE_BYTES), b"")


def _gzip(packed: bytes) -> Iterator[bytes]:
    return _read(cast("BinaryIO", gzip.GzipFile(fileobj=io.BytesIO(packed))))


def _zstd(packed: bytes) -> Iterator[bytes]:
    return _read(zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True))


def _snappy(packed: bytes) -> Iterator[bytes]:
    if not packed.startswith(_XERIAL):
        yield bytes(cramjam.snappy.decompress_raw(packed))
        return
    at = _XERIAL_HEADER_BYTES
    while at < len(packed):
        (size,) = struct.unpack_from("!i", packed, at)
        at += 4
        yield bytes(cramjam.snappy.decompress_raw(packed[at : at + size]))
        at += size


def _lz4(packed: bytes) -> Iterator[bytes]:
    """Decompress LZ4 one block at a time.

    A block may refer to the content of the blocks before it, so each block is put into a frame of
    its own together with that content. The checksums of the frame aren't compared, because a batch
    of Kafka has its own. Source: LZ4 frame format 1.6.
    """
    memory = bytearray(_LZ4_WINDOW_BYTES + _LZ4_BLOCK_BYTES)
    at = 0
    while at < len(packed):
        flags = packed[at + 4]
        if not packed.startswith(_LZ4_FRAME, at) or flags >> 6 != 1 or flags & 1:
            raise ValueError(
                "the batch can't be decompressed, because it isn't in the only LZ4 format that "
                "Kafka uses: frames of version 1 without a dictionary"
            )
        at += 15 if flags & 8 else 7
        window = b""
        while size := int.from_bytes(packed[at : at + 4], "little"):
            end = at + 4 + (size & ~_LZ4_PLAIN)
            block = packed[at:end]
            before = struct.pack("<I", len(window) | _LZ4_PLAIN) + window if window else b""
            frame = _LZ4_LINKED_FRAME + before + block + _LZ4_END
            unpacked = memory[len(window) : cramjam.lz4.decompress_into(frame, memory)]
            yield bytes(unpacked)
            window = (window + unpacked[-_LZ4_WINDOW_BYTES:])[-_LZ4_WINDOW_BYTES:]
            at = end + (4 if flags & 16 else 0)
        at += 8 if flags & 4 else 4


_CODECS: Final = {"gzip": _gzip, "snappy": _snappy, "lz4": _lz4, "zstd": _zstd}

"""Unpacks compressed batches up to a limit: one of some kilobytes may hold gigabytes.

The client has no limit, and unpacks a whole batch before its first record is read. A process that
ran out of memory would be started again, and run out of it again.
"""

import mmap
import threading
from functools import partial
from typing import Any, Final

import cramjam
from aiokafka.record import default_records
from aiokafka.record._crecords import default_records as compiled_records

from normalizer.errors import NormalizerError

_local: Final = threading.local()
"""Memory to unpack into, of each thread: what was touched once is not faulted in again."""


class UnpacksTooFar(NormalizerError):  # noqa: N818 - a state, not a mistake
    """A batch holds more than a process may take into memory."""


def limit_unpacking(most_bytes: int) -> None:
    """Let no client of this process unpack a batch beyond this size.

    A batch of snappy holds at most 21 times its own size, so that has no need of it.
    """
    for name in ("gzip", "lz4", "zstd"):
        unpack = partial(_unpack, getattr(cramjam, name), most_bytes)
        for module in (default_records, compiled_records):
            setattr(module, f"{name}_decode", unpack)


def _unpack(codec: Any, most_bytes: int, payload: Any) -> bytes:
    memory = getattr(_local, "memory", b"")
    if len(memory) != most_bytes:
        memory = _local.memory = mmap.mmap(-1, most_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        return bytes(memory[: codec.decompress_into(bytes(payload), memory)])
    except cramjam.DecompressionError as error:
        if "whole buffer" not in str(error):
            raise
        message = f"it unpacks to more than KAFKA_FETCH_MAX_BYTES, {most_bytes}"
        raise UnpacksTooFar(message) from error

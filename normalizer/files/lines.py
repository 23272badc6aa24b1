"""A byte stream in, its lines out, page by page; and the record that a line holds.

A blank line holds no record: it is left out, but counted in the line numbers.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

from normalizer.core.record import RawRecord
from normalizer.files.unpack import Unpacked, beginning

LONGEST_BYTES: Final = (8 << 20) + 1
"""A longer line is cut to this: one byte more than a record may have, so that the rules refuse it.

Source: wire-shapes, section 9, L1.
"""

_CHUNK_BYTES: Final = 1 << 20
NAMED_BY_BYTES: Final = 1 << 16


class Readable(Protocol):
    """A buffered byte stream: `read1` returns what there is, at most so much, and waits for one."""

    def read1(self, size: int, /) -> bytes:
        """Some bytes; none at the end."""


def pages(
    stream: Readable, *, longest_bytes: int = LONGEST_BYTES
) -> Iterator[list[tuple[int, bytes]]]:
    """Pages of (line number from 1, line without its newline).

    A page holds what could be read without waiting: whoever passes it on should flush after it.
    A line is cut to `longest_bytes`: in a form that escapes a value it is longer than the value.
    """
    number = 1
    begun = bytearray()
    while chunk := stream.read1(_CHUNK_BYTES):
        first, *others = chunk.split(b"\n")
        begun += first[: longest_bytes - len(begun)]
        if not others:
            yield []
            continue
        *ended, last = others
        lines = [bytes(begun), *ended]
        yield [
            (at, line)
            for at, whole in enumerate(lines, number)
            if (line := whole[:longest_bytes]) and not line.isspace()
        ]
        number += len(lines)
        begun = bytearray(last[:longest_bytes])
    if begun and not begun.isspace():
        yield [(number, bytes(begun))]


def open_lines(file: Path) -> Unpacked:
    """The file, unpacked if it is gzip or zstd. Raises FatalError."""
    return Unpacked.open(file)


def topic_of(file: Path) -> str:
    """The topic that stands for a file: a renamed, recompressed or grown file keeps it.

    Source: wire-shapes, section 6.
    """
    return topic_named_by(beginning(file, NAMED_BY_BYTES))


def topic_named_by(first_bytes: bytes) -> str:
    """The topic of a file that begins so: its first 64 KiB unpacked, or all of a shorter one."""
    return f"file:{hashlib.blake2b(first_bytes, digest_size=8).hexdigest()}"


class _KcatLine(msgspec.Struct, frozen=True, gc=False):
    """A record as `kcat -J` prints it; *_b64 for bytes that are not UTF-8 (ours)."""

    topic: str
    partition: Annotated[int, Meta(ge=0, lt=1 << 31)]
    offset: Annotated[int, Meta(ge=0, lt=(1 << 63) - 1)]
    ts: int | None = None
    key: str | None = None
    key_b64: str | None = None
    headers: tuple[str | None, ...] = ()
    payload: str | msgspec.UnsetType | None = msgspec.UNSET
    payload_b64: str | None = None


_kcat: Final[msgspec.json.Decoder[_KcatLine]] = msgspec.json.Decoder(_KcatLine)


def record_of(line: bytes, number: int, topic: str) -> RawRecord:
    """The record of a line: kcat's form keeps its own place and time, another line is a value.

    `topic` and `number`, the line's own number from 1, are the place of such a value.
    """
    try:
        parsed = _kcat.decode(line)
        if parsed.payload is msgspec.UNSET and parsed.payload_b64 is None:
            return RawRecord(value=line, topic=topic, offset=number)
        payload = None if parsed.payload is msgspec.UNSET else parsed.payload
        return RawRecord(
            value=_bytes(payload, parsed.payload_b64),
            topic=parsed.topic,
            partition=parsed.partition,
            offset=parsed.offset,
            key=_bytes(parsed.key, parsed.key_b64),
            headers=_headers(parsed.headers),
            recorded_ms=parsed.ts if parsed.ts is not None and parsed.ts >= 0 else None,
        )
    except (msgspec.MsgspecError, UnicodeError, RecursionError, binascii.Error):
        return RawRecord(value=line, topic=topic, offset=number)


def _bytes(text: str | None, packed: str | None) -> bytes | None:
    if packed is not None:
        return base64.b64decode(packed, validate=True)
    return None if text is None else text.encode(errors="surrogatepass")


def _headers(flat: tuple[str | None, ...]) -> tuple[tuple[str, bytes | None], ...]:
    """Kcat prints name, value, name, value."""
    if not flat:
        return ()
    return tuple(
        (name or "", None if value is None else value.encode(errors="surrogatepass"))
        for name, value in zip(flat[::2], flat[1::2], strict=False)
    )

"""Reads the lines of a byte stream page by page, and the record in each line.

`normalizer normalize` uses it to read standard input, and a backfill to read files. Blank lines are
skipped, but they're counted, so that line numbers match those in an editor.
"""

import base64
import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

from normalizer.core.decode.decode_json import UTF8_BOM
from normalizer.core.raw_record import RawRecord

MAX_LINE_BYTES: Final = (8 << 20) + 1
"""A longer line is cut to this size, which is one byte more than a record may have, so the rules
reject it. Source: docs/spec/wire-shapes.md#l3."""

_CHUNK_BYTES: Final = 1 << 20
TOPIC_HASH_INPUT_BYTES: Final = 1 << 16


class ByteStream(Protocol):
    """A buffered byte stream.

    `read1` returns at least one byte and at most as many as requested.
    """

    def read1(self, size: int, /) -> bytes:
        """Return some bytes, or none at the end."""


def looks_like_complete_json(line: bytes) -> bool:
    """Return whether a line without its newline looks like one complete JSON value."""
    try:
        msgspec.json.decode(line.removeprefix(UTF8_BOM), type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def read_numbered_line_pages(
    stream: ByteStream, *, longest_bytes: int = MAX_LINE_BYTES
) -> Iterator[list[tuple[int, bytes]]]:
    """Yield pages of (number, line). Lines are numbered from 1 and lose their newline.

    A page has only the lines that can be read without waiting. So write the results of a page
    before you ask for the next one, which may take any time. A line that's longer than
    `longest_bytes` is cut, and the rules then reject it as too large.
    """
    number = 1
    for text in read_line_chunks(stream, longest_bytes=longest_bytes):
        yield _split_lines(number, text, longest_bytes)
        number += text.count(b"\n")


def read_line_chunks(stream: ByteStream, *, longest_bytes: int = MAX_LINE_BYTES) -> Iterator[bytes]:
    """Yield the complete lines that have been read so far, about 1 MiB at a time.

    A text is empty if the stream had data, but no line has ended yet. Only the stream's last line
    may lack its newline, and is then a text of its own. A line that arrives in several chunks is
    cut to `longest_bytes` while it's collected, so that it can't exhaust the memory. A line that
    arrives in one chunk isn't cut, because it's in memory already.
    """
    begun = bytearray()
    while chunk := stream.read1(_CHUNK_BYTES):
        after = chunk.rfind(b"\n") + 1
        if not after:
            begun += chunk[: longest_bytes - len(begun)]
            yield b""
            continue
        if begun:
            first_end = chunk.find(b"\n")
            begun += chunk[: min(first_end, longest_bytes - len(begun))]
            whole = bytes(begun) + chunk[first_end:after]
        else:
            whole = chunk[:after]
        yield from _cut(whole)
        begun = bytearray(chunk[after : after + longest_bytes])
    if begun:
        yield bytes(begun)


def _cut(text: bytes) -> Iterator[bytes]:
    """Cut the text after newlines, because a chunk may decompress to many times its size."""
    begin = 0
    while len(text) - begin > 2 * _CHUNK_BYTES:
        after = text.index(b"\n", begin + _CHUNK_BYTES) + 1
        yield text[begin:after]
        begin = after
    if begin < len(text):
        yield text[begin:]


def _split_lines(number: int, text: bytes, longest_bytes: int) -> list[tuple[int, bytes]]:
    """Return the lines of a text with their numbers, without blank lines."""
    return [
        (at, line)
        for at, whole in enumerate(text.split(b"\n"), number)
        if (line := whole[:longest_bytes]) and not line.isspace()
    ]


def topic_from_content_hash(first_bytes: bytes, known: Collection[str]) -> str:
    """Return the topic that the records of a file get: a hash of the file's first bytes.

    `first_bytes` are the first 64 KiB, uncompressed, or the whole file if it's shorter. If such a
    shorter file grows, its hash changes, and a second backfill would store its events again under a
    new topic. To prevent that, the topic of a shorter file contains the file's size. With the sizes
    in `known`, the topics of files that were read before, this recognizes a file that begins with
    one of them, and returns the known topic. Source: docs/spec/wire-shapes.md#g6.
    """
    known_sizes = {int(size) for one in known if (size := one.partition(".")[2]).isdecimal()}
    hashed, begin = hashlib.blake2b(digest_size=8), 0
    topic, known_topic = "", ""
    for end in sorted(known_sizes | {len(first_bytes)}):
        if end > len(first_bytes):
            break
        hashed.update(first_bytes[begin:end])
        begin = end
        topic = f"file:{hashed.hexdigest()}" + f".{end}" * (end < TOPIC_HASH_INPUT_BYTES)
        known_topic = topic if topic in known else known_topic
    return known_topic or topic


class _KcatLine(msgspec.Struct, frozen=True, gc=False):
    """A record as printed by `kcat -J`.

    We add the fields *_b64, for bytes that aren't UTF-8.
    """

    topic: Annotated[str, Meta(max_length=249, pattern="^[^\\0]*$")]
    partition: Annotated[int, Meta(ge=0, lt=1 << 31)]
    offset: Annotated[int, Meta(ge=0, lt=(1 << 63) - 1)]
    ts: int | None = None
    key: str | None = None
    key_b64: str | None = None
    headers: tuple[str | None, ...] = ()
    payload: str | msgspec.UnsetType | None = msgspec.UNSET
    payload_b64: str | None = None


_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""Errors for a line that isn't JSON, kcat's form, UTF-8, or base64, or that has too many levels."""

_kcat: Final[msgspec.json.Decoder[_KcatLine]] = msgspec.json.Decoder(_KcatLine)


def parse_record_lines(
    number: int, text: bytes, topic: str, *, longest_bytes: int = MAX_LINE_BYTES
) -> tuple[int, Sequence[int], list[RawRecord]]:
    """Return the number of the next text's first line, and this text's line numbers and records.

    `number` is the number of this text's first line. Blank lines have no record, so they're left
    out. `parse_record_line` describes the record of each other line. The last line may lack its
    newline only at the end of a file. No text follows there, so the first returned number has no
    meaning.
    """
    if len(text) <= longest_bytes and (records := _all_in_kcats_form(text)) is not None:
        after = number + len(records)
        return after, range(number, after), records
    lines = _split_lines(number, text, longest_bytes)
    return (
        number + text.count(b"\n"),
        [at for at, _ in lines],
        [parse_record_line(line, at, topic) for at, line in lines],
    )


def parse_record_line(line: bytes, number: int, topic: str) -> RawRecord:
    """Return the record that a line holds.

    A line printed by `kcat -J` is a record with its own topic, partition, offset, and time. Any
    other line is the value of a record whose topic is `topic`, and whose offset is the line's
    `number`.
    """
    try:
        record = _recorded(_kcat.decode(line.removeprefix(UTF8_BOM)))
    except _UNREADABLE:
        record = None
    return record or RawRecord(value=line, topic=topic, offset=number)


def _all_in_kcats_form(text: bytes) -> list[RawRecord] | None:
    """Decode all lines in one call, in half the time. Returns None unless each line is one record.

    msgspec ignores newlines, so a value could span two lines while another line has two values.
    That can't happen here. `_objects` has checked that each line begins with `{` and ends in `}`,
    and inside a JSON value, `{` can't follow `}` and a newline. So if there are as many values as
    lines, each line is one value.
    """
    lines = _objects(text)
    if not lines:
        return None
    try:
        found = [_recorded(parsed) for parsed in _kcat.decode_lines(text)]
    except _UNREADABLE:
        return None
    records = [record for record in found if record]
    return records if len(records) == len(found) == lines else None


def _objects(text: bytes) -> int:
    """Return the number of lines, or 0 unless each begins with `{` and all but the last end in `}`.

    This searches for each newline and looks at the characters beside it, because `bytes.find` is
    much faster for one character than for several. Counting the pattern `}`, newline, `{` would
    take twice as long.
    """
    if not text.startswith(b"{"):
        return 0
    lines = 1
    newline = -1
    last = len(text) - 1
    while 0 <= (newline := text.find(b"\n", newline + 1)) < last:
        if text[newline - 1 : newline + 2] != b"}\n{":
            return 0
        lines += 1
    return lines


def _recorded(parsed: _KcatLine) -> RawRecord | None:
    """Return the record, or None for an object without a payload.

    Raises the errors in `_UNREADABLE`.
    """
    payload, key, at_ms = parsed.payload, parsed.key, parsed.ts
    if parsed.payload_b64 is not None:
        value: bytes | None = base64.b64decode(parsed.payload_b64, validate=True)
    elif payload is msgspec.UNSET:
        return None
    else:
        value = None if payload is None else payload.encode()
    if parsed.key_b64 is not None:
        key_bytes: bytes | None = base64.b64decode(parsed.key_b64, validate=True)
    else:
        key_bytes = None if key is None else key.encode()
    return RawRecord(
        value,
        parsed.topic,
        0,
        parsed.partition,
        parsed.offset,
        key_bytes,
        _headers(parsed.headers) if parsed.headers else (),
        at_ms if at_ms is not None and at_ms >= 0 else None,
    )


def _headers(flat: tuple[str | None, ...]) -> tuple[tuple[str, bytes | None], ...]:
    """Pair the headers, which kcat prints as name, value, name, value."""
    each = iter(flat)
    pairs = zip(each, each, strict=False)
    return tuple([(name or "", None if value is None else value.encode()) for name, value in pairs])

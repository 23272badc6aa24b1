"""Reads the rows of an API dump, `{"result":[...]}` or a bare list, one by one.

A dump is a single JSON document, which may have any number of lines and be larger than memory. So
it's read in pieces. This module finds the list of rows, yields the bytes of each row unchanged, and
skips everything else.
"""

import codecs
import re
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final

import msgspec

from normalizer.errors import FatalError
from normalizer.files.decompressed_file import DecompressedFile

_ROWS_KEY: Final = "result"
"""The key of the rows in dumps of the platform's APIs."""

_ROWS_A_PAGE: Final = 1_000
_PAGE_BYTES: Final = 1 << 20
_LONGEST: Final = 1 << 26
"""The most letters in one row, or in another value of the document."""

_WORD_LETTERS: Final = len("-Infinity")
"""A truncated word or escape begins within this many letters of the end."""

_EVENT_KEYS: Final = frozenset(("event_type", "name", "events"))
_SCALAR: Final = r'(?:null|true|false|-?[0-9][0-9.eE+-]*|"(?:[^"\\]|\\.)*")'
_OPENING: Final = re.compile(
    rf'\s*\{{(?P<before>(?:\s*"[^"\\]*"\s*:\s*{_SCALAR}\s*,)*)\s*"{_ROWS_KEY}"\s*:\s*\[', re.DOTALL
)
_KEY: Final = re.compile(r'"([^"\\]*)"\s*:')
_LIST: Final = re.compile(r"\s*\[\s*(?:\{|\Z)")
_SPACE: Final = re.compile(r"[ \t\r\n]*")


def is_api_dump(beginning: bytes) -> bool:
    """Return whether a file is a dump instead of lines, given its first 64 KiB, or all of it."""
    text = beginning.decode(errors="replace").removeprefix("\ufeff")
    first, newline, rest = text.lstrip().partition("\n")
    try:
        whole = msgspec.json.decode(first.encode())
    except (msgspec.MsgspecError, RecursionError):
        opening = _OPENING.match(text)
        if opening:
            return not _EVENT_KEYS.intersection(_KEY.findall(opening["before"]))
        return _LIST.match(text) is not None
    match whole:
        case {"result": list()}:
            return not _EVENT_KEYS.intersection(whole)
        case [dict(), *_]:
            return not (newline and rest.strip())
        case _:
            return False


def read_api_dump_rows(stream: DecompressedFile, name: str) -> Iterator[list[tuple[int, bytes]]]:
    """Yield pages of (number, row). Rows are numbered from 1.

    If the stream ends inside the document, this yields the complete rows and then sets `cut` of the
    stream to True. Raises FatalError if the text isn't JSON, because nobody can tell where the next
    row would begin.
    """
    reader = _DumpReader(stream, name)
    page: list[tuple[int, bytes]] = []
    page_bytes = 0
    try:
        for number, row in enumerate(reader.read_rows(), 1):
            page.append((number, row))
            page_bytes += len(row)
            if len(page) >= _ROWS_A_PAGE or page_bytes >= _PAGE_BYTES:
                yield page
                page, page_bytes = [], 0
    except EOFError:
        stream.cut = True
    except FatalError:
        if page:
            yield page
        raise
    if page:
        yield page


class _DumpReader:
    """Reads one document. Only one value and one chunk of its text are in memory."""

    def __init__(self, stream: DecompressedFile, name: str) -> None:
        self._stream = stream
        self._name = name
        # Don't fail on bytes that aren't UTF-8. Pass them on, so that the rules can report what's
        # wrong with their row, and the other rows are still read.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self._text = ""
        self._at = 0
        self._dropped = 0
        self._ended = False

    def read_rows(self) -> Iterator[bytes]:
        if self._peek() == "\ufeff":
            self._at += 1
        if self._peek() == "[":
            yield from self._list()
        else:
            yield from self._object()
        if not self._is_at_end():
            raise self._broken(
                "the JSON document ends here, but the file continues. If the file has one record "
                "per line, use --format lines"
            )

    def _object(self) -> Iterator[bytes]:
        self._take("{")
        while self._peek() != "}":
            key, _ = self._value()
            self._take(":")
            if key == _ROWS_KEY and self._peek() == "[":
                yield from self._list()
            else:
                self._value()
            if self._peek() == ",":
                self._at += 1
        self._take("}")

    def _list(self) -> Iterator[bytes]:
        self._take("[")
        while self._peek() != "]":
            _, text = self._value()
            # Before yielding a value, look for the comma or bracket after it. If the file is
            # truncated, its last value may be incomplete. For example, 12 may be the first half of
            # 1234.
            if self._peek() == ",":
                self._at += 1
            yield text.encode(errors="surrogateescape")
        self._take("]")

    def _value(self) -> tuple[Any, str]:
        """Return the next value and its text."""
        self._peek()
        while True:
            try:
                value, end = _json.raw_decode(self._text, self._at)
            except (JSONDecodeError, RecursionError) as error:
                if not self._may_go_on(error):
                    raise self._broken(
                        "expected a JSON value here, but got other text, so the rest can't be read"
                    ) from error
                if not self._read():
                    raise EOFError from None
                continue
            if end == len(self._text) and self._read():
                continue  # the number may continue in the next chunk
            text = self._text[self._at : end]
            self._at = end
            return value, text

    def _may_go_on(self, error: JSONDecodeError | RecursionError) -> bool:
        """Return whether the value may just be incomplete, judging by where the decoder stopped."""
        if isinstance(error, RecursionError) or len(self._text) - self._at > _LONGEST:
            return False
        return error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _WORD_LETTERS

    def _peek(self) -> str:
        """Return the next letter that isn't whitespace. Raises EOFError at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            assert space is not None
            self._at = space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read():
                raise EOFError

    def _is_at_end(self) -> bool:
        try:
            self._peek()
        except EOFError:
            return True
        return False

    def _take(self, letter: str) -> None:
        if self._peek() != letter:
            raise self._broken(f"expected {letter!r}")
        self._at += 1

    def _read(self) -> bool:
        """Read the next chunk. Returns whether there was one."""
        self._dropped += self._at
        self._text, self._at = self._text[self._at :], 0
        while not self._ended:
            chunk = self._stream.read1()
            self._ended = not chunk
            text = self._decoder.decode(chunk, self._ended)
            if text:
                self._text += text
                return True
        return False

    def _broken(self, why: str) -> FatalError:
        return FatalError(f"{self._name}: character {self._dropped + self._at + 1}: {why}")


_json: Final = JSONDecoder(parse_float=str, parse_int=str, parse_constant=str, strict=False)

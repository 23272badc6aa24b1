"""API dumps are recognized beside lines, and read row by row however the bytes arrive."""

import io
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from normalizer.errors import FatalError
from normalizer.files.api_dumps import is_api_dump, read_api_dump_rows
from normalizer.files.decompressed_file import DecompressedFile

ROWS: list[Any] = [{"a": 1, "b": "é]}{"}, {"x": [1, 2.50, {"y": '\\"'}]}, 12345, None, "text"]
DUMP = msgspec.json.encode({"error": None, "result": ROWS, "status": {"ok": [1, "]"]}})


class Slow(io.BytesIO):
    """A file that gives a few bytes at a time."""

    def __init__(self, content: bytes, size: int) -> None:
        super().__init__(content)
        self._size = size

    def read(self, _size: int | None = -1, /) -> bytes:
        return super().read(self._size)


def read(content: bytes, size: int = 1 << 20) -> tuple[list[bytes], bool]:
    """The rows, and whether the dump was cut off."""
    stream = DecompressedFile(Slow(content, size), "dump")
    numbered = [row for page in read_api_dump_rows(stream, "dump") for row in page]
    assert [number for number, _ in numbered] == list(range(1, len(numbered) + 1))
    return [row for _, row in numbered], stream.cut


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "content",
    [DUMP, msgspec.json.format(DUMP, indent=2), msgspec.json.encode(ROWS), b"\xef\xbb\xbf" + DUMP],
    ids=["compact", "indented", "list", "bom"],
)
def test_a_row_is_the_bytes_it_was_written_as(content: bytes, size: int) -> None:
    found, cut = read(content, size)

    assert [msgspec.json.decode(row) for row in found] == ROWS
    assert not cut


@given(st.integers(0, len(DUMP) - 1), st.integers(1, 64))
def test_a_dump_that_is_cut_off_says_so_and_gives_whole_rows_only(at: int, size: int) -> None:
    found, cut = read(DUMP[:at], size)

    assert cut
    assert [msgspec.json.decode(row) for row in found] == ROWS[: len(found)]


def test_bytes_that_are_not_utf8_pass_through() -> None:
    assert read(b'[{"a":"\xff"}]') == ([b'{"a":"\xff"}'], False)


@pytest.mark.parametrize(
    "content", [b'{"result":[{"a":1},{bad},{"b":1}]}', b'{"result":[{"a":1}]} {"result":1}']
)
def test_an_unreadable_dump_is_rejected_with_its_place(content: bytes) -> None:
    with pytest.raises(FatalError, match=r"^dump: character \d+: "):
        read(content)


@pytest.mark.parametrize(
    ("beginning", "is_one"),
    [
        (b'{"result":[]}', True),
        (b'{\n  "error": null,\n  "result": [\n    {', True),
        (b'{"status":"ok","count":2,"result":[{"event_type":"x"', True),
        (b'[{"a":1}]\n', True),
        (b'[\n {"a":1},\n', True),
        (b'[]\n{"event_type":"x"}\n', False),
        (b'{"event_type":"call.done","result":[1,2]}\n', False),
        (b'{"result":[1],"name":"x"}\n{', False),
        (b'{"execution_id":"1","event_type":"x","result":[', False),
        (b'{"a":1}\n{"b":2}\n', False),
        (b"garbage\n{}", False),
        (b"", False),
    ],
)
def test_a_dump_is_reported_from_lines_by_its_beginning(beginning: bytes, *, is_one: bool) -> None:
    assert is_api_dump(beginning) == is_one

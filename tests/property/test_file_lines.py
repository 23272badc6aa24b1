"""Laws of reading lines: how a file was cut into chunks, or read together, changes no record."""

import base64
import json

from hypothesis import example, given, strategies as st

from normalizer.core.raw_record import RawRecord
from normalizer.files.record_lines import (
    MAX_LINE_BYTES,
    parse_record_line,
    parse_record_lines,
    read_line_chunks,
    read_numbered_line_pages,
)
from tests.support.factories import raw_event

TOPIC = "file:0123456789abcdef"
EVENT = json.dumps(raw_event(1))


def kcat_line(**fields: object) -> bytes:
    """A line as `kcat -J` prints it; a field that is None is left out."""
    said = {"topic": "noetl.events", "partition": 1, "offset": 7, "ts": 5, "payload": EVENT}
    return json.dumps({k: v for k, v in (said | fields).items() if v is not None}).encode()


IN_KCATS_FORM = (
    kcat_line(),
    kcat_line(payload=None, payload_b64=base64.b64encode(b"\xff{").decode()),
    kcat_line(key="k}", headers=["a", "1", "b", None], ts=-1),
    kcat_line().replace(json.dumps(EVENT).encode(), b"null"),
)
OTHERS = (
    b"",
    b" \t",
    EVENT.encode(),
    b"\xef\xbb\xbf" + kcat_line(),
    kcat_line() + b"\r",
    kcat_line() + kcat_line(),
    kcat_line()[:-1],
    kcat_line(payload=None),
    kcat_line(payload="\ud800"),
    kcat_line(payload_b64="not base64"),
    kcat_line(key_b64="é"),
    kcat_line(offset=-1),
    kcat_line(topic=None),
    b"}",
    b"{",
    b'{"topic":"t","partition":0,',
    b'"offset":1,"payload":"x"}',
    b"\xff",
)


class Chunks:
    """A stream that gives these bytes in chunks of these lengths, then the rest."""

    def __init__(self, content: bytes, lengths: list[int]) -> None:
        self._content = content
        self._lengths = list(lengths)

    def read1(self, _size: int, /) -> bytes:
        length = self._lengths.pop(0) if self._lengths else len(self._content)
        chunk, self._content = self._content[:length], self._content[length:]
        return chunk


def together(stream: Chunks, *, longest_bytes: int = MAX_LINE_BYTES) -> list[tuple[int, RawRecord]]:
    """The records of a stream, read text by text, with the numbers of their lines."""
    found: list[tuple[int, RawRecord]] = []
    number = 1
    for text in read_line_chunks(stream, longest_bytes=longest_bytes):
        number, *numbered = parse_record_lines(number, text, TOPIC, longest_bytes=longest_bytes)
        found += zip(*numbered, strict=True)
    return found


LINES = st.lists(st.sampled_from(IN_KCATS_FORM) | st.sampled_from(OTHERS), max_size=12) | st.lists(
    st.sampled_from(IN_KCATS_FORM), max_size=12
)
TWO_IN_ONE_LINE_AND_ONE_IN_TWO = [
    kcat_line() + kcat_line(),
    b'{"topic":"t","partition":0,',
    b'"offset":1,"payload":"x"}',
    b"",
]
LENGTHS = st.lists(st.integers(1, 400), max_size=12)


@given(LINES, LENGTHS)
@example(TWO_IN_ONE_LINE_AND_ONE_IN_TWO, [])
@example([kcat_line() + kcat_line(), kcat_line(payload=None), b""], [])
def test_lines_read_together_are_the_records_they_are_alone(
    lines: list[bytes], lengths: list[int]
) -> None:
    content = b"\n".join(lines)
    maintenance_lock = [
        (number, parse_record_line(line, number, TOPIC))
        for number, line in enumerate(content.split(b"\n"), 1)
        if line.strip()
    ]

    assert together(Chunks(content, lengths)) == maintenance_lock


@given(LINES, LENGTHS, st.integers(1, 300))
def test_a_long_line_is_cut_wherever_its_chunks_end(
    lines: list[bytes], lengths: list[int], longest: int
) -> None:
    content = b"\n".join(lines)
    cut = [
        (number, line[:longest]) for number, line in enumerate(lines, 1) if line[:longest].strip()
    ]

    read = [
        line
        for page in read_numbered_line_pages(Chunks(content, lengths), longest_bytes=longest)
        for line in page
    ]

    assert read == cut
    numbered = together(Chunks(content, lengths), longest_bytes=longest)
    assert numbered == [(number, parse_record_line(line, number, TOPIC)) for number, line in cut]


def test_a_file_in_kcats_form_is_decoded_together() -> None:
    count = len(IN_KCATS_FORM)

    after, numbers, records = parse_record_lines(4, b"\n".join([*IN_KCATS_FORM, b""]), TOPIC)

    assert after == 4 + count
    assert numbers == range(4, 4 + count)
    assert [record.topic for record in records] == ["noetl.events"] * count


def test_a_highly_compressed_batch_is_read_in_parts() -> None:
    lines = [b"%d" % number + b"x" * (number % 7 * 1_000) for number in range(1_500)]
    lines[700] = b"y" * (5 << 20)

    read = list(read_line_chunks(Chunks(b"\n".join([*lines, b""]), [])))

    assert b"".join(read).split(b"\n") == [*lines, b""]
    assert all(text.endswith(b"\n") for text in read)
    assert max(len(text.replace(lines[700], b"")) for text in read) < 3 << 20
    assert len(read) > 3

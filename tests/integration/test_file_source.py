"""A file as a source of history: it goes on at any line, and holds nobody up meanwhile."""

import asyncio
import random
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from normalizer.files import unpack
from normalizer.files.record_lines import texts
from normalizer.files.unpack import Unpacked
from normalizer.jobs.sources.file_source import FileSource
from normalizer.jobs.sources.source import ReadPosition, SourcePage, SourcePart
from tests.support.job_runs import write_file

LINES = 5_000
PADDING = b"x" * 1_000
FORMS = {"kcat": b'{"topic":"t","partition":0,"offset":%d,"payload":"%s"}', "bare": b'{"%d":"%s"}'}


def lines_of(form: str) -> list[bytes]:
    """Several mebibytes; blank ones in the first of them only, so that others are read together."""
    return [
        b"" if number < 900 and number % 100 == 0 else FORMS[form] % (number, PADDING)
        for number in range(LINES)
    ]


async def read(source: FileSource, line: int) -> list[SourcePage]:
    """What a run gives that goes on at this line."""
    (part,) = await source.parts()
    return await read_part(source, part, line)


async def read_part(source: FileSource, part: SourcePart, line: int) -> list[SourcePage]:
    """The same, once its parts are known."""
    return [page async for page in source.read({part.key: ReadPosition(next_offset=line)})]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["f.ndjson", "f.zst"])
@pytest.mark.parametrize("line", [1, 2, 500, "last of a text", "first of a text", LINES])
async def test_it_goes_on_at_any_line(
    tmp_path: Path, form: str, name: str, line: int | str
) -> None:
    lines = lines_of(form)
    path = write_file(tmp_path / name, b"\n".join(lines))
    if isinstance(line, str):
        with Unpacked.open(path) as stream:
            line = next(texts(stream)).count(b"\n") + line.startswith("first")

    pages = await read(FileSource([path]), line)

    left = [(number, one) for number, one in enumerate(lines, 1) if number >= line]
    offsets = [record.offset for page in pages for record in page.records]
    kcats = form == "kcat"  # such a line says its own offset, here from 0
    assert offsets == [number - kcats for number, one in left if one]
    assert [pages[0].from_offset, pages[-1].next_offset] == [line, LINES + 1]
    assert all(one.next_offset == after.from_offset for one, after in pairwise(pages))
    holes = [hole for page in pages for hole in page.holes]
    assert holes == [(number, number + 1) for number, one in left if not one]


async def test_others_have_their_turn_while_lines_are_passed_over(tmp_path: Path) -> None:
    source = FileSource([write_file(tmp_path / "f.ndjson", b"\n".join(lines_of("bare")))])
    shares = set()

    async def watch() -> None:
        while True:
            shares.add(source.share())
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await read(source, LINES)
    watching.cancel()

    assert len(shares - {None, 0.0, 1.0}) >= 3


async def test_a_disk_that_hangs_holds_nobody_else_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of many reads waits until somebody else had a turn."""
    draw = random.Random(1)
    lines = [b'"%s"' % draw.randbytes(500).hex().encode() for _ in range(LINES)]
    source = FileSource([write_file(tmp_path / "f.zst", b"\n".join(lines))])
    (part,) = await source.parts()
    turn = threading.Event()
    read_ahead = Unpacked.read_ahead
    reads = 0

    def hang(stream: Unpacked) -> None:
        nonlocal reads
        turn.clear()
        assert turn.wait(5), "nobody else had a turn"
        read_ahead(stream)
        reads += 1

    monkeypatch.setattr(unpack, "_AHEAD_BYTES", 1 << 18)
    monkeypatch.setattr(Unpacked, "read_ahead", hang)
    reading = asyncio.create_task(read_part(source, part, 1))
    while not reading.done():
        turn.set()
        await asyncio.sleep(0)

    assert sum(len(page.records) for page in await reading) == LINES
    assert reads > 5

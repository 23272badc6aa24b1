"""A file as a source of history: it goes on at any line, and holds nobody up meanwhile."""

import asyncio
import random
import threading
from pathlib import Path

import pytest

from normalizer.files import decompressed_file
from normalizer.files.decompressed_file import DecompressedFile
from normalizer.jobs.sources.file_source import FileSource
from normalizer.jobs.sources.job_source import ReadPosition, SourcePage, SourcePart
from tests.support.job_runs import write_file

LINES = 5_000


async def read_part(source: FileSource, part: SourcePart, line: int) -> list[SourcePage]:
    """What a run gives that goes on at this line."""
    return [page async for page in source.read({part.key: ReadPosition(next_offset=line)})]


async def test_a_disk_that_hangs_holds_nobody_else_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of many reads waits until somebody else had a turn."""
    draw = random.Random(1)
    lines = [b'"%s"' % draw.randbytes(500).hex().encode() for _ in range(LINES)]
    source = FileSource([write_file(tmp_path / "f.zst", b"\n".join(lines))])
    (part,) = await source.list_parts()
    turn = threading.Event()
    prefetch = DecompressedFile.prefetch
    reads = 0

    def hang(stream: DecompressedFile) -> None:
        nonlocal reads
        turn.clear()
        assert turn.wait(5), "nobody else had a turn"
        prefetch(stream)
        reads += 1

    monkeypatch.setattr(decompressed_file, "_AHEAD_BYTES", 1 << 18)
    monkeypatch.setattr(DecompressedFile, "prefetch", hang)
    reading = asyncio.create_task(read_part(source, part, 1))
    while not reading.done():
        turn.set()
        await asyncio.sleep(0)

    assert sum(len(page.records) for page in await reading) == LINES
    assert reads > 5

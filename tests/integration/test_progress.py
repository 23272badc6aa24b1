"""Long work says on a terminal how far it is, also while it waits for the database."""

import asyncio
import contextlib
import os
import sys
from functools import partial
from pathlib import Path

import msgspec
import pytest

from tests.support.factories import raw_event
from tests.support.job_runs import job_settings, write_file
from tests.support.service_runs import environment, until
from tests.support.stack import Database
from tests.support.table_rows import connected

in_soak = partial(pytest.param, marks=pytest.mark.soak)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("export", "FOLDER/events.zst"), b"export   0%: 0 events, 0/s"),
        (("forget", "7", "--why", "r"), b"forget: 0 events found, 0/s"),
        (("renormalize", "--dry-run"), b"dry run   0%: 0 rows, 0/s"),
        (("backfill", "file", "FOLDER/lines", "--dry-run"), b": 1 records, "),
        in_soak(("export", "-", "--execution", "7"), b"export: 0 events, 0/s"),
        in_soak(("forget", "7", "--why", "r", "--dry-run"), b"forget: 0 events found, 0/s"),
        in_soak(("redact", "--dry-run"), b"dry run   0%: 0 rows, 0/s"),
    ],
)
async def test_long_work_says_how_far_it_is_and_takes_its_line_away(
    database: Database, tmp_path: Path, arguments: tuple[str, ...], shown: bytes
) -> None:
    write_file(tmp_path / "lines", msgspec.json.encode(raw_event(1)))
    typed = [argument.replace("FOLDER", str(tmp_path)) for argument in arguments]
    terminal, theirs = os.openpty()
    os.set_blocking(terminal, False)
    said = b""

    def says(text: bytes) -> bool:
        nonlocal said
        # Nothing may be there to read now, or nobody may have the other end any more.
        with contextlib.suppress(OSError):
            said += os.read(terminal, 1 << 16)
        return text in said

    async with connected(database) as connection:
        async with connection.transaction():
            await connection.execute("lock table normalizer.events in access exclusive mode")
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "normalizer", *typed),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=theirs,
                env=environment(job_settings(database)),
            )
            os.close(theirs)
            await until(lambda: says(shown))
        await process.communicate()
        says(b"")
    os.close(terminal)

    assert process.returncode == 0
    assert b"\r\x1b[K" in said
    assert said.rsplit(b"\x1b[K")[-1].count(shown) == 0

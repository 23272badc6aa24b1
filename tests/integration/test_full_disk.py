"""A disk that is really full: a file system of a few megabytes, which grows when it has to."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from normalizer.embedded import PostgresServer
from normalizer.store.migrate import migrate
from tests.support.factories import raw_event
from tests.support.job_runs import job_settings, ledger_mistakes, write_file
from tests.support.service_runs import process
from tests.support.small_disk import SmallDisk, drop_from, move_to, small_disk
from tests.support.stack import Database
from tests.support.table_rows import connected

EVENTS = 4_000


@pytest.fixture
def disk(postgres_server: PostgresServer) -> Iterator[SmallDisk]:
    with small_disk(postgres_server, megabytes=64) as made:
        yield made


@pytest.fixture
async def database(postgres_server: PostgresServer, disk: SmallDisk) -> AsyncIterator[Database]:
    """All its tables lie on the small disk; the write-ahead log does not."""
    url = await postgres_server.create_database("small")
    await move_to(disk, postgres_server, "small")
    await migrate(url, report=lambda _: None)
    yield Database(
        name="small", url=url, admin_url=postgres_server.url_of("small", role="postgres")
    )
    await drop_from(postgres_server, "small")


@pytest.mark.soak
async def test_a_backfill_waits_for_room_says_so_and_loses_nothing(
    database: Database, disk: SmallDisk, tmp_path: Path
) -> None:
    noise = os.urandom(6_000).hex()
    history = write_file(
        tmp_path / "history.zst",
        b"".join(
            msgspec.json.encode(raw_event(n, context={"n": n, "noise": noise[n % 99 :]})) + b"\n"
            for n in range(EVENTS)
        ),
    )

    async with process(
        job_settings(database), "file", str(history), command="backfill"
    ) as backfill:
        said = await _until_said(backfill, "53100")
        async with connected(database) as connection:
            before = await connection.fetchval("select count(*) from normalizer.events")
        assert 0 <= before < EVENTS
        disk.resize(200)
        rest, _ = await backfill.communicate()

    assert backfill.returncode == 0, said + rest.decode()
    async with connected(database) as connection:
        assert await connection.fetchval("select count(*) from normalizer.events") == EVENTS
        assert await connection.fetchval("select count(*) from normalizer.quarantine") == 0
    assert await ledger_mistakes(database) == []


async def _until_said(child: asyncio.subprocess.Process, words: str) -> str:
    """What it printed until these words came."""
    assert child.stdout
    said = ""
    with contextlib.suppress(asyncio.IncompleteReadError):
        async with asyncio.timeout(60):
            while words not in said:
                said += (await child.stdout.readuntil(b"\n")).decode()
    assert words in said, said
    return said

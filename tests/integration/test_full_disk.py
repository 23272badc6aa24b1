"""A disk that is really full: a file system of a few megabytes, which grows when it has to."""

import asyncio
import contextlib
import os
import pwd
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import msgspec
import pytest

from normalizer.embedded import PostgresServer
from normalizer.store.migrate import migrate
from tests.factories import raw_event
from tests.replays import found_wrong, settings_of, written
from tests.running import process
from tests.stack import Database, leave_out
from tests.tables import connected

EVENTS = 4_000


@pytest.fixture
def small_disk(postgres_server: PostgresServer) -> Iterator[Path]:
    """A file system of 24 MB that belongs to the server's user."""
    folder = postgres_server.folder.with_name(f"{postgres_server.folder.name}-small")
    folder.mkdir()
    owner = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    options = f"size=24m,uid={owner},mode=700"
    try:
        _as_root("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        leave_out(f"needs the right to mount a file system: {error}")
    yield folder
    _as_root("umount", "--lazy", str(folder))
    folder.rmdir()


def _as_root(*command: str) -> None:
    sudo = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    subprocess.run([*sudo, *command], check=True, capture_output=True)


@pytest.fixture
async def database(postgres_server: PostgresServer, small_disk: Path) -> AsyncIterator[Database]:
    """All its tables lie on the small disk; the write-ahead log does not."""
    url = await postgres_server.create_database("small")
    admin = await asyncpg.connect(postgres_server.url)
    await admin.execute(f"create tablespace small location '{small_disk}'")
    await admin.execute("alter database small set tablespace small")
    await migrate(url, say=lambda _: None)
    yield Database(
        name="small", url=url, admin_url=postgres_server.url_of("small", role="postgres")
    )
    await admin.execute("drop database small with (force)")
    await admin.execute("drop tablespace small")
    await admin.close()


async def test_a_backfill_waits_for_room_says_so_and_loses_nothing(
    database: Database, small_disk: Path, tmp_path: Path
) -> None:
    noise = os.urandom(6_000).hex()
    history = written(
        tmp_path / "history.zst",
        b"".join(
            msgspec.json.encode(raw_event(n, context={"n": n, "noise": noise[n % 99 :]})) + b"\n"
            for n in range(EVENTS)
        ),
    )

    async with process(settings_of(database), "file", str(history), command="backfill") as backfill:
        said = await _until_said(backfill, "53100")
        async with connected(database) as connection:
            before = await connection.fetchval("select count(*) from normalizer.events")
        assert 0 <= before < EVENTS
        _as_root("mount", "-o", "remount,size=200m", str(small_disk))
        rest, _ = await backfill.communicate()

    assert backfill.returncode == 0, said + rest.decode()
    async with connected(database) as connection:
        assert await connection.fetchval("select count(*) from normalizer.events") == EVENTS
        assert await connection.fetchval("select count(*) from normalizer.quarantine") == 0
    assert await found_wrong(database) == []


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

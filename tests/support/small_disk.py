"""A file system of a few megabytes: a disk that a test can really fill."""

import contextlib
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import asyncpg

from normalizer.embedded import PostgresServer
from tests.support.stack import skip_or_fail

_TRIES: Final = 50


class SmallDisk:
    """A mounted file system; `resize` adds or removes free space."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, megabytes: int) -> None:
        """Set the size, but not smaller than what's used."""
        _as_root("mount", "-o", f"remount,size={megabytes}m", str(self.folder))

    def fill(self) -> None:
        """Leave no free space. Shrink to what's used, again if a server has used more since."""
        for _ in range(_TRIES):
            disk = os.statvfs(self.folder)
            used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
            with contextlib.suppress(subprocess.CalledProcessError):
                _as_root("mount", "-o", f"remount,size={used // 1024 + 64}k", str(self.folder))
                return
        raise OSError(f"{self.folder} was written to too fast to be filled")


@contextlib.contextmanager
def small_disk(server: PostgresServer, megabytes: int) -> Iterator[SmallDisk]:
    """A disk that belongs to the server's user. Skipped if mounting isn't allowed."""
    folder = server.folder.with_name(f"{server.folder.name}-small")
    folder.mkdir()
    owner = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    options = f"size={megabytes}m,uid={owner},mode=700"
    try:
        _as_root("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        skip_or_fail(f"needs the right to mount a file system: {error}")
    try:
        yield SmallDisk(folder)
    finally:
        _as_root("umount", "--lazy", str(folder))
        folder.rmdir()


async def move_to(disk: SmallDisk, server: PostgresServer, database: str) -> None:
    """Move the tables of a database that is still empty to this disk."""
    admin = await asyncpg.connect(server.superuser_url)
    try:
        await admin.execute(f"create tablespace small location '{disk.folder}'")
        await admin.execute(f"alter database {database} set tablespace small")
    finally:
        await admin.close()


async def drop_from(server: PostgresServer, database: str) -> None:
    """Drop the database and the tablespace that `move_to` made for it."""
    admin = await asyncpg.connect(server.superuser_url)
    try:
        await admin.execute(f"drop database {database} with (force)")
        await admin.execute("drop tablespace small")
    finally:
        await admin.close()


def _as_root(*command: str) -> None:
    sudo = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    subprocess.run([*sudo, *command], check=True, capture_output=True)

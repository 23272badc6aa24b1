"""How commands end: the code tells a script what to do next."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.support.commands import run_program
from tests.support.factories import TOPIC
from tests.support.stack import Database
from tests.support.table_rows import connected, insert_row

WAITING = {
    "normalizer check": ("normalizer", "check"),
    "projector wait": ("projector", "wait", f"{TOPIC}:0:5"),
    "projector verify": ("projector", "verify"),
    "a job that has not begun": ("normalizer", "redact"),
}


@pytest.mark.parametrize(
    ("module", "command", "number"),
    [
        ("click", "normalizer check", signal.SIGINT),
        ("click", "projector views", signal.SIGTERM),
        ("asyncpg", "normalizer check", signal.SIGTERM),
        ("asyncpg", "projector views", signal.SIGINT),
    ],
)
def test_a_stop_while_modules_are_imported_ends_by_130(
    module: str, command: str, number: signal.Signals
) -> None:
    """A container's first process gets no signal that it has no handler for."""
    stopped = (
        "import os, runpy, sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Stop())\n"
        f"sys.argv = {command.split()}\n"
        "runpy.run_module(sys.argv[0], run_name='__main__')"
    )
    child = subprocess.run([sys.executable, "-c", stopped], capture_output=True, check=False)

    assert (child.returncode, child.stderr) == (130, b"")


@pytest.mark.parametrize("command", WAITING.values(), ids=WAITING)
async def test_ctrl_c_ends_a_command_that_waits_by_130(command: tuple[str, ...]) -> None:
    assert await code_after_ctrl_c(*command) == 130


async def code_after_ctrl_c(*command: str) -> int | None:
    """Its code, where neither database nor broker says anything."""
    called = asyncio.Event()
    clients: list[asyncio.StreamWriter] = []

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.append(writer)
        called.set()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    host, port = silent.sockets[0].getsockname()
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command),
        env=os.environ
        | {
            "DATABASE_URL": f"postgresql://u:p@{host}:{port}/none",
            "KAFKA_BOOTSTRAP_SERVERS": f"{host}:{port}",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        await called.wait()
        child.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            said, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
    silent.close()
    for writer in clients:
        writer.close()
    assert b"Traceback" not in said
    return child.returncode


async def test_a_wrong_password_ends_every_command_by_3(database: Database) -> None:
    address = urlsplit(database.url)
    host = f"{address.username}:wrong-one@{address.hostname}:{address.port}"
    wrong = urlunsplit(address._replace(netloc=host))
    environ = {"DATABASE_URL": wrong, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}

    ends = {
        command: await run_program(sys.executable, "-m", *command.split(), env=os.environ | environ)
        for command in ("normalizer migrate", "normalizer migrate --status", "normalizer jobs")
    }

    assert {code for code, _ in ends.values()} == {3}
    assert not any("wrong-one" in said for _, said in ends.values())
    assert "check the user and the password in DATABASE_URL" in ends["normalizer migrate"][1]


@pytest.mark.parametrize(("answer", "tried"), [("n\n", 0), ("y\n", 2)])
async def test_a_redrive_of_all_needs_a_confirmation_at_a_terminal(
    answer: str, tried: int, database: Database
) -> None:
    async with connected(database) as connection:
        for offset in (1, 2):
            await insert_row(connection, "normalizer.quarantine", source_offset=offset)
    ours, theirs = pty.openpty()
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "normalizer", "quarantine", "redrive"),
        env=os.environ | {"DATABASE_URL": database.url},
        stdin=theirs,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    os.write(ours, answer.encode())
    said, _ = await child.communicate()
    os.close(ours)
    os.close(theirs)
    async with connected(database) as connection:
        found = await connection.fetchval("select count(*) from normalizer.redrive_attempts")

    assert "all 2 rejected records are tried. Continue?" in said.decode()
    assert (child.returncode, found) == (0, tried)

"""`projector serve` as a process: its address, its end, and to whom it will not speak."""

import asyncio
import contextlib
import resource
import secrets
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from projector.api import connection_limits
from projector.api.app import build_app
from projector.api.connection_limits import MAX_CLIENT_CONNECTIONS
from projector.api.execution_waiter import ExecutionEndWaiter
from projector.api.serve import Server
from projector.api.snapshots import ReaderPool
from tests.integration.page import browsing
from tests.support.pgbouncer import PgBouncer
from tests.support.stack import Cluster, Database, Stack
from tests.support.waiting import moment, until


@contextlib.contextmanager
def many_files() -> Iterator[None]:
    """This process may open as many files as a test needs, and afterwards as many as before."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4_096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[tuple[Server, tuple[str, int]]]:
    """A server of this process, and its address."""
    server = Server(app)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield server, listener.getsockname()
        finally:
            server.stop()
            await task


async def test_half_sent_requests_keep_nobody_out(database: Database) -> None:
    async with browsing.serving(database.url) as address:
        host, port = address.removeprefix("http://").split(":")
        with many_files():
            half_sent = [
                await asyncio.open_connection(host, int(port))
                for _ in range(MAX_CLIENT_CONNECTIONS + 100)
            ]
            for _, writer in half_sent:
                writer.write(b"GET /livez HTTP/1.1\r\nHost: ")
            async with httpx.AsyncClient(base_url=address, timeout=30) as client:
                paths = ("/livez", "/readyz", "/api/v1/freshness")
                answers = [await client.get(path) for path in paths]
            for _, writer in half_sent:
                writer.close()

    assert [answer.status_code for answer in answers] == [200, 200, 200]


async def test_a_client_that_reads_nothing_is_cut_off_and_a_slow_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_limits, "_STALLED_AFTER_S", 2)
    size = 32 << 20

    async def large(_scope: Scope, _receive: Receive, send: Send) -> None:
        length = str(size).encode()
        headers = [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(size)})

    async def connections() -> int:
        return len(server.server_state.connections)

    async with serving(large) as (server, address):
        stalled = await asyncio.open_connection(*address)
        slow = await asyncio.open_connection(*address)
        for _, writer in (stalled, slow):
            writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        try:
            read = 0
            while read < size:  # 256 times or more, a hundredth of a second each
                got = await slow[0].read(1 << 17)
                assert got, "the slow client was cut off"
                read += len(got)
                await moment()
            await until(connections, is_so=lambda open_ones: open_ones <= 1)
            with contextlib.suppress(ConnectionError):
                while got := await stalled[0].read(1 << 20):
                    size -= len(got)
        finally:
            for _, writer in (stalled, slow):
                writer.close()

    assert size > 0, "the stalled client got everything"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_an_answer_that_fails_halfway_does_not_end_like_a_whole_one(version: bytes) -> None:
    """To a client of HTTP/1.0, as many proxies are, the end of the connection ends the body."""

    async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one\n", "more_body": True})
        await moment()
        raise RuntimeError

    async with serving(half) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/" + version + b"\r\nHost: 127.0.0.1\r\n\r\n")
        (end,) = await asyncio.gather(reader.read(), return_exceptions=True)
        writer.close()

    assert isinstance(end, ConnectionResetError)


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 0\r\n",
    ],
)
async def test_a_request_with_two_lengths_is_rejected_and_its_connection_ends(
    database: Database, lengths: bytes
) -> None:
    """A proxy that believes the other length reads another request, or none, from the rest."""
    async with ReaderPool(database.url, connections=1, timeout_s=5) as reader:
        app = build_app(
            reader, reader, waiter=ExecutionEndWaiter(reader), token=None, host="127.0.0.1"
        )
        async with serving(app) as (_, address):
            answers, writer = await asyncio.open_connection(*address)
            writer.write(
                b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n" + lengths + b"\r\n"
                b"0\r\n\r\nGET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            )
            async with asyncio.timeout(20):
                answer = await answers.read()
            writer.close()

    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert b'"reason":"ambiguous_length"' in answer


@pytest.mark.parametrize(
    ("wrong", "why", "seen"),
    [
        ("password", "Check the user, the password, and the name of the database", "sign-in"),
        ("pooler", "Check the user, the password, and the name of the database", "sign-in"),
        ("?sslmode=verify-full", "sslmode=verify-full needs the certificate", "The log of"),
        ("?sslmode=verify-full&sslrootcert=/none/ca.pem", "/none/ca.pem: No such file", "The log"),
        ("host", "the database does not answer", "does not answer"),
    ],
)
async def test_a_database_that_cannot_be_used_is_logged_at_the_start(
    stack: Stack,
    cluster: Cluster,
    database: Database,
    tmp_path: Path,
    wrong: str,
    why: str,
    seen: str,
) -> None:
    password = urlsplit(database.url).password
    assert password
    async with AsyncExitStack() as closing:
        url = f"{database.url}{wrong}"
        if wrong == "password":
            url = database.url.replace(password, "hunter2")
        elif wrong == "host":
            url = database.url.replace("@127.0.0.1", "@no.such.host.invalid")
        elif wrong == "pooler":
            folder = stack.folder / f"pgbouncer-{secrets.token_hex(4)}"
            pooler = await closing.enter_async_context(PgBouncer(cluster.server, folder))
            url = pooler.through(database.url).replace(password, "hunter2")
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "projector", "serve", "--port", "0"),
            env={"DATABASE_URL": url, "HOME": str(tmp_path)},
            stdout=PIPE,
            stderr=PIPE,
        )
        try:
            assert child.stdout
            assert child.stderr
            address = (await child.stdout.readline()).decode().removeprefix("serving on ").strip()
            async with asyncio.timeout(30):
                logged = msgspec.json.decode(await child.stderr.readline())
            async with httpx.AsyncClient(base_url=address) as client:
                ready = await client.get("/readyz")
                answer = await client.get("/api/v1/freshness")
        finally:
            child.terminate()
            _, rest = await child.communicate()

    assert logged["event"] == "api.database_unusable"
    assert why in logged["why"]
    assert (ready.status_code, answer.status_code) == (503, 503)
    assert seen in ready.text
    assert seen in answer.json()["detail"]
    assert "/none" not in ready.text + answer.text
    assert "hunter2" not in f"{logged}{rest!r}{ready.text}{answer.text}"

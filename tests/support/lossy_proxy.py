"""A TCP proxy in front of PostgreSQL that reliably loses the answer to a statement."""

import asyncio
import contextlib
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit, urlunsplit

_READY: Final = b"Z\x00\x00\x00\x05"
"""ReadyForQuery: the server has finished a statement, with success or not."""

Then = Literal["cut", "silence"]


class _Loss(NamedTuple):
    statement: bytes
    then: Then
    passed_on: bool
    after: bytes


class Proxy:
    """A proxy between a client and the database at `database_url`. Connect the client to `url`.

    After a call of `lose`, it loses one answer: it passes on the next message that contains the
    statement, but drops the database's answer (or the message too). Then it disconnects the client,
    or sends it nothing more.
    """

    def __init__(self, database_url: str) -> None:
        self._target = urlsplit(database_url)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._armed: _Loss | None = None
        self.lost = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """The address for the client."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        user = self._target.netloc.rpartition("@")[0]
        return urlunsplit(self._target._replace(netloc=f"{user}@127.0.0.1:{port}"))

    def lose(
        self, statement: bytes, then: Then, *, passed_on: bool = True, after: bytes = b""
    ) -> None:
        """Lose the answer to the next statement that contains these bytes, or the statement too.

        With `after`, it's the next one after that other statement on the same connection.
        """
        self._armed = _Loss(statement, then, passed_on, after)
        self.lost.clear()

    def lose_no_more(self) -> None:
        """Lose nothing until `lose` is called again."""
        self._armed = None

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        host, port = self._target.hostname, self._target.port
        server, to_server = await asyncio.open_connection(host, port)
        self._writers |= {to_client, to_server}
        answering = asyncio.ensure_future(self._pass_on(server, to_client))
        is_after = False
        try:
            while said := await client.read(1 << 16):
                armed = self._armed
                is_after = is_after or (armed is not None and armed.after in said)
                if armed and is_after and armed.statement in said:
                    self._armed = None
                    answering.cancel()
                    await asyncio.wait([answering])
                    if armed.passed_on:
                        await _answered(said, server, to_server)
                    self.lost.set()
                    if armed.then == "silence":
                        await client.read()
                    return
                to_server.write(said)
                await to_server.drain()
        except ConnectionError:
            return
        finally:
            answering.cancel()
            for writer in (to_client, to_server):
                writer.close()

    async def _pass_on(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while answer := await server.read(1 << 16):
                client.write(answer)
                await client.drain()
            client.close()


async def _answered(
    said: bytes, server: asyncio.StreamReader, to_server: asyncio.StreamWriter
) -> None:
    """Pass it on, and return when the server has finished it."""
    to_server.write(said)
    answer = b""
    while _READY not in answer:
        answer += await server.read(1 << 16) or _READY

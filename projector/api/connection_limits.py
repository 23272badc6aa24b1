"""Limits how long a client can hold a connection without making progress.

It closes a connection if its client takes too long to send the head of a request or to read the
response. When there are too many connections, it closes the one that has been idle for longest. If
the app fails in the middle of a response, it resets the connection, so that the client notices.
"""

import asyncio
import socket
import struct
from typing import Any, Final, cast

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

_HEADER_TIMEOUT_S: Final = 10.0
"""Close a connection if the head of its request isn't complete after this time."""
_STALLED_AFTER_S: Final = 30.0
"""Close a connection if its client reads nothing for this time."""
MAX_CLIENT_CONNECTIONS: Final = 1_000
"""The most connections. A browser opens up to six for a page."""
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: drop unsent data, and reset the connection."""


class LimitedConnection(H11Protocol):
    """uvicorn's HTTP protocol, with time limits for sending a request and for reading its response.

    All connections of the server share `idle`, which contains the connections without a request in
    progress. The one that has been idle for longest comes first.
    """

    def __init__(
        self, *arguments: Any, idle: "dict[LimitedConnection, None]", **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._whole_app, self.app = self.app, self._answer
        self._idle = idle
        self._head_timer: asyncio.TimerHandle | None = None
        self._stalled_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the new connection as idle. If there are too many, close the one idle for longest.

        Otherwise a client that opens many connections and sends nothing could keep others from
        connecting.
        """
        super().connection_made(transport)
        self._idle[self] = None
        self._limit_head()
        if len(self.connections) > MAX_CLIENT_CONNECTIONS:
            next(iter(self._idle)).close_silently()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove it from the idle connections."""
        super().connection_lost(exc)
        self._forget_head()
        self._forget_stalled()
        self._idle.pop(self, None)

    def data_received(self, data: bytes) -> None:
        """Stop the time limit once the head is complete."""
        # uvicorn annotates it as if there were always a request.
        before = cast("RequestResponseCycle | None", self.cycle)
        super().data_received(data)
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not before:
            self._forget_head()
            self._idle.pop(self, None)
        elif cycle is None or cycle.response_complete:
            self._limit_head()

    def on_response_complete(self) -> None:
        """Add it to the idle connections again, if it stays open."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._idle[self] = None

    def pause_writing(self) -> None:
        """Watch whether the client reads, because the send buffer is full."""
        super().pause_writing()
        self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Stop watching, because the client has read."""
        super().resume_writing()
        self._forget_stalled()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app, and reset the connection if the app fails after its response has begun.

        Closing the connection isn't enough. In HTTP/1.0, which many proxies speak, a body without a
        length ends where the connection is closed, so the client couldn't tell that the response is
        incomplete.
        """
        try:
            await self._whole_app(scope, receive, send)
        except BaseException:
            if self.cycle.response_started and not self.cycle.response_complete:
                client = self.transport.get_extra_info("socket")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self.close_silently()
            raise

    def close_silently(self) -> None:
        """Close the connection without a response."""
        self._idle.pop(self, None)
        self.transport.abort()

    def _limit_head(self) -> None:
        """Start the time limit. Further bytes don't extend it."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEADER_TIMEOUT_S, self.close_silently)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _watch(self, unsent_bytes: int) -> None:
        self._stalled_timer = self.loop.call_later(
            _STALLED_AFTER_S, self._cut_if_stalled, unsent_bytes
        )

    def _cut_if_stalled(self, before_bytes: int) -> None:
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes < before_bytes:
            self._watch(unsent_bytes)
        else:
            self.close_silently()

    def _forget_stalled(self) -> None:
        if self._stalled_timer is not None:
            self._stalled_timer.cancel()
            self._stalled_timer = None

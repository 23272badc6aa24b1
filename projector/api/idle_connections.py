"""Cuts off connections that are slow to ask: after a time, or where others have no room."""

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

HEAD_S: Final = 10.0
"""A request whose head is not whole after so long is cut off."""
MOST_AT_ONCE: Final = 1_000
"""Connections; a browser opens up to six for a page."""


class IdleConnections:
    """The connections of one server on which no request is in flight, the longest so first."""

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self.most = most
        self._waiting: dict[LimitedConnection, None] = {}

    def add(self, connection: "LimitedConnection") -> None:
        """Note that it waits, from now on."""
        self._waiting[connection] = None

    def remove(self, connection: "LimitedConnection") -> None:
        """It has asked, or is gone."""
        self._waiting.pop(connection, None)

    def make_room(self) -> None:
        """Close the one that has waited longest; whoever holds many open closes its own."""
        if self._waiting:
            next(iter(self._waiting)).cut()


class LimitedConnection(H11Protocol):
    """uvicorn's, which has no limit of time for a head and answers 503 to all when it is full."""

    def __init__(self, *arguments: Any, idle: IdleConnections, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._idle = idle
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It waits for a request; the longest waiting one gives it room."""
        super().connection_made(transport)
        self._idle.add(self)
        self._limit_head()
        if len(self.connections) > self._idle.most:
            self._idle.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is kept of it."""
        super().connection_lost(exc)
        self._forget_head()
        self._idle.remove(self)

    def data_received(self, data: bytes) -> None:
        """A head that is whole begins a cycle; one that is not goes on."""
        # uvicorn types it as if there had always been a request.
        before = cast("RequestResponseCycle | None", self.cycle)
        super().data_received(data)
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not before:
            self._forget_head()
            self._idle.remove(self)
        elif cycle is None or cycle.response_complete:
            self._limit_head()

    def on_response_complete(self) -> None:
        """It waits for the next request, if one may follow."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._idle.add(self)

    def cut(self) -> None:
        """Close it, whatever was sent."""
        self._idle.remove(self)
        self.transport.abort()

    def _limit_head(self) -> None:
        """From the connection or the first byte on: bytes that trickle in give no more time."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self.cut)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

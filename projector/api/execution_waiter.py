"""Lets requests wait for the end of an execution (`?wait=30s`), with one query for all of them."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final

from projector.api.api_errors import ApiError
from projector.api.snapshots import ReaderPool, Statement

_MOST: Final = 500
_ENDED: Final = Statement("""
    select execution_id
    from   projector.executions
    where  execution_id = any(:execution::bigint[])
    and    ended_at is not null
""")


class ExecutionEndWaiter:
    """The executions that requests with `?wait=` are waiting for.

    One task, `run`, asks the database every `pause_s` which of these executions have ended, and at
    once when a new request arrives. So any number of waiting requests needs only one connection. If
    `most` requests are waiting already, or after `stop`, `wait` returns immediately.
    """

    def __init__(self, reader: ReaderPool, *, pause_s: float = 1.0, most: int = _MOST) -> None:
        self._reader = reader
        self._pause_s = pause_s
        self._most = most
        self._waiting: dict[int, set[asyncio.Event]] = {}
        self._requested = asyncio.Event()
        self._queries = 0
        self._stopped = False

    async def run(self) -> None:
        """Query while requests wait, until cancelled."""
        while True:
            self._requested.clear()
            if self._waiting:
                await self._query()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s if self._waiting else None):
                    await self._requested.wait()

    async def wait(
        self, execution_id: int, within_s: float, gone: Coroutine[Any, Any, None]
    ) -> int:
        """Wait until the execution has ended, `within_s` has passed, or the client is `gone`.

        Returns how many queries `run` has made so far, including the one that found this end. The
        caller adds this number to the key of its response cache, so that a response from before the
        end isn't sent after it.
        """
        if self._stopped or sum(map(len, self._waiting.values())) >= self._most:
            gone.close()
            return self._queries
        over = asyncio.Event()
        self._waiting.setdefault(execution_id, set()).add(over)
        self._requested.set()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s), asyncio.TaskGroup() as tasks:
                    leaving = tasks.create_task(_set_after(gone, over), name="client leaves")
                    await over.wait()
                    leaving.cancel()
        finally:
            self._waiting[execution_id].discard(over)
            if not self._waiting[execution_id]:
                del self._waiting[execution_id]
        return self._queries

    def stop(self) -> None:
        """End every wait."""
        self._stopped = True
        self._end(*self._waiting)

    async def _query(self) -> None:
        # If the database is unreachable, keep the requests waiting. The answer after their wait
        # reports the outage.
        with contextlib.suppress(ApiError):
            async with self._reader.snapshot() as snapshot:
                values = {"execution": list(self._waiting)}
                found = [row["execution_id"] for row in await snapshot.untyped_rows(_ENDED, values)]
            self._queries += 1
            self._end(*found)

    def _end(self, *execution_ids: int) -> None:
        for execution_id in execution_ids:
            for over in self._waiting.get(execution_id, ()):
                over.set()


async def _set_after(gone: Coroutine[Any, Any, None], over: asyncio.Event) -> None:
    await gone
    over.set()

"""Waits for the end of executions: one query a second for all that are waited for."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final

from projector.api.api_errors import ApiError
from projector.api.snapshots import Reader, Statement

_MOST: Final = 500
_ENDED: Final = Statement("""
    select execution_id
    from   projector.executions
    where  execution_id = any(:execution::bigint[])
    and    ended_at is not null
""")


class ExecutionEnds:
    """The executions that requests wait for. However many wait, they use one connection at most.

    The query is a task of its own, so it outlives the requests that it began for. It runs at once
    for a new request, and again `pause_s` after its end. Above `most` requests, or after `stop`,
    nobody waits.
    """

    def __init__(self, reader: Reader, *, pause_s: float = 1.0, most: int = _MOST) -> None:
        self._reader = reader
        self._pause_s = pause_s
        self._most = most
        self._ended: dict[int, asyncio.Event] = {}
        self._waiting: dict[int, int] = {}
        self._news = asyncio.Event()
        self._querying: asyncio.Task[None] | None = None
        self._queries = 0
        self._stopped = False

    async def wait(
        self, execution_id: int, within_s: float, gone: Coroutine[Any, Any, None]
    ) -> int:
        """Return when it has ended, after this time, or when `gone` returns.

        Returns the number of queries so far.
        """
        if self._stopped or sum(self._waiting.values()) >= self._most:
            gone.close()
            return self._queries
        ended = self._ended.setdefault(execution_id, asyncio.Event())
        self._waiting[execution_id] = self._waiting.get(execution_id, 0) + 1
        self._news.set()
        if self._querying is None or self._querying.done():
            self._querying = asyncio.create_task(self._query_while_waiting())
        tasks = [asyncio.create_task(each) for each in (ended.wait(), gone)]
        try:
            await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            self._waiting[execution_id] -= 1
            if not self._waiting[execution_id]:
                del self._waiting[execution_id], self._ended[execution_id]
            if not self._waiting:
                self._news.set()
        return self._queries

    def stop(self) -> None:
        """End every wait."""
        self._stopped = True
        if self._querying is not None:
            self._querying.cancel()
        for ended in self._ended.values():
            ended.set()

    async def _query_while_waiting(self) -> None:
        while self._waiting:
            self._news.clear()
            await self._query()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s):
                    await self._news.wait()

    async def _query(self) -> None:
        # While the database is unreachable, requests wait on. The last answer reports it.
        with contextlib.suppress(ApiError):
            async with self._reader.snapshot() as snapshot:
                values = {"execution": list(self._waiting)}
                found = [row["execution_id"] for row in await snapshot.records(_ENDED, values)]
            self._queries += 1
            for execution_id in found:
                if execution_id in self._ended:
                    self._ended[execution_id].set()

"""Waits for the end of executions: one query a second for all that are waited for."""

import asyncio
import contextlib
import time
from typing import Final

from projector.api.api_errors import ApiError
from projector.api.snapshots import Reader, Statement

_PAUSE_S: Final = 1.0
_ENDED: Final = Statement("""
    select execution_id
    from   projector.executions
    where  execution_id = any(:execution::bigint[])
    and    ended_at is not null
""")


class ExecutionEnds:
    """The executions that requests wait for. However many wait, they use one connection at most."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._ended: dict[int, asyncio.Event] = {}
        self._waiting: dict[int, int] = {}
        self._queries = 0
        self._queried_s = 0.0
        self._querying = False

    async def wait(self, execution_id: int, within_s: float) -> int:
        """Return when it has ended, or after this time: the number of queries so far."""
        ended = self._ended.setdefault(execution_id, asyncio.Event())
        self._waiting[execution_id] = self._waiting.get(execution_id, 0) + 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._until(ended)
        finally:
            self._waiting[execution_id] -= 1
            if not self._waiting[execution_id]:
                del self._waiting[execution_id], self._ended[execution_id]
        return self._queries

    async def _until(self, ended: asyncio.Event) -> None:
        """Wait for the event. The first request that finds no query of this second sends one."""
        while not ended.is_set():
            if not self._querying and time.monotonic() - self._queried_s >= _PAUSE_S:
                await self._query()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_S):
                    await ended.wait()

    async def _query(self) -> None:
        self._querying = True
        try:
            # While the database is unreachable, requests wait on. The last answer reports it.
            with contextlib.suppress(ApiError):
                async with self._reader.snapshot() as snapshot:
                    values = {"execution": list(self._waiting)}
                    found = [row["execution_id"] for row in await snapshot.records(_ENDED, values)]
                self._queries += 1
                for execution_id in found:
                    if execution_id in self._ended:
                        self._ended[execution_id].set()
        finally:
            self._querying = False
            self._queried_s = time.monotonic()

"""Reads executions, calls, and counts of events by kind from the views of a database.

It reads nothing but the views, because a dashboard can read nothing else either.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import asyncpg
import msgspec

EventCountKey = tuple[int, str, str, str, int]
"""The start of its hour in microseconds since 1970, step, event_type, status, attempts."""


class ActualExecution(msgspec.Struct, frozen=True, array_like=True):
    """A row of `executions`. Times are microseconds since 1970."""

    execution_id: int
    status: str
    playbook: str
    parent_execution_id: int | None
    first_us: int
    last_us: int
    ended_us: int | None
    events: int
    attempts: int
    failed_calls: int
    completed: int
    failed: int
    cancelled: int


class ActualCall(msgspec.Struct, frozen=True, array_like=True):
    """A row of `calls`."""

    execution_id: int
    command_id: str
    step: str
    iteration: int | None
    attempts: int
    status: str
    issued_us: int | None
    claimed_us: int | None
    started_us: int | None
    finished_us: int | None
    worker_id: str | None
    max_attempts: int | None
    duration: float | None
    error: str | None


_EXECUTIONS = """
    select   execution_id, status, playbook, parent_execution_id,
             (extract(epoch from first_at) * 1000000)::bigint,
             (extract(epoch from last_at) * 1000000)::bigint,
             (extract(epoch from ended_at) * 1000000)::bigint,
             events, highest_attempts, failed_calls, completed, failed, cancelled
    from     projector.executions
    where    execution_id = any($1::bigint[])
    order by execution_id
"""
_CALLS = """
    select   execution_id, command_id, step, iteration, attempts, status,
             (extract(epoch from issued_at) * 1000000)::bigint,
             (extract(epoch from claimed_at) * 1000000)::bigint,
             (extract(epoch from started_at) * 1000000)::bigint,
             (extract(epoch from finished_at) * 1000000)::bigint,
             worker_id, max_attempts, duration_s, error
    from     projector.calls
    where    execution_id = any($1::bigint[])
    order by execution_id, begun_at
"""
_COUNTS = """
    select   (extract(epoch from hour) * 1000000)::bigint, step, event_type, status, attempts,
             sum(events)::bigint
    from     projector.event_counts
    group by hour, step, event_type, status, attempts
    having   sum(events) <> 0
    order by hour, step, event_type, status, attempts
"""


class DatabaseViews:
    """The views of a database that holds one topic."""

    def __init__(self, connection: "asyncpg.Connection[Any]") -> None:
        self._connection = connection

    async def executions(self, execution_ids: Iterable[int]) -> list[ActualExecution]:
        """The rows of these executions."""
        found = await self._connection.fetch(_EXECUTIONS, list(execution_ids))
        return [ActualExecution(*record) for record in found]

    async def calls(self, execution_ids: Iterable[int]) -> list[ActualCall]:
        """The calls of these executions."""
        found = await self._connection.fetch(_CALLS, list(execution_ids))
        return [ActualCall(*record) for record in found]

    async def totals(self) -> tuple[int, int]:
        """The numbers of executions and of calls in the views."""
        record = await self._connection.fetchrow(
            """
            select (select count(*) from projector.executions),
                   (select count(*) from projector.calls)
            """
        )
        return record[0], record[1]

    async def counts(self) -> Counter[EventCountKey]:
        """Events by hour, step, type, status and attempts."""
        found = await self._connection.fetch(_COUNTS)
        return Counter({tuple(record)[:5]: record[5] for record in found})

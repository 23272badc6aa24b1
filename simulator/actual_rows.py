"""Reads the rows, the quarantine entries, and the totals that a database has for one topic.

The simulator compares them with what it sent. It reads a few thousand rows at a time, in short
transactions, so that a comparison doesn't hold up VACUUM or writers.
"""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec

_CHUNK = 5_000


class ActualRow(msgspec.Struct, frozen=True, array_like=True):
    """A row of `events`. JSON columns are text, and times are microseconds since 1970."""

    event_id: int
    execution_id: int
    event_type: str
    step: str
    status: str
    attempts: int
    max_attempts: int | None
    created_us: int
    worker_id: str | None
    command_id: str | None
    iteration: int | None
    node_type: str | None
    catalog_id: int | None
    parent_event_id: int | None
    parent_execution_id: int | None
    duration: float | None
    error: str | None
    context: str | None
    result: str | None
    meta: str
    extra: str | None
    coercions: str | None
    evidence: int
    shape: str
    headers: str | None
    trace_id: str | None
    recorded_us: int | None
    source_partition: int
    source_offset: int
    source_index: int


class ActualQuarantine(msgspec.Struct, frozen=True, array_like=True):
    """A row of `quarantine`."""

    source_partition: int
    source_offset: int
    source_index: int
    reason: str


class ActualTotals(msgspec.Struct, frozen=True, array_like=True):
    """A row of `source_positions`: how far a partition was read, and its outcomes."""

    partition: int
    start_offset: int
    next_offset: int
    records: int
    holes: int
    outcomes: int
    stored: int
    duplicate: int
    merged: int
    quarantined: int
    ignored: int


_ROWS = """
    select   event_id, execution_id, event_type, step, status, attempts, max_attempts,
             (extract(epoch from created_at) * 1000000)::bigint,
             worker_id, command_id, iteration, node_type, catalog_id, parent_event_id,
             parent_execution_id, duration, error, context::text, result::text, meta::text,
             extra::text, coercions::text, evidence, shape, headers::text, trace_id,
             (extract(epoch from recorded_at) * 1000000)::bigint,
             source_partition, source_offset, source_index
    from     normalizer.events
    where    event_id > $1::bigint and source_topic = $2::text and source_incarnation = 0
    order by event_id
    limit    $3::integer
"""
_QUARANTINED = """
    select   source_partition, source_offset, source_index, reason
    from     normalizer.quarantine
    where    source_topic = $1::text and source_incarnation = 0
    order by source_partition, source_offset, source_index
"""
_TOTALS = """
    select   partition, start_offset, next_offset, records, holes, outcomes,
             stored, duplicate, merged, quarantined, ignored
    from     normalizer.source_positions
    where    topic = $1::text and incarnation = 0
    order by partition
"""
_TAKEN = """
    select   event_id
    from     normalizer.events
    where    event_id = any($1::bigint[])
    order by event_id
"""


class DatabaseRows:
    """One topic, which was never created again, in one database."""

    def __init__(self, connection: "asyncpg.Connection[Any]", topic: str) -> None:
        self._connection = connection
        self._topic = topic

    async def rows(self) -> AsyncIterator[ActualRow]:
        """Every row, by event_id."""
        after = -1
        while True:
            chunk = await self._connection.fetch(_ROWS, after, self._topic, _CHUNK)
            for record in chunk:
                yield ActualRow(*record)
            if len(chunk) < _CHUNK:
                return
            after = chunk[-1][0]

    async def quarantined(self) -> list[ActualQuarantine]:
        """Every quarantined record or event."""
        found = await self._connection.fetch(_QUARANTINED, self._topic)
        return [ActualQuarantine(*record) for record in found]

    async def totals(self) -> dict[int, ActualTotals]:
        """The totals of each partition."""
        found = await self._connection.fetch(_TOTALS, self._topic)
        return {record[0]: ActualTotals(*record) for record in found}

    async def find_stored_ids(self, event_ids: list[int]) -> set[int]:
        """Return which of these ids belong to a row, of any topic."""
        found = await self._connection.fetch(_TAKEN, event_ids)
        return {record[0] for record in found}

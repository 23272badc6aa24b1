"""Deletes executions without recent events, with all their events and calls. Their counts stay.

It first raises the retention horizon to a given time, so that the normalizer ignores older records
as expired. Then it deletes each execution whose last event reached Kafka's log before that time
minus a margin. A record of such an execution that is read again is ignored, so a deleted execution
doesn't come back. functions/delete_executions.sql deletes an execution with all its rows in one
transaction.

An execution stays until the next run if it has a recent event or an open divergence, if another
session has locked it or one of its rows, if its number of rows isn't what its facts say, if
deleting it takes too long, or if it shares an event id with an execution that stays.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import asyncpg

from normalizer.postgres.database import wait_for_table_readers
from projector.database_session import transact_with_lock_retry
from projector.event_rows import ENVELOPE_SELECT_LIST
from projector.hours import START_OF_TIME, end_of_hour, find_hours_with_rows
from projector.maintenance.archive import ArchiveFolder
from projector.maintenance.expired_executions import (
    EXECUTIONS_SHARING_EVENT_IDS_SQL,
    NO_OPEN_DIVERGENCE_SQL,
    TiedExecutions,
    count_expired_executions_and_events,
    find_candidates_by_arrival,
    find_retention_blocker,
    group_tied_executions,
)

EVENTS_PER_DELETE: Final = 5_000
"""How many events one transaction deletes, unless one execution has more."""
_MOST_FAILURES_IN_A_ROW: Final = 20
"""After this many failures in a row, the database seems too slow for any execution."""
_LEAST_TIMEOUT_MS: Final = 60_000
_TIMEOUT_AN_EVENT_MS: Final = 1
"""The time limit per event. Deleting one takes a twentieth of that."""
_HOURS_AT_ONCE: Final = 1_000
_ROWS_A_READ: Final = 20
"""Rows per fetch. The largest events have 16 MiB each after decompression."""
_PATIENCE_S: Final = 60.0


async def delete_silent_executions(
    connection: asyncpg.Connection,
    before: datetime,
    margin: timedelta,
    folder: ArchiveFolder | None,
    *,
    dry_run: bool,
) -> AsyncIterator[str]:
    """Raise the horizon to `before`, and delete executions without events since `before - margin`.

    Yields a line about each change, or with `dry_run` about each change that a run would make. A
    dry run looks at ages only, so it also counts executions that a run keeps for another reason. If
    `folder` is given, events are written there before they're deleted, and FatalError is raised if
    that fails. In two cases nothing is deleted, and the reason is yielded instead: while a batch
    that began before the horizon was raised is still running, and while there's an open divergence
    that could affect any execution.
    """
    if dry_run:
        yield f"would ignore events from before {before:%Y-%m-%dT%H:%M}"
    elif not await raise_retention_horizon(connection, before):
        yield "retention of events waits: a transaction that began before still reads the horizon"
        return
    if why := await find_retention_blocker(connection):
        yield f"retention of events waits: {why}"
        return
    if dry_run:
        executions, events = await count_expired_executions_and_events(connection, before - margin)
        if executions:
            yield f"would delete {executions:,} executions with {events:,} events"
        return
    retention = _Retention(connection, before - margin, folder)
    async for line in retention.run():
        yield line


async def raise_retention_horizon(connection: asyncpg.Connection, to: datetime) -> bool:
    """Raise the time before which records are ignored. Returns whether nobody uses an older one.

    A transaction that began before may still store an older record. So this waits for all
    transactions that may have read the old horizon.
    """
    await connection.execute(_RAISE_HORIZON, to)
    return await wait_for_table_readers(
        connection.fetch, "normalizer.retention_horizon", _PATIENCE_S
    )


class _Retention:
    """A run over all executions that have events from before `before`."""

    def __init__(
        self, connection: asyncpg.Connection, before: datetime, folder: ArchiveFolder | None
    ) -> None:
        self._connection = connection
        self._before = before
        self._folder = folder
        self._kept: set[int] = set()
        """Executions that have old events but stay."""
        self._executions = self._events = self._failures = 0

    async def run(self) -> AsyncIterator[str]:
        """Delete what may be deleted, and yield a line for each fact to know."""
        connection, before = self._connection, self._before
        try:
            if self._folder:
                await self._folder.resolve_unfinished(self._connection)
            async for since, until in _hours(connection, before):
                while found := await find_candidates_by_arrival(
                    connection, since, until, self._kept
                ):
                    groups = await group_tied_executions(connection, before, found)
                    for line in self._keep(groups):
                        yield line
                    for step in _steps([group for group in groups if group.blocker is None]):
                        async for line in self._drop(step):
                            yield line
        finally:
            if self._folder and not self._connection.is_closed():
                await self._folder.resolve_unfinished(self._connection)
        if self._executions:
            written = f", written to {self._folder} before" if self._folder else ""
            yield (
                f"deleted {self._executions:,} executions with {self._events:,} events{written} "
                "(their counts stay)"
            )

    def _keep(self, groups: Sequence[TiedExecutions]) -> Iterator[str]:
        """Keep groups that can't be deleted yet, and name those that wait for another one."""
        for group in groups:
            if group.blocker is None:
                continue
            self._kept.update(group.execution_ids)
            for one in group.execution_ids:
                if one != group.blocker:
                    yield (
                        f"kept execution {one}: it shares an event_id with execution "
                        f"{group.blocker}, which can't be deleted yet"
                    )

    async def _drop(self, groups: Sequence[TiedExecutions]) -> AsyncIterator[str]:
        """Delete these groups in one transaction, or in halves if that takes too long."""
        try:
            work = partial(self._archive, groups)
            await transact_with_lock_retry(self._connection, work, for_s=_PATIENCE_S)
        except asyncpg.QueryCanceledError:
            if len(groups) == 1:
                self._failures += 1
                if self._failures >= _MOST_FAILURES_IN_A_ROW:
                    raise
                self._kept.update(groups[0].execution_ids)
                names = ", ".join(map(str, groups[0].execution_ids))
                yield (
                    f"kept execution {names}: its {groups[0].events:,} events take longer than "
                    f"{_timeout_ms(groups) / 1000:.0f} s to delete; the next run tries again"
                )
                return
            for half in (groups[: len(groups) // 2], groups[len(groups) // 2 :]):
                async for line in self._drop(half):
                    yield line
        else:
            self._failures = 0

    async def _archive(self, groups: Sequence[TiedExecutions]) -> None:
        """Lock the executions and their rows, and delete each group that may still be deleted.

        One statement locks the executions, and the next one locks their rows. A statement sees what
        was committed before it began, so the second one sees everything that the last writer of an
        execution has stored. Both skip rows that another session has locked, because that session
        may hold its lock for a long time, or may itself be waiting for one of our locks. A group is
        deleted only if all of its rows could be locked, and none of its executions has a recent
        event.
        """
        connection, timeout_ms = self._connection, _timeout_ms(groups)
        everybody = [one for group in groups for one in group.execution_ids]
        await connection.execute(f"set local statement_timeout = {timeout_ms}")
        # The server waits while the file is written and synced.
        await connection.execute(f"set local idle_in_transaction_session_timeout = {timeout_ms}")
        locked = await connection.fetchval("select try_lock_executions($1::bigint[])", everybody)
        rows = await connection.fetch(
            _LOCK_ROWS, locked, self._before, timeout=2 * timeout_ms / 1000
        )
        whole = {row["execution_id"] for row in rows if row["may_go"]}
        tied = await connection.fetch(
            EXECUTIONS_SHARING_EVENT_IDS_SQL,
            [row["execution_id"] for row in rows if row["is_tied"]],
        )
        new_ties = {one for one, other in tied if not whole.issuperset((one, other))}
        may_go = whole - new_ties
        gone = [group for group in groups if may_go.issuperset(group.execution_ids)]
        execution_ids = [one for group in gone for one in group.execution_ids]
        if execution_ids:
            if self._folder:
                await self._write(self._folder, execution_ids)
            deleted = await connection.fetchval(
                _ARCHIVE, execution_ids, timeout=2 * timeout_ms / 1000
            )
            self._events += deleted
            self._executions += len(execution_ids)
        self._kept.update(set(everybody).difference(execution_ids))

    async def _write(self, folder: ArchiveFolder, execution_ids: Sequence[int]) -> None:
        """Write all their events to the file of this transaction."""
        with await folder.begin_file(self._connection) as file:
            # `connection.cursor` would give its statement a name, and behind a connection pooler
            # another client may already use that name.
            statement = await self._connection.prepare(_READ_ROWS)
            cursor = await statement.cursor(execution_ids)
            while rows := await cursor.fetch(_ROWS_A_READ):
                file.add(rows)
            file.sync_before_commit()


async def _hours(
    connection: asyncpg.Connection, before: datetime
) -> AsyncIterator[tuple[datetime, datetime]]:
    """Yield consecutive ranges of time that together cover everything before `before`.

    Each range has at most one hour with events, and each search for executions to delete reads one
    range. A single search over all of the time could exceed its time limit, because an execution
    that never falls silent may have millions of old events.
    """
    since = START_OF_TIME
    bounds = (since, before)
    async for hours in find_hours_with_rows(
        connection, "arrival_hours", "hour", bounds, _HOURS_AT_ONCE
    ):
        for until in (end_of_hour(hour) for hour in hours):
            yield since, min(until, before)
            since = until
    yield since, before


def _steps(groups: Sequence[TiedExecutions]) -> list[Sequence[TiedExecutions]]:
    """Split into steps of at most EVENTS_PER_DELETE events. A larger group is a separate step."""
    steps: list[list[TiedExecutions]] = []
    events = EVENTS_PER_DELETE
    for group in groups:
        events += group.events
        if events > EVENTS_PER_DELETE:
            steps.append([])
            events = group.events
        steps[-1].append(group)
    return list(steps)


def _timeout_ms(groups: Sequence[TiedExecutions]) -> int:
    """Return how long a statement on these groups may take."""
    return max(_LEAST_TIMEOUT_MS, _TIMEOUT_AN_EVENT_MS * sum(group.events for group in groups))


_RAISE_HORIZON: Final = """
    update normalizer.retention_horizon
    set    expired_before = $1::timestamptz
    where  expired_before < $1::timestamptz
"""

_LOCK_ROWS: Final = f"""
    with locked as (
        select   execution_id, coalesce(recorded_at, created_at) < $2::timestamptz as is_old,
                 merge_flags & 8 <> 0 as is_tied -- SHARES_ID_FLAG of merge_flags.py
        from     normalizer.events
        where    execution_id = any((select $1::bigint[])::bigint[])
        order by event_id
        for update skip locked
    ),
    counted as (
        select   execution_id, count(*) as events, bool_and(is_old) as is_old,
                 bool_or(is_tied) as is_tied
        from     locked
        group by execution_id
    )
    select execution_id, is_tied,
           counted.events = known.events
           and is_old and {NO_OPEN_DIVERGENCE_SQL.format("known")} as may_go
    from   counted
    join   execution_facts as known using (execution_id)
"""  # noqa: S608 - constants of this package

_READ_ROWS: Final = f"""
    select   {ENVELOPE_SELECT_LIST}
    from     normalizer.events as event
    where    execution_id = any((select $1::bigint[])::bigint[])
    order by execution_id, event_id
"""  # noqa: S608 - constants of this package

_ARCHIVE: Final = "select delete_executions($1::bigint[])"

"""Deletes old events, in small transactions; the counts that projections made of them stay.

The horizon is raised first, so that records from before it are ignored as expired. Then events that
are older than the horizon by the margin are deleted: none of their records can be stored again.
Source: 0009_create_retention.sql.
"""

from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final, NamedTuple

import asyncpg

from projector.chunks import MOST_FAILURES, RETENTION_S, Chunks
from projector.database_session import with_lock_retry
from projector.event_rows import COLUMNS
from projector.maintenance.archive import ArchiveFolder
from projector.maintenance.open_divergences import AGREES, difference_anywhere
from projector.maintenance.retention_horizon import raise_horizon

ROWS_A_STEP: Final = 5_000
BYTES_A_STEP: Final = 4 << 20
"""Stored bytes of JSON columns; for the archive, characters of all texts after decompression."""
_PAGES_A_LOOK: Final = 20_000
_ROWS_A_READ: Final = 20
"""Rows of one fetch: the largest events have 16 MiB each after decompression."""
_STEPS_A_LOOK: Final = 10
"""One scan finds the rows of this many steps: each scan has to skip the dead rows again."""
_PATIENCE_S: Final = 60.0


class _OldEvent(NamedTuple):
    event_id: int
    execution_id: int
    stored_bytes: int


_BY_EXECUTION: Final = attrgetter("execution_id", "event_id")


async def drop_events(
    connection: asyncpg.Connection,
    before: datetime,
    margin: timedelta,
    folder: ArchiveFolder | None,
    *,
    dry_run: bool,
) -> AsyncIterator[str]:
    """Ignore records from before `before` from now on; delete events older than that by `margin`.

    Yields one line for each thing done (or that would be done). Events are written to `folder`
    first, if there is one. Raises FatalError if the folder cannot be written.
    """
    if dry_run:
        yield f"would ignore events from before {before:%Y-%m-%dT%H:%M}"
    elif not await raise_horizon(connection, before):
        yield "retention of events waits for a batch that is still running"
        return
    if why := await difference_anywhere(connection):
        yield f"retention of events waits: {why}"
        return
    if folder:
        folder.remove_unfinished()
    gone, stuck = await _drop_rows(connection, before - margin, folder, dry_run=dry_run)
    for kept in sorted(stuck):
        yield (
            f"kept the events of execution {kept}: to delete one takes longer than a statement may"
        )
    if gone:
        done = "would delete" if dry_run else "deleted"
        written = f", written to {folder} before" if folder else ""
        yield f"{done} {gone:,} events{written} (their counts stay)"


async def _drop_rows(
    connection: asyncpg.Connection,
    before: datetime,
    folder: ArchiveFolder | None,
    *,
    dry_run: bool,
) -> tuple[int, set[int]]:
    """Delete old rows; returns how many, and the executions that take too long.

    Locked rows stay for the next run. A step touches few executions, because deleting one event may
    mean to read all the others of its execution.
    """
    if dry_run:
        return await _count_rows(connection, before), set()
    gone, most = 0, ROWS_A_STEP * _STEPS_A_LOOK
    stuck: set[int] = set()
    chunks = Chunks(
        size=ROWS_A_STEP, most=ROWS_A_STEP, target_s=RETENTION_S, most_failures=MOST_FAILURES
    )

    async def archive(events: Sequence[_OldEvent]) -> None:
        nonlocal gone
        left: Sequence[_OldEvent] = sorted(one for one in events if one.execution_id not in stuck)
        while left:
            deleted, left = await _archive(connection, left, before, folder)
            gone += deleted

    while True:
        async with connection.transaction():
            await connection.execute(_BY_ARRIVAL)
            old = await connection.fetch(_OLD_EVENTS, before, most, list(stuck))
        done = gone, len(stuck)
        by_execution = sorted((_OldEvent(*row) for row in old), key=_BY_EXECUTION)
        for step in _split_batch(by_execution):
            async for event in chunks.run(step, archive):
                stuck.add(event.execution_id)
        if len(old) < most or done == (gone, len(stuck)):
            return gone, stuck


async def _count_rows(connection: asyncpg.Connection, before: datetime) -> int:
    """Count old rows in physical order, _PAGES_A_LOOK pages in each statement."""
    count = 0
    pages = await connection.fetchval(_PAGES)
    for first in range(0, pages, _PAGES_A_LOOK):
        within = ((first, 0), (first + _PAGES_A_LOOK, 0))
        count += await connection.fetchval(_COUNT_OLD_EVENTS, before, *within)
    return count


def _split_batch(old: Sequence[_OldEvent]) -> Iterator[Sequence[_OldEvent]]:
    """Split into steps within both limits; an event above the byte limit is a step of its own."""
    first = stored_bytes = 0
    for at, event in enumerate(old):
        stored_bytes += event.stored_bytes
        if at > first and (at - first == ROWS_A_STEP or stored_bytes > BYTES_A_STEP):
            yield old[first:at]
            first, stored_bytes = at, event.stored_bytes
    if old:
        yield old[first:]


async def _archive(
    connection: asyncpg.Connection,
    events: Sequence[_OldEvent],
    before: datetime,
    folder: ArchiveFolder | None,
) -> tuple[int, Sequence[_OldEvent]]:
    """Archive and delete events in one transaction; returns how many, and the events that are left.

    Executions are locked first and rows in a later statement, which therefore reads what the
    previous writer committed. A locked row is skipped: its writer may wait for the execution. Rows
    are filtered again once they are locked, because a writer that adds a sibling locks its holder.
    With a folder, only rows that fit in memory are read, and the following ones are left.
    """
    event_ids = [event.event_id for event in events]
    execution_ids = list({event.execution_id for event in events})
    deleted, left = 0, events[len(events) :]

    async def work() -> None:
        nonlocal deleted, left
        await connection.execute("select projector.lock_executions($1::bigint[])", execution_ids)
        locked = await connection.fetch(_LOCK_EVENTS, event_ids, before)
        mine = [row["event_id"] for row in locked]
        if folder:
            rows, are_all = await _read_some(connection, _LOCKED_EVENTS.format(COLUMNS), mine)
        else:
            rows = await connection.fetch(_LOCKED_EVENTS.format("event_id"), mine)
            are_all = True
        gone = [row["event_id"] for row in rows]
        with folder.write(rows) if folder and rows else nullcontext():
            deleted = await connection.fetchval(
                "select projector.archive_events($1::bigint[])", gone
            )
        if not are_all:
            left = events[bisect_right(event_ids, gone[-1]) :]

    await with_lock_retry(connection, work, for_s=_PATIENCE_S)
    return deleted, left


async def _read_some(
    connection: asyncpg.Connection, statement: str, *values: object
) -> tuple[list[asyncpg.Record], bool]:
    """The first rows that fit in memory, and whether there are no more."""
    rows: list[asyncpg.Record] = []
    text = 0
    # Not `connection.cursor`: that statement has a name, which others behind a pooler may have too.
    cursor = await (await connection.prepare(statement)).cursor(*values)
    while some := await cursor.fetch(_ROWS_A_READ):
        rows += some
        text += sum(len(value) for row in some for value in row if isinstance(value, str))
        if text > BYTES_A_STEP:
            return rows, False
    return rows, True


# Ids do not show which rows are old: a replay stores old ids today.
_BY_ARRIVAL: Final = "set local enable_seqscan = off; set local enable_indexscan = off"

# A holder is deleted after its siblings: if a sibling is reported again, the id must be taken.
_MAY_GO: Final = f"""
    {AGREES.format("event")}
    and (
        event.merge_flags & 8 = 0
        or not exists (
            select
            from   normalizer.events as sibling
            where  normalizer.shared_id(sibling.coercions) = to_jsonb(event.event_id)
            and    sibling.merge_flags & 8 <> 0
        )
    )
"""  # noqa: S608 - constants of this package

# pg_column_size reads the size of a TOASTed value, not the value.
_OLD_EVENTS: Final = f"""
    select event.event_id, event.execution_id,
           coalesce(pg_column_size(event.context), 0) + coalesce(pg_column_size(event.result), 0)
           + coalesce(pg_column_size(event.extra), 0) + coalesce(pg_column_size(event.coercions), 0)
           + coalesce(pg_column_size(event.headers), 0) + coalesce(pg_column_size(event.error), 0)
           + pg_column_size(event.meta) as stored_bytes
    from   normalizer.events as event
    where  coalesce(event.recorded_at, event.created_at) < $1::timestamptz
    and    event.execution_id <> all($3::bigint[])
    and    {_MAY_GO}
    limit  $2::integer
"""  # noqa: S608 - constants of this package

_PAGES: Final = """
    select pg_relation_size('normalizer.events') / current_setting('block_size')::bigint
"""

_COUNT_OLD_EVENTS: Final = f"""
    select count(*)
    from   normalizer.events as event
    where  event.ctid >= $2::tid and event.ctid < $3::tid
    and    coalesce(event.recorded_at, event.created_at) < $1::timestamptz
    and    {_MAY_GO}
"""  # noqa: S608 - constants of this package

_LOCK_EVENTS: Final = """
    select   event_id
    from     normalizer.events
    where    event_id = any((select $1::bigint[])::bigint[])
    and      coalesce(recorded_at, created_at) < $2::timestamptz
    order by event_id
    for update skip locked
"""

_LOCKED_EVENTS: Final = f"""
    select   {{}}
    from     normalizer.events as event
    where    event.event_id = any((select $1::bigint[])::bigint[])
    and      {_MAY_GO}
    order by event.event_id
"""  # noqa: S608 - constants of this package

"""Finds the events whose rows the database rejects, by writing rows and rolling them back.

`Store` uses it after PostgreSQL has rejected a batch because of a row, for example because a value
is too large. PostgreSQL names one rejected row at most.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import asyncpg

from normalizer.core.batch import Batch
from normalizer.core.encoded_events import EnvelopeOrEncoded
from normalizer.core.identity.coordinates import (
    NO_DEDUP_HORIZONS,
    Coordinates,
    DedupHorizons,
    required_event_id,
    source_coordinates,
)
from normalizer.core.identity.reconcile import reconcile
from normalizer.core.identity.stored_events import WritePlan
from normalizer.envelope import Envelope, Rejected
from normalizer.store.event_exclusions import allocate_batch_id_and_exclusions
from normalizer.store.event_rows import RowRejectedError, copy_into_events, update_rows
from normalizer.store.outcomes_by_kind import group_outcomes
from normalizer.store.source_positions import AlreadyCommitted, BatchPositions
from normalizer.store.sqlstate import STATEMENT_ERRORS, ErrorCause, classify_database_error
from normalizer.store.stored_rows import PostgresStoredEvents

_Row = TypeVar("_Row", EnvelopeOrEncoded, Envelope)

_CHECK_CONSTRAINTS_NOW: Final = "set constraints all immediate"


class RejectedRowFinder:
    """Finds the rejected rows of a batch, under the same locks as the transaction that writes it.

    The caller rolls the transaction back.
    """

    def __init__(self, positions: BatchPositions) -> None:
        self._positions = positions

    async def find_rejected_events(
        self,
        connection: asyncpg.Connection,
        batch: Batch,
        row_rejections: dict[Coordinates, Rejected],
    ) -> dict[Coordinates, Rejected]:
        """Find the events whose rows are rejected, besides those in `row_rejections`."""
        # If the batch was already committed after all, it doesn't matter which rows are rejected
        # here. The next transaction of the batch notices that commit and ignores the result.
        locked = await self._positions.lock(connection, batch.parts)
        dedup_horizons = NO_DEDUP_HORIZONS if isinstance(locked, AlreadyCommitted) else locked
        _, exclusions = await allocate_batch_id_and_exclusions(connection, batch)
        events = group_outcomes(batch, row_rejections, exclusions, dedup_horizons).events
        # Make a deferred constraint fail here, at the row that violates it, instead of at COMMIT.
        await connection.execute(_CHECK_CONSTRAINTS_NOW)
        codes, write_plan = await self._try_rows(connection, events, dedup_horizons)
        # Several events of the batch may report the same row. They were merged into it, so find out
        # which of them to reject.
        reports: dict[int, list[EnvelopeOrEncoded]] = {}
        for event, (placed, row) in zip(events, write_plan.placements, strict=True):
            if row in codes and placed != "duplicate":
                reports.setdefault(row, []).append(event)
        return {
            source_coordinates(event): Rejected(
                reason="rejected_by_database",
                detail="the database rejected the row: " + (codes[row] or "it can't be encoded"),
                shape=event.shape,
                index=source_coordinates(event)[4],
                sqlstate=codes[row],
                execution_id=event.execution_id,
            )
            for row, row_reports in reports.items()
            for event in await self._isolate_reports(connection, row_reports, dedup_horizons)
        }

    async def _try_rows(
        self,
        connection: asyncpg.Connection,
        events: Sequence[EnvelopeOrEncoded],
        dedup_horizons: DedupHorizons,
    ) -> tuple[dict[int, str | None], WritePlan]:
        """Try to write every row, and roll back. Returns the rejected rows and the plan.

        The rejected rows are a mapping from their event id to the SQLSTATE.
        """
        write_plan = await reconcile(events, PostgresStoredEvents(connection), dedup_horizons)

        async def insert(rows: Sequence[EnvelopeOrEncoded]) -> None:
            await copy_into_events(connection, rows, batch_id=0)  # never committed

        async def update(rows: Sequence[Envelope]) -> None:
            await update_rows(connection, rows)

        codes = await find_rejected_rows(connection, write_plan.inserts, insert)
        return codes | await find_rejected_rows(connection, write_plan.updates, update), write_plan

    async def _isolate_reports(
        self,
        connection: asyncpg.Connection,
        reports: Sequence[EnvelopeOrEncoded],
        dedup_horizons: DedupHorizons,
    ) -> Sequence[EnvelopeOrEncoded]:
        """Return which reports to reject after the row that they were merged into was rejected.

        Each report is tried alone, and those that the database rejects are returned. If it accepts
        all of them alone, only their combination is at fault. Rejecting the last one is then
        enough.
        """
        if len(reports) == 1:
            return reports
        rejected_alone = [
            event
            for event in reports
            if (await self._try_rows(connection, [event], dedup_horizons))[0]
        ]
        return rejected_alone or reports[-1:]


async def find_rejected_rows(
    connection: asyncpg.Connection,
    rows: Sequence[_Row],
    write: Callable[[Sequence[_Row]], Awaitable[None]],
) -> dict[int, str | None]:
    """Return the SQLSTATE of each row that the database rejects, by event_id. Writes nothing.

    When COPY fails, it names the line of the rejected row, so the rows before that line are good.
    If an error names no line, the rows are tried in halves. Either way, the search then continues
    after the rejected row, so finding many rejected rows takes little longer than finding a few.
    Every row that was tried is rolled back.
    """
    rejected: dict[int, str | None] = {}
    suspects = [rows]
    while suspects:
        some = suspects.pop()
        rejection = await _try_write(connection, some, write)
        if rejection is None:
            continue
        line = 1 if len(some) == 1 else rejection.line
        if line is not None and line <= len(some):
            rejected[required_event_id(some[line - 1])] = rejection.sqlstate
            some = some[line:]
        suspects += [some[len(some) // 2 :], some[: len(some) // 2]]
    return rejected


async def _try_write(
    connection: asyncpg.Connection,
    rows: Sequence[_Row],
    write: Callable[[Sequence[_Row]], Awaitable[None]],
) -> RowRejectedError | None:
    """Write the rows and roll them back. Returns the rejection, or None."""
    if not rows:
        return None
    savepoint = connection.transaction()
    await savepoint.start()
    rejection: RowRejectedError | None = None
    try:
        await write(rows)
    except RowRejectedError as found:
        # Make a new exception instead of keeping `found`. Its traceback refers to this frame, and
        # so to the rows, which would stay in memory until the garbage collector runs.
        rejection = RowRejectedError(found.sqlstate, found.line)
    except STATEMENT_ERRORS as error:
        if classify_database_error(error, copying=False) is not ErrorCause.RECORD:
            raise
        rejection = RowRejectedError(getattr(error, "sqlstate", None))
    await savepoint.rollback()
    return rejection

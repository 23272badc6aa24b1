"""The transaction that writes a batch, or one of two.

No other code inserts events. `rejected_row_finder` copies rows too, but is always rolled back. The
database lets only the role normalizer_writer and the owner of the table insert them.

The transaction first locks the positions, and checks their epochs and offsets. It then reconciles
the events with the stored rows, copies new rows, updates changed rows, and stores rejected records
in quarantine. Finally it advances the positions, together with their running totals.

`Store.write` begins the transaction, and commits it. If anything here raises, or if the process
dies, the server rolls everything back. Until then it holds locks that other writers may wait for.
Every batch takes these in one order, and so does `jobs.renormalize`, which updates rows too:

1. positions, by their key
2. dedup horizons, by their key
3. the tables retention_horizon and forgotten_executions, in ACCESS SHARE mode. No batch waits for
   that, but a job that deletes events does (see `event_exclusions`).
4. stored rows that change, by their id (see `_Reconciler._load_rows` in
   core/identity/reconcile.py). After that, an event whose id is taken may lock rows under
   substitute and derived ids, in the order of the events. That's rare, and costs a try if two
   batches deadlock.
5. ids of new rows, in ascending order. COPY waits for a transaction that has inserted one of them.
   If that one commits, COPY fails, and the batch is planned again (`ErrorCause.RACE`).
6. rows of the projections, executions first and by their id, and then a counter shard, by triggers
   of the COPY and the UPDATE (see 0008_create_triggers.sql and take_shard.sql)

A transaction with both a COPY and an UPDATE takes step 6 twice. To prevent deadlocks, a batch that
updates rows of another writer's partition takes two transactions (see `batch_plan`). Partitions
that share only executions, with different events, may still deadlock. That costs one of them a try:
PostgreSQL ends its transaction, and `write_retry` writes its batch again.

Rows of the quarantine, gaps, merged_records, and assigned_ids need no place in the order. They
belong to one record, or to the records of one partition, and another writer of the same ones
already waits for the position or the dedup horizon.
"""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeVar

import asyncpg

from normalizer.core.batch import Batch, OutcomeTotals, PartitionBatch
from normalizer.core.identity.coordinates import DedupHorizons, is_below_horizon
from normalizer.core.identity.stored_events import Placement
from normalizer.store.batch_plan import BatchPlan, BatchPlanner, BatchWriteState
from normalizer.store.committed_batch import CommittedBatch
from normalizer.store.event_exclusions import allocate_batch_id_and_exclusions
from normalizer.store.event_rows import copy_into_events, insert_merged_records, update_rows
from normalizer.store.outcomes_by_kind import OutcomeCounter, OutcomesByKind
from normalizer.store.quarantine_writer import RejectedRecord, write_quarantine
from normalizer.store.source_positions import AlreadyCommitted, BatchPositions, PositionMoves
from normalizer.store.stored_rows import PostgresStoredEvents

_T = TypeVar("_T")


class WriteTransaction:
    """The steps of the transaction that writes a batch.

    `normalizing_gate` belongs to the Store, which clears it before each transaction and sets it
    after the last one. In between, this transaction sets it while the database works on the
    inserted rows. That's the longest step, and it needs the event loop only to send the rows, so
    the loop can normalize records. Other statements would wait for a slice of that work. Most are
    short. An UPDATE of many rows runs the same triggers and isn't, but it's rare.
    """

    def __init__(
        self, positions: BatchPositions, planner: BatchPlanner, normalizing_gate: asyncio.Event
    ) -> None:
        self._positions = positions
        self._planner = planner
        self._normalizing_gate = normalizing_gate

    async def write_batch(
        self, connection: asyncpg.Connection, batch: Batch, state: BatchWriteState
    ) -> CommittedBatch | BatchWriteState | AlreadyCommitted:
        """Write the batch, or only the updates that must be written before it.

        `state` is what earlier transactions of the same batch have achieved, for example a plan
        that this one carries out.

        Returns BatchWriteState if only the updates were written, and the batch needs another
        transaction. Returns AlreadyCommitted if an earlier commit of this batch succeeded although
        its response was lost. Raises FencedError and PositionMovedError, RowRejectedError if COPY
        rejects a row, FatalError for expired events that the planner doesn't accept, and the errors
        of asyncpg. `Session` translates these. For a row that an UPDATE rejects, or a deferred
        constraint at COMMIT, it raises RowRejectedError too.
        """
        dedup_horizons = await self._positions.lock(connection, batch.parts)
        if isinstance(dedup_horizons, AlreadyCommitted):
            return dedup_horizons
        # If this transaction only updates rows, the id stays unused, because rows keep the id of
        # the batch that inserted them.
        batch_id, exclusions = await allocate_batch_id_and_exclusions(connection, batch)
        plan = state.plan
        # The locks under which an earlier transaction made this plan are gone. `is_still_valid`
        # tells whether the plan is safe all the same. If a writer of other records has taken an id
        # of the plan, COPY fails and rolls all of it back.
        if plan is None or not plan.is_still_valid(dedup_horizons, exclusions):
            plan = await self._planner.plan_batch(
                connection, batch, state, exclusions, dedup_horizons
            )
        if plan.needs_two_transactions:
            return await self._update_stored_rows(connection, plan, state)
        placements = await self._write_rows(connection, plan, batch_id)
        rejections = plan.outcomes_by_kind.rejections
        newly_quarantined = await self._quarantine(connection, rejections, batch_id, dedup_horizons)
        totals = _count_outcomes(batch.parts, plan.outcomes_by_kind, placements, newly_quarantined)
        moves = PositionMoves(
            parts=list(zip(batch.parts, totals, strict=True)),
            batch_id=batch_id,
            outcomes_by_kind=plan.outcomes_by_kind,
        )
        await self._positions.move(connection, moves)
        return CommittedBatch(
            events=plan.outcomes_by_kind.events,
            inserted=plan.write_plan.inserts,
            placements=placements,
            rejections=rejections,
            newly_quarantined=newly_quarantined,
            totals=sum(totals, OutcomeTotals()),
            expired_unread=plan.outcomes_by_kind.expired_unread,
            ambiguous=plan.write_plan.ambiguous + state.ambiguous,
            batch_id=batch_id,
        )

    async def _update_stored_rows(
        self, connection: asyncpg.Connection, plan: BatchPlan, state: BatchWriteState
    ) -> BatchWriteState:
        """Change the stored rows, and write nothing else of the batch. The positions stay too."""
        write_plan = plan.write_plan
        await update_rows(connection, write_plan.updates)
        await insert_merged_records(connection, plan.merges_of_first_transaction())
        remaining_plan = plan.plan_for_second_transaction()
        return BatchWriteState(
            row_rejections=state.row_rejections,
            merged=remaining_plan.merged,
            ambiguous=state.ambiguous + write_plan.ambiguous,
            plan=remaining_plan,
        )

    async def _write_rows(
        self, connection: asyncpg.Connection, plan: BatchPlan, batch_id: int
    ) -> list[Placement]:
        """Insert and change the rows of the plan. Returns the placement of each event."""
        write_plan = plan.write_plan
        self._normalizing_gate.set()
        try:
            await copy_into_events(connection, write_plan.inserts, batch_id)
        finally:
            self._normalizing_gate.clear()
        await update_rows(connection, write_plan.updates)
        await insert_merged_records(connection, plan.unstored_merges())
        return plan.final_placements()

    async def _quarantine(
        self,
        connection: asyncpg.Connection,
        rejections: Sequence[RejectedRecord],
        batch_id: int,
        dedup_horizons: DedupHorizons,
    ) -> list[bool]:
        """Store the rejections in quarantine, and return for each one whether it's new.

        A rejection that's already in quarantine isn't new, and counts as a duplicate. So does a
        rejected record that already has a row in `events`, because an earlier version of the rules
        accepted it. That row stays, and the rejection isn't stored. Only a record below its dedup
        horizon can have a row already.
        """
        below_horizon = {
            rejection.coordinates
            for rejection in rejections
            if is_below_horizon(rejection.coordinates, dedup_horizons)
        }
        row_ids = await PostgresStoredEvents(connection).find_row_ids_at(below_horizon)
        without_row = [one for one in rejections if one.coordinates not in row_ids]
        added = await write_quarantine(connection, without_row, batch_id)
        newly_quarantined = []
        for rejection in rejections:
            newly_quarantined.append(rejection.coordinates in added)
            # A file may hold the same record twice. The second one isn't new.
            added.discard(rejection.coordinates)
        return newly_quarantined


def _count_outcomes(
    parts: Sequence[PartitionBatch],
    outcomes_by_kind: OutcomesByKind,
    placements: Sequence[Placement],
    newly_quarantined: Sequence[bool],
) -> list[OutcomeTotals]:
    """Count the outcomes of each part: where its events went, its rejections, what it ignores.

    A rejection that isn't new counts as a duplicate, just as an event that's stored already does.
    """
    counted_parts = outcomes_by_kind.parts
    placements_by_part = _split(placements, [one.events for one in counted_parts])
    newly_by_part = _split(newly_quarantined, [one.rejections for one in counted_parts])
    totals = []
    for part, counted_part, placements_in_part, newly_in_part in zip(
        parts, counted_parts, placements_by_part, newly_by_part, strict=True
    ):
        counts = OutcomeCounter()
        counts.add("ignored", counted_part.ignored)
        counts.add_placements(placements_in_part)
        for is_new in newly_in_part:
            counts.add("quarantined" if is_new else "duplicate")
        totals.append(counts.totals(part))
    return totals


def _split(values: Sequence[_T], lengths: Iterable[int]) -> list[list[_T]]:
    """Split the values into runs of these lengths, for example abcde by 2 and 3 into ab and cde."""
    remaining = iter(values)
    return [list(islice(remaining, length)) for length in lengths]

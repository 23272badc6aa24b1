"""Plans what a batch writes, and whether that takes one transaction or two.

Both the COPY of new rows and the UPDATE of stored rows fire triggers that update the projections. A
transaction that does both locks rows of the projections twice, so two processes that write events
of the same executions could deadlock. To prevent that, a batch whose rows are shared with other
writers is written in two transactions. The first one updates the stored rows, and the second one
inserts the new ones.

`Store.write` runs transactions until the batch is committed:

    plan and write everything --> committed
    plan, update stored rows  --> write the rest of the plan --> committed
    lost a race, or a row was rejected --> rolled back, plan again

For example, record A is a new event, B adds a step to row 50, and C only sets a flag of row 60. B
and C are merged into these rows, but only B counts as merged. The two transactions write this:

    merged_first  merged  updates  inserts  merged records
    {B, C}        {}      50, 60            B
    {}            {B}              A        C, from `unstored_merges`
"""

from collections.abc import Sequence
from typing import Final

import asyncpg
import msgspec

from normalizer.core.batch import Batch
from normalizer.core.encoded_events import EnvelopeOrEncoded
from normalizer.core.identity.coordinates import (
    HORIZON_ABOVE_EVERY_OFFSET,
    Coordinates,
    DedupHorizons,
    SourceKey,
    source_coordinates,
    source_log_key,
)
from normalizer.core.identity.reconcile import reconcile
from normalizer.core.identity.stored_events import Placement, WritePlan
from normalizer.envelope import Rejected
from normalizer.errors import FatalError
from normalizer.store.event_exclusions import EventExclusions
from normalizer.store.outcomes_by_kind import OutcomesByKind, group_outcomes
from normalizer.store.stored_rows import PostgresStoredEvents

_SHARED_PLANS: Final = 1_000
"""After a batch has changed rows of another writer's partition, rows count as shared for this many
plans, that one's included. With a lower number, a batch whose rows are shared would more often be
written in one transaction, and might deadlock, which costs a try. With a higher number, batches
that update rows would take a second commit for longer after the sharing has ended. No measurement
chose 1,000."""


class BatchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that one batch writes, as planned for these `dedup_horizons` and `exclusions`.

    - `outcomes_by_kind` has what the normalizer made of the batch's records, and `write_plan` the
      rows that its events insert and update.
    - `merged` holds the records that an earlier transaction of this batch has merged into stored
      rows.
    - `merged_first` is empty if one transaction writes everything. Otherwise it holds the records
      that change stored rows, which a first transaction writes before a second one inserts the new
      rows.
    """

    dedup_horizons: DedupHorizons
    exclusions: EventExclusions
    outcomes_by_kind: OutcomesByKind
    write_plan: WritePlan
    merged: frozenset[Coordinates]
    merged_first: frozenset[Coordinates]

    @property
    def needs_two_transactions(self) -> bool:
        """Return whether the stored rows must be updated in a transaction of their own, first."""
        return bool(self.merged_first)

    def merges_of_first_transaction(self) -> list[tuple[Coordinates, int]]:
        """Return the records that the first of two transactions merges into stored rows.

        It leaves out records that only set a flag of a stored row, because these count as
        duplicates and not as merged.
        """
        return [
            (record, row)
            for record, row in self.write_plan.merged_records
            if record in self.merged_first and record not in self.write_plan.flagging
        ]

    def unstored_merges(self) -> list[tuple[Coordinates, int]]:
        """Return the merges that no earlier transaction has stored."""
        return [one for one in self.write_plan.merged_records if one[0] not in self.merged]

    def plan_for_second_transaction(self) -> "BatchPlan":
        """Return what is left to write after the stored rows were changed."""
        return msgspec.structs.replace(
            self,
            write_plan=msgspec.structs.replace(self.write_plan, updates=[], ambiguous=0),
            merged=self.merged.union(record for record, _ in self.merges_of_first_transaction()),
            merged_first=frozenset(),
        )

    def final_placements(self) -> list[Placement]:
        """Return the placement of each event, which is "merged" for the records in `merged`.

        A second transaction may have to plan the batch again. `reconcile` then finds that the
        records in `merged` are stored, and returns them as duplicates.
        """
        placements = self.write_plan.placements
        if not self.merged:
            return placements
        return [
            ("merged", row)
            if placed == "duplicate" and source_coordinates(event) in self.merged
            else (placed, row)
            for event, (placed, row) in zip(self.outcomes_by_kind.events, placements, strict=True)
        ]

    def is_still_valid(self, dedup_horizons: DedupHorizons, exclusions: EventExclusions) -> bool:
        """Return whether a later transaction can write this plan without making a new one.

        It can if the same events are still excluded, if no other writer may have written these
        records in the meantime, and if every new row has its event's own id. Only records below a
        dedup horizon may have another writer.

        The first transaction's locks are gone, but then nothing that's left of the plan depends on
        them. Another writer may change the stored rows again, but can't undo what was merged into
        them. Before retention or an operator deletes rows, their exclusion is committed. If another
        event has taken the id of a new row, COPY fails, and the batch is planned again.

        An event whose own id was taken does depend on them. Its new row isn't stored yet, so
        retention may delete the row that has the id without finding the new one. Later reports of
        the event would then find their id free, and be stored as a second row.
        """
        may_have_other_writers = bool(self.dedup_horizons or dedup_horizons)
        return (
            not may_have_other_writers
            and self.exclusions == exclusions
            and self._new_rows_have_own_ids()
        )

    def _new_rows_have_own_ids(self) -> bool:
        """Return whether every new row has its event's own id, i.e. none of these was taken."""
        return all(
            placed != "stored" or row_id == event.event_id
            for event, (placed, row_id) in zip(
                self.outcomes_by_kind.events, self.write_plan.placements, strict=True
            )
        )


class BatchWriteState(msgspec.Struct, frozen=True, kw_only=True):
    """What the earlier transactions of one batch have achieved.

    - `row_rejections` holds the events whose rows the database rejects.
    - `merged` holds the records that were merged into stored rows. `ambiguous` is the number of
      stored rows that became ambiguous in these merges.
    - `plan` is what the next transaction must write, or None if the batch must be planned again.
    """

    row_rejections: dict[Coordinates, Rejected] = {}
    merged: frozenset[Coordinates] = frozenset()
    ambiguous: int = 0
    plan: BatchPlan | None = None


class BatchPlanner:
    """Plans batches, and remembers whether recent ones shared rows with other writers.

    Events that are older than the retention of events would be ignored. If `accept_expired` is
    False, the planner raises FatalError for them instead, so that nobody skips them by accident.
    """

    def __init__(self, *, accept_expired: bool) -> None:
        self._accept_expired = accept_expired
        self.shared_plans_left = 0
        """For how many more plans rows count as shared with other writers.

        Usually a batch has one plan. One that's planned again counts again, which only ends this
        time a little sooner.
        """

    async def plan_batch(
        self,
        connection: asyncpg.Connection,
        batch: Batch,
        state: BatchWriteState,
        exclusions: EventExclusions,
        dedup_horizons: DedupHorizons,
    ) -> BatchPlan:
        """Compare the batch with the stored rows, and lock those that it changes.

        They stay locked until the transaction ends. Raises FatalError for expired events, unless
        they're accepted.
        """
        outcomes_by_kind = group_outcomes(batch, state.row_rejections, exclusions, dedup_horizons)
        if outcomes_by_kind.expired and not self._accept_expired:
            raise FatalError(
                f"{outcomes_by_kind.expired:,} of the next events can't be stored, because they "
                f"are older than {exclusions.retention_horizon:%Y-%m-%dT%H:%M:%SZ}, the oldest "
                "time that `projector maintain --keep-events` allows. To ignore such events and "
                "store the others, add --accept-expired"
            )
        events = outcomes_by_kind.events
        write_plan = await reconcile(events, PostgresStoredEvents(connection), dedup_horizons)
        rows_are_shared = self._note_sharing(batch, write_plan, dedup_horizons)
        return BatchPlan(
            dedup_horizons=dedup_horizons,
            exclusions=exclusions,
            outcomes_by_kind=outcomes_by_kind,
            write_plan=write_plan,
            merged=state.merged,
            merged_first=(
                _updating_records(events, write_plan, state.merged)
                if rows_are_shared and write_plan.inserts and write_plan.updates
                else frozenset()
            ),
        )

    def _note_sharing(
        self, batch: Batch, write_plan: WritePlan, dedup_horizons: DedupHorizons
    ) -> bool:
        """Count this plan, and return whether its rows may be shared with other writers.

        They may be if this batch or a recent one changed a row that came from a partition of
        another writer. Two partitions that report the same events usually continue to do so.
        """
        if write_plan.updates:
            sources: set[SourceKey] = {
                (record.topic, record.incarnation, record.partition)
                for record, _ in batch.records_with_outcomes()
            }
            # A job's horizon is above every offset if others may write the same records right now.
            ours = {
                source
                for source in sources
                if dedup_horizons.get(source, 0) < HORIZON_ABOVE_EVERY_OFFSET
            }
            if any(source_log_key(row) not in ours for row in write_plan.updates):
                self.shared_plans_left = _SHARED_PLANS
        may_be_shared = self.shared_plans_left > 0
        self.shared_plans_left = max(self.shared_plans_left - 1, 0)
        return may_be_shared


def _updating_records(
    events: Sequence[EnvelopeOrEncoded], write_plan: WritePlan, merged: frozenset[Coordinates]
) -> frozenset[Coordinates]:
    """Return the records for which a first transaction must update stored rows, or nothing.

    A duplicate changes its row only if it's one of the `flagging` records. A record that's stored
    under a substitute id changes the row to which its own id belongs, because `reconcile` sets the
    flag SHARES_ID_FLAG there. Under its own id it's a new row, and those aren't among the updates.

    Two kinds of updates lead to no first transaction. A new row under a substitute id may only set
    HAS_RIVAL_FLAG of the row under another substitute. And if `merged` has all of the records, one
    first transaction after the other could make the same updates. So the transaction that inserts
    the new rows makes these updates too, and a deadlock costs it a try.
    """
    updated = {row.event_id for row in write_plan.updates}
    updating = frozenset(
        source_coordinates(event)
        for event, (placed, row_id) in zip(events, write_plan.placements, strict=True)
        if (event.event_id if placed == "stored" else row_id) in updated
        and (placed != "duplicate" or source_coordinates(event) in write_plan.flagging)
    )
    return frozenset() if updating <= merged else updating

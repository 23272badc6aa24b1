"""Sorts a batch's outcomes by kind: events to store, records to quarantine, outcomes to ignore.

The transaction ignores three kinds of outcomes: an `Ignored`, which is a valid record without an
event, an event or rejection that is older than retention allows, and one of an execution that an
operator had erased. The batch counts all three as ignored.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from operator import itemgetter
from typing import Final

import asyncpg
import msgspec

from normalizer.core.batch import Batch, OutcomeTotals, PartitionBatch
from normalizer.core.encoded_events import Event, recorded_or_created_at
from normalizer.core.identity.coordinates import Coordinates, DedupHorizon, event_coordinates
from normalizer.core.identity.stored_events import Outcome
from normalizer.core.raw_record import RawRecord
from normalizer.core.rules.timestamps import to_recorded_at
from normalizer.envelope import Ignored, Rejected
from normalizer.store.quarantine_writer import RejectedRecord

EXPIRED: Final = "it is older than the retention of events"
FORGOTTEN: Final = "its execution is forgotten"

_get_outcome: Final = itemgetter(0)


class Exclusions(msgspec.Struct, frozen=True, kw_only=True):
    """Events and rejections to ignore: those older than `horizon`, and those of `forgotten`.

    - `horizon` is the horizon of retention, or None if nothing expires.
    - `forgotten` has the ids of the batch's executions that an operator had erased.
    """

    horizon: datetime | None
    forgotten: frozenset[int]


class OutcomeCounts:
    """Counts the outcomes of one partition's part of a batch."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(("stored", "duplicate", "merged", "quarantined", "ignored"), 0)

    def add(self, outcome: str) -> None:
        """Count one outcome: stored, duplicate, merged, quarantined, or ignored."""
        self._counts[outcome] += 1

    def add_outcomes(self, outcomes: Iterable[tuple[Outcome, int]]) -> None:
        """Count the outcomes of reconciled events."""
        for outcome, count in Counter(map(_get_outcome, outcomes)).items():
            self._counts[outcome] += count

    def totals(self, part: PartitionBatch) -> OutcomeTotals:
        """Return the counts, with the numbers of records and holes of the part."""
        return OutcomeTotals(
            records=len(part.items),
            holes=sum(after - first for first, after in part.holes),
            outcomes=sum(self._counts.values()),
            **self._counts,
        )


class SortedOutcomes(msgspec.Struct, kw_only=True):
    """A batch's outcomes, sorted by kind. Those to ignore are only counted.

    A part of a batch has the records of one partition.

    - `counts` has the counts of each part, in the order of the parts. So far they have only what's
      ignored. The transaction adds the rest once it knows what became of the events and rejections.
    - `events` has the events to reconcile with the stored rows, in the order of the batch.
    - `ends` has, for each part, the index in `events` after the part's last event.
    - `rejection_counts` has, for each of the `rejections`, the counts of the part that it's in.
    - `rejections` has the records to quarantine, in the order of the batch.
    - `excluded` has the reason for each event and rejection that's ignored.
    - `expired` is how many of these are older than retention allows, and `expired_unread` is how
      many of the expired ones no earlier batch has read.
    """

    counts: list[OutcomeCounts]
    events: list[Event] = []
    ends: list[int] = []
    rejections: list[RejectedRecord] = []
    rejection_counts: list[OutcomeCounts] = []
    excluded: dict[Coordinates, str] = {}
    expired: int = 0
    expired_unread: int = 0

    def add_rejection(self, rejection: RejectedRecord, counts: OutcomeCounts) -> None:
        """Add a rejected record, and the counts of the part that it belongs to."""
        self.rejections.append(rejection)
        self.rejection_counts.append(counts)

    def exclude(self, coordinates: Coordinates, why: str, counts: OutcomeCounts) -> None:
        """Count a valid event or a rejection as ignored, and note why."""
        self.excluded[coordinates] = why
        counts.add("ignored")


# Assigns the batch's id, and reads the retention horizon and the forgotten executions. Reading a
# table locks it until the transaction ends, although the lock (ACCESS SHARE) keeps nobody from
# writing. A job that raises the horizon or forgets an execution commits that first. It then waits
# until all transactions that hold such a lock have ended, and deletes rows only after that. So no
# batch that has read the old values can bring a deleted row back.
_BEGIN_BATCH: Final = """
    select nextval('normalizer.batch_id') as batch_id,
           nullif(expired_before, '-infinity') as expired_before,
           array(
               select execution_id
               from   normalizer.forgotten_executions
               where  execution_id = any((select $1::bigint[])::bigint[])
           ) as forgotten
    from   normalizer.retention_horizon
"""


async def begin_batch(connection: asyncpg.Connection, batch: Batch) -> tuple[int, Exclusions]:
    """Return a new batch id, and the events that this transaction must ignore."""
    execution_ids = {
        RejectedRecord(record, one).execution_id if isinstance(one, Rejected) else one.execution_id
        for part in batch.parts
        for record, outcomes in part.items
        for one in outcomes
        if not isinstance(one, Ignored)
    }
    # Leave out ids that don't fit into a bigint. Even one of them would make the database reject
    # this statement, and with it the whole batch. Later the database rejects only the rows that
    # have such an id.
    storable = [one for one in execution_ids if one is not None and -(1 << 63) <= one < 1 << 63]
    batch_id, horizon, forgotten = await connection.fetchrow(_BEGIN_BATCH, storable)
    return batch_id, Exclusions(horizon=horizon, forgotten=frozenset(forgotten))


def sort_outcomes(
    batch: Batch,
    row_rejections: dict[Coordinates, Rejected],
    exclusions: Exclusions,
    dedup_horizon: DedupHorizon,
) -> SortedOutcomes:
    """Sort the outcomes of every record.

    `row_rejections` has the events whose rows the database has rejected in an earlier try of this
    batch, by their coordinates. They're sorted as rejections.
    """
    sorted_outcomes = SortedOutcomes(counts=[OutcomeCounts() for _ in batch.parts])
    events, horizon, forgotten = sorted_outcomes.events, exclusions.horizon, exclusions.forgotten
    for part, counts in zip(batch.parts, sorted_outcomes.counts, strict=True):
        for record, outcomes in part.items:
            for outcome in outcomes:
                if isinstance(outcome, Ignored):
                    counts.add("ignored")
                    continue
                if horizon is not None and is_expired(record, outcome, horizon):
                    source = (record.topic, record.incarnation, record.partition)
                    coordinates = (*source, record.offset, _index_in_record(outcome))
                    sorted_outcomes.exclude(coordinates, EXPIRED, counts)
                    sorted_outcomes.expired += 1
                    # Only below the dedup horizon may the record have been read before.
                    sorted_outcomes.expired_unread += record.offset >= dedup_horizon.get(source, 0)
                    continue
                match outcome:
                    case Rejected():
                        rejected_record = RejectedRecord(record, outcome)
                        if forgotten and rejected_record.execution_id in forgotten:
                            sorted_outcomes.exclude(rejected_record.coordinates, FORGOTTEN, counts)
                        else:
                            sorted_outcomes.add_rejection(rejected_record, counts)
                    case event if forgotten and event.execution_id in forgotten:
                        sorted_outcomes.exclude(event_coordinates(event), FORGOTTEN, counts)
                    case event if row_rejections and (
                        rejected := row_rejections.get(event_coordinates(event))
                    ):
                        sorted_outcomes.add_rejection(RejectedRecord(record, rejected), counts)
                    case event:
                        events.append(event)
        sorted_outcomes.ends.append(len(events))
    return sorted_outcomes


def _index_in_record(outcome: Event | Rejected) -> int:
    """Return which event of its record this is, counted from 0."""
    if isinstance(outcome, Rejected):
        return outcome.index
    return event_coordinates(outcome)[4]


def is_expired(record: RawRecord, outcome: Event | Rejected, horizon: datetime) -> bool:
    """Return whether the event or rejection is older than the retention of events allows.

    Its age is measured by the time that Kafka recorded, or by the event's own time if there's no
    recorded one. Retention deletes stored rows by the same time. An event or rejection without any
    time never expires.
    """
    match outcome:
        case Rejected():
            time = to_recorded_at(record.recorded_ms)
        case event:
            time = recorded_or_created_at(event)
    return time is not None and time < horizon

"""Sorts a batch's outcomes by kind: events to store, records to quarantine, records to ignore."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from operator import itemgetter
from typing import Final

import asyncpg
import msgspec

from normalizer.core.batch import Batch, OutcomeTotals, PartitionBatch
from normalizer.core.encoded_events import Event, event_time
from normalizer.core.encoded_events import Outcome as ReadOutcome
from normalizer.core.identity.coordinates import Coordinates, DedupHorizon, event_coordinates
from normalizer.core.identity.stored_events import Outcome
from normalizer.core.raw_record import RawRecord
from normalizer.core.rules.timestamps import recorded_at
from normalizer.envelope import Ignored, Rejected
from normalizer.store.quarantine_writer import RejectedRecord

EXPIRED: Final = "it is older than the retention of events"
FORGOTTEN: Final = "its execution is forgotten"

_get_outcome: Final = itemgetter(0)


class Exclusions(msgspec.Struct, frozen=True, kw_only=True):
    """Valid events to ignore: those older than `horizon`, and those of forgotten executions.

    `horizon` is the horizon of retention, or None if nothing expires.
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
    """A batch's outcomes, sorted by kind. Ignored ones are only counted.

    A part of a batch has the records of one partition.

    - `counts` has the counts of each part, in the order of the parts.
    - `ends` has, for each part, the index in `events` after the part's last event.
    - `rejection_counts` has, for each of the `rejections`, the counts of the part that it's in.
    - `excluded` has the reason for each valid event that's ignored.
    - `expired` is the number of events that are older than retention allows, and `expired_unread`
      is how many of these no earlier batch has read.
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


# Assigns the batch's id, and reads the retention horizon and the forgotten executions. Reading
# locks both tables until the transaction ends. A transaction that raises the horizon or forgets an
# execution has to wait for these locks, so it can't overtake a batch that has read the old values.
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
    """Sort the outcomes of every record. `row_rejections` holds events whose rows were rejected."""
    sorted_outcomes = SortedOutcomes(counts=[OutcomeCounts() for _ in batch.parts])
    events, horizon, forgotten = sorted_outcomes.events, exclusions.horizon, exclusions.forgotten
    for part, counts in zip(batch.parts, sorted_outcomes.counts, strict=True):
        for record, outcomes in part.items:
            for outcome in outcomes:
                if horizon is not None and is_expired(record, outcome, horizon):
                    counts.add("ignored")
                    source = (record.topic, record.incarnation, record.partition)
                    sorted_outcomes.excluded[*source, record.offset, _index_in_record(outcome)] = (
                        EXPIRED
                    )
                    sorted_outcomes.expired += 1
                    sorted_outcomes.expired_unread += record.offset >= dedup_horizon.get(source, 0)
                    continue
                match outcome:
                    case Rejected():
                        rejected_record = RejectedRecord(record, outcome)
                        if forgotten and rejected_record.execution_id in forgotten:
                            counts.add("ignored")
                            sorted_outcomes.excluded[rejected_record.coordinates] = FORGOTTEN
                        else:
                            sorted_outcomes.add_rejection(rejected_record, counts)
                    case Ignored():
                        counts.add("ignored")
                    case event if forgotten and event.execution_id in forgotten:
                        counts.add("ignored")
                        sorted_outcomes.excluded[event_coordinates(event)] = FORGOTTEN
                    case event if row_rejections and (
                        rejected := row_rejections.get(event_coordinates(event))
                    ):
                        sorted_outcomes.add_rejection(RejectedRecord(record, rejected), counts)
                    case event:
                        events.append(event)
        sorted_outcomes.ends.append(len(events))
    return sorted_outcomes


def _index_in_record(outcome: ReadOutcome) -> int:
    match outcome:
        case Rejected():
            return outcome.index
        case Ignored():
            return 0
        case event:
            return event_coordinates(event)[4]


def is_expired(record: RawRecord, outcome: ReadOutcome, horizon: datetime) -> bool:
    """Return whether the record or event is older than the retention of events allows.

    Its age is measured by the time that Kafka recorded, or by the event's own time if there's no
    recorded one. Retention deletes stored rows by the same time. A record or event without any time
    never expires.
    """
    if isinstance(outcome, (Rejected, Ignored)):
        time = recorded_at(record.recorded_ms)
    else:
        time = event_time(outcome)
    return time is not None and time < horizon and not isinstance(outcome, Ignored)

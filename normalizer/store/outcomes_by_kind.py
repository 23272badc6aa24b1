"""Groups a batch's outcomes by kind: events to store, records to quarantine, outcomes to ignore.

The transaction ignores three kinds of outcomes: an `Ignored`, which is a valid record without an
event, an event or rejection that is older than retention allows, and one of an execution that an
operator had erased. The batch counts all three as ignored.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Final

import msgspec

from normalizer.core.batch import Batch, OutcomeTotals, PartitionBatch
from normalizer.core.encoded_events import EnvelopeOrEncoded, recorded_or_created_at
from normalizer.core.identity.coordinates import (
    Coordinates,
    DedupHorizons,
    is_below_horizon,
    source_coordinates,
)
from normalizer.core.identity.stored_events import Placement
from normalizer.core.raw_record import RawRecord
from normalizer.core.rules.timestamps import to_recorded_at
from normalizer.envelope import Ignored, Rejected
from normalizer.store.event_exclusions import EventExclusions
from normalizer.store.quarantine_writer import RejectedRecord

_EXPIRED: Final = "it is older than the retention of events"
_FORGOTTEN: Final = "its execution is forgotten"

_get_placed: Final = itemgetter(0)


class OutcomeCounter:
    """Counts the outcomes of one partition's part of a batch."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(("stored", "duplicate", "merged", "quarantined", "ignored"), 0)

    def add(self, outcome: str, times: int = 1) -> None:
        """Count an outcome: stored, duplicate, merged, quarantined, or ignored."""
        self._counts[outcome] += times

    def add_placements(self, placements: Iterable[Placement]) -> None:
        """Count reconciled events by what became of them."""
        for placed, count in Counter(map(_get_placed, placements)).items():
            self._counts[placed] += count

    def totals(self, part: PartitionBatch) -> OutcomeTotals:
        """Return the counts, with the numbers of records and holes of the part."""
        return OutcomeTotals(
            records=len(part.items),
            holes=sum(after - first for first, after in part.holes),
            outcomes=sum(self._counts.values()),
            **self._counts,
        )


class PartOutcomeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many outcomes of each kind one partition's part of a batch has."""

    events: int
    rejections: int
    ignored: int


class OutcomesByKind(msgspec.Struct, frozen=True, kw_only=True):
    """A batch's outcomes, grouped by kind. Those to ignore are only counted.

    - `events` has the events to reconcile with the stored rows, in the order of the batch.
    - `rejections` has the records to quarantine, in the order of the batch.
    - `parts` has, for each part of the batch, how many of these are its own.
    - `excluded` has the reason for each event and rejection that's ignored.
    - `expired` is how many of these are older than retention allows, and `expired_unread` is how
      many of the expired ones no earlier batch has read.
    """

    events: Sequence[EnvelopeOrEncoded]
    rejections: Sequence[RejectedRecord]
    parts: Sequence[PartOutcomeCounts]
    excluded: Mapping[Coordinates, str]
    expired: int
    expired_unread: int


def group_outcomes(
    batch: Batch,
    row_rejections: dict[Coordinates, Rejected],
    exclusions: EventExclusions,
    dedup_horizons: DedupHorizons,
) -> OutcomesByKind:
    """Group the outcomes of every record.

    `row_rejections` has the events whose rows the database has rejected in an earlier try of this
    batch, by their coordinates. They're grouped with the rejections.
    """
    events: list[EnvelopeOrEncoded] = []
    rejections: list[RejectedRecord] = []
    parts: list[PartOutcomeCounts] = []
    excluded: dict[Coordinates, str] = {}
    expired = expired_unread = 0
    retention_horizon, forgotten = exclusions.retention_horizon, exclusions.forgotten
    for part in batch.parts:
        ignored_in_part = 0
        events_before, rejections_before = len(events), len(rejections)
        for record, outcomes in part.items:
            for outcome in outcomes:
                if isinstance(outcome, Ignored):
                    ignored_in_part += 1
                    continue
                if retention_horizon is not None and is_expired(record, outcome, retention_horizon):
                    source = (record.topic, record.incarnation, record.partition)
                    coordinates = (*source, record.offset, _index_in_record(outcome))
                    excluded[coordinates] = _EXPIRED
                    ignored_in_part += 1
                    expired += 1
                    expired_unread += not is_below_horizon(coordinates, dedup_horizons)
                    continue
                match outcome:
                    case Rejected():
                        rejected_record = RejectedRecord(record, outcome)
                        if forgotten and rejected_record.execution_id in forgotten:
                            excluded[rejected_record.coordinates] = _FORGOTTEN
                            ignored_in_part += 1
                        else:
                            rejections.append(rejected_record)
                    case event if forgotten and event.execution_id in forgotten:
                        excluded[source_coordinates(event)] = _FORGOTTEN
                        ignored_in_part += 1
                    case event if row_rejections and (
                        rejected := row_rejections.get(source_coordinates(event))
                    ):
                        rejections.append(RejectedRecord(record, rejected))
                    case event:
                        events.append(event)
        parts.append(
            PartOutcomeCounts(
                events=len(events) - events_before,
                rejections=len(rejections) - rejections_before,
                ignored=ignored_in_part,
            )
        )
    return OutcomesByKind(
        events=events,
        rejections=rejections,
        parts=parts,
        excluded=excluded,
        expired=expired,
        expired_unread=expired_unread,
    )


def _index_in_record(outcome: EnvelopeOrEncoded | Rejected) -> int:
    """Return which event of its record this is, counted from 0."""
    if isinstance(outcome, Rejected):
        return outcome.index
    return source_coordinates(outcome)[4]


def is_expired(
    record: RawRecord, outcome: EnvelopeOrEncoded | Rejected, retention_horizon: datetime
) -> bool:
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
    return time is not None and time < retention_horizon

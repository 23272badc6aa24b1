"""Builds the output records for one part of a batch, and counts the outcomes of its events.

A part consists of the records of one input partition. Its output is written in one Kafka
transaction.
"""

import asyncio
import time
from collections.abc import Mapping

from normalizer.config.settings import Settings
from normalizer.core.batch import PartitionBatch
from normalizer.core.encoded_events import to_envelope
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Ignored, Rejected
from normalizer.kafka import OutputRecord
from normalizer.relay.output_records import canonical_record, reject_too_large, rejection_record
from normalizer.runtime.slices import SLICE_DURATION_S
from normalizer.store.quarantine_writer import RejectedRecord
from normalizer.store.sorted_outcomes import OutcomeCounts
from normalizer.store.write_transaction import CommittedBatch


class PartOutput:
    """The output for one part of a batch, and the outcomes of its events."""

    def __init__(self, settings: Settings, limits: Mapping[str, int], part: PartitionBatch) -> None:
        self._settings = settings
        self._limits = limits
        self._part = part
        self._counts = OutcomeCounts()
        self._events: list[Envelope] = []
        self._rejections: list[RejectedRecord] = []

    async def make_records(self) -> list[OutputRecord]:
        """Build the records in the order of their events.

        Other tasks can run every few milliseconds.
        """
        records = []
        due_s = time.perf_counter() + SLICE_DURATION_S
        for source, outcomes in self._part.items:
            for outcome in outcomes:
                match outcome:
                    case Rejected():
                        records.append(self._rejected(source, outcome))
                    case Ignored():
                        self._counts.add("ignored")
                    case event:
                        records.append(self._canonical(source, to_envelope(event)))
            if time.perf_counter() >= due_s:
                await asyncio.sleep(0)
                due_s = time.perf_counter() + SLICE_DURATION_S
        return records

    def to_committed_batch(self, *, commit_s: float) -> CommittedBatch:
        """Return the counts of the part. Call it after its transaction was committed."""
        return CommittedBatch(
            events=self._events,
            inserted=self._events,
            placements=[("stored", event.event_id or 0) for event in self._events],
            rejections=self._rejections,
            newly_quarantined=[True] * len(self._rejections),
            totals=self._counts.totals(self._part),
            expired_unread=0,
            commit_s=commit_s,
        )

    def _canonical(self, source: RawRecord, event: Envelope) -> OutputRecord:
        topic = self._settings.kafka_canonical_topic
        record = canonical_record(event, topic)
        if rejected := reject_too_large(event, record, self._limits[topic]):
            return self._rejected(source, rejected)
        self._events.append(event)
        self._counts.add("stored")
        return record

    def _rejected(self, source: RawRecord, rejected: Rejected) -> OutputRecord:
        self._rejections.append(RejectedRecord(source, rejected))
        self._counts.add("quarantined")
        return rejection_record(source, rejected, self._settings.kafka_rejected_topic)

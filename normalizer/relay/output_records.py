"""Builds the records that the relay writes: canonical events, and rejections without content.

Source: contract/asyncapi.yaml, channels canonical and rejected.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from normalizer.config.settings import Settings
from normalizer.core.batch import PartitionBatch
from normalizer.core.decode.headers import TRACEPARENT_PATTERN
from normalizer.core.encoded_events import to_envelope
from normalizer.core.identity.merge_flags import coordinates_if_ordered
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Ignored, Rejected, to_canonical
from normalizer.errors import BrokerUnavailableError
from normalizer.kafka import GrouplessClient, OutputRecord
from normalizer.runtime.slices import SLICE_DURATION_S
from normalizer.store.committed_batch import CommittedBatch
from normalizer.store.outcomes_by_kind import OutcomeCounter
from normalizer.store.quarantine_writer import RejectedRecord

_MAX_DETAIL_CHARS: Final = 500


async def read_topic_size_limits(topics: GrouplessClient, settings: Settings) -> dict[str, int]:
    """Return the size in bytes of the largest batch that each of the two output topics accepts.

    Raises BrokerUnavailableError if a topic doesn't exist. That's checked here, because aiokafka's
    own request for a missing topic might make the broker create it.
    """
    limits = {}
    for topic in (settings.kafka_canonical_topic, settings.kafka_rejected_topic):
        configs = await topics.read_topic_config(topic)
        if not configs:
            raise BrokerUnavailableError(
                f"topic {topic} does not exist, and the relay does not create topics. Create it, "
                "and the relay continues"
            )
        limits[topic] = int(configs["max.message.bytes"])
    return limits


def canonical_record(event: Envelope, topic: str, *, revision: int | None = None) -> OutputRecord:
    """Build the record of a canonical event.

    Its key is the execution's id, so that all events of an execution are in one partition, in
    order. A stored event has a `revision`, by which readers see which of two records is newer. Such
    a record also has the header `place` with the event's coordinates in its log, so that readers
    can compare reports of the event.
    """
    headers = {
        "event_id": event.event_id,
        "shape": event.shape,
        "rules_version": event.normalizer_version,
        "evidence": f"{event.evidence:03}",
        "max_attempts": event.max_attempts,
        "place": None if revision is None else coordinates_if_ordered(event),
        "trace_id": event.trace_id,
        "traceparent": _build_traceparent(event),
        "revision": revision,
    }
    return OutputRecord(
        topic,
        str(event.execution_id).encode(),
        to_canonical(event),
        [(name, str(value).encode()) for name, value in headers.items() if value is not None],
    )


def _build_traceparent(event: Envelope) -> str | None:
    """Return the `traceparent` header of the record that the event came from, or None.

    It's None if the event has no trace id, or if the stored header has another one. That can happen
    if two reports from different traces were merged into the event. Source:
    docs/spec/wire-shapes.md#v6.
    """
    if event.trace_id is None or event.headers is None:
        return None
    for name, value in msgspec.json.decode(event.headers).items():
        if name.lower() == "traceparent":
            for text in value if isinstance(value, list) else [value]:
                match = TRACEPARENT_PATTERN.fullmatch(text) if isinstance(text, str) else None
                if match and match[1] == event.trace_id:
                    return str(text)
    return None


def rejection_if_too_large(event: Envelope, record: OutputRecord, limit: int) -> Rejected | None:
    """Return the rejection of an event whose record is too large for its topic, or None."""
    if record.single_record_batch_bytes <= limit:
        return None
    return Rejected(
        reason="too_large",
        detail=f"{event.source_topic}[{event.source_partition}]@{event.source_offset}: its "
        f"canonical record takes {record.single_record_batch_bytes} bytes, but "
        f"max.message.bytes of {record.topic} is {limit}",
        shape=event.shape,
        index=event.source_index,
    )


def unwritable_event_rejection(event: Envelope, why: ValueError) -> Rejected:
    """Reject a stored event that no canonical line may hold.

    Somebody wrote its row with SQL.
    """
    return Rejected(
        reason="invalid_json",
        detail=f"event {event.event_id}: {why}",
        shape=event.shape,
        index=event.source_index,
    )


def rejection_record(source: RawRecord, rejected: Rejected, topic: str) -> OutputRecord:
    """Build the record that says why an event or a record was rejected, without its bytes."""
    rejection = {
        "topic": source.topic,
        "partition": source.partition,
        "offset": source.offset,
        "index": rejected.index,
        "reason": rejected.reason,
        "detail": rejected.detail[:_MAX_DETAIL_CHARS],
    }
    key = f"{source.topic}:{source.partition}:{source.offset}"
    return OutputRecord(topic, key.encode(), msgspec.json.encode({"quarantine": rejection}), [])


class PartitionOutput:
    """The output for one part of a batch, and the outcomes of its events."""

    def __init__(self, settings: Settings, limits: Mapping[str, int], part: PartitionBatch) -> None:
        self._settings = settings
        self._limits = limits
        self._part = part
        self._counts = OutcomeCounter()
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
        if rejected := rejection_if_too_large(event, record, self._limits[topic]):
            return self._rejected(source, rejected)
        self._events.append(event)
        self._counts.add("stored")
        return record

    def _rejected(self, source: RawRecord, rejected: Rejected) -> OutputRecord:
        self._rejections.append(RejectedRecord(source, rejected))
        self._counts.add("quarantined")
        return rejection_record(source, rejected, self._settings.kafka_rejected_topic)

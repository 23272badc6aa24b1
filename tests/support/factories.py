"""Raw records, envelopes and batches with defaults: a test states only what matters to it."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from normalizer.core.batch import Batch, PartitionBatch, RecordWithOutcomes
from normalizer.core.encoded_events import EncodedEvent, EnvelopeOrEncoded, encode_envelope
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import RULES_VERSION, Envelope, Ignored, Normalized, Rejected
from normalizer.snowflake import EPOCH_MS
from normalizer.store.claim import Claim

TOPIC: Final = "noetl.events"
RECORDED_MS: Final = 1_764_000_000_000
"""2025-11-24T16:00:00Z, the Kafka time of the record at offset 0. Each later one is 1 ms newer."""
EXECUTION_ID: Final = 1000

Outcomes = Normalized | tuple[Normalized, ...]
"""The outcome of one record, or several."""


def snowflake(number: int = 0, *, node: int = 7) -> int:
    """An id in the application's layout, `number` milliseconds after RECORDED_MS."""
    return (RECORDED_MS + number - EPOCH_MS) << 22 | node << 12


def recorded_at(offset: int = 0) -> datetime:
    """The Kafka time of the record at this offset."""
    return datetime.fromtimestamp(RECORDED_MS / 1000, UTC) + timedelta(milliseconds=offset)


def raw_record(offset: int = 0, value: Any = None, **fields: Any) -> RawRecord:
    """A record at this offset. `value` is bytes, or an object to be encoded as JSON."""
    if value is None:
        value = raw_event(offset)
    record = RawRecord(
        value=value if isinstance(value, bytes) else msgspec.json.encode(value),
        topic=TOPIC,
        offset=offset,
        key=str(EXECUTION_ID).encode(),
        recorded_ms=RECORDED_MS + offset,
    )
    return msgspec.structs.replace(record, **fields)


def raw_event(number: int = 0, /, **fields: Any) -> dict[str, Any]:
    """An event as a producer sends it: a finished call with its own id, as an ExecutorEvent."""
    event: dict[str, Any] = {
        "event_id": snowflake(number),
        "execution_id": EXECUTION_ID,
        "event_type": "call.done",
        "step": "fetch",
        "status": "COMPLETED",
        "created_at": "2025-11-24T16:00:00Z",
        "context": {"n": number},
        "worker_id": "worker-1",
        "meta": {"attempts": 0},
    }
    return event | fields


def envelope(offset: int = 0, /, **fields: Any) -> Envelope:
    """Build the canonical event of the record at this offset. The offset also makes its id.

    JSON columns are bytes. `meta` has the same attempts as the column unless you pass it.
    """
    attempts = fields.get("attempts", 0)
    values: dict[str, Any] = {
        "event_id": snowflake(offset),
        "execution_id": EXECUTION_ID,
        "event_type": "call.done",
        "step": "fetch",
        "status": "COMPLETED",
        "attempts": attempts,
        "max_attempts": None,
        "created_at": recorded_at(),
        "worker_id": None,
        "command_id": None,
        "iteration": None,
        "node_type": None,
        "catalog_id": None,
        "parent_event_id": None,
        "parent_execution_id": None,
        "duration": None,
        "error": None,
        "context": None,
        "result": None,
        "meta": b'{"attempts":%d}' % attempts,
        "extra": None,
        "coercions": None,
        "evidence": 212,
        "shape": "executor",
        "normalizer_version": RULES_VERSION,
        "source_topic": TOPIC,
        "source_incarnation": 0,
        "source_partition": 0,
        "source_offset": offset,
        "source_index": 0,
        "headers": None,
        "trace_id": None,
        "recorded_at": recorded_at(offset),
    }
    return Envelope(**values | fields)


def rejected(**fields: Any) -> Rejected:
    """A rejection of the core."""
    return Rejected(**{"reason": "not_an_event", "detail": "no event_type and no name"} | fields)


def ignored() -> Ignored:
    """The outcome of a tombstone."""
    return Ignored(why="tombstone")


def make_claim(partition: int = 0, **fields: Any) -> Claim:
    """A claim of a partition that was never read."""
    values: dict[str, Any] = {
        "topic": TOPIC,
        "incarnation": 0,
        "partition": partition,
        "epoch": 1,
        "next_offset": 0,
        "cluster_id": "",
        "last_offset": None,
        "last_recorded_ms": None,
        "last_crc": None,
    }
    return Claim(**values | fields)


def make_batch(
    *outcomes_of_each: Outcomes, claim: Claim | None = None, holes: Iterable[tuple[int, int]] = ()
) -> Batch:
    """Build a batch with a record for each of `outcomes_of_each`, at offsets from the claim's on.

    It skips the offsets in `holes`, and gives every outcome the place of its record. Ids stay as
    they are. The events at odd offsets are already encoded, like those of the native lane.
    """
    claim = claim or make_claim()
    gaps = dict(holes)
    items: list[RecordWithOutcomes] = []
    offset = claim.next_offset
    for one in outcomes_of_each:
        while offset in gaps:
            offset = gaps[offset]
        items.append(_item(claim, offset, one if isinstance(one, tuple) else (one,)))
        offset += 1
    while offset in gaps:
        offset = gaps[offset]
    return _batch(claim, offset, items, tuple(gaps.items()))


def together(*batches: Batch) -> Batch:
    """The parts of several batches in one transaction."""
    return Batch(parts=tuple(part for batch in batches for part in batch.parts))


def after(claim: Claim, batch: Batch) -> Claim:
    """The claim after this batch of its partition was written."""
    (part,) = (part for part in batch.parts if part.partition == claim.partition)
    return msgspec.structs.replace(claim, next_offset=part.next_offset)


def batch_of_records(claim: Claim, items: Iterable[RecordWithOutcomes]) -> Batch:
    """Records with the outcomes that the core gave them, in the order of their offsets."""
    kept = list(items)
    return _batch(claim, claim.next_offset + len(kept), kept)


def _batch(
    claim: Claim,
    next_offset: int,
    items: list[RecordWithOutcomes],
    holes: tuple[tuple[int, int], ...] = (),
) -> Batch:
    part = PartitionBatch(
        topic=claim.topic,
        incarnation=claim.incarnation,
        partition=claim.partition,
        epoch=claim.epoch,
        from_offset=claim.next_offset,
        next_offset=next_offset,
        items=items,
        holes=holes,
    )
    return Batch(parts=(part,))


def _item(claim: Claim, offset: int, outcomes: tuple[Normalized, ...]) -> RecordWithOutcomes:
    record = raw_record(
        offset,
        topic=claim.topic,
        incarnation=claim.incarnation,
        partition=claim.partition,
    )
    made = [_at_coordinates(outcome, record, index) for index, outcome in enumerate(outcomes)]
    return half_encoded((record, tuple(made)))


def half_encoded(item: RecordWithOutcomes) -> RecordWithOutcomes:
    """The item with encoded events, as those of the lane, where its offset is odd."""
    record, outcomes = item
    if record.offset % 2 == 0:
        return item
    return record, tuple(encoded(one) if isinstance(one, Envelope) else one for one in outcomes)


def encoded(event: Envelope) -> EnvelopeOrEncoded:
    """The event as the lane gives it, or as it is where its columns cannot hold it."""
    try:
        columns = encode_envelope(event)
    except ValueError:
        return event
    assert event.event_id is not None
    return EncodedEvent(event.event_id, event.execution_id, event.shape, event.coercions, columns)


def _at_coordinates(outcome: Normalized, record: RawRecord, index: int) -> Normalized:
    match outcome:
        case Envelope():
            return msgspec.structs.replace(
                outcome,
                source_topic=record.topic,
                source_incarnation=record.incarnation,
                source_partition=record.partition,
                source_offset=record.offset,
                source_index=index,
                recorded_at=recorded_at(record.offset),
            )
        case Rejected():
            return msgspec.structs.replace(outcome, index=index)
        case Ignored():
            return outcome

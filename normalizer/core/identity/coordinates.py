"""Identifies events by their coordinates, and computes the ids that are derived from these."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from normalizer.core.encoded_events import EncodedEvent, EnvelopeOrEncoded, decode_coordinates
from normalizer.envelope import Envelope
from normalizer.snowflake import derive_id

Coordinates = tuple[str | None, int, int, int, int]
"""Topic, incarnation, partition, offset, and the event's index in its record."""

SourceKey = tuple[str | None, int, int]
"""Topic, incarnation, and partition of a record."""

DedupHorizons = Mapping[SourceKey, int]
"""The dedup horizon of each source, an offset. Only a record below it may already be stored."""

NO_DEDUP_HORIZONS: Final[DedupHorizons] = MappingProxyType({})

HORIZON_ABOVE_EVERY_OFFSET: Final = 1 << 62
"""A dedup horizon above every offset, for a source that others may be writing right now."""

_MIN_DERIVED_ID: Final = 1 << 62
"""No producer's id is this high. Ids that we derive or assign are at least this."""

DERIVED_ID_SALTS_TO_TRY: Final = range(4)
"""A number that goes into a derived id. So an event has as many derived ids as there are salts."""


def source_coordinates(event: EnvelopeOrEncoded) -> Coordinates:
    """Return the coordinates of the event, which never change."""
    if isinstance(event, EncodedEvent):
        return decode_coordinates(event.columns)
    return (
        event.source_topic,
        event.source_incarnation,
        event.source_partition,
        event.source_offset,
        event.source_index,
    )


def source_log_key(event: EnvelopeOrEncoded) -> SourceKey:
    """Return topic, incarnation, and partition of the event's record."""
    return source_coordinates(event)[:3]


def is_below_horizon(coordinates: Coordinates, dedup_horizons: DedupHorizons) -> bool:
    """Return whether an earlier batch may have stored the record at these coordinates."""
    topic, incarnation, partition, offset, _ = coordinates
    return offset < dedup_horizons.get((topic, incarnation, partition), 0)


def required_event_id(event: EnvelopeOrEncoded) -> int:
    """Return the id of an event from a log. Raises ValueError if it has none."""
    if event.event_id is None:
        topic, _, _, offset, _ = source_coordinates(event)
        message = f"an event without an id has no row: {topic}@{offset}"
        raise ValueError(message)
    return event.event_id


def has_derived_id(event: Envelope) -> bool:
    """Return whether the event's id is derived from its coordinates, because it had none."""
    return required_event_id(event) >= _MIN_DERIVED_ID and any(
        derive_event_id(event, salt) == event.event_id for salt in DERIVED_ID_SALTS_TO_TRY
    )


def derive_event_id(event: Envelope, salt: int) -> int:
    """Return the id derived from the event's coordinates with this salt."""
    recorded = event.recorded_at
    return derive_id(
        event.source_topic or "",
        event.source_incarnation,
        event.source_partition,
        event.source_offset,
        event.source_index,
        None if recorded is None else round(recorded.timestamp() * 1000),
        salt,
    )

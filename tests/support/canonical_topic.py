"""Events as records of the topic of canonical events, and the rows that the oracle folds."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope
from normalizer.relay.output_records import canonical_record
from tests.support.projection_oracle import Row
from tests.support.simulator_pipeline import MemoryDatabase


class CanonicalRecord(NamedTuple):
    """What stands on the topic."""

    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


async def merged_events(log: Iterable[RawRecord]) -> list[Envelope]:
    """The rows that the service would store of a log, by id."""
    database = MemoryDatabase()
    normalize = Normalizer().normalize
    batch = []
    for record in log:
        batch.append((record, normalize(record)))
        if len(batch) == 500:
            await database.write(batch)
            batch = []
    await database.write(batch)
    return database.stored()


def record_of(event: Envelope, *, revision: int = 0) -> CanonicalRecord:
    """The record of an event; of two with one event_id the greater revision counts."""
    made = canonical_record(event, "canonical", revision=revision)
    return CanonicalRecord(made.key, made.value, made.headers)


def row_of(event: Envelope) -> Row:
    """The row that the oracle folds."""
    row: dict[str, Any] = msgspec.structs.asdict(event)
    for name in ("context", "coercions"):
        if row[name] is not None:
            row[name] = json.loads(row[name])
    return row

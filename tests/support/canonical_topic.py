"""Events as records of the topic of canonical events, and the rows that the oracle folds."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final, Literal, NamedTuple

import msgspec

from normalizer.core.identity.merge_flags import REPORTED_ELSEWHERE_FLAG
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, to_canonical
from normalizer.relay.output_records import canonical_record
from simulator.ledger_file import Line, RecordLine
from simulator.view_fold import Row
from tests.support.projection_oracle import expected_views
from tests.support.simulator_pipeline import MemoryDatabase

RELAYS: Final = ("from-postgres", "raw")
"""The two forms of `normalizer relay`; each has a page of results of its own."""
FIGURES: Final = (
    "attempts_by_status", "event_counts", "call_outcomes_by_attempt", "failures_by_error",
    "call_time_histogram",
)  # fmt: skip
"""The views that other engines keep."""
Kept = Literal["first", "last"]
"""Which of several reports of one event a reader keeps."""


class CanonicalRecord(NamedTuple):
    """What stands on the topic."""

    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


class PublishedLog(NamedTuple):
    """A relay's records of a log, a reader's counts of these, and PostgreSQL's rows."""

    sent: Sequence[Envelope]
    counted: Sequence[Envelope]
    stored: Sequence[Envelope]

    def figures(self) -> tuple[dict[str, list[tuple[Any, ...]]], int]:
        """View -> the rows that a reader must show, and how many of them PostgreSQL does not."""
        counted, stored = (
            expected_views(map(to_row, events)) for events in (self.counted, self.stored)
        )
        others = (Counter(counted[view]) - Counter(stored[view]) for view in FIGURES)
        return {view: counted[view] for view in FIGURES}, sum(other.total() for other in others)


async def published(
    relay: str, log: Sequence[RawRecord], ledger: Iterable[Line], *, reader_keeps: Kept
) -> PublishedLog:
    """Return the records that one of RELAYS publishes. Only merges change their number.

    Raises AssertionError if an event is published in another form than it's stored in, although the
    ledger says that it's in the log only once.
    """
    stored = await merged_events(log)
    if relay == "from-postgres":
        return PublishedLog(stored, stored, stored)
    normalize = Normalizer().normalize
    outcomes = (outcome for record in log for outcome in normalize(record))
    # This relay sends no `place`, as for an event with a report elsewhere.
    sent = [
        msgspec.structs.replace(outcome, merge_flags=REPORTED_ELSEWHERE_FLAG)
        for outcome in outcomes
        if isinstance(outcome, Envelope)
    ]
    counted = counted_once(sent, reader_keeps)
    merged = _merged_reports(ledger)
    for events, others in ((stored, counted), (counted, stored)):
        known = set(map(_all_but_id, others))
        differing = [event for event in events if _all_but_id(event) not in known]
        assert {_place(event) for event in differing} <= merged
    assert len(counted) == len(stored)
    return PublishedLog(sent, counted, stored)


def counted_once(events: Iterable[Envelope], kept: Kept) -> list[Envelope]:
    """One of the events with one execution_id and event_id."""
    found: dict[tuple[int, int | None], Envelope] = {}
    for event in events:
        key = event.execution_id, event.event_id
        if kept == "last":
            found[key] = event
        else:
            found.setdefault(key, event)
    return list(found.values())


def _merged_reports(ledger: Iterable[Line]) -> set[tuple[int, int, int]]:
    """Where the reports of each event lie that the log has more than once."""
    places: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for line in ledger:
        if isinstance(line, RecordLine):
            for index, outcome in enumerate(line.outcomes):
                if outcome.event is not None:
                    places[outcome.event].append((line.partition, line.offset, index))
    return {place for reports in places.values() if len(reports) > 1 for place in reports}


def _place(event: Envelope) -> tuple[int, int, int]:
    return event.source_partition, event.source_offset, event.source_index


def _all_but_id(event: Envelope) -> tuple[bytes, int, int | None]:
    """The inputs of the figures. Of two events with one id PostgreSQL stores one under another."""
    line = to_canonical(msgspec.structs.replace(event, event_id=None))
    return blake2b(line, digest_size=16).digest(), event.evidence, event.max_attempts


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


def to_record(event: Envelope, *, revision: int = 0) -> CanonicalRecord:
    """The record of an event. If two have the same event_id, the greater revision counts."""
    made = canonical_record(event, "canonical", revision=revision)
    return CanonicalRecord(made.key, made.value, made.headers)


def to_row(event: Envelope) -> Row:
    """The row that the oracle folds."""
    row: dict[str, Any] = msgspec.structs.asdict(event)
    for name in ("context", "result", "coercions"):
        if row[name] is not None:
            row[name] = json.loads(row[name])
    return row

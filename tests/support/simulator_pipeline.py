"""Records of the simulator through the core and the join, in memory: a database to compare with."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta

from normalizer.core.encoded_events import to_envelope
from normalizer.core.identity.coordinates import Coordinates, event_coordinates
from normalizer.core.identity.digests import Digest
from normalizer.core.identity.reconcile import reconcile
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Ignored, Normalized, Rejected
from simulator.actual_rows import ActualQuarantine, ActualRow, ActualTotals
from simulator.compare import compare
from simulator.comparison_report import ComparisonReport
from simulator.ledger_file import Ledger, Line, decode
from simulator.mix import Mix
from simulator.sent_record import SentRecord
from simulator.topic_records import records
from tests.support.merging import digests_of

TOPIC = "noetl.events"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH = 500

Normalize = Callable[[RawRecord], tuple[Normalized, ...]]


class MemoryDatabase:
    """The rows that the store would hold, by id, merged and re-keyed by the core."""

    def __init__(self) -> None:
        self._rows: dict[int, Envelope] = {}
        self._assigned: dict[Coordinates, int] = {}
        self._rejected: list[ActualQuarantine] = []
        self._totals: dict[int, Counter[str]] = {}

    async def write(self, items: Sequence[tuple[RawRecord, tuple[Normalized, ...]]]) -> None:
        """One batch, as the store does it."""
        events: list[Envelope] = []
        for record, outcomes in items:
            totals = self._totals.setdefault(record.partition, Counter())
            totals["records"] += 1
            totals["outcomes"] += len(outcomes)
            for outcome in outcomes:
                match outcome:
                    case Envelope():
                        events.append(outcome)
                    case Rejected(reason=reason, index=index):
                        totals["quarantined"] += 1
                        place = (record.partition, record.offset, index)
                        self._rejected.append(ActualQuarantine(*place, reason))
                    case Ignored():
                        totals["ignored"] += 1
        write_plan = await reconcile(events, self)
        for row in (*write_plan.inserts, *write_plan.updates):
            assert row.event_id is not None
            self._rows[row.event_id] = to_envelope(row)
        for event, (what, _) in zip(events, write_plan.outcomes, strict=True):
            self._totals[event.source_partition][what] += 1

    async def find_coordinates(self, event_ids: Sequence[int]) -> dict[int, Coordinates]:
        return {id_: event_coordinates(self._rows[id_]) for id_ in event_ids if id_ in self._rows}

    async def rows(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        return {id_: self._rows[id_] for id_ in event_ids if id_ in self._rows}

    async def find_rows_at(self, places: AbstractSet[Coordinates]) -> dict[Coordinates, int]:
        message = f"nothing is read twice here: {len(places)} places"
        raise AssertionError(message)

    async def find_merged(self, _places: AbstractSet[Coordinates]) -> dict[Coordinates, int]:
        return {}

    async def digests(self, values: Sequence[bytes]) -> list[Digest]:
        return digests_of(values)

    async def find_assigned(self, place: Coordinates) -> int | None:
        return self._assigned.get(place)

    async def assign(self, place: Coordinates) -> int:
        return self._assigned.setdefault(place, 1 + len(self._assigned))

    async def pause(self) -> None:
        pass

    def stored(self) -> list[Envelope]:
        """The rows, by id."""
        return [self._rows[event_id] for event_id in sorted(self._rows)]

    def view(self) -> "MemoryView":
        return MemoryView(self._rows, self._rejected, self._totals)


class MemoryView:
    """The same, in the form that the simulator's comparison reads."""

    def __init__(
        self,
        rows: dict[int, Envelope],
        rejected: list[ActualQuarantine],
        totals: dict[int, Counter[str]],
    ) -> None:
        self._rows = rows
        self._rejected = rejected
        self._totals = totals

    async def rows(self) -> AsyncIterator[ActualRow]:
        for event_id in sorted(self._rows):
            yield _row(self._rows[event_id])

    async def quarantined(self) -> list[ActualQuarantine]:
        return self._rejected

    async def totals(self) -> dict[int, ActualTotals]:
        return {
            partition: ActualTotals(
                partition=partition,
                start_offset=0,
                next_offset=totals["records"],
                records=totals["records"],
                holes=0,
                outcomes=totals["outcomes"],
                stored=totals["stored"],
                duplicate=totals["duplicate"],
                merged=totals["merged"],
                quarantined=totals["quarantined"],
                ignored=totals["ignored"],
            )
            for partition, totals in self._totals.items()
        }

    async def taken(self, event_ids: list[int]) -> set[int]:
        return {event_id for event_id in event_ids if event_id in self._rows}


def simulated_log(mix: Mix, seed: int, number: int) -> tuple[list[RawRecord], list[Line]]:
    """The first records of a play as a log holds them, and the lines of their ledger."""
    written: list[bytes] = []
    ledger = Ledger(written.append)
    ledger.begin(topic=TOPIC, seed=seed, mix=mix)
    offsets: Counter[int] = Counter()
    log: list[RawRecord] = []
    stream = records(mix, seed, lived=ledger.lived)
    for record in stream:
        if len(log) == number:
            break
        offset = offsets[record.partition]
        offsets[record.partition] += 1
        ledger.placed(record, TOPIC, record.partition, offset)
        log.append(_raw(record, offset))
    stream.close()
    return log, [decode(line) for line in written]


async def compare_in_memory(
    log: Iterable[RawRecord], ledger: list[Line], normalize: Normalize
) -> ComparisonReport:
    """The result of the comparison after `normalize` has seen the log, in batches."""
    database = MemoryDatabase()
    batch: list[tuple[RawRecord, tuple[Normalized, ...]]] = []
    for record in log:
        batch.append((record, normalize(record)))
        if len(batch) == _BATCH:
            await database.write(batch)
            batch = []
    await database.write(batch)
    return await compare(iter(ledger), database.view())


def _raw(record: SentRecord, offset: int) -> RawRecord:
    return RawRecord(
        value=record.value,
        topic=TOPIC,
        partition=record.partition,
        offset=offset,
        key=record.key,
        headers=tuple(record.headers),
        recorded_ms=record.timestamp_ms,
    )


def _row(event: Envelope) -> ActualRow:
    assert event.event_id is not None
    assert event.created_at is not None
    return ActualRow(
        event_id=event.event_id,
        execution_id=event.execution_id,
        event_type=event.event_type,
        step=event.step,
        status=event.status,
        attempts=event.attempts,
        max_attempts=event.max_attempts,
        created_us=_microseconds(event.created_at),
        worker_id=event.worker_id,
        command_id=event.command_id,
        iteration=event.iteration,
        node_type=event.node_type,
        catalog_id=event.catalog_id,
        parent_event_id=event.parent_event_id,
        parent_execution_id=event.parent_execution_id,
        duration=event.duration,
        error=event.error,
        context=_text(event.context),
        result=_text(event.result),
        meta=event.meta.decode(),
        extra=_text(event.extra),
        coercions=_text(event.coercions),
        evidence=event.evidence,
        shape=event.shape,
        headers=_text(event.headers),
        trace_id=event.trace_id,
        recorded_us=None if event.recorded_at is None else _microseconds(event.recorded_at),
        source_partition=event.source_partition,
        source_offset=event.source_offset,
        source_index=event.source_index,
    )


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()

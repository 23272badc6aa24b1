"""Records of the simulator through the core and the join, in memory: a database to compare with."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Ignored, Normalized, Rejected
from simulator.actual_rows import ActualQuarantine, ActualRow, ActualTotals
from simulator.compare import compare
from simulator.comparison_report import ComparisonReport
from simulator.ledger_file import Ledger, Line, decode
from simulator.mix import Mix
from simulator.sent_record import SentRecord
from simulator.topic_records import records
from tests.support.memory_log import MemoryLog

TOPIC = "noetl.events"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH = 500

Normalize = Callable[[RawRecord], tuple[Normalized, ...]]


class MemoryDatabase:
    """The rows that the store would hold, merged and re-keyed by the core, as `compare` reads."""

    def __init__(self) -> None:
        self._log = MemoryLog()
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
        for event, what in zip(events, await self._log.take(*events), strict=True):
            self._totals[event.source_partition][what] += 1

    def stored(self) -> list[Envelope]:
        """The rows, by id."""
        return [row for _, row in sorted(self._log.rows_by_id.items())]

    async def rows(self) -> AsyncIterator[ActualRow]:
        for event in self.stored():
            yield _row(event)

    async def quarantined(self) -> list[ActualQuarantine]:
        return self._rejected

    async def totals(self) -> dict[int, ActualTotals]:
        counted = ("records", "outcomes", "stored", "duplicate", "merged", "quarantined", "ignored")
        return {
            partition: ActualTotals(
                partition=partition,
                start_offset=0,
                next_offset=totals["records"],
                holes=0,
                **{name: totals[name] for name in counted},
            )
            for partition, totals in self._totals.items()
        }

    async def find_stored_ids(self, event_ids: list[int]) -> set[int]:
        return self._log.rows_by_id.keys() & event_ids


def simulated_log(mix: Mix, seed: int, number: int) -> tuple[list[RawRecord], list[Line]]:
    """The first records of a play as a log holds them, and the lines of their ledger."""
    written: list[bytes] = []
    ledger = Ledger(written.append)
    ledger.begin(topic=TOPIC, seed=seed, mix=mix)
    offsets: Counter[int] = Counter()
    log: list[RawRecord] = []
    stream = records(mix, seed, lived=ledger.add_execution)
    for record in stream:
        if len(log) == number:
            break
        offset = offsets[record.partition]
        offsets[record.partition] += 1
        ledger.add_record(record, TOPIC, record.partition, offset)
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
    return await compare(iter(ledger), database)


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
    assert event.created_at is not None
    values: dict[str, Any] = {
        name: getattr(event, name, None) for name in ActualRow.__struct_fields__
    }
    texts: dict[str, Any] = {
        name: value.decode() for name, value in values.items() if isinstance(value, bytes)
    }
    recorded_us = None if event.recorded_at is None else _microseconds(event.recorded_at)
    times: dict[str, Any] = {
        "created_us": _microseconds(event.created_at),
        "recorded_us": recorded_us,
    }
    return ActualRow(**values | texts | times)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)

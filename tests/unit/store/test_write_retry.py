"""Delivery: back off, halve down to the culprit, and wait: nothing is ever rejected here."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import repeat

import pytest
from structlog.testing import capture_logs

from normalizer.core.batch import Batch, OutcomeTotals, PartitionBatch
from normalizer.core.encoded_events import EventOutcome
from normalizer.errors import FatalError, FencedError, ProjectionFailedError, StoreUnavailableError
from normalizer.store import write_retry
from normalizer.store.write_retry import (
    TRIES_BEFORE_HALVING,
    InFlightBatch,
    SingleTryWriter,
    write_with_retry,
)
from tests.support.factories import TOPIC, envelope, make_batch, make_claim, together
from tests.support.waiting import until

RECORDS = 16


class Log(SingleTryWriter):
    """A database in memory, whose position moves like the store's, and which fails on demand."""

    def __init__(
        self,
        *,
        poison: tuple[int, ...] = (),
        outages: Iterable[bool] = (),
        breaks_projections: int | None = None,
        sqlstate: str | None = None,
    ) -> None:
        self.sqlstate = sqlstate
        self.poison = poison
        self.breaks_projections = breaks_projections
        self.without: list[int] = []
        self.outages = iter(outages)
        self.position: dict[int, int] = {}
        self.outcomes: list[tuple[int, EventOutcome]] = []
        self.tried: list[int] = []
        self.on_failure: Callable[[], None] = lambda: None

    async def write(self, batch: Batch, *, projections: bool = True) -> OutcomeTotals:
        items = list(batch.records_with_outcomes())
        self.tried.append(len(items))
        if next(self.outages, False) or any(record.offset in self.poison for record, _ in items):
            self.on_failure()
            raise StoreUnavailableError("database: no", sqlstate=self.sqlstate)
        if not projections:
            self.without += [record.offset for record, _ in items]
        elif any(record.offset == self.breaks_projections for record, _ in items):
            raise ProjectionFailedError("database: 22012 inside projector.x")
        for part in batch.parts:
            assert part.from_offset == self.position.get(part.partition, part.from_offset)
            self.position[part.partition] = part.next_offset
        self.outcomes += [(record.offset, one) for record, made in items for one in made]
        return OutcomeTotals(records=len(items), outcomes=sum(len(made) for _, made in items))

    def healed_after(self, failures: int) -> None:
        """The poison works so often, then no longer."""
        left = iter(range(failures - 1, -1, -1))

        def heal() -> None:
            if next(left) == 0:
                self.poison = ()

        self.on_failure = heal


async def delivered(log: Log, batch: Batch) -> OutcomeTotals:
    return await write_with_retry(log, batch, stop=asyncio.Event(), draw=lambda: -1.0)


def records(count: int = RECORDS) -> Batch:
    return make_batch(*[envelope()] * count)


async def test_a_batch_that_goes_in_is_written_once() -> None:
    log = Log()

    totals = await delivered(log, records())

    assert log.tried == [RECORDS]
    assert totals == OutcomeTotals(records=RECORDS, outcomes=RECORDS)


@pytest.mark.parametrize("bad", [0, 5, RECORDS - 1])
async def test_the_position_stands_at_the_record_that_fails(bad: int) -> None:
    log = Log(poison=(bad,))
    log.healed_after(60)

    totals = await delivered(log, records())

    maintenance_lock = log.tried.count(1)
    assert maintenance_lock > 60 - TRIES_BEFORE_HALVING * 4
    assert [offset for offset, _ in log.outcomes] == list(range(RECORDS))
    assert totals == OutcomeTotals(records=RECORDS, outcomes=RECORDS)


async def test_records_before_the_culprit_are_written_and_none_after_it() -> None:
    log = Log(poison=(5,))
    stop = asyncio.Event()
    failures = iter(range(99))
    log.on_failure = lambda: stop.set() if next(failures) == 50 else None

    with pytest.raises(StoreUnavailableError):
        await write_with_retry(log, records(), stop=stop, draw=lambda: -1.0)

    assert log.position == {0: 5}


async def test_after_an_outage_of_any_length_pieces_with_projections_grow_to_whole_batches() -> (
    None
):
    log = Log(outages=[True] * 50)

    totals = await delivered(log, records())

    assert log.tried[50:] == [1, 1, 2, 4, 8]
    assert totals.records == RECORDS
    assert log.without == []


async def test_several_partitions_are_halved_with_their_holes() -> None:
    log = Log(poison=(4,))
    log.healed_after(30)
    batch = together(
        make_batch(*[envelope()] * 3, claim=make_claim(0), holes=[(1, 4)]),
        make_batch(claim=make_claim(1), holes=[(0, 9)]),
        make_batch(*[envelope()] * 3, claim=make_claim(2), holes=[(3, 5)]),
    )

    await delivered(log, batch)

    assert log.position == {part.partition: part.next_offset for part in batch.parts}


@pytest.mark.parametrize(
    "error", [FatalError("no"), FencedError("no", topic=TOPIC, partition=0), RuntimeError("no")]
)
async def test_errors_that_no_retry_fixes_are_raised_at_once(error: Exception) -> None:
    log = Log(poison=(0,))

    def fail() -> None:
        raise error

    log.on_failure = fail

    with pytest.raises(type(error)):
        await delivered(log, records())

    assert log.tried == [RECORDS]


async def test_a_stop_ends_the_trying() -> None:
    log = Log(outages=[True] * 99)
    stop = asyncio.Event()
    failures = iter(range(99))
    log.on_failure = lambda: stop.set() if next(failures) == 3 else None

    with pytest.raises(StoreUnavailableError):
        await write_with_retry(log, records(), stop=stop, draw=lambda: -1.0)

    assert log.tried == [RECORDS] * 3 + [RECORDS // 2]


async def test_a_stop_ends_the_waiting() -> None:
    log = Log(outages=[True] * 99)
    stop = asyncio.Event()
    trying = asyncio.ensure_future(write_with_retry(log, records(), stop=stop, draw=lambda: 1e9))

    async def has_failed() -> bool:
        return bool(log.tried)

    await until(has_failed)
    stop.set()

    with pytest.raises(StoreUnavailableError):
        async with asyncio.timeout(5):
            await trying


async def test_waits_double_up_to_two_seconds_and_are_spread_by_the_draw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    async def note(_: asyncio.Event, wait_s: float) -> None:
        waits.append(wait_s)

    monkeypatch.setattr(write_retry, "wait_at_most", note)
    for drawn in (0.0, 1.0):
        draw = repeat(drawn).__next__
        await write_with_retry(Log(outages=[True] * 9), records(1), stop=asyncio.Event(), draw=draw)

    full = [0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert waits[9:] == pytest.approx(full)
    assert waits[:9] == pytest.approx([wait_s / 2 for wait_s in full])


async def test_a_record_that_breaks_a_projection_goes_in_without_and_its_neighbours_with() -> None:
    log = Log(breaks_projections=5)

    with capture_logs() as lines:
        totals = await delivered(log, records())

    assert totals.records == RECORDS
    assert log.without == [5]
    assert [line["piece"] for line in lines if line["event"] == "projection.failed"] == [
        "noetl.events[0]@5 (1 record)"
    ]


async def test_a_try_without_projections_that_fails_too_says_nothing_about_them() -> None:
    """The database is slow or away then: once it is well, the record goes in with all it has."""

    class Slow(Log):
        slow = True

        async def write(self, batch: Batch, *, projections: bool = True) -> OutcomeTotals:
            if self.slow:
                self.slow = projections
                raise ProjectionFailedError("database: 57014 inside projector.x")
            return await super().write(batch, projections=projections)

    log = Slow()

    await delivered(log, records(1))

    assert (log.without, log.tried) == ([], [1])


async def test_a_batch_that_has_waited_is_written_without_the_part_that_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(write_retry, "_SET_ASIDE_AFTER_S", 0.0)
    batch, first = _three_partitions()
    log = Log(poison=(5,), sqlstate="55P03")
    apart: list[PartitionBatch] = []

    totals = await write_with_retry(log, batch, stop=asyncio.Event(), set_aside=taking(apart))

    assert apart == [first]
    assert log.position == {1: 24, 2: 34}
    assert log.tried == [12, 4, 4, 4]
    assert totals.records == 8


async def test_of_a_part_that_is_taken_over_halved_the_rest_is_left_too() -> None:
    """Its partition is read again from where the part ends."""
    waited_s = iter([0.0] * 5 + [11.0] * 99)
    in_flight = InFlightBatch(lambda: next(waited_s))
    batch = records(8)
    log = Log(poison=(1,), sqlstate="XX000")
    apart: list[PartitionBatch] = []

    totals = await write_with_retry(
        log,
        batch,
        stop=asyncio.Event(),
        draw=lambda: -1.0,
        in_flight=in_flight,
        set_aside=taking(apart),
    )

    (part,) = apart
    assert part.from_offset == 0
    assert 1 < part.next_offset < 8
    assert totals == OutcomeTotals()


@pytest.mark.parametrize("sqlstate", [None, "08006", "25006", "53100", "53300", "57P01", "58030"])
async def test_in_an_outage_no_part_is_set_aside(
    monkeypatch: pytest.MonkeyPatch, sqlstate: str | None
) -> None:
    monkeypatch.setattr(write_retry, "_SET_ASIDE_AFTER_S", 0.0)
    batch, _ = _three_partitions()
    log = Log(poison=(5,), sqlstate=sqlstate)
    log.healed_after(9)
    apart: list[PartitionBatch] = []

    totals = await write_with_retry(
        log, batch, stop=asyncio.Event(), draw=lambda: -1.0, set_aside=taking(apart)
    )

    assert apart == []
    assert totals.records == 12


async def test_a_part_without_room_apart_holds_its_batch_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(write_retry, "_SET_ASIDE_AFTER_S", 0.0)
    batch, _ = _three_partitions()
    log = Log(poison=(5,), sqlstate="55P03")
    log.healed_after(20)

    totals = await write_with_retry(
        log, batch, stop=asyncio.Event(), draw=lambda: -1.0, set_aside=lambda _: False
    )

    assert log.position == {0: 8, 1: 24, 2: 34}
    assert totals.records == 12


def taking(apart: list[PartitionBatch]) -> Callable[[PartitionBatch], bool]:
    """Takes over each part that waits."""

    def take(part: PartitionBatch) -> bool:
        apart.append(part)
        return True

    return take


def _three_partitions() -> tuple[Batch, PartitionBatch]:
    """Four records of each, at 4, 20, and 30, and the part of the first one."""
    batch = together(
        *(
            make_batch(*[envelope()] * 4, claim=make_claim(partition, next_offset=offset))
            for partition, offset in enumerate((4, 20, 30))
        )
    )
    return batch, batch.parts[0]


async def test_a_batch_that_waits_is_said_at_once_now_and_then_and_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also while no try has come back yet: a statement waits for a lock."""
    monkeypatch.setattr(write_retry, "BLOCKED_AFTER_S", 0.0)
    monkeypatch.setattr(write_retry, "_BLOCKED_REPORT_EVERY_S", 0.01)
    batch = make_batch(envelope(), claim=make_claim(3, next_offset=42))
    let_go = asyncio.Event()

    class Locked(Log):
        async def write(self, batch: Batch, *, projections: bool = True) -> OutcomeTotals:
            await let_go.wait()
            return await super().write(batch, projections=projections)

    with capture_logs() as lines:
        trying = asyncio.ensure_future(write_with_retry(Locked(), batch, stop=asyncio.Event()))

        async def is_said_again() -> bool:
            return len(lines) > 1

        await until(is_said_again)
        let_go.set()
        await trying

    said = [line["event"] for line in lines]
    assert set(said[:-1]) == {"batch.blocked"}
    assert said[-1] == "batch.unblocked"
    assert lines[0]["piece"] == f"{TOPIC}[3]@42 (1 record)"
    assert lines[0]["why"] == "the store has not answered yet"


async def test_of_a_batch_that_is_dropped_it_is_not_said_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(write_retry, "BLOCKED_AFTER_S", 0.0)

    class Slow(Log):
        async def write(self, batch: Batch, *, projections: bool = True) -> OutcomeTotals:
            await until(is_said)
            return await super().write(batch, projections=projections)

    def fail() -> None:
        raise FencedError("no", topic=TOPIC, partition=0)

    async def is_said() -> bool:
        return bool(lines)

    log = Slow(poison=(0,))
    log.on_failure = fail
    with capture_logs() as lines, pytest.raises(FencedError):
        await write_with_retry(log, records(), stop=asyncio.Event())

    assert [line["event"] for line in lines] == ["batch.blocked"]


async def test_the_batch_in_flight_is_known_from_its_first_try() -> None:
    now = iter(range(0, 100, 7))
    in_flight = InFlightBatch(lambda: float(next(now)))
    assert (in_flight.age_s(), in_flight.is_blocked(), in_flight.describe_piece()) == (
        0.0,
        False,
        "",
    )

    in_flight.begin(records(2))
    assert in_flight.is_blocked()
    assert in_flight.describe_piece() == f"{TOPIC}[0]@0 (2 records)"

    await write_with_retry(
        Log(outages=[True]), records(), stop=asyncio.Event(), draw=lambda: -1.0, in_flight=in_flight
    )
    assert (in_flight.age_s(), in_flight.is_blocked(), in_flight.describe_piece()) == (
        0.0,
        False,
        "",
    )

"""Delivery: back off, halve, set one record aside; and never because of an outage."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import repeat

import msgspec
import pytest
from structlog.testing import capture_logs

from normalizer.core.batch import Batch, Totals
from normalizer.envelope import Envelope, Outcome, Rejected
from normalizer.errors import FatalError, Fenced, StoreUnavailable
from normalizer.store import delivery
from normalizer.store.delivery import TRIES_BEFORE_HALVING, TRIES_OF_ONE_RECORD, Writer, deliver
from tests.factories import (
    TOPIC,
    after,
    batch_of,
    claim_of,
    envelope,
    ignored,
    rejected,
    snowflake,
    together,
)
from tests.waiting import until

RECORDS = 16


class Log(Writer):
    """A database in memory: its position moves as the store's does; it fails as it is told to."""

    def __init__(self, *, poison: tuple[int, ...] = (), outages: Iterable[bool] = ()) -> None:
        self.poison = poison
        self.outages = iter(outages)
        self.away = False
        self.position: dict[int, int] = {}
        self.outcomes: list[tuple[int, Outcome]] = []
        self.tried: list[int] = []
        self.on_failure: Callable[[], None] = lambda: None

    async def write(self, batch: Batch) -> Totals:
        items = list(batch.items())
        self.tried.append(len(items))
        self.away = next(self.outages, False)
        poisoned = any(
            record.offset in self.poison and any(isinstance(one, Envelope) for one in outcomes)
            for record, outcomes in items
        )
        if self.away or poisoned:
            self.on_failure()
            raise StoreUnavailable("database: no")
        for part in batch.parts:
            assert part.from_offset == self.position.get(part.partition, part.from_offset)
            self.position[part.partition] = part.next_offset
        self.outcomes += [(record.offset, one) for record, told in items for one in told]
        return Totals(records=len(items), outcomes=sum(len(told) for _, told in items))

    async def probe(self, batch: Batch) -> bool:
        assert sum(len(part.items) for part in batch.parts) == self.tried[-1]
        return not self.away

    @property
    def set_aside(self) -> list[int]:
        return [offset for offset, one in self.outcomes if isinstance(one, Rejected)]


async def delivered(log: Log, batch: Batch) -> Totals:
    return await deliver(log, batch, stop=asyncio.Event(), draw=lambda: -1.0)


def records(count: int = RECORDS) -> Batch:
    return batch_of(*[envelope()] * count)


async def test_a_batch_that_goes_in_is_written_once() -> None:
    log = Log()

    totals = await delivered(log, records())

    assert log.tried == [RECORDS]
    assert totals == Totals(records=RECORDS, outcomes=RECORDS)


async def test_an_outage_of_any_length_halves_nothing_and_sets_nothing_aside() -> None:
    log = Log(outages=[True] * 50)

    totals = await delivered(log, records())

    assert log.tried == [RECORDS] * 51
    assert log.set_aside == []
    assert totals.records == RECORDS


async def test_failures_between_outages_are_not_counted_together() -> None:
    """Twice while well, away, twice while well: nothing says it is the batch."""
    log = Log(poison=(3,), outages=[False, False, True] * 9)
    healed = iter(range(27))

    def heal() -> None:
        if next(healed) == 26:
            log.poison = ()

    log.on_failure = heal

    await delivered(log, records())

    assert log.tried == [RECORDS] * 28
    assert log.set_aside == []


@pytest.mark.parametrize("bad", [0, 5, RECORDS - 1])
async def test_one_record_that_fails_while_others_go_in_is_set_aside_alone(bad: int) -> None:
    log = Log(poison=(bad,))

    totals = await delivered(log, records())

    assert log.set_aside == [bad]
    assert [offset for offset, _ in log.outcomes] == list(range(RECORDS))
    assert totals == Totals(records=RECORDS, outcomes=RECORDS)
    assert log.tried.count(RECORDS) == TRIES_BEFORE_HALVING
    assert log.tried.count(1) >= TRIES_OF_ONE_RECORD


async def test_a_record_is_tried_alone_before_it_is_set_aside() -> None:
    log = Log(poison=(0,))

    await delivered(log, records(1))

    assert log.tried == [1] * (TRIES_OF_ONE_RECORD + 1)
    (_, refusal), *_ = log.outcomes
    assert isinstance(refusal, Rejected)
    assert refusal.reason == "rejected_by_database"
    assert str(TRIES_OF_ONE_RECORD) in refusal.detail


async def test_many_bad_records_are_set_aside_and_all_others_stay() -> None:
    bad = (1, 2, 7, 15)
    log = Log(poison=bad)

    await delivered(log, records())

    assert log.set_aside == list(bad)


async def test_a_record_set_aside_keeps_what_the_core_said_of_it() -> None:
    log = Log(poison=(0,))
    refusal = rejected(reason="invalid_id", index=1)

    await delivered(log, batch_of((envelope(event_id=snowflake(1)), refusal, ignored())))

    event, kept, left_out = (one for _, one in log.outcomes)
    assert isinstance(event, Rejected)
    assert (event.reason, event.index, event.shape) == ("rejected_by_database", 0, "executor")
    assert (kept, left_out) == (refusal, ignored())


async def test_an_outage_while_one_record_fails_sets_it_aside_no_sooner() -> None:
    """Away between its tries: they are counted anew."""
    log = Log(poison=(0,), outages=[False, False, False, False, True])

    await delivered(log, records(1))

    assert log.tried == [1] * (5 + TRIES_OF_ONE_RECORD + 1)


async def test_several_partitions_are_halved_with_their_holes() -> None:
    log = Log(poison=(4,))
    batch = together(
        batch_of(*[envelope()] * 3, claim=claim_of(0), holes=[(1, 4)]),
        batch_of(claim=claim_of(1), holes=[(0, 9)]),
        batch_of(*[envelope()] * 3, claim=claim_of(2), holes=[(3, 5)]),
    )

    await delivered(log, batch)

    assert log.position == {part.partition: part.next_offset for part in batch.parts}
    assert log.set_aside == [4]


async def test_a_batch_without_records_is_tried_for_as_long_as_it_takes() -> None:
    log = Log(outages=[True] * 9)

    await delivered(log, batch_of(holes=[(0, 9)]))

    assert log.position == {0: 9}


@pytest.mark.parametrize(
    "error", [FatalError("no"), Fenced("no", topic=TOPIC, partition=0), RuntimeError("no")]
)
async def test_what_no_retry_can_cure_comes_out_at_once(error: Exception) -> None:
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

    with pytest.raises(StoreUnavailable):
        await deliver(log, records(), stop=stop, draw=lambda: -1.0)

    assert log.tried == [RECORDS] * 4


async def test_a_stop_ends_the_waiting() -> None:
    log = Log(outages=[True] * 99)
    stop = asyncio.Event()
    trying = asyncio.ensure_future(deliver(log, records(), stop=stop, draw=lambda: 1e9))

    async def has_failed() -> bool:
        return bool(log.tried)

    await until(has_failed)
    stop.set()

    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(5):
            await trying


async def test_a_stop_while_it_goes_well_stops_nothing() -> None:
    stop = asyncio.Event()
    stop.set()

    totals = await deliver(Log(), records(), stop=stop)

    assert totals.records == RECORDS


async def test_waits_double_up_to_ten_seconds_and_are_spread_by_the_draw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    async def note(wait_s: float, _: asyncio.Event) -> None:
        waits.append(wait_s)

    monkeypatch.setattr(delivery, "_pause", note)
    for drawn in (0.0, 1.0):
        draw = repeat(drawn).__next__
        await deliver(Log(outages=[True] * 9), records(), stop=asyncio.Event(), draw=draw)

    full = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]
    assert waits[9:] == pytest.approx(full)
    assert waits[:9] == pytest.approx([wait_s / 2 for wait_s in full])


async def test_an_incident_is_logged_and_its_end_and_the_record_that_was_set_aside() -> None:
    log = Log(poison=(0,))
    batch = batch_of(envelope(execution_id=77), claim=claim_of(3, next_offset=0))

    with capture_logs() as lines:
        await delivered(log, batch)

    said = [line["event"] for line in lines]
    assert said == [
        *["batch_not_written"] * TRIES_OF_ONE_RECORD,
        "record_set_aside",
        "batch_written",
    ]
    (aside,) = (line for line in lines if line["event"] == "record_set_aside")
    assert (aside["topic"], aside["partition"], aside["offset"]) == (TOPIC, 3, 0)
    assert aside["execution_id"] == 77


async def test_the_batch_that_was_given_is_not_touched() -> None:
    batch = records(4)
    before = msgspec.structs.replace(batch)

    await delivered(Log(poison=(1,)), batch)

    assert batch == before
    assert after(claim_of(), batch).next_offset == 4

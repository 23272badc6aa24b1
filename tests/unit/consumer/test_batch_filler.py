"""How a batch fills: what is fetched when, and for how long the next fetch waits."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from normalizer.config.settings import Settings
from normalizer.consumer import batch_filler
from normalizer.consumer.batch_filler import (
    _FRESH_RECORDS_WAIT_S,
    _IDLE_WAIT_S,
    _MAX_FETCH_RECORDS,
    _PAUSE_S,
    BatchFiller,
    FilledBatch,
)
from normalizer.consumer.fetch_scheduler import ClaimedChunk
from normalizer.core.batch import BatchBuilder, PartitionBatch
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Ignored
from normalizer.kafka import FetchedChunk, KafkaPartition
from tests.support.waiting import DEADLINE_S, until

ROWS = 2 * _MAX_FETCH_RECORDS + 10
SETTINGS = Settings(batch_rows=ROWS)
PARTITION = KafkaPartition("topic", 0)


class Source:
    """Gives these counts of records, one a fetch, then none; notes how long each fetch may wait."""

    def __init__(self, *counts: int, due_at: int | None = None) -> None:
        """The batch is due with the fetch of number `due_at`, and never by the time of the test."""
        self._counts = list(counts)
        self._due_at = due_at
        self._offset = 0
        self.waits_s: list[float] = []
        self.now_s = 0.0
        self.fails_at: set[int] = set()
        """The broker is unreachable at the fetches of these numbers."""
        self.suspect_at = 0
        """A partition becomes a suspect at the fetch of this number."""
        self.has_suspects = False
        self.stopping = asyncio.Event()

    async def fetch_one_suspect_record(self) -> list[ClaimedChunk]:
        return []

    async def fetch(self, room: int, wait_s: float) -> list[ClaimedChunk] | None:
        self.waits_s.append(wait_s)
        await asyncio.sleep(0)
        self.has_suspects |= len(self.waits_s) == self.suspect_at
        if len(self.waits_s) in self.fails_at:
            return None
        if len(self.waits_s) == self._due_at:
            self.now_s += 3600
        if not self._counts:
            return []
        count = min(self._counts.pop(0), room)
        first, self._offset = self._offset, self._offset + count
        records = [
            RawRecord(value=None, topic="topic", offset=offset)
            for offset in range(first, self._offset)
        ]
        chunk = FetchedChunk(
            partition=PARTITION, from_offset=first, next_offset=self._offset, records=records
        )
        return [(cast("Any", SimpleNamespace()), chunk)]

    async def until_fetches(self, times: int) -> None:
        async def how_often() -> int:
            return len(self.waits_s)

        await until(how_often, is_so=lambda found: found >= times)


class Taker:
    """Takes records as they are, up to the batch's room."""

    async def normalize_chunk(
        self, builder: BatchBuilder, _claim: object, chunk: FetchedChunk
    ) -> FetchedChunk | None:
        room = SETTINGS.batch_rows - builder.rows
        taken: Sequence[RawRecord] = chunk.records[:room]
        after = chunk.from_offset + len(taken)
        builder.add_part(
            PartitionBatch(
                topic="topic",
                incarnation=0,
                partition=0,
                epoch=1,
                from_offset=chunk.from_offset,
                next_offset=after,
                items=[(record, (Ignored(why="tombstone"),)) for record in taken],
            )
        )
        if after == chunk.next_offset:
            return None
        return msgspec.structs.replace(chunk, from_offset=after, records=chunk.records[room:])


def make_filler(
    source: Source, settings: Settings = SETTINGS, *, last_write_s: float = 0.0
) -> BatchFiller:
    made = BatchFiller(
        settings, cast("Any", source), cast("Any", Taker()), source.stopping, lambda: source.now_s
    )
    made.note_write_duration(last_write_s)
    return made


def count_records(filled: FilledBatch | None) -> int:
    return len([*filled.batch.records_with_outcomes()]) if filled else 0


async def test_few_records_are_fetched_before_the_batch_is_due_and_when_it_is() -> None:
    """One fetch finds that there are few, one after the wait what the client has, one the rest."""
    source = Source(1, 2, 3, 4, due_at=3)

    filled = await make_filler(source, last_write_s=0.01).fill_batch(None)

    assert filled
    assert filled.closed_by == "age"
    assert count_records(filled) == 10
    assert source.waits_s == [_IDLE_WAIT_S, 0.0, 0.0, _FRESH_RECORDS_WAIT_S]


async def test_where_nothing_comes_the_fetch_itself_waits_for_the_batch_to_be_due() -> None:
    source = Source(1, 0, due_at=3)

    filled = await make_filler(source, last_write_s=0.01).fill_batch(None)

    assert count_records(filled) == 1
    assert source.waits_s == [_IDLE_WAIT_S, 0.0, 0.02, _FRESH_RECORDS_WAIT_S]


@pytest.mark.parametrize("gap", [(7,), (0, 0), (7, 0), (0, 7)])
async def test_few_records_and_empty_answers_do_not_stop_a_backlog(gap: tuple[int, ...]) -> None:
    """The rest of an answer, and an answer that takes long to come."""
    source = Source(_MAX_FETCH_RECORDS, *gap, _MAX_FETCH_RECORDS, _MAX_FETCH_RECORDS)

    async with asyncio.timeout(SETTINGS.batch_age_ms / 2000):
        filled = await make_filler(source, last_write_s=60.0).fill_batch(None)

    assert count_records(filled) == ROWS


async def test_a_batch_that_is_due_goes_on_while_there_is_a_backlog() -> None:
    source = Source(*[_MAX_FETCH_RECORDS] * 8)

    filled = await make_filler(source).fill_batch(None)

    assert filled
    assert filled.closed_by == "rows"
    assert count_records(filled) == ROWS


async def test_after_a_second_fetch_of_few_the_next_one_waits_until_the_batch_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses_s: list[float] = []

    async def wait(_: asyncio.Event, wait_s: float) -> bool:
        pauses_s.append(wait_s)
        return False

    monkeypatch.setattr(batch_filler, "wait_at_most", wait)

    await make_filler(Source(1, 1, 1, due_at=3), last_write_s=0.02).fill_batch(None)

    assert pauses_s == [_PAUSE_S, 0.04]


@pytest.mark.parametrize("second", [0, 1])
async def test_a_batch_that_may_become_old_is_fetched_for_meanwhile(second: int) -> None:
    """A partition that is not read for seconds looks stuck, and its log has to be compared."""
    source = Source(1, second, 1, 1, 1)
    settings = msgspec.structs.replace(SETTINGS, batch_age_ms=60_000)
    filling = asyncio.create_task(make_filler(source, settings, last_write_s=60.0).fill_batch(None))

    await source.until_fetches(4)
    source.stopping.set()

    assert count_records(await filling) >= 3
    assert max(source.waits_s) <= _IDLE_WAIT_S


async def test_leftover_records_come_first_in_the_next_batch() -> None:
    source = Source(*[_MAX_FETCH_RECORDS] * 8)
    filler = make_filler(source, last_write_s=5.0)
    filler._left = await source.fetch(20, 0.0) or []

    filled = [await filler.fill_batch(None) for _ in range(2)]

    parts = [part for one in filled if one for part in one.batch.parts]
    assert [(one.from_offset, one.next_offset) for one in parts] == [
        (0, ROWS),
        (ROWS, 2 * ROWS),
    ]
    assert 0.0 not in source.waits_s[1:], "a fetch came after a pause"


async def test_a_batch_ends_before_the_records_of_a_new_suspect() -> None:
    """The next batch is begun for suspects, after the one that is being written."""
    source = Source(_MAX_FETCH_RECORDS, 7)
    source.suspect_at = 1

    filled = await make_filler(source, last_write_s=0.01).fill_batch(None)

    assert filled
    assert filled.closed_by == "suspect"
    assert count_records(filled) == _MAX_FETCH_RECORDS
    assert len(source.waits_s) == 1


async def test_while_the_last_batch_is_written_the_next_one_goes_on_filling() -> None:
    source = Source(1, 1, 1, 1, 1)
    written = asyncio.Event()
    writing: asyncio.Task[None] = asyncio.create_task(cast("Any", written.wait()))
    filling = asyncio.create_task(make_filler(source).fill_batch(writing))
    await source.until_fetches(7)

    assert not filling.done()
    written.set()
    assert count_records(await filling) >= 4
    assert source.waits_s[-1] == _FRESH_RECORDS_WAIT_S


async def test_a_stop_ends_the_wait_for_the_batch_to_be_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_filler, "_IDLE_WAIT_S", 3600.0)
    source = Source(1, 1)
    settings = msgspec.structs.replace(SETTINGS, batch_age_ms=3_600_000)
    filling = asyncio.create_task(
        make_filler(source, settings, last_write_s=3600.0).fill_batch(None)
    )
    await source.until_fetches(2)
    source.stopping.set()

    async with asyncio.timeout(DEADLINE_S):
        filled = await filling
    assert filled
    assert filled.closed_by == "stop"
    assert count_records(filled) == 2


async def test_a_broker_that_is_away_does_not_hold_up_what_was_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process joins the group again and loses its claims: then the batch is nothing."""
    monkeypatch.setattr(batch_filler, "_IDLE_WAIT_S", 3600.0)
    source = Source(3)
    source.fails_at = {2}

    async with asyncio.timeout(DEADLINE_S):
        filled = await make_filler(source).fill_batch(None)

    assert filled
    assert filled.closed_by == "fetch_failed"
    assert count_records(filled) == 3
    assert source.waits_s[1:] == [_FRESH_RECORDS_WAIT_S]


async def test_a_broker_that_is_away_is_tried_again_from_time_to_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits_s: list[float] = []

    async def wait(_: asyncio.Event, wait_s: float) -> bool:
        waits_s.append(wait_s)
        return False

    monkeypatch.setattr(batch_filler, "wait_at_most", wait)
    source = Source(3)
    source.fails_at = {1, 2, 3}

    assert count_records(await make_filler(source).fill_batch(None)) == 3
    assert waits_s == [_IDLE_WAIT_S] * 3

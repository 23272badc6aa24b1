"""The same coordinates are the same record, whatever ids the rules of the day give its events."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from normalizer.core.batch import OutcomeTotals
from normalizer.core.decode.wire_values import RecordRejectedError
from normalizer.core.identity.collisions import substitute_ids
from normalizer.core.raw_record import RawRecord
from normalizer.snowflake import derive_id, hash_event_id
from normalizer.store.store import Store
from tests.integration.jobs.test_backfill_topic import wrong
from tests.integration.store.test_store_positions import gate, open_gate
from tests.support.factories import (
    RECORDED_MS,
    after,
    batch_of_records,
    raw_event,
    raw_record,
)
from tests.support.feed import Feed
from tests.support.job_runs import (
    NORMALIZE,
    backfill_files,
    backfill_topic,
    ledger_mistakes,
    write_file,
)
from tests.support.service_runs import running
from tests.support.stack import Database
from tests.support.table_rows import claimed, connected, count, open_store, wait_for_lock

Change = Callable[[pytest.MonkeyPatch], None]

HISTORY: Final[tuple[Any, ...]] = (
    raw_event(1, event_id=None),
    raw_event(2, event_id="an opaque id"),
    raw_event(3, event_id=5),
    raw_event(4, event_id=5, execution_id=2000),
    raw_event(5, event_id=5, execution_id=2000, error="reported again"),
    raw_event(6, event_id=6),
    raw_event(6, event_id=6, error="reported again"),
    raw_event(6, event_id=6),
    {
        "execution_id": 1000,
        "created_at": "2025-11-24T16:00:00Z",
        "events": [{"step": "a", "name": "step.enter"}, {"step": "b", "name": "step.enter"}],
    },
)
EVENTS: Final = 10
ROWS: Final = 7
"""Of them two are joined and one is a duplicate."""


def derived(patch: pytest.MonkeyPatch) -> None:
    """An event without an id gets another one."""
    patch.setattr("normalizer.core.normalize.derive_id", partial(derive_id, salt=9))


def opaque(patch: pytest.MonkeyPatch) -> None:
    """An id that is text gets another number."""
    patch.setattr(
        "normalizer.core.rules.identifiers.hash_event_id", lambda text: hash_event_id(text + "2")
    )


def rekeyed(patch: pytest.MonkeyPatch) -> None:
    """An event whose id is another's gets another id."""
    patch.setattr(
        "normalizer.core.identity.reconcile.substitute_ids",
        lambda event_id, execution_id: substitute_ids(event_id + 1, execution_id),
    )


def identity(patch: pytest.MonkeyPatch) -> None:
    """Another report of an event becomes another event."""
    patch.setattr("normalizer.core.identity.reconcile.match_strength", lambda *_: 0)


def rejection(patch: pytest.MonkeyPatch) -> None:
    """An event is no longer one."""

    def refuse(_: object) -> int:
        raise RecordRejectedError("invalid_id", "today it is")

    patch.setattr("normalizer.core.normalize.resolve_execution_id", refuse)


def everything(patch: pytest.MonkeyPatch) -> None:
    """Every id is another one."""
    for change in (derived, opaque, rekeyed, identity):
        change(patch)


CHANGES: Final = (
    everything,
    rejection,
    *(
        pytest.param(change, marks=pytest.mark.soak)
        for change in (derived, opaque, rekeyed, identity)
    ),
)


def history_records(offset: int = 0) -> list[RawRecord]:
    """The records of the history, from this offset on."""
    return [raw_record(offset + at, value) for at, value in enumerate(HISTORY)]


async def read(store: Store, records: list[RawRecord], *, at_once: int = 3) -> OutcomeTotals:
    """Claim the partition and read these records, in batches, as the service does."""
    claim = await claimed(store)
    totals = OutcomeTotals()
    for start in range(0, len(records), at_once):
        some = records[start : start + at_once]
        batch = batch_of_records(claim, [(record, NORMALIZE(record)) for record in some])
        totals += await store.write(batch)
        claim = after(claim, batch)
    return totals


def kcat_lines(records: list[RawRecord]) -> bytes:
    """The records as kcat prints them."""
    return b"".join(
        msgspec.json.encode(
            {
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "tstype": "create",
                "ts": record.recorded_ms,
                "headers": [],
                "key": None,
                "payload": (record.value or b"").decode(),
            }
        )
        + b"\n"
        for record in records
    )


SET_BACK: Final = """
    update normalizer.source_positions
    set    next_offset = 0, records = 0, outcomes = 0, stored = 0, duplicate = 0, merged = 0
"""
DELETED: Final = "delete from normalizer.source_positions"
TRUNCATED: Final = "truncate normalizer.source_positions"


@pytest.mark.parametrize(
    ("change", "hand"),
    [
        *((change, SET_BACK) for change in (everything, rejection)),
        *((everything, hand) for hand in (DELETED, TRUNCATED)),
        *(
            pytest.param(change, SET_BACK, marks=pytest.mark.soak)
            for change in (derived, opaque, rekeyed, identity)
        ),
    ],
)
async def test_a_position_set_back_by_hand_reads_no_record_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch, change: Change, hand: str
) -> None:
    async with open_store(database) as store, connected(database) as connection:
        first = await read(store, history_records())
        await connection.execute(hand)
        change(monkeypatch)

        again = await read(store, history_records(), at_once=4)

        assert (first.stored, first.merged, first.duplicate) == (ROWS, 2, 1)
        assert again.duplicate == again.outcomes
        assert await count(connection, "normalizer.events") == ROWS
        assert await count(connection, "normalizer.quarantine") == 0


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("live_first", [True, False])
async def test_a_file_and_the_service_store_one_row_a_record(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: Change,
    *,
    live_first: bool,
) -> None:
    path = write_file(tmp_path / "dump.ndjson", kcat_lines(history_records()))
    async with open_store(database) as store, connected(database) as connection:
        if live_first:
            first: Any = await read(store, history_records())
            change(monkeypatch)
            again: Any = (await backfill_files(database, path)).totals
        else:
            first = (await backfill_files(database, path)).totals
            change(monkeypatch)
            again = await read(store, history_records())

        assert (first.stored, first.merged, first.duplicate) == (ROWS, 2, 1)
        assert again.duplicate == again.outcomes
        assert await count(connection, "normalizer.events") == ROWS
        assert await count(connection, "normalizer.quarantine") == 0
    assert await ledger_mistakes(database) == []


async def test_a_file_that_read_ahead_of_the_service_is_met_by_it(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The service has a position already, and comes to those records later."""
    async with open_store(database) as store, connected(database) as connection:
        await read(store, history_records()[:2])
        path = write_file(tmp_path / "dump.ndjson", kcat_lines(history_records()[1:]))
        await backfill_files(database, path)
        everything(monkeypatch)

        rest = await read(store, history_records()[2:] + history_records(len(HISTORY)))

        assert (rest.duplicate, rest.stored) == (EVENTS - 2, EVENTS)
        assert await count(connection, "normalizer.events") == ROWS + EVENTS


async def test_a_deleted_position_still_tells_a_topic_that_was_recreated(
    database: Database,
) -> None:
    """Else its records would pass for those that had their coordinates before."""
    async with open_store(database) as store, connected(database) as connection:
        await read(store, history_records())
        last = await claimed(store)
        await connection.execute(DELETED)

        claim = await store.claim_partition(
            last.topic, 0, cluster_id="another", log_start=0, accept_reset=True
        )

        assert (claim.next_offset, claim.epoch) == (0, 1)
        for name in ("cluster_id", "last_offset", "last_recorded_ms", "last_crc"):
            assert getattr(claim, name) == getattr(last, name) is not None


async def test_a_rejected_record_that_todays_rules_accept_is_stored(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is stored yet: a redrive would bring it through as well."""
    async with open_store(database) as store, connected(database) as connection:
        with monkeypatch.context() as patch:
            rejection(patch)
            await read(store, history_records())
        await connection.execute("delete from normalizer.source_positions")

        again = await read(store, history_records())

        assert (again.stored, again.merged, again.duplicate) == (ROWS, 2, 1)


@pytest.mark.parametrize("topic", [1], indirect=True)
@pytest.mark.parametrize("live_first", [True, pytest.param(False, marks=pytest.mark.soak)])
async def test_a_topic_is_read_once_by_the_service_and_by_a_backfill(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, *, live_first: bool
) -> None:
    settings = feed.settings()
    for at, value in enumerate(HISTORY):
        await feed.producer.send(
            feed.name, msgspec.json.encode(value), timestamp_ms=RECORDED_MS + at
        )
    await feed.producer.flush()

    for turn in range(3):
        if (turn % 2 == 0) == live_first:
            async with running(settings) as service:
                await feed.until_read({0: len(HISTORY)})
            if turn < 2:
                assert service.counters.stored == (ROWS if turn == 0 else 0)
            await feed.connection.execute("delete from normalizer.source_positions")
        else:
            verdict = await backfill_topic(settings, feed.topic)
            assert verdict.totals.stored == (ROWS if turn == 0 else 0)
        monkeypatch.undo()
        (everything, identity)[turn % 2](monkeypatch)

    assert await feed.events() == ROWS
    assert [one for one in await wrong(settings) if not one.startswith("stored")] == []


async def test_the_service_waits_for_a_job_that_writes_the_same_records(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither sees the other's rows yet: one waits, or each would store its own."""
    path = write_file(tmp_path / "dump.ndjson", kcat_lines(history_records()))
    only = "new.source_offset = 0"
    async with gate(database, only) as holding, open_store(database, "service") as store:
        job = asyncio.create_task(backfill_files(database, path))
        await wait_for_lock(holding, "normalizer backfill")
        everything(monkeypatch)

        live = asyncio.create_task(read(store, history_records()))
        await wait_for_lock(holding, "service")
        await open_gate(holding)

        assert (await job).totals.stored == ROWS
        assert (await live).duplicate == EVENTS
        assert await count(holding, "normalizer.events") == ROWS


async def test_a_job_waits_for_the_batch_of_the_service_that_it_reads_too(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_file(tmp_path / "dump.ndjson", kcat_lines(history_records()))
    only = "new.source_offset = 0"
    async with gate(database, only) as holding, open_store(database, "service") as store:
        live = asyncio.create_task(read(store, history_records(), at_once=len(HISTORY)))
        await wait_for_lock(holding, "service")
        everything(monkeypatch)

        job = asyncio.create_task(backfill_files(database, path))
        await wait_for_lock(holding, "normalizer backfill")
        await open_gate(holding)

        assert (await live).stored == ROWS
        assert (await job).totals.duplicate == EVENTS
        assert await count(holding, "normalizer.events") == ROWS

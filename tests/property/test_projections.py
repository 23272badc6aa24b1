"""The law of the projections: whatever came to the log and however, views show what it holds.

Every example is compared with a plain fold of the log that shares nothing with the projections.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from normalizer.core.batch import Batch, PartitionBatch
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.errors import StoreUnavailableError
from normalizer.store.store import Store
from projector.verify.ranges import VerifyScope
from projector.verify.verify import verify
from simulator.mix import Mix
from simulator.topic_records import records
from simulator.view_fold import Row
from tests.support import view_rows
from tests.support.event_histories import event_logs, manual_changes, splits
from tests.support.projection_oracle import expected_views
from tests.support.stack import Database
from tests.support.view_rows import differences, view_differences

by_hand = settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""One transaction an example, rolled back."""

at_once = settings(by_hand, max_examples=8)
"""Several transactions an example, committed."""

ODD = Mix(
    in_flight=4, rate=20.0, event_bytes_high=400, partitions=3, poison=0.0, colliding=0.0,
    late=0.2, late_s=4_000.0, reported_twice=0.6, disagreeing=0.5, contradicting=0.3, cancelled=0.2,
    stuck=0.1, failing=0.4, callbacks=0.3, redelivered=0.1, trailing=0.3, orchestrated=0.2,
    deployments={"rust_now": 4.0},
)  # fmt: skip
"""Executions that are reported twice, disagree, end twice, come late, fail and are tried again."""


NORMALIZER: Final = Normalizer()


@by_hand
@given(data=st.data())
async def test_any_order_and_batching_and_any_hand_shows_what_the_log_holds(
    data: st.DataObject, connection: asyncpg.Connection
) -> None:
    rows = data.draw(event_logs())
    async with rolled_back(connection):
        for batch in data.draw(splits(rows)):
            await view_rows.insert(connection, batch)
        assert await view_differences(connection) == {}

        for what, changed in data.draw(manual_changes(rows)):
            await by(what)(connection, changed)
            assert await view_differences(connection) == {}, what


@settings(by_hand, max_examples=4)
@given(data=st.data())
async def test_counts_of_archived_events_stay_whatever_comes_later(
    data: st.DataObject, connection: asyncpg.Connection
) -> None:
    rows = data.draw(event_logs())
    taken: list[Row] = []
    async with rolled_back(connection):
        await connection.execute("set local search_path = projector, normalizer, public")
        await connection.execute("set local timezone = 'UTC'")
        for batch in data.draw(splits(rows)):
            await view_rows.insert(connection, batch)
            taken += await let_go(connection, data.draw(st.sets(st.integers(0, 40))), len(taken))
            await agrees_with(connection, taken)

        left = await view_rows.stored(connection)
        for what, changed in data.draw(manual_changes(left)) if left else ():
            await by(what)(connection, changed)
            await agrees_with(connection, taken)


async def let_go(connection: asyncpg.Connection, numbers: set[int], nth: int) -> list[Row]:
    """Archive the executions of those stored rows. Returns their rows.

    Each execution gets an id of its own, because a later event begins it again.
    """
    stored = await view_rows.stored(connection)
    ids = {row["execution_id"] for number, row in enumerate(stored) if number in numbers}
    if ids:
        await connection.execute("select try_lock_executions($1::bigint[])", list(ids))
        await connection.execute("select delete_executions($1::bigint[])", list(ids))
    taken_as = {one: (1 << 61) + nth + place for place, one in enumerate(sorted(ids))}
    return [
        row | {"execution_id": taken_as[row["execution_id"]]}
        for row in stored
        if row["execution_id"] in ids
    ]


async def agrees_with(connection: asyncpg.Connection, taken: Sequence[Row]) -> None:
    """Counts cover present and deleted rows. verify confirms the live part."""
    stored = await view_rows.stored(connection)
    expected = expected_views([*taken, *stored])
    expected |= {name: expected_views(stored)[name] for name in view_rows.OF_EXECUTIONS}
    seen = await view_rows.view_rows(connection)
    assert differences(seen, expected) == {}
    async for verdict in verify(connection, VerifyScope()):
        assert verdict.verdict == "match", str(verdict)


@at_once
@given(data=st.data(), writers=st.integers(2, 4))
async def test_writers_of_the_same_executions_show_what_the_log_holds(
    data: st.DataObject, writers: int, database: Database, connection: asyncpg.Connection
) -> None:
    rows = data.draw(event_logs(most=30))
    todo = data.draw(manual_changes(rows))
    await connection.execute("truncate normalizer.events")
    shares = [rows[number::writers] for number in range(writers)]

    async with asyncio.TaskGroup() as group:
        for share in shares:
            if share:
                batches = data.draw(splits(share))
                group.create_task(write_all(database, batches), name="writer")
    assert await view_differences(connection) == {}

    async with asyncio.TaskGroup() as group:
        for what, changed in todo:
            group.create_task(write_one(database, what, changed), name="hand")
    assert await view_differences(connection) == {}


@settings(at_once, max_examples=4)
@given(seed=st.integers(0, 10_000), writers=st.integers(1, 3))
async def test_reports_in_all_shapes_through_the_store_show_the_same_in_any_order_and_number(
    seed: int, writers: int, database: Database, connection: asyncpg.Connection
) -> None:
    """First by several writers, then by one, and some are reported again elsewhere in the log."""
    mix = ODD if seed % 2 else msgspec.structs.replace(ODD, deployments={}, reported_twice=0.0)
    sent = [
        RawRecord(
            topic="noetl.events", value=record.value, key=record.key,
            headers=tuple(record.headers), recorded_ms=record.timestamp_ms,
        )
        for record in records(mix, seed, executions=6)
    ]  # fmt: skip
    views = []
    for order in range(2):
        chance = random.Random(f"{seed}/{order}")
        await connection.execute(
            "truncate normalizer.events, normalizer.source_positions, normalizer.assigned_ids"
        )
        again = [record for record in sent if has_own_ids(record) and chance.random() < order / 2]
        await write_with_retry(
            database,
            chance.sample(sent + again, len(sent + again)),
            1 if order else writers,
            chance,
        )
        # Each order is another log. Without their places in it, events say the same in all of them.
        await connection.execute("update normalizer.events set merge_flags = merge_flags | 32")
        stored = await view_rows.stored(connection)
        views.append(await view_rows.view_rows(connection))
        assert differences(views[-1], expected_views(stored)) == {}

    assert differences(*views) == {}


def has_own_ids(record: RawRecord) -> bool:
    """Whether its events are the same wherever they stand in the log."""
    elsewhere = msgspec.structs.replace(record, partition=7, offset=7)
    ids = [
        [getattr(outcome, "event_id", None) for outcome in NORMALIZER.normalize(one)]
        for one in (record, elsewhere)
    ]
    return ids[0] == ids[1] and None not in ids[0]


async def write_with_retry(
    database: Database, sent: Sequence[RawRecord], writers: int, chance: random.Random
) -> None:
    """Every record through the core and the store, spread over the writers' partitions."""
    shares = [sent[number::writers] for number in range(writers)]

    async def write(partition: int, share: Sequence[RawRecord]) -> None:
        async with Store(database.url, owner=f"writer {partition}") as store:
            claim = await store.claim_partition(
                "noetl.events", partition, cluster_id="c", log_start=0
            )
            offset = 0
            while offset < len(share):
                after = min(offset + chance.randint(1, 60), len(share))
                placed = [
                    msgspec.structs.replace(share[at], partition=partition, offset=at)
                    for at in range(offset, after)
                ]
                part = PartitionBatch(
                    topic=claim.topic,
                    incarnation=claim.incarnation,
                    partition=partition,
                    epoch=claim.epoch,
                    from_offset=offset,
                    next_offset=after,
                    items=[(record, NORMALIZER.normalize(record)) for record in placed],
                )
                await written(store, Batch(parts=(part,)))
                offset = after

    async with asyncio.TaskGroup() as group:
        for partition, share in enumerate(shares):
            group.create_task(write(partition, share), name=f"writer {partition}")


async def written(store: Store, batch: Batch) -> None:
    """As the service does: the same batch again when the database could not take it just now."""
    for _ in range(20):
        try:
            await store.write(batch)
        except StoreUnavailableError:
            continue
        return
    pytest.fail("the database did not take the batch")


async def write_all(database: Database, batches: Sequence[Sequence[Row]]) -> None:
    for batch in batches:
        await write_one(database, "insert", batch)


async def write_one(database: Database, what: str, rows: Any) -> None:
    """In its own transaction, and again after a deadlock, like every writer."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        while True:
            try:
                await by(what)(connection, rows)
            except asyncpg.DeadlockDetectedError:
                continue
            return
    finally:
        await connection.close()


def by(what: str) -> Any:
    return {"insert": view_rows.insert, "update": view_rows.update, "delete": view_rows.delete}[
        what
    ]


@asynccontextmanager
async def rolled_back(connection: asyncpg.Connection) -> AsyncIterator[None]:
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()

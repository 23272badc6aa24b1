"""Positions in Postgres: who may write a partition, from where, and what a lost answer means."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import asyncpg
import pytest

from normalizer.core.batch import OutcomeTotals
from normalizer.core.previous_owner import SLICE_CODE_ONE_RECORD
from normalizer.errors import (
    FencedError,
    OtherGroupError,
    PositionMovedError,
    StoreUnavailableError,
)
from normalizer.store.claim import Claim
from normalizer.store.store import Store
from tests.support.factories import (
    TOPIC,
    after,
    envelope,
    make_batch,
    rejected,
    snowflake,
    together,
)
from tests.support.lossy_proxy import Proxy, Then
from tests.support.machine_database import CrashError, Writer
from tests.support.stack import Database
from tests.support.table_rows import (
    BeforeSecondTransaction,
    assert_ledger_holds,
    claimed,
    connected,
    count,
    open_store,
    read_position,
    read_totals,
    session_pids,
    wait_for_lock,
)
from tests.support.waiting import until

SILENCE_S: Final = 5.0
"""How long a statement may take here: longer than any takes that is answered."""

pytestmark = pytest.mark.every_postgres(oldest_in_soak=True)

GATE = 1815
"""An advisory lock that marked rows wait for on their way into `events`."""


@contextlib.asynccontextmanager
async def gate(
    database: Database, only: str, *, when: str = "insert"
) -> AsyncIterator[asyncpg.Connection]:
    """While open, rows for which `only` holds wait in their INSERT until the lock is let go."""
    async with connected(database) as connection:
        await connection.execute(
            f"""
            create function wait_at_the_gate() returns trigger language plpgsql as $$
            begin
                if {only} then
                    perform pg_advisory_xact_lock_shared({GATE});
                end if;
                return new;
            end
            $$;
            create trigger gate before {when} on normalizer.events
                for each row execute function wait_at_the_gate();
            select pg_advisory_lock({GATE});
            """
        )
        yield connection


async def open_gate(connection: asyncpg.Connection) -> None:
    await connection.execute(f"select pg_advisory_unlock({GATE})")


async def test_the_first_claim_begins_where_the_log_begins(
    connection: asyncpg.Connection, database: Database
) -> None:
    async with open_store(database, "me") as store:
        claim = await store.claim_partition(TOPIC, 3, cluster_id="c", log_start=40)

        assert claim == Claim(
            topic=TOPIC,
            incarnation=0,
            partition=3,
            epoch=1,
            next_offset=40,
            cluster_id="c",
            last_offset=None,
            last_recorded_ms=None,
            last_crc=None,
        )
        position = await read_position(connection, 3)
        assert (position["owner"], position["start_offset"]) == ("me", 40)


async def claimed_by_group(store: Store, group_id: str) -> Claim:
    return await store.claim_partition(
        TOPIC, 3, cluster_id="c", log_start=0, log_end=5, group_id=group_id
    )


async def test_claim_of_another_group_waits_for_ten_silent_seconds_and_blames_no_record(
    database: Database,
) -> None:
    """The owner has one record alone in hand. Its own group would take it for killed by that."""
    async with (
        open_store(database, "one") as one,
        open_store(database, "two") as two,
        connected(database) as connection,
    ):
        claim = await claimed_by_group(one, "first")
        await one.mark_working_on_one_record(claim)
        before = await read_position(connection, 3)

        with pytest.raises(OtherGroupError, match="group first, whose process one "):
            await claimed_by_group(two, "second")
        (found,) = await two.find_other_group_errors([(TOPIC, 3)], "second", "c")
        assert (found.other, found.owner) == ("first", "one")
        assert await read_position(connection, 3) == before
        assert await one.find_other_group_errors([(TOPIC, 3)], "first", "c") == []
        # A claim from another cluster ends with an error that says so.
        assert await two.find_other_group_errors([(TOPIC, 3)], "second", "another") == []

        await connection.execute(
            """
            update normalizer.source_positions set claimed_at = now() - interval '11 seconds';
            update normalizer.source_heartbeats set heartbeat_at = now() - interval '9 seconds';
            """
        )
        assert len(await two.find_other_group_errors([(TOPIC, 3)], "second", "c")) == 1
        await connection.execute(
            "update normalizer.source_heartbeats set heartbeat_at = now() - interval '11 seconds'"
        )
        taken = await claimed_by_group(two, "second")
        assert (taken.epoch, taken.slice_records) == (2, SLICE_CODE_ONE_RECORD)
        killed = await claimed_by_group(one, "second")
        assert killed.slice_records == SLICE_CODE_ONE_RECORD


async def test_offsets_without_a_record_do_not_delay_the_last_record(
    store: Store, connection: asyncpg.Connection
) -> None:
    """As of a transaction that a producer aborts while the log is quiet."""
    claim = await claimed(store)
    records = make_batch(envelope(0), claim=claim)
    await store.write(records)
    before = await connection.fetchrow(_LAST_RECORD)

    await store.write(make_batch(claim=after(claim, records), holes=[(1, 5)]))

    assert (await read_position(connection))["next_offset"] == 5
    assert await connection.fetchrow(_LAST_RECORD) == before


_LAST_RECORD = "select last_recorded_at, last_committed_at, delay_s from projector.freshness"


async def test_two_processes_that_claim_a_new_partition_at_once_both_get_an_answer(
    connection: asyncpg.Connection, database: Database
) -> None:
    async with open_store(database, "one") as one, open_store(database, "two") as two:
        blocking = connection.transaction()
        await blocking.start()
        await connection.execute("lock table normalizer.source_positions in exclusive mode")
        claims = [asyncio.ensure_future(claimed(store)) for store in (one, two)]
        for owner in ("one", "two"):
            await wait_for_lock(connection, owner)
        await blocking.rollback()

        epochs = sorted(claim.epoch for claim in await asyncio.gather(*claims))

        assert epochs == [1, 2]
        assert await count(connection, "normalizer.source_positions") == 1


async def test_a_process_that_lost_the_partition_is_fenced(database: Database) -> None:
    async with open_store(database, "one") as one, open_store(database, "two") as two:
        lost = await claimed(one)
        mine = await claimed(two)

        with pytest.raises(FencedError) as fenced:
            await one.write(make_batch(envelope(0), claim=lost))

        assert (fenced.value.topic, fenced.value.partition) == (TOPIC, 0)
        assert (await two.write(make_batch(envelope(0), claim=mine))).stored == 1
    async with connected(database) as connection:
        assert await count(connection, "normalizer.events") == 1


async def test_nothing_is_written_where_there_is_no_position(
    store: Store, connection: asyncpg.Connection
) -> None:
    """A deleted position is begun again by the next claim, of this process or another."""
    claim = await claimed(store)
    await connection.execute("delete from normalizer.source_positions")

    with pytest.raises(PositionMovedError, match="the position was deleted"):
        await store.write(make_batch(envelope(0), claim=claim))
    assert [type(why) for _, why in await store.find_lost_claims([claim])] == [PositionMovedError]
    assert (await store.write(make_batch(envelope(0), claim=await claimed(store)))).stored == 1


async def test_of_two_processes_that_see_a_reset_one_begins_the_next_incarnation(
    connection: asyncpg.Connection, database: Database
) -> None:
    """A second one would read the topic again: events without ids would come twice."""
    async with open_store(database, "one") as one, open_store(database, "two") as two:
        claims = [await claimed(one), await claimed(two)]

        begun = [
            await asyncio.gather(
                store.begin_next_incarnation(claim, cluster_id="new", log_start=0),
                return_exceptions=True,
            )
            for store, claim in zip((two, one, two), (*reversed(claims), claims[1]), strict=True)
        ]

        assert [type(answer) for (answer,) in begun] == [Claim, FencedError, FencedError]
        assert await count(connection, "normalizer.source_positions") == 2
        assert (await claimed(one)).incarnation == 1


async def test_a_gap_is_recorded_once_however_often_it_is_found(
    store: Store, connection: asyncpg.Connection
) -> None:
    claim = await claimed(store)

    moved = [await store.advance_past_gap(claim, 5, "expired") for _ in range(2)]

    assert [one.next_offset for one in moved] == [5, 5]
    assert await count(connection, "normalizer.gaps") == 1
    assert await read_totals(connection) == OutcomeTotals(holes=5)


async def test_a_position_that_somebody_moved_stops_the_batch(
    store: Store, connection: asyncpg.Connection
) -> None:
    claim = await claimed(store)
    first = make_batch(envelope(0), envelope(1), claim=claim)
    await store.write(first)
    for moved_to in (0, 1, 3, 9):
        await connection.execute(
            f"""
            update normalizer.source_positions
            set    next_offset = {moved_to}, start_offset = {moved_to} - 2
            """
        )

        with pytest.raises(PositionMovedError, match=f"is {moved_to}, .* begins at 2"):
            await store.write(make_batch(envelope(2), envelope(3), claim=after(claim, first)))

    assert await count(connection, "normalizer.events") == 2


@pytest.mark.parametrize("then", ["cut", "silence"])
async def test_a_commit_that_took_effect_while_its_answer_was_lost_is_not_done_again(
    connection: asyncpg.Connection, database: Database, then: Then
) -> None:
    async with (
        Proxy(database.url) as proxy,
        Store(proxy.url, owner="me", command_timeout_s=SILENCE_S) as store,
    ):
        claim = await _begun(store)
        batch = make_batch(envelope(1), rejected(), claim=claim)
        proxy.lose(b"COMMIT;", then)

        with pytest.raises(StoreUnavailableError):
            await store.write(batch)

        assert proxy.lost.is_set()
        assert await count(connection, "normalizer.events") == 2
        assert await store.write(batch) == OutcomeTotals()
        assert (await store.write(make_batch(envelope(2), claim=after(claim, batch)))).stored == 1
        assert await read_totals(connection) == OutcomeTotals(
            records=4, outcomes=4, stored=3, quarantined=1
        )
        await assert_ledger_holds(connection)


async def _begun(store: Store) -> Claim:
    """A claim with a first batch written: its connection is there."""
    claim = await claimed(store)
    first = make_batch(envelope(0), claim=claim)
    await store.write(first)
    return after(claim, first)


@pytest.mark.parametrize("statement", [b"BEGIN", b"COPY", b"COMMIT;"])
@pytest.mark.parametrize("then", ["cut", "silence"])
async def test_a_connection_lost_in_the_middle_writes_nothing_and_is_recreated(
    connection: asyncpg.Connection, database: Database, statement: bytes, then: Then
) -> None:
    async with (
        Proxy(database.url) as proxy,
        Store(proxy.url, owner="me", command_timeout_s=SILENCE_S) as store,
    ):
        batch = make_batch(envelope(1), claim=await _begun(store))
        proxy.lose(statement, then, passed_on=False)

        with pytest.raises(StoreUnavailableError):
            await store.write(batch)

        assert proxy.lost.is_set()
        assert await count(connection, "normalizer.events") == 1
        assert (await store.write(batch)).stored == 1


async def test_a_connection_that_is_lost_while_it_is_set_up_is_not_used(database: Database) -> None:
    """Without its codec every row would be rejected, healthy ones too."""
    async with (
        Proxy(database.url) as proxy,
        Store(proxy.url, owner="me", command_timeout_s=SILENCE_S) as store,
    ):
        proxy.lose(b"pg_catalog.pg_type", "silence", passed_on=False)
        with pytest.raises(StoreUnavailableError):
            await claimed(store)

        totals = await store.write(
            make_batch(envelope(0, context=b'{"a":1}'), claim=await claimed(store))
        )

        assert totals.stored == 1


async def test_a_claim_waits_for_the_zombies_batch_in_flight_and_fences_its_next(
    database: Database,
) -> None:
    async with (
        gate(database, "true") as connection,
        open_store(database, "zombie") as zombie,
        open_store(database, "owner") as owner,
    ):
        old = await claimed(zombie)
        in_flight = make_batch(envelope(0), claim=old)
        writing = asyncio.ensure_future(zombie.write(in_flight))
        await wait_for_lock(connection, "zombie")

        claiming = asyncio.ensure_future(claimed(owner))
        await wait_for_lock(connection, "owner")
        assert not claiming.done()
        await open_gate(connection)

        assert (await writing).stored == 1
        claim = await claiming
        assert (claim.epoch, claim.next_offset) == (2, 1)
        with pytest.raises(FencedError):
            await zombie.write(make_batch(envelope(1), claim=after(old, in_flight)))
        assert (await owner.write(make_batch(envelope(1), claim=claim))).stored == 1
        await assert_ledger_holds(connection)


async def test_a_claim_goes_on_from_before_a_batch_in_flight_that_failed(
    database: Database,
) -> None:
    async with (
        gate(database, "true") as connection,
        open_store(database, "zombie") as zombie,
        open_store(database, "owner") as owner,
    ):
        batch = make_batch(envelope(0), claim=await claimed(zombie))
        writing = asyncio.ensure_future(zombie.write(batch))
        await wait_for_lock(connection, "zombie")
        claiming = asyncio.ensure_future(claimed(owner))
        await wait_for_lock(connection, "owner")

        for pid in await session_pids(connection, "zombie"):
            await connection.execute("select pg_terminate_backend($1)", pid)

        with pytest.raises(StoreUnavailableError):
            await writing
        assert (await claiming).next_offset == 0
        with pytest.raises(FencedError):
            await zombie.write(batch)


async def test_a_write_that_is_cancelled_lets_go_of_everything(database: Database) -> None:
    async with gate(database, "new.step = 'slow'") as connection, open_store(database, "me") as me:
        claim = await claimed(me)
        writing = asyncio.ensure_future(me.write(make_batch(envelope(0, step="slow"), claim=claim)))
        await wait_for_lock(connection, "me")

        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

        assert (await me.write(make_batch(envelope(0), claim=claim))).stored == 1
        await open_gate(connection)
        await until(lambda: session_pids(connection, "me"), is_so=lambda pids: len(pids) == 1)
        assert await count(connection, "normalizer.events") == 1


async def test_a_writer_waits_for_the_row_of_another_and_then_merges_it(database: Database) -> None:
    """The first has inserted its row and not committed: the second sees nothing, and collides."""
    async with (
        gate(database, "new.step = 'last'") as connection,
        open_store(database, "first") as first,
        open_store(database, "second") as second,
    ):
        slow = asyncio.ensure_future(
            first.write(
                make_batch(
                    envelope(event_id=5, error="e"),
                    envelope(event_id=snowflake(9), step="last"),
                    claim=await claimed(first, 0),
                )
            )
        )
        await wait_for_lock(connection, "first")
        claim = await claimed(second, 1)
        colliding = asyncio.ensure_future(
            second.write(
                make_batch(envelope(event_id=4), envelope(event_id=5, worker_id="w"), claim=claim)
            )
        )
        for owner in ("first", "second"):
            await wait_for_lock(connection, owner)

        await open_gate(connection)

        assert (await slow).stored == 2
        totals = await colliding
        assert (totals.stored, totals.merged) == (1, 1)
        await assert_ledger_holds(connection)


async def test_an_event_that_another_writer_stores_first_is_a_report_of_it(
    database: Database,
) -> None:
    """Its first transaction had marked the holder of its id, which merges nothing."""
    event = envelope(event_id=5, step="b")

    async def store_it_first() -> None:
        await second.write(make_batch(event, claim=after(claim, holder)))

    positions = BeforeSecondTransaction(store_it_first)
    async with (
        connected(database) as connection,
        open_store(database, "first", positions=positions) as first,
        open_store(database, "second") as second,
    ):
        claim = await claimed(second, 1)
        holder = make_batch(envelope(event_id=5, step="a"), claim=claim)
        await second.write(holder)
        claim_of_first = await claimed(first, 0)

        totals = await first.write(make_batch(event, claim=claim_of_first, holes=[(0, 5)]))
        noted = await connection.fetch("select source_partition from normalizer.merged_records")

        assert (totals.duplicate, totals.merged) == (1, 0)
        assert [row["source_partition"] for row in noted] == [0]
        assert await count(connection, "normalizer.events") == 2
        await assert_ledger_holds(connection)


async def test_a_crash_before_the_commit_leaves_neither_rows_nor_position(
    database: Database,
) -> None:
    writer = Writer(database.url, "one")
    batch = make_batch(envelope(0), rejected(), claim=await writer.claim(0))

    with pytest.raises(CrashError):
        await writer.write(batch, crash="before the commit")
    writer.die()

    async with connected(database) as connection:
        assert await count(connection, "normalizer.events") == 0
        assert await count(connection, "normalizer.quarantine") == 0
        assert (await read_position(connection))["next_offset"] == 0


@pytest.mark.parametrize(
    ("dedup_offset", "crashes", "merged"), [(0, True, 1), (100, False, 1), (100, True, 0)]
)
async def test_a_merge_in_the_first_of_two_transactions_counts_once(
    database: Database, dedup_offset: int, merged: int, *, crashes: bool
) -> None:
    """After a crash, a record below a dedup horizon is only found, and counts as a duplicate."""
    async with (
        gate(database, "new.source_partition = 1") as connection,
        open_store(database) as store,
    ):
        await store.write(make_batch(envelope(0), claim=await claimed(store, 0)))
        claim = await claimed(store, 1)
        await connection.execute(
            "update normalizer.source_positions set dedup_offset = $1 where partition = 1",
            dedup_offset,
        )
        reports = (envelope(event_id=snowflake(0), error="e"), envelope(1))
        writing = asyncio.ensure_future(store.write(make_batch(*reports, claim=claim)))
        await wait_for_lock(connection, "one")
        assert await count(connection, "normalizer.merged_records") == 1
        if not crashes:
            await open_gate(connection)
            totals = await writing
        else:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await open_gate(connection)
            async with open_store(database, "another") as another:
                claim = await claimed(another, 1)
                totals = await another.write(make_batch(*reports, claim=claim))

        assert (totals.stored, totals.merged, totals.duplicate) == (1, merged, 1 - merged)
        assert await count(connection, "normalizer.merged_records") == 1
        await assert_ledger_holds(connection)


async def test_a_batch_that_ends_where_the_position_stands_is_known_by_its_epoch_too(
    database: Database,
) -> None:
    """A zombie whose last commit took effect is fenced all the same: the new owner reads on."""
    async with open_store(database, "one") as one, open_store(database, "two") as two:
        old = await claimed(one)
        batch = make_batch(envelope(0), claim=old)
        await one.write(batch)
        await claimed(two)

        with pytest.raises(FencedError):
            await one.write(batch)


async def test_positions_are_locked_in_key_order_whatever_the_order_in_the_batch(
    connection: asyncpg.Connection, database: Database
) -> None:
    async with open_store(database, "me") as me:
        claims = [await claimed(me, partition) for partition in (0, 1, 2)]
        blocking = connection.transaction()
        await blocking.start()
        await connection.execute(
            "select from normalizer.source_positions where partition = 1 for update"
        )
        batch = together(
            *(make_batch(envelope(claim.partition), claim=claim) for claim in reversed(claims))
        )
        writing = asyncio.ensure_future(me.write(batch))
        await wait_for_lock(connection, "me")

        async with connected(database) as other:
            free = await other.fetch(
                """
                select   partition from normalizer.source_positions
                order by partition for update skip locked
                """
            )

        assert [row["partition"] for row in free] == [2]
        await blocking.rollback()
        assert (await writing).stored == 3

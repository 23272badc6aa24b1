"""Eight writers on eight partitions: none waits for another in a circle, whatever they write."""

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

import asyncpg
import msgspec
import pytest

from normalizer.core.batch import OutcomeTotals
from normalizer.envelope import Envelope
from normalizer.jobs.forget import ErasureWhoAndWhy, ExecutionToForget, Forget
from normalizer.store.store import Store
from projector.maintenance import event_retention
from projector.verify.ranges import VerifyScope
from projector.verify.verify import verify
from tests.support.factories import after, envelope, make_batch, snowflake
from tests.support.job_runs import ledger_mistakes
from tests.support.stack import Database
from tests.support.table_rows import assert_ledger_holds, claimed, connected, count, open_store

WRITERS: Final = 8
BATCHES: Final = 4
EVENTS_A_BATCH: Final = 60
EVENT_KINDS: Final = (
    "command.issued",
    "command.claimed",
    "call.done",
    "playbook.started",
    "step.exit",
)


def history(rng: Random, *, spread: bool) -> list[list[Envelope]]:
    """A partition each: new events, events reported again, the same again, and two under one id.

    `spread`: events of one execution, and reports of one event, go to any partition.
    """
    partitions: list[list[Envelope]] = [[] for _ in range(WRITERS)]
    for number in range(WRITERS * BATCHES * EVENTS_A_BATCH * 2 // 3):
        execution = rng.randrange(24)
        event = envelope(
            number,
            event_id=snowflake(rng.randrange(1 << 20)),
            execution_id=1000 + execution,
            event_type=rng.choice(EVENT_KINDS),
            step=f"step {rng.randrange(4)}",
            attempts=rng.randrange(3),
            command_id=f"{1000 + execution}:step:{rng.randrange(50)}",
            context=b'{"path":"play %d"}' % (execution % 3),
        )
        reports = [event]
        if rng.random() < 0.3:
            reports.append(msgspec.structs.replace(event, error="e", worker_id="w", attempts=3))
        if rng.random() < 0.1:
            reports.append(event)
        if rng.random() < 0.1:
            reports.append(msgspec.structs.replace(event, step="another", error=rng.choice("ef")))
        for one in reports:
            home = rng.randrange(WRITERS) if spread else execution % WRITERS
            partitions[home].append(one)
    return partitions


async def written(store: Store, partition: int, events: list[Envelope]) -> OutcomeTotals:
    claim = await claimed(store, partition)
    totals = OutcomeTotals()
    for start in range(0, len(events), EVENTS_A_BATCH):
        batch = make_batch(*events[start : start + EVENTS_A_BATCH], claim=claim)
        totals += await store.write(batch)
        claim = after(claim, batch)
    return totals


async def erased(database: Database, executions: range) -> None:
    for execution_id in executions:
        erasure = Forget(database.url, ExecutionToForget(execution_id=execution_id))
        await erasure.run(ErasureWhoAndWhy(who="alice", why="a test"))


async def retained(connection: asyncpg.Connection) -> None:
    """Delete each execution that it finds, whole and whatever its age, until it is cancelled."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await connection.execute("set search_path = projector, normalizer, public")
    while True:
        async for _ in event_retention._Retention(connection, tomorrow, None).run():
            pass
        await asyncio.sleep(0)


async def deadlocks(connection: asyncpg.Connection) -> int:
    await connection.execute("select pg_stat_clear_snapshot()")
    found: int = await connection.fetchval(
        "select deadlocks from pg_stat_database where datname = current_database()"
    )
    return found


@pytest.mark.parametrize("spread", [False, True], ids=["by execution", "without keys"])
async def test_eight_writers_never_deadlock(database: Database, *, spread: bool) -> None:
    rng = Random(7)
    partitions = history(rng, spread=spread)
    async with connected(database) as connection:
        await connection.execute(f"alter database {database.name} set deadlock_timeout = '20ms'")
        stores = [open_store(database, f"writer {number}") for number in range(WRITERS)]
        try:
            totals = await asyncio.gather(
                *(written(store, number, partitions[number]) for number, store in enumerate(stores))
            )
        finally:
            for store in stores:
                await store.__aexit__(None, None, None)

        whole = sum(totals, OutcomeTotals())
        assert whole.merged > 100
        assert whole.duplicate > 50
        assert whole.outcomes == sum(map(len, partitions))
        assert await deadlocks(connection) == 0
        await assert_ledger_holds(connection)


@pytest.mark.parametrize("spread", [False, True], ids=["by execution", "without keys"])
async def test_retention_and_forget_beside_eight_writers_never_deadlock(
    database: Database, *, spread: bool
) -> None:
    """Deleted rows are written again in the meantime, and counted once more each time."""
    partitions = history(Random(7), spread=spread)
    async with connected(database) as connection, connected(database) as maintainer:
        await connection.execute(f"alter database {database.name} set deadlock_timeout = '20ms'")
        stores = [open_store(database, f"writer {number}") for number in range(WRITERS)]
        writers = [written(store, n, partitions[n]) for n, store in enumerate(stores)]
        retention = asyncio.create_task(retained(maintainer))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(erased(database, range(1000, 1006)))
                group.create_task(erased(database, range(1006, 1012)))
                totals = await asyncio.gather(*writers)
        finally:
            retention.cancel()
            await asyncio.gather(retention, return_exceptions=True)
            for store in stores:
                await store.__aexit__(None, None, None)

        whole = sum(totals, OutcomeTotals())
        assert whole.outcomes == sum(map(len, partitions))
        assert await deadlocks(connection) == 0
        assert await ledger_mistakes(database) == []
        counted = await connection.fetchval("select sum(events) from projector.event_counts")
        assert counted == whole.stored > await count(connection, "normalizer.events")
        await connection.execute("set search_path = projector, normalizer, public")
        verdicts = {one.projection: one.verdict async for one in verify(connection, VerifyScope())}
        assert set(verdicts.values()) == {"match"}, verdicts


async def test_a_change_that_does_not_last_holds_up_no_batch(database: Database) -> None:
    """Somebody's trigger takes back what a report adds: it would be merged again forever."""
    async with connected(database) as connection, open_store(database) as store:
        await connection.execute(
            """
            create function forget_error() returns trigger language plpgsql as $$
            begin
                new.error := null;
                return new;
            end
            $$;
            create trigger forget before update on normalizer.events
                for each row execute function forget_error();
            """
        )
        claims = [await claimed(store, partition) for partition in (0, 1)]
        await store.write(make_batch(envelope(0), claim=claims[0]))
        reports = [envelope(event_id=snowflake(0), error="e"), envelope(1)]

        totals = await store.write(make_batch(*reports, claim=claims[1]))

        assert (totals.merged, totals.stored) == (1, 1)
        assert await connection.fetchval("select count(*) from normalizer.merged_records") == 1

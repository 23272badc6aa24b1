"""Locks, cancelled statements, broken projections: who waits, and no healthy record is rejected."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import asyncpg
import pytest
import structlog

from normalizer.core.batch import Batch
from normalizer.errors import RetryableError, StoreUnavailableError
from normalizer.monitoring.monitoring_server import MonitoringServer
from normalizer.store.session import Session
from normalizer.store.store import Store
from normalizer.store.write_retry import InFlightBatch, write_with_retry
from projector.repair.repair import RepairRequest, repair
from tests.support.factories import EXECUTION_ID, after, envelope, make_batch, snowflake
from tests.support.feed import Feed
from tests.support.probe_client import http_get, metric_value, scrape_metrics
from tests.support.service_runs import running, until as until_running
from tests.support.stack import Database
from tests.support.table_rows import (
    assert_ledger_holds,
    claimed,
    connected,
    count,
    open_store,
    read_position,
    session_pids,
    stored_events,
)
from tests.support.waiting import until

ENOUGH: Final = 40
"""Failures: more than it takes to halve a batch down to one record and to try that again."""
IMPATIENT: Final = {"lock_timeout": "20ms"}
_LINGERS: Final = """
    create function projector.linger() returns trigger language plpgsql as $$
    begin
        perform pg_sleep(60);
        return new;
    end $$;
    create trigger linger before insert on projector.execution_facts
        for each row when (new.execution_id = 13) execute function projector.linger();
"""
"""A projection that takes too long for the events of execution 13."""
# A batch is reported after 5 s, and retried within 2 s. The rest is for a busy machine.
NAMED_WITHIN_S: Final = 10.0
STORED_WITHIN_S: Final = 20.0

Held = Callable[[asyncpg.Connection], Awaitable[object]]


async def an_execution(holder: asyncpg.Connection) -> None:
    """A statement that somebody typed into psql before going to lunch."""
    await holder.execute(
        "select 1 from projector.execution_facts where execution_id = $1 for update", EXECUTION_ID
    )


async def an_event(holder: asyncpg.Connection) -> None:
    await holder.execute("select 1 from normalizer.events for update")


async def the_position(holder: asyncpg.Connection) -> None:
    await holder.execute("select 1 from normalizer.source_positions for update")


async def a_whole_table(holder: asyncpg.Connection) -> None:
    await holder.execute("lock table projector.event_hours in access exclusive mode")


@contextlib.asynccontextmanager
async def delivering(store: Store, batch: Batch) -> AsyncIterator[InFlightBatch]:
    """The batch is tried without a pause, at least ENOUGH times before the block, and written after
    it.
    """
    in_flight = InFlightBatch()
    failures: list[RetryableError] = []
    trying = asyncio.ensure_future(
        write_with_retry(
            store,
            batch,
            stop=asyncio.Event(),
            draw=lambda: -1.0,
            in_flight=in_flight,
            on_failure=failures.append,
        )
    )

    async def failed() -> bool:
        assert not trying.done()
        return len(failures) >= ENOUGH

    await until(failed)
    yield in_flight
    await trying


async def delivered(store: Store, batch: Batch) -> None:
    """The batch tried without a pause until it is written."""
    await write_with_retry(store, batch, stop=asyncio.Event(), draw=lambda: -1.0)


@pytest.mark.every_postgres(oldest_in_soak=True)
@pytest.mark.parametrize(
    "hold",
    [
        an_execution,
        the_position,
        *(pytest.param(hold, marks=pytest.mark.soak) for hold in (an_event, a_whole_table)),
    ],
)
async def test_a_held_lock_fills_no_quarantine(
    connection: asyncpg.Connection, database: Database, hold: Held
) -> None:
    async with open_store(database, session=IMPATIENT) as store, connected(database) as holder:
        claim = await claimed(store)
        first = make_batch(envelope(), claim=claim)
        await store.write(first)
        reported_again = envelope(event_id=snowflake(), error="reported again")
        batch = make_batch(reported_again, envelope(2), envelope(3), claim=after(claim, first))
        holding = holder.transaction()
        await holding.start()
        await hold(holder)

        async with delivering(store, batch) as in_flight:
            assert "55P03" in in_flight.last_error_text()
            await holding.rollback()

        assert await count(connection, "normalizer.quarantine") == 0
        assert (await read_position(connection))["next_offset"] == 4
        assert len(await stored_events(connection)) == 3
        await assert_ledger_holds(connection)


@pytest.mark.every_postgres(oldest_in_soak=True)
async def test_statements_that_are_cancelled_again_and_again_fill_no_quarantine(
    store: Store, connection: asyncpg.Connection
) -> None:
    batch = make_batch(*map(envelope, range(4)), claim=await claimed(store))
    cancelling = True
    await connection.execute(
        """
        create function linger() returns trigger language plpgsql as
            $$ begin perform pg_sleep(0.5); return null; end $$;
        create trigger linger before insert on normalizer.events
            for each statement execute function linger();
        """
    )

    async def cancel() -> None:
        while cancelling:
            for pid in await session_pids(connection, "one"):
                await connection.execute("select pg_cancel_backend($1)", pid)

    canceller = asyncio.ensure_future(cancel())
    async with delivering(store, batch):
        cancelling = False
        await canceller

    assert await count(connection, "normalizer.quarantine") == 0
    assert await count(connection, "normalizer.events") == 4
    await assert_ledger_holds(connection)


@pytest.mark.every_postgres(oldest_in_soak=True)
@pytest.mark.parametrize(
    "sqlstate",
    [
        *("22003", "21000", "P0001"),
        *(pytest.param(sqlstate, marks=pytest.mark.soak) for sqlstate in ("22012", "54001")),
    ],
)
async def test_an_error_inside_a_projection_refuses_no_event_and_is_noted_where_it_was(
    store: Store, connection: asyncpg.Connection, sqlstate: str
) -> None:
    await connection.execute(
        f"""
        create function projector.refuse() returns trigger language plpgsql as $$
        begin
            raise exception 'no' using errcode = '{sqlstate}';
        end $$;
        create trigger refuse before insert on projector.execution_facts
            for each row when (new.execution_id = 13) execute function projector.refuse();
        """
    )
    outcomes = [envelope(0), envelope(1), envelope(2, execution_id=13), envelope(3)]

    with structlog.testing.capture_logs() as lines:
        await delivered(store, make_batch(*outcomes, claim=await claimed(store)))

    (said,) = [line for line in lines if line["event"] == "projection.failed"]
    assert said["piece"] == "noetl.events[0]@2 (1 record)"
    assert f"SQLSTATE {sqlstate}" in said["why"]
    assert "inside projector." in said["why"]
    assert await count(connection, "normalizer.quarantine") == 0
    assert await count(connection, "normalizer.events") == 4
    assert await count(connection, "projector.execution_facts where execution_id = 13") == 0
    assert await count(connection, "projector.execution_facts") == 1
    assert await count(connection, "projector.divergences where execution_id = 13") > 0
    assert (
        await count(connection, f"projector.divergences where execution_id = {EXECUTION_ID}") == 0
    )

    await connection.execute("drop function projector.refuse cascade")
    await connection.execute("set search_path = projector, normalizer, public")
    assert {one.verdict async for one in repair(connection, RepairRequest())} <= {"match"}
    await assert_ledger_holds(connection)


@pytest.mark.every_postgres(oldest_in_soak=True)
async def test_a_projection_that_takes_longer_than_a_statement_may_is_left_out_for_its_record(
    connection: asyncpg.Connection, database: Database
) -> None:
    """Else it would be tried forever, for each try ends at the same moment and leaves nothing."""
    async with open_store(database, session={"statement_timeout": "1s"}) as store:
        await connection.execute(_LINGERS)
        outcomes = [envelope(0), envelope(1, execution_id=13), envelope(2)]

        with structlog.testing.capture_logs() as lines:
            await delivered(store, make_batch(*outcomes, claim=await claimed(store)))

        assert [line["piece"] for line in lines if line["event"] == "projection.failed"] == [
            "noetl.events[0]@1 (1 record)"
        ]
        assert await count(connection, "normalizer.events") == 3
        assert await count(connection, "normalizer.quarantine") == 0
        assert await count(connection, "projector.divergences where execution_id = 13") > 0
        assert (
            await count(connection, f"projector.divergences where execution_id = {EXECUTION_ID}")
            == 0
        )
        await connection.execute("drop function projector.linger cascade")
        await connection.execute("set search_path = projector, normalizer, public")
        assert {one.verdict async for one in repair(connection, RepairRequest())} <= {"match"}
        await assert_ledger_holds(connection)


async def test_a_projection_that_somebody_cancels_again_and_again_is_left_out_of_nothing(
    store: Store, connection: asyncpg.Connection, database: Database
) -> None:
    """The SQLSTATE is the same as for a statement that took too long. Only the time differs."""
    async with connected(database) as owner:
        await connection.execute(_LINGERS)
        batch = make_batch(envelope(1, execution_id=13), claim=await claimed(store))
        cancelling = True

        async def cancel() -> None:
            while cancelling:
                for pid in await session_pids(connection, "one"):
                    await connection.execute("select pg_cancel_backend($1)", pid)

        canceller = asyncio.ensure_future(cancel())
        with structlog.testing.capture_logs() as lines:
            async with delivering(store, batch) as in_flight:
                said = in_flight.last_error_text()
                await owner.execute("drop function projector.linger cascade")
                cancelling = False
                await canceller

        assert "57014" in said
        assert [line for line in lines if line["event"] == "projection.failed"] == []
        assert await count(connection, "projector.execution_facts where execution_id = 13") == 1


async def test_a_constraint_of_a_projection_refuses_no_event(
    store: Store, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "alter table projector.event_hours add constraint few check (events < 2) not valid"
    )

    await delivered(store, make_batch(*map(envelope, range(3)), claim=await claimed(store)))

    assert await count(connection, "normalizer.quarantine") == 0
    assert await count(connection, "normalizer.events") == 3
    assert await count(connection, "projector.divergences") > 0


async def test_the_trigger_functions_of_projections_are_named_as_errors_are_distinguished_by(
    connection: asyncpg.Connection,
) -> None:
    """They have the schema on their search_path: the server's context names them without it."""
    names = await connection.fetch(
        """
        select distinct function.proname
        from   pg_trigger as trigger
        join   pg_proc    as function on function.oid = trigger.tgfoid
        where  function.pronamespace = 'projector'::regnamespace
        """
    )

    assert names
    assert [name for (name,) in names if not name.startswith("project_")] == []


async def test_a_held_row_lock_is_named_within_seconds_and_stored_soon_after_its_release(
    feed: Feed,
) -> None:
    settings = feed.settings()
    loop = asyncio.get_running_loop()
    with structlog.testing.capture_logs() as lines:
        async with running(settings) as service, connected(feed.database) as holder:
            await feed.send(range(1), partition=0)
            await feed.until_read({0: 1})
            holding = holder.transaction()
            await holding.start()
            await an_execution(holder)
            holder_pid = holder.get_server_pid()
            with MonitoringServer(settings, service) as monitor:
                await feed.send(range(1, 50), partition=0)
                await feed.until_blocked()
                begun_s = loop.time()

                async def reasons() -> str:
                    _, body = await http_get(f"{monitor.url}/readyz")
                    return "; ".join(body["reasons"])

                said = await until(reasons, is_so=lambda text: "batch open for" in text)
                assert loop.time() - begun_s < NAMED_WITHIN_S
                said = await until(reasons, is_so=lambda text: "held by pid" in text)
                values = await scrape_metrics(monitor.url)
                await until_running(lambda: any(one["event"] == "batch.blocked" for one in lines))

                await holding.rollback()
                released_s = loop.time()
                await feed.until_read({0: 50})
                assert loop.time() - released_s < STORED_WITHIN_S
                assert "batch open for" not in await reasons()
            rejected = await count(feed.connection, "normalizer.quarantine")
            stored = await feed.events()

    assert f"{feed.partition(0)}@1" in said
    assert f"it waits for a lock held by pid {holder_pid} (postgres" in said
    assert metric_value(values, "normalizer_open_batch_seconds") >= 5
    assert (rejected, stored) == (0, 50)
    assert lines[-1]["event"] != "batch.blocked"
    assert any(one["event"] == "batch.unblocked" for one in lines)


@pytest.mark.parametrize("topic", [2], indirect=True)
async def test_a_record_that_can_be_neither_stored_nor_rejected_stops_its_partition_and_no_other(
    feed: Feed,
) -> None:
    """As docs/states.md says; `normalizer position skip` is the way past it."""
    stuck, beside = 0, 1
    async with running(feed.settings()) as service, connected(feed.database) as connection:
        await connection.execute(
            f"""
            create function refuse() returns trigger language plpgsql as $$
            begin
                raise exception 'no' using errcode = 'XX000';
            end $$;
            create trigger refuse before insert on normalizer.events
                for each row when (new.source_partition = {stuck}) execute function refuse();
            """
        )
        await feed.send(range(2), partition=stuck)

        def are_stuck() -> set[str]:
            return {one.describe_piece() for one in service.in_flight_batches()}

        await until_running(lambda: f"{feed.name}[{stuck}]@0 (1 record)" in are_stuck())
        await feed.send(range(5, 9), partition=beside)
        await feed.until_read({beside: 4})
        await until_running(lambda: f"{feed.name}[{stuck}]@0 (1 record)" in are_stuck())
        positions = await feed.positions()
        rejected = await count(connection, "normalizer.quarantine")

        # The table first, as writers lock it: the drop itself begins with its partitions.
        async with connection.transaction():
            await connection.execute("lock table normalizer.events in access exclusive mode")
            await connection.execute("drop function refuse cascade")
        await feed.until_read({stuck: 2, beside: 4})
        assert await feed.events() == 6
        await assert_ledger_holds(connection)

    assert positions[stuck]["next_offset"] == 0
    assert rejected == 0


async def _inside_copy(frozen: asyncpg.Connection) -> None:
    async def rows_that_never_come() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    await frozen.copy_to_table(
        "events", schema_name="normalizer", columns=["event_id"], source=rows_that_never_come()
    )


async def _between_parsing_and_executing(frozen: asyncpg.Connection) -> None:
    await frozen.prepare("select 1")
    await asyncio.Event().wait()


async def _while_it_reads_an_answer(frozen: asyncpg.Connection) -> None:
    large = await frozen.prepare("select repeat('x', 20000000)")
    frozen._transport.pause_reading()
    await large.fetchval()


@pytest.mark.every_postgres(oldest_in_soak=True)
@pytest.mark.parametrize(
    ("application", "freeze"),
    [
        ("normalizer writer", _inside_copy),
        ("normalizer backfill", _between_parsing_and_executing),
        ("projector", _while_it_reads_an_answer),
    ],
)
async def test_a_frozen_process_holds_its_locks_no_longer_than_a_statement_may_take(
    database: Database, application: str, freeze: Callable[[asyncpg.Connection], Awaitable[None]]
) -> None:
    """PostgreSQL looks at no time limit while a statement waits for its client."""
    impatient = {"lock_timeout": "100ms", "statement_timeout": "1s"}
    async with open_store(database, session=impatient) as store:
        first = await claimed(store)
        limits = {"statement_timeout": "1s", "idle_in_transaction_session_timeout": "1s"}
        frozen = await asyncpg.connect(
            database.url, server_settings=limits | {"application_name": application}
        )
        await frozen.transaction().start()
        await the_position(frozen)
        freezing = asyncio.ensure_future(freeze(frozen))

        async def next_claim() -> int:
            with contextlib.suppress(RetryableError):
                return (await claimed(store)).epoch
            return 0

        with structlog.testing.capture_logs() as lines:
            epoch = await until(next_claim)
        freezing.cancel()
        await asyncio.wait([freezing])
        frozen.terminate()

    assert epoch == first.epoch + 1
    # A second claim may find the session before it is gone, and end it again.
    assert {line["event"] for line in lines} == {"database.stalled_session_ended"}


async def test_a_locked_position_keeps_no_other_partition_of_the_process_from_its_claim(
    feed: Feed,
) -> None:
    settings = feed.settings()
    async with connected(feed.database) as holder:
        async with running(settings):
            await feed.until_claimed()
        holding = holder.transaction()
        await holding.start()
        await holder.execute(
            "select 1 from normalizer.source_positions where partition = 0 for update"
        )
        await feed.send(range(5), partition=feed.topic.partitions - 1)

        async with running(settings):
            await feed.until_read({feed.topic.partitions - 1: 5})
            await holding.rollback()
            await feed.send(range(5, 10), partition=0)
            await feed.until_read({0: 5})


async def test_a_stop_does_not_wait_for_a_held_lock(feed: Feed) -> None:
    """Well within the time that a batch in flight has to finish."""
    loop = asyncio.get_running_loop()
    async with connected(feed.database) as holder:
        async with running(feed.settings()):
            await feed.until_claimed()
            holding = holder.transaction()
            await holding.start()
            await holder.execute("lock table projector.event_hours in access exclusive mode")
            await feed.send(range(5), partition=0)
            await feed.until_blocked()
            stopped_s = loop.time()
        stopping_s = loop.time() - stopped_s
        await holding.rollback()

    assert stopping_s < 15


async def test_a_statement_prepared_before_a_change_of_its_table_is_tried_again(
    database: Database,
) -> None:
    """As when an administrator changes a type: the client prepares it again for the next try."""
    session = Session(database.url, application_name="one")
    async with connected(database) as administrator:
        await administrator.execute("create table public.kept as select 1 as number")
        await administrator.execute("grant select on public.kept to public")
        before = await session.fetch("select number from public.kept")
        await administrator.execute("alter table public.kept alter number type bigint")

        with pytest.raises(StoreUnavailableError, match="SQLSTATE 0A000"):
            await session.fetch("select number from public.kept")
        after = await session.fetch("select number from public.kept")
    session.terminate()

    assert [row["number"] for row in before + after] == [1, 1]


async def test_a_rejected_value_is_not_reported_as_a_race(database: Database) -> None:
    session = Session(database.url, application_name="one")

    with pytest.raises(StoreUnavailableError) as rejected:
        await session.fetch("select 1 / $1::integer", 0)
    session.terminate()

    assert "PostgreSQL rejected a value" in str(rejected.value)
    assert "another transaction" not in str(rejected.value)
    assert rejected.value.sqlstate == "22012"

"""A database made to refuse: whose fault each code is, and what becomes of every record."""

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from normalizer.core.batch import Batch, OutcomeTotals
from normalizer.envelope import Envelope
from normalizer.errors import FatalError, StoreUnavailableError
from normalizer.store.store import Store
from normalizer.store.write_retry import write_with_retry
from tests.support.factories import after, envelope, make_batch, rejected, snowflake, together
from tests.support.stack import Database
from tests.support.table_rows import (
    assert_ledger_holds,
    claimed,
    connected,
    count,
    open_store,
    stored_events,
)
from tests.support.waiting import until

pytestmark = pytest.mark.every_postgres(oldest_in_soak=True)

MOMENTS: Final = [
    *("08000", "08006", "40001", "40P01", "53000", "53100", "53200", "53300", "53400"),
    *("55P03", "55006", "57014", "57P01", "57P03", "58000", "58030", "XX000", "XX001", "XX002"),
    *("25006", "25P03", "25P04"),
    # Listed nowhere: never a record's fault.
    *("21000", "23503", "23P01", "P0002", "38000", "0L000", "72000"),
    # What `raise exception` gives in an operator's own trigger. Our functions never raise it.
    "P0001",
]
OURS: Final = [
    *("42501", "42P01", "42703", "42883", "28000", "28P01", "3D000", "3F000", "0A000", "26000"),
    *("F0000", "F0001", "25001", "25P02"),
]
MARKED: Final = "new.step = 'bad'"


@contextlib.asynccontextmanager
async def refusing(
    database: Database, sqlstate: str, *, only: str = MARKED, when: str = "before insert"
) -> AsyncIterator[asyncpg.Connection]:
    """Rows for which `only` holds raise this code, in a trigger of each row."""
    async with connected(database) as connection:
        await refuse_with(connection, sqlstate, only=only)
        await connection.execute(
            f"""
            create trigger refuse {when} on normalizer.events
                for each row execute function refuse()
            """
        )
        yield connection


async def refuse_with(connection: asyncpg.Connection, sqlstate: str, *, only: str = MARKED) -> None:
    """The error that the trigger raises from now on, and for which rows."""
    await connection.execute(
        f"""
        create or replace function refuse() returns trigger language plpgsql as $$
        begin
            if {only} then
                raise exception 'rejected: %', new.error using errcode = '{sqlstate}';
            end if;
            return new;
        end
        $$
        """
    )


async def let_all_in(connection: asyncpg.Connection) -> None:
    # The trigger stays: to drop it would lock all partitions against a writer at work.
    await refuse_with(connection, "22000", only="false")


async def delivered(store: Store, batch: Batch) -> OutcomeTotals:
    """Delivered without waiting between the tries."""
    return await write_with_retry(store, batch, stop=asyncio.Event(), draw=lambda: -1.0)


async def quarantined(connection: asyncpg.Connection) -> dict[int, str | None]:
    """Offset -> SQLSTATE of each rejection of the database."""
    rows = await connection.fetch(
        """
        select   source_offset, sqlstate, reason, detail
        from     normalizer.quarantine order by source_offset
        """
    )
    assert {row["reason"] for row in rows} <= {"rejected_by_database"}
    assert all("secret" not in row["detail"] for row in rows)
    return {row["source_offset"]: row["sqlstate"] for row in rows}


def events(*bad: int, of: int = 20, **marks: Any) -> list[Envelope]:
    """Events of which those at the offsets `bad` are marked."""
    marks = marks or {"step": "bad"}
    return [
        envelope(at, error="a secret of the row", **(marks if at in bad else {}))
        for at in range(of)
    ]


async def test_a_batch_with_a_rejected_row_is_let_go_without_the_collector(
    store: Store, database: Database
) -> None:
    """The collector looks once in many batches: what it has to find stays that long."""
    async with refusing(database, "22000"):
        batch = make_batch(*events(7), claim=await claimed(store))
        theirs = [
            batch,
            *(outcome for _, outcomes in batch.records_with_outcomes() for outcome in outcomes),
        ]
        held = [sys.getrefcount(one) for one in theirs]
        gc.disable()
        try:
            await store.write(batch)

            assert [sys.getrefcount(one) for one in theirs] == held
        finally:
            gc.enable()


async def test_an_error_of_the_moment_writes_nothing_and_blames_nobody(
    store: Store, database: Database
) -> None:
    async with refusing(database, "22000") as connection:
        batch = make_batch(*events(7), claim=await claimed(store))
        for sqlstate in MOMENTS:
            await refuse_with(connection, sqlstate)

            with pytest.raises(StoreUnavailableError, match=sqlstate):
                await store.write(batch)

            assert await count(connection, "normalizer.events") == 0
        assert await quarantined(connection) == {}
        await let_all_in(connection)
        assert (await store.write(batch)).stored == 20


async def test_an_error_of_ours_ends_the_process(store: Store, database: Database) -> None:
    async with refusing(database, "22000") as connection:
        batch = make_batch(*events(7), claim=await claimed(store))
        for sqlstate in OURS:
            await refuse_with(connection, sqlstate)

            with pytest.raises(FatalError, match=sqlstate) as fatal:
                await delivered(store, batch)

            assert "secret" not in str(fatal.value)
            assert await count(connection, "normalizer.events") == 0
        assert await quarantined(connection) == {}


@pytest.mark.parametrize(
    ("rows", "bad"),
    [(500, (0, 1, 250, 498, 499)), (120, tuple(range(0, 120, 7))), (120, tuple(range(120)))],
)
async def test_any_number_of_bad_rows_in_a_batch_cost_just_themselves(
    store: Store, database: Database, rows: int, bad: tuple[int, ...]
) -> None:
    async with refusing(database, "22003") as connection:
        batch = make_batch(*events(*bad, of=rows), claim=await claimed(store))

        totals = await store.write(batch)

        assert (totals.stored, totals.quarantined) == (rows - len(bad), len(bad))
        assert tuple(await quarantined(connection)) == bad
        await assert_ledger_holds(connection)


async def test_a_rejected_row_is_found_by_its_line_in_a_few_tries(
    store: Store, database: Database
) -> None:
    async with refusing(database, "22003") as connection:
        await connection.execute(
            """
            create sequence tries;
            grant all on sequence tries to public;
            create function count_tries() returns trigger language plpgsql as $$
            begin
                perform nextval('tries');
                return null;
            end
            $$;
            create trigger count_tries before insert on normalizer.events
                for each statement execute function count_tries();
            """
        )

        await store.write(make_batch(*events(400, of=500), claim=await claimed(store)))

        assert await connection.fetchval("select last_value from tries") <= 6


async def test_an_outage_while_a_bad_row_is_looked_for_blames_nobody(
    store: Store, database: Database
) -> None:
    async with refusing(database, "22003") as connection:
        await connection.execute(
            f"""
            create sequence visits;
            grant all on sequence visits to public;
            create or replace function refuse() returns trigger language plpgsql as $$
            begin
                if {MARKED} and nextval('visits') = 1 then
                    raise exception 'no' using errcode = '22003';
                elsif {MARKED} then
                    raise exception 'no' using errcode = '53100';
                end if;
                return new;
            end
            $$
            """
        )
        batch = make_batch(*events(3), claim=await claimed(store))

        with pytest.raises(StoreUnavailableError, match="53100"):
            await store.write(batch)

        assert await count(connection, "normalizer.quarantine") == 0
        await let_all_in(connection)
        assert (await store.write(batch)).stored == 20


async def test_rows_rejected_for_different_reasons_keep_their_own(
    store: Store, database: Database
) -> None:
    async with refusing(database, "22001", only="new.step = 'one'") as connection:
        outcomes = events(of=10)
        outcomes[2] = msgspec.structs.replace(outcomes[2], step="one")
        outcomes[5] = msgspec.structs.replace(outcomes[5], status="RUNNING")
        outcomes[6] = msgspec.structs.replace(outcomes[6], worker_id="\0")

        totals = await store.write(make_batch(*outcomes, rejected(), claim=await claimed(store)))

        assert (totals.stored, totals.quarantined) == (7, 4)
        rows = await connection.fetch(
            "select source_offset, reason, sqlstate from normalizer.quarantine order by 1"
        )
        assert [tuple(row) for row in rows] == [
            (2, "rejected_by_database", "22001"),
            (5, "rejected_by_database", "23514"),
            (6, "rejected_by_database", "22021"),
            (10, "not_an_event", None),
        ]


async def test_a_row_rejected_by_a_projection_is_found_by_halving(
    store: Store, connection: asyncpg.Connection
) -> None:
    """A trigger of the statement names no line."""
    await connection.execute(
        """
        create function project() returns trigger language plpgsql as $$
        begin
            if exists (select from inserted where step = 'bad') then
                raise exception 'no' using errcode = '54000';
            end if;
            return null;
        end
        $$;
        create trigger project after insert on normalizer.events
            referencing new table as inserted for each statement execute function project();
        """
    )

    totals = await store.write(make_batch(*events(0, 7, 8), claim=await claimed(store)))

    assert (totals.stored, totals.quarantined) == (17, 3)
    assert await quarantined(connection) == dict.fromkeys((0, 7, 8), "54000")
    await assert_ledger_holds(connection)


async def test_a_report_whose_merge_is_rejected_costs_its_record_only(
    store: Store, database: Database
) -> None:
    async with refusing(
        database, "54001", only="new.trace_id = 'bad'", when="before update"
    ) as connection:
        claim = await claimed(store)
        first = make_batch(*events(of=10), claim=claim)
        await store.write(first)
        reports = [
            envelope(event_id=snowflake(at), trace_id="bad" if at in (4, 9) else "good")
            for at in range(10)
        ]

        totals = await store.write(make_batch(*reports, claim=after(claim, first)))

        assert (totals.merged, totals.quarantined) == (8, 2)
        assert await quarantined(connection) == {14: "54001", 19: "54001"}
        rows = await stored_events(connection)
        assert [row.trace_id for row in rows] == [
            None if at in (4, 9) else "good" for at in range(10)
        ]
        await assert_ledger_holds(connection)


@pytest.mark.parametrize("stored_before", [True, False])
@pytest.mark.parametrize("bad", [0, 1, 2])
async def test_of_several_reports_of_one_row_the_rejected_one_alone_is_set_aside(
    store: Store, database: Database, bad: int, *, stored_before: bool
) -> None:
    async with refusing(
        database, "22003", only="new.error = 'bad'", when="before insert or update"
    ) as connection:
        claim = await claimed(store)
        first = make_batch(
            *([envelope(event_id=5)] if stored_before else [rejected()]), claim=claim
        )
        await store.write(first)
        await connection.execute("delete from normalizer.quarantine")
        reports = [envelope(event_id=5, error="bad" if at == bad else f"{at}") for at in range(3)]

        totals = await store.write(make_batch(*reports, claim=after(claim, first)))

        assert totals.quarantined == 1
        assert await quarantined(connection) == {1 + bad: "22003"}
        (row,) = await stored_events(connection)
        assert row.error == ("1" if bad == 2 else "2")


async def test_reports_that_are_rejected_only_together_cost_the_last_one(
    store: Store, database: Database
) -> None:
    async with refusing(
        database,
        "22003",
        only="new.error is not null and new.trace_id is not null",
        when="before insert or update",
    ) as connection:
        reports = [envelope(event_id=5, error="e"), envelope(event_id=5, trace_id="t")]

        totals = await store.write(make_batch(*reports, claim=await claimed(store)))

        assert (totals.stored, totals.quarantined) == (1, 1)
        assert await quarantined(connection) == {1: "22003"}


async def test_a_record_read_again_is_not_blamed_for_reports_of_its_row(
    store: Store, database: Database
) -> None:
    async with refusing(
        database,
        "22003",
        only="new.error is not null and new.trace_id is not null",
        when="before update",
    ) as connection:
        original = envelope(event_id=5)
        claims = [await claimed(store, partition) for partition in (0, 1)]
        await store.write(make_batch(original, claim=claims[0]))
        await connection.execute(
            """
            update normalizer.source_positions
            set    next_offset = 0, records = 0, outcomes = 0, stored = 0
            where  partition = 0
            """
        )
        reports = [envelope(event_id=5, error="e"), envelope(event_id=5, trace_id="t")]

        totals = await store.write(
            together(make_batch(*reports, claim=claims[1]), make_batch(original, claim=claims[0]))
        )

        assert (totals.merged, totals.quarantined, totals.duplicate) == (1, 1, 1)
        assert await connection.fetchval("select source_partition from normalizer.quarantine") == 1


async def test_a_row_rejected_only_once_another_is_set_aside_is_set_aside_as_well(
    store: Store, database: Database
) -> None:
    async with refusing(
        database, "22003", only="new.step = 'bad' or (new.step = 'late' and nextval('visits') > 1)"
    ) as connection:
        await connection.execute("create sequence visits; grant all on sequence visits to public")
        outcomes = events(1, of=6)
        outcomes[4] = msgspec.structs.replace(outcomes[4], step="late")

        totals = await store.write(make_batch(*outcomes, claim=await claimed(store)))

        assert (totals.stored, totals.quarantined) == (4, 2)
        assert await quarantined(connection) == {1: "22003", 4: "22003"}


async def test_a_rejected_event_leaves_the_other_events_of_its_record(
    store: Store, database: Database
) -> None:
    async with refusing(database, "22003") as connection:
        record = (envelope(0), envelope(1, step="bad"), envelope(2))

        totals = await store.write(make_batch(record, claim=await claimed(store)))

        assert (totals.stored, totals.quarantined) == (2, 1)
        assert await connection.fetchval("select source_index from normalizer.quarantine") == 1


async def test_a_row_rejected_at_the_commit_costs_its_record_only(
    store: Store, connection: asyncpg.Connection
) -> None:
    """It goes in, and only the end of the transaction fails."""
    await connection.execute(
        f"""
        create function refuse() returns trigger language plpgsql as $$
        begin
            if {MARKED} then
                raise exception 'no' using errcode = '22003';
            end if;
            return null;
        end
        $$;
        create constraint trigger refuse after insert on normalizer.events
            deferrable initially deferred for each row execute function refuse();
        """
    )

    batch = make_batch(*events(2, of=4), claim=await claimed(store))

    totals = await store.write(batch)

    assert (totals.stored, totals.quarantined) == (3, 1)
    assert await quarantined(connection) == {2: "22003"}


@pytest.mark.parametrize("sqlstate", ["53100", pytest.param("23505", marks=pytest.mark.soak)])
async def test_an_outage_fills_no_quarantine_however_long_it_lasts(
    database: Database, sqlstate: str
) -> None:
    """No row goes in at all."""
    async with refusing(database, sqlstate, only="true") as connection, open_store(database) as one:
        batch = make_batch(*events(of=4), claim=await claimed(one))
        tries = 0

        def draw() -> float:
            nonlocal tries
            tries += 1
            return -1.0

        trying = asyncio.ensure_future(
            write_with_retry(one, batch, stop=asyncio.Event(), draw=draw)
        )

        async def enough() -> bool:
            return tries > 30

        await until(enough)
        assert not trying.done()
        await let_all_in(connection)

        assert (await trying).stored == 4
        assert await quarantined(connection) == {}

"""Batches in a real database: rows equal what was given, and the ledger balances."""

import asyncio
import datetime as dt
import hashlib
import time
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from normalizer.core.batch import Batch, OutcomeTotals, record_crc
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import RULES_VERSION
from normalizer.errors import FatalError
from normalizer.snowflake import derive_id
from normalizer.store import stored_rows
from normalizer.store.store import Store
from normalizer.store.stored_rows import _MAX_GAP_OFFSETS, PostgresStoredEvents, _runs
from projector.database_session import open_connection as projecting
from projector.repair.repair import RepairRequest, repair
from tests.support.factories import (
    RECORDED_MS,
    TOPIC,
    Outcomes,
    after,
    batch_of_records,
    envelope,
    ignored,
    make_batch,
    raw_record,
    recorded_at,
    rejected,
    snowflake,
)
from tests.support.stack import Database
from tests.support.table_rows import (
    assert_ledger_holds,
    canonical,
    claimed,
    connected,
    count,
    minutes,
    open_store,
    read_position,
    read_totals,
    stored_events,
    wait_for_lock,
)

pytestmark = pytest.mark.every_postgres(oldest_in_soak=True)

FULL: dict[str, Any] = {
    "event_type": "command.failed",
    "step": "fétch 😀",
    "status": "FAILED",
    "attempts": 32_767,
    "max_attempts": 5,
    "created_at": dt.datetime(2025, 11, 24, 15, 59, 59, 999_999, dt.UTC),
    "worker_id": "worker-1",
    "command_id": "1000:fetch:7:i3",
    "iteration": 3,
    "node_type": "task",
    "catalog_id": (1 << 63) - 1,
    "parent_event_id": 1,
    "parent_execution_id": 1 << 62 | 5,
    "duration": 0.018,
    "error": 'line one\nline "two"\t\\',
    "context": b'{"b":[1,2.50,1e3,{"deep":null}],"a":"\\u00e9"}',
    "result": b'"just text"',
    "meta": b'{"z":true,"attempts":32767}',
    "extra": b'{"node_id":"n","huge":123456789012345678901234567890}',
    "coercions": b'[{"rule":"opaque_id","field":"execution_id","from":"x"}]',
    "evidence": 121,
    "shape": "python_row",
    "headers": b'{"traceparent":"00-aa"}',
    "trace_id": "aa",
}
EMPTY: dict[str, Any] = {"step": "", "evidence": 0, "shape": "unknown"}


async def test_every_column_of_a_row_equals_what_was_given(
    store: Store, connection: asyncpg.Connection
) -> None:
    full, empty = envelope(0, **FULL), envelope(1, **EMPTY, execution_id=1)

    await store.write(make_batch(full, empty, claim=await claimed(store)))

    assert await stored_events(connection) == [canonical(full), canonical(empty)]


async def test_json_comes_back_with_the_value_it_had_however_it_was_spelt(
    store: Store, connection: asyncpg.Connection
) -> None:
    spelt = [b" 1 ", b"-0", b"1E+2", b'"\\u0041\\/"', b'{"a":1,"a":2}', b"[ ]", b"false", b"0.10"]
    events = [envelope(at, context=value) for at, value in enumerate(spelt)]

    await store.write(make_batch(*events, claim=await claimed(store)))

    rows = await stored_events(connection)
    assert rows == [canonical(event) for event in events]
    assert [row.context for row in rows] == [
        *(b"1", b"0", b"100", b'"A/"', b'{"a":2}', b"[]", b"false", b"0.10")
    ]


async def test_a_rows_provenance_is_its_record_and_its_batch(
    store: Store, connection: asyncpg.Connection
) -> None:
    claim = await claimed(store)
    first = make_batch(envelope(0), (envelope(1), envelope(2)), claim=claim)
    await store.write(first)
    await store.write(make_batch(envelope(3), claim=after(claim, first)))

    rows = await connection.fetch(
        """
        select   source_topic, source_offset, source_index, recorded_at,
                 dense_rank() over (order by batch_id) as batch,
                 ingested_at <= clock_timestamp() as was_now
        from     normalizer.events order by event_id
        """
    )
    assert [tuple(row) for row in rows] == [
        (TOPIC, 0, 0, recorded_at(0), 1, True),
        (TOPIC, 1, 0, recorded_at(1), 1, True),
        (TOPIC, 1, 1, recorded_at(1), 1, True),
        (TOPIC, 2, 0, recorded_at(2), 2, True),
    ]


async def test_each_outcome_is_counted_once_and_the_totals_agree_with_the_tables(
    store: Store, connection: asyncpg.Connection
) -> None:
    claim = await claimed(store)
    first = make_batch(
        envelope(0),
        (envelope(1), rejected(), ignored()),
        ignored(),
        rejected(reason="invalid_json"),
        holes=[(1, 3), (6, 7)],
        claim=claim,
    )
    first_totals = await store.write(first)
    second = make_batch(
        envelope(event_id=snowflake(0)),
        envelope(event_id=snowflake(0), error="more"),
        envelope(event_id=snowflake(1), step="another"),
        claim=after(claim, first),
    )
    second_totals = await store.write(second)

    assert first_totals == OutcomeTotals(
        records=4, holes=3, outcomes=6, stored=2, quarantined=2, ignored=2
    )
    assert second_totals == OutcomeTotals(records=3, outcomes=3, stored=1, duplicate=1, merged=1)
    assert await read_totals(connection) == first_totals + second_totals
    assert (await read_position(connection))["next_offset"] == 10
    await assert_ledger_holds(connection)


async def test_the_counter_moves_with_rows_inserted_and_with_rows_changed(
    store: Store, connection: asyncpg.Connection
) -> None:
    claim = await claimed(store)
    first = make_batch(
        envelope(0, status="COMPLETED", evidence=12),
        envelope(1, status="FAILED", attempts=2),
        claim=claim,
    )
    await store.write(first)
    assert await minutes(connection) == {
        ("call.done", "COMPLETED", 0): 1,
        ("call.done", "FAILED", 2): 1,
    }

    await store.write(
        make_batch(
            envelope(event_id=snowflake(0), status="ERROR", attempts=1), claim=after(claim, first)
        )
    )

    assert await minutes(connection) == {
        ("call.done", "ERROR", 1): 1,
        ("call.done", "FAILED", 2): 1,
    }
    await assert_ledger_holds(connection)


async def test_a_position_that_does_not_balance_cannot_be_written(
    store: Store, connection: asyncpg.Connection
) -> None:
    await store.write(make_batch(envelope(0), claim=await claimed(store)))

    for column in (*OutcomeTotals.__struct_fields__, "next_offset", "start_offset"):
        with pytest.raises(asyncpg.CheckViolationError, match="balance"):
            await connection.execute(
                f"update normalizer.source_positions set {column} = {column} + 1"
            )
    with pytest.raises(asyncpg.CheckViolationError, match="never_negative"):
        await connection.execute("update normalizer.source_positions set duplicate=1, merged=-1")


async def test_a_batch_that_leaves_an_offset_out_is_our_mistake_and_writes_nothing(
    store: Store, connection: asyncpg.Connection
) -> None:
    batch = make_batch(envelope(0), rejected(), claim=await claimed(store))
    (part,) = batch.parts
    short = Batch(parts=(msgspec.structs.replace(part, next_offset=3),))

    with pytest.raises(FatalError, match="source_positions"):
        await store.write(short)

    assert await count(connection, "normalizer.events") == 0
    assert await count(connection, "normalizer.quarantine") == 0
    assert (await read_position(connection))["next_offset"] == 0


async def test_the_position_remembers_the_last_record_and_keeps_it_over_holes(store: Store) -> None:
    claim = await claimed(store)
    batch = make_batch(envelope(0), ignored(), claim=claim)
    await store.write(batch)
    later = after(claim, batch)
    await store.write(make_batch(claim=later, holes=[(2, 5)]))

    again = await claimed(store)

    (_, _), (last, _) = batch.records_with_outcomes()
    assert (again.last_offset, again.last_recorded_ms, again.last_crc) == (
        1,
        RECORDED_MS + 1,
        record_crc(last),
    )
    assert again.next_offset == 5


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_a_replay_from_offset_0_by_another_process_adds_no_row(
    database: Database, size: int
) -> None:
    outcomes: list[Outcomes] = [
        envelope(0),
        envelope(1, error="e"),
        (envelope(2), rejected()),
        envelope(event_id=snowflake(1), worker_id="w"),
        envelope(event_id=snowflake(2), step="another"),
        envelope(event_id=snowflake(2), step="another", error="f"),
        *(envelope(event_id=77, worker_id=f"w{at}") for at in range(7)),
        ignored(),
        rejected(reason="too_deep"),
    ]
    async with open_store(database, "first") as store:
        await store.write(make_batch(*outcomes, claim=await claimed(store)))
    async with open_store(database, "second") as store, connected(database) as connection:
        before = await _everything(connection)
        ours = await read_totals(connection)
        await connection.execute(
            """
            update normalizer.source_positions
            set    next_offset = 0, records = 0, outcomes = 0, stored = 0, duplicate = 0,
                   merged = 0, quarantined = 0, ignored = 0
            """
        )
        claim = await claimed(store)
        again = OutcomeTotals()
        for start in range(0, len(outcomes), size):
            batch = make_batch(*outcomes[start : start + size], claim=claim)
            again += await store.write(batch)
            claim = after(claim, batch)

        assert await _everything(connection) == before
        assert again.records == ours.records
        assert (again.stored, again.merged, again.quarantined) == (0, 0, 0)
        assert again.duplicate == ours.outcomes - ours.ignored


async def _everything(connection: asyncpg.Connection) -> list[Any]:
    tables = ("events", "quarantine", "quarantine_raw", "assigned_ids")
    return [
        await connection.fetch(f"select * from normalizer.{table} order by 1, 2, 3, 4, 5")
        for table in tables
    ]


async def test_records_far_apart_are_found_without_those_between_them(
    store: Store, connection: asyncpg.Connection
) -> None:
    """As in a redrive of a few entries of a long log, whose records would not fit in memory."""
    claim = await claimed(store)
    await store.write(make_batch(*(envelope(at) for at in range(100)), claim=claim))
    wanted = {(TOPIC, 0, 0, at, 0) for at in (3, 70, *range(10_000, 900_000, 30_000))}

    found = await PostgresStoredEvents(connection).find_row_ids_at(wanted)

    assert found == {(TOPIC, 0, 0, at, 0): snowflake(at) for at in (3, 70)}
    assert sum(last + 1 - first for *_, first, last, _ in _runs(wanted)) < 2 * _MAX_GAP_OFFSETS


@pytest.mark.timeout(400)
async def test_many_reports_of_a_large_row_hold_up_no_other_task_and_are_written(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merging them takes longer than a transaction may be idle."""
    monkeypatch.setattr(stored_rows, "_KEEPALIVE_EVERY_S", 0.2)
    idle = {"idle_in_transaction_session_timeout": "3s"}
    extra = msgspec.json.encode({f"key{n}": n for n in range(100_000)})
    reports = tuple(envelope(event_id=5, worker_id=f"w{n}") for n in range(240))
    longest_s = 0.0

    async def tick() -> None:
        nonlocal longest_s
        while True:
            begun_s = time.monotonic()
            await asyncio.sleep(0.01)
            longest_s = max(longest_s, time.monotonic() - begun_s)

    async with open_store(database, session=idle) as store:
        claim = await claimed(store)
        first = make_batch(envelope(event_id=5, worker_id="v", extra=extra), claim=claim)
        await store.write(first)
        ticking = asyncio.ensure_future(tick())
        begun_s = time.monotonic()
        totals = await store.write(make_batch(reports, claim=after(claim, first)))
        took_s = time.monotonic() - begun_s
        ticking.cancel()

    assert totals.merged + totals.duplicate == len(reports)
    assert took_s > 3
    assert longest_s < 3


@pytest.mark.parametrize("before", [1, 3_000])
async def test_row_that_cannot_be_encoded_goes_to_quarantine(
    store: Store, connection: asyncpg.Connection, before: int
) -> None:
    odd = envelope(before, attempts=1 << 40)
    reports = (*map(envelope, range(before)), odd, envelope(before + 1))
    batch = make_batch(*reports, claim=await claimed(store))

    totals = await store.write(batch)

    assert (totals.stored, totals.quarantined) == (before + 1, 1)
    await assert_ledger_holds(connection)


async def test_an_id_that_no_salt_frees_is_assigned_and_found_again(
    store: Store, connection: asyncpg.Connection
) -> None:
    taken = [derive_id(TOPIC, 0, 0, 4, 0, RECORDED_MS + 4, salt) for salt in range(4)]
    event = envelope(4, event_id=taken[0], step="z")
    claim = await claimed(store)
    first = make_batch(*(envelope(event_id=one, step="a") for one in taken), event, claim=claim)

    totals = await store.write(first)

    assert totals.stored == 5
    (assigned,) = await connection.fetch("select * from normalizer.assigned_ids")
    assert assigned["source_offset"] == 4
    assert (await stored_events(connection))[0].event_id == assigned["event_id"]
    await assert_ledger_holds(connection)


async def test_a_new_incarnation_starts_at_the_log_and_shares_nothing_with_the_old(
    store: Store, connection: asyncpg.Connection
) -> None:
    old = await claimed(store)
    await store.write(make_batch(envelope(0), claim=old))

    new = await store.begin_next_incarnation(await claimed(store), cluster_id="other", log_start=4)
    totals = await store.write(make_batch(envelope(1), claim=new))

    assert (new.incarnation, new.epoch, new.next_offset) == (1, 1, 4)
    assert (new.cluster_id, new.last_offset, new.last_crc) == ("other", None, None)
    assert totals.stored == 1
    assert (await claimed(store)).incarnation == 1
    assert await count(connection, "normalizer.source_positions") == 2
    await assert_ledger_holds(connection)


async def test_a_deleted_position_is_begun_again_in_the_incarnation_that_it_was_of(
    store: Store, connection: asyncpg.Connection
) -> None:
    """Under an earlier one its records would be new to a version that gives them other ids."""
    claim = await store.begin_next_incarnation(await claimed(store), cluster_id="c", log_start=0)
    first = make_batch(envelope(0), claim=claim)
    await store.write(first)
    await connection.execute("delete from normalizer.source_positions")

    again = await claimed(store)
    totals = await store.write(make_batch(envelope(0, event_id=77), claim=again))

    assert (again.incarnation, again.next_offset, again.last_offset) == (1, 0, 0)
    assert (totals.duplicate, await count(connection, "normalizer.events")) == (1, 1)


async def test_a_rejection_says_why_where_and_in_which_shape(
    store: Store, connection: asyncpg.Connection
) -> None:
    rejection = rejected(
        reason="invalid_id", detail="execution_id: expected int or digits", shape="rust_row"
    )
    headers = (("h\0", b"\xff"), ("n", None))
    record = raw_record(3, value=b"bytes \x00\xff", key=None, headers=headers)
    claim = await claimed(store)
    before = make_batch(holes=[(0, 3)], claim=claim)
    await store.write(before)
    await store.write(batch_of_records(after(claim, before), [(record, (rejection,))]))

    row = await connection.fetchrow("select * from normalizer.quarantine")
    assert (row["reason"], row["detail"], row["shape"]) == (
        rejection.reason,
        rejection.detail,
        rejection.shape,
    )
    assert (row["sqlstate"], row["normalizer_version"], row["value_bytes"]) == (
        *(None, RULES_VERSION, 8),
    )
    assert (row["source_topic"], row["source_partition"], row["source_offset"]) == (TOPIC, 0, 3)
    assert row["recorded_at"] == recorded_at(3)
    raw = await connection.fetchrow("select * from normalizer.quarantine_raw")
    assert (raw["key"], raw["value"], raw["whole"]) == (None, b"bytes \x00\xff", True)
    assert msgspec.json.decode(raw["headers"]) == [["h\ufffd", "/w=="], ["n", None]]
    assert raw["value_sha256"] == hashlib.sha256(b"bytes \x00\xff").digest()


RAW: Final[tuple[tuple[RawRecord, bool], ...]] = (
    (raw_record(0, value=b"x" * (1 << 20), key=None), False),
    (raw_record(1, value=b"x" * ((1 << 20) - 2), key=None), True),
    (raw_record(2, value=b"x" * 20_000_000, key=b"k" * 100_000), False),
    (raw_record(3, value=b"x", key=None, headers=(("h", b"y" * (1 << 20)),)), False),
    (raw_record(4, value=b"x", headers=(("h", b"y"),) * 10_000), True),
    (raw_record(5, value=b"", key=b"k" * (1 << 20)), False),
)


async def test_raw_bytes_are_kept_whole_up_to_1_mib_and_beyond_that_their_head_and_hash(
    store: Store, connection: asyncpg.Connection
) -> None:
    items = [(record, (rejected(),)) for record, _ in RAW]
    await store.write(batch_of_records(await claimed(store), items))

    rows = await connection.fetch(
        """
        select   raw.*, rejected.value_bytes
        from     normalizer.quarantine_raw as raw
        join     normalizer.quarantine as rejected using (source_offset)
        order by source_offset
        """
    )
    for (record, whole), row in zip(RAW, rows, strict=True):
        value, limit = record.value or b"", None if whole else 1 << 16
        assert row["whole"] is whole
        assert row["value"] == value[:limit]
        assert row["key"] == (record.key and record.key[:limit])
        assert (row["headers"] is not None) is whole
        assert row["value_sha256"] == hashlib.sha256(value).digest()
        assert row["value_bytes"] == len(value)


async def test_a_record_of_any_time_can_be_rejected(
    store: Store, connection: asyncpg.Connection
) -> None:
    times = [None, -1, -(1 << 62), (1 << 63) - 1, 0]
    items = [
        (raw_record(at, recorded_ms=one), (rejected(detail="a\0b" * 999),))
        for at, one in enumerate(times)
    ]

    totals = await store.write(batch_of_records(await claimed(store), items))

    assert totals.quarantined == len(times)
    rows = await connection.fetch(
        "select recorded_at, detail from normalizer.quarantine order by source_offset"
    )
    assert [row["recorded_at"] is None for row in rows] == [one != 0 for one in times]
    assert {len(row["detail"]) for row in rows} == {500}


async def test_several_events_rejected_in_one_record_keep_its_bytes_once(
    store: Store, connection: asyncpg.Connection
) -> None:
    totals = await store.write(
        make_batch((rejected(), envelope(0), rejected()), claim=await claimed(store))
    )

    assert totals.quarantined == 2
    rows = await connection.fetch(
        "select source_index from normalizer.quarantine order by source_index"
    )
    assert [row[0] for row in rows] == [0, 2]
    assert await count(connection, "normalizer.quarantine_raw") == 1


async def test_rows_by_hand_find_their_id_and_keep_the_mission(
    connection: asyncpg.Connection,
) -> None:
    """Source: docs/spec/envelope.md#c10."""
    await connection.execute(
        "insert into events (execution_id, event_type, status) values (1, 'step.enter', 'X')"
    )

    assert await minutes(connection) == {("step.enter", "X", 0): 1}
    for column, value in (("attempts", "-1"), ("status", "'RUNNING'")):
        row = {"execution_id": "1", "event_type": "'call_done'", "status": "'FAILED'"}
        row[column] = value
        names, values = ", ".join(row), ", ".join(row.values())
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(f"insert into events ({names}) values ({values})")


async def test_a_row_by_hand_whose_json_has_another_form_is_rejected(
    connection: asyncpg.Connection,
) -> None:
    """A report of the same event could not be merged into it."""
    wrong = [("meta", "[]"), ("meta", "null"), ("extra", '"x"'), ("headers", "[]")]
    for column, value in (*wrong, ("coercions", "{}")):
        with pytest.raises(asyncpg.CheckViolationError, match="events_json_forms"):
            await connection.execute(
                f"""
                insert into events (execution_id, event_type, status, {column})
                values (1, 'step.enter', 'X', '{value}')
                """
            )


async def test_a_row_by_hand_is_merged_with_a_report_of_the_same_event(
    store: Store, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        """
        insert into events (event_id, execution_id, event_type, status)
        values (7, 1000, 'call.done', 'FAILED')
        """
    )

    totals = await store.write(
        make_batch(envelope(event_id=7, error="e"), claim=await claimed(store))
    )

    assert totals.merged == 1
    (row,) = await stored_events(connection)
    assert (row.source_topic, row.error, row.step) == ("sql", "e", "fetch")


async def test_a_store_of_a_database_without_our_schema_ends_the_process(
    empty_database: Database,
) -> None:
    async with open_store(empty_database) as store:
        with pytest.raises(FatalError, match="42P01"):
            await claimed(store)
        with pytest.raises(FatalError, match="42P01"):
            await claimed(store)


async def test_a_batch_without_projections_is_stored_and_noted_as_divergent(
    store: Store, connection: asyncpg.Connection, database: Database
) -> None:
    claim = await claimed(store)
    await connection.execute(
        "alter table projector.event_hours add constraint refuses check (step <> 'poison')"
    )
    batch = make_batch(envelope(0, step="poison", execution_id=7), rejected(), claim=claim)

    await store.write(batch, projections=False)

    assert await count(connection, "normalizer.events") == 1
    assert await count(connection, "normalizer.quarantine") == 1
    assert await count(connection, "projector.execution_facts") == 0
    noted = await connection.fetch("select projection, execution_id from projector.divergences")
    next_one = make_batch(envelope(2, execution_id=8), claim=after(claim, batch))
    await store.write(next_one)
    assert await count(connection, "projector.execution_facts") == 1
    await connection.execute("alter table projector.event_hours drop constraint refuses")
    async with projecting(database.admin_url) as owner:
        said = [verdict.verdict async for verdict in repair(owner, RepairRequest())]
    assert set(said) == {"match"}
    await assert_ledger_holds(connection)

    assert {tuple(row) for row in noted if row["execution_id"]} == {
        ("execution_facts", 7),
        ("call_facts", 7),
    }
    assert "event_hours" in {row["projection"] for row in noted}


@pytest.mark.parametrize(
    ("table", "is_free"), [("normalizer.source_positions", False), ("normalizer.events", True)]
)
async def test_the_loop_is_free_only_while_the_database_works_on_the_rows(
    store: Store, database: Database, table: str, is_free: bool
) -> None:
    async with connected(database) as other:
        batch = make_batch(envelope(0), claim=await claimed(store))
        async with other.transaction():
            mode = "share" if is_free else "exclusive"
            await other.execute(f"lock table {table} in {mode} mode")

            writing = asyncio.create_task(store.write(batch))
            await wait_for_lock(other, "one")

            assert store.normalizing_gate.is_set() is is_free
        await writing

    assert store.normalizing_gate.is_set()

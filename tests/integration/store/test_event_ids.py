"""Any 64-bit id is stored, found, exported, and counted, wherever it comes from."""

import asyncio
import contextlib
import random
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest

from normalizer.cli import ledger_check
from normalizer.cli.ledger_verdicts import LedgerPosition, PartitionKey
from normalizer.embedded.postgres_server import find_wheel_binaries
from normalizer.errors import FatalError
from normalizer.jobs.export import Export, ExportSelection
from normalizer.store.migrate import SchemaMismatchError, migrate
from normalizer.store.store import Store
from normalizer.store.stored_rows import _FIND_COORDINATES, _LOCK_EVENTS
from projector.database_session import open_connection as projector_connected
from projector.maintenance.maintain import RetentionPeriods, maintain
from projector.verify.ranges import VerifyScope
from projector.verify.verify import verify
from tests.support.commands import typed
from tests.support.factories import Outcomes, after, envelope, make_batch, snowflake
from tests.support.feed import Feed
from tests.support.job_runs import backfill_files
from tests.support.results import write_defect
from tests.support.stack import Database
from tests.support.table_rows import (
    assert_ledger_holds,
    claimed,
    connected,
    count,
    open_store,
    wait_for_lock,
)

every_postgres = pytest.mark.every_postgres
oldest_in_soak = pytest.mark.every_postgres(oldest_in_soak=True)

LEAST, GREATEST = -(1 << 63), (1 << 63) - 1
DERIVED_FROM, HASHED_FROM = 1 << 62, 3 << 61
"""In September 2026."""


@oldest_in_soak
async def test_ids_of_every_layout_are_stored_merged_and_folded(
    store: Store, connection: asyncpg.Connection, database: Database
) -> None:
    """New events, copies, and reports that change rows, of ids from everywhere in 64 bits."""
    ids = [LEAST, -1, 0, 7, snowflake(), snowflake() * 2, DERIVED_FROM | snowflake()]
    ids += [HASHED_FROM - 1, HASHED_FROM + 99, GREATEST]
    claim = await claimed(store)
    outcomes = []
    for reports in (
        [_call(one, "issued", 0, execution_id=9) for one in ids],
        [_call(one, "issued", 0, execution_id=9) for one in ids],
        [_call(one, "issued", 3, execution_id=9) for one in ids],
    ):
        batch = make_batch(*reports, claim=claim)
        totals = await store.write(batch)
        outcomes.append((totals.stored, totals.duplicate, totals.merged))
        claim = after(claim, batch)

    assert outcomes == [(10, 0, 0), (0, 10, 0), (0, 0, 10)]
    await assert_ledger_holds(connection)
    await assert_folded(database)


@oldest_in_soak
@pytest.mark.parametrize("statement", [_FIND_COORDINATES, _LOCK_EVENTS])
async def test_a_look_up_of_ids_uses_the_index_and_plans_without_them(
    statement: str, store: Store, connection: asyncpg.Connection
) -> None:
    ids = [snowflake(number) for number in range(5_000)]
    await store.write(make_batch(*map(envelope, range(1_000)), claim=await claimed(store)))
    await connection.execute("set plan_cache_mode = force_custom_plan")

    plan = await connection.fetch(f"explain {statement}", ids)

    lines = " ".join(row[0] for row in plan)
    assert "Index Scan on events_pkey" in lines
    assert "Seq Scan" not in lines
    # An array that the planner sees is part of the plan: it then looks at each id of it.
    assert str(ids[0]) not in lines


def _call(event_id: int, what: str, attempts: int, **fields: object) -> Outcomes:
    """Declared attempts outrank defaulted ones, so the second report changes the row."""
    return envelope(
        event_id=event_id,
        event_type=f"command.{what}",
        status="ISSUED",
        command_id=f"command {event_id}",
        attempts=attempts,
        **{"execution_id": event_id >> 3, "evidence": 212 if attempts else 12, **fields},
    )


async def assert_folded(database: Database) -> None:
    async with projector_connected(database.admin_url) as connection:
        async for verdict in verify(connection, VerifyScope()):
            assert verdict.verdict == "match", str(verdict)


async def scattered(database: Database, events: int, folder: Path) -> None:
    """Ids of all of 63 bits, beside three readers whose transactions stay open."""
    chance = random.Random(events)
    async with contextlib.AsyncExitStack() as opened:
        connection = await opened.enter_async_context(connected(database))
        relations = await count(connection, "pg_class")
        for _ in range(3):
            reader = await opened.enter_async_context(connected(database))
            await opened.enter_async_context(reader.transaction())
            await count(reader, "normalizer.events")
        store = await opened.enter_async_context(open_store(database))
        claim = await claimed(store)
        stored = 0
        for first in range(0, events, 150):
            ids = [chance.getrandbits(63) for _ in range(min(150, events - first))]
            batch = make_batch(
                *(envelope(event_id=one, execution_id=1 + one % 997) for one in ids), claim=claim
            )
            totals = await store.write(batch)
            claim = after(claim, batch)
            stored += totals.stored

        assert stored == events
        assert await count(connection, "pg_class") == relations
        await assert_ledger_holds(connection)

    async with projector_connected(database.admin_url) as connection:
        async for done in maintain(
            connection, RetentionPeriods(), dry_run=False, sample=VerifyScope()
        ):
            assert isinstance(done, str) or done.verdict == "match", str(done)
    lines: list[bytes] = []
    assert await Export(database.url, ExportSelection()).run(lines.append) == events
    exported = folder / "events.ndjson"
    exported.write_bytes(b"".join(lines))
    result = await backfill_files(database, exported)
    assert (result.state, result.totals.stored) == ("complete", 0), result.reason
    dumped = ("--file", str(folder / "dump"), "--format=custom", "--dbname", database.admin_url)
    dump = await asyncio.create_subprocess_exec(find_wheel_binaries() / "pg_dump", *dumped)
    assert await dump.wait() == 0
    async with connected(database) as connection:
        assert await count(connection, "normalizer.events") == events
        assert await count(connection, "pg_class") == relations


@oldest_in_soak
async def test_random_ids_make_no_relation_and_stop_nobody(
    database: Database, tmp_path: Path
) -> None:
    await scattered(database, 600, tmp_path)


@pytest.mark.soak
@every_postgres
async def test_twenty_thousand_random_ids_make_no_relation_and_stop_nobody(
    connection: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    began_s = time.monotonic()
    await scattered(database, 20_000, tmp_path)
    version = await connection.fetchval("show server_version")
    write_defect(
        f"20,000 random ids beside three open readers, PostgreSQL {version.split('.')[0]}",
        "no relation more; all stored; maintain, verify, backfill and pg_dump work",
        seconds=time.monotonic() - began_s,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


async def test_the_ledger_counts_so_many_rows_at_a_time_whatever_their_ids(
    store: Store,
    connection: asyncpg.Connection,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chunks: list[tuple[int, int]] = []
    counts = ledger_check._counts

    async def noted(
        connection: asyncpg.Connection,
        query: str,
        positions: Sequence[LedgerPosition],
        *bounds: int,
    ) -> dict[PartitionKey, int]:
        if bounds:
            chunks.append((bounds[0], bounds[1]))
        return await counts(connection, query, positions, *bounds)

    monkeypatch.setattr(ledger_check, "_counts", noted)
    monkeypatch.setattr(ledger_check, "_ROWS_A_CHUNK", 10)
    events = [envelope(number, event_id=number + 1) for number in range(40)]
    await store.write(make_batch(*events, claim=await claimed(store)))
    (explained,) = [one async for one in ledger_check.verify_ledger(database.url, None)]

    stored = "select count(*) from events where event_id between $1 and $2"
    assert max([await connection.fetchval(stored, *chunk) for chunk in chunks]) == 10
    assert explained.wrong == ()


RAISED = """
    update normalizer.layout set protocol = protocol + 1;
    update normalizer.source_positions set epoch = epoch + 1;
    update normalizer.jobs set epoch = epoch + 1;
"""
"""What the first migration asks of one that changes what a writer decides."""


async def test_a_raised_protocol_stops_who_claims_and_fences_who_has(
    store: Store, connection: asyncpg.Connection
) -> None:
    claim = await claimed(store)
    await connection.execute(RAISED)

    with pytest.raises(FatalError, match=r"requires protocol 2, but .* writes protocol 1"):
        await claimed(store)
    with pytest.raises(Exception, match="another process claimed it"):
        await store.write(make_batch(envelope(), claim=claim))

    assert await count(connection, "normalizer.events") == 0
    epoch = await connection.fetchval("select epoch from normalizer.source_positions")
    assert epoch == claim.epoch + 1


async def test_a_claim_that_a_migration_overtakes_is_rejected(
    connection: asyncpg.Connection, database: Database
) -> None:
    """It waits for the migration's row, and its earlier reads are old by then."""
    async with open_store(database, "me") as store:
        await claimed(store)
        async with connection.transaction():
            await connection.execute(RAISED)
            claiming = asyncio.ensure_future(claimed(store))
            await wait_for_lock(connection, "me")

        with pytest.raises(FatalError, match="protocol"):
            await claiming


EARLIER = "update migrations.applied set checksum = 'another' where version in ('0001', '0004')"
"""Files as they stood in another build."""


async def test_the_schema_of_another_build_is_rejected_in_a_sentence_by_every_writer(
    feed: Feed, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    settings = feed.settings()
    records = tmp_path / "records.ndjson"
    records.write_bytes(b'{"execution_id":1,"event_type":"step.enter"}\n')
    await connection.execute(EARLIER)
    await connection.execute("delete from migrations.applied where version = '0009'")
    relations = await count(connection, "pg_class")

    with pytest.raises(SchemaMismatchError):
        await migrate(feed.database.url, report=lambda _: None)
    answers = [
        await typed(settings, *arguments)
        for arguments in (("run",), ("backfill", "file", str(records)))
    ]

    for code, said in answers:
        assert code == 3, said
        assert "0001_create_normalizer, 0004_create_projector" in said
        assert "Run that build, the version of your last deployment" in said
    assert await count(connection, "pg_class") == relations
    assert await count(connection, "normalizer.source_positions") == 0

"""The grid of `events`: no id makes a partition, and each query visits its own ones only."""

import asyncio
import contextlib
import random
import re
import resource
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest

from normalizer.cli import check_database, ledger_check
from normalizer.cli import explain as explaining
from normalizer.cli.check import check
from normalizer.cli.check_result import CheckResult
from normalizer.cli.ledger_findings import LedgerPosition, PartitionKey
from normalizer.embedded.postgres_server import wheel_binaries
from normalizer.errors import FatalError
from normalizer.jobs.engine.job_run import JobRun
from normalizer.jobs.engine.spec import JobSpec
from normalizer.jobs.export import Export, ExportSelection
from normalizer.kafka import TopicReader
from normalizer.settings import Settings
from normalizer.snowflake import EPOCH_MS
from normalizer.store.migrate import SchemaMismatch, migrate
from normalizer.store.store_statements import LOCK_EVENTS, find_coordinates
from projector.database_session import connected as projector_connected
from projector.maintenance.maintain import Keep, maintain
from projector.verify.ranges import Scope
from projector.verify.verify import verify
from tests.support.factories import (
    TOPIC,
    Outcomes,
    after,
    batch_of,
    envelope,
    recorded_at,
    snowflake,
)
from tests.support.job_runs import backfill_files
from tests.support.results import write_defect
from tests.support.service_runs import environment, settings_for
from tests.support.stack import Database, Topic
from tests.support.table_rows import (
    assert_ledger_holds,
    claimed,
    connected,
    count,
    open_store,
    partitions_locked,
    wait_for_lock,
)

every_postgres = pytest.mark.every_postgres
oldest_in_soak = pytest.mark.every_postgres(oldest_in_soak=True)

LEAST, GREATEST = -(1 << 63), (1 << 63) - 1
DERIVED_FROM, HASHED_FROM = 1 << 62, 3 << 61
NOW_MS = 1_790_000_000_000
"""In September 2026."""


async def partitions_of(connection: asyncpg.Connection) -> dict[str, tuple[int, int]]:
    rows = await connection.fetch(
        "select name, low, high from normalizer.event_partitions order by low"
    )
    return {name: (low, high) for name, low, high in rows}


@oldest_in_soak
async def test_the_grid_holds_every_bigint_and_is_what_the_catalogue_says(
    database: Database,
) -> None:
    async with connected(database) as connection:
        partitions = await partitions_of(connection)
        bounds = await connection.fetch(
            """
            select   child.relname::text, pg_get_expr(child.relpartbound, child.oid)
            from     pg_inherits
            join     pg_class as child on child.oid = pg_inherits.inhrelid
            where    pg_inherits.inhparent = 'normalizer.events'::regclass
            """
        )

    edges = list(partitions.values())
    assert edges[0][0] == LEAST
    assert edges[-1][1] == GREATEST
    assert all(one[1] + 1 == other[0] for one, other in pairwise(edges))
    assert {name: _bounds_of(text) for name, text in bounds} == partitions
    assert len(partitions) == 116


def _bounds_of(text: str) -> tuple[int, int]:
    low, high = re.findall(r"'(-?\d+)'|M[IA][NX]VALUE", text)
    return int(low or LEAST), int(high) - 1 if high else GREATEST


@oldest_in_soak
async def test_an_id_at_every_border_lies_in_its_own_cell(database: Database) -> None:
    async with open_store(database) as store, connected(database) as connection:
        partitions = await partitions_of(connection)
        borders = sorted({bound for bounds in partitions.values() for bound in bounds})
        batch = batch_of(*(envelope(event_id=one) for one in borders), claim=await claimed(store))

        totals = await store.write(batch)

        rows = await connection.fetch("select tableoid::regclass::text, event_id from events")
        found = {event_id: name.removeprefix("normalizer.") for name, event_id in rows}
        assert totals.stored == len(borders)
        assert found == {bound: name for name, bounds in partitions.items() for bound in bounds}
        await assert_ledger_holds(connection)


async def test_an_id_of_each_region_lies_in_a_partition_that_is_named_for_it(
    database: Database,
) -> None:
    now = datetime.fromtimestamp(NOW_MS / 1000, UTC)
    columns = {"events_010": "application_from", "events_020": "doubled_from"}
    async with connected(database) as connection:
        for event_id, named in (
            (-1, "events_negative"),
            (7, "events_small"),
            ((NOW_MS - EPOCH_MS) << 22, "events_010"),
            ((NOW_MS - EPOCH_MS) << 23, "events_020"),
            (DERIVED_FROM | (NOW_MS - EPOCH_MS) << 22, "events_derived_010"),
            (HASHED_FROM + 5, "events_hashed"),
            (4_000_000_000_000_000_000, "events_future"),
            (HASHED_FROM - 1, "events_derived_future"),
        ):
            lies_in = await connection.fetchval(
                """
                insert into events (event_id, execution_id, event_type, status)
                values ($1, 1, 'step.enter', 'ENTERED')
                returning tableoid::regclass::text
                """,
                event_id,
            )
            part = await connection.fetchrow(
                "select * from event_partitions where name = $1", named
            )

            assert lies_in.removeprefix("normalizer.") == named
            column = columns.get(named)
            assert column is None or 0 <= (now - part[column]).days < 100


@oldest_in_soak
@pytest.mark.parametrize("statement", [find_coordinates(1), LOCK_EVENTS])
async def test_a_look_up_visits_one_partition_and_weighs_no_id(
    statement: str, database: Database
) -> None:
    ids = [snowflake(number) for number in range(5_000)]
    async with open_store(database) as store, connected(database) as connection:
        await store.write(batch_of(*map(envelope, range(1_000)), claim=await claimed(store)))
        low, high = _cell_of(await partitions_of(connection), ids[0])
        await connection.execute("set plan_cache_mode = force_custom_plan")

        plan = await connection.fetch(f"explain {statement}", low, high, ids)

    lines = " ".join(row[0] for row in plan)
    assert set(re.findall(r" on (events\w*)", lines)) == {"events_006"}
    assert "Index Scan" in lines
    # An array that the planner sees is part of the plan: it then looks at each id of it.
    assert str(ids[0]) not in lines


def _cell_of(partitions: dict[str, tuple[int, int]], event_id: int) -> tuple[int, int]:
    return next(one for one in partitions.values() if one[0] <= event_id <= one[1])


async def watch_locks(connection: asyncpg.Connection) -> None:
    """At its commit, every writing transaction notes which partitions it has locked."""
    await connection.execute(
        """
        create table public.locked (relation text not null);
        grant insert on public.locked to public;

        create function public.note_locks() returns trigger language plpgsql as $$
        begin
            insert into public.locked
            select distinct pg_class.relname
            from   pg_locks
            join   pg_class on pg_class.oid = pg_locks.relation
            where  pg_locks.pid = pg_backend_pid()
            and    pg_class.relnamespace = 'normalizer'::regnamespace
            and    pg_class.relname like 'events%';
            return null;
        end
        $$;

        create constraint trigger note_locks
            after update on normalizer.source_positions
            deferrable initially deferred
            for each row execute function public.note_locks();
        """
    )


async def locked(connection: asyncpg.Connection) -> set[str]:
    """The partitions that the last transaction had locked."""
    rows = await connection.fetch("delete from public.locked returning relation")
    partitions = await partitions_of(connection)
    return {row["relation"] for row in rows} & partitions.keys()


@every_postgres
async def test_a_batch_locks_the_partitions_of_its_ids_and_no_other(database: Database) -> None:
    """New events, copies, and reports that change rows: then executions and calls are folded."""
    ids = {
        "events_006": snowflake(),
        "events_013": snowflake() * 2,
        "events_derived_006": DERIVED_FROM | snowflake(),
        "events_hashed": HASHED_FROM + 99,
    }
    async with open_store(database) as store, connected(database) as connection:
        await watch_locks(connection)
        claim = await claimed(store)
        await locked(connection)
        batches: list[Sequence[Outcomes]] = [
            [_call(one, "issued", 0) for one in ids.values()],
            [_call(one, "issued", 0) for one in ids.values()],
            [_call(one, "issued", 0, worker_id="reported again") for one in ids.values()],
            [_call(one, "issued", 3) for one in ids.values()],
        ]
        for _ in range(3):
            for reports in batches:
                batch = batch_of(*reports, claim=claim)
                await store.write(batch)
                claim = after(claim, batch)

                assert await locked(connection) == ids.keys()

    await assert_folded(database)


@every_postgres
async def test_one_region_is_folded_without_a_look_at_what_lies_between_two(
    database: Database,
) -> None:
    """An execution of ids of three regions, of which one event turns out to be of another time."""
    ids = [snowflake(), DERIVED_FROM | snowflake(), HASHED_FROM + 1]
    async with open_store(database) as store, connected(database) as connection:
        await watch_locks(connection)
        claim = await claimed(store)
        first = batch_of(
            *(_call(one, "issued", 0, execution_id=9, evidence=10) for one in ids), claim=claim
        )
        await store.write(first)
        claim = after(claim, first)
        await locked(connection)

        report = _call(ids[0], "issued", 0, execution_id=9, created_at=recorded_at(-5_000))
        await store.write(batch_of(report, claim=claim))

        assert await locked(connection) == {
            "events_006",
            "events_derived_006",
            "events_hashed",
        }
        bounds = await connection.fetchrow(
            """
            select least_event_id, greatest_event_id, least_derived_id, greatest_derived_id,
                   least_hashed_id, greatest_hashed_id
            from   projector.executions
            """
        )
        assert tuple(bounds) == tuple(one for event_id in ids for one in (event_id, event_id))
    await assert_folded(database)


@oldest_in_soak
async def test_the_timeline_of_an_execution_is_read_where_its_ids_are(database: Database) -> None:
    ids = [snowflake(), DERIVED_FROM | snowflake(), HASHED_FROM + 1]
    async with open_store(database) as store, connected(database) as connection:
        claim = await claimed(store)
        reports = [_call(one, "issued", 0, execution_id=9) for one in ids]
        await store.write(batch_of(*reports, claim=claim))

        async with connection.transaction():
            await connection.execute("set local role projector_reader")
            shown = await connection.fetch(
                "select event_id from projector.execution_timeline where execution_id = $1", 9
            )
            await connection.execute("reset role")
            locked = await partitions_locked(connection)

    assert sorted(event_id for (event_id,) in shown) == ids
    assert locked == {"events_006", "events_derived_006", "events_hashed"}


async def test_a_record_is_explained_partition_by_partition(database: Database) -> None:
    """Its coordinates say nothing of ids; a statement over all would lock every partition."""
    ids = [snowflake(), HASHED_FROM + 1]
    async with open_store(database) as store, connected(database) as connection:
        record = tuple(envelope(0, event_id=one) for one in reversed(ids))
        await store.write(batch_of(record, claim=await claimed(store)))

        async with connection.transaction():
            events = await explaining._stored_events(connection, TOPIC, 0, 0, 0)
            locked = await partitions_locked(connection)

    assert [event["event_id"] for event in reversed(events)] == ids
    assert locked == {"events_006", "events_hashed"}


async def test_records_read_again_are_looked_for_where_there_are_any(database: Database) -> None:
    """By their coordinates, which say nothing of ids: in the partitions that hold something."""
    events = [envelope(number) for number in range(5)]
    async with open_store(database) as store, connected(database) as connection:
        await store.write(batch_of(*events, claim=await claimed(store)))
        await watch_locks(connection)
        await connection.execute("delete from normalizer.source_positions")
        claim = await claimed(store)

        totals = await store.write(batch_of(*events, claim=claim))

        assert totals.duplicate == 5
        assert await locked(connection) == {"events_006"}


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
        async for verdict in verify(connection, Scope()):
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
            batch = batch_of(
                *(envelope(event_id=one, execution_id=1 + one % 997) for one in ids), claim=claim
            )
            totals = await store.write(batch)
            claim = after(claim, batch)
            stored += totals.stored

        assert stored == events
        assert await count(connection, "pg_class") == relations
        await assert_ledger_holds(connection)

    async with projector_connected(database.admin_url) as connection:
        async for done in maintain(connection, Keep(), dry_run=False, sample=Scope()):
            assert isinstance(done, str) or done.verdict == "match", str(done)
    lines: list[bytes] = []
    assert await Export(database.url, ExportSelection()).run(lines.append) == events
    exported = folder / "events.ndjson"
    exported.write_bytes(b"".join(lines))
    result = await backfill_files(database, exported)
    assert (result.state, result.totals.stored) == ("complete", 0), result.reason
    dumped = ("--file", str(folder / "dump"), "--format=custom", "--dbname", database.admin_url)
    dump = await asyncio.create_subprocess_exec(wheel_binaries() / "pg_dump", *dumped)
    assert await dump.wait() == 0
    async with connected(database) as connection:
        assert await count(connection, "normalizer.events") == events
        assert await count(connection, "pg_class") == relations


@oldest_in_soak
async def test_random_ids_make_no_partition_and_stop_nobody(
    database: Database, tmp_path: Path
) -> None:
    await scattered(database, 600, tmp_path)


@pytest.mark.soak
@every_postgres
async def test_twenty_thousand_random_ids_make_no_partition_and_stop_nobody(
    database: Database, tmp_path: Path
) -> None:
    began_s = time.monotonic()
    await scattered(database, 20_000, tmp_path)
    async with connected(database) as connection:
        version = await connection.fetchval("show server_version")
    write_defect(
        f"20,000 random ids beside three open readers, PostgreSQL {version.split('.')[0]}",
        "no relation more; all stored; maintain, verify, backfill and pg_dump work",
        seconds=time.monotonic() - began_s,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


async def test_an_export_holds_negative_ids_too(database: Database) -> None:
    async with connected(database) as connection:
        for event_id in (LEAST, -1, 0, snowflake(), GREATEST):
            await connection.execute(
                "insert into events (event_id, execution_id, event_type, status) "
                "values ($1, 5, 'step.enter', 'ENTERED')",
                event_id,
            )
    lines: list[bytes] = []

    everything = await Export(database.url, ExportSelection()).run(lines.append)
    of_one = await Export(database.url, ExportSelection(executions=(5,))).run(lines.append)

    assert (everything, of_one) == (5, 5)


async def test_the_ledger_counts_so_many_rows_at_a_time_whatever_their_ids(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small ids lie at the beginning of the trillion that their partition holds."""
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
    async with open_store(database) as store, connected(database) as connection:
        events = [envelope(number, event_id=number + 1) for number in range(40)]
        await store.write(batch_of(*events, claim=await claimed(store)))
        await connection.execute("analyze normalizer.events_small")

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


async def test_a_raised_protocol_stops_who_claims_and_fences_who_has(database: Database) -> None:
    async with open_store(database) as store, connected(database) as connection:
        claim = await claimed(store)
        await connection.execute(RAISED)

        with pytest.raises(FatalError, match=r"requires protocol 2, and this version .* writes 1"):
            await claimed(store)
        with pytest.raises(Exception, match="another process claimed it"):
            await store.write(batch_of(envelope(), claim=claim))

        assert await count(connection, "normalizer.events") == 0
        epoch = await connection.fetchval("select epoch from normalizer.source_positions")
        assert epoch == claim.epoch + 1


async def test_a_claim_that_a_migration_overtakes_is_refused(database: Database) -> None:
    """It waits for the migration's row; what it has read before is old by then."""
    async with open_store(database, "me") as store, connected(database) as connection:
        await claimed(store)
        async with connection.transaction():
            await connection.execute(RAISED)
            claiming = asyncio.ensure_future(claimed(store))
            await wait_for_lock(connection, "me")

        with pytest.raises(FatalError, match="protocol"):
            await claiming


async def test_a_raised_protocol_stops_a_job_at_its_start(database: Database) -> None:
    spec = JobSpec(kind="backfill", source="a file")
    async with connected(database) as connection:
        await connection.execute(RAISED)

        with pytest.raises(FatalError, match="requires protocol 2"):
            await JobRun.begin(database.url, spec, owner="me")

        assert await count(connection, "normalizer.jobs") == 0


EARLIER = "update migrations.applied set checksum = 'another' where version in ('0001', '0004')"
"""Files as they stood in another build."""


async def test_the_schema_of_another_build_is_refused_in_a_sentence_by_every_writer(
    database: Database, topic: Topic, bootstrap_servers: str, tmp_path: Path
) -> None:
    settings = settings_for(database, topic, bootstrap_servers)
    records = tmp_path / "records.ndjson"
    records.write_bytes(b'{"execution_id":1,"event_type":"step.enter"}\n')
    async with connected(database) as connection:
        await connection.execute(EARLIER)
        await connection.execute("delete from migrations.applied where version = '0013'")
        await claim_for_up(connection, settings)
        relations = await count(connection, "pg_class")

        with pytest.raises(SchemaMismatch):
            await migrate(database.url, report=lambda _: None)
        answers = [
            await typed(settings, *arguments)
            for arguments in (
                ("run",),
                ("run", "--no-kafka", str(records)),
                ("up", "--external", "--folder", str(tmp_path / "stack")),
            )
        ]

        for code, said in answers:
            assert code == 3, said
            assert "0001_create_normalizer, 0004_create_execution_projections" in said
            assert "run that build, the version of your last deployment" in said
        assert await count(connection, "pg_class") == relations
        assert await count(connection, "normalizer.source_positions") == 0


async def claim_for_up(connection: asyncpg.Connection, settings: Settings) -> None:
    """As `normalizer up` has left a database that it made."""
    async with TopicReader(settings) as log:
        cluster_id = await log.cluster_id()
    await connection.execute(
        """
        create schema up;
        create table up.played (topic text not null, cluster_id text not null);
        grant usage on schema up to public;
        grant select on up.played to public;
        """
    )
    await connection.execute(
        "insert into up.played (topic, cluster_id) values ($1, $2)",
        settings.kafka_topics[0],
        cluster_id,
    )


async def typed(settings: Settings, *arguments: str) -> tuple[int | None, str]:
    """The exit code and what was said."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "normalizer", *arguments),
        env=environment(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await child.communicate()
    return child.returncode, said.decode()


async def test_check_says_when_the_lock_table_is_small_and_when_the_grid_ends(
    database: Database, topic: Topic, bootstrap_servers: str
) -> None:
    settings = settings_for(database, topic, bootstrap_servers)

    today = await findings(settings, NOW_MS / 1000)
    late = await findings(settings, datetime(2032, 6, 1, tzinfo=UTC).timestamp())

    assert not today["locks"].remedy
    assert re.search(
        r"over all of events takes 928 locks, the server has room for about [\d,]+$",
        today["locks"].message,
    )
    assert today["partitions"] == CheckResult("partitions", "they exist up to 2034-01")
    assert "`normalizer migrate`" in late["partitions"].remedy


async def findings(settings: Settings, now_s: float) -> dict[str, CheckResult]:
    async with TopicReader(settings) as log:
        return {one.about: one async for one in check(settings, log, clock=lambda: now_s)}


async def test_check_says_when_the_lock_table_is_too_small(
    database: Database, topic: Topic, bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = check_database._GRID
    for setting, value in (("max_connections", 20), ("max_locks_per_transaction", 100)):
        assert f"current_setting('{setting}')" in grid
        grid = grid.replace(f"current_setting('{setting}')", f"'{value}'")
    monkeypatch.setattr(check_database, "_GRID", grid)

    found = await findings(settings_for(database, topic, bootstrap_servers), NOW_MS / 1000)

    assert "the server has room for about 2,000" in found["locks"].message
    assert "max_locks_per_transaction" in found["locks"].remedy

"""`normalizer forget`: nothing of it is left, every count is, and no replay brings it back."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from normalizer.config.settings import Settings
from normalizer.core.batch import Batch
from normalizer.core.drift import DriftDetector
from normalizer.core.raw_record import RawRecord
from normalizer.errors import FatalError, StoreUnavailableError
from normalizer.jobs import forget
from normalizer.jobs.forget import ErasureWhoAndWhy, ExecutionToForget, Forget
from normalizer.jobs.sources.file_source import FileSource
from normalizer.monitoring.lag import LagMonitor
from normalizer.monitoring.monitoring_server import insert_drift_findings
from normalizer.snowflake import hash_text_id
from normalizer.store import retrying_session
from normalizer.store.position_changes import PositionChange, change_position
from normalizer.store.retrying_session import RetryingSession
from tests.integration.maintenance.test_maintain import without_executions
from tests.support import view_rows
from tests.support.api_client import api_client, get_rows
from tests.support.commands import typed
from tests.support.doc_pages import blocks
from tests.support.factories import TOPIC, batch_of_records, raw_event, raw_record, snowflake
from tests.support.job_runs import (
    NORMALIZE,
    backfill_files,
    job_settings,
    ledger_mistakes,
    ndjson,
    run_dry,
    write_file,
)
from tests.support.stack import Database
from tests.support.table_rows import (
    claimed,
    connected,
    count,
    everything,
    insert_row,
    open_store,
    read_position,
    read_totals,
)
from tests.support.view_rows import differences

GONE: Final = 543_942_402_461_926_429
KEPT: Final = 543_942_402_461_926_430
MARK: Final = "marble-4711"
"""Stands in all that the execution that goes ever said."""
WHY: Final = ErasureWhoAndWhy(who="alice", why="request 17")


def life(execution_id: int, first: int) -> list[dict[str, Any]]:
    """The producer's records: a start, a failed try, a retry, an end, and one report twice."""
    mark = MARK if execution_id == GONE else "nothing"
    said = {"said": mark}
    named = {"execution_id": execution_id, "step": "fetch", "command_id": f"{first}:fetch"}
    kinds: list[dict[str, Any]] = [
        {"event_type": "playbook.started", "context": {"path": "flow/a"} | said, "step": ""},
        {"event_type": "command.issued", "context": said},
        {"event_type": "call.done", "status": "ERROR", "error": f"no answer for '{mark}'"},
        {"event_type": "command.issued", "meta": {"attempts": 1}, "context": said},
        {"event_type": "call.done", "meta": {"attempts": 1}, "result": said},
        {"event_type": "call.done", "meta": {"attempts": 1}, "context": {"b": mark}}
        | {"result": said},
        {"event_type": "playbook.completed", "context": said},
    ]
    return [
        raw_event(first + number, **{"worker_id": "w"} | named | kind)
        | {"event_id": snowflake(first + min(number, 4 if number < 6 else 9))}
        for number, kind in enumerate(kinds)
    ]


def records() -> list[RawRecord]:
    """Two executions, with rejected records of both, one of them only by key and header."""
    ours, others = life(GONE, 0), life(KEPT, 100)
    sent: list[Any] = [event for pair in zip(ours, others, strict=True) for event in pair]
    sent += [
        {"execution_id": GONE, "said": MARK},
        {"execution_id": KEPT, "said": "nothing"},
        b'{"execution_id":"%d","said":"%s", broken' % (GONE, MARK.encode()),
        b"broken",
        b"broken too",
    ]
    made = [raw_record(offset, value, key=None) for offset, value in enumerate(sent)]
    made[-2] = msgspec.structs.replace(made[-2], key=str(GONE).encode())
    made[-1] = msgspec.structs.replace(made[-1], headers=(("of", str(GONE).encode()),))
    return made


async def read(database: Database, raw: list[RawRecord], topic: str = TOPIC) -> Batch:
    """Write the records as the service does, from the position on."""
    async with open_store(database) as store:
        claim = await claimed(store, topic=topic)
        placed = [
            msgspec.structs.replace(record, topic=topic, offset=claim.next_offset + number)
            for number, record in enumerate(raw)
        ]
        batch = batch_of_records(claim, [(record, NORMALIZE(record)) for record in placed])
        await store.write(batch)
        return batch


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    async with connected(database) as made:
        await read(database, records())
        yield made


async def where(connection: asyncpg.Connection, text: str) -> set[str]:
    """Which tables hold the text."""
    return {table for table, rows in (await everything(connection)).items() if text in rows}


async def forgotten(database: Database, execution_id: int = GONE) -> forget.ErasedCounts:
    return await Forget(database.url, ExecutionToForget(execution_id=execution_id)).run(WHY)


async def counts(connection: asyncpg.Connection) -> dict[str, Any]:
    return without_executions(await view_rows.view_rows(connection))


async def test_nothing_of_it_is_left_and_every_count_is(
    connection: asyncpg.Connection, database: Database
) -> None:
    before = await counts(connection)
    totals = await read_totals(connection)
    assert (totals.stored, totals.merged, totals.quarantined) == (12, 2, 5)
    assert len(await where(connection, MARK)) >= 3
    rejected = "select reason, source_offset from normalizer.quarantine order by 2"
    entries = await connection.fetch(rejected)

    dry = await Forget(database.url, ExecutionToForget(execution_id=GONE)).count_rows()
    assert await counts(connection) == before
    erased = await forgotten(database)

    assert dry == erased == forget.ErasedCounts(events=6, calls=2, reports=1, rejected=4)
    assert await where(connection, MARK) == set()
    assert await where(connection, str(GONE)) == {"normalizer.forgotten_executions"}
    assert differences(await counts(connection), before) == {}
    assert await connection.fetch(rejected) == entries
    assert await read_totals(connection) == totals
    row = await connection.fetchrow("select * from normalizer.forgotten_executions")
    assert (row["who"], row["why"], row["events"], row["rejected"]) == ("alice", "request 17", 6, 4)
    assert row["ended_at"] is not None
    assert await count(connection, "normalizer.merged_records") == 1
    assert await ledger_mistakes(database) == []


async def executions_of_entries(connection: asyncpg.Connection) -> list[int | None]:
    rows = await connection.fetch(
        "select execution_id from normalizer.quarantine order by source_offset"
    )
    return [row["execution_id"] for row in rows]


async def sources_of_executions(connection: asyncpg.Connection) -> list[str | None]:
    rows = await connection.fetch(
        "select execution_id_source from projector.quarantine_records order by source_offset"
    )
    return [row["execution_id_source"] for row in rows]


async def test_forget_erases_the_execution_of_entries_without_bytes(
    database: Database, connection: asyncpg.Connection
) -> None:
    """An entry has its execution from the value, else from the key."""
    assert await executions_of_entries(connection) == [GONE, KEPT, None, GONE, None]
    assert await sources_of_executions(connection) == ["value", "value", None, "key", None]
    # As retention leaves them: the entry without its bytes.
    await connection.execute("delete from normalizer.quarantine_raw")

    counted = await Forget(database.url, ExecutionToForget(execution_id=GONE)).count_rows()
    erased = await forgotten(database)

    assert counted.rejected == erased.rejected == 2
    assert await executions_of_entries(connection) == [None, KEPT, None, None, None]
    assert await sources_of_executions(connection) == [None, "value", None, None, None]
    details = await connection.fetch(
        "select detail from normalizer.quarantine where execution_id is null order by source_offset"
    )
    erased_ones = [row["detail"] == "erased with its execution" for row in details]
    assert erased_ones == [True, False, True, False]


async def test_the_page_lists_the_executions_of_a_person(
    connection: asyncpg.Connection, database: Database
) -> None:
    """Those that say the text, and those that they started, however deep."""
    started = [
        raw_event(200 + number, execution_id=execution, parent_execution_id=parent)
        for number, (execution, parent) in enumerate([(71, GONE), (72, 71), (73, KEPT)])
    ]
    await read(database, [raw_record(100 + n, event, key=None) for n, event in enumerate(started)])
    (listing,) = (one.text for one in blocks("operate/erase.md", "sql"))

    rows = await connection.fetch(listing.replace("alice@example.com", MARK))

    assert [row["execution_id"] for row in rows] == [71, 72, GONE]


async def test_no_replay_brings_it_back(
    connection: asyncpg.Connection, database: Database, tmp_path: Any
) -> None:
    """The same records after a rewind, sent again on another topic, and from a file."""
    await forgotten(database)
    before = await counts(connection)
    shown_rows = await connection.fetch("select event_id from normalizer.events order by 1")
    position = await read_position(connection)
    part = (await read(database, [])).parts[0]
    back = msgspec.structs.replace(
        part, from_offset=position["next_offset"], next_offset=0, items=[]
    )
    change = PositionChange(action="rewind", who="me", why="again")
    await change_position(database.url, change, back)

    again = await read(database, records())
    resent = await read(database, records()[:14], topic="another")
    file = write_file(tmp_path / "history.ndjson", ndjson(*life(GONE, 0)))
    dry = await run_dry(database, FileSource([file]))
    verdict = await backfill_files(database, file)

    assert await where(connection, MARK) == set()
    assert await connection.fetch("select event_id from normalizer.events order by 1") == shown_rows
    assert differences(await counts(connection), before) == {}
    totals = await read_totals(connection)
    assert len(again.parts[0].items) == 19
    # Two of the ignored ones are rejected records that name it in their value or key.
    assert (totals.stored, totals.ignored, totals.duplicate) == (12, 9, 10)
    another = await connection.fetchrow(
        "select ignored, duplicate from normalizer.source_positions where topic = 'another'"
    )
    assert (tuple(another), len(resent.parts[0].items)) == ((7, 7), 14)
    assert (dry.counts["forgotten"], dry.counts["new"]) == (7, 0)
    assert (verdict.state, verdict.totals.ignored, verdict.totals.stored) == ("complete", 7, 0)
    assert await ledger_mistakes(database) == []


async def test_a_replay_keeps_no_undecodable_item_of_its_batches(
    connection: asyncpg.Connection, database: Database
) -> None:
    """Only the batch names the execution, because the item isn't even an object."""
    batches = [
        {"execution_id": GONE, "events": [f"{MARK} {{"]},
        {"execution_id": KEPT, "events": ["nothing {"]},
    ]
    sent = [raw_record(number, batch, key=None) for number, batch in enumerate(batches)]
    await read(database, sent, topic="batches")
    entries = "select execution_id from normalizer.quarantine where source_topic = 'batches'"
    await forgotten(database)

    await read(database, sent, topic="batches")

    assert await where(connection, MARK) == set()
    named = await connection.fetch(f"{entries} order by source_offset")
    assert [row["execution_id"] for row in named] == [None, KEPT, KEPT]
    assert await ledger_mistakes(database) == []


async def test_killed_after_any_transaction_it_ends_the_same(
    connection: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a transaction was done and its answer was lost."""
    before = await counts(connection)
    platform_outcome = RetryingSession.run

    async def run_until(transactions: int) -> bool:
        """Whether it came to its end within this number of transactions."""
        left = transactions

        async def dying(self: RetryingSession, work: Any, **how: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return await platform_outcome(self, work, **how)

        monkeypatch.setattr(RetryingSession, "run", dying)
        try:
            await forgotten(database)
        except KeyboardInterrupt:
            return False
        finally:
            monkeypatch.setattr(RetryingSession, "run", platform_outcome)
        return True

    transactions = 1
    while not await run_until(transactions):
        transactions += 1
        assert await ledger_mistakes(database) == []
    assert differences(await counts(connection), before) == {}

    assert transactions > 10
    assert await where(connection, MARK) == set()
    row = await connection.fetchrow("select * from normalizer.forgotten_executions")
    assert (row["events"], row["rejected"], row["ended_at"] is None) == (6, 4, False)
    assert await ledger_mistakes(database) == []


async def test_a_batch_that_began_before_is_waited_for(
    connection: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not have seen that the execution is to go, and writes an event of it."""
    monkeypatch.setattr(forget, "_ABORT_AFTER_S", 0.2)
    async with connected(database) as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute("select from normalizer.forgotten_executions")

        with pytest.raises(StoreUnavailableError, match="an earlier batch is still running"):
            await forgotten(database)
        left = await count(connection, f"normalizer.events where execution_id = {GONE}")
        await writer.execute(
            "insert into normalizer.events (event_id, execution_id, event_type, status, context) "
            "values (7, $1, 'call.done', 'FAILED', jsonb_build_array($2::text))",
            GONE,
            MARK,
        )
        await transaction.commit()

    assert left == 6
    assert (await forgotten(database)).events == 7
    assert await where(connection, MARK) == set()
    assert await ledger_mistakes(database) == []


async def test_a_row_that_somebody_has_locked_is_waited_for_without_the_execution(
    connection: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer may ask for the execution next."""
    tried = asyncio.Event()
    delete = Forget._delete_unless_locked

    async def noted(self: Forget, using: asyncpg.Connection) -> int | None:
        deleted = await delete(self, using)
        tried.set()
        return deleted

    monkeypatch.setattr(Forget, "_delete_unless_locked", noted)
    async with connected(database) as other:
        async with other.transaction():
            await other.execute(
                "select from normalizer.events where execution_id = $1 limit 1 for update", GONE
            )
            erasure = asyncio.create_task(forgotten(database))
            await tried.wait()
            await other.execute(
                "select from projector.execution_facts where execution_id = $1 for update", GONE
            )
        erased = await erasure

    assert erased == forget.ErasedCounts(events=6, calls=2, reports=1, rejected=4)
    assert await where(connection, MARK) == set()


async def test_an_execution_whose_events_were_miscounted_is_repaired_first(
    connection: asyncpg.Connection, database: Database
) -> None:
    """Its count says that a row is missing, which looks like one that somebody has locked."""
    await connection.execute(
        "update projector.execution_facts set events = events + 1 where execution_id = $1", GONE
    )

    with pytest.raises(FatalError, match=r"projector repair --executions"):
        async with asyncio.timeout(60):
            await forgotten(database)


async def test_an_execution_that_takes_too_long_to_delete_is_named_with_what_to_do(
    connection: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying_session, "_MAX_TIMEOUTS_IN_A_ROW", 2)
    monkeypatch.setattr(forget, "_LEAST_TIMEOUT_MS", 500)
    await connection.execute(
        """
        create function sleep() returns trigger language plpgsql as
            'begin perform pg_sleep(60); return old; end';
        create trigger slow before delete on normalizer.events
            for each row execute function sleep();
        """
    )
    why = f"its time limit: execution {GONE} has 6 events; run the same command again while"

    with pytest.raises(FatalError, match=why):
        await forgotten(database)

    await connection.execute("drop trigger slow on normalizer.events")
    assert (await forgotten(database)).events == 6


@pytest.mark.parametrize("of", [GONE, None])
async def test_forget_waits_for_the_repair_of_an_open_divergence(
    connection: asyncpg.Connection, database: Database, of: int | None
) -> None:
    """Whether this execution is known to differ, or any may."""
    await connection.execute(
        "insert into projector.divergences (projection, execution_id, noted_by) "
        "values ('execution_facts', $1, 'verify')",
        of,
    )

    for attempt in (
        Forget(database.url, ExecutionToForget(execution_id=GONE)).count_rows(),
        forgotten(database),
    ):
        with pytest.raises(FatalError, match=f"projector repair --executions {GONE}"):
            await attempt

    assert await count(connection, "normalizer.forgotten_executions") == 0
    assert await count(connection, f"normalizer.events where execution_id = {GONE}") == 6


async def test_an_execution_is_found_by_the_text_that_its_producer_calls_it(
    database: Database,
) -> None:
    settings = job_settings(database)
    named = [raw_event(n, execution_id="run/a b", command_id="c") for n in range(2)]
    rejected = {"execution_id": "run/a b", "said": MARK}
    async with connected(database) as connection:
        sent = [raw_record(at, one, key=None) for at, one in enumerate([*named, rejected])]
        await read(database, sent)

        dry = await typed(settings, "forget", "run/a b", "--why", "r", "--dry-run")
        kept = await count(connection, "normalizer.events")
        done = await typed(settings, "forget", "run/a b", "--why", "r", "--who", "bob")
        row = await connection.fetchrow("select * from normalizer.forgotten_executions")

        assert await where(connection, "run/a b") == set()
    what = "2 events, 1 calls, notes of 0 records that reported them again, the bytes of 1 rejected"
    assert (dry[0], kept) == (0, 2)
    assert f"nothing was changed. It would delete: {what}" in dry[1]
    assert done == (0, f"erased execution {hash_text_id('run/a b')}: {what} records\n")
    assert (row["execution_id"], row["who"], row["why"]) == (hash_text_id("run/a b"), "bob", "r")


BEFORE = (b" ", b"\\n", b"\\u000a")
"""A letter that ends an escape is no part of a word."""


async def test_a_name_in_rejected_bytes_is_found_however_json_escapes_it(
    database: Database,
) -> None:
    name = 'grö/&"a"\U0001f600'
    spellings = (
        'gr\\u00f6/&\\"a\\"\\ud83d\\ude00',
        'gr\\u00F6\\/\\u0026\\"a\\"\\uD83D\\uDE00',
        'grö/&\\"a\\"\U0001f600',
        "grö\\u002F&\\u0022a\\u0022\U0001f600",
    )
    values = [b'{"execution_id":"%s","said":1}' % one.encode() for one in spellings]
    assert {msgspec.json.decode(value)["execution_id"] for value in values} == {name}
    values += [b'{"said":1,"of":"ids:%s%s"' % (at, spellings[0].encode()) for at in BEFORE]
    execution = ExecutionToForget.parse(name)
    async with connected(database) as connection:
        sent = [raw_record(at, value, key=None) for at, value in enumerate(values)]
        await read(database, [raw_record(9, raw_event(1, execution_id=name), key=None), *sent])

        erased = await Forget(database.url, execution).run(WHY)

        assert erased.rejected == len(values)
        assert await where(connection, "said") == set()


async def test_forget_deletes_notes_that_a_job_makes_meanwhile(
    connection: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_pages = Forget._each_page

    async def noted(self: Forget, statement: str, found: Any) -> int:
        await insert_row(connection, "normalizer.jobs", kind="renormalize")
        await connection.execute(
            "insert into normalizer.job_rejections (job_id, run, event_id, reason, detail) "
            "select 'j', 1, event_id, 'not_an_event', $2 from normalizer.events "
            "where execution_id = $1",
            GONE,
            MARK,
        )
        return await read_pages(self, statement, found)

    monkeypatch.setattr(Forget, "_each_page", noted)
    await forgotten(database)

    assert await where(connection, MARK) == set()


async def test_drift_brings_no_value_of_it_back(
    connection: asyncpg.Connection, database: Database
) -> None:
    await forgotten(database)
    drift_detector = DriftDetector()
    sent = [
        raw_record(n, raw_event(n, execution_id=one) | {f"new_{one}": MARK}, key=None)
        for n, one in enumerate((GONE, KEPT))
    ]
    drift_detector.inspect_batch(await read(database, sent), 0.0)
    lag_monitor = LagMonitor(
        Settings(database_url=database.url, kafka_bootstrap_servers=("none:1",))
    )

    are_new = await insert_drift_findings(lag_monitor.connection, drift_detector.take_findings())
    await lag_monitor.close()

    assert are_new == [False, True]
    drifted = await connection.fetch("select field from normalizer.drift_findings")
    assert [tuple(row) for row in drifted] == [(f"new_{KEPT}",)]


async def test_every_window_counts_an_erased_execution(database: Database) -> None:
    """Ten executions of one hour, one of them erased: in windows by minute and by hour."""
    async with connected(database) as owner:
        hour: datetime = await owner.fetchval(
            "select date_trunc('hour', now() - interval '1 hour')"
        )
        await owner.execute(_OF_ONE_HOUR, hour)
        spans = {
            hours: {
                "since": (hour - timedelta(hours=hours - 1)).isoformat(),
                "until": (hour + timedelta(hours=1)).isoformat(),
            }
            for hours in (1, 2, 3)
        }
        by_minute = {"since": hour.isoformat(), "every": "minute", "by": "at"}
        async with api_client(database.url) as client:
            before = [await _figures(client, **window) for window in spans.values()]
        await forgotten(database, 3)
        async with api_client(database.url) as client:
            after = [await _figures(client, **window) for window in spans.values()]
            minutes = await get_rows(client, "call-outcomes-by-attempt", **by_minute)

    assert after == before
    assert [calls for calls, *_ in after] == [10, 10, 10]
    # Nothing tells its minute any more, so it counts at the begin of its hour.
    counted = {datetime.fromisoformat(row["at"]): row["calls"] for row in minutes}
    assert counted == {hour + timedelta(minutes=minute): 1 for minute in (0, 1, 2, *range(4, 11))}


async def _figures(client: Any, **window: str) -> list[Any]:
    """Sums of calls and executions, and all rows of the figures that say when, where, and how."""
    totals = [
        sum(row["calls"] for row in await get_rows(client, "call-outcomes-by-attempt", **window)),
        sum(row["begun"] for row in await get_rows(client, "execution-outcomes", **window)),
    ]
    rows = [
        await get_rows(client, path, **window)
        for path in (
            *("call-outcomes-by-attempt", "error-rate-by-attempt", "retry-exhaustion"),
            *("execution-outcomes", "call-durations-by-attempt", "failures-by-error"),
            "worker-failures",
        )
    ]
    return [*totals, *rows]


_OF_ONE_HOUR: Final = """
    insert into normalizer.events (event_id, execution_id, event_type, step, status, created_at,
                                   command_id, error, worker_id, duration, context, source_topic,
                                   source_partition)
    select row_number() over (), execution_id, event_type, 'fetch', status,
           $1::timestamptz + make_interval(mins => execution_id::integer, secs => second),
           command_id, error, 'w' || execution_id, execution_id, '{"path": "flow/a"}',
           'noetl.events', 0
    from   generate_series(1, 10) as execution_id
    cross join (
        values ('playbook.started', 'STARTED', '', null, 0),
               ('call.done', 'FAILED', 'fetch', 'HTTP 503', 20),
               ('playbook.failed', 'FAILED', '', null, 40)
    ) as sent (event_type, status, command_id, error, second)
"""

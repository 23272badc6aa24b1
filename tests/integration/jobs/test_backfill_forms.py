"""The same history bare, and as rows of a noetl.event table: the canonical bytes of the wire.

The full form, `make soak ARGS="-k backfill_forms"`, adds rows to docs/results.csv.
"""

import itertools
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Final

import asyncpg
import msgspec
import pytest
import zstandard

from normalizer.core.evidence import Evidence
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, to_canonical
from normalizer.jobs.engine.run_progress import RunResult
from normalizer.jobs.sources.table_source import TableSource
from simulator.mix import Mix
from tests.support.job_runs import (
    NORMALIZE,
    backfill_files,
    job_settings,
    ledger_mistakes,
    make_backfill,
    simulated_records,
)
from tests.support.noetl_event_table import EVENT_TABLE, insert, stream_rows
from tests.support.results import write_results
from tests.support.stack import Database
from tests.support.table_rows import connected, each_stored_event

MILLION: Final = 1_000_000
SIZES: Final = [
    pytest.param(1_000, marks=pytest.mark.timeout(400)),
    pytest.param(MILLION, marks=[pytest.mark.soak, pytest.mark.timeout(7_200)], id="million"),
]
ROWS_A_STATEMENT: Final = 5_000

# Node numbers collide: of two events with one id the first keeps it, the other gets its own.
SHARED_IDS: Final = """
    select   event_id, count(*) - 1 as others
    from     noetl.event
    group by event_id
    having   count(*) > 1
"""
CONFLICTS: Final = """
    select count(*)
    from   normalizer.events
    where  coercions @> '[{"rule": "event_id_conflict"}]'
"""


def digest(event: Envelope) -> bytes:
    """Of the canonical bytes: a million of those themselves would fill the memory."""
    return blake2b(to_canonical(event), digest_size=16).digest()


def has_time(event: Envelope) -> bool:
    """Return whether the producer sent the time of the event."""
    return Evidence.unpack(event.evidence).is_time_declared


async def stored_digests(connection: asyncpg.Connection) -> dict[tuple[int, int], bytes]:
    """Of every stored event, by execution and id."""
    return {
        (event.execution_id, event.event_id or 0): digest(event)
        async for event in each_stored_event(connection)
    }


def bare(events: int) -> Iterator[tuple[bytes, Envelope]]:
    """Values of one line, with the one event of theirs, which brings its own id and time."""
    for number, record in enumerate(simulated_records(events)):
        value = record.value or b""
        raw = RawRecord(value=value, topic="t", offset=number, recorded_ms=record.timestamp_ms)
        outcomes = NORMALIZE(raw)
        if len(outcomes) == 1 and isinstance(event := outcomes[0], Envelope):
            brought = event.event_id is not None and event.event_id < 1 << 62
            if brought and has_time(event) and b"\n" not in value:
                yield value, event


async def backfilled(database: Database) -> RunResult:
    """The verdict of one run over the table."""
    source = TableSource(database.url, table="noetl.event")
    return await make_backfill(job_settings(database), source, "noetl.event").run()


def publish(
    name: str,
    compared: int,
    *,
    first: RunResult,
    again: RunResult,
) -> None:
    """Add the rows of a full run."""
    write_results(
        f"backfill-{name}",
        'make soak ARGS="-k backfill_forms"',
        {
            "records": f"{first.totals.records:,}",
            "stored with the canonical bytes of the wire": f"{compared:,}, all that are compared",
            "a second run": f"{again.totals.duplicate:,} duplicates, nothing added",
            "`ledger verify`, `projector verify`": "clean",
            "took": f"{first.took_s:.0f} s, and {again.took_s:.0f} s",
        },
    )


@pytest.mark.parametrize("events", SIZES)
async def test_bare_lines_give_the_canonical_bytes_of_events_with_id_and_time(
    database: Database, tmp_path: Path, events: int
) -> None:
    """Compared where neither the log's own time nor another report plays a part."""
    digests: dict[int, bytes | None] = {}
    for _, event in bare(events):
        assert event.event_id
        digests[event.event_id] = None if event.event_id in digests else digest(event)
    wanted = {event_id: said for event_id, said in digests.items() if said is not None}
    first, again = tmp_path / "bare.ndjson.zst", tmp_path / "again.ndjson"
    with zstandard.open(first, "wb") as packed, again.open("wb") as plain:
        for value, event in bare(events):
            if event.event_id in wanted:
                packed.write(value + b"\n")
                plain.write(value + b"\n")

    verdict = await backfill_files(database, first)
    second = await backfill_files(database, again)

    async with connected(database) as connection:
        stored = {key[1]: said for key, said in (await stored_digests(connection)).items()}
        assert (verdict.state, second.state) == ("complete", "complete")
        assert verdict.totals.stored == len(wanted) > events // 4
        assert (second.totals.stored, second.totals.duplicate) == (0, len(wanted))
        assert stored == wanted
        assert await ledger_mistakes(database) == []
        if events == MILLION:
            publish("bare", len(wanted), first=verdict, again=second)


@pytest.mark.parametrize("events", SIZES)
async def test_stored_rows_give_the_canonical_bytes_of_what_the_servers_send(
    database: Database, events: int
) -> None:
    wanted: dict[tuple[int, int], bytes] = {}
    rows = stream_rows(simulated_records(events, mix=Mix(mutated=0.0, odd_text=0.0)))
    async with connected(database) as connection:
        await connection.execute(EVENT_TABLE)
        while some := list(itertools.islice(rows, ROWS_A_STATEMENT)):
            for row in some:
                for outcome in NORMALIZE(RawRecord(value=msgspec.json.encode(row), topic="wire")):
                    if isinstance(outcome, Envelope) and has_time(outcome):
                        key = (outcome.execution_id, outcome.event_id or 0)
                        wanted.setdefault(key, digest(outcome))
            await insert(connection, some)

        first = await backfilled(database)
        again = await backfilled(database)

        stored = await stored_digests(connection)
        shared = {row["event_id"]: row["others"] for row in await connection.fetch(SHARED_IDS)}
        alone = {key: said for key, said in wanted.items() if key[1] not in shared}
        assert len(alone) > events // 24
        assert {key: stored.get(key) for key in alone} == alone
        assert await connection.fetchval(CONFLICTS) == sum(shared.values())
        assert len(stored) == first.totals.stored
        assert first.totals.stored == first.totals.records
        assert (again.totals.stored, again.totals.duplicate) == (0, first.totals.records)
        assert await ledger_mistakes(database) == []
        if events == MILLION:
            publish("noetl-event", len(alone), first=first, again=again)

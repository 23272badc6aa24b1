"""The million: all the simulator can do, two normalizers at once, five kill -9 on the way."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from normalizer.embedded import KAFKA_VERSION
from normalizer.envelope import Envelope, json_schema, to_canonical
from normalizer.settings import Settings
from tests.playing import compared, drained, loaded, mix
from tests.results import write_results
from tests.running import Watcher, process, settings_for, watching
from tests.stack import Database, Topic

EVENTS = 1_000_000
KILLS = 5
CHUNK = 10_000


@pytest.fixture
async def watcher(database: Database) -> AsyncIterator[Watcher]:
    async with watching(database.url) as started:
        yield started


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "topic", "traffic"),
    [
        ("keyed", 6, {}),
        ("spread-over-all-partitions", 6, {"keyed": False}),
        ("one-partition", 1, {}),
    ],
    indirect=["topic"],
)
async def test_a_million_events_are_what_the_ledger_says(
    name: str,
    traffic: dict[str, Any],
    database: Database,
    topic: Topic,
    bootstrap_servers: str,
    watcher: Watcher,
    tmp_path: Path,
) -> None:
    ledger = tmp_path / "ledger"
    started = time.monotonic()
    ends = await loaded(mix(in_flight=2_000, **traffic), EVENTS, topic, bootstrap_servers, ledger)
    loaded_s = time.monotonic() - started
    settings = settings_for(database, topic, bootstrap_servers)

    started = time.monotonic()
    await drained(watcher, topic, settings, ends, kills=KILLS)
    drained_s = time.monotonic() - started

    started = time.monotonic()
    report = await compared(watcher, topic, ledger)
    assert report.agrees, "\n".join(report.lines())
    compared_s = time.monotonic() - started
    explained = await _every_offset_is_explained(settings)
    valid = await _accepted_by_the_schema(watcher)
    await _write(
        name,
        {
            "records, events, tellings": f"{report.records:,}, {report.events:,}, "
            f"{report.tellings:,}",
            "refused, ignored": f"{report.quarantined:,}, {report.ignored:,}",
            "differences from the ledger": 0,
            "accepted by the JSON Schema": f"{valid:,} of {report.events:,}",
            "`normalizer ledger verify`": explained,
            "loading, with its ledger": f"{EVENTS / loaded_s:,.0f} events/s",
            f"draining by two, {KILLS} kill -9 on the way": f"{drained_s:.0f} s",
            "comparing": f"{compared_s:.0f} s",
        },
        watcher,
    )


async def _every_offset_is_explained(settings: Settings) -> str:
    """How many partitions `normalizer ledger verify` explains, which must exit 0."""
    async with process(settings, "verify", command="ledger") as verify:
        output, _ = await asyncio.wait_for(verify.communicate(), timeout=600)
    lines = output.decode().strip().splitlines()
    assert verify.returncode == 0, output.decode()
    explained = sum(line.endswith(": explained") for line in lines)
    return f"{explained} of {len(lines)} partitions explained, exit 0"


async def _accepted_by_the_schema(watcher: Watcher) -> int:
    """How many stored events a reader accepts that knows the published schema only: all."""
    validator = jsonschema.Draft202012Validator(json_schema())
    await watcher.connection.set_type_codec(
        "jsonb", schema="pg_catalog", format="text", encoder=bytes.decode, decoder=str.encode
    )
    columns = ", ".join(Envelope.__struct_fields__)
    chunk = (
        f"select {columns} from normalizer.events "
        f"where event_id > $1 order by event_id limit {CHUNK}"
    )
    accepted, after = 0, -1
    while rows := await watcher.connection.fetch(chunk, after):
        for row in rows:
            validator.validate(msgspec.json.decode(to_canonical(Envelope(**row))))
        accepted += len(rows)
        after = rows[-1]["event_id"]
    return accepted


async def _write(name: str, figures: dict[str, object], watcher: Watcher) -> None:
    postgres = await watcher.connection.fetchval("show server_version")
    write_results(
        f"million-{name}",
        f"A million events of seed 1, {name.replace('-', ' ')}",
        "make soak",
        figures,
        f"Apache Kafka {KAFKA_VERSION}, PostgreSQL {postgres}",
    )

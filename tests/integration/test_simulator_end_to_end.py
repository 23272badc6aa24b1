"""What the ledger says is what the database holds: through real Kafka and PostgreSQL."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from normalizer.envelope import Envelope, to_canonical
from normalizer.normalize import Normalizer
from normalizer.record import RawRecord
from simulator.ledger import Ledger, read
from simulator.play import Play, play_into_topic
from simulator.record import Record
from tests.fold import fold
from tests.playing import compared, drained, loaded, mix
from tests.running import Watcher, settings_for, watching
from tests.shown import shown
from tests.stack import Database, Topic
from tests.told import of_the_ledger, rows_of


@pytest.fixture
async def watcher(database: Database) -> AsyncIterator[Watcher]:
    async with watching(database.url) as started:
        yield started


@pytest.mark.timeout(300)
@pytest.mark.parametrize("topic", [6], indirect=True)
async def test_three_kills_lose_and_double_nothing(
    database: Database,
    topic: Topic,
    bootstrap_servers: str,
    watcher: Watcher,
    tmp_path: Path,
) -> None:
    ends = await loaded(mix(), 100_000, topic, bootstrap_servers, tmp_path / "ledger")
    settings = settings_for(database, topic, bootstrap_servers, batch_rows=1_000)

    await drained(watcher, topic, settings, ends, kills=3)

    report = await compared(watcher, topic, tmp_path / "ledger")
    assert report.agrees, "\n".join(report.lines())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("topic", [6], indirect=True)
async def test_an_execution_may_be_spread_over_all_partitions(
    database: Database,
    topic: Topic,
    bootstrap_servers: str,
    watcher: Watcher,
    tmp_path: Path,
) -> None:
    spread = mix(keyed=False, told_twice=0.5, disagreeing=0.5, redelivered=0.1, colliding=0.01)
    ends = await loaded(spread, 40_000, topic, bootstrap_servers, tmp_path / "ledger")
    settings = settings_for(database, topic, bootstrap_servers)

    await drained(watcher, topic, settings, ends, kills=0)

    report = await compared(watcher, topic, tmp_path / "ledger")
    assert report.agrees, "\n".join(report.lines())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("topic", [1], indirect=True)
async def test_a_topic_may_have_one_partition(
    database: Database,
    topic: Topic,
    bootstrap_servers: str,
    watcher: Watcher,
    tmp_path: Path,
) -> None:
    rich = mix(told_twice=0.5, disagreeing=0.5, redelivered=0.1, colliding=0.01, poison=0.02)
    ends = await loaded(rich, 40_000, topic, bootstrap_servers, tmp_path / "ledger")
    settings = settings_for(database, topic, bootstrap_servers)

    await drained(watcher, topic, settings, ends, kills=0)

    report = await compared(watcher, topic, tmp_path / "ledger")
    assert report.agrees, "\n".join(report.lines())


async def test_every_view_shows_what_the_ledger_tells(
    database: Database, topic: Topic, bootstrap_servers: str, watcher: Watcher, tmp_path: Path
) -> None:
    rich = mix(told_twice=0.5, disagreeing=0.5, redelivered=0.1, colliding=0.01, failing=0.3)
    ends = await loaded(rich, 20_000, topic, bootstrap_servers, tmp_path / "ledger")

    await drained(watcher, topic, settings_for(database, topic, bootstrap_servers), ends, kills=0)

    views = of_the_ledger(await shown(watcher.connection))
    told = of_the_ledger(fold(rows_of(read(tmp_path / "ledger"))))
    assert {name for name in told if views[name] != told[name]} == set()
    assert views.keys() == told.keys()
    await watcher.connection.execute(
        "update normalizer.events set attempts = attempts + 1 where status = 'CANCELLED'"
    )
    views = of_the_ledger(await shown(watcher.connection))
    assert {name for name in told if views[name] != told[name]} > {"calls", "attempts_by_status"}


class Kept(Ledger):
    """A ledger that keeps each record where the broker has put it."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self.records: list[RawRecord] = []

    def placed(self, record: Record, topic: str, partition: int, offset: int) -> None:
        self.records.append(
            RawRecord(
                value=record.value,
                topic=topic,
                partition=partition,
                offset=offset,
                headers=tuple(record.headers),
                recorded_ms=record.timestamp_ms,
            )
        )


async def test_a_stored_row_gives_the_canonical_bytes_of_its_record(
    database: Database, topic: Topic, bootstrap_servers: str, watcher: Watcher
) -> None:
    once = mix(told_twice=0.0, redelivered=0.0, colliding=0.0, odd=0.2, poison=0.01, odd_text=0.05)
    kept = Kept()
    await play_into_topic(Play(mix=once, events=5_000), bootstrap_servers, topic.name, kept)
    ends: Counter[int] = Counter(record.partition for record in kept.records)

    await drained(
        watcher, topic, settings_for(database, topic, bootstrap_servers), dict(ends), kills=0
    )

    rows = await stored(watcher)
    normalize = Normalizer().normalize
    told = [out for one in kept.records for out in normalize(one) if isinstance(out, Envelope)]
    assert {to_canonical(row) for row in rows} == {to_canonical(event) for event in told}


async def stored(watcher: Watcher) -> list[Envelope]:
    """Every row as an envelope, JSON as the database writes it."""
    await watcher.connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="text",
        encoder=bytes.decode,
        decoder=str.encode,
    )
    columns = ", ".join(Envelope.__struct_fields__)
    rows = await watcher.connection.fetch(f"select {columns} from normalizer.events")
    return [Envelope(**row) for row in rows]


async def test_the_command_compares_and_exits_1_on_a_difference(
    database: Database, topic: Topic, bootstrap_servers: str, watcher: Watcher, tmp_path: Path
) -> None:
    ends = await loaded(mix(), 2_000, topic, bootstrap_servers, tmp_path / "ledger")
    await drained(watcher, topic, settings_for(database, topic, bootstrap_servers), ends, kills=0)

    agreeing = await command("compare", tmp_path / "ledger", database)
    await watcher.connection.execute(
        """
        update normalizer.events
        set    attempts = attempts + 1
        where  event_id = (select min(event_id) from normalizer.events)
        """
    )
    differing = await command("compare", tmp_path / "ledger", database)

    assert agreeing == (0, "the database agrees with the ledger")
    assert differing == (1, "the database differs")


async def command(name: str, ledger: Path, database: Database) -> tuple[int | None, str]:
    """Exit code and last line of a command of the simulator."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "simulator", name, f"--ledger={ledger}", f"--database-url={database.url}"),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await child.communicate()
    return child.returncode, output.decode().splitlines()[-1]

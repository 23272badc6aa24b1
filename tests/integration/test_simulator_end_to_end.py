"""What the simulator's ledger says is what the database holds: through real Kafka and PostgreSQL.

The platform's clock is set to one hour ago: Kafka must not take the records for expired.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import pytest

from normalizer.envelope import Envelope, to_canonical
from normalizer.normalize import Normalizer
from normalizer.record import RawRecord
from normalizer.settings import Settings
from simulator.compare import compare
from simulator.database import Database as HeldBy
from simulator.ledger import Ledger, LedgerFile, RecordLine, read
from simulator.mix import Mix
from simulator.play import Play, now_us, play_into_topic
from simulator.record import Record
from simulator.report import Report
from tests.running import Watcher, process, settings_for, until, watching
from tests.stack import Database, Topic

HOUR_US = 3_600_000_000


@pytest.fixture
async def watcher(database: Database) -> AsyncIterator[Watcher]:
    async with watching(database.url) as started:
        yield started


async def loaded(
    mix: Mix, events: int, topic: Topic, bootstrap_servers: str, ledger: Path
) -> dict[int, int]:
    """Play into the topic; gives each partition's end."""
    play = Play(mix=mix, seed=1, events=events)
    ends: dict[int, int] = dict.fromkeys(range(topic.partitions), 0)
    with LedgerFile(ledger) as written:
        await play_into_topic(play, bootstrap_servers, topic.name, written)
    for line in read(ledger):
        match line:
            case RecordLine(partition=partition, offset=offset):
                ends[partition] = max(ends[partition], offset + 1)
            case _:
                pass
    return ends


def mix(**fields: object) -> Mix:
    """Everything the simulator can do, an hour ago."""
    values = {"start_us": now_us() - HOUR_US, "rate": 5_000.0, "in_flight": 300, **fields}
    return Mix(**values)  # type: ignore[arg-type]


async def compared(watcher: Watcher, topic: Topic, ledger: Path) -> Report:
    return await compare(read(ledger), HeldBy(watcher.connection, topic.name, 0))


class Pair:
    """Two normalizers at once; a killed one is followed by another."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = contextlib.AsyncExitStack()
        self._running: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Self:
        await self._start()
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def kill_one(self) -> None:
        """kill -9 of the older one."""
        victim = self._running.pop(0)
        victim.kill()
        await victim.wait()
        await self._start()

    async def _start(self) -> None:
        self._running.append(await self._stack.enter_async_context(process(self._settings)))


async def drained(
    watcher: Watcher, topic: Topic, settings: Settings, ends: dict[int, int], kills: int
) -> None:
    """Read to the end by two at once, killed so often on the way."""
    total = sum(ends.values())

    async def read_so_far() -> int:
        at = await watcher.positions(topic)
        return sum(position["next_offset"] for position in at.values())

    async with Pair(settings) as pair:
        for kill in range(1, kills + 1):
            threshold = total * kill // (kills + 2)

            async def reached(threshold: int = threshold) -> bool:
                return await read_so_far() >= threshold

            await until(reached, read_so_far)
            assert await read_so_far() < total, "killed too late to prove anything"
            await pair.kill_one()
        await watcher.until_read(topic, ends)


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

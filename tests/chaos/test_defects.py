"""What once broke a promise, done again at full size against the running service: `make soak`.

Each test is one row of docs/results.csv: what was done, what was seen, how long it took and
how much memory the service took at its most. The short forms stand with the code they guard.
"""

import asyncio
import contextlib
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

import asyncpg
import httpx
import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from normalizer.embedded import KafkaBroker, PostgresServer
from normalizer.settings import Settings
from normalizer.store.migrate import migrate
from tests.support.factories import raw_event
from tests.support.results import write_defect
from tests.support.service_runs import environment, settings_for
from tests.support.stack import Database, Topic
from tests.support.table_rows import connected
from tests.support.waiting import moment, until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1_800)]

TOPIC: Final = "noetl.events"
_PROBES: Final = re.compile(r"http://127\.0\.0\.1:\d+")
LOCKED_S: Final = 600.0
SOON_S: Final = 6.0


class Running:
    """`normalizer run` as a process: its log, its probes and the memory it took."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.log: list[str] = []
        self.peak_mb = 0
        self._url = ""

    async def read(self) -> None:
        """Keep its log and look at its memory until it ends."""
        assert self._process.stdout
        async for line in self._process.stdout:
            self.log.append(line.decode())
            if found := _PROBES.search(self.log[-1]):
                self._url = found[0]
            self.look()

    def look(self) -> None:
        """Note the most memory it has had."""
        with contextlib.suppress(OSError, IndexError):
            status = Path(f"/proc/{self._process.pid}/status").read_text()
            self.peak_mb = int(status.split("VmHWM:")[1].split()[0]) // 1024

    async def ready(self) -> tuple[int, str]:
        """What /readyz answers."""
        await until(self._known)
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{self._url}/readyz", timeout=10)
        return answer.status_code, answer.text

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def ended(self) -> int | None:
        """Its exit code, None while it lives."""
        return self._process.returncode

    async def _known(self) -> str:
        return self._url


class Site:
    """A broker, a server and a producer of one test, and as many normalizers as it starts."""

    def __init__(self, database: Database, broker: KafkaBroker, producer: AIOKafkaProducer) -> None:
        self.database = database
        self.broker = broker
        self._producer = producer
        self._exits = contextlib.AsyncExitStack()
        self.running: list[Running] = []
        self.begun_s = time.monotonic()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def start(self, *arguments: str) -> Running:
        """Another normalizer with the settings that everybody has who sets none."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "normalizer", "run", *arguments),
            env=environment(self._settings()),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        one = Running(process)
        reading = asyncio.create_task(one.read(), name="log")

        async def end() -> None:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await reading

        self._exits.push_async_callback(end)
        self.running.append(one)
        return one

    async def send(self, events: Iterable[dict[str, Any]]) -> None:
        """Send these events to partition 0, and wait for the broker."""
        for event in events:
            await self._producer.send(TOPIC, msgspec.json.encode(event), partition=0)
        await self._producer.flush()

    async def count(self, what: str = "normalizer.events") -> int:
        """How many rows there are."""
        async with connected(self.database) as connection:
            rows: int = await connection.fetchval(f"select count(*) from {what}")
        return rows

    async def until_stored(self, events: int, *, within_s: float) -> float:
        """Wait until this number of events is stored; how long that took."""
        begun_s = time.monotonic()
        await until(self.count, is_so=lambda rows: rows >= events, deadline_s=within_s)
        return time.monotonic() - begun_s

    def say(self, done: str, seen: str) -> None:
        """Write the row."""
        for one in self.running:
            one.look()
        seconds = time.monotonic() - self.begun_s
        write_defect(done, seen, seconds=seconds, peak_mb=max(r.peak_mb for r in self.running))

    def _settings(self) -> Settings:
        return settings_for(
            self.database,
            Topic(name=TOPIC, partitions=1),
            self.broker.bootstrap_servers,
            kafka_session_timeout_ms=45_000,
            batch_age_ms=200,
        )


@pytest.fixture
async def site(postgres_server: PostgresServer, kafka_broker: KafkaBroker) -> AsyncIterator[Site]:
    url = await postgres_server.create_database("noetl")
    await migrate(url, report=lambda _: None)
    database = Database(
        name="noetl", url=url, admin_url=postgres_server.url_of("noetl", role="postgres")
    )
    await _make_topic(kafka_broker)
    async with (
        AIOKafkaProducer(bootstrap_servers=kafka_broker.bootstrap_servers) as producer,
        Site(database, kafka_broker, producer) as made,
    ):
        yield made


async def _make_topic(broker: KafkaBroker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, 1, 1, topic_configs={"retention.ms": "-1"})])
    finally:
        await admin.close()


async def _recreate_topic(broker: KafkaBroker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([TOPIC])
    finally:
        await admin.close()

    async def made() -> bool:
        try:
            await _make_topic(broker)
        except Exception:  # noqa: BLE001 - the broker is still deleting
            return False
        return True

    await until(made)


def _of(execution_id: int, numbers: range, **fields: Any) -> list[dict[str, Any]]:
    return [
        raw_event(number, execution_id=execution_id, command_id=f"{execution_id}:fetch:{number}")
        | fields
        for number in numbers
    ]


@contextlib.asynccontextmanager
async def _held(database: Database, statement: str) -> AsyncIterator[None]:
    """An open psql of somebody who went home."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        async with connection.transaction():
            await connection.execute(statement)
            yield
    finally:
        await connection.close()


async def _for(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await moment()


async def test_a_row_lock_of_ten_minutes(site: Site) -> None:
    one = await site.start()
    await site.send(_of(7, range(1)))
    await site.until_stored(1, within_s=60)

    lock = "select from projector.execution_facts where execution_id = 7 for update"
    async with _held(site.database, lock):
        await site.send(_of(7, range(1, 2)))

        async def named() -> bool:
            code, text = await one.ready()
            logged = any("batch_blocked" in line for line in one.log)
            return code != HTTPStatus.OK and TOPIC in text and logged

        begun_s = time.monotonic()
        await until(named, deadline_s=SOON_S + 1)
        named_s = time.monotonic() - begun_s
        await _for(LOCKED_S)
        assert await site.count() == 1
    stored_s = await site.until_stored(2, within_s=5)

    assert await site.count("normalizer.quarantine") == 0
    site.say(
        "a row lock on an execution, held for ten minutes",
        f"/readyz and the log named the partition after {named_s:.1f} s; 0 quarantined; "
        f"stored {stored_s:.1f} s after the release",
    )


async def test_a_row_lock_on_events(site: Site) -> None:
    await site.start()
    await site.send(_of(7, range(100)))
    await site.until_stored(100, within_s=60)

    async with _held(site.database, "select from normalizer.events for update"):
        # The same events with news: rows that are locked must change.
        await site.send(_of(7, range(100), result={"n": 1}))
        await _for(60)
        assert await site.count("normalizer.events where result is not null") == 0
    begun_s = time.monotonic()
    changed = "normalizer.events where result is not null"
    await until(lambda: site.count(changed), is_so=lambda rows: rows == 100, deadline_s=10)

    assert await site.count("normalizer.quarantine") == 0
    site.say(
        "row locks on 100 events, held for a minute while each is reported again",
        f"0 quarantined; all changed {time.monotonic() - begun_s:.1f} s after the release",
    )


async def test_statements_cancelled_for_a_minute(site: Site) -> None:
    await site.start()
    struck = 0
    async with connected(site.database) as hand:
        end = time.monotonic() + 60
        number = 0
        while time.monotonic() < end:
            await site.send(_of(7, range(number, number + 5)))
            number += 5
            struck += await hand.fetchval(
                "select count(pg_cancel_backend(pid)) from pg_stat_activity "
                "where application_name like 'normalizer%' and state = 'active'"
            )
    stored_s = await site.until_stored(number, within_s=30)

    assert await site.count("normalizer.quarantine") == 0
    site.say(
        "pg_cancel_backend without end, for a minute",
        f"{struck:,} statements cancelled; 0 quarantined; all {number:,} events stored "
        f"{stored_s:.1f} s after",
    )


async def test_a_reader_that_locks_what_it_may(site: Site, postgres_server: PostgresServer) -> None:
    await site.start()
    await site.send(_of(7, range(100)))
    await site.until_stored(100, within_s=60)
    async with connected(site.database) as owner:
        await owner.execute("create role nosy login password 'nosy' in role projector_reader")
    reader = await asyncpg.connect(postgres_server.url_of("noetl", role="nosy"), password="nosy")
    taken: set[tuple[int, int, int]] = set()
    try:
        end, number = time.monotonic() + 60, 100
        while time.monotonic() < end:
            if await site.count() == number:
                await site.send(_of(7, range(number, number + 1_000)))
                number += 1_000
            for key in await reader.fetch(
                "select classid::bigint, objid::bigint, objsubid from pg_locks "
                "where locktype = 'advisory' and pid <> pg_backend_pid()"
            ):
                high, low, kind = key
                # Its neighbours too: who takes one of many takes the next.
                taken |= (
                    {(high, near, kind) for near in range(64)} if kind == 2 else {(high, low, 1)}
                )
            for high, low, kind in taken:
                if kind == 1:
                    await reader.execute("select pg_try_advisory_lock($1)", high << 32 | low)
                else:
                    await reader.execute("select pg_try_advisory_lock($1, $2)", high, low)
        await site.until_stored(number, within_s=20)
    finally:
        await reader.close()

    assert await site.count("normalizer.quarantine") == 0
    site.say(
        "a reader takes every advisory lock it sees, and holds it, for a minute",
        f"{len(taken)} keys seen and taken; {number:,} events stored meanwhile, 0 quarantined",
    )


async def test_nanoseconds_sent_as_seconds(site: Site) -> None:
    await site.start()

    await site.send(_of(7, range(19_000), duration=500_000_000))
    await site.send(_of(7, range(19_000, 19_500), duration=1.5))
    stored_s = await site.until_stored(19_500, within_s=120)

    assert await site.count("normalizer.quarantine") == 0
    kept = 'coercions @> \'[{"rule": "duration_invalid"}]\''
    assert await site.count(f"normalizer.events where duration is null and {kept}") == 19_000
    assert await site.count("normalizer.events where duration = 1.5") == 500
    site.say(
        "19,000 calls of one step with `duration: 500000000`, then 500 good ones",
        f"all stored in {stored_s:.0f} s, 0 quarantined; 19,000 durations kept as duration_invalid",
    )


async def test_a_writer_that_wants_to_be_the_owner(
    site: Site, postgres_server: PostgresServer
) -> None:
    await site.start()
    await site.send(_of(7, range(10)))
    await site.until_stored(10, within_s=60)
    async with connected(site.database) as owner:
        await owner.execute("create role sly login password 'sly' in role normalizer_writer")
        functions = await owner.fetch(
            """
            select format('%I.%I', pronamespace::regnamespace, proname) as name,
                   array(
                       select   format('null::%s', format_type(kind, null))
                       from     unnest(proargtypes) with ordinality as argument (kind, number)
                       order by number
                   ) as nulls
            from   pg_proc
            where  prosecdef and prorettype <> 'trigger'::regtype
            and    pronamespace in ('normalizer'::regnamespace, 'projector'::regnamespace)
            """
        )
    writer = await asyncpg.connect(postgres_server.url_of("noetl", role="sly"), password="sly")
    refused = 0
    try:
        for attack in (
            "create temporary table t (n int)",
            "create domain pg_temp.regnamespace as oid",
            "select normalizer.snowflake_at(99999999999999)",
            "select setval('normalizer.snowflake_clock', 1)",
            "select setval('normalizer.snowflake_clock', 999999999999999999)",
            "select nextval('normalizer.snowflake_clock')",
            "select value from normalizer.quarantine_raw",
            "alter table normalizer.events disable trigger all",
            "update normalizer.layout set protocol = 0",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await writer.execute(attack)
            refused += 1
        # No error: PostgreSQL warns that nothing was granted.
        await writer.execute("grant select on normalizer.quarantine_raw to sly")
        called = 0
        for name, nulls in functions:
            with contextlib.suppress(asyncpg.PostgresError):
                await writer.execute(f"select {name}({', '.join(nulls)})")
                called += 1
        own = await writer.fetchval(
            "select has_table_privilege('normalizer.quarantine_raw', 'select')"
        )
        assert own is False
    finally:
        await writer.close()

    site.say(
        "the writer's login tries pg_temp, the snowflake clock, grants and every definer function",
        f"{refused} attempts refused, {called} of {len(functions)} definer functions it may call; "
        "it reads no refused bytes afterwards",
    )


async def test_a_topic_recreated_under_a_frozen_process(site: Site) -> None:
    seen = []
    for turn in range(4):
        one = await site.start("--accept-reset") if turn else await site.start()
        async with connected(site.database) as connection:
            before = await connection.fetchval("select count(*) from normalizer.events")
        await site.send(_of(7, range(turn * 1_000, turn * 1_000 + 30)))
        await site.until_stored(before + 30, within_s=60)
        one.signal(signal.SIGSTOP)
        await _recreate_topic(site.broker)
        await site.send(_of(8, range(turn * 1_000 + 100, turn * 1_000 + 300)))
        await _for(2)
        one.signal(signal.SIGCONT)
        await _for(20)
        rows = await site.count() - before - 30
        seen.append(rows)
        one.signal(signal.SIGKILL)
        assert rows in (0, 200), f"{rows} of 200 read: from the middle"
        if rows == 0:
            again = await site.start("--accept-reset")
            await site.until_stored(before + 230, within_s=60)
            again.signal(signal.SIGTERM)
            await until(_ended(again), deadline_s=60)

    site.say(
        "a topic deleted and recreated under a frozen process, four times",
        f"read at once: {seen}; the partition stopped, and --accept-reset read all 200 each time",
    )


def _ended(one: Running) -> Any:
    async def ended() -> bool:
        return one.ended() is not None

    return ended

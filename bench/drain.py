"""Measures how fast the service drains a preloaded topic, against COPY of the same finished rows.

    python -m bench.drain                               the short form: 300,000 events
    python -m bench.drain --events 1000000 --results    the full form, into docs/results.csv

One run, one machine, one database: the service reads the topic and writes every row. Then the same
rows are copied again, finished, into the same (emptied) tables with the same triggers. The ratio of
the two times shows what reading, normalizing, identity and the ledger cost on top of storing,
though one session copies, and each process of the service has one of its own.

The clock starts when every process holds its partitions: starting up is not draining. Records that
a process read before that moment are in neither the count nor the time.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, NamedTuple

import asyncpg

from bench.peers.costs import cpu_s, peak_mb
from bench.servers import create_topic, started_servers
from normalizer.embedded import (
    PostgresServer,
)
from normalizer.runtime.child import ChildProcess, module_search_environment
from normalizer.store.event_rows import COPIED_EVENT_COLUMNS
from normalizer.store.migrate import migrate
from tests.support.results import command_line, option_parser, write_results

TOPIC: Final = "noetl.events"
PARTITIONS: Final = 6
ROWS_A_COPY: Final = 5_000
AIM: Final = 0.5
_KAFKA_PROPERTIES: Final = {
    # Kafka's own default: processes that start together join the group together.
    "group.initial.rebalance.delay.ms": "3000"
}


Core = Literal["native", "python"]


class Stack(NamedTuple):
    """One broker with the topic, and one server for any number of databases."""

    postgres: PostgresServer
    bootstrap_servers: str

    async def database(self, name: str) -> str:
        """A migrated, empty database."""
        url = await self.postgres.create_database(name)
        await migrate(url, report=lambda _: None)
        return url


class Drained(NamedTuple):
    """The result of a drain: records, time, CPU, memory, and which tables of projections it filled.

    `peak_mb` is the sum over all processes, including their children.
    """

    events: int
    seconds: float
    cpu_us: float
    peak_mb: float
    filled: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds


async def main(events: int, seed: int, processes: int, *, results: bool) -> int:
    """Print both rates and their ratio. Returns 1 if the ratio misses the aim."""
    figures: dict[str, object] = {}
    async with stack() as servers:
        await load(servers.bootstrap_servers, events, seed)
        database_url = await servers.database("drain")
        drained = await drain(database_url, servers.bootstrap_servers, processes)
        figures["drain"] = (
            f"{drained.events:,} events in {drained.seconds:.1f} s: {drained.rate:,.0f} events/s "
            f"by {processes} processes, {drained.cpu_us:.1f} us of their CPU an event, "
            f"{drained.peak_mb / processes:.0f} MB each, the mean of their peaks"
        )
        size = await _sizes(database_url)
        copied, copy_seconds = await _copy_again(database_url, drained.filled)
        figures["copy"] = (
            f"{copied:,} rows in {copy_seconds:.1f} s by one session: "
            f"{copied / copy_seconds:,.0f} rows/s"
        )
    figures["size"] = (
        f"{size[0] / copied:.0f} bytes a row with its indexes, "
        f"{size[1] / copied:.0f} of calls and executions"
    )
    ratio = copy_seconds / drained.seconds
    figures["ratio"] = f"{ratio:.2f} (aim: at least {AIM})"
    for what, figure in figures.items():
        print(f"{what + ':':6} {figure}")
    if results:
        write_results("drain", command_line(), figures)
    return 0 if ratio >= AIM else 1


@asynccontextmanager
async def stack() -> AsyncIterator[Stack]:
    """Servers for this run alone."""
    async with started_servers(_KAFKA_PROPERTIES) as (_, postgres, kafka):
        await create_topic(kafka.bootstrap_servers, TOPIC, PARTITIONS)
        yield Stack(postgres, kafka.bootstrap_servers)


async def load(bootstrap_servers: str, events: int, seed: int, *mix: str) -> None:
    """Send this many events to the topic."""
    started = time.monotonic()
    await _run(
        "simulator",
        "play",
        f"--bootstrap-servers={bootstrap_servers}",
        f"--topic={TOPIC}",
        f"--events={events}",
        f"--seed={seed}",
        "--rate=0",
        *mix,
    )
    print(f"load:  {events:,} events in {time.monotonic() - started:.1f} s")


async def _run(module: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, *arguments)
    if await process.wait() != 0:
        message = f"{module} exited with {process.returncode}"
        raise SystemExit(message)


async def drain(
    database_url: str,
    bootstrap_servers: str,
    processes: int,
    topic: str = TOPIC,
    partitions: int = PARTITIONS,
    core: Core | None = None,
) -> Drained:
    """Start the processes, and measure how long they take to read the whole topic.

    The time begins when each process has its partitions, so it doesn't include the start of a
    process, and it ends with the last commit. `core` sets NORMALIZER_CORE. By default it's the
    value of this process, or native.
    """
    environment = {
        "PATH": os.environ["PATH"],
        "NORMALIZER_HTTP_PORT": "0",
        "DATABASE_URL": database_url,
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "KAFKA_TOPICS": topic,
        "NORMALIZER_LOG_LEVEL": "error",
        "NORMALIZER_CORE": core or os.environ.get("NORMALIZER_CORE", "native"),
        **module_search_environment(),
    }
    ends = await _log_ends(bootstrap_servers, topic, partitions)
    connection = await asyncpg.connect(database_url)
    empty = await _empty_tables(connection)
    owners = await connection.fetchval(_OWNERS)
    services: list[ChildProcess] = []
    try:
        for _ in range(processes):
            command = [sys.executable, "-m", "normalizer", "run"]
            services.append(await ChildProcess.start("normalizer", command, env=environment))
        async with asyncio.timeout(1800):
            holders = min(processes, partitions)
            while await connection.fetchrow(_HELD, topic, owners) != (partitions, holders):
                _all_run(services)
                await asyncio.sleep(0.01)
            began = time.monotonic()
            before = await connection.fetchval(_OUTCOMES, topic)
            pids = [service.pid for service in services]
            spent_s = -cpu_s(pids)
            while await connection.fetchval(_READ, topic) < ends:
                _all_run(services)
                await asyncio.sleep(0.02)
            seconds = time.monotonic() - began
        spent_s += cpu_s(pids)
        events = await connection.fetchval(_OUTCOMES, topic) - before
        filled = set(empty) - set(await _empty_tables(connection))
        cpu_us = spent_s / events * 1e6
        return Drained(events, seconds, cpu_us, peak_mb(pids), tuple(sorted(filled)))
    finally:
        for service in services:
            await service.stop()
        await connection.close()


def _all_run(services: list[ChildProcess]) -> None:
    for service in services:
        if service.returncode is not None:
            raise SystemExit(f"a normalizer ended with {service.returncode}")


async def _empty_tables(connection: asyncpg.Connection) -> list[str]:
    """The projections' tables that have no row."""
    tables = [row[0] for row in await connection.fetch(_TABLES)]
    return [
        table
        for table in tables
        if not await connection.fetchval(f"select exists (select from {table})")  # noqa: S608 - our own names
    ]


async def _log_ends(bootstrap_servers: str, topic: str, partitions: int) -> int:
    from aiokafka import AIOKafkaConsumer, TopicPartition  # noqa: PLC0415 - after the set-up

    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers)
    await consumer.start()
    try:
        every = [TopicPartition(topic, number) for number in range(partitions)]
        return sum((await consumer.end_offsets(every)).values())
    finally:
        await consumer.stop()


async def _sizes(database_url: str) -> asyncpg.Record:
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetchrow(_SIZES)
    finally:
        await connection.close()


async def _copy_again(database_url: str, filled: tuple[str, ...]) -> tuple[int, float]:
    """Copy the rows that a drain has stored into the emptied tables. Returns rows and seconds.

    The rows are copied in batches as large as the service's. The time includes the encoding that
    COPY requires, but no normalizing.
    """
    connection = await connected(database_url)
    try:
        finished = await finished_rows(connection)
        await connection.execute(f"truncate {', '.join(('normalizer.events', *filled))}")
        gc.freeze()  # dead rows must not be scanned again and again
        began = time.monotonic()
        for first in range(0, len(finished), ROWS_A_COPY):
            await copy(connection, finished[first : first + ROWS_A_COPY])
        return len(finished), time.monotonic() - began
    finally:
        await connection.close()


async def connected(database_url: str) -> asyncpg.Connection:
    """A session that reads and writes jsonb as the bytes that COPY sends."""
    connection = await asyncpg.connect(database_url)
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda text: b"\x01" + text,
        decoder=lambda binary: binary[1:],
        format="binary",
    )
    return connection


async def finished_rows(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
    """The stored rows, in the order in which they were stored."""
    columns = ", ".join(COPIED_EVENT_COLUMNS)
    rows = await connection.fetch(
        f"select {columns} from normalizer.events order by batch_id, event_id"  # noqa: S608 - our own names
    )
    return [tuple(row) for row in rows]


async def copy(connection: asyncpg.Connection, rows: list[tuple[Any, ...]]) -> None:
    """Copy one batch."""
    await connection.copy_records_to_table(
        "events", schema_name="normalizer", columns=COPIED_EVENT_COLUMNS, records=rows
    )


_OWNERS: Final = "select array(select distinct owner from normalizer.source_positions)"
_HELD: Final = """
    select count(*), count(distinct owner)
    from   normalizer.source_positions
    where  topic = $1 and owner <> all($2::text[])
"""
_TABLES: Final = """
    select   format('%I.%I', schemaname, tablename)
    from     pg_tables
    where    schemaname = 'projector'
    order by 1
"""
_SIZES: Final = """
    select pg_total_relation_size('normalizer.events'),
           pg_total_relation_size('projector.call_facts')
           + pg_total_relation_size('projector.execution_facts')
"""
_READ: Final = """
    select coalesce(sum(next_offset), 0)::bigint from normalizer.source_positions where topic = $1
"""
_OUTCOMES: Final = """
    select coalesce(sum(outcomes), 0)::bigint from normalizer.source_positions where topic = $1
"""


if __name__ == "__main__":
    parser = option_parser(__doc__, results=True)
    parser.add_argument("--events", type=int, default=300_000, help="default: 300000")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument(
        "--processes",
        type=int,
        default=os.cpu_count() or 1,
        help="normalizers that share the topic; default: one a processor",
    )
    options = parser.parse_args()
    sys.exit(
        asyncio.run(main(options.events, options.seed, options.processes, results=options.results))
    )

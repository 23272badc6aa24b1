"""Measures retention while a writer runs, and checks what it leaves if it's killed at any point.

    python -m bench.retention                                3,000,000 events, in about 15 minutes
    python -m bench.retention --events 10000000 --results    the full form, into docs/results.csv

Half of the events are old. A writer stores 2,000 new ones per second, first alone and then while
`projector maintain` runs. At each named point of a run the process is killed with SIGKILL, and
another run starts. At the end every count by hour must be as it was before, `projector verify` must
find no difference, and `normalizer ledger verify` must explain every row. Then an execution of
100,000 events and one of a million are deleted, one after the other. Exits with 1 if anything is
missing, or if the first of the two takes longer than 8 s.
"""

import asyncio
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
import msgspec

from bench.history import make_history
from normalizer.cli.ledger_check import verify_ledger
from normalizer.core.batch import Batch, PartitionBatch, RecordWithOutcomes
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.embedded import PostgresServer, remove_server_folder
from normalizer.store.claim import Claim
from normalizer.store.migrate import migrate
from normalizer.store.store import Store
from tests.chaos.points import Point, gate_at
from tests.support.results import command_line, option_parser, write_results
from tests.support.stack import Database

RATE: Final = 2_000
EVENTS_A_BATCH: Final = 100
ALONE_S: Final = 20.0
KEEP_DAYS: Final = 10
LARGE: Final = (100_000, 1_000_000)
AIM_S: Final = 8.0
_SETTINGS: Final = {"shared_buffers": "512MB", "max_wal_size": "8GB"}
_ROLES: Final = ("command.issued", "command.claimed", "command.started", "call.done")
_ANONYMOUS: Final = re.compile(r"RssAnon:\s+(\d+)")

_DEFERRED: Final = (
    "after insert or update on normalizer.archived_row_counts "
    "deferrable initially deferred for each row"
)
POINTS: Final = (
    Point(
        "while it raises the horizon", "after update on normalizer.retention_horizon for each row"
    ),
    Point(
        "with executions and rows locked", "before delete on normalizer.events for each statement"
    ),
    Point(
        "with calls deleted and executions stored",
        "after delete on projector.call_facts for each statement",
    ),
    Point(
        "with rows deleted and nothing in the ledger",
        "before insert on normalizer.archived_row_counts for each statement",
    ),
    Point("before the commit", _DEFERRED),
    Point("before a later commit", _DEFERRED.replace("insert or update", "update"), visits=40),
)


class Leaving(NamedTuple):
    """A run of `projector maintain`: how long it took, and the greatest memory of its session."""

    seconds: float
    session_mb: float


class Writer:
    """Stores events of now at an even rate, and notes how long each batch takes."""

    def __init__(self, url: str) -> None:
        self._store = Store(url, owner="bench")
        self._normalizer = Normalizer()
        self._batches = 0
        self.took_s: list[float] = []
        self.late_s = 0.0

    async def run(self) -> None:
        """Write until cancelled. A late batch doesn't make later ones late, too."""
        async with self._store:
            claim = await self._store.claim_partition(
                "noetl.live", 0, cluster_id="bench", log_start=0
            )
            began_s = time.monotonic()
            while True:
                at_s = began_s + self._batches * EVENTS_A_BATCH / RATE
                await asyncio.sleep(max(at_s - time.monotonic(), 0))
                batch = self._batch(claim)
                written_s = time.monotonic()
                await self._store.write(batch)
                self.took_s.append(time.monotonic() - written_s)
                self.late_s = max(self.late_s, time.monotonic() - at_s)
                claim = msgspec.structs.replace(claim, next_offset=batch.parts[0].next_offset)

    def _batch(self, claim: Claim) -> Batch:
        now_ms = time.time_ns() // 1_000_000
        self._batches += 1
        items: list[RecordWithOutcomes] = []
        for number in range(EVENTS_A_BATCH):
            call = number // len(_ROLES)
            execution_id = (1 << 60) + self._batches * 5 + call // 5
            event = {
                "execution_id": execution_id,
                "event_type": _ROLES[number % len(_ROLES)],
                "status": "COMPLETED" if number % len(_ROLES) == 3 else "RUNNING",
                "step": f"step_{call % 5}",
                "command_id": f"{execution_id}:{call % 5}",
                "created_at": now_ms,
                "meta": {"attempts": 0},
            }
            record = RawRecord(
                topic=claim.topic,
                partition=claim.partition,
                offset=claim.next_offset + number,
                value=msgspec.json.encode(event),
                recorded_ms=now_ms,
            )
            items.append((record, self._normalizer.normalize(record)))
        part = PartitionBatch(
            topic=claim.topic,
            incarnation=claim.incarnation,
            partition=claim.partition,
            epoch=claim.epoch,
            from_offset=claim.next_offset,
            next_offset=claim.next_offset + EVENTS_A_BATCH,
            items=items,
        )
        return Batch(parts=(part,))

    def since(self, number: int) -> str:
        """The median, the 99th percentile, and the longest, from this batch on."""
        took_ms = sorted(1000 * one for one in self.took_s[number:])
        if not took_ms:
            return "none"
        p99 = took_ms[math.ceil(0.99 * len(took_ms)) - 1]
        median = took_ms[len(took_ms) // 2]
        return f"{median:.1f} ms median, {p99:.1f} ms p99, {took_ms[-1]:.0f} ms longest"


async def main(events: int, *, large: Sequence[int], results: bool) -> int:
    """Print the figures. Returns 1 if something is missing or the first execution takes long."""
    figures: dict[str, object] = {}
    wrong: list[str] = []
    async with _database() as database:
        connection = await asyncpg.connect(
            database.admin_url, server_settings={"search_path": "projector, normalizer, public"}
        )
        now = datetime.now(UTC)
        began_s = time.monotonic()
        made = await _fill(connection, events, now)
        _say(figures, "events, half of them old", f"{made:,} in {time.monotonic() - began_s:.0f} s")
        hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
        before = await _counts(connection, hour)
        writer = Writer(database.url)
        async with _running(writer):
            await asyncio.sleep(ALONE_S)
            _say(figures, "a batch of the writer alone", writer.since(0))
            for point in POINTS:
                await _killed_at(database, point)
            first, stored = len(writer.took_s), await _stored(connection)
            left = await _maintain(database, connection)
            gone = stored - await _stored(connection)
            _say(
                figures,
                "retention after six kills",
                f"{gone:,} events in {left.seconds:.0f} s, {gone / left.seconds:,.0f} a second",
            )
            _say(figures, "a batch of the writer beside it", writer.since(first))
            _say(figures, "the writer was late by at most", f"{writer.late_s:.1f} s")
        old = await connection.fetchval(_OLD, now - timedelta(days=KEEP_DAYS, hours=1))
        wrong += [f"{old} old events stay"] if old else []
        wrong += await _differences(connection, hour, before)
        wrong += await _proven(database)
        for size in large:
            await _add_large(connection, size, now)
            before = await _counts(connection, hour)
            async with _running(writer := Writer(database.url)):
                await asyncio.sleep(ALONE_S / 4)
                first = len(writer.took_s)
                left = await _maintain(database, connection, (1 << 61) + size)
                _say(
                    figures,
                    f"an execution of {size:,} events",
                    f"{left.seconds:.1f} s with the start of the process, "
                    f"{left.session_mb:,.0f} MB of its session beyond shared buffers, "
                    f"a batch of the writer {writer.since(first)}",
                )
            wrong += await _differences(connection, hour, before)
            wrong += [f"{size:,} take {left.seconds:.1f} s"] * (
                size <= LARGE[0] and left.seconds > AIM_S
            )
            if await connection.fetchval(_OLD, now - timedelta(days=KEEP_DAYS, hours=1)):
                wrong.append(f"an execution of {size:,} events stays")
        wrong += await _proven(database)
        await connection.close()
    _say(figures, "differences", "; ".join(wrong) or 0)
    if results:
        write_results("retention", command_line(), figures)
    return 1 if wrong else 0


def _say(figures: dict[str, object], what: str, figure: object) -> None:
    figures[what] = figure
    print(f"{what}: {figure}", flush=True)


@asynccontextmanager
async def _database() -> AsyncIterator[Database]:
    folder = Path(tempfile.mkdtemp(prefix="noetl-bench-"))
    folder.chmod(0o711)
    try:
        async with PostgresServer(folder / "postgres", settings=_SETTINGS) as postgres:
            url = await postgres.create_database("retention")
            await migrate(url, report=lambda _: None)
            superuser = postgres.superuser_url.rpartition("/")[0]
            yield Database(name="retention", url=url, admin_url=f"{superuser}/retention")
    finally:
        remove_server_folder(folder / "postgres")
        remove_server_folder(folder)


async def _fill(connection: asyncpg.Connection, events: int, now: datetime) -> int:
    """Store a history of twice the days that are kept, with the positions that explain it."""
    made = await make_history(
        connection,
        events,
        until=now - timedelta(hours=2),
        per_day=events / (2 * KEEP_DAYS),
    )
    await connection.execute(_POSITIONS)
    await connection.execute("vacuum analyze")
    return made


async def _add_large(connection: asyncpg.Connection, size: int, now: datetime) -> None:
    """Store one execution that ended long ago."""
    at = now - timedelta(days=2 * KEEP_DAYS)
    for first in range(0, size, 5_000):
        await connection.execute(_LARGE, size, first, min(first + 5_000, size) - 1, at)
    await connection.execute("analyze normalizer.events, projector.call_facts")


@asynccontextmanager
async def _running(writer: Writer) -> AsyncIterator[None]:
    task = asyncio.create_task(writer.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _killed_at(database: Database, point: Point) -> None:
    """Run `projector maintain`, and kill it at the point."""
    async with gate_at(point, database) as gate:
        process = await _start(database)
        waits = asyncio.create_task(gate.until_somebody_waits())
        ends = asyncio.create_task(process.wait())
        await asyncio.wait({waits, ends}, return_when=asyncio.FIRST_COMPLETED)
        if ends.done():
            waits.cancel()
            message = f"it never came to the point {point}"
            raise SystemExit(message)
        process.kill()
        await ends
        await waits


async def _maintain(
    database: Database, connection: asyncpg.Connection, execution_id: int | None = None
) -> Leaving:
    """Run it to its end. The seconds are those until this execution is gone, if there is one."""
    began_s, peak_mb, gone_s = time.monotonic(), 0.0, None
    process = await _start(database)
    ends = asyncio.create_task(process.wait())
    while not ends.done():
        for (pid,) in await connection.fetch(_SESSIONS):
            with suppress(OSError):
                found = _ANONYMOUS.search(Path(f"/proc/{pid}/status").read_text())
                peak_mb = max(peak_mb, int(found[1]) / 1024 if found else 0)
        if execution_id and not gone_s and not await connection.fetchval(_IS_THERE, execution_id):
            gone_s = time.monotonic() - began_s
        await asyncio.wait({ends}, timeout=0.1)
    if ends.result() != 0:
        message = f"projector maintain ended with {ends.result()}"
        raise SystemExit(message)
    return Leaving(gone_s or time.monotonic() - began_s, peak_mb)


async def _start(database: Database) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "projector", "maintain", "--sample", "0"),
        *("--keep-events", f"{KEEP_DAYS}d", "--keep-margin", "1m"),
        env=os.environ | {"DATABASE_URL": database.url},
        stdout=asyncio.subprocess.DEVNULL,
    )


async def _proven(database: Database) -> list[str]:
    """What `projector verify` and the ledger find."""
    verify = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "projector", "verify"),
        env=os.environ | {"DATABASE_URL": database.url},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await verify.communicate()
    wrong = [said.decode()] if verify.returncode != 0 else []
    return wrong + [text async for one in verify_ledger(database.url, None) for text in one.wrong]


async def _stored(connection: asyncpg.Connection) -> int:
    stored: int = await connection.fetchval(
        "select count(*) from normalizer.events where source_topic = 'noetl.events'"
    )
    return stored


async def _counts(connection: asyncpg.Connection, hour: datetime) -> dict[str, str]:
    """A digest of each view of counts by hour, of hours before this one."""
    return {
        view: await connection.fetchval(_DIGEST.format(view=view, keys=keys, sums=sums), hour)
        for view, keys, sums in _VIEWS
    }


async def _differences(
    connection: asyncpg.Connection, hour: datetime, before: dict[str, str]
) -> list[str]:
    now = await _counts(connection, hour)
    return [f"{view} counts other than before" for view in before if before[view] != now[view]]


_VIEWS: Final = (
    ("event_counts", "hour, step, event_type, status, attempts", "events"),
    ("call_outcomes_by_attempt", "hour, playbook, step, attempts", "calls"),
    ("call_time_histogram", "hour, measure, playbook, step, attempts, status, bucket", "calls"),
    ("execution_outcomes", "hour, playbook, outcome", "executions"),
    ("worker_failures", "hour, worker_id", "calls"),
    ("failures_by_error", "hour, step, error_class", "calls"),
    ("late_arrivals", "hour, shape", "events"),
)

_DIGEST: Final = """
    select md5(string_agg(counted::text, ' ' order by counted::text))
    from   (
               select {keys}, sum({sums}) as total
               from   projector.{view}
               where  hour < $1::timestamptz
               group by {keys}
               having sum({sums}) <> 0
           ) as counted
"""

_OLD: Final = """
    select count(*) from normalizer.events where coalesce(recorded_at, created_at) < $1::timestamptz
"""

_IS_THERE: Final = """
    select exists (select from normalizer.events where execution_id = $1::bigint)
"""

_SESSIONS: Final = """
    select pid
    from   pg_stat_activity
    where  datname = current_database() and query like '%delete_executions%'
    and    pid <> pg_backend_pid()
"""

_POSITIONS: Final = """
    insert into normalizer.source_positions (
        topic, incarnation, partition, cluster_id, owner, start_offset, next_offset, records,
        outcomes, stored
    )
    select   source_topic, source_incarnation, source_partition, 'bench', 'history', 0,
             max(source_offset) + 1, max(source_offset) + 1, count(*), count(*)
    from     normalizer.events
    group by 1, 2, 3
"""

_LARGE: Final = """
    with added as (
        insert into normalizer.events (
            event_id, execution_id, event_type, step, status, created_at, recorded_at, command_id,
            worker_id, evidence, shape, source_topic, source_partition, context
        )
        select (1::bigint << 61) + $1::bigint * 4 + number, (1::bigint << 61) + $1::bigint,
               (array['command.issued', 'command.claimed', 'command.started', 'call.done'])
                   [1 + number % 4],
               'step_' || number / 4 % 10,
               case number % 4 when 3 then 'COMPLETED' else 'RUNNING' end,
               $4::timestamptz + number * interval '1 millisecond',
               $4::timestamptz + number * interval '1 millisecond', 'c' || number / 4, 'worker',
               212, 'executor', 'noetl.events', 0, '{"data": "xxxxxxxxxxxxxxxxxxxx"}'
        from   generate_series($2::integer, $3::integer) as number
        returning 1
    )
    update normalizer.source_positions
    set    next_offset = next_offset + counted.number, records = records + counted.number,
           outcomes = outcomes + counted.number, stored = stored + counted.number
    from   (select count(*) as number from added) as counted
    where  (topic, incarnation, partition) = ('noetl.events', 0, 0)
"""


if __name__ == "__main__":
    parser = option_parser(__doc__, results=True)
    parser.add_argument("--events", type=int, default=3_000_000, help="default: 3000000")
    parser.add_argument(
        "--large",
        type=int,
        nargs="*",
        default=list(LARGE),
        help="events of the large executions; default: 100000 1000000",
    )
    options = parser.parse_args()
    sys.exit(asyncio.run(main(options.events, large=options.large, results=options.results)))

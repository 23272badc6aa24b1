"""Measures what a report that changes a stored row costs, by the size of its execution.

    python -m bench.merges               100 merges in each
    python -m bench.merges --results     the same, into docs/results.csv

One execution has 100,000 events and a thousand have 100 each. A second report of one of their
events changes its row: one transaction a merge, in turn.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from normalizer.core.normalize import Normalizer
from normalizer.embedded import PostgresServer, remove_folder
from normalizer.store.migrate import migrate
from normalizer.store.store import Store
from tests.support.factories import batch_of_records, raw_record
from tests.support.results import command_line, write_results
from tests.support.table_rows import claimed

LARGE: Final = 100_000
SMALL: Final = 100
AIM: Final = 2.0
_FILL: Final = """
    insert into normalizer.events (event_id, execution_id, event_type, step, status, attempts,
                                   created_at, command_id, evidence, shape, source_topic,
                                   source_partition, source_offset, recorded_at)
    select (1700000000000 + number)::bigint << 22, $1::bigint + number / $2::integer,
           (array['command.issued', 'command.started', 'call.done'])[1 + number % 3], 'fetch',
           (array['PENDING', 'RUNNING', 'COMPLETED'])[1 + number % 3], 0,
           now() - interval '1 hour' + number * interval '1 millisecond',
           $1::bigint || ':fetch:' || number / 3, 212, 'executor', 'filled', 0, number, now()
    from   generate_series($3::integer, $4::integer) as number
"""
_ENDED: Final = """
    select   event_id, execution_id, command_id
    from     normalizer.events
    where    event_type = 'call.done' and (execution_id = 1) = $1::boolean
    order by md5(event_id::text)
    limit    $2::integer
"""


async def main(options: argparse.Namespace) -> int:
    """Print the times of both. Returns 1 if the large execution's exceed the aim."""
    async with _database() as url:
        connection = await asyncpg.connect(url)
        try:
            for first, size, begin in ((1, LARGE, 0), (1_000, SMALL, LARGE)):
                for part in range(begin, begin + LARGE, 10_000):
                    await connection.execute(_FILL, first, size, part, part + 9_999)
            await connection.execute("vacuum (analyze)")
            large, small = await _merged(connection, url, options.merges)
        finally:
            await connection.close()
    ratio = statistics.median(large) / statistics.median(small)
    figures: dict[str, object] = {
        f"in an execution of {SMALL} events": _figures(small),
        f"in an execution of {LARGE:,} events": _figures(large),
        "medians": f"{ratio:.2f} (aim: at most {AIM:g})",
    }
    for what, figure in figures.items():
        print(f"{what}: {figure}", flush=True)
    if options.results:
        write_results("merges", command_line(), figures)
    return 0 if ratio <= AIM else 1


async def _merged(
    connection: asyncpg.Connection, url: str, merges: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of each merge in the large execution, and in small ones."""
    normalize = Normalizer().normalize
    rows = [await connection.fetch(_ENDED, is_large, merges) for is_large in (True, False)]
    took_ms: tuple[list[float], list[float]] = ([], [])
    async with Store(url, owner="bench", application_name="bench") as store:
        claim = await claimed(store)
        for offset, pair in enumerate(zip(*rows, strict=True)):
            for which, row in enumerate(pair):
                sent = dict(row) | {"event_type": "call.done", "step": "fetch", "status": "FAILED"}
                record = raw_record(2 * offset + which, value=sent | {"error": f"HTTP {offset}"})
                batch = batch_of_records(claim, [(record, normalize(record))])
                began = time.perf_counter()
                totals = await store.write(batch)
                took_ms[which].append((time.perf_counter() - began) * 1000)
                if totals.merged != 1:
                    raise SystemExit(f"not merged: {totals}")
                claim = msgspec.structs.replace(claim, next_offset=claim.next_offset + 1)
    return took_ms


def _figures(took_ms: list[float]) -> str:
    cut = statistics.quantiles(took_ms, n=20, method="inclusive")
    return (
        f"median {statistics.median(took_ms):.1f} ms, p95 {cut[18]:.1f} ms ({len(took_ms)} merges)"
    )


@asynccontextmanager
async def _database() -> AsyncIterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="noetl-bench-"))
    folder.chmod(0o711)
    try:
        async with PostgresServer(folder / "postgres", durable=False) as postgres:
            url = await postgres.create_database("merges")
            await migrate(url, report=lambda _: None)
            yield url
    finally:
        remove_folder(folder / "postgres")
        remove_folder(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--merges", type=int, default=100, help="in each; 100")
    parser.add_argument("--results", action="store_true", help="add rows to docs/results.csv")
    sys.exit(asyncio.run(main(parser.parse_args())))

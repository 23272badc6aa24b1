"""A backfill killed again and again, as a process of its own, ends as one that was left alone."""

import asyncio
import random
import signal
import sys
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from normalizer.config.settings import Settings
from tests.support.job_runs import (
    backfill_files,
    job_settings,
    ledger_mistakes,
    record_lines,
    simulated_records,
    table_contents,
    write_file,
)
from tests.support.service_runs import environment
from tests.support.stack import Cluster, Database
from tests.support.table_rows import connected
from tests.support.waiting import moment

_STORED: Final = "select coalesce(sum(records), 0)::bigint from normalizer.job_parts"


async def start(settings: Settings, path: Path) -> asyncio.subprocess.Process:
    """`normalizer backfill file` as a process."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "normalizer", "backfill", "file", str(path)),
        env=environment(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def killed_at(
    connection: asyncpg.Connection, settings: Settings, path: Path, records: int
) -> None:
    """Run until this number of records is in, and a little longer. Then kill -9 before the end."""
    process = await start(settings, path)
    try:
        while await connection.fetchval(_STORED) < records and process.returncode is None:
            await moment()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        said, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("events", "kills", "batch_rows"),
    [(4_000, 2, 300), pytest.param(12_000, 4, 1_000, marks=pytest.mark.soak)],
)
async def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(
    database: Database,
    cluster: Cluster,
    tmp_path: Path,
    events: int,
    kills: int,
    batch_rows: int,
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - a failure is looked into by its seed
    draw = random.Random(seed)
    records = list(simulated_records(events))
    path = write_file(tmp_path / "history.zst", record_lines(records))
    settings = job_settings(database, batch_rows=batch_rows)
    # The second half is left alone: a job that is done when it is killed would be run again.
    latest = len(records) // 2
    moments = sorted(draw.randrange(latest) for _ in range(kills))

    async with connected(database) as connection:
        for at in moments:
            await killed_at(connection, settings, path, at)
        process = await start(settings, path)
        said, _ = await process.communicate()
        harmed = await table_contents(connection)
        runs = await connection.fetch("select run, state, epoch from normalizer.jobs")
    assert process.returncode == 0, said.decode()
    async with cluster.database() as other:
        await backfill_files(other, path)
        async with connected(other) as connection:
            unharmed = await table_contents(connection)

    assert harmed == unharmed
    assert [(row["run"], row["state"]) for row in runs] == [(1, "complete")]
    assert await ledger_mistakes(database) == []

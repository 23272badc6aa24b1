"""History as files, topics and tables, and jobs over it that run in this process."""

import gzip
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
import zstandard

from normalizer.cli.ledger_check import verify_ledger
from normalizer.config.settings import Settings
from normalizer.core.normalize import Normalizer
from normalizer.jobs.backfill import Backfill
from normalizer.jobs.dry_run.backfill_dry_run import BackfillDryRun
from normalizer.jobs.dry_run.diff import DryRunDiff, RowChange
from normalizer.jobs.engine.job_spec import JobSpec
from normalizer.jobs.engine.known_sources import read_known_sources
from normalizer.jobs.engine.run_progress import RunProgressPrinter, RunResult
from normalizer.jobs.engine.runner import JobRunner
from normalizer.jobs.engine.throttle import Throttle
from normalizer.jobs.sources.file_source import FileSource
from normalizer.jobs.sources.job_source import JobSource
from normalizer.jobs.sources.topic_source import TopicRange, TopicSource
from normalizer.runtime.logging_setup import get_logger
from normalizer.runtime.screen import Screen
from normalizer.runtime.slices import Normalize
from projector.database_session import open_connection
from projector.verify.ranges import VerifyScope
from projector.verify.verify import verify as verify_projections
from simulator.kcat_lines import lines
from simulator.mix import Mix
from simulator.sent_record import SentRecord
from simulator.topic_records import records
from tests.support.stack import Database, Topic

NORMALIZE: Final = Normalizer().normalize

ROWS: Final = """
    select   to_jsonb(event) - 'batch_id' - 'ingested_at' as row
    from     normalizer.events as event
    order by event_id
"""

REFUSED: Final = """
    select   source_topic, source_incarnation, source_partition, source_offset, source_index, reason
    from     normalizer.quarantine
    order by 1, 2, 3, 4, 5
"""

COUNTERS: Final = """
    select   bucket_start, event_type, status, attempts, events
    from     projector.attempts_by_status
    order by 1, 2, 3, 4
"""


def simulated_records(
    events: int, *, seed: int = 1, mix: Mix | None = None
) -> Iterator[SentRecord]:
    """The simulator's records until this many events are reported."""
    sent = 0
    for record in records(mix or Mix(), seed):
        if sent >= events:
            return
        sent += len(record.outcomes)
        yield record


def record_lines(sent: Iterable[SentRecord], topic: str = "noetl.events") -> bytes:
    """The records as kcat prints them."""
    return b"".join(line + b"\n" for line in lines(sent, topic, _ledger_without_file))


def _ledger_without_file(*_: object) -> None:
    """A ledger that is not written to a file."""


def write_file(path: Path, content: bytes) -> Path:
    """Write the content to a file, packed as its name says."""
    match path.suffix:
        case ".gz":
            content = gzip.compress(content, 1)
        case ".zst":
            content = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(content)
        case _:
            pass
    path.write_bytes(content)
    return path


def job_settings(database: Database, **fields: Any) -> Settings:
    """Settings of a job without a broker."""
    return Settings(**({"database_url": database.url} | fields))


def make_backfill(
    settings: Settings,
    source: JobSource,
    name: str,
    *,
    normalize: Normalize = NORMALIZE,
    accept_expired: bool = False,
    **throttle: Any,
) -> Backfill:
    """A backfill that ignores live traffic unless `throttle` is given."""
    return Backfill(
        runner(settings, JobSpec(kind="backfill", source=name), **throttle),
        source,
        normalize,
        accept_expired=accept_expired,
    )


async def backfill_topic(settings: Settings, topic: Topic, **bounds: Any) -> RunResult:
    """The result of one run over the topic."""
    assert settings.database_url
    known = await read_known_sources(settings.database_url)
    source = TopicSource(
        settings, topic.name, TopicRange(**bounds), live=known.live, clusters=known.clusters
    )
    return await make_backfill(settings, source, f"{topic.name} {bounds}").run()


def runner(settings: Settings, spec: JobSpec, **throttle: Any) -> JobRunner:
    """A job runner that ignores live traffic unless `throttle` is given, and prints nothing."""
    return JobRunner(
        settings,
        spec,
        throttle=Throttle(get_logger(), **({"read_lag": None, "max_rate": None} | throttle)),
        progress=RunProgressPrinter(Screen(io.StringIO()), spec.kind),
    )


def ndjson(*values: Any) -> bytes:
    """A value a line."""
    return b"".join(msgspec.json.encode(value) + b"\n" for value in values)


async def backfill_events(database: Database, *events: Any) -> RunResult:
    """The result of one run over a file with these events."""
    with tempfile.TemporaryDirectory() as folder:
        return await backfill_files(
            database, write_file(Path(folder, "events.ndjson"), ndjson(*events))
        )


async def backfill_files(
    database: Database, *paths: Path, accept_expired: bool = False, **options: Any
) -> RunResult:
    """The result of one run over files. `options` are of the source and of the settings."""
    named = {"form", "defaults"}
    source = {name: value for name, value in options.items() if name in named}
    settings = job_settings(
        database, **{name: value for name, value in options.items() if name not in named}
    )
    known = await read_known_sources(database.url)
    files = FileSource(
        paths,
        resolve_incarnation=known.incarnation_resolver(None),
        known=known.file_topics,
        **source,
    )
    name = " ".join(map(str, paths))
    return await make_backfill(settings, files, name, accept_expired=accept_expired).run()


async def run_dry(
    database: Database,
    source: JobSource,
    normalize: Normalize = NORMALIZE,
    *,
    note: Callable[[RowChange], None] | None = None,
    batch_rows: int = 100,
) -> DryRunDiff:
    """What a backfill of the source would change. Each change is noted too."""
    diff = DryRunDiff(note)
    async with BackfillDryRun(
        database.url, source, normalize, diff, batch_rows=batch_rows
    ) as trial:
        await trial.run()
    return diff


async def table_contents(connection: asyncpg.Connection) -> dict[str, Any]:
    """Rows, rejections and counters, in comparable form."""
    return {
        "rows": [msgspec.json.decode(row["row"]) for row in await connection.fetch(ROWS)],
        "rejected": [tuple(row) for row in await connection.fetch(REFUSED)],
        "counters": [tuple(row) for row in await connection.fetch(COUNTERS)],
    }


async def ledger_mistakes(database: Database) -> list[str]:
    """Return the mistakes that `ledger verify`, without a broker, and `projector verify` find."""
    found = [
        text async for explained in verify_ledger(database.url, None) for text in explained.wrong
    ]
    async with open_connection(database.url) as connection:
        verdicts = [one async for one in verify_projections(connection, VerifyScope())]
    return found + [str(verdict) for verdict in verdicts if verdict.verdict != "match"]

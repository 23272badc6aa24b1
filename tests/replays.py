"""History as files, topics and tables; jobs over it, played in this process."""

import gzip
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
import zstandard

from normalizer.cli.ledger import verify
from normalizer.core.normalize import Normalizer
from normalizer.jobs.asked import Asked
from normalizer.jobs.backfill import Backfill
from normalizer.jobs.diff import Diff
from normalizer.jobs.dryrun import DryRun
from normalizer.jobs.files import FileSource
from normalizer.jobs.known import look_up
from normalizer.jobs.pace import Pace
from normalizer.jobs.playing import Player
from normalizer.jobs.reporting import Progress, Verdict
from normalizer.jobs.source import Source
from normalizer.process.screen import Screen
from normalizer.process.slices import Normalize
from normalizer.settings import Settings
from normalizer.telemetry import get_logger
from projector.database import connected
from projector.verify import verify as verify_projections
from projector.windows import Scope
from simulator.lines import lines
from simulator.mix import Mix
from simulator.record import Record
from simulator.topic import records
from tests.stack import Database

NORMALIZE: Final = Normalizer().normalize

ROWS: Final = """
    select   to_jsonb(event) - 'batch_id' - 'ingested_at' as row
    from     normalizer.events as event
    order by event_id
"""

REFUSED: Final = """
    select   source_topic, source_generation, source_partition, source_offset, source_index, reason
    from     normalizer.quarantine
    order by 1, 2, 3, 4, 5
"""

COUNTERS: Final = """
    select   bucket_start, event_type, status, attempts, events
    from     projector.attempts_by_status
    order by 1, 2, 3, 4
"""


def played(events: int, *, seed: int = 1, mix: Mix | None = None) -> Iterator[Record]:
    """The simulator's records until so many events are told."""
    told = 0
    for record in records(mix or Mix(), seed):
        if told >= events:
            return
        told += len(record.outcomes)
        yield record


def record_lines(told: Iterable[Record], topic: str = "noetl.events") -> bytes:
    """The records as kcat prints them."""
    return b"".join(line + b"\n" for line in lines(told, topic, _not_noted))


def _not_noted(*_: object) -> None:
    """Where a record lies is not asked."""


def written(path: Path, content: bytes) -> Path:
    """The content in a file, packed as its name says."""
    match path.suffix:
        case ".gz":
            content = gzip.compress(content, 1)
        case ".zst":
            content = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(content)
        case _:
            pass
    path.write_bytes(content)
    return path


def settings_of(database: Database, **fields: Any) -> Settings:
    """Settings of a job without a broker."""
    return Settings(**({"database_url": database.url} | fields))


def backfill_of(
    settings: Settings,
    source: Source,
    name: str,
    *,
    normalize: Normalize = NORMALIZE,
    accept_expired: bool = False,
    **pace: Any,
) -> Backfill:
    """A backfill that looks at no live traffic unless `pace` says so."""
    return Backfill(
        player(settings, Asked(kind="backfill", source=name), **pace),
        source,
        normalize,
        accept_expired=accept_expired,
    )


def player(settings: Settings, asked: Asked, **pace: Any) -> Player:
    """A player that looks at no live traffic unless `pace` says so, and shows nothing."""
    return Player(
        settings,
        asked,
        pace=Pace(get_logger(), **({"live": None, "yield_at_s": None, "max_rate": None} | pace)),
        progress=Progress(Screen(io.StringIO()), asked.kind),
    )


async def backfill_files(
    database: Database, *paths: Path, accept_expired: bool = False, **options: Any
) -> Verdict:
    """The verdict of one run over files. `options` are of the source and of the settings."""
    named = {"form", "defaults"}
    source = {name: value for name, value in options.items() if name in named}
    settings = settings_of(
        database, **{name: value for name, value in options.items() if name not in named}
    )
    known = await look_up(database.url)
    files = FileSource(
        paths,
        generation_of=known.generation_of(None),
        known=known.short_files,
        **source,
    )
    name = " ".join(map(str, paths))
    return await backfill_of(settings, files, name, accept_expired=accept_expired).run()


async def tried_out(database: Database, *paths: Path) -> Diff:
    """What a backfill of the files would change."""
    diff = Diff()
    batch_rows = settings_of(database).batch_rows
    async with DryRun(
        database.url, FileSource(paths), NORMALIZE, diff, batch_rows=batch_rows
    ) as trial:
        await trial.run()
    return diff


async def contents(connection: asyncpg.Connection) -> dict[str, Any]:
    """Rows, refusals and counters, as they can be compared."""
    return {
        "rows": [msgspec.json.decode(row["row"]) for row in await connection.fetch(ROWS)],
        "refused": [tuple(row) for row in await connection.fetch(REFUSED)],
        "counters": [tuple(row) for row in await connection.fetch(COUNTERS)],
    }


async def found_wrong(database: Database) -> list[str]:
    """What `ledger verify`, without a broker, and `projector verify` find wrong."""
    found = [text async for explained in verify(database.url, None) for text in explained.wrong]
    async with connected(database.url) as connection:
        verdicts = [one async for one in verify_projections(connection, Scope())]
    return found + [str(verdict) for verdict in verdicts if verdict.verdict != "match"]

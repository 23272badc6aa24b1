"""The command line of backfill: a topic, files, a table."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from normalizer import settings as settings_of
from normalizer.core.normalize import Normalizer
from normalizer.jobs.asked import Asked
from normalizer.jobs.backfill import Backfill
from normalizer.jobs.defaults import Defaults, parse_defaults
from normalizer.jobs.edge import (
    changes_option,
    checked,
    configured,
    history_options,
    leave,
    milliseconds_of,
    pacing_of,
    say,
    set_option,
    settings_for,
    texts_of,
    time_of,
    try_out,
    verdict_of,
    waited,
)
from normalizer.jobs.files import FileSource, Form
from normalizer.jobs.known import Known, look_up
from normalizer.jobs.playing import Player
from normalizer.jobs.reporting import Verdict
from normalizer.jobs.source import Source
from normalizer.jobs.tables import TableSource
from normalizer.jobs.topics import Range, TopicSource
from normalizer.settings import Settings

_expired_option: Final = click.option(
    "--accept-expired",
    is_flag=True,
    help="Go on without events that lie before the horizon of retention.",
)


@click.group()
def backfill() -> None:
    """Replay history through the same rules and the same store: a second run adds nothing.

    \b
    normalizer backfill topic noetl.events --from-time 2026-01-01
    normalizer backfill file dump.ndjson.zst
    normalizer backfill table noetl.event --source-url postgresql://reader@noetl/noetl
    normalizer backfill file dump.ndjson.zst --dry-run

    It can be stopped or killed at any moment: the same command goes on. It stands still while live
    traffic is behind.
    """


@backfill.command("topic")
@click.argument("topic")
@click.option("--partition", "partitions", type=click.IntRange(0), multiple=True, help="Only this.")
@click.option("--from-offset", type=click.IntRange(0), help="In each partition.")
@click.option("--to-offset", type=click.IntRange(0), help="Up to, not including.")
@click.option("--from-time", metavar="TIME", help="2026-01-31, or 2026-01-31T12:00:00Z; UTC.")
@click.option("--to-time", metavar="TIME", help="Up to, not including.")
@changes_option
@_expired_option
@history_options
def backfill_topic(
    *,
    topic: str,
    partitions: tuple[int, ...],
    from_offset: int | None,
    to_offset: int | None,
    from_time: str | None,
    to_time: str | None,
    dry_run: bool,
    changes: Path | None,
    **pacing: Any,
) -> None:
    """A topic, whole or by offsets or times, up to its end now.

    \b
    normalizer backfill topic noetl.events
    normalizer backfill topic noetl.events --from-time 2026-01-01 --to-time 2026-02-01
    normalizer backfill topic other.events --partition 3 --from-offset 1000 --to-offset 2000

    Records keep their coordinates, so what the service has read, or will read, is the same.
    """
    if (from_offset is not None and from_time) or (to_offset is not None and to_time):
        raise click.UsageError("say where to begin and to end by offset or by time, not by both")
    settings = settings_for("database_url", "kafka_bootstrap_servers")
    wanted = Range(
        partitions=tuple(sorted(set(partitions))),
        from_offset=from_offset,
        to_offset=to_offset,
        from_ms=milliseconds_of(time_of(from_time)),
        to_ms=milliseconds_of(time_of(to_time)),
    )
    asked = Asked(kind="backfill", source=f"topic {topic}", options=texts_of(wanted))
    _play(
        settings,
        asked,
        lambda known: TopicSource(settings, topic, wanted, live=known.live),
        dry_run=dry_run,
        changes=changes,
        pacing=pacing,
    )


@backfill.command("file")
@click.argument(
    "paths",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "lines", "dump"]),
    default="auto",
    show_default=True,
    help='A record a line, or one {"result":[...]} or [...].',
)
@click.option(
    "--generation", type=click.IntRange(0), help="Of records that name their topic; default live."
)
@set_option
@changes_option
@_expired_option
@history_options
def backfill_file(
    *,
    paths: tuple[Path, ...],
    form: Form,
    generation: int | None,
    defaults: tuple[str, ...],
    dry_run: bool,
    changes: Path | None,
    **pacing: Any,
) -> None:
    """Files and folders: plain, gzip or zstd, whatever their names.

    \b
    kcat -b kafka:9092 -t noetl.events -C -e -J | zstd > events.ndjson.zst
    normalizer backfill file events.ndjson.zst
    normalizer backfill file execution_events.json --set execution_id=543942402461926429

    A line is an event, or a record as `kcat -J` prints it, which keeps its own coordinates. All
    regular files in a folder are read, but hidden ones; what is no event goes to quarantine, line
    by line. A stream must be saved first: a run that goes on reads the file again.
    """
    settings = settings_for("database_url")
    given = checked(lambda: parse_defaults(defaults))
    options = {f"set {name}": value for name, value in given.items()}
    options |= {} if form == "auto" else {"format": form}
    options |= {} if generation is None else {"generation": str(generation)}
    source = " ".join(str(path.resolve()) for path in paths)
    _play(
        settings,
        Asked(kind="backfill", source=f"file {source}", options=options),
        lambda known: FileSource(
            paths,
            form=form,
            defaults=Defaults(given),
            generation_of=known.generation_of(generation),
            known=known.short_files,
        ),
        dry_run=dry_run,
        changes=changes,
        pacing=pacing,
    )


@backfill.command("table")
@click.argument("table", required=False)
@click.option("--query", help="Rows of a query instead; it must give event_id.")
@click.option(
    "--source-url",
    envvar="SOURCE_DATABASE_URL",
    show_envvar=True,
    help="Where the table is; default DATABASE_URL.",
)
@click.option("--name", help="What coordinates call it; default the table's name.")
@click.option("--key", help="Columns that tell rows apart, by commas; default the primary key.")
@set_option
@changes_option
@_expired_option
@history_options
def backfill_table(
    *,
    table: str | None,
    query: str | None,
    source_url: str | None,
    name: str | None,
    key: str | None,
    defaults: tuple[str, ...],
    dry_run: bool,
    changes: Path | None,
    **pacing: Any,
) -> None:
    """A PostgreSQL table, as NoETL's noetl.event, or a query.

    \b
    SOURCE_DATABASE_URL=postgresql://reader@noetl/noetl normalizer backfill table noetl.event
    normalizer backfill table --key event_id --name recent \\
        --query "select * from noetl.event where created_at >= '2026-01-01'"

    Rows are read in pages along the key, each in a statement of its own.
    """
    if (table is None) == (query is None):
        raise click.UsageError("say a table or --query, one of them")
    settings = settings_for("database_url")
    assert settings.database_url
    given = checked(lambda: parse_defaults(defaults))
    url = source_url or settings.database_url
    options = {f"set {field}": value for field, value in given.items()}
    asked_options = {"query": query, "name": name, "key": key}
    options |= {option: value for option, value in asked_options.items() if value is not None}
    where = settings_of.masked_url(url).partition("?")[0] if source_url else "this database"
    source = TableSource(
        url,
        table=table,
        query=query,
        name=name,
        key=[column.strip() for column in (key or "").split(",") if column.strip()],
        defaults=Defaults(given),
    )
    _play(
        settings,
        Asked(kind="backfill", source=f"table {table or ''} of {where}", options=options),
        lambda _known: source,
        dry_run=dry_run,
        changes=changes,
        pacing=pacing,
    )


def _play(
    settings: Settings,
    asked: Asked,
    source_of: Callable[[Known], Source],
    *,
    dry_run: bool,
    changes: Path | None,
    pacing: dict[str, Any],
) -> NoReturn:
    """Play a backfill, or say what it would do, and end with its verdict."""
    assert settings.database_url
    screen = configured(settings)
    source = source_of(waited(look_up(settings.database_url)))
    normalize = Normalizer(settings.redact_keys).normalize
    if dry_run:
        try_out(settings, source, normalize, changes)

    def flow(player: Player) -> Coroutine[Any, Any, Verdict]:
        accept_expired = pacing["accept_expired"]
        return Backfill(player, source, normalize, accept_expired=accept_expired).run()

    verdict = verdict_of(settings, asked, flow, screen, pacing_of(pacing))
    say(screen, verdict)
    leave(verdict)

"""The commands of backfill: from a topic, from files, from a table."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from normalizer.cli.exits import load_settings, normalizer_or_exit, run_or_exit, settings_or_exit
from normalizer.cli.job_execution import configure_screen, end_job, run_dry, run_job
from normalizer.cli.job_options import (
    OFFSET,
    SMALL_NUMBER,
    changes_option,
    history_options,
    parse_times,
    raise_if_empty,
    selection_texts,
    set_option,
    throttle_options_of,
    to_milliseconds,
)
from normalizer.jobs.backfill import Backfill
from normalizer.jobs.engine.run_progress import RunResult
from normalizer.jobs.engine.runner import JobRunner
from normalizer.jobs.engine.spec import JobSpec
from normalizer.jobs.engine.stored_state import StoredState, read_stored_state
from normalizer.jobs.sources.field_defaults import FieldDefaults, parse_defaults
from normalizer.jobs.sources.file_source import FileSource, Form
from normalizer.jobs.sources.source import HistorySource
from normalizer.jobs.sources.table_source import TableSource
from normalizer.jobs.sources.topic_source import TopicRange, TopicSource
from normalizer.passwords import masked_url
from normalizer.settings import Settings

_expired_option: Final = click.option(
    "--accept-expired",
    is_flag=True,
    help="Go on without events that are older than the retention of events.",
)


@click.group()
def backfill() -> None:
    """Replay history through the same rules and the same store: a second run adds nothing.

    \b
    normalizer backfill topic noetl.events --from-time 2026-01-01
    normalizer backfill file dump.ndjson.zst
    normalizer backfill table noetl.event --source-url postgresql://reader@noetl/noetl
    normalizer backfill file dump.ndjson.zst --dry-run

    It can be stopped or killed at any moment: the same command resumes. It pauses while live
    traffic is behind that a process reads.
    """


@backfill.command("topic")
@click.argument("topic")
@click.option("--partition", "partitions", type=SMALL_NUMBER, multiple=True, help="Only this.")
@click.option("--from-offset", type=OFFSET, help="In each partition.")
@click.option("--to-offset", type=OFFSET, help="Up to, not including.")
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
    **throttling: Any,
) -> None:
    """A topic, whole or by offsets or times, up to its end now.

    \b
    normalizer backfill topic noetl.events
    normalizer backfill topic noetl.events --from-time 2026-01-01 --to-time 2026-02-01
    normalizer backfill topic other.events --partition 3 --from-offset 1000 --to-offset 2000

    Records keep their coordinates, so what the service has read, or will read, is the same.
    """
    if (from_offset is not None and from_time) or (to_offset is not None and to_time):
        raise click.UsageError("give the range by offset or by time, not by both")
    raise_if_empty("offset", from_offset, to_offset)
    first, after = parse_times(from_time, to_time)
    settings = load_settings("database_url", "kafka_bootstrap_servers")
    wanted = TopicRange(
        partitions=tuple(sorted(set(partitions))),
        from_offset=from_offset,
        to_offset=to_offset,
        from_ms=to_milliseconds(first),
        to_ms=to_milliseconds(after),
    )
    spec = JobSpec(kind="backfill", source=f"topic {topic}", options=selection_texts(wanted))
    _run_backfill(
        settings,
        spec,
        lambda known: TopicSource(
            settings, topic, wanted, live=known.live, clusters=known.clusters
        ),
        dry_run=dry_run,
        changes=changes,
        throttling=throttling,
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
    help='A record per line, or one {"result":[...]} or [...].',
)
@click.option(
    "--incarnation",
    type=SMALL_NUMBER,
    help="Of records that name their topic; default the live one.",
)
@set_option
@changes_option
@_expired_option
@history_options
def backfill_file(
    *,
    paths: tuple[Path, ...],
    form: Form,
    incarnation: int | None,
    defaults: tuple[str, ...],
    dry_run: bool,
    changes: Path | None,
    **throttling: Any,
) -> None:
    """Backfill files and folders: plain, gzip or zstd, whatever their names.

    \b
    kcat -b kafka:9092 -t noetl.events -C -e -J | zstd > events.ndjson.zst
    normalizer backfill file events.ndjson.zst
    normalizer backfill file execution_events.json --set execution_id=543942402461926429

    A line is an event, or a record as `kcat -J` prints it, which keeps its own coordinates. All
    regular files in a folder are read, except hidden ones; a link to a folder in it is not
    followed, and named in a warning. A line that is no event is quarantined.
    A stream must be saved to a file first: a resumed run reads the file again.
    """
    settings = load_settings("database_url")
    given = settings_or_exit(lambda: parse_defaults(defaults))
    options = {f"set {name}": value for name, value in given.items()}
    options |= {} if form == "auto" else {"format": form}
    options |= {} if incarnation is None else {"incarnation": str(incarnation)}
    source = " ".join(str(path.resolve()) for path in paths)
    _run_backfill(
        settings,
        JobSpec(kind="backfill", source=f"file {source}", options=options),
        lambda known: FileSource(
            paths,
            form=form,
            defaults=FieldDefaults(given),
            incarnation_of=known.incarnation_of(incarnation),
            known=known.file_topics,
        ),
        dry_run=dry_run,
        changes=changes,
        throttling=throttling,
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
@click.option(
    "--key", help="Columns that identify a row, separated by commas; default the primary key."
)
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
    **throttling: Any,
) -> None:
    """A PostgreSQL table, as NoETL's noetl.event, or a query.

    \b
    SOURCE_DATABASE_URL=postgresql://reader@noetl/noetl normalizer backfill table noetl.event
    normalizer backfill table --key event_id --name recent \\
        --query "select * from noetl.event where created_at >= '2026-01-01'"

    Rows are read in pages along the key, each in a statement of its own.
    """
    if (table is None) == (query is None):
        raise click.UsageError("name a table or give --query, one of them")
    settings = load_settings("database_url")
    given = settings_or_exit(lambda: parse_defaults(defaults))
    url = source_url or settings.required_database_url
    options = {f"set {field}": value for field, value in given.items()}
    table_options = {"query": query, "name": name, "key": key}
    options |= {option: value for option, value in table_options.items() if value is not None}
    where = masked_url(url).partition("?")[0] if source_url else "this database"
    source = TableSource(
        url,
        table=table,
        query=query,
        name=name,
        key=[column.strip() for column in (key or "").split(",") if column.strip()],
        defaults=FieldDefaults(given),
        redact_keys=settings.redact_keys,
    )
    _run_backfill(
        settings,
        JobSpec(kind="backfill", source=f"table {table or ''} of {where}", options=options),
        lambda _known: source,
        dry_run=dry_run,
        changes=changes,
        throttling=throttling,
    )


def _run_backfill(
    settings: Settings,
    spec: JobSpec,
    source_of: Callable[[StoredState], HistorySource],
    *,
    dry_run: bool,
    changes: Path | None,
    throttling: dict[str, Any],
) -> NoReturn:
    """Run a backfill or its dry run, and end with its exit code."""
    screen = configure_screen(settings)
    source = source_of(run_or_exit(read_stored_state(settings.required_database_url)))
    normalize = normalizer_or_exit(settings).normalize
    if dry_run:
        run_dry(settings, source, normalize, changes, screen)

    def flow(runner: JobRunner) -> Coroutine[Any, Any, RunResult]:
        accept_expired = throttling["accept_expired"]
        return Backfill(runner, source, normalize, accept_expired=accept_expired).run()

    end_job(screen, run_job(settings, spec, flow, screen, throttle_options_of(throttling)))

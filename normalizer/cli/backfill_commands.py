"""The backfill commands, which read history from a topic, from files, or from a table.

Each command only builds its source. The job that reads it (`jobs/backfill.py`) is the same for all
three, and so is the job's dry run.
"""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from normalizer.cli.exit_on_error import (
    build_normalizer_or_exit,
    call_or_exit,
    load_settings_or_exit,
    run_or_exit,
)
from normalizer.cli.job_execution import (
    configure_logging_on_screen,
    dry_run_backfill_and_exit,
    exit_with_result,
    run_job,
)
from normalizer.cli.job_options import (
    NON_NEGATIVE_INT32_TYPE,
    OFFSET_TYPE,
    changes_option,
    defaults_option,
    options_from_selection,
    parse_time_range,
    raise_if_range_is_empty,
    rate_and_dry_run_options,
    to_kafka_timestamp_ms,
)
from normalizer.config.passwords import mask_url_passwords
from normalizer.config.settings import Settings
from normalizer.jobs.backfill import Backfill
from normalizer.jobs.engine.job_spec import JobSpec
from normalizer.jobs.engine.known_sources import KnownSources, read_known_sources
from normalizer.jobs.engine.run_progress import RunResult
from normalizer.jobs.engine.runner import JobRunner
from normalizer.jobs.sources.field_defaults import FieldDefaults, parse_field_defaults
from normalizer.jobs.sources.file_source import FileFormat, FileSource
from normalizer.jobs.sources.job_source import JobSource
from normalizer.jobs.sources.table_source import TableSource
from normalizer.jobs.sources.topic_source import TopicRange, TopicSource

_expired_option: Final = click.option(
    "--accept-expired",
    is_flag=True,
    help="Ignore events that are older than `projector maintain --keep-events` allows, and store "
    "the others. By default, the job stops with an error at the first event that's too old.",
)


@click.group()
def backfill() -> None:
    """Read history into the service's tables, by the service's rules. A second run adds nothing.

    \b
    normalizer backfill topic noetl.events --from-time 2026-01-01
    normalizer backfill file dump.ndjson.zst
    normalizer backfill table noetl.event --source-url postgresql://reader@noetl/noetl
    normalizer backfill file dump.ndjson.zst --dry-run

    You can stop or kill it at any time, and run the same command again to resume it. The backfill
    pauses while a running service has lag, so that live events come first.
    """


@backfill.command("topic")
@click.argument("topic")
@click.option(
    "--partition",
    "partitions",
    type=NON_NEGATIVE_INT32_TYPE,
    multiple=True,
    help="Read only this partition, for example 3. Repeat the option to read several. By default, "
    "all partitions are read.",
)
@click.option(
    "--from-offset",
    type=OFFSET_TYPE,
    help="The first offset to read in each partition, for example 1000. By default, each partition "
    "is read from its oldest record.",
)
@click.option(
    "--to-offset",
    type=OFFSET_TYPE,
    help="The offset to stop before in each partition. For example, with 2000 the last offset read "
    "is 1999. By default, each partition is read up to the end that it has when the job starts.",
)
@click.option(
    "--from-time",
    metavar="TIME",
    help="Read each partition from its first record at or after this time, for example 2026-01-31 "
    "or 2026-01-31T12:00:00Z. A time without a zone is UTC. By default, each partition is read "
    "from its oldest record.",
)
@click.option(
    "--to-time",
    metavar="TIME",
    help="Stop before the first record at or after this time in each partition, for example "
    "2026-02-28. A time without a zone is UTC. By default, each partition is read up to the end "
    "that it has when the job starts.",
)
@changes_option
@_expired_option
@rate_and_dry_run_options
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
    **run_options: Any,
) -> None:
    """Backfill a topic up to its present end, or a range of it.

    \b
    normalizer backfill topic noetl.events
    normalizer backfill topic noetl.events --from-time 2026-01-01 --to-time 2026-02-01
    normalizer backfill topic other.events --partition 3 --from-offset 1000 --to-offset 2000

    Records keep their topic, partition, and offset, so each is stored only once, even if the
    service has already read it or reads it later.
    """
    if (from_offset is not None and from_time) or (to_offset is not None and to_time):
        raise click.UsageError(
            "each end of the range must be either an offset or a time. Use only one of "
            "--from-offset and --from-time, and only one of --to-offset and --to-time"
        )
    raise_if_range_is_empty("offset", from_offset, to_offset)
    first, after = parse_time_range(from_time, to_time)
    settings = load_settings_or_exit("database_url", "kafka_bootstrap_servers")
    wanted = TopicRange(
        partitions=tuple(sorted(set(partitions))),
        from_offset=from_offset,
        to_offset=to_offset,
        from_ms=to_kafka_timestamp_ms(first),
        to_ms=to_kafka_timestamp_ms(after),
    )
    spec = JobSpec(kind="backfill", source=f"topic {topic}", options=options_from_selection(wanted))
    _run_backfill(
        settings,
        spec,
        lambda known: TopicSource(
            settings, topic, wanted, live=known.live, clusters=known.clusters
        ),
        dry_run=dry_run,
        changes=changes,
        run_options=run_options,
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
    help="The format of the files. 'lines' has one record per line. 'dump' is a single JSON "
    "document per file, either "
    '[...] or {"result":[...]}. '
    "'auto' detects the format of each file.",
)
@click.option(
    "--incarnation",
    type=NON_NEGATIVE_INT32_TYPE,
    help="Use it if a topic was deleted and created again, to say which topic the records come "
    "from: 0 is the first one, 1 is the second, and so on. It's needed only for records that name "
    "their topic, such as those that `kcat -J` prints. Without it, the job ends with an error at "
    "such a record.",
)
@defaults_option
@changes_option
@_expired_option
@rate_and_dry_run_options
def backfill_file(
    *,
    paths: tuple[Path, ...],
    form: FileFormat,
    incarnation: int | None,
    defaults: tuple[str, ...],
    dry_run: bool,
    changes: Path | None,
    **run_options: Any,
) -> None:
    """Backfill files and folders: plain, gzip, or zstd.

    \b
    kcat -b kafka:9092 -t noetl.events -C -e -J | zstd > events.ndjson.zst
    normalizer backfill file events.ndjson.zst
    normalizer backfill file execution_events.json --set execution_id=543942402461926429

    Each line is an event, or a record as `kcat -J` prints it. Such a record keeps its own topic,
    partition, and offset, so it's recognized if the service has stored it. A line that isn't an
    event goes to quarantine.

    In a folder, it reads all regular files that aren't hidden. It doesn't follow links to folders,
    but names them in a warning. It can't read from a stream, because an interrupted run has to read
    its input again. Save the stream to a file first.
    """
    settings = load_settings_or_exit("database_url")
    given = call_or_exit(lambda: parse_field_defaults(defaults))
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
            resolve_incarnation=known.incarnation_resolver(incarnation),
            known=known.file_topics,
        ),
        dry_run=dry_run,
        changes=changes,
        run_options=run_options,
    )


@backfill.command("table")
@click.argument("table", required=False)
@click.option(
    "--query",
    help="A SQL query to read instead of a table. Each row that it returns is read as one event, "
    "and must have a column event_id. A query also needs --key.",
)
@click.option(
    "--source-url",
    envvar="SOURCE_DATABASE_URL",
    show_envvar=True,
    help="The database to read from, for example postgresql://reader@noetl/noetl. Default: the "
    "database of DATABASE_URL.",
)
@click.option(
    "--name",
    help="The name under which to store the rows, for example recent. Their topic becomes pg:NAME. "
    "If you read the same rows again, use the same name, so that rows that are already stored are "
    "recognized and not stored twice. Default: the table's name, or a hash of the query.",
)
@click.option(
    "--key",
    help="The columns that together identify a row, comma-separated, for example "
    "execution_id,event_id. Rows are read in the order of these columns, so none of them may be "
    "null, and an index on them makes the job fast. Default: the table's primary key.",
)
@defaults_option
@changes_option
@_expired_option
@rate_and_dry_run_options
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
    **run_options: Any,
) -> None:
    """Backfill a PostgreSQL table, or the rows of a query.

    \b
    SOURCE_DATABASE_URL=postgresql://reader@noetl/noetl normalizer backfill table noetl.event
    normalizer backfill table --key event_id --name recent \\
        --query "select * from noetl.event where created_at >= '2026-01-01'"

    You can run it on a large table that's in use. It reads the table page by page in the order of
    its key, with one short statement per page, so no snapshot stays open for long.
    """
    if (table is None) == (query is None):
        raise click.UsageError(
            "expected either the name of a table, such as noetl.event, or --query, but not both"
        )
    settings = load_settings_or_exit("database_url")
    given = call_or_exit(lambda: parse_field_defaults(defaults))
    url = source_url or settings.required_database_url
    options = {f"set {field}": value for field, value in given.items()}
    table_options = {"query": query, "name": name, "key": key}
    options |= {option: value for option, value in table_options.items() if value is not None}
    where = mask_url_passwords(url).partition("?")[0] if source_url else "this database"
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
        run_options=run_options,
    )


def _run_backfill(
    settings: Settings,
    spec: JobSpec,
    open_source: Callable[[KnownSources], JobSource],
    *,
    dry_run: bool,
    changes: Path | None,
    run_options: dict[str, Any],
) -> NoReturn:
    """Run a backfill or its dry run, and exit with its code."""
    screen = configure_logging_on_screen(settings)
    source = open_source(run_or_exit(read_known_sources(settings.required_database_url)))
    normalize = build_normalizer_or_exit(settings).normalize
    if dry_run:
        dry_run_backfill_and_exit(settings, source, normalize, changes, screen)

    def flow(runner: JobRunner) -> Coroutine[Any, Any, RunResult]:
        accept_expired = run_options["accept_expired"]
        return Backfill(runner, source, normalize, accept_expired=accept_expired).run()

    exit_with_result(screen, run_job(settings, spec, flow, screen, run_options["max_rate"]))

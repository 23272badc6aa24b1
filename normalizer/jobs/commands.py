"""The command line of the jobs: each command says what is asked, plays one flow, says its verdict.

Exit codes as those of every command: 0 complete, or stopped when asked; 1 truncated, or something
was found; 2 wrong usage or settings; 3 failed; 130 ended at once by a second signal.
"""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO, TypeVar, cast

import click
import msgspec
import uvloop

from normalizer import settings as settings_of
from normalizer import telemetry
from normalizer.database import reading
from normalizer.envelope import RULES, RULES_VERSION
from normalizer.errors import REASONS, ConfigurationError, NormalizerError
from normalizer.jobs import statements
from normalizer.jobs.asked import Asked
from normalizer.jobs.backfill import Backfill, Normalize
from normalizer.jobs.defaults import Defaults, parse_defaults
from normalizer.jobs.diff import Diff
from normalizer.jobs.dryrun import DryRun
from normalizer.jobs.export import Export, PackedFile
from normalizer.jobs.export import Selection as ExportSelection
from normalizer.jobs.files import FileSource, Form
from normalizer.jobs.known import Known, look_up
from normalizer.jobs.pace import LiveTraffic, Pace
from normalizer.jobs.playing import Player
from normalizer.jobs.redrive import QuarantineSource
from normalizer.jobs.redrive import Selection as RedriveSelection
from normalizer.jobs.renormalise import Renormalise, RenormaliseDryRun
from normalizer.jobs.renormalise import Selection as RenormaliseSelection
from normalizer.jobs.reporting import Progress, Verdict, list_runs
from normalizer.jobs.source import Source
from normalizer.jobs.tables import TableSource
from normalizer.jobs.topics import Range, TopicSource
from normalizer.kafka import LogReader
from normalizer.normalize import Normalizer
from normalizer.settings import Settings
from normalizer.signals import stopping
from normalizer.up.screen import Screen

FOUND: Final = 1
MISUSED: Final = 2
BROKEN: Final = 3
YIELD_AT_S: Final = 2.0
SHOWN_REFUSALS: Final = 20

_T = TypeVar("_T")
_Command = TypeVar("_Command", bound=Callable[..., Any])


class Pacing(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a job may go; no part of what is asked."""

    yield_at_s: float | None
    max_rate: float | None


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


def _paced(command: _Command) -> _Command:
    for option in (
        click.option(
            "--yield-at",
            type=click.FloatRange(0),
            default=YIELD_AT_S,
            show_default=True,
            metavar="SECONDS",
            help="Stand still while live records wait for longer.",
        ),
        click.option("--no-yield", is_flag=True, help="Do not look at live traffic."),
        click.option(
            "--max-rate", type=click.FloatRange(0, min_open=True), help="Records a second at most."
        ),
    ):
        command = option(command)
    return command


def _history(command: _Command) -> _Command:
    return click.option(
        "--dry-run", is_flag=True, help="Write nothing; say what would change, field by field."
    )(_paced(command))


_set_option: Final = click.option(
    "--set",
    "defaults",
    multiple=True,
    metavar="NAME=VALUE",
    help="A field for rows that lack it, as execution_id or created_at. Repeatable.",
)


_changes_option: Final = click.option(
    "--changes",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --dry-run: every row that would change, one JSON object a line.",
)


@backfill.command("topic")
@click.argument("topic")
@click.option("--partition", "partitions", type=click.IntRange(0), multiple=True, help="Only this.")
@click.option("--from-offset", type=click.IntRange(0), help="In each partition.")
@click.option("--to-offset", type=click.IntRange(0), help="Up to, not including.")
@click.option("--from-time", metavar="TIME", help="2026-01-31, or 2026-01-31T12:00:00Z; UTC.")
@click.option("--to-time", metavar="TIME", help="Up to, not including.")
@_changes_option
@_history
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
    """A topic: all of it, or by offsets or times, up to where it ends now.

    \b
    normalizer backfill topic noetl.events
    normalizer backfill topic noetl.events --from-time 2026-01-01 --to-time 2026-02-01
    normalizer backfill topic other.events --partition 3 --from-offset 1000 --to-offset 2000

    Records keep their coordinates, so what the service has read, or will read, is the same.
    """
    if (from_offset is not None and from_time) or (to_offset is not None and to_time):
        raise click.UsageError("say where to begin and to end by offset or by time, not by both")
    settings = _settings("database_url", "kafka_bootstrap_servers")
    wanted = Range(
        partitions=tuple(sorted(set(partitions))),
        from_offset=from_offset,
        to_offset=to_offset,
        from_ms=_milliseconds(_time(from_time)),
        to_ms=_milliseconds(_time(to_time)),
    )
    asked = Asked(kind="backfill", source=f"topic {topic}", options=_texts(wanted))
    _play(
        settings,
        asked,
        lambda known: TopicSource(settings, topic, wanted, live=known.live),
        dry_run=dry_run,
        changes=changes,
        pacing=pacing,
    )


@backfill.command("file")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
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
@_set_option
@_changes_option
@_history
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
    """Files, and folders of files: plain, gzip or zstd.

    \b
    kcat -b kafka:9092 -t noetl.events -C -e -J | zstd > events.ndjson.zst
    normalizer backfill file events.ndjson.zst
    normalizer backfill file execution_events.json --set execution_id=543942402461926429

    A line is an event, or a record as `kcat -J` prints it, which keeps its own coordinates.
    """
    settings = _settings("database_url")
    given = _checked(lambda: parse_defaults(defaults))
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
@_set_option
@_changes_option
@_history
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
    """A PostgreSQL table, first of all noetl.event of a NoETL database, or a query.

    \b
    SOURCE_DATABASE_URL=postgresql://reader@noetl/noetl normalizer backfill table noetl.event
    normalizer backfill table --key event_id --name recent \\
        --query "select * from noetl.event where created_at >= '2026-01-01'"

    Rows are read in pages along the key, each in a statement of its own.
    """
    if (table is None) == (query is None):
        raise click.UsageError("say a table or --query, one of them")
    settings = _settings("database_url")
    assert settings.database_url
    given = _checked(lambda: parse_defaults(defaults))
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


@click.command()
@click.option("--shape", help="Only rows of this shape.")
@click.option("--rule", type=click.Choice(RULES), help="Only rows with a coercion by this rule.")
@click.option("--from-time", metavar="TIME", help="Of created_at: 2026-01-31, UTC.")
@click.option("--to-time", metavar="TIME", help="Up to, not including.")
@_changes_option
@_history
def renormalise(
    *,
    shape: str | None,
    rule: str | None,
    from_time: str | None,
    to_time: str | None,
    dry_run: bool,
    changes: Path | None,
    **pacing: Any,
) -> None:
    """Bring stored rows that older rules made to what today's rules make of them.

    \b
    normalizer renormalise --dry-run
    normalizer renormalise --rule status_unmapped --from-time 2026-01-01
    normalizer renormalise

    Each is rebuilt into what its producer sent and read again; projections follow. Keys never
    change. A row that today's rules would refuse stays as it is, and is listed.
    """
    settings = _settings("database_url")
    assert settings.database_url
    database_url = settings.database_url
    selection = RenormaliseSelection(
        shape=shape, rule=rule, from_time=_time(from_time), to_time=_time(to_time)
    )
    normalize = Normalizer(settings.redact_keys).normalize
    screen = _configured(settings)
    if dry_run:
        with _collected(changes) as diff:
            trial = RenormaliseDryRun(database_url, selection, normalize, diff)
            _waited(_until_stopped(trial.run(), trial.stop))
        _say_diff(diff)
    options = {"rules": str(RULES_VERSION)} | _texts(selection)
    asked = Asked(kind="renormalise", source="events", options=options)

    def flow(player: Player) -> Coroutine[Any, Any, Verdict]:
        return Renormalise(player, selection, normalize).run()

    verdict = _verdict(settings, asked, flow, screen, _pacing(pacing))
    _say(screen, verdict)
    if verdict.totals.refused:
        for line in _waited(_refusals(database_url, verdict)):
            screen.say(line)
    _leave(verdict)


@click.command()
@click.option("--reason", type=click.Choice(REASONS), help="Only of this reason.")
@click.option("--shape", help="Only of this shape.")
@click.option("--topic", help="Only of this topic.")
@click.option("--version", type=click.IntRange(0), help="Refused by this version of the rules.")
@click.option("--from-time", metavar="TIME", help="Refused at or after: 2026-01-31, UTC.")
@click.option("--to-time", metavar="TIME", help="Up to, not including.")
@click.option("--id", "ids", type=int, multiple=True, help="Only this entry. Repeatable.")
@click.option("--again", is_flag=True, help="Also what was tried under today's rules already.")
@click.option("--limit", type=click.IntRange(1), help="Entries at most.")
@_set_option
@_changes_option
@_history
def redrive(
    *,
    from_time: str | None,
    to_time: str | None,
    defaults: tuple[str, ...],
    dry_run: bool,
    changes: Path | None,
    **options: Any,
) -> None:
    """Try refused records once more, after the rules or the database were mended.

    \b
    normalizer quarantine redrive --reason invalid_id --dry-run
    normalizer quarantine redrive --reason invalid_id --limit 100
    normalizer quarantine redrive --reason missing_time --set created_at=2026-01-31

    Records keep their coordinates. Every try is recorded; what fails again stays. It needs the
    owner's DATABASE_URL: refused bytes may hold secrets.
    """
    settings = _settings("database_url")
    assert settings.database_url
    given = _checked(lambda: parse_defaults(defaults))
    pacing = Pacing(
        yield_at_s=None if options.pop("no_yield") else options.pop("yield_at"),
        max_rate=options.pop("max_rate"),
    )
    options.pop("yield_at", None)
    selection = RedriveSelection(from_time=_time(from_time), to_time=_time(to_time), **options)
    source = QuarantineSource(settings.database_url, selection, defaults=Defaults(given))
    normalize = source.normalized_by(Normalizer(settings.redact_keys).normalize)
    screen = _configured(settings)
    if dry_run:
        _try(settings, source, normalize, changes)
    asked_options = {"rules": str(RULES_VERSION)} | _texts(selection)
    asked_options |= {f"set {name}": value for name, value in given.items()}
    asked = Asked(kind="redrive", source="quarantine", options=asked_options)

    def flow(player: Player) -> Coroutine[Any, Any, Verdict]:
        return Backfill(player, source, normalize, positions_of=source.positions).run()

    verdict = _verdict(settings, asked, flow, screen, pacing)
    _say(screen, verdict)
    _leave(verdict)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--from-time", metavar="TIME", help="Of created_at: 2026-01-31, UTC.")
@click.option("--to-time", metavar="TIME", help="Up to, not including.")
@click.option("--execution", "executions", type=int, multiple=True, help="Only this. Repeatable.")
def export(
    *, file: Path, from_time: str | None, to_time: str | None, executions: tuple[int, ...]
) -> None:
    """Canonical events into FILE, one a line, packed by zstd; - writes plain lines.

    \b
    normalizer export events.ndjson.zst --from-time 2026-01-01 --to-time 2026-02-01
    normalizer export - --execution 543942402461926429 | jq .event_type

    The same events give the same bytes; `normalizer backfill file` takes them again.
    """
    settings = _settings("database_url")
    assert settings.database_url
    selection = ExportSelection(
        from_time=_time(from_time), to_time=_time(to_time), executions=tuple(sorted(executions))
    )
    telemetry.configure(level="critical")
    work = Export(settings.database_url, selection)
    if str(file) == "-":
        try:
            _waited(work.run(sys.stdout.buffer.write))
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Whoever read has enough. What Python still wants to flush at exit goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return

    async def packed() -> int:
        with PackedFile(file) as packer:
            return await work.run(packer.write)

    click.echo(f"{_waited(packed()):,} events in {file}", err=True)


@click.command()
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
def jobs(*, limit: int) -> None:
    """Runs of backfill, renormalise and redrive, the newest first.

    \b
    normalizer jobs
    """
    settings = _settings("database_url")
    assert settings.database_url
    for line in _waited(list_runs(settings.database_url, limit)) or ["no job has run"]:
        click.echo(line)


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
    screen = _configured(settings)
    source = source_of(_waited(look_up(settings.database_url)))
    normalize = Normalizer(settings.redact_keys).normalize
    if dry_run:
        _try(settings, source, normalize, changes)

    def flow(player: Player) -> Coroutine[Any, Any, Verdict]:
        return Backfill(player, source, normalize).run()

    verdict = _verdict(settings, asked, flow, screen, _pacing(pacing))
    _say(screen, verdict)
    _leave(verdict)


def _try(
    settings: Settings, source: Source, normalize: Normalize, changes: Path | None
) -> NoReturn:
    """Say what would change, and end."""
    assert settings.database_url
    database_url = settings.database_url

    async def dry_run(diff: Diff) -> Diff:
        async with DryRun(
            database_url, source, normalize, diff, batch_rows=settings.batch_rows
        ) as trial:
            await _until_stopped(trial.run(), trial.stop)
        return trial.stale

    with _collected(changes) as diff:
        stale = _waited(dry_run(diff))
    if source.truncated:
        click.echo(f"truncated: {source.truncated}", err=True)
    _say_diff(diff, stale)


def _say_diff(diff: Diff, stale: Diff | None = None) -> NoReturn:
    click.echo("dry run: nothing was written. It would be:")
    for line in diff.lines():
        click.echo(line)
    if stale is not None and (stale.count("changed") or stale.count("refused")):
        click.echo("already stored by older rules, and left as it is; renormalise would make it:")
        for line in stale.lines():
            click.echo(line)
    raise SystemExit(0)


@contextlib.contextmanager
def _collected(path: Path | None) -> Iterator[Diff]:
    """A diff that writes each of its rows into the file, where one is named."""
    if path is None:
        yield Diff()
        return
    with path.open("wb") as file:
        yield Diff(lambda change: file.write(msgspec.json.encode(change) + b"\n"))


async def _until_stopped(work: Coroutine[Any, Any, None], stop: Callable[[], None]) -> None:
    with stopping(stop):
        await work


def _verdict(
    settings: Settings,
    asked: Asked,
    flow: Callable[[Player], Coroutine[Any, Any, Verdict]],
    screen: Screen,
    pacing: Pacing,
) -> Verdict:
    async def play() -> Verdict:
        async with contextlib.AsyncExitStack() as opened:
            pace = await _pace(settings, pacing, opened)
            player = Player(settings, asked, pace=pace, progress=Progress(screen, asked.kind))
            with stopping(player.stop):
                return await flow(player)

    return _waited(play())


def _say(screen: Screen, verdict: Verdict) -> None:
    for line in verdict.lines():
        screen.say(line)


def _leave(verdict: Verdict) -> NoReturn:
    raise SystemExit({"truncated": FOUND, "failed": BROKEN}.get(verdict.state, 0))


async def _refusals(database_url: str, verdict: Verdict) -> list[str]:
    """The rows that stayed as they were, so many of them."""
    async with reading(database_url) as connection:
        rows = await connection.fetch(
            statements.LIST_REFUSALS, verdict.job_id, verdict.run, SHOWN_REFUSALS
        )
    lines = [f"  event {row['event_id']} stays: {row['reason']}: {row['detail']}" for row in rows]
    if verdict.totals.refused > len(lines):
        lines.append("  ... all of them are in normalizer.job_refusal")
    return lines


def _texts(selection: msgspec.Struct) -> dict[str, str]:
    """What was said of a selection, as text."""
    return {
        name: str(value)
        for name, value in msgspec.structs.asdict(selection).items()
        if value not in {None, (), False}
    }


def _pacing(options: dict[str, Any]) -> Pacing:
    return Pacing(
        yield_at_s=None if options["no_yield"] else options["yield_at"],
        max_rate=options["max_rate"],
    )


async def _pace(settings: Settings, pacing: Pacing, opened: contextlib.AsyncExitStack) -> Pace:
    """The pace, with an eye on live traffic where brokers are named."""
    logger = telemetry.get_logger()
    live = None
    if settings.kafka_bootstrap_servers and pacing.yield_at_s is not None:
        assert settings.database_url
        log = await opened.enter_async_context(LogReader(settings))
        live = LiveTraffic(settings.database_url, log)
    elif pacing.yield_at_s is not None:
        logger.info("live_traffic_not_watched", why="KAFKA_BOOTSTRAP_SERVERS is not set")
    return Pace(logger, live=live, yield_at_s=pacing.yield_at_s, max_rate=pacing.max_rate)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"{text}: expected a time as 2026-01-31T12:00:00Z") from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _milliseconds(time: datetime | None) -> int | None:
    return None if time is None else round(time.timestamp() * 1000)


class _ScreenLines:
    """A stream for log lines that go to the screen: they do not run into the live line."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def write(self, text: str) -> None:
        if text.strip("\n"):
            self._screen.say(text.rstrip("\n"))

    def flush(self) -> None:
        """Every line is flushed when it is written."""

    def isatty(self) -> bool:
        return self._screen.rewrites


def _configured(settings: Settings) -> Screen:
    screen = Screen(sys.stderr)
    telemetry.configure(
        level=settings.log_level,
        log_format=settings.log_format,
        secrets=settings.secrets(),
        stream=cast("TextIO", _ScreenLines(screen)),
    )
    return screen


def _settings(*needs: str) -> Settings:
    return _checked(lambda: settings_of.load(os.environ, needs=needs))


def _checked(ask: Callable[[], _T]) -> _T:
    try:
        return ask()
    except ConfigurationError as error:
        _end(error)


def _waited(work: Coroutine[Any, Any, _T]) -> _T:
    """What the work gives; ends the process with one line where it fails."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except NormalizerError as error:
        _end(error)


def _end(error: NormalizerError) -> NoReturn:
    for line in str(error).splitlines():
        click.echo(f"error: {settings_of.masked_url(line)}", err=True)
    raise SystemExit(MISUSED if isinstance(error, ConfigurationError) else BROKEN) from error

"""The command line: each command reads its settings, calls one flow, and says what came of it.

Exit codes: 0 done, or stopped when asked; 1 something was found (a check failed, a record was
refused under --strict, a record is lost, `up` could not start); 2 wrong usage or settings; 3 the
service met what trying again cannot cure; 130 a second signal ended it at once.
"""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click
import msgspec
import uvloop

from normalizer import quarantine as refusals
from normalizer import settings as settings_of
from normalizer import telemetry
from normalizer.check import check as run_check
from normalizer.envelope import json_schema
from normalizer.errors import REASONS, ConfigurationError, NormalizerError
from normalizer.explain import explain as explain_record
from normalizer.explain import parse_coordinates
from normalizer.filter import filter_lines
from normalizer.garbage import collect_rarely
from normalizer.jobs.backfill_commands import backfill
from normalizer.jobs.row_commands import export, jobs, redrive, renormalise
from normalizer.kafka import LogReader
from normalizer.ledger import verify
from normalizer.lines import open_lines
from normalizer.metrics import documented as documented_metrics
from normalizer.migrate import migrate as apply_migrations
from normalizer.migrate import read_status
from normalizer.monitor import Monitor
from normalizer.playback import Playback
from normalizer.service import Service
from normalizer.settings import Settings
from normalizer.signals import stopping
from normalizer.up import Options
from normalizer.up import up as run_stack

FOUND: Final = 1
MISUSED: Final = 2
BROKEN: Final = 3

_T = TypeVar("_T")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="event-normalizer")
def main() -> None:
    """Raw workflow events from Kafka in, canonical rows in PostgreSQL out, exactly once.

    \b
    normalizer up                      the whole stack with traffic, on this machine
    normalizer check                   may it run here? what is missing?
    normalizer run                     the service, until SIGTERM
    normalizer normalize < raw.ndjson  the rules alone, as a filter

    Settings come from the environment: `normalizer config` documents each of them.

    \b
    Exit codes: 0 done; 1 something was found; 2 wrong usage or settings; 3 trying again cannot
    cure it; 130 ended at once by a second signal.
    """


@main.command()
@click.option("--accept-reset", is_flag=True, help="Read a topic that was made anew as a new one.")
@click.option(
    "--no-kafka",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Read records from a file instead: one a line, as `kcat -J` prints them or bare.",
)
def run(*, accept_reset: bool, file: Path | None) -> None:
    """Read, normalise and store, until SIGTERM or Ctrl-C; a second one ends at once.

    \b
    DATABASE_URL=postgresql://writer:secret@db/events \\
    KAFKA_BOOTSTRAP_SERVERS=kafka:9092 normalizer run

    \b
    kcat -b kafka:9092 -t noetl.events -C -e -J > records.ndjson
    normalizer run --no-kafka records.ndjson

    Any number may run at once: they share the partitions. Killing one at any moment loses and
    doubles nothing. On one machine each needs a port of its own: NORMALIZER_HTTP_PORT=0.

    \b
    curl localhost:9464/metrics   what `normalizer metrics` explains
    curl localhost:9464/livez     is the process alive? (restart it if not)
    curl localhost:9464/readyz    may it work, and if not, why?
    """
    needs = ("database_url",) if file else ("database_url", "kafka_bootstrap_servers")
    settings = _settings(*needs)
    telemetry.configure(
        level=settings.log_level, log_format=settings.log_format, secrets=settings.secrets()
    )
    for mistake in settings_of.unknown_variables(os.environ):
        telemetry.get_logger().warning("unknown_variable", why=mistake)

    async def serve() -> None:
        if file:
            playback = Playback(settings, file)
            with stopping(playback.stop):
                await playback.run()
            return
        service = Service(settings, accept_reset=accept_reset)
        with Monitor(settings, service), stopping(service.stop):
            await service.run()

    collect_rarely()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())
    except NormalizerError as error:
        telemetry.get_logger().error("ended", why=telemetry.described(error))
        misused = isinstance(error, ConfigurationError)
        raise SystemExit(MISUSED if misused else BROKEN) from error
    except Exception as error:
        telemetry.get_logger().error(
            "ended", why=f"a mistake of ours: {telemetry.described(error)}"
        )
        telemetry.get_logger().debug("traceback", exc_info=error)
        raise SystemExit(BROKEN) from error


@main.command()
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path(".noetl"), show_default=True
)
@click.option("--no-kafka", is_flag=True, help="Play the records from a file: needs no Java.")
@click.option("--no-traffic", is_flag=True, help="Start everything, play nothing.")
@click.option(
    "--external", is_flag=True, help="Use the shell's database and brokers, not own ones."
)
@click.option("--rate", type=float, default=200.0, show_default=True, help="Events a second.")
@click.option(
    "--seed", type=int, default=1, show_default=True, help="The same seed, the same traffic."
)
@click.option("--for", "for_s", type=float, metavar="SECONDS", help="End by itself after so long.")
def up(
    *,
    folder: Path,
    no_kafka: bool,
    no_traffic: bool,
    external: bool,
    rate: float,
    seed: int,
    for_s: float | None,
) -> None:
    """Start PostgreSQL, Kafka, normalizer, dashboard and traffic here; Ctrl-C stops all.

    \b
    normalizer up
    normalizer up --rate 2000 --seed 7
    normalizer up --no-kafka
    """
    telemetry.configure(level="critical")
    options = Options(
        folder=folder,
        kafka=not no_kafka,
        traffic=not no_traffic,
        external=external,
        rate=rate,
        seed=seed,
        for_s=for_s,
    )
    raise SystemExit(asyncio.run(run_stack(options)))


@main.command()
@click.option("--status", is_flag=True, help="Only say what is applied and what is pending.")
def migrate(*, status: bool) -> None:
    """Bring the database of DATABASE_URL to the newest schema; nothing if it is.

    \b
    normalizer migrate --status
    normalizer migrate
    """
    settings = _settings("database_url")
    assert settings.database_url
    if not status:
        applied = _waited(apply_migrations(settings.database_url, say=click.echo))
        click.echo(f"{len(applied)} applied now")
        return
    states = _waited(read_status(settings.database_url))
    for one in states:
        when = f" at {one.applied_at:%Y-%m-%d %H:%M:%S}" if one.applied_at else ""
        click.echo(f"{one.state:<8} {one.name}{when}")
    raise SystemExit(FOUND if any(one.state != "applied" for one in states) else 0)


@main.command()
@click.argument("file", default="-", type=click.Path(exists=True, allow_dash=True, dir_okay=False))
@click.option("--strict", is_flag=True, help="Exit 1 if anything was refused.")
def normalize(*, file: str, strict: bool) -> None:
    """Raw records in, one a line; canonical events out, one a line.

    \b
    echo '{"execution_id":"7","name":"call.done","step":"s","payload":{}}' | normalizer normalize
    normalizer normalize --strict records.ndjson.gz > events.ndjson

    A refused record gives {"quarantine":{"line":N,"reason":CODE,"detail":TEXT}} in its place.
    A blank line holds no record. NORMALIZER_REDACT_KEYS is followed.
    """
    settings = _settings()
    with contextlib.ExitStack() as opened:
        source: Any = (
            sys.stdin.buffer if file == "-" else opened.enter_context(open_lines(Path(file)))
        )
        try:
            refused = filter_lines(source, sys.stdout.buffer, redact_keys=settings.redact_keys)
        except BrokenPipeError:
            # Whoever read has enough. What Python still wants to flush at exit goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        except KeyboardInterrupt:
            raise SystemExit(130) from None
    raise SystemExit(FOUND if strict and refused else 0)


@main.command()
def schema() -> None:
    """The JSON Schema of a canonical event.

    \b
    normalizer schema > event.schema.json
    """
    click.echo(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2))


@main.command()
def config() -> None:
    """Every setting with what it means, its default and its present value; secrets are masked.

    \b
    normalizer config
    normalizer config > normalizer.env
    """
    click.echo(settings_of.documented(_settings()), nl=False)
    for mistake in settings_of.unknown_variables(os.environ):
        click.echo(mistake, err=True)


@main.command()
def metrics() -> None:
    """Every metric of /metrics: what it means, and what to look at and do. A Markdown table.

    \b
    normalizer metrics | grep lag
    """
    for line in documented_metrics():
        click.echo(line)


@main.command()
def check() -> None:
    """What the service may and may not do with these settings; changes nothing. Exit 1: it may not.

    \b
    DATABASE_URL=postgresql://writer:secret@db/events \\
    KAFKA_BOOTSTRAP_SERVERS=kafka:9092 normalizer check
    """
    settings = _settings("database_url", "kafka_bootstrap_servers")
    for mistake in settings_of.unknown_variables(os.environ):
        click.echo(mistake, err=True)

    async def report() -> bool:
        failed = False
        async with LogReader(settings) as log:
            async for finding in run_check(settings, log):
                click.echo(finding)
                failed = failed or bool(finding.remedy)
        return failed

    raise SystemExit(FOUND if _waited(report()) else 0)


@main.group()
def quarantine() -> None:
    """What was refused, and why.

    \b
    normalizer quarantine list --reason invalid_json
    normalizer quarantine show 17
    """


@quarantine.command("list")
@click.option("--reason", type=click.Choice(REASONS), help="Only of this reason.")
@click.option("--topic", help="Only of this topic.")
@click.option("--redriven", is_flag=True, help="Also those that came through since.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
def list_refused(*, reason: str | None, topic: str | None, redriven: bool, limit: int) -> None:
    """The latest refusals that are still refused, one a line, the newest first.

    \b
    normalizer quarantine list
    normalizer quarantine list --reason missing_execution_id --limit 10
    """
    settings = _settings("database_url")
    assert settings.database_url
    entries = _waited(
        refusals.list_entries(
            settings.database_url, reason=reason, topic=topic, redriven=redriven, limit=limit
        )
    )
    click.echo(refusals.table(entries) if entries else "nothing is refused")


@quarantine.command("show")
@click.argument("number", type=int)
@click.option("--raw", is_flag=True, help="Show the content as it came, secrets and all.")
def show_refused(*, number: int, raw: bool) -> None:
    """Everything about one refusal; its content with secrets redacted.

    \b
    normalizer quarantine show 17
    normalizer quarantine show 17 --raw
    """
    settings = _settings("database_url")
    assert settings.database_url
    entry, kept = _waited(refusals.show_entry(settings.database_url, number))
    click.echo(refusals.page(entry, kept, raw=raw, redact_keys=settings.redact_keys))


@main.group()
def ledger() -> None:
    """Whether every record is accounted for.

    \b
    normalizer ledger verify
    """


@ledger.command("verify")
def verify_ledger() -> None:
    """Compare the running totals with the tables and with the log. Exit 1: a record is lost.

    \b
    normalizer ledger verify

    Without KAFKA_BOOTSTRAP_SERVERS the tables alone are compared.
    """
    settings = _settings("database_url")
    database_url = settings.database_url
    assert database_url

    async def report() -> bool:
        lost = False
        async with _log_of(settings) as log:
            async for partition in verify(database_url, log):
                click.echo(partition)
                lost = lost or bool(partition.wrong)
        return lost

    raise SystemExit(FOUND if _waited(report()) else 0)


for _job in (backfill, renormalise, export, jobs):
    main.add_command(_job)
quarantine.add_command(redrive)


@main.command()
@click.argument("coordinates", metavar="TOPIC:PARTITION:OFFSET")
@click.option(
    "--generation", type=click.IntRange(0), help="Of a topic made anew; default the newest."
)
def explain(*, coordinates: str, generation: int | None) -> None:
    """Where one record went: its row, or why it has none; its shape, rules and coercions.

    \b
    normalizer explain noetl.events:3:1042

    Where the log still has the record, what today's rules make of it is shown too, redacted.
    """
    settings = _settings("database_url")
    database_url = settings.database_url
    assert database_url

    async def report() -> list[str]:
        async with _log_of(settings) as log:
            return await explain_record(
                database_url,
                log,
                parse_coordinates(coordinates),
                generation=generation,
                redact_keys=settings.redact_keys,
            )

    click.echo("\n".join(_waited(report())))


def _settings(*needs: str) -> Settings:
    """The settings of the environment; ends the process where they are wrong."""
    try:
        return settings_of.load(os.environ, needs=needs)
    except ConfigurationError as error:
        _end(error)


def _waited(work: Coroutine[Any, Any, _T]) -> _T:
    """What the work gives; ends the process with one line where it fails."""
    telemetry.configure(level="critical")
    try:
        return asyncio.run(work)
    except NormalizerError as error:
        _end(error)


def _end(error: NormalizerError) -> NoReturn:
    for line in str(error).splitlines():
        click.echo(f"error: {settings_of.masked_url(line)}", err=True)
    raise SystemExit(MISUSED if isinstance(error, ConfigurationError) else BROKEN) from error


@contextlib.asynccontextmanager
async def _log_of(settings: Settings) -> AsyncIterator[LogReader | None]:
    """The log, where brokers are named."""
    if not settings.kafka_bootstrap_servers:
        yield None
        return
    async with LogReader(settings) as log:
        yield log

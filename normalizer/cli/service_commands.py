"""The commands run, up, and migrate."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import uvloop

from normalizer.cli.exit_on_error import (
    exit_with_error,
    load_settings_or_exit,
    run_or_exit,
)
from normalizer.cli.job_options import RATE_TYPE, SECONDS_TYPE
from normalizer.config import environment
from normalizer.config.settings import Settings
from normalizer.consumer.record_store import StoreFactory, postgres_stores
from normalizer.consumer.service import Service
from normalizer.errors import NormalizerError
from normalizer.monitoring.monitoring_server import MonitoringServer
from normalizer.observability.tracing import open_tracing, otel_header_secrets
from normalizer.runtime import logging_setup
from normalizer.runtime.command_line import NonEmptyPath
from normalizer.runtime.exit_codes import PROBLEM_FOUND, RESTART_NEEDED, exit_code_for
from normalizer.runtime.garbage_collection import collect_garbage_rarely
from normalizer.runtime.signals import stop_on_signals
from normalizer.store.migrate import migrate as apply_migrations, read_migration_statuses
from normalizer.store.psql_script import psql_script
from normalizer.up import UpOptions, up as run_stack
from normalizer.up.service_processes import ServiceProcesses

accept_reset_option: Final = click.option(
    "--accept-reset",
    is_flag=True,
    help="Read a topic from its beginning if it was recreated, or if it now comes from another "
    "cluster. This can't be undone, so first check that KAFKA_BOOTSTRAP_SERVERS is right. By "
    "default, such a topic isn't read, because its stored positions belong to a different log.",
)
accept_shapes_option: Final = click.option(
    "--accept-shapes",
    is_flag=True,
    help="Read a partition even if the shapes file (set in NORMALIZER_SHAPES) has changed since "
    "the last read. Use it once, after you changed the file on purpose. Stored rows stay as they "
    "are, and the new file applies only to records that are read from now on. Without this option, "
    "such a partition isn't read.",
)


@click.command()
@accept_reset_option
@accept_shapes_option
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Run this many processes on this machine, for example 4. Each uses about one CPU core, "
    "and together they share the partitions. One address serves the probes and metrics of all "
    "processes.",
)
def run(*, accept_reset: bool, accept_shapes: bool, processes: int) -> None:
    """Read, normalize, and store until SIGTERM or Ctrl-C. A second signal ends it at once.

    \b
    DATABASE_URL=postgresql://writer:secret@db/events \\
    KAFKA_BOOTSTRAP_SERVERS=kafka:9092 normalizer run

    You can run any number of processes, on any number of machines. They share the partitions, and
    if one is killed, no event is lost or stored twice. A process uses about one CPU core, so
    --processes 2 runs two of them, and restarts one that dies. If you start the command twice on
    one machine, give the second another port with NORMALIZER_HTTP_PORT (0 chooses a free one).

    \b
    curl localhost:9464/metrics   explained by `normalizer metrics`
    curl localhost:9464/livez     is the process alive? (restart it if not)
    curl localhost:9464/readyz    is it working? if not, why?
    """
    if accept_reset and processes > 1:
        raise click.UsageError(
            "--accept-reset can't be used with several processes, because a process that is "
            "restarted would accept every later reset too. Run it once with --processes 1"
        )
    settings = load_settings_and_configure_log("database_url", "kafka_bootstrap_servers")
    if processes > 1:
        _run_several(settings, ["--accept-shapes"] if accept_shapes else [], processes)
    run_service_or_exit(
        run_service(settings, accept_reset=accept_reset, accept_shapes=accept_shapes)
    )


async def run_service(
    settings: Settings,
    *,
    accept_reset: bool,
    accept_shapes: bool,
    open_stores: StoreFactory = postgres_stores,
) -> None:
    """Run one process of the service, with its probes, until a signal."""
    with open_tracing(settings, os.environ) as tracer:
        service = Service(
            settings,
            accept_reset=accept_reset,
            accept_shapes=accept_shapes,
            open_stores=open_stores,
            tracer=tracer,
        )
        with MonitoringServer(settings, service), stop_on_signals(service.stop):
            await service.run()


def load_settings_and_configure_log(*needs: str) -> Settings:
    """Read the settings and configure the log. Ends the process if the settings are wrong.

    Warns about environment variables that nothing reads.
    """
    settings = load_settings_or_exit(*needs)
    logging_setup.configure_logging(
        level=settings.log_level,
        log_format=settings.log_format,
        secrets=(*settings.secrets(), *otel_header_secrets(os.environ)),
    )
    for mistake in environment.unknown_variables(os.environ):
        logging_setup.get_logger().warning("settings.unknown_variable", why=str(mistake))
    return settings


def run_service_or_exit(serving: Coroutine[Any, Any, None]) -> None:
    """Run a service in this process. If it fails, log a line, and exit with the error's code."""
    collect_garbage_rarely()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serving)
    except NormalizerError as error:
        logging_setup.get_logger().error(
            "process.ended", why=logging_setup.describe_error_without_secrets(error)
        )
        raise SystemExit(exit_code_for(error)) from error
    except Exception as error:
        logging_setup.log_unexpected_error("process.ended", error)
        raise SystemExit(RESTART_NEEDED) from error


def _run_several(settings: Settings, arguments: list[str], processes: int) -> NoReturn:
    """Run this many processes until a signal, and exit with their code."""

    async def serve() -> int:
        group = ServiceProcesses(settings, os.environ, arguments, processes)
        with stop_on_signals(group.stop):
            return await group.run()

    try:
        code = asyncio.run(serve())
    except NormalizerError as error:
        exit_with_error(error)
    raise SystemExit(code)


@click.command()
@click.option(
    "--folder",
    type=NonEmptyPath(path_type=Path),
    default=Path(".noetl"),
    show_default=True,
    help="Store everything in this folder: the data of PostgreSQL and Kafka, and the logs. If you "
    "start with the same folder again, the stack continues with the same data. Use another folder "
    "to start without data.",
)
@click.option(
    "--no-kafka",
    is_flag=True,
    help="Don't start Kafka. Instead, write the generated events to a file and backfill them from "
    "there. Use it on a machine without Java.",
)
@click.option("--no-traffic", is_flag=True, help="Start everything, but send no events.")
@click.option(
    "--rate",
    type=RATE_TYPE,
    default=200.0,
    show_default=True,
    help="Send this many events per second.",
)
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    help="Seed for the generated traffic, for example 7. The same seed gives the same events.",
)
@click.option(
    "--for",
    "for_s",
    type=SECONDS_TYPE,
    metavar="SECONDS",
    help="Stop everything after this many seconds, for example 60. By default, the stack runs "
    "until Ctrl-C.",
)
def up(
    *,
    folder: Path,
    no_kafka: bool,
    no_traffic: bool,
    rate: float,
    seed: int,
    for_s: float | None,
) -> None:
    """Start the whole stack with traffic on this machine. Ctrl-C stops it.

    \b
    normalizer up
    normalizer up --rate 2000 --seed 7
    normalizer up --no-kafka

    It starts PostgreSQL, Kafka, the service, and the dashboard, and prints the dashboard's address.
    All data is kept in one folder, so the next start continues where this one stopped. The traffic
    comes from the simulator, which only a source checkout has. An installed wheel starts everything
    else.
    """
    logging_setup.configure_logging(level="critical")
    options = UpOptions(
        folder=folder,
        kafka=not no_kafka,
        traffic=not no_traffic,
        rate=rate,
        seed=seed,
        for_s=for_s,
    )
    raise SystemExit(asyncio.run(run_stack(options)))


@click.command()
@click.option(
    "--status",
    is_flag=True,
    help="List which migrations are applied and which are pending, but change nothing.",
)
@click.option(
    "--print",
    "print_script",
    is_flag=True,
    help="Print a SQL script that applies the missing migrations, for example for a DBA to run "
    "with psql. The command itself changes nothing, and needs no DATABASE_URL.",
)
def migrate(*, status: bool, print_script: bool) -> None:
    """Migrate the database of DATABASE_URL to the newest schema.

    \b
    normalizer migrate --status
    normalizer migrate
    normalizer migrate --print | psql "$DATABASE_URL"

    With --status, the exit code is 1 if a migration is pending, was edited, was applied by hand, or
    is unknown, because a newer release applied it. With --print you get a script for a DBA to run
    with psql, which needs no DATABASE_URL. It applies the migrations that the database lacks, and
    stores their checksums. Don't run the files in migrations/ themselves, because then nobody can
    tell which build they came from.
    """
    if print_script:
        click.echo(psql_script(), nl=False)
        return
    settings = load_settings_or_exit("database_url")
    if not status:
        applied = run_or_exit(apply_migrations(settings.required_database_url, report=click.echo))
        click.echo(f"{len(applied)} applied now")
        return
    states = run_or_exit(read_migration_statuses(settings.required_database_url))
    for one in states:
        when = f" at {one.applied_at:%Y-%m-%d %H:%M:%S}" if one.applied_at else ""
        click.echo(f"{one.state:<8} {one.name}{when}")
    raise SystemExit(PROBLEM_FOUND if any(one.state != "applied" for one in states) else 0)

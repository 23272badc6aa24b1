"""`projector maintain`."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import asyncio
import contextlib
import signal
from datetime import timedelta
from pathlib import Path

import click

from normalizer.errors import StoreUnavailableError
from normalizer.runtime.command_line import NonEmptyPath
from normalizer.runtime.exit_codes import PROBLEM_FOUND
from projector.cli.command_runner import print_result, run_command
from projector.cli.scope_options import parse_duration, parse_scope
from projector.database_session import database_url_from_env, open_connection
from projector.maintenance.archive import ArchiveFolder
from projector.maintenance.maintain import (
    ClocksDifferError,
    MaintainerBusyError,
    RetentionPeriods,
    StepsFailedError,
    maintain as run_maintain,
    maintenance_lock,
)
from projector.verify.verdict import ProjectionVerdict


@click.command()
@click.option("--dry-run", is_flag=True, help="Print what would be done, but change nothing.")
@click.option(
    "--keep-events",
    envvar="PROJECTOR_KEEP_EVENTS",
    show_envvar=True,
    type=parse_duration,
    metavar="SPAN",
    help="How long to keep events after they reached Kafka's log, for example 90d. An execution is "
    "deleted with all its events once its last event is older than --keep-events and --keep-margin "
    "together. If an event older than --keep-events is read, it's ignored, so you can't load "
    "deleted events into this database again. By default, all events are kept.",
)
@click.option(
    "--keep-margin",
    envvar="PROJECTOR_KEEP_MARGIN",
    show_envvar=True,
    type=parse_duration,
    metavar="SPAN",
    default="7d",
    help="How much longer than --keep-events to keep an execution, for example 14d. If a producer "
    "reports an event a second time within this margin, the first report is still stored, so the "
    "event is counted only once. Default: 7d.",
)
@click.option(
    "--archive",
    envvar="PROJECTOR_ARCHIVE",
    show_envvar=True,
    type=NonEmptyPath(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write a compressed copy of events to this folder before they're deleted. `normalizer "
    "backfill file` can read the copy into another database. You can't read it back into this "
    "database, which ignores events that are so old. By default, no copy is kept.",
)
@click.option(
    "--keep-quarantine",
    envvar="PROJECTOR_KEEP_QUARANTINE",
    show_envvar=True,
    type=parse_duration,
    metavar="SPAN",
    help="How long to keep quarantine entries (rejected records), for example 90d. Older entries "
    "are deleted together with their counts by hour. By default, all entries are kept.",
)
@click.option(
    "--keep-raw",
    envvar="PROJECTOR_KEEP_RAW",
    show_envvar=True,
    type=parse_duration,
    metavar="SPAN",
    default="30d",
    help="How long to keep the raw bytes of rejected records, for example 60d. Without its bytes, "
    "a record can no longer be redriven, but its quarantine entry stays. Default: 30d.",
)
@click.option(
    "--keep-hours",
    envvar="PROJECTOR_KEEP_HOURS",
    show_envvar=True,
    type=parse_duration,
    metavar="SPAN",
    help="How long to keep counts by hour, for example 365d. Older counts are deleted only if "
    "their events were deleted too, and views then no longer count those events. By default, all "
    "counts are kept.",
)
@click.option(
    "--keep-gaps",
    envvar="PROJECTOR_KEEP_GAPS",
    show_envvar=True,
    type=parse_duration,
    metavar="SPAN",
    help="How long to keep entries about gaps, for example 90d. A gap is a range of offsets that "
    "were missing in Kafka's log, and its age is the time since it was found. By default, all "
    "entries are kept.",
)
@click.option(
    "--keep-jobs",
    envvar="PROJECTOR_KEEP_JOBS",
    show_envvar=True,
    type=parse_duration,
    metavar="SPAN",
    help="How long to keep entries about job runs, such as backfills, after they have ended, for "
    "example 90d. An entry stays even longer if events that the run stored aren't deleted yet. By "
    "default, all entries are kept.",
)
@click.option(
    "--sample",
    type=click.IntRange(0),
    default=2,
    metavar="HOURS",
    help="After the other steps, verify this many hours, drawn at random from those that still "
    "have events. Use 0 to verify none. Default: 2.",
)
@click.option(
    "--every",
    type=parse_duration,
    metavar="SPAN",
    help="Run again after a pause of this length, for example 15m, until SIGTERM. By default, the "
    "command runs once and exits.",
)
def maintain(
    *,
    dry_run: bool,
    archive: Path | None,
    sample: int,
    every: timedelta | None,
    **spans: timedelta | None,
) -> None:
    """Delete old rows, compact counters, and verify a sample.

    \b
    projector maintain --dry-run --keep-events 90d   print what it would do
    projector maintain                               run once, for cron
    projector maintain --every 15m                   run as a service

    No event is deleted unless you set --keep-events. If you do, the service and backfills ignore
    older events as expired, and an execution whose last event is older than that plus the margin is
    deleted with all its events and calls. Its counts by hour stay, and `projector verify` prints
    how many counts it can no longer check. An execution that never falls silent is never deleted.

    You can stop a run at any time, because the next run continues. Only one maintain or repair runs
    on a database at a time. Run it as the owner of the tables. The view projector.agreement shows
    the verdicts on the sample. If a step fails, the others still run, but no sample is verified.
    Exit 0 if all verdicts are a match, 1 if not, and 3 if a step failed. With --every, it prints
    failures and continues. It does nothing while the clocks of the database and this machine differ
    by more than an hour, because a wrong clock would delete rows that aren't old.
    """
    keep = RetentionPeriods(
        **{name.removeprefix("keep_"): span for name, span in spans.items() if span}
    )
    folder = ArchiveFolder(archive) if archive and not dry_run else None
    pause_s = every.total_seconds() if every else 0.0

    async def once() -> bool:
        agrees = True
        scope = parse_scope(None, None, None, sample, None) if sample else None
        url = database_url_from_env()
        async with maintenance_lock(url), open_connection(url) as connection:
            async for done in run_maintain(
                connection, keep, dry_run=dry_run, sample=scope, folder=folder
            ):
                print_result(str(done))
                if isinstance(done, ProjectionVerdict):
                    agrees = agrees and done.verdict == "match"
        return agrees

    async def run_as_service() -> bool:
        service = asyncio.current_task()
        assert service
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, service.cancel)
        # No run has to finish, because the next one continues.
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                try:
                    await once()
                except (
                    StoreUnavailableError,
                    MaintainerBusyError,
                    ClocksDifferError,
                    StepsFailedError,
                ) as error:
                    click.echo(f"left for the next run: {error}", err=True)
                await asyncio.sleep(pause_s)
        return True

    if not run_command(run_as_service() if every else once()):
        raise SystemExit(PROBLEM_FOUND)

"""`projector maintain`."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import asyncio
import contextlib
import signal
from datetime import timedelta
from pathlib import Path

import click

from normalizer.errors import StoreUnavailableError
from normalizer.runtime.command_line import NewPath
from normalizer.runtime.exit_codes import FOUND
from projector.cli.command_ends import print_result, run_flow
from projector.cli.scope_options import parse_scope, parse_span
from projector.database_session import database_url, open_connection
from projector.maintenance.archive import ArchiveFolder
from projector.maintenance.maintain import (
    ClocksDifferError,
    Keep,
    MaintainerBusyError,
    StepsFailedError,
    maintenance_lock,
)
from projector.maintenance.maintain import maintain as run_maintain
from projector.verify.verdict import Verdict


@click.command()
@click.option("--dry-run", is_flag=True, help="Print what would be done, but change nothing.")
@click.option(
    "--keep-events",
    envvar="PROJECTOR_KEEP_EVENTS",
    show_envvar=True,
    type=parse_span,
    metavar="SPAN",
    help="Ignore events that reached Kafka's log longer ago than this, for example 90d, and delete "
    "executions whose last event is older than this plus the margin. Default: keep all.",
)
@click.option(
    "--keep-margin",
    envvar="PROJECTOR_KEEP_MARGIN",
    show_envvar=True,
    type=parse_span,
    metavar="SPAN",
    default="7d",
    help="Delete executions only this much later, so that an event which is reported twice, at "
    "most this far apart, is counted once. Default: 7d.",
)
@click.option(
    "--archive",
    envvar="PROJECTOR_ARCHIVE",
    show_envvar=True,
    type=NewPath(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Keep a copy of deleted events in this folder. The compressed files are written before "
    "the events are deleted. `normalizer backfill file` can read them into another database, but "
    "not back into this one, which ignores such old events. Default: keep no copy.",
)
@click.option(
    "--keep-quarantine",
    envvar="PROJECTOR_KEEP_QUARANTINE",
    show_envvar=True,
    type=parse_span,
    metavar="SPAN",
    help="Delete quarantine entries (rejected records) that are older than this, for example 90d, "
    "together with their counts by hour. Default: never.",
)
@click.option(
    "--keep-raw",
    envvar="PROJECTOR_KEEP_RAW",
    show_envvar=True,
    type=parse_span,
    metavar="SPAN",
    default="30d",
    help="Delete the raw bytes of rejected records when they're older than this. Their quarantine "
    "entries stay, but these records can't be redriven any more. Default: 30d.",
)
@click.option(
    "--keep-hours",
    envvar="PROJECTOR_KEEP_HOURS",
    show_envvar=True,
    type=parse_span,
    metavar="SPAN",
    help="Delete counts by hour that are older than this, if their events are deleted too. "
    "Default: never.",
)
@click.option(
    "--keep-gaps",
    envvar="PROJECTOR_KEEP_GAPS",
    show_envvar=True,
    type=parse_span,
    metavar="SPAN",
    help="Delete entries about gaps (offsets that were missing in Kafka's log) that were found "
    "longer ago than this. Default: never.",
)
@click.option(
    "--keep-jobs",
    envvar="PROJECTOR_KEEP_JOBS",
    show_envvar=True,
    type=parse_span,
    metavar="SPAN",
    help="Delete what is recorded about job runs, such as backfills, that ended longer ago than "
    "this. A run stays listed until retention has deleted all events that it stored. Default: "
    "never.",
)
@click.option(
    "--sample",
    type=click.IntRange(0),
    default=2,
    metavar="HOURS",
    help="After the other steps, verify this many hours, drawn at random from those that still "
    "have events. Default: 2. Use 0 to verify none.",
)
@click.option(
    "--every",
    type=parse_span,
    metavar="SPAN",
    help="Run until SIGTERM, and pause for this long after each run, for example 15m. Default: run "
    "once and exit.",
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
    keep = Keep(**{name.removeprefix("keep_"): span for name, span in spans.items() if span})
    folder = ArchiveFolder(archive) if archive and not dry_run else None
    pause_s = every.total_seconds() if every else 0.0

    async def once() -> bool:
        agrees = True
        scope = parse_scope(None, None, None, sample, None) if sample else None
        url = database_url()
        async with maintenance_lock(url), open_connection(url) as connection:
            async for done in run_maintain(
                connection, keep, dry_run=dry_run, sample=scope, folder=folder
            ):
                print_result(str(done))
                if isinstance(done, Verdict):
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

    if not run_flow(run_as_service() if every else once()):
        raise SystemExit(FOUND)

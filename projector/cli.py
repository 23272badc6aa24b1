"""The command line of the projections: each command calls one flow and says what came of it.

Exit codes: 0 done; 1 something was found; 2 wrong usage or settings; 3 the database did not answer,
or trying again cannot cure it; 130 ended by a signal.
"""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import asyncio
import contextlib
import os
import re
import secrets
import signal
import sys
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from normalizer.errors import ConfigurationError, FatalError, NormalizerError, StoreUnavailable
from projector.api.serve_command import serve
from projector.database_session import connected, database_url
from projector.maintenance.archive import ArchiveFolder
from projector.maintenance.maintain import Keep, MaintainerBusy, StepsFailed
from projector.maintenance.maintain import maintain as run_maintain
from projector.repair.repair import RepairRequest, preview
from projector.repair.repair import repair as run_repair
from projector.repair.repair_progress import RepairProgress
from projector.verify.queries import COMPARISONS
from projector.verify.ranges import Scope
from projector.verify.verify import Verdict, record
from projector.verify.verify import verify as compare
from projector.views.markdown import as_markdown, as_text, describe
from projector.views.wait import wait_for

FOUND: Final = 1
BROKEN: Final = 3
STOPPED_AT_ONCE: Final = 130

_T = TypeVar("_T")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="event-normalizer")
def main() -> None:
    """Read models of the canonical events, grouped by attempts and status.

    They live in PostgreSQL, schema projector, and move in the transaction of their events: any tool
    that speaks SQL reads them, and none is ever behind the log.

    \b
    projector views                    every view, with the question it answers
    projector serve                    the dashboard and an HTTP API on them
    projector verify                   do they agree with the log?
    projector wait noetl.events:3:1042 until that record is in every view
    projector repair                   make them agree again where they are known not to
    projector maintain --dry-run       what has grown old, and what would be done about it

    DATABASE_URL names the database:

    \b
    DATABASE_URL=postgresql://reader:secret@db/noetl projector views

    \b
    Exit codes: 0 done; 1 something was found; 2 wrong usage or settings; 3 the database did not
    answer, or trying again cannot cure it; 130 ended by a signal.
    """


main.add_command(serve)


@main.command()
@click.option("--markdown", is_flag=True, help="With columns and example queries: docs/views.md.")
def views(*, markdown: bool) -> None:
    """Every view, with the question that it answers.

    \b
    projector views | grep -i -A1 retr
    projector views --markdown > docs/views.md
    """

    async def read() -> str:
        async with connected(database_url()) as connection:
            described = await describe(connection)
            return as_markdown(described) if markdown else as_text(described)

    _say(_run(read()), nl=not markdown)


@main.command()
@click.option("--since", metavar="TIME", help="First hour, as 2026-07-01T09:00 (UTC).")
@click.option("--until", metavar="TIME", help="The hour after the last; now, if left out.")
@click.option("--last", metavar="SPAN", help="Instead of --since: 90m, 24h, 7d.")
@click.option("--sample", type=click.IntRange(1), metavar="HOURS", help="Some hours, at random.")
@click.option("--seed", type=int, help="The same sample again.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([comparison.name for comparison in COMPARISONS]),
    metavar="PROJECTION",
    help="May be repeated: " + ", ".join(comparison.name for comparison in COMPARISONS) + ".",
)
def verify(
    *,
    since: str | None,
    until: str | None,
    last: str | None,
    sample: int | None,
    seed: int | None,
    only: tuple[str, ...],
) -> None:
    """Compute the projections again from the events, and compare. Exit 1 if any differs.

    \b
    projector verify                    everything
    projector verify --last 24h         what happened since this time yesterday
    projector verify --sample 5         five hours and some of their executions, at random
    projector verify --only call_facts  one projection

    It runs beside any traffic: each range is compared in one statement, so at one moment, and no
    statement takes longer than ten seconds. Before it says match, each comparison must have
    noticed three rows that were tampered with.

    \b
    event_hours       divergent: 282 rows compared, 1 differ (0.3 s)
        hour 2026-07-01T09:00, step fetch, ...: events shows 7, should be 6

    What it finds is kept for the view projector.agreement, and stands there as divergent until a
    comparison of just that place says otherwise: no sample takes it back. `projector repair` mends
    it.
    """
    scope = _scope(since, until, last, sample, seed)
    chosen = [one for one in COMPARISONS if not only or one.name in only]

    async def run() -> bool:
        agrees = True
        async with connected(database_url()) as connection:
            async for verdict in compare(connection, scope, comparisons=chosen):
                _say(str(verdict))
                await record(connection, verdict)
                agrees = agrees and verdict.verdict == "match"
        return agrees

    if scope.kind == "sample":
        _say(f"sample of {scope.hours} hours, --seed {scope.seed}")
    if not _run(run()):
        raise SystemExit(FOUND)


@main.command()
@click.argument("place", metavar="TOPIC:PARTITION:OFFSET")
@click.option("--timeout", type=float, default=30.0, help="Seconds to wait; 30.", metavar="SECONDS")
def wait(*, place: str, timeout: float) -> None:
    """Wait until the record at this place is in every view, for scripts and tests.

    \b
    projector wait noetl.events:3:1042 && psql -c 'select * from projector.executions'

    Exit 1 if it is not there after the timeout.
    """
    found = re.fullmatch(r"(.+):(\d+):(\d+)", place)
    if found is None:
        raise click.BadParameter(f"{place!r} is not TOPIC:PARTITION:OFFSET")
    topic, partition, offset = found[1], int(found[2]), int(found[3])

    async def run() -> int:
        async with connected(database_url()) as connection:
            return await wait_for(connection, topic, partition, offset, timeout_s=timeout)

    _say(f"{topic}[{partition}]: read to {_run(run())}")


@main.command()
@click.option("--executions", is_flag=True, help="These, their calls and roll-ups: ID ...")
@click.option("--hours", is_flag=True, help="What happened in these hours: FROM TO.")
@click.option("--counters", is_flag=True, help="All that is counted, of all hours.")
@click.option("--all", "everything", is_flag=True, help="All there is, also what is empty yet.")
@click.option("--dry-run", is_flag=True, help="Say what differs; change nothing.")
@click.argument("which", nargs=-1, metavar="[ID... | FROM TO]")
def repair(
    *,
    executions: bool,
    hours: bool,
    counters: bool,
    everything: bool,
    dry_run: bool,
    which: tuple[str, ...],
) -> None:
    """Make projections agree with the log again, beside live writes and reads.

    \b
    projector repair                                  what is known to differ
    projector repair --dry-run                        what is that?
    projector repair --executions 481036337152        these, their calls and their roll-ups
    projector repair --hours 2026-07-01T09:00 2026-07-02
    projector repair --counters                       counts and roll-ups of all hours
    projector repair --all                            everything, also a projection that is empty

    Known to differ is what `projector verify` found, and where events had to go in without their
    projections: the view projector.agreement counts both. Executions and calls are folded anew from
    their events; counts are added what they lack. Each step is a short transaction and holds nobody
    up. Stopped or killed at any moment it has done no harm: type the same command again.

    \b
    call_facts        match: 61,218 rows compared, 3 repaired (0.9 s)

    Exit 0: all that was looked at agrees. 1: something differs, or with --dry-run, would have been
    repaired. 3: another repair or maintain runs, or the database did not answer.
    """
    request = _repair_request(
        which, executions=executions, hours=hours, counters=counters, all_=everything
    )
    progress = RepairProgress()

    async def run() -> bool:
        agrees, has_verdict = True, False
        with progress.noted():
            async with connected(database_url()) as connection:
                verdicts = (
                    preview(connection, request)
                    if dry_run
                    else run_repair(connection, request, activity=progress.tell)
                )
                async for verdict in verdicts:
                    _say(str(verdict))
                    agrees, has_verdict = agrees and verdict.verdict == "match", True
        if not has_verdict:
            _say("nothing is known to differ; `projector verify` looks for it")
        return agrees

    if not _run(run()):
        raise SystemExit(FOUND)


def _repair_request(
    which: tuple[str, ...], *, executions: bool, hours: bool, counters: bool, all_: bool
) -> RepairRequest:
    if executions + hours + counters + all_ > 1:
        raise click.UsageError("give one of --executions, --hours, --counters and --all")
    if which and not executions and not hours:
        raise click.UsageError("say of what: --executions ID ... or --hours FROM TO")
    if executions:
        try:
            ids = tuple(int(one) for one in which)
        except ValueError as error:
            raise click.BadParameter(f"{' '.join(which)} are no ids of executions") from error
        if not ids:
            raise click.UsageError("which executions? --executions ID ...")
        return RepairRequest(scope=Scope(kind="range", execution_ids=ids))
    if hours:
        if len(which) != 2:
            raise click.UsageError("which hours? --hours FROM TO, as 2026-07-01T09:00 (UTC)")
        return RepairRequest(scope=_scope(which[0], which[1], None, None, None))
    if counters or all_:
        return RepairRequest(scope=Scope(), only_counters=counters)
    return RepairRequest()


@main.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
@click.option(
    "--keep-events",
    envvar="PROJECTOR_KEEP_EVENTS",
    metavar="SPAN",
    help="Take in no event the log got longer ago, as 90d. For ever, if left out.",
)
@click.option(
    "--keep-margin",
    envvar="PROJECTOR_KEEP_MARGIN",
    metavar="SPAN",
    default="7d",
    help="Let go of events that are older by so much; 7d. Reports less far apart count once.",
)
@click.option(
    "--archive",
    envvar="PROJECTOR_ARCHIVE",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write events that go there first: canonical lines that a backfill takes again.",
)
@click.option(
    "--keep-executions",
    envvar="PROJECTOR_KEEP_EXECUTIONS",
    metavar="SPAN",
    help="Forget executions silent for longer, once their events are gone. For ever, if left out.",
)
@click.option(
    "--keep-quarantine",
    envvar="PROJECTOR_KEEP_QUARANTINE",
    metavar="SPAN",
    help="Delete entries refused longer ago. For ever, if left out.",
)
@click.option(
    "--keep-raw",
    envvar="PROJECTOR_KEEP_RAW",
    metavar="SPAN",
    default="30d",
    help="Delete the bytes of refused records after so long; 30d.",
)
@click.option(
    "--keep-hours",
    envvar="PROJECTOR_KEEP_HOURS",
    metavar="SPAN",
    help="Drop counts by hour of events that are gone after so long. For ever, if left out.",
)
@click.option(
    "--keep-gaps",
    envvar="PROJECTOR_KEEP_GAPS",
    metavar="SPAN",
    help="Delete gaps of the log met longer ago. For ever, if left out.",
)
@click.option(
    "--keep-jobs",
    envvar="PROJECTOR_KEEP_JOBS",
    metavar="SPAN",
    help="Forget runs that ended longer ago, once their rows are gone. For ever, if left out.",
)
@click.option(
    "--sample",
    type=click.IntRange(0),
    default=2,
    metavar="HOURS",
    help="Verify so many hours at the end, at random; 2. 0: none.",
)
@click.option("--every", metavar="SPAN", help="Go on: again after so long, until SIGTERM.")
def maintain(
    *,
    dry_run: bool,
    archive: Path | None,
    sample: int,
    every: str | None,
    **spans: str | None,
) -> None:
    """Retention, shards added up, old minutes dropped, statistics, and a verified sample.

    \b
    projector maintain --dry-run --keep-events 90d   what it would do
    projector maintain                               once, for cron
    projector maintain --every 15m                   as a service

    Retention of events is off until a span is set. What the log got before then is ignored as
    expired from now on, by live and backfill alike; events that are older by the margin are
    deleted, their counts set aside in the same transaction. So no record counts twice, however
    often it is read again. The views keep every count; `projector verify` says how many it can no
    longer prove.

    Any step can be interrupted at any moment; the next run goes on. Only one runs at a time. What
    the sample finds is kept for the view projector.agreement; exit 1 if it differs. A step that
    fails keeps no other from its turn: it is told, and the exit code is 3.
    """
    keep = Keep(**{name.removeprefix("keep_"): _span(span) for name, span in spans.items() if span})

    folder = ArchiveFolder(archive) if archive and not dry_run else None
    pause_s = _span(every).total_seconds() if every else 0.0

    async def once() -> bool:
        agrees = True
        scope = _scope(None, None, None, sample, None) if sample else None
        async with connected(database_url()) as connection:
            async for done in run_maintain(
                connection, keep, dry_run=dry_run, sample=scope, folder=folder
            ):
                _say(str(done))
                if isinstance(done, Verdict):
                    agrees = agrees and done.verdict == "match"
        return agrees

    async def for_ever() -> bool:
        with _stopping() as stop:
            while not stop.is_set():
                try:
                    await once()
                except (StoreUnavailable, MaintainerBusy, StepsFailed) as error:
                    click.echo(f"left for the next time: {error}", err=True)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await stop.wait()
        return True

    if not _run(for_ever() if every else once()):
        raise SystemExit(FOUND)


@contextlib.contextmanager
def _stopping() -> Iterator[asyncio.Event]:
    """Set by SIGTERM and SIGINT; what runs is finished first."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _scope(
    since: str | None, until: str | None, last: str | None, sample: int | None, seed: int | None
) -> Scope:
    if since and last:
        raise click.UsageError("--since and --last say the same: give one")
    bounds: dict[str, Any] = {}
    if since:
        bounds["since"] = _hour_of(_moment(since))
    if last:
        bounds["since"] = _hour_of(datetime.now(UTC) - _span(last))
    if until:
        bounds["until"] = _hour_of(_moment(until) + timedelta(hours=1, microseconds=-1))
    if sample:
        drawn = secrets.randbelow(1_000_000) if seed is None else seed
        return Scope(kind="sample", hours=sample, seed=drawn, **bounds)
    return Scope(kind="range" if bounds else "all", **bounds)


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no time: write 2026-07-01T09:00") from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _span(text: str) -> timedelta:
    found = re.fullmatch(r"(\d+)([mhd])", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no span: write 90m, 24h or 7d")
    unit = {"m": "minutes", "h": "hours", "d": "days"}[found[2]]
    return timedelta(**{unit: int(found[1])})


def _say(text: str, *, nl: bool = True) -> None:
    """Print; who stops reading (`| head`) has enough: the work goes on, its exit code counts."""
    try:
        click.echo(text, nl=nl)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(flow: Coroutine[Any, Any, _T]) -> _T:
    """What the flow gives; errors become one line."""
    try:
        return asyncio.run(flow)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    except StoreUnavailable as error:
        raise _Broken(f"no answer from the database: {error}") from error
    except (MaintainerBusy, StepsFailed, FatalError) as error:
        raise _Broken(str(error)) from error
    except NormalizerError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit(STOPPED_AT_ONCE) from None


class _Broken(click.ClickException):
    """Not for 1: that is what was found."""

    exit_code = BROKEN

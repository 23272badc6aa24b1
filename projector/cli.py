"""The command line of the projections: each command calls one flow and says what came of it.

Exit codes: 0 done; 1 something was found, or the database did not answer; 2 wrong usage; 130 ended
by a signal.
"""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import asyncio
import re
import secrets
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import click

from normalizer.errors import NormalizerError, StoreUnavailable
from projector.comparisons import COMPARISONS
from projector.database import connected, database_url
from projector.document import as_markdown, as_text, describe
from projector.verify import record
from projector.verify import verify as compare
from projector.wait import wait_for
from projector.windows import Scope

FOUND: Final = 1

_T = TypeVar("_T")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="event-normalizer")
def main() -> None:
    """Read models of the canonical events, grouped by attempts and status.

    They live in PostgreSQL, schema projector, and move in the transaction of their events: any tool
    that speaks SQL reads them, and none is ever behind the log.

    \b
    projector views                    every view, with the question it answers
    projector verify                   do they agree with the log?
    projector wait noetl.events:3:1042 until that record is in every view

    DATABASE_URL names the database:

    \b
    DATABASE_URL=postgresql://reader:secret@db/noetl projector views

    \b
    Exit codes: 0 done; 1 something was found, or the database did not answer; 2 wrong usage.
    """


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

    click.echo(_run(read()), nl=not markdown)


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

    It runs beside any traffic: each stretch is compared in one statement, so at one moment, and no
    statement takes longer than ten seconds. Before it says match, each comparison must have
    noticed three rows that were tampered with.

    \b
    event_hours       divergent: 282 rows compared, 1 differ (0.3 s)
        hour 2026-07-01T09:00, step fetch, ...: events shows 7, should be 6

    What it finds is kept for the view projector.agreement.
    """
    scope = _scope(since, until, last, sample, seed)
    chosen = [one for one in COMPARISONS if not only or one.name in only]

    async def run() -> bool:
        agrees = True
        async with connected(database_url()) as connection:
            async for verdict in compare(connection, scope, comparisons=chosen):
                click.echo(str(verdict))
                await record(connection, verdict)
                agrees = agrees and verdict.verdict == "match"
        return agrees

    if scope.kind == "sample":
        click.echo(f"sample of {scope.hours} hours, --seed {scope.seed}")
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

    click.echo(f"{topic}[{partition}]: read to {_run(run())}")


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
    return Scope(kind="range" if bounds else "everything", **bounds)


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


def _run(flow: Coroutine[Any, Any, _T]) -> _T:
    """What the flow gives; errors become one line."""
    try:
        return asyncio.run(flow)
    except StoreUnavailable as error:
        raise click.ClickException(f"no answer from the database: {error}") from error
    except NormalizerError as error:
        raise click.ClickException(str(error)) from error

"""What every command of the jobs does at its edges: options, settings, screen, exit codes.

Exit codes are those of every command: 0 complete, or stopped when asked; 1 truncated, or something
was found; 2 wrong usage or settings; 3 failed; 130 ended at once by a second signal.
"""

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
from normalizer.errors import ConfigurationError, NormalizerError
from normalizer.jobs.asked import Asked
from normalizer.jobs.diff import Diff
from normalizer.jobs.dryrun import DryRun
from normalizer.jobs.pace import LiveTraffic, Pace
from normalizer.jobs.playing import Player
from normalizer.jobs.reporting import Progress, Verdict
from normalizer.jobs.source import Source
from normalizer.kafka import LogReader
from normalizer.process.garbage import collect_rarely
from normalizer.process.screen import Screen
from normalizer.process.signals import stopping
from normalizer.process.slices import Normalize
from normalizer.settings import Settings

FOUND: Final = 1
MISUSED: Final = 2
BROKEN: Final = 3
YIELD_AT_S: Final = 2.0

_T = TypeVar("_T")
_Command = TypeVar("_Command", bound=Callable[..., Any])


class Pacing(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a job may go; no part of what is asked."""

    yield_at_s: float | None
    max_rate: float | None


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


def history_options(command: _Command) -> _Command:
    """The options of every command that writes: how fast, and whether it only tries."""
    return click.option(
        "--dry-run", is_flag=True, help="Write nothing; say what would change, field by field."
    )(_paced(command))


set_option: Final = click.option(
    "--set",
    "defaults",
    multiple=True,
    metavar="NAME=VALUE",
    help="A field for rows that lack it, as execution_id or created_at. Repeatable.",
)


changes_option: Final = click.option(
    "--changes",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --dry-run: every row that would change, one JSON object a line.",
)


def try_out(
    settings: Settings, source: Source, normalize: Normalize, changes: Path | None
) -> NoReturn:
    """Say what would change, and end."""
    assert settings.database_url
    database_url = settings.database_url

    async def dry_run(diff: Diff) -> Diff:
        async with DryRun(
            database_url, source, normalize, diff, batch_rows=settings.batch_rows
        ) as trial:
            await until_stopped(trial.run(), trial.stop)
        return trial.stale

    collect_rarely()
    with collected(changes) as diff:
        stale = waited(dry_run(diff))
    if source.truncated:
        click.echo(f"truncated: {source.truncated}", err=True)
    say_diff(diff, stale)


def say_diff(diff: Diff, stale: Diff | None = None) -> NoReturn:
    """Print what would change, and end."""
    click.echo("dry run: nothing was written. It would be:")
    for line in diff.lines():
        click.echo(line)
    if stale is not None and (stale.count("changed") or stale.count("refused")):
        click.echo("already stored by older rules, and left as it is; renormalise would make it:")
        for line in stale.lines():
            click.echo(line)
    raise SystemExit(0)


@contextlib.contextmanager
def collected(path: Path | None) -> Iterator[Diff]:
    """A diff that writes each of its rows into the file, where one is named."""
    if path is None:
        yield Diff()
        return
    with path.open("wb") as file:
        yield Diff(lambda change: file.write(msgspec.json.encode(change) + b"\n"))


async def until_stopped(work: Coroutine[Any, Any, None], stop: Callable[[], None]) -> None:
    """Do the work; a signal calls `stop`."""
    with stopping(stop):
        await work


def verdict_of(
    settings: Settings,
    asked: Asked,
    flow: Callable[[Player], Coroutine[Any, Any, Verdict]],
    screen: Screen,
    pacing: Pacing,
) -> Verdict:
    """Play the flow; a signal stops it in order."""

    async def play() -> Verdict:
        async with contextlib.AsyncExitStack() as opened:
            pace = await _pace(settings, pacing, opened)
            player = Player(settings, asked, pace=pace, progress=Progress(screen, asked.kind))
            with stopping(player.stop):
                return await flow(player)

    collect_rarely()
    return waited(play())


def say(screen: Screen, verdict: Verdict) -> None:
    """Print the verdict."""
    for line in verdict.lines():
        screen.say(line)


def leave(verdict: Verdict) -> NoReturn:
    """End with the exit code of the verdict."""
    raise SystemExit({"truncated": FOUND, "failed": BROKEN}.get(verdict.state, 0))


def texts_of(selection: msgspec.Struct) -> dict[str, str]:
    """What was said of a selection, as text."""
    return {
        name: str(value)
        for name, value in msgspec.structs.asdict(selection).items()
        if value not in {None, (), False}
    }


def pacing_of(options: dict[str, Any]) -> Pacing:
    """How fast it may go, from the options of that name."""
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
        live = await opened.enter_async_context(LiveTraffic(settings.database_url, log))
    elif pacing.yield_at_s is not None:
        logger.info("live_traffic_not_watched", why="KAFKA_BOOTSTRAP_SERVERS is not set")
    return Pace(logger, live=live, yield_at_s=pacing.yield_at_s, max_rate=pacing.max_rate)


def time_of(text: str | None) -> datetime | None:
    """The time a text says, UTC if it has no zone. Raises UsageError."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"{text}: expected a time as 2026-01-31T12:00:00Z") from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def milliseconds_of(time: datetime | None) -> int | None:
    """Milliseconds since 1970."""
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


def configured(settings: Settings) -> Screen:
    """A screen on standard error, and logs that go to it."""
    screen = Screen(sys.stderr)
    telemetry.configure(
        level=settings.log_level,
        log_format=settings.log_format,
        secrets=settings.secrets(),
        stream=cast("TextIO", _ScreenLines(screen)),
    )
    return screen


def settings_for(*needs: str) -> Settings:
    """The settings of the environment; ends the process where they are wrong."""
    return checked(lambda: settings_of.load(os.environ, needs=needs))


def checked(ask: Callable[[], _T]) -> _T:
    """The answer; ends the process where it is a wrong setting."""
    try:
        return ask()
    except ConfigurationError as error:
        _end(error)


def waited(work: Coroutine[Any, Any, _T]) -> _T:
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

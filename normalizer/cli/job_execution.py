"""Runs a job or its dry run for a command: with progress, a throttle, and a stop on a signal.

A command only builds its job. This module has what all jobs need to run in a terminal, including
the exit code for each result.
"""

import contextlib
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

import click
import msgspec

from normalizer.cli.exit_on_error import exit_with_error, run_or_exit
from normalizer.config.settings import Settings
from normalizer.errors import ConfigurationError, FatalError
from normalizer.jobs.dry_run.backfill_dry_run import BackfillDryRun
from normalizer.jobs.dry_run.diff import DryRunDiff
from normalizer.jobs.dry_run.rewrite_dry_run import RewriteDryRun
from normalizer.jobs.engine.job_spec import JobSpec
from normalizer.jobs.engine.run_progress import RunProgressPrinter, RunResult
from normalizer.jobs.engine.runner import JobRunner
from normalizer.jobs.engine.throttle import LiveLagMeter, Throttle
from normalizer.jobs.sources.job_source import JobSource
from normalizer.kafka import GrouplessClient
from normalizer.runtime import logging_setup
from normalizer.runtime.exit_codes import FAILED, PROBLEM_FOUND
from normalizer.runtime.garbage_collection import collect_garbage_rarely
from normalizer.runtime.progress import ProgressPrinter
from normalizer.runtime.screen import Screen
from normalizer.runtime.signals import cancel_on_signal
from normalizer.runtime.slices import Normalize


def configure_logging_on_screen(settings: Settings) -> Screen:
    """Return a screen on standard error. The log is printed on it too."""
    screen = Screen(sys.stderr)
    logging_setup.configure_logging(
        level=settings.log_level,
        log_format=settings.log_format,
        secrets=settings.secrets(),
        stream=cast("TextIO", _ScreenStream(screen)),
    )
    return screen


def run_job(
    settings: Settings,
    spec: JobSpec,
    job: Callable[[JobRunner], Coroutine[Any, Any, RunResult]],
    screen: Screen,
    max_rate: float | None,
) -> RunResult:
    """Run the job. A signal stops it, or ends the process if the job hasn't begun."""

    async def run() -> RunResult:
        async with contextlib.AsyncExitStack() as opened:
            throttle = await _throttle(settings, max_rate, opened)
            runner = JobRunner(
                settings, spec, throttle=throttle, progress=RunProgressPrinter(screen, spec.kind)
            )
            return await job(runner)

    collect_garbage_rarely()
    return run_or_exit(run())


async def _throttle(
    settings: Settings, max_rate: float | None, opened: contextlib.AsyncExitStack
) -> Throttle:
    """Build the throttle. If brokers are configured, it measures the lag of live traffic."""
    logger = logging_setup.get_logger()
    read_lag = None
    if settings.kafka_bootstrap_servers:
        log = await opened.enter_async_context(GrouplessClient(settings))
        meter = LiveLagMeter(settings.required_database_url, log)
        read_lag = (await opened.enter_async_context(meter)).read_lag
    else:
        logger.info("job.live_traffic_not_watched", why="KAFKA_BOOTSTRAP_SERVERS is not set")
    return Throttle(logger, read_lag=read_lag, max_rate=max_rate)


def dry_run_backfill_and_exit(
    settings: Settings,
    source: JobSource,
    normalize: Normalize,
    changes: Path | None,
    screen: Screen,
) -> NoReturn:
    """Print what would change, and end the process."""
    database_url = settings.required_database_url

    async def dry_run(diff: DryRunDiff) -> tuple[DryRunDiff, bool, FatalError | None]:
        broken: FatalError | None = None
        stopped = False
        async with BackfillDryRun(
            database_url,
            source,
            normalize,
            diff,
            batch_rows=settings.batch_rows,
        ) as trial:
            try:
                stopped = await run_dry_run(trial, screen)
            except FatalError as error:
                broken = error
        return trial.stale, stopped, broken

    collect_garbage_rarely()
    with open_diff(changes) as diff:
        stale, stopped, broken = run_or_exit(dry_run(diff))
    if source.truncation_reason:
        click.echo(f"truncated: {source.truncation_reason}", err=True)
    lines = [*diff.format_lines()]
    if stale.counts["changed"] or stale.counts["rejected"]:
        lines.append(
            "already stored by older rules, and left as is. `normalizer renormalize` would make it:"
        )
        lines += stale.format_lines()
    exit_with_dry_run_result(
        lines, partial=stopped or bool(source.truncation_reason), broken=broken
    )


@contextlib.contextmanager
def open_diff(path: Path | None) -> Iterator[DryRunDiff]:
    """Yield a diff that also writes each changed row to the file, if one is given.

    The file must not exist yet, so that a dry run can't overwrite anything, for example its own
    source. If the block fails, the file is removed, so that you can repeat the same command.
    """
    if path is None:
        yield DryRunDiff()
        return
    try:
        opened = path.open("xb")
    except OSError as error:
        exit_with_error(ConfigurationError(f"--changes: {path}: {error.strerror}"))
    with opened as file:
        try:
            yield DryRunDiff(lambda change: file.write(msgspec.json.encode(change) + b"\n"))
        except BaseException:
            path.unlink(missing_ok=True)
            raise


async def run_dry_run(dry_run: BackfillDryRun | RewriteDryRun, screen: Screen) -> bool:
    """Run the dry run and show its progress. Returns whether a signal ended it."""
    async with cancel_on_signal() as block:
        with ProgressPrinter(screen, "dry run").print_while_running(dry_run.work_progress):
            await dry_run.run()
    return block.expired()


def exit_with_dry_run_result(
    lines: Iterable[str], *, partial: bool, broken: FatalError | None = None
) -> NoReturn:
    """Print what a real run would change, and exit.

    `partial` means that the dry run was stopped before it saw everything, so the exit code is 1.
    `broken` is an error that would end a real run too. A real run would still store everything
    before that error, so these changes are printed first, and then the error.
    """
    if partial or broken:
        click.echo("it ended early, so this covers only the part that was read", err=True)
    click.echo("dry run: nothing was written. It would be:")
    for line in lines:
        click.echo(line)
    if broken:
        exit_with_error(broken)
    raise SystemExit(PROBLEM_FOUND if partial else 0)


class _ScreenStream:
    """A stream for log lines on the screen. A log line replaces the screen's progress line."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def write(self, text: str) -> None:
        if text.strip("\n"):
            self._screen.print_line(text.rstrip("\n"))

    def flush(self) -> None:
        """Do nothing, because every line is flushed when it's written."""

    def isatty(self) -> bool:
        return self._screen.rewrites


def exit_with_result(screen: Screen, result: RunResult, more: Iterable[str] = ()) -> NoReturn:
    """Print the result and more lines about it, and exit with its code."""
    for line in chain(result.format_lines(), more):
        screen.print_line(line)
    raise SystemExit({"truncated": PROBLEM_FOUND, "failed": FAILED}.get(result.state, 0))

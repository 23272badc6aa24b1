"""The commands for stored rows: renormalize, redact, and the list of jobs."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

from collections import Counter
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import click

from normalizer.cli.exit_on_error import (
    build_normalizer_or_exit,
    load_settings_or_exit,
    run_or_exit,
)
from normalizer.cli.job_execution import (
    configure_logging_on_screen,
    exit_with_dry_run_result,
    exit_with_result,
    open_diff,
    run_dry_run,
    run_job,
)
from normalizer.cli.job_options import (
    LIMIT_TYPE,
    changes_option,
    options_from_selection,
    parse_time_range,
    rate_and_dry_run_options,
)
from normalizer.cli.position_commands import user_at_host
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.envelope import COERCION_RULES, RULES_VERSION
from normalizer.jobs.dry_run.rewrite_dry_run import RewriteDryRun
from normalizer.jobs.engine.job_run import end_unfinished_job
from normalizer.jobs.engine.job_spec import JobSpec
from normalizer.jobs.engine.run_progress import RunResult, list_runs_as_lines
from normalizer.jobs.engine.runner import JobRunner
from normalizer.jobs.redact import RedactDryRun, RedactedCounts, RedactJob, format_redacted_counts
from normalizer.jobs.renormalize import RenormalizeSelection, RewriteJob, renormalize_plan
from normalizer.jobs.rewritten_page import LOCK_OUTDATED_ROWS_SQL, READ_OUTDATED_ROWS_SQL
from normalizer.runtime.exit_codes import PROBLEM_FOUND
from normalizer.store.read_only import read_only_connection

_SHOWN_REJECTIONS: Final = 20


@click.command()
@click.option(
    "--shape",
    help="Update only rows of this wire shape, for example executor. A wire shape is the format in "
    "which one producer writes its events. By default, rows of all shapes are updated.",
)
@click.option(
    "--rule",
    type=click.Choice(COERCION_RULES),
    help="Update only rows in which this rule has changed or guessed a value, for example "
    "status_unmapped. By default, all rows that older rules stored are updated.",
)
@click.option(
    "--from-time",
    metavar="TIME",
    help="Update only rows whose created_at is at or after this time, for example 2026-01-31 or "
    "2026-01-31T12:00:00Z. A time without a zone is UTC. By default, the oldest rows are updated "
    "too.",
)
@click.option(
    "--to-time",
    metavar="TIME",
    help="Update only rows whose created_at is before this time, for example 2026-02-28. A time "
    "without a zone is UTC. By default, the newest rows are updated too.",
)
@changes_option
@rate_and_dry_run_options
def renormalize(
    *,
    shape: str | None,
    rule: str | None,
    from_time: str | None,
    to_time: str | None,
    dry_run: bool,
    changes: Path | None,
    max_rate: float | None,
) -> None:
    """Bring rows that older rules stored up to date with today's rules.

    \b
    normalizer renormalize --dry-run
    normalizer renormalize --rule status_unmapped --from-time 2026-01-01
    normalizer renormalize

    Use it after an upgrade that changed the rules. From each row it rebuilds what the producer
    sent, and normalizes that again. Ids and coordinates never change, and the projections are
    updated with the rows. Two kinds of rows are listed but not changed: rows that today's rules
    would reject, and rows that were merged from several records and would change.
    """
    first, after = parse_time_range(from_time, to_time)
    settings = load_settings_or_exit("database_url")
    database_url = settings.required_database_url
    selection = RenormalizeSelection(shape=shape, rule=rule, from_time=first, to_time=after)
    normalizer = build_normalizer_or_exit(settings)
    normalize = normalizer.normalize
    screen = configure_logging_on_screen(settings)
    if dry_run:
        with open_diff(changes) as diff:
            plan = renormalize_plan(selection, normalize, find=READ_OUTDATED_ROWS_SQL)
            trial = RewriteDryRun(database_url, plan, diff)
            stopped = run_or_exit(run_dry_run(trial, screen))
        exit_with_dry_run_result(diff.format_lines(), partial=stopped)
    options = {"rules": normalizer.version} | options_from_selection(selection)
    spec = JobSpec(kind="renormalize", source="events", options=options)

    def flow(runner: JobRunner) -> Coroutine[Any, Any, RunResult]:
        plan = renormalize_plan(selection, normalize, find=LOCK_OUTDATED_ROWS_SQL)
        return RewriteJob(runner, plan).run()

    result = run_job(settings, spec, flow, screen, max_rate)
    exit_with_result(screen, result, _rejections(database_url, result))


@click.command()
@rate_and_dry_run_options
def redact(*, dry_run: bool, max_rate: float | None) -> None:
    """Redact secrets that older rules have left in stored rows.

    \b
    normalizer redact --dry-run
    normalizer redact

    Use it after an upgrade or after you added words to NORMALIZER_REDACT_KEYS. It redacts events,
    texts about rejected records, and the names that counters are grouped by, and it updates the
    projections. The dry run counts rows by table and column, and shows no content. The bytes of
    rejected records stay as they were received (see `projector maintain --keep-raw`). Run it as the
    owner of the database.
    """
    settings = load_settings_or_exit("database_url")
    sanitizer = Sanitizer(settings.redact_keys)
    screen = configure_logging_on_screen(settings)
    if dry_run:
        trial = RedactDryRun(settings.required_database_url, sanitizer)
        stopped = run_or_exit(run_dry_run(trial, screen))
        exit_with_dry_run_result(
            [*format_redacted_counts(trial.counts)] or ["nothing"], partial=stopped
        )
    options = {"rules": str(RULES_VERSION), "keys": ",".join(sorted(settings.redact_keys))}
    spec = JobSpec(kind="redact", source="everything", options=options)
    counts: RedactedCounts = Counter()

    async def flow(runner: JobRunner) -> RunResult:
        run = RedactJob(runner, sanitizer)
        result = await run.run()
        counts.update(run.counts)
        return result

    result = run_job(settings, spec, flow, screen, max_rate)
    exit_with_result(screen, result, format_redacted_counts(counts))


@click.command()
@click.option(
    "--limit", type=LIMIT_TYPE, default=20, show_default=True, help="List at most this many runs."
)
@click.option(
    "--end",
    metavar="JOB",
    help="End the interrupted job with this id, for example 3f2a9c01d4b8e675. This command lists "
    "the ids. Use it only if the job can't be resumed, for example because its file is gone. After "
    "that, the next run of its command starts from the beginning, and rows that are already stored "
    "stay.",
)
def jobs(*, limit: int, end: str | None) -> None:
    """List the runs of jobs, newest first.

    A job is a backfill, renormalize, redact, or redrive. Each line shows a run's state, its
    progress, and how many records had each outcome.

    \b
    normalizer jobs
    normalizer jobs --end 3f2a9c01d4b8e675

    To continue an incomplete job, run its command again. If that's impossible, because its file or
    topic is gone or the rules have another version by now, end the job with --end. Its rows stay
    stored, and the same command then begins a new run. The exit code is 1 if no job with that id
    can be ended.
    """
    settings = load_settings_or_exit("database_url")
    if end:
        reason = f"ended by {user_at_host()}"
        ended = run_or_exit(end_unfinished_job(settings.required_database_url, end, reason))
        said = "ended" if ended else "it is running, or there is nothing to end"
        click.echo(f"job {end}: {said}", err=not ended)
        raise SystemExit(0 if ended else PROBLEM_FOUND)
    for line in run_or_exit(list_runs_as_lines(settings.required_database_url, limit)) or [
        "no job has run yet"
    ]:
        click.echo(line)


def _rejections(database_url: str, result: RunResult) -> Iterator[str]:
    """Yield a line for each of the first rows that stayed as they were."""
    if not result.totals.rejected:
        return
    rows = run_or_exit(_rejected_rows(database_url, result))
    for row in rows:
        yield f"  event {row['event_id']} stays: {row['reason']}: {row['detail']}"
    if result.totals.rejected > len(rows):
        yield "  ... find all of them in normalizer.job_rejections"


_LIST_ROW_REJECTIONS: Final = """
    select   event_id, reason, detail
    from     normalizer.job_rejections
    where    job_id = $1::text and run = $2::integer
    order by event_id
    limit    $3::integer
"""


async def _rejected_rows(database_url: str, result: RunResult) -> list[asyncpg.Record]:
    async with read_only_connection(database_url) as connection:
        rows: list[asyncpg.Record] = await connection.fetch(
            _LIST_ROW_REJECTIONS, result.job_id, result.run, _SHOWN_REJECTIONS
        )
    return rows

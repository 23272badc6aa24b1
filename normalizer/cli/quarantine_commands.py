"""The commands for rejected records: quarantine list, show, and redrive."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import click

from normalizer.cli.exit_on_error import (
    build_normalizer_or_exit,
    call_or_exit,
    load_settings_or_exit,
    run_or_exit,
)
from normalizer.cli.job_execution import (
    configure_logging_on_screen,
    dry_run_backfill_and_exit,
    exit_with_result,
    run_job,
)
from normalizer.cli.job_options import (
    ID_TYPE,
    LIMIT_TYPE,
    NON_NEGATIVE_INT32_TYPE,
    changes_option,
    defaults_option,
    options_from_selection,
    parse_time_range,
    rate_and_dry_run_options,
)
from normalizer.errors import REJECTION_REASONS
from normalizer.jobs.engine.job_spec import JobSpec
from normalizer.jobs.engine.run_progress import RunResult
from normalizer.jobs.engine.runner import JobRunner
from normalizer.jobs.redrive import QuarantineSource, RedriveSelection, build_redrive_backfill
from normalizer.jobs.sources.field_defaults import FieldDefaults, parse_field_defaults
from normalizer.runtime.exit_codes import MISUSED
from normalizer.store import quarantine_reader

_reason_option: Final = click.option(
    "--reason",
    type=click.Choice(REJECTION_REASONS),
    help="Include only records that were rejected for this reason, for example missing_time. By "
    "default, the reason doesn't matter.",
)


@click.group()
def quarantine() -> None:
    """List, show, and redrive rejected records.

    \b
    normalizer quarantine list --reason invalid_json
    normalizer quarantine show 17
    """


@quarantine.command("list")
@_reason_option
@click.option(
    "--topic",
    help="Include only records of this topic, for example noetl.events. By default, records of all "
    "topics are included.",
)
@click.option(
    "--redriven",
    is_flag=True,
    help="Also list records that `normalizer quarantine redrive` has stored as events. By default, "
    "only records that are still rejected are listed.",
)
@click.option(
    "--limit",
    type=LIMIT_TYPE,
    default=50,
    show_default=True,
    help="List at most this many records.",
)
def list_quarantined(*, reason: str | None, topic: str | None, redriven: bool, limit: int) -> None:
    """List the latest records in quarantine, newest first.

    \b
    normalizer quarantine list
    normalizer quarantine list --reason missing_execution_id --limit 10
    """
    settings = load_settings_or_exit("database_url")
    entries = run_or_exit(
        quarantine_reader.list_quarantine_entries(
            settings.required_database_url,
            reason=reason,
            topic=topic,
            redriven=redriven,
            limit=limit,
        )
    )
    click.echo(
        quarantine_reader.format_quarantine_table(entries)
        if entries
        else "no records are quarantined"
    )


@quarantine.command("show")
@click.argument("number", type=ID_TYPE)
@click.option(
    "--raw",
    is_flag=True,
    help="Show the record's content exactly as it was received, including any secrets in it. By "
    "default, secrets are redacted.",
)
def show_quarantined(*, number: int, raw: bool) -> None:
    """Show everything about one entry, with secrets redacted.

    \b
    normalizer quarantine show 17
    normalizer quarantine show 17 --raw

    Rejected bytes may hold secrets. So this must run as the owner of the database, or as a user
    with the roles normalizer_redriver and normalizer_writer.
    """
    settings = load_settings_or_exit("database_url")
    entry, kept = run_or_exit(
        quarantine_reader.read_quarantine_entry(settings.required_database_url, number)
    )
    click.echo(
        quarantine_reader.format_quarantine_entry(
            entry, kept, raw=raw, redact_keys=settings.redact_keys
        )
    )


@quarantine.command()
@_reason_option
@click.option(
    "--shape",
    help="Try only records of this wire shape, for example executor. A wire shape is the format in "
    "which one producer writes its events. By default, records of all shapes are tried.",
)
@click.option(
    "--topic",
    help="Try only records of this topic, for example noetl.events. By default, records of all "
    "topics are tried.",
)
@click.option(
    "--version",
    type=NON_NEGATIVE_INT32_TYPE,
    help="Try only records that were rejected by this version of the rules, for example 4. By "
    "default, the version doesn't matter.",
)
@click.option(
    "--from-time",
    metavar="TIME",
    help="Try only records that were rejected at or after this time, for example 2026-01-31 or "
    "2026-01-31T12:00:00Z. A time without a zone is UTC. By default, the oldest records are tried "
    "too.",
)
@click.option(
    "--to-time",
    metavar="TIME",
    help="Try only records that were rejected before this time, for example 2026-02-28. A time "
    "without a zone is UTC. By default, the newest records are tried too.",
)
@click.option(
    "--id",
    "ids",
    type=ID_TYPE,
    metavar="ID",
    multiple=True,
    help="Try only the quarantine entry with this id, for example 17. `normalizer quarantine list` "
    "prints the ids. Repeat the option for several entries.",
)
@click.option(
    "--again",
    is_flag=True,
    help="Also try records that an earlier redrive has already tried with the current rules, for "
    "example because --set now adds a missing field. By default, they're left out, because the "
    "same rules would most likely reject them again.",
)
@click.option(
    "--limit",
    type=LIMIT_TYPE,
    help="Try at most this many records, for example 100. By default, all selected records are "
    "tried.",
)
@click.option(
    "--yes",
    is_flag=True,
    help="Don't ask for confirmation, for example in a script. The command asks only if no other "
    "option selects some of the records, because it would then try all of them.",
)
@defaults_option
@changes_option
@rate_and_dry_run_options
def redrive(
    *,
    from_time: str | None,
    to_time: str | None,
    defaults: tuple[str, ...],
    dry_run: bool,
    changes: Path | None,
    yes: bool,
    **options: Any,
) -> None:
    """Try rejected records again.

    Use it after the cause was fixed, for example after an upgrade of the rules.

    \b
    normalizer quarantine redrive --reason invalid_id --dry-run
    normalizer quarantine redrive --reason invalid_id --limit 100
    normalizer quarantine redrive --reason missing_time --set created_at=2026-01-31

    A record keeps its topic, partition, and offset, so it can't be stored twice. It stays in
    quarantine if it's rejected again, if it's older than the retention of events, or if its
    execution was erased (`normalizer forget`). Every attempt is recorded, and `normalizer
    quarantine show` lists them.

    Without a selection, the command prints how many records there are and asks you to confirm.
    Rejected bytes may hold secrets. So it must run as the owner of the database, or as a user with
    the roles normalizer_redriver and normalizer_writer.
    """
    first, after = parse_time_range(from_time, to_time)
    settings = load_settings_or_exit("database_url")
    given = call_or_exit(lambda: parse_field_defaults(defaults))
    max_rate = options.pop("max_rate")
    selection = RedriveSelection(from_time=first, to_time=after, **options)
    source = QuarantineSource(
        settings.required_database_url, selection, defaults=FieldDefaults(given)
    )
    normalizer = build_normalizer_or_exit(settings)
    screen = configure_logging_on_screen(settings)
    if dry_run:
        dry_run_backfill_and_exit(
            settings,
            source,
            source.wrap_normalize_to_skip_missing(normalizer.normalize),
            changes,
            screen,
        )
    if selection.selects_all and not yes:
        _ask_for_all(run_or_exit(source.count_entries_to_try()))
    job_options = {"rules": normalizer.version} | options_from_selection(selection)
    job_options |= {f"set {name}": value for name, value in given.items()}
    spec = JobSpec(kind="redrive", source="quarantine", options=job_options)

    def flow(runner: JobRunner) -> Coroutine[Any, Any, RunResult]:
        return build_redrive_backfill(runner, source, normalizer.normalize).run()

    exit_with_result(screen, run_job(settings, spec, flow, screen, max_rate))


def _ask_for_all(rejected: int) -> None:
    """Ask whether to try all of them, and end the process if the answer is no."""
    if not rejected:
        return
    warning = f"without a selection all {rejected:,} rejected records are tried"
    if not sys.stdin.isatty():
        click.echo(f"error: {warning}: give --yes, or select some (--reason ...)", err=True)
        raise SystemExit(MISUSED)
    if not click.confirm(f"{warning}. Continue?", err=True):
        raise SystemExit(0)

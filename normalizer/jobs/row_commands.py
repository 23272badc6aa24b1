"""The command line of what is stored: renormalise, redact, redrive, export, and the jobs of it."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import os
import sys
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import click

from normalizer import telemetry
from normalizer.core.normalize import Normalizer
from normalizer.core.sanitize import Sanitizer
from normalizer.envelope import RULES, RULES_VERSION
from normalizer.errors import REASONS
from normalizer.jobs import statements
from normalizer.jobs.asked import Asked
from normalizer.jobs.backfill import Backfill
from normalizer.jobs.defaults import Defaults, parse_defaults
from normalizer.jobs.edge import (
    MISUSED,
    Pacing,
    changes_option,
    checked,
    collected,
    configured,
    history_options,
    leave,
    pacing_of,
    say,
    say_diff,
    set_option,
    settings_for,
    texts_of,
    time_of,
    try_out,
    until_stopped,
    verdict_of,
    waited,
)
from normalizer.jobs.export import Export, PackedFile
from normalizer.jobs.export import Selection as ExportSelection
from normalizer.jobs.playing import Player
from normalizer.jobs.redact import Places, Redact, RedactDryRun, place_lines
from normalizer.jobs.redrive import QuarantineSource
from normalizer.jobs.redrive import Selection as RedriveSelection
from normalizer.jobs.renormalise import Renormalise, RenormaliseDryRun
from normalizer.jobs.renormalise import Selection as RenormaliseSelection
from normalizer.jobs.reporting import Verdict, list_runs
from normalizer.store.database import reading

SHOWN_REFUSALS: Final = 20


@click.command()
@click.option("--shape", help="Only rows of this shape.")
@click.option("--rule", type=click.Choice(RULES), help="Only rows with a coercion by this rule.")
@click.option("--from-time", metavar="TIME", help="Of created_at: 2026-01-31, UTC.")
@click.option("--to-time", metavar="TIME", help="Up to, not including.")
@changes_option
@history_options
def renormalise(
    *,
    shape: str | None,
    rule: str | None,
    from_time: str | None,
    to_time: str | None,
    dry_run: bool,
    changes: Path | None,
    **pacing: Any,
) -> None:
    """Bring stored rows that older rules made to what today's rules make of them.

    \b
    normalizer renormalise --dry-run
    normalizer renormalise --rule status_unmapped --from-time 2026-01-01
    normalizer renormalise

    Each is rebuilt into what its producer sent and read again; projections follow. Keys never
    change. A row that today's rules would refuse stays as it is, and is listed.
    """
    settings = settings_for("database_url")
    assert settings.database_url
    database_url = settings.database_url
    selection = RenormaliseSelection(
        shape=shape, rule=rule, from_time=time_of(from_time), to_time=time_of(to_time)
    )
    normalize = Normalizer(settings.redact_keys).normalize
    screen = configured(settings)
    if dry_run:
        with collected(changes) as diff:
            trial = RenormaliseDryRun(database_url, selection, normalize, diff)
            waited(until_stopped(trial.run(), trial.stop))
        say_diff(diff)
    options = {"rules": str(RULES_VERSION)} | texts_of(selection)
    asked = Asked(kind="renormalise", source="events", options=options)

    def flow(player: Player) -> Coroutine[Any, Any, Verdict]:
        return Renormalise(player, selection, normalize).run()

    verdict = verdict_of(settings, asked, flow, screen, pacing_of(pacing))
    say(screen, verdict)
    if verdict.totals.refused:
        for line in waited(_refusals(database_url, verdict)):
            screen.say(line)
    leave(verdict)


@click.command()
@history_options
def redact(*, dry_run: bool, **pacing: Any) -> None:
    """Take out of stored rows what today's rules call a secret, where older rules left it.

    \b
    normalizer redact --dry-run
    normalizer redact

    Everywhere: events, refusals' details, what calls keep of archived events, what counters are
    counted by. Projections follow. The dry run counts by place, and shows no content. Refused bytes
    stay as they came (`projector maintain --keep-raw`). NORMALIZER_REDACT_KEYS counts too. Its user
    must be the owner.
    """
    settings = settings_for("database_url")
    assert settings.database_url
    sanitizer = Sanitizer(settings.redact_keys)
    screen = configured(settings)
    if dry_run:
        trial = RedactDryRun(settings.database_url, sanitizer)
        waited(until_stopped(trial.run(), trial.stop))
        click.echo("dry run: nothing was changed. It would be, in rows:")
        for line in place_lines(trial.places):
            click.echo(line)
        return
    options = {"rules": str(RULES_VERSION), "keys": ",".join(sorted(settings.redact_keys))}
    asked = Asked(kind="redact", source="everything", options=options)
    places: Places = Counter()

    async def flow(player: Player) -> Verdict:
        run = Redact(player, sanitizer)
        verdict = await run.run()
        places.update(run.places)
        return verdict

    verdict = verdict_of(settings, asked, flow, screen, pacing_of(pacing))
    say(screen, verdict)
    for line in place_lines(places):
        screen.say(line)
    leave(verdict)


@click.command()
@click.option("--reason", type=click.Choice(REASONS), help="Only of this reason.")
@click.option("--shape", help="Only of this shape.")
@click.option("--topic", help="Only of this topic.")
@click.option("--version", type=click.IntRange(0), help="Refused by this version of the rules.")
@click.option("--from-time", metavar="TIME", help="Refused at or after: 2026-01-31, UTC.")
@click.option("--to-time", metavar="TIME", help="Up to, not including.")
@click.option("--id", "ids", type=int, multiple=True, help="Only this entry. Repeatable.")
@click.option("--again", is_flag=True, help="Also what was tried under today's rules already.")
@click.option("--limit", type=click.IntRange(1), help="Entries at most.")
@click.option("--yes", is_flag=True, help="Try all that is refused, and do not ask.")
@set_option
@changes_option
@history_options
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
    """Try refused records once more, after the rules or the database were mended.

    \b
    normalizer quarantine redrive --reason invalid_id --dry-run
    normalizer quarantine redrive --reason invalid_id --limit 100
    normalizer quarantine redrive --reason missing_time --set created_at=2026-01-31

    Records keep their coordinates. Every try is recorded; what fails again stays. Without anything
    that narrows it down it says how many there are, and asks; --yes answers. Its user needs
    the role normalizer_redriver beside normalizer_writer, or to be the owner: refused bytes may
    hold secrets.
    """
    settings = settings_for("database_url")
    assert settings.database_url
    given = checked(lambda: parse_defaults(defaults))
    pacing = Pacing(
        yield_at_s=None if options.pop("no_yield") else options.pop("yield_at"),
        max_rate=options.pop("max_rate"),
    )
    options.pop("yield_at", None)
    selection = RedriveSelection(from_time=time_of(from_time), to_time=time_of(to_time), **options)
    source = QuarantineSource(settings.database_url, selection, defaults=Defaults(given))
    normalize = source.normalized_by(Normalizer(settings.redact_keys).normalize)
    screen = configured(settings)
    if dry_run:
        try_out(settings, source, normalize, changes)
    if selection.takes_all and not yes:
        _ask_for_all(waited(source.count()))
    asked_options = {"rules": str(RULES_VERSION)} | texts_of(selection)
    asked_options |= {f"set {name}": value for name, value in given.items()}
    asked = Asked(kind="redrive", source="quarantine", options=asked_options)

    def flow(player: Player) -> Coroutine[Any, Any, Verdict]:
        return Backfill(player, source, normalize, positions_of=source.positions).run()

    verdict = verdict_of(settings, asked, flow, screen, pacing)
    say(screen, verdict)
    leave(verdict)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--from-time", metavar="TIME", help="Of created_at: 2026-01-31, UTC.")
@click.option("--to-time", metavar="TIME", help="Up to, not including.")
@click.option("--execution", "executions", type=int, multiple=True, help="Only this. Repeatable.")
def export(
    *, file: Path, from_time: str | None, to_time: str | None, executions: tuple[int, ...]
) -> None:
    """Canonical events into FILE, one a line, packed by zstd; - writes plain lines.

    \b
    normalizer export events.ndjson.zst --from-time 2026-01-01 --to-time 2026-02-01
    normalizer export - --execution 543942402461926429 | jq .event_type

    The same events give the same bytes; `normalizer backfill file` takes them again, as events that
    declare everything: which of their values were defaults, no line says.
    """
    settings = settings_for("database_url")
    assert settings.database_url
    selection = ExportSelection(
        from_time=time_of(from_time), to_time=time_of(to_time), executions=tuple(sorted(executions))
    )
    telemetry.configure(level="critical")
    work = Export(settings.database_url, selection)
    if str(file) == "-":
        try:
            waited(work.run(sys.stdout.buffer.write))
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Whoever read has enough. What Python still wants to flush at exit goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return

    async def packed() -> int:
        with PackedFile(file) as packer:
            return await work.run(packer.write)

    click.echo(f"{waited(packed()):,} events in {file}", err=True)


@click.command()
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
def jobs(*, limit: int) -> None:
    """Runs of backfill, renormalise, redact and redrive, the newest first.

    \b
    normalizer jobs
    """
    settings = settings_for("database_url")
    assert settings.database_url
    for line in waited(list_runs(settings.database_url, limit)) or ["no job has run"]:
        click.echo(line)


def _ask_for_all(refused: int) -> None:
    """Let a person say that all are meant; ends the process where they are not."""
    if not refused:
        return
    said = f"nothing narrows it down: all {refused:,} refused records are tried"
    if not sys.stdin.isatty():
        click.echo(f"error: {said}: say --yes, or which (--reason, --topic, --id ...)", err=True)
        raise SystemExit(MISUSED)
    if not click.confirm(f"{said}. Go on?", err=True):
        raise SystemExit(0)


async def _refusals(database_url: str, verdict: Verdict) -> list[str]:
    """The rows that stayed as they were, so many of them."""
    async with reading(database_url) as connection:
        rows = await connection.fetch(
            statements.LIST_REFUSALS, verdict.job_id, verdict.run, SHOWN_REFUSALS
        )
    lines = [f"  event {row['event_id']} stays: {row['reason']}: {row['detail']}" for row in rows]
    if verdict.totals.refused > len(lines):
        lines.append("  ... all of them are in normalizer.job_refusal")
    return lines

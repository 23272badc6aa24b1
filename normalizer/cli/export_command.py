"""The command that writes stored events to a file."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import contextlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import click

from normalizer.cli.exit_on_error import load_settings_or_exit, run_or_exit
from normalizer.cli.job_execution import configure_logging_on_screen
from normalizer.cli.job_options import ID_TYPE, parse_time_range
from normalizer.core.cloudevents import to_cloudevent
from normalizer.envelope import Envelope, to_canonical
from normalizer.jobs.export import Export, ExportFile, ExportSelection
from normalizer.runtime.command_line import NonEmptyPath, discard_further_output
from normalizer.runtime.exit_codes import INTERRUPTED
from normalizer.runtime.progress import ProgressPrinter
from normalizer.runtime.signals import cancel_on_signal

_FORMATS: Final[Mapping[str, Callable[[Envelope], bytes]]] = {
    "canonical": to_canonical,
    "cloudevents": to_cloudevent,
}


@click.command()
@click.argument("file", type=NonEmptyPath(path_type=Path, allow_dash=True))
@click.option(
    "--from-time",
    metavar="TIME",
    help="Export only events whose created_at is at or after this time, for example 2026-01-31 or "
    "2026-01-31T12:00:00Z. A time without a zone is UTC. By default, the export starts with the "
    "oldest event.",
)
@click.option(
    "--to-time",
    metavar="TIME",
    help="Export only events whose created_at is before this time, for example 2026-02-28. A time "
    "without a zone is UTC. By default, the export ends with the newest event.",
)
@click.option(
    "--execution",
    "executions",
    type=ID_TYPE,
    metavar="ID",
    multiple=True,
    help="Export only the events of this execution, for example 481036337152. Repeat the option "
    "for several executions. By default, the events of all executions are exported.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="canonical",
    show_default=True,
    help="The format of each line. 'canonical' is the event itself, byte for byte as `normalizer "
    "normalize` prints it. 'cloudevents' is a CloudEvent 1.0 that has the event as its data.",
)
def export(
    *,
    file: Path,
    from_time: str | None,
    to_time: str | None,
    executions: tuple[int, ...],
    form: str,
) -> None:
    """Export canonical events to FILE, one per line. FILE - is standard output.

    \b
    normalizer export events.ndjson.zst --from-time 2026-01-01 --to-time 2026-02-01
    normalizer export events.ndjson
    normalizer export - --execution 543942402461926429 | jq .event_type
    normalizer export events.ndjson.zst --format cloudevents

    FILE is compressed with zstd if its name ends in .zst, and with gzip if it ends in .gz. The same
    events always give the same bytes. `normalizer backfill file` can read the file. A line doesn't
    show which of its values were guessed by a rule. So the backfill treats all of them as values
    that the producer sent.

    If the database is unreachable, the export waits and then continues.
    """
    first, after = parse_time_range(from_time, to_time)
    settings = load_settings_or_exit("database_url")
    selection = ExportSelection(
        from_time=first, to_time=after, executions=tuple(sorted(executions))
    )
    work = Export(settings.required_database_url, selection)
    screen = configure_logging_on_screen(settings)
    progress = ProgressPrinter(screen, "export")
    if str(file) == "-":
        try:
            run_or_exit(_plain(work, _FORMATS[form], progress))
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            discard_further_output()
        return

    async def packed() -> int:
        async with cancel_on_signal():
            with ExportFile(file) as packer, progress.print_while_running(work.work_progress):
                return await work.run(packer.write, _FORMATS[form])
        raise SystemExit(INTERRUPTED)

    screen.print_line(f"{run_or_exit(packed()):,} events in {file}")


async def _plain(
    work: Export, to_line: Callable[[Envelope], bytes], progress: ProgressPrinter
) -> None:
    """Write lines to stdout. On a terminal the lines themselves show the progress."""
    with contextlib.ExitStack() as reporting:
        if not sys.stdout.isatty():
            reporting.enter_context(progress.print_while_running(work.work_progress))
        await work.run(sys.stdout.buffer.write, to_line)

"""The command line: `python -m simulator play | write | compare | truth`."""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import asyncpg
import click
import msgspec

from simulator.actual_rows import DatabaseRows
from simulator.actual_views import DatabaseViews
from simulator.compare import compare
from simulator.compare_views import compare_views
from simulator.comparison_report import ComparisonReport
from simulator.expected_views import expected_lines
from simulator.ledger_file import Ledger, LedgerFile, LedgerHeader, Line, read_ledger
from simulator.mix import Mix
from simulator.simulator_run import SimulatorRun, now_us, run_into_topic, write_lines

_FLAT_OUT_RATE = 5_000.0


def _run_from_options(options: dict[str, Any], **mix: Any) -> SimulatorRun:
    """Build the run from the options. `--set` overrides the other options."""
    mix |= {name: options[name] for name in ("in_flight", "poison")}
    given = {name: value for name, value in mix.items() if value is not None}
    for setting in options["settings"]:
        name, _, value = setting.partition("=")
        given[name] = value
    known = {field.name for field in msgspec.structs.fields(Mix)}
    if unknown := ", ".join(sorted(set(given) - known)):
        raise click.UsageError(
            f"there is no setting {unknown}. The settings in simulator/mix.py are "
            f"{', '.join(sorted(known))}"
        )
    try:
        return SimulatorRun(
            mix=msgspec.convert(given, Mix, strict=False),
            seed=options["seed"],
            executions=options["executions"],
            events=options["events"],
        )
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error


def _traffic_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--seed", default=1, show_default=True, help="The same seed makes the same bytes."
        ),
        click.option(
            "--executions",
            type=click.IntRange(0),
            help="Begin at most this many (without children).",
        ),
        click.option("--events", type=click.IntRange(0), help="Stop after this many events."),
        click.option("--in-flight", type=int, help="Concurrent executions."),
        click.option("--poison", type=float, help="Share of records from the poison list."),
        click.option(
            "--ledger",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write the expected outcome of every record to this file.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="Set any field of the mix, for example late=0.05. simulator/mix.py lists them.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def main() -> None:
    """A simulated workflow platform that sends traffic and knows the expected results."""


@main.command()
@click.option("--bootstrap-servers", required=True, metavar="HOST:PORT")
@click.option("--topic", default="noetl.events", show_default=True)
@click.option(
    "--rate",
    default=0.0,
    help="Events per second. With 0, records are sent as fast as the broker accepts them, or at "
    "5,000 events per second with --live.",
)
@click.option("--for", "seconds", type=float, help="Stop after this many seconds.")
@click.option("--live", is_flag=True, help="The platform's clock is the wall clock.")
@_traffic_options
def play(
    *,
    bootstrap_servers: str,
    topic: str,
    rate: float,
    seconds: float | None,
    live: bool,
    ledger: Path | None,
    **options: Any,
) -> None:
    """Send records to a topic until the given amount, a signal, or --for ends it.

    Without --live, the records have the times of the simulated platform, which begin at 2025-06-01.
    Set retention.ms=-1 for such a topic. Otherwise the broker deletes records that old.
    """
    start_us = now_us() if live else None
    wanted_run = _run_from_options(options, rate=rate or _FLAT_OUT_RATE, start_us=start_us)
    with _ledger(ledger) as written:
        sent = asyncio.run(
            _produce(wanted_run, bootstrap_servers, topic, written, seconds, paced=live or rate > 0)
        )
    click.echo(f"{sent} records", err=True)


async def _produce(
    wanted_run: SimulatorRun,
    bootstrap_servers: str,
    topic: str,
    ledger: Ledger,
    seconds: float | None,
    *,
    paced: bool,
) -> int:
    """Send until the traffic or `seconds` are over, or a signal stops it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    return await run_into_topic(
        wanted_run, bootstrap_servers, topic, ledger, paced=paced, stop=stop
    )


def _ledger(path: Path | None) -> AbstractContextManager[Ledger]:
    return nullcontext(Ledger(lambda _: None)) if path is None else LedgerFile(path)


@main.command()
@click.argument("file", type=click.File("wb"))
@click.option("--topic", default="noetl.events", show_default=True)
@click.option("--partitions", default=6, show_default=True)
@_traffic_options
def write(
    *, file: BinaryIO, topic: str, partitions: int, ledger: Path | None, **options: Any
) -> None:
    """Write records to FILE (- is standard output) as `kcat -J` prints them."""
    wanted_run = _run_from_options(options, partitions=partitions)
    if wanted_run.executions is None and wanted_run.events is None:
        raise click.UsageError(
            "the traffic has no end, but a file needs one. Add --events N or --executions N"
        )
    with _ledger(ledger) as written:
        write_lines(wanted_run, file, topic, written)


@main.command(name="compare")
@click.option("--ledger", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--database-url", required=True)
def compare_(*, ledger: Path, database_url: str) -> None:
    """Compare what was sent (--ledger) with a database: rows, rejections, totals, and views.

    Exit 1 if they differ, 3 if they could not be compared.
    """
    try:
        report = asyncio.run(_compare(ledger, database_url))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _NoAnswer(f"nothing was compared: {error}") from error
    for line in report.lines():
        click.echo(line)
    sys.exit(0 if report.agrees else 1)


@main.command(name="truth")
@click.option("--ledger", required=True, type=click.Path(exists=True, path_type=Path))
def truth_(*, ledger: Path) -> None:
    """Print what a truthful dashboard must show of every execution, step and call."""
    for line in expected_lines(_lines(ledger)):
        click.echo(msgspec.json.encode(line))


class _NoAnswer(click.ClickException):
    exit_code = 3


def _lines(ledger: Path) -> Iterator[Line]:
    """Yield the lines of a ledger. The last one is incomplete if its writer was killed."""
    try:
        yield from read_ledger(ledger)
    except msgspec.DecodeError as error:
        raise _NoAnswer(f"the ledger cannot be read: {error}") from error


async def _compare(ledger: Path, database_url: str) -> ComparisonReport:
    begin = next(_lines(ledger), None)
    if not isinstance(begin, LedgerHeader):
        raise click.UsageError(
            f"{ledger} is not a ledger of the simulator, because its first line is no `begin` line"
        )
    connection = await asyncpg.connect(database_url)
    try:
        report = await compare(_lines(ledger), DatabaseRows(connection, begin.topic))
        await compare_views(_lines(ledger), DatabaseViews(connection), report)
        return report
    finally:
        await connection.close()


if __name__ == "__main__":
    main()

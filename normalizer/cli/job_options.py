"""Options that the commands of jobs share: throttle, missing fields, time range."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import click
import msgspec

from normalizer.command_line import FiniteRange, NewPath

YIELD_AT_S: Final = 2.0

# As large as the columns that they're compared with. A larger number would fail in the database, or
# make a job wait for a row that can't exist.
SMALL_NUMBER: Final = click.IntRange(0, (1 << 31) - 1)
OFFSET: Final = click.IntRange(0, (1 << 63) - 1)
ID: Final = click.IntRange(-(1 << 63), (1 << 63) - 1)
LIMIT: Final = click.IntRange(1, (1 << 31) - 1)


SECONDS: Final = FiniteRange(0)
RATE: Final = FiniteRange(0, 1_000_000, min_open=True)

_Command = TypeVar("_Command", bound=Callable[..., Any])


class ThrottleOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a job may run. It isn't part of the job's identity."""

    yield_at_s: float | None
    max_rate: float | None


def _throttle_options(command: _Command) -> _Command:
    for option in (
        click.option(
            "--yield-at",
            type=SECONDS,
            default=YIELD_AT_S,
            show_default=True,
            metavar="SECONDS",
            help="Pause while live records wait longer than this.",
        ),
        click.option("--no-yield", is_flag=True, help="Ignore live traffic."),
        click.option(
            "--max-rate",
            type=RATE,
            help="At most this many records per second.",
        ),
    ):
        command = option(command)
    return command


def history_options(command: _Command) -> _Command:
    """Add the options of every command that writes: throttle and dry run."""
    return click.option(
        "--dry-run", is_flag=True, help="Write nothing, but print what would change."
    )(_throttle_options(command))


set_option: Final = click.option(
    "--set",
    "defaults",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value for a field that rows lack, such as created_at. Repeatable.",
)


def changes_option(command: _Command) -> _Command:
    """Add the option that lists the rows of a dry run. It's an error in a real run."""

    @functools.wraps(command)
    def checked(*, dry_run: bool, changes: Path | None, **options: Any) -> Any:
        if changes and not dry_run:
            raise click.UsageError("--changes: add --dry-run, or rows are written")
        return command(dry_run=dry_run, changes=changes, **options)

    return click.option(
        "--changes",
        type=NewPath(path_type=Path),
        metavar="FILE",
        help="With --dry-run: list every row that would change in this new file, one JSON object "
        "per line.",
    )(cast("_Command", checked))


def throttle_options_of(options: dict[str, Any]) -> ThrottleOptions:
    """Move the throttle options out of the options of a command."""
    no_yield, yield_at_s, max_rate = map(options.pop, ("no_yield", "yield_at", "max_rate"))
    return ThrottleOptions(yield_at_s=None if no_yield else yield_at_s, max_rate=max_rate)


def selection_texts(selection: msgspec.Struct) -> dict[str, str]:
    """Return the options of a selection, as text."""
    return {
        name: str(value)
        for name, value in msgspec.structs.asdict(selection).items()
        if value is not None and value is not False and value != ()
    }


def parse_time(text: str | None) -> datetime | None:
    """Parse a time, in UTC if it has no zone. Raises UsageError."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise click.UsageError(f"{text}: expected a time such as 2026-01-31T12:00:00Z") from error


def parse_times(first: str | None, after: str | None) -> tuple[datetime | None, datetime | None]:
    """Parse --from-time and --to-time. Raises UsageError, also if no time lies between them."""
    times = parse_time(first), parse_time(after)
    raise_if_empty("time", *times)
    return times


def raise_if_empty(unit: str, first: Any, after: Any) -> None:
    """Raise UsageError for an empty range, whose ends are most likely swapped."""
    if first is not None and after is not None and first >= after:
        raise click.UsageError(f"--from-{unit} must be before --to-{unit}")


def to_milliseconds(time: datetime | None) -> int | None:
    """Return milliseconds since 1970. Kafka has no earlier times."""
    return None if time is None else max(0, round(time.timestamp() * 1000))

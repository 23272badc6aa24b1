"""Options that several commands of jobs share: rate, missing fields, time range."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import click
import msgspec

from normalizer.runtime.command_line import FiniteRange, NonEmptyPath

# The ranges of the database columns that these options are compared with. Rejecting a larger number
# here gives a clear error. Otherwise a statement would fail later with an error from the database,
# or the job would wait for a row that can't exist.
NON_NEGATIVE_INT32_TYPE: Final = click.IntRange(0, (1 << 31) - 1)
OFFSET_TYPE: Final = click.IntRange(0, (1 << 63) - 1)
ID_TYPE: Final = click.IntRange(1, (1 << 63) - 1)
LIMIT_TYPE: Final = click.IntRange(1, (1 << 31) - 1)


SECONDS_TYPE: Final = FiniteRange(0)
RATE_TYPE: Final = FiniteRange(0, 1_000_000, min_open=True)

_Command = TypeVar("_Command", bound=Callable[..., Any])


def rate_and_dry_run_options(command: _Command) -> _Command:
    """Add the options of every command that writes: --max-rate and --dry-run."""
    for option in (
        click.option(
            "--max-rate",
            type=RATE_TYPE,
            help="Process at most this many records per second, for example 500, to put less load "
            "on the database. By default, the job runs as fast as it can, and pauses only while "
            "the running service has lag.",
        ),
        click.option(
            "--dry-run",
            is_flag=True,
            help="Print what a real run would change, but change nothing in the database.",
        ),
    ):
        command = option(command)
    return command


defaults_option: Final = click.option(
    "--set",
    "defaults",
    multiple=True,
    metavar="NAME=VALUE",
    help="Add this field to every record in which it's missing or null, for example "
    "created_at=2026-01-31. A VALUE that is valid JSON is added as JSON, and any other as a "
    "string. Repeat the option to add several fields.",
)


def changes_option(command: _Command) -> _Command:
    """Add the option --changes, which lists the rows of a dry run. In a real run it's an error."""

    @functools.wraps(command)
    def checked(*, dry_run: bool, changes: Path | None, **options: Any) -> Any:
        if changes and not dry_run:
            raise click.UsageError(
                "--changes can't be used without --dry-run, because it lists the rows that a "
                "real run would change"
            )
        return command(dry_run=dry_run, changes=changes, **options)

    return click.option(
        "--changes",
        type=NonEmptyPath(path_type=Path),
        metavar="FILE",
        help="Write every row that would change to this file, as one JSON object per line. The "
        "option needs --dry-run, and the file must not exist yet.",
    )(cast("_Command", checked))


def options_from_selection(selection: msgspec.Struct) -> dict[str, str]:
    """Return the options of a selection, as text."""
    return {
        name: str(value)
        for name, value in msgspec.structs.asdict(selection).items()
        if value is not None and value is not False and value != ()
    }


def parse_time(text: str | None) -> datetime | None:
    """Parse a time. Without a zone it's UTC. Raises UsageError."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise click.UsageError(f"{text}: expected a time such as 2026-01-31T12:00:00Z") from error


def parse_time_range(
    first: str | None, after: str | None
) -> tuple[datetime | None, datetime | None]:
    """Parse --from-time and --to-time. Raises UsageError if there's no time between them."""
    times = parse_time(first), parse_time(after)
    raise_if_range_is_empty("time", *times)
    return times


def raise_if_range_is_empty(unit: str, first: Any, after: Any) -> None:
    """Raise UsageError for an empty range, whose ends are most likely swapped."""
    if first is not None and after is not None and first >= after:
        raise click.UsageError(
            f"--from-{unit} must be before --to-{unit}. With these values the range is empty"
        )


def to_kafka_timestamp_ms(time: datetime | None) -> int | None:
    """Return milliseconds since 1970, or 0 for an earlier time, because Kafka has none."""
    return None if time is None else max(0, round(time.timestamp() * 1000))

"""The commands that show, change, and retire the position of a partition."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import getpass
import os
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import click
import msgspec

from normalizer.cli.exit_on_error import load_settings_or_exit, run_or_exit
from normalizer.cli.job_options import OFFSET_TYPE
from normalizer.cli.partition_positions import (
    PositionChangeResult,
    format_positions,
    read_positions,
    retire_partition,
    rewind_position,
    skip_records,
)
from normalizer.core.record_address import PARTITION_SYNTAX, parse_topic_partition_or_none
from normalizer.errors import PositionMovedError
from normalizer.kafka import KafkaPartition, optional_groupless_client
from normalizer.runtime.exit_codes import PROBLEM_FOUND
from normalizer.store.position_changes import PositionAction, PositionChange


def _partition(text: str) -> KafkaPartition:
    place = parse_topic_partition_or_none(text)
    if place is None:
        raise click.BadParameter(f"expected {PARTITION_SYNTAX}; got {text!r}")
    return KafkaPartition(*place)


def _changes(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every command that changes a position."""
    for option in (
        click.option(
            "--who",
            help="Who changes the position, for example alice. The name is stored in the table "
            "normalizer.position_changes. Default: the user and the machine that run the command, "
            "such as alice@host.",
        ),
        click.option(
            "--why",
            required=True,
            help="Why the position is changed, for example 'poison, see ticket 17'. The text is "
            "stored in the table normalizer.position_changes, which is never cleaned up. So don't "
            "quote the content of records.",
        ),
        click.option(
            "--dry-run",
            is_flag=True,
            help="Print what the command would change, but change nothing.",
        ),
        click.argument("at", metavar="TOPIC:PARTITION", type=_partition),
    ):
        command = option(command)
    return command


@click.group()
def position() -> None:
    """Show and change how far each partition was read.

    \b
    normalizer position show
    normalizer position skip noetl.events:3 --offset 1042 --why "poison, see ticket 17"
    normalizer position rewind noetl.events:3 --offset 900 --why "rows were deleted by hand"
    normalizer position retire old.events:3 --why "the topic is noetl.events now"

    You don't need to stop anything, because a process that reads the partition continues from the
    new position. The table normalizer.position_changes records every change.
    """


@position.command()
@click.argument("at", metavar="[TOPIC[:PARTITION]]", default="")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the positions as a JSON array of objects. By default, they're printed as a table.",
)
def show(*, at: str, as_json: bool) -> None:
    """Show each partition's position, owner, epoch, and totals. Changes nothing.

    \b
    normalizer position show
    normalizer position show noetl.events:3 --json

    log_end is the end of the log in Kafka. It's missing if KAFKA_BOOTSTRAP_SERVERS isn't set or
    leads to another cluster, or if no broker responds.
    """
    settings = load_settings_or_exit("database_url")
    topic, partition = parse_topic_partition_or_none(at) or (at or None, None)

    async def read() -> str:
        async with optional_groupless_client(settings) as log:
            positions = await read_positions(settings, log, topic, partition)
        if as_json:
            return msgspec.json.encode(positions).decode()
        return format_positions(positions) if positions else "nothing has been read yet"

    click.echo(run_or_exit(read()))


@position.command()
@_changes
@click.option(
    "--offset",
    type=OFFSET_TYPE,
    required=True,
    help="The current position, for example 1042. It's the next_offset that `normalizer position "
    "show` prints. If the position has moved by the time the command runs, nothing is skipped.",
)
@click.option(
    "--to",
    type=click.IntRange(1),
    help="The offset to continue at. For example, with 1100 the next record to be read is the one "
    "at 1100, and all records before it are skipped. By default, only one record is skipped.",
)
def skip(
    *,
    at: KafkaPartition,
    offset: int,
    to: int | None,
    who: str | None,
    why: str,
    dry_run: bool,
) -> None:
    """Move the position past the next record.

    With --to, it moves past all records before that offset.

    \b
    normalizer position skip noetl.events:3 --offset 1042 --dry-run --why "what is it?"
    normalizer position skip noetl.events:3 --offset 1042 --why "poison, see ticket 17"
    normalizer position skip noetl.events:3 --offset 1042 --to 1100 --why "broken segment"

    A record that can be read goes to quarantine with reason `skipped`, so it isn't lost:
    `normalizer quarantine redrive --reason skipped` stores it later. Offsets that can't be read, up
    to the next record or to --to, become a gap with reason `skipped`.

    Exit codes: 0 done, 1 the position isn't at --offset, so nothing was changed, 2 wrong usage or
    settings, 3 the database or the brokers didn't respond.
    """
    move = partial(skip_records, at=at, offset=offset, to=to, dry_run=dry_run)
    _run("skip", who, why, move)


@position.command()
@_changes
@click.option(
    "--offset",
    type=OFFSET_TYPE,
    required=True,
    help="The first offset to read again, for example 900. This partition must have been read at "
    "that offset before, and Kafka must still have it.",
)
def rewind(*, at: KafkaPartition, offset: int, who: str | None, why: str, dry_run: bool) -> None:
    """Set the position back to --offset, to read records again.

    \b
    normalizer position rewind noetl.events:3 --offset 900 --dry-run --why "what would it be?"
    normalizer position rewind noetl.events:3 --offset 900 --why "rows were deleted by hand"

    No event is stored twice. An event that's still stored counts as a duplicate, and a missing one
    is stored again. The column `rewound` counts the offsets that are read again, so that the totals
    still balance.

    Exit codes: 0 done, 1 the position has changed and nothing was done, 2 wrong usage or settings,
    3 no answer.
    """
    move = partial(rewind_position, at=at, offset=offset, dry_run=dry_run)
    _run("rewind", who, why, move)


@position.command()
@_changes
def retire(*, at: KafkaPartition, who: str | None, why: str, dry_run: bool) -> None:
    """Retire a partition that nobody will read again.

    Use it, for example, if its topic was renamed.

    \b
    normalizer position retire old.events:3 --why "the topic is noetl.events now"

    From then on the partition no longer counts as behind: the view freshness leaves it out, and so
    do the API's as_of and the alert for a log that nobody reads. Its position, totals, and rows
    stay, and `normalizer ledger verify` still checks them.

    Remove the topic from KAFKA_TOPICS first. Otherwise a process claims the partition again, which
    reverts this.

    Exit codes: 0 done, 1 the position has changed and nothing was done, 2 wrong usage or settings,
    3 no answer.
    """
    move = partial(retire_partition, at=at, dry_run=dry_run)
    _run("retire", who, why, move)


def _run(
    action: PositionAction,
    who: str | None,
    why: str,
    move: Callable[..., Coroutine[Any, Any, PositionChangeResult]],
) -> None:
    settings = load_settings_or_exit("database_url")
    if not why.strip():
        raise click.BadParameter(
            "expected a reason, such as 'poison, see ticket 17', but the text is empty",
            param_hint="--why",
        )
    change = PositionChange(action=action, who=who or user_at_host(), why=why.strip())

    async def moved() -> PositionChangeResult | PositionMovedError:
        async with optional_groupless_client(settings) as log:
            try:
                return await move(settings, log, change=change)
            except PositionMovedError as elsewhere:
                return elsewhere

    answer = run_or_exit(moved())
    click.echo(answer, err=isinstance(answer, PositionMovedError))
    raise SystemExit(PROBLEM_FOUND if isinstance(answer, PositionMovedError) else 0)


def user_at_host() -> str:
    """Return the default for --who: the user who runs the command."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"

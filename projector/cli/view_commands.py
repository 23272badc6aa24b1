"""`projector views` and `projector wait`."""

# ruff: noqa: D301 - \b is click's mark before a paragraph that must not be wrapped

import click

from normalizer.core.record_address import RECORD_ADDRESS_SYNTAX, parse_record_address_or_none
from normalizer.runtime.command_line import FiniteRange
from projector.cli.command_runner import print_result, run_command
from projector.database_session import database_url_from_env, open_connection
from projector.views.description import read_described_views, views_as_json, views_as_text
from projector.views.wait import InQuarantineError, NotVisibleYetError, wait_until_visible


@click.command()
@click.option(
    "--json",
    "in_json",
    is_flag=True,
    help="Print the views as JSON, with the names and types of their columns. By default, they're "
    "printed as text.",
)
def views(*, in_json: bool) -> None:
    """List every view, with the question that it answers.

    \b
    projector views | grep -i -A1 retr
    projector views --json > docs/views.json
    """

    async def read() -> str:
        async with open_connection(database_url_from_env()) as connection:
            described = await read_described_views(connection)
            return views_as_json(described) if in_json else views_as_text(described)

    print_result(run_command(read()), nl=not in_json)


@click.command()
@click.argument("coordinates", metavar="TOPIC:PARTITION:OFFSET")
@click.option(
    "--timeout",
    type=FiniteRange(0),
    default=30.0,
    help="Wait at most this many seconds, for example 60. If the record isn't in every view by "
    "then, the exit code is 1. Default: 30.",
    metavar="SECONDS",
)
def wait(*, coordinates: str, timeout: float) -> None:
    """Wait until every view includes a record.

    Use it in a script that sends a record and then reads a view.

    \b
    projector wait noetl.events:3:1042 && psql -c 'select * from projector.executions'
    projector wait 'noetl.events[3]@1042'

    Prints how far the partition has been read. Exit 1 if the record isn't in the views when the
    timeout ends, or if it was rejected and is in quarantine instead.
    """
    place = parse_record_address_or_none(coordinates)
    if place is None:
        raise click.BadParameter(f"expected {RECORD_ADDRESS_SYNTAX}; got {coordinates!r}")
    topic, partition, offset = place

    async def run() -> int:
        async with open_connection(database_url_from_env()) as connection:
            try:
                return await wait_until_visible(
                    connection, topic, partition, offset, timeout_s=timeout
                )
            except (NotVisibleYetError, InQuarantineError) as error:
                raise click.ClickException(str(error)) from error

    print_result(f"{topic}[{partition}]: read to {run_command(run())}")

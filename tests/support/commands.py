"""Commands that run in this process: a start of Python takes ten times as long as most of them."""

import asyncio
from collections.abc import Mapping

import click
from click.testing import CliRunner


async def invoked(
    command: click.Command, *arguments: str, environment: Mapping[str, str]
) -> tuple[int, str]:
    """Exit code and all that it printed. Not of a whole program: that one handles signals.

    Not beside a service in this process: its log lines would be among what is printed.
    """
    runner = CliRunner()
    ended = await asyncio.to_thread(runner.invoke, command, arguments, env=environment)
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended.exit_code, ended.output

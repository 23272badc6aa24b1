"""Runs commands in this process, or in their own where a signal or a whole program matters."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import click
from click.testing import CliRunner

from normalizer.config.settings import Settings
from tests.support.service_runs import environment


async def run_program(*command: str | Path, env: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and all output of a program. Nothing can be typed into it."""
    child = await asyncio.create_subprocess_exec(
        *map(str, command),
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await child.communicate()
    assert child.returncode is not None
    assert b"Traceback" not in said
    return child.returncode, said.decode()


async def typed(settings: Settings, *arguments: str, **environ: str) -> tuple[int, str]:
    """Exit code and all output of `normalizer ...` with these settings."""
    command = (sys.executable, "-m", "normalizer", *arguments)
    return await run_program(*command, env=environment(settings) | environ)


async def invoked(
    command: click.Command, *arguments: str, environment: Mapping[str, str]
) -> tuple[int, str]:
    """Exit code and all output of a command, without the time that a start of Python takes.

    Not beside a service in this process: its log lines would be among what is printed.
    """
    runner = CliRunner()
    ended = await asyncio.to_thread(runner.invoke, command, arguments, env=environment)
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended.exit_code, ended.output

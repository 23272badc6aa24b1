"""What the commands do at their edges: read settings, wait, end with a line and a code.

Exit codes: 0 done, or stopped when asked; 1 something was found (a check failed, a record was
refused under --strict, a record is lost, `up` could not start); 2 wrong usage or settings; 3 the
service met what trying again cannot cure; 130 a second signal ended it at once.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final, NoReturn, TypeVar

import click

from normalizer import settings as settings_of
from normalizer import telemetry
from normalizer.errors import ConfigurationError, NormalizerError
from normalizer.kafka import LogReader
from normalizer.settings import Settings

FOUND: Final = 1
MISUSED: Final = 2
BROKEN: Final = 3

_T = TypeVar("_T")


def load_settings(*needs: str) -> Settings:
    """The settings of the environment; ends the process where they are wrong."""
    try:
        return settings_of.load(os.environ, needs=needs)
    except ConfigurationError as error:
        end(error)


def waited(work: Coroutine[Any, Any, _T]) -> _T:
    """What the work gives; ends the process with one line where it fails."""
    telemetry.configure(level="critical")
    try:
        return asyncio.run(work)
    except NormalizerError as error:
        end(error)


def end(error: NormalizerError) -> NoReturn:
    """Say what is wrong on lines of its own, and end the process with its code."""
    for line in str(error).splitlines():
        click.echo(f"error: {settings_of.masked_url(line)}", err=True)
    raise SystemExit(MISUSED if isinstance(error, ConfigurationError) else BROKEN) from error


@contextlib.asynccontextmanager
async def log_of(settings: Settings) -> AsyncIterator[LogReader | None]:
    """The log, where brokers are named."""
    if not settings.kafka_bootstrap_servers:
        yield None
        return
    async with LogReader(settings) as log:
        yield log

"""Loads the settings of a command, and ends a command that fails.

Only commands exit. The code that they call raises errors instead, and these functions turn such an
error into one line on standard error, without passwords, and an exit code that depends on the
error's class.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import click
import uvloop

from normalizer.config import environment
from normalizer.config.configured_rules import configured_normalizer
from normalizer.config.passwords import mask_url_passwords
from normalizer.config.settings import Settings
from normalizer.core.normalize import Normalizer
from normalizer.errors import NormalizerError
from normalizer.runtime import logging_setup
from normalizer.runtime.exit_codes import exit_code_for

_T = TypeVar("_T")


def load_settings_or_exit(*needs: str) -> Settings:
    """Read the settings from the environment, and end the process if they're wrong.

    `needs` names the settings without which this command can't run. Logging is off from then on,
    until the command configures it.
    """
    logging_setup.configure_logging(level="critical")
    return call_or_exit(lambda: environment.load_settings(os.environ, needs=needs))


def call_or_exit(function: Callable[[], _T]) -> _T:
    """Return the function's result, and end the process with an error if it fails."""
    try:
        return function()
    except NormalizerError as error:
        exit_with_error(error)


def build_normalizer_or_exit(settings: Settings) -> Normalizer:
    """Return the configured rules, and end the process if the table of shapes is invalid."""
    return call_or_exit(lambda: configured_normalizer(settings))


def run_or_exit(work: Coroutine[Any, Any, _T]) -> _T:
    """Return the result of the work, and end the process with an error if it fails."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except NormalizerError as error:
        exit_with_error(error)


def exit_with_error(error: NormalizerError) -> NoReturn:
    """Print the error, and end the process with its exit code."""
    for line in str(error).splitlines():
        click.echo(f"error: {mask_url_passwords(line)}", err=True)
    raise SystemExit(exit_code_for(error)) from error

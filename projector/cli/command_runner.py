"""Runs a command's flow, and turns an error into one line and an exit code.

An operator doesn't get a traceback. It would be harder to read, and it could contain event content.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from normalizer.errors import ConfigurationError, FatalError, NormalizerError, StoreUnavailableError
from normalizer.runtime.command_line import discard_further_output
from normalizer.runtime.exit_codes import INTERRUPTED, exit_code_for

_T = TypeVar("_T")


def print_result(text: str, *, nl: bool = True) -> None:
    """Print a line. If the reader closed the pipe (`| head`), the work continues without output."""
    try:
        click.echo(text, nl=nl)
    except BrokenPipeError:
        discard_further_output()
    except OSError as error:
        discard_further_output()
        lost = FatalError(f"cannot write the output: {error.strerror}")
        # Not an OSError, which `connected` would take for the database's.
        raise _CommandError(str(lost), lost) from error


def run_command(flow: Coroutine[Any, Any, _T]) -> _T:
    """Run a flow and return its result. An error becomes one line and an exit code."""
    try:
        return asyncio.run(flow)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    except StoreUnavailableError as error:
        raise _CommandError(f"the database did not answer: {error}", error) from error
    except NormalizerError as error:
        raise _CommandError(str(error), error) from error
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


class _CommandError(click.ClickException):
    """An error with its own exit code, because 1 means that a problem was found."""

    def __init__(self, message: str, error: NormalizerError) -> None:
        super().__init__(message)
        self.exit_code = exit_code_for(error)  # type: ignore[misc] # click reads the instance

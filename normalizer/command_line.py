"""The commands of a program: how every one of them begins and ends."""

import errno
import math
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click

from normalizer.environment import is_text, unknown_variables
from normalizer.exit_codes import FAILED, STOPPED_AT_ONCE

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class Program(click.Group):
    """Ends all commands alike: a signal gives 130; a full disk gives a message and 3."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command of the command line."""
        open_standard_streams()
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            discard_output()
            click.echo(f"error: cannot write the output: {error.strerror}", err=True)
            raise SystemExit(FAILED) from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse what is no text: no database, log or broker takes it."""
        for argument in args:
            if not is_text(argument):
                raise click.UsageError(f"{argument!r} is not UTF-8", ctx)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command. From here on it can finish what it began: a signal is an exception.

        Until the command has its own handler, SIGTERM acts as Ctrl-C does.
        """
        found = super().resolve_command(ctx, args)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, _as_ctrl_c)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command; Ctrl-C ends it by 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise SystemExit(STOPPED_AT_ONCE) from None


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C does now: an event loop cancels its task, and raises nothing that gets lost.

    A shell starts what it runs in the background with Ctrl-C ignored; SIGTERM ends that too, by
    a KeyboardInterrupt where the program stands.
    """
    ctrl_c = signal.getsignal(signal.SIGINT)
    handler = ctrl_c if callable(ctrl_c) else signal.default_int_handler
    handler(number, frame)


class FiniteRange(click.FloatRange):
    """A range without infinity, and without the NaN that every comparison lets into a range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Convert a text to a number of the range, or fail."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not in the range {self._describe_range()}.", param, ctx)
        return number


class NewPath(click.Path):
    """The path of what need not be there. The empty one would be the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take the path; fail where a script's variable was empty."""
        if not os.fspath(value):
            self.fail("expected a path, got an empty text", param, ctx)
        return super().convert(value, param, ctx)


def name_unknown_variables() -> None:
    """Print the variables that look like ours and are not."""
    for mistake in unknown_variables(os.environ):
        click.echo(mistake, err=True)


def open_standard_streams() -> None:
    """Open those that the caller closed: the next socket would get the number of one.

    A file gets the lowest number that is free, so each one here gets its own.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for good


def discard_output() -> None:
    """Let stdout go nowhere once it fails: Python would fail again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

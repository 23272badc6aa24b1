"""Begins and ends every command of `normalizer` and `projector` in the same way.

A command can be interrupted by a signal, a full disk, a closed standard stream, or a pipe whose
reader has gone away. This module makes sure that the command then ends with a defined exit code and
without a traceback.
"""

import errno
import math
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click

from normalizer.config.environment import is_utf8_encodable, unknown_variables
from normalizer.runtime.exit_codes import FAILED, INTERRUPTED

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class RootCommandGroup(click.Group):
    """Ends every command the same way: exit 130 on a signal, or exit 3 if the disk is full."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command that the command line names."""
        _open_standard_streams()
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            discard_further_output()
            click.echo(f"error: cannot write the output: {error.strerror}", err=True)
            raise SystemExit(FAILED) from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reject arguments that aren't valid text. No database, log, or broker accepts them."""
        for argument in args:
            if not is_utf8_encodable(argument):
                raise click.UsageError(f"{argument!r} is not UTF-8", ctx)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the module of the command, and prepare for signals.

        Before this, a signal ends the process at once. From now on it raises an exception, so that
        the command can clean up. SIGTERM acts like Ctrl-C unless the command installs a handler of
        its own.
        """
        found = super().resolve_command(ctx, args)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, _as_ctrl_c)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Ctrl-C ends it with exit code 130.

        An unknown option is answered with the options that there are. Click would suggest those
        that are spelled alike, for example --help instead of --where.
        """
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            if not error.ctx:
                raise
            known = sorted(
                name
                for option in error.ctx.command.get_params(error.ctx)
                for name in option.opts
                if name.startswith("--")
            )
            message = f"{error.message} It has {', '.join(known)}."
            raise click.NoSuchOption(error.option_name, message, ctx=error.ctx) from error
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM in whatever way Ctrl-C is handled at this moment.

    If an event loop is running, Ctrl-C cancels its task, which works more reliably than an
    exception. There's one difference: a shell makes its background programs ignore Ctrl-C, but
    SIGTERM must still end them. So if Ctrl-C is ignored, SIGTERM raises KeyboardInterrupt.
    """
    ctrl_c = signal.getsignal(signal.SIGINT)
    handler = ctrl_c if callable(ctrl_c) else signal.default_int_handler
    handler(number, frame)


class FiniteRange(click.FloatRange):
    """A range that rejects infinity and NaN. A plain comparison would let NaN pass."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Convert the text to a number in the range, or fail."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not in the range {self._describe_range()}.", param, ctx)
        return number


class NonEmptyPath(click.Path):
    """A path that needn't exist yet, but isn't empty.

    An empty path would mean the current folder.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Fail if it's empty, for example from an unset variable of a script."""
        if not os.fspath(value):
            self.fail("expected a path, got an empty string", param, ctx)
        return super().convert(value, param, ctx)


def warn_unknown_variables() -> None:
    """Warn about variables that look like ours but that nothing reads, such as a misspelled one."""
    for mistake in unknown_variables(os.environ):
        click.echo(mistake, err=True)


def _open_standard_streams() -> None:
    """Open standard input, output, and error if the caller has closed them.

    The system gives a new file the lowest free number. If standard output were closed, a socket
    could get its number 1, and printed text would be sent over that socket. So the missing streams
    are opened in order, and each gets its own number back.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - it stays open


def discard_further_output() -> None:
    """Discard all further output after writing to stdout has failed.

    Otherwise Python would flush stdout again at exit, and fail again.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

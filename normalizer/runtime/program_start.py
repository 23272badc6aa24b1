"""Starts either program, so that a signal ends it even while its modules are being imported."""

import os
import signal
from importlib import import_module
from types import FrameType

from normalizer.runtime.exit_codes import INTERRUPTED


def run_cli(program: str) -> None:
    """Import the commands of a program, and run the one that the command line names.

    Imports take a moment, and a signal should end the program even then. In a container the first
    process needs a handler for that, because the kernel drops signals for which it has none. The
    handler exits at once instead of raising an exception, because an import might swallow the
    exception.

    A signal that is ignored stays ignored, because a shell starts background programs with Ctrl-C
    ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    import_module(f"{program}.cli").main(prog_name=program)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)

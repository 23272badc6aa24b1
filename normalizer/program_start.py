"""How either program starts: a signal ends it while its modules are still being imported."""

import os
import signal
from importlib import import_module
from types import FrameType

from normalizer.exit_codes import STOPPED_AT_ONCE


def start(program: str) -> None:
    """Import the commands of a program, and run the one of the command line.

    The kernel drops a signal that the first process of a container has no handler for. The handler
    raises nothing, for an import may lose what is raised within it. What is ignored stays so: a
    shell starts what it runs in the background with Ctrl-C ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    import_module(f"{program}.cli").main(prog_name=program)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(STOPPED_AT_ONCE)

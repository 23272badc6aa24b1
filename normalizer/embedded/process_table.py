"""Reads the process table for processes that are not children of this one."""

import contextlib
import os
import signal
from pathlib import Path

from normalizer.process.child import until_ended


def children_of(pid: int) -> list[int]:
    """The process ids of its children."""
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def command_of(pid: int) -> list[bytes]:
    """The arguments of a process; none if it has ended (a zombie has none either)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []


async def end_process(pid: int, number: signal.Signals) -> None:
    """Send the signal, and wait for a process that is not a child."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    await until_ended(pid)

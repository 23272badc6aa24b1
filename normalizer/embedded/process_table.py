"""Reads the process table for processes that aren't children of this one."""

import contextlib
import os
import signal
from pathlib import Path

from normalizer.runtime.child import wait_until_ended


def find_child_pids(pid: int) -> list[int]:
    """Return the process ids of the children of a process."""
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def read_command_line(pid: int) -> list[bytes]:
    """Return the arguments of a process, or [] if it has ended or is a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []


async def end_process(pid: int, signal_number: signal.Signals) -> None:
    """Send the signal, and wait for a process that isn't a child."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)
    await wait_until_ended(pid)

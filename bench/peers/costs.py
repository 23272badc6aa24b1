"""CPU and memory of processes with all their children, as Linux counts them."""

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PEAK: Final = re.compile(r"VmHWM:\s+(\d+)")


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time of the processes and their children, also of those that ended."""
    total = 0
    for pid in with_children(pids):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / _TICKS


def peak_mb(pids: Iterable[int]) -> float:
    """The sum of the greatest memory that each process had so far."""
    total = 0
    for pid in with_children(pids):
        with contextlib.suppress(OSError):
            found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
            total += int(found[1]) if found else 0
    return total / 1024


def with_children(pids: Iterable[int]) -> list[int]:
    """The processes and all that they started, in this order."""
    found = list(pids)
    for pid in found:  # it grows while it is walked over
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found

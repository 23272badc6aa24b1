"""Python's garbage collector: seldom at work in a process whose records and rows form no cycles."""

import gc
from typing import Final

ALLOCATIONS: Final = 50_000
"""More objects than were freed before the collector looks: about a batch. Its default of 700 makes
it go through the rows in hand again and again, a twentieth of all work."""


def collect_rarely() -> None:
    """Leave what is loaded alone for good, and look at what is new once a batch."""
    gc.freeze()
    gc.set_threshold(ALLOCATIONS)

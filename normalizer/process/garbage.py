"""Python's garbage collector: seldom at work in a process whose records and rows form no cycles."""

import gc
from typing import Final

ALLOCATIONS: Final = 200_000
"""More objects than were freed before the collector looks: many batches, 20 MB at 100 bytes each.
Its default of 700 makes it go through the rows in hand again and again, a twentieth of all work;
50,000 still one in fifty."""


def collect_rarely() -> None:
    """Leave what is loaded alone for good, and look at what is new once in many batches."""
    gc.freeze()
    gc.set_threshold(ALLOCATIONS)

"""Makes Python's garbage collector run rarely: records and rows form no reference cycles."""

import gc
from typing import Final

ALLOCATIONS: Final = 200_000
"""Allocations minus frees that start a collection: many batches, 20 MB at 100 bytes each. Python's
default of 700 would scan the rows in memory again and again, 5 % of all work; 50,000 still 2 %."""


def collect_rarely() -> None:
    """Exempt everything loaded so far from collection; collect new objects once in many batches."""
    gc.freeze()
    gc.set_threshold(ALLOCATIONS)

"""Makes the garbage collector run rarely, because records and rows form no reference cycles."""

import gc
from typing import Final

ALLOCATIONS: Final = 200_000
"""Allocations minus frees that start a collection: many batches, or 20 MB at 100 bytes each.
Python's default of 700 would scan the rows in memory again and again, which is 5 % of all work.
With 50,000 it's still 2 %.
"""


def collect_rarely() -> None:
    """Exempt everything loaded so far from collection, and collect new objects rarely."""
    gc.freeze()
    gc.set_threshold(ALLOCATIONS)

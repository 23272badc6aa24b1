"""Makes Python's garbage collector run rarely.

The collector only frees objects that refer to each other in a cycle, and records and rows never do.
Scanning millions of them would find nothing and take several percent of the time.
"""

import gc
from typing import Final

_GC_THRESHOLD: Final = 200_000
"""How many more allocations than frees start a collection. That's many batches, or 20 MB at 100
bytes each. With Python's default of 700, the collector would scan the rows in memory again and
again, which takes 5 % of the time. With 50,000 it's still 2 %."""


def collect_garbage_rarely() -> None:
    """Exempt everything loaded so far from collection, and collect new objects rarely."""
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)

"""Two queries for each projection: its actual rows, and the rows expected from its events.

For a counter of events, the expected rows are added up from the events by a query that shares no
code with the triggers. Executions and calls are recomputed from all their events, as a repair does
it, whereas the triggers merge each new event into the stored row. An error in a function that both
use is found by the tests, which compare them with deploy/calls.py. Both queries get the same bounds
and must return the same rows in every snapshot. Table names have no schema, because the
connection's search_path sets it.

    comparison.py         the type of such a pair, and the pair of a sharded counter
    counter_queries.py    counters of events, arrivals and coercions
    execution_queries.py  executions, and their counts by hour
    call_queries.py       calls, and their counts by hour
"""

from typing import Final

from projector.verify.queries.call_queries import (
    CALL_HOURS,
    CALL_TIMES,
    CALLS,
    ERRORS,
    RETRIES,
    WORKERS,
)
from projector.verify.queries.comparison import Bounds, Comparison
from projector.verify.queries.counter_queries import ARRIVALS, COERCIONS, HOURS, MINUTES
from projector.verify.queries.execution_queries import EXECUTION_HOURS, EXECUTIONS

__all__ = ["COMPARISONS", "Bounds", "Comparison"]

COMPARISONS: Final[tuple[Comparison, ...]] = (
    MINUTES,
    HOURS,
    ARRIVALS,
    COERCIONS,
    EXECUTIONS,
    CALLS,
    EXECUTION_HOURS,
    CALL_HOURS,
    CALL_TIMES,
    WORKERS,
    ERRORS,
    RETRIES,
)
"""Every projection table.

Counters, executions, and calls are compared with events, and roll-ups with the executions and calls
that they count, so all of them are checked against events.
"""

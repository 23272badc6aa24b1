"""Two queries for each projection: its actual rows, and the rows expected from its events.

Both queries get the same bounds, and must return the same rows in every snapshot. So they may only
call functions that are STABLE or IMMUTABLE. A VOLATILE one takes a new snapshot for each of its own
queries, and would see events that were written since the comparison began. The expected rows are
always computed from scratch, whereas the triggers apply what a statement changed:

- Counters of events, arrivals, and coercions are counted from the events.
- Executions and calls are recomputed from all of their events, as in a repair.
- Counts of executions and of calls by hour or minute (roll-ups) are counted from these tables of
  executions and calls, which have a comparison of their own.

The queries and the triggers share functions and views, such as `evidence_rank`, `derive_calls`,
and `finished_calls`. A mistake in these would go unnoticed here, but the
tests find it, because they compare the views with a plain computation in Python, which uses
deploy/calls.py. Table names have no schema, because the connection's search_path sets it.

comparison         has the type of such a pair, and builds the pair of a sharded counter.
counter_queries    has the pairs of counters of events, arrivals, and coercions.
execution_queries  has those of executions, and of their counts by hour.
call_queries       has those of calls, and of their counts by hour.
"""

from typing import Final

from projector.verify.queries.call_queries import (
    CALL_FACTS_COMPARISON,
    CALL_HOURS_COMPARISON,
    CALL_TIMES_COMPARISON,
    ERROR_HOURS_COMPARISON,
    RETRY_MINUTES_COMPARISON,
    WORKER_HOURS_COMPARISON,
)
from projector.verify.queries.comparison import BoundedBy, Comparison
from projector.verify.queries.counter_queries import (
    ARRIVAL_HOURS_COMPARISON,
    COERCION_HOURS_COMPARISON,
    EVENT_HOURS_COMPARISON,
    EVENT_MINUTES_COMPARISON,
)
from projector.verify.queries.execution_queries import (
    EXECUTION_FACTS_COMPARISON,
    EXECUTION_HOURS_COMPARISON,
)

__all__ = ["COMPARISONS", "BoundedBy", "Comparison"]

COMPARISONS: Final[tuple[Comparison, ...]] = (
    EVENT_MINUTES_COMPARISON,
    EVENT_HOURS_COMPARISON,
    ARRIVAL_HOURS_COMPARISON,
    COERCION_HOURS_COMPARISON,
    EXECUTION_FACTS_COMPARISON,
    CALL_FACTS_COMPARISON,
    EXECUTION_HOURS_COMPARISON,
    CALL_HOURS_COMPARISON,
    CALL_TIMES_COMPARISON,
    WORKER_HOURS_COMPARISON,
    ERROR_HOURS_COMPARISON,
    RETRY_MINUTES_COMPARISON,
)
"""Every projection table.

Counters, executions, and calls are compared with events, and roll-ups with the executions and calls
that they count, so all of them are checked against events.
"""

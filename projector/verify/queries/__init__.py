"""What each projection shows, beside the fold of its events: two queries of the same rows.

The folds are written again here, from the rules and not from the triggers: in one pass, with
nothing merged. Both queries get the same bounds and must give the same rows at every snapshot.
Table names are without a schema: whoever connects says where they are.

    comparison.py       what two such queries are
    counts.py           what is only counted
    executions.py       executions, and their hours
    calls.py            tries of commands, and their roll-ups
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
from projector.verify.queries.counter_queries import ARRIVALS, COERCIONS, HOURS, MINUTES, REFUSALS
from projector.verify.queries.execution_queries import EXECUTION_HOURS, EXECUTIONS

__all__ = ["COMPARISONS", "Bounds", "Comparison"]

COMPARISONS: Final[tuple[Comparison, ...]] = (
    MINUTES,
    HOURS,
    ARRIVALS,
    COERCIONS,
    REFUSALS,
    EXECUTIONS,
    CALLS,
    EXECUTION_HOURS,
    CALL_HOURS,
    CALL_TIMES,
    WORKERS,
    ERRORS,
    RETRIES,
)
"""Every table that moves. Those from executions and calls on are proven by their events; the
roll-ups that hang on them, by them: at every snapshot both are exact, so the chain proves them."""

"""Two queries that must give the same rows: what one of them is."""

from typing import Literal

import msgspec

Bounds = Literal["created", "arrived", "refused", "begun", "finished", "executions"]
"""What $1 and $2 bound: `executions`, the ids of executions, both included; else hours, the second
left out: of when events happened or arrived, of refusals, of when tries began or finished."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two queries of the same columns: those of `keys` name a row, `measure` is one that does not.

    $1 and $2 are the bounds. $3 and $4 cut a range that is too long for one snapshot into shares
    of keys: only those of share $4 of $3 are compared. Of executions $5 may name a few. `sums` are
    the columns that shards add up, where rows are counted in shards.
    """

    name: str
    bounds: Bounds
    keys: str
    measure: str
    sums: str = ""
    actual: str
    expected: str
    archived: str | None = None
    """How much in the bounds was made from events that are dropped by now, and is left alone.

    Of executions $3 may name a few.
    """

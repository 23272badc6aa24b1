"""The type of a pair of queries that must return the same rows."""

from typing import Literal

import msgspec

Bounds = Literal["created", "arrived", "refused", "begun", "finished", "executions"]
"""What $1 and $2 limit. executions: execution ids, both included. Else hours, the second excluded,
in which events happened or arrived, records were refused, or calls began or finished."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two queries with the same columns. `keys` identify a row; `measure` is another column.

    $1 and $2 are the bounds. $3 and $4 limit the query to share $4 of $3 shares of the keys, for a
    range that takes too long in one snapshot. $5 are execution ids, or null for all. `sums` are the
    columns that are added up over shards, for sharded tables.
    """

    name: str
    bounds: Bounds
    keys: str
    measure: str
    sums: str = ""
    actual: str
    expected: str
    archived: str | None = None
    """A query for the number of rows in the bounds that are not compared, because their events are
    deleted. $3 are execution ids, or null for all."""

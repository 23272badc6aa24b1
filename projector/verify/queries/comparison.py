"""The type of a pair of queries that must return the same rows."""

from typing import Literal

import msgspec

BoundedBy = Literal["hours", "executions"]
"""What the parameters bound. For `executions`, $1 holds execution ids. For `hours`, the first key
is a time from $1 to $2, excluding the second."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two queries with the same columns, which must return the same rows.

    `name` is the table of the projection. The columns `keys` identify a row. `self_test_column` is
    one of the other columns, and self-tests change a value in it. If a table stores each count in
    several shards, `sums` are the columns that `actual` adds up over the shards, and in which
    `projector repair` corrects them.
    """

    name: str
    bounded_by: BoundedBy
    keys: tuple[str, ...]
    self_test_column: str
    sums: tuple[str, ...] = ()
    actual: str
    expected: str
    archived: str | None = None
    """A query for how many events in the bounds aren't compared, because they're deleted."""


def counter_comparison(
    *,
    name: str,
    keys: str,
    sums: str,
    expected: str,
    reports_archived: bool = False,
) -> Comparison:
    """Build the comparison of a counter with the events that it counts.

    Each count is stored in several shards, which are added up before they're compared. Archived
    shards aren't compared, because their events are deleted. With `reports_archived`, the verdict
    says how many events they count, so the first of `sums` must be a number of events. Counts by
    minute are compared only as far back as they're kept.

    `keys` and `sums` are names of columns, separated by spaces. The first key is a time.
    """
    columns, measures = keys.split(), sums.split()
    time = columns[0]
    within = f"{time} >= $1::timestamptz and {time} < $2::timestamptz"
    kept = "(select kept_from from maintenance_state where subject = 'minutes')"
    actual = f"""
        select   {", ".join(columns)}, {", ".join(f"sum({one}) as {one}" for one in measures)}
        from     {name}
        where    {within}
        and      {f"{time} >= {kept}" if time == "minute" else "true"}
        and      shard >= 0
        group by {", ".join(columns)}
        having   {" or ".join(f"sum({one}) <> 0" for one in measures)}
    """  # noqa: S608 - constants of this package
    archived = f"""
        select coalesce(sum({measures[0]}), 0)::bigint
        from   {name}
        where  {within} and shard < 0
    """  # noqa: S608 - constants of this package
    return Comparison(
        name=name,
        bounded_by="hours",
        keys=tuple(columns),
        self_test_column=measures[0],
        sums=tuple(measures),
        actual=actual,
        expected=expected,
        archived=archived if reports_archived else None,
    )

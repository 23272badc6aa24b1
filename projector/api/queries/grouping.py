"""Builds the SQL statements that count the rows of a view by time and by keys.

Each statement is built once, when its module is imported, so no text from a request can get into
the SQL. Everything that a request chooses, even the keys to group by, is sent as a parameter.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from projector.api.snapshots import Statement

FINISHED_CALLS_SOURCE: Final = """
    (
        select finished_at, playbook, step, attempts, status, coalesce(worker_id, '') as worker_id,
               error_class, duration_s, queue_s, backoff_s, 1 as calls,
               (status = 'COMPLETED')::integer as succeeded,
               (status <> 'COMPLETED')::integer as failed, exhausted::integer as exhausted
        from   projector.calls
        where  finished_at is not null
        and    hour >= projector.to_hour(:since::timestamptz)
        and    hour < :until::timestamptz
    ) as finished
"""
"""Finished calls with the same columns as the hourly counts, to count them by minute."""
_ROLL_UPS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "call_outcomes_by_attempt": (
        ("playbook", "step", "attempts", "status"),
        ("calls", "succeeded", "failed", "exhausted"),
    ),
    "call_time_histogram": (("playbook", "step", "attempts", "status", "bucket"), ("calls",)),
    "failures_by_error": (("step", "attempts", "status", "error_class"), ("calls",)),
    "worker_failures": (("worker_id",), ("calls", "failed")),
    "execution_outcomes": (("playbook", "outcome"), ("executions",)),
}
"""The keys and counts of each view by hour that also has a view of single rows."""


FIRST_HOUR_WITH_CALLS_SQL: Final = """
               select   hour
               from     projector.call_outcomes_by_attempt
               group by hour
               having   sum(calls) > 0
               order by hour
               limit    1
"""
"""A subquery for the first hour in which a stored call ended."""


def counts_by_minute_source(
    stored: str,
    view: str,
    *,
    time: str = "finished_at",
    absent: Sequence[str] = (),
    where: str = "true",
) -> str:
    """Build a subquery that counts calls to the minute, including calls that were deleted.

    Retention and `normalizer forget` delete calls, but keep their counts by hour. So the subquery
    counts each stored call at its own time, and the deleted calls of an hour at the start of that
    hour. `absent` lists the keys by which the hourly counts aren't split. A request that filters by
    one of these keys doesn't count deleted calls.
    """
    keys, counts = _ROLL_UPS[view]
    listed = ", ".join(keys)
    return f"""
    (
        select placed.moment, {listed},
               {"".join(f"case when sign > 0 then {key} end as {key}, " for key in absent)}
               {", ".join(f"sign * {count} as {count}" for count in counts)}
        from   {stored}
        cross join lateral (
            values ({time}, 1), (projector.to_hour({time}), -1)
        ) as placed (moment, sign)
        union all
        select hour, {listed}, {"".join("null, " for _ in absent)}{", ".join(counts)}
        from   projector.{view}
        where  hour >= :since::timestamptz and hour < :until::timestamptz
        and    {where}
    ) as counted
    """  # noqa: S608 - constants of this package


_TYPES: Final = {"attempts": "integer"}
_COLUMNS: Final = {"worker": "worker_id"}


class GrainStatements(msgspec.Struct, frozen=True, kw_only=True):
    """The two statements of an endpoint: one counts by hour, and the other by minute.

    Set `slow_minutes` if the statement by minute has to read single calls. Such a statement is used
    only if the window is short, or if the request asks for minutes.
    """

    hours: Statement
    minutes: Statement
    slow_minutes: bool = False


def grouping_statement(
    source: str,
    *,
    keys: Sequence[str],
    measures: Sequence[str],
    time: str = "hour",
    where: str = "true",
    having: str = "true",
) -> Statement:
    """Build a statement that sums `measures` over the rows of a view or a subquery, by `keys`.

    Groups of the latest time come first. Within the same time they're sorted by the first measure,
    the greatest first. Pass `having` to leave out groups that add up to 0. Such groups exist where
    a view has one row per counter shard, because the shards of a group may cancel each other out.
    """
    return Statement(
        f"""
        select   {select_list(keys, time)},
                 {", ".join(measures)}
        from     {source}
        where    {where_conditions(keys, time)}
        and      {where}
        group by {at_and_key_ordinals(keys)}
        having   {having}
        order by 1 desc nulls last, {len(keys) + 2} desc nulls last, {at_and_key_ordinals(keys)}
        limit    :limit::integer
        """  # noqa: S608 - constants of this package
    )


def select_list(keys: Sequence[str], time: str) -> str:
    """Return `at` and the keys as columns, each null unless it's in `by`."""
    return ",\n                 ".join(
        [
            f"case when 'at' = any(:by::text[]) then {time_bin_column(time)} end as at",
            *(
                f"case when '{key}' = any(:by::text[]) then {column} end as {column}"
                for key, column in zip(keys, map(key_column, keys), strict=True)
            ),
        ]
    )


def time_bin_column(time: str) -> str:
    """Return SQL for the start of the minute, hour, or day of a time."""
    return f"date_bin(make_interval(secs => :every_s::integer), {time}, '2000-01-01 00:00:00+00')"


def where_conditions(keys: Sequence[str], time: str) -> str:
    """Return conditions for the window, which can use an index, and for every given filter."""
    return "\n        and      ".join(
        [
            f"{time} >= :since::timestamptz and {time} < :until::timestamptz",
            *(
                f"(:{key}::{_TYPES.get(key, 'text')}[] is null or {key_column(key)} = any(:{key}))"
                for key in keys
            ),
        ]
    )


def at_and_key_ordinals(keys: Sequence[str]) -> str:
    """Return the column numbers of `at` and the keys."""
    return ", ".join(str(number) for number in range(1, len(keys) + 2))


def ratio_column(part: str, whole: str, name: str) -> str:
    """Return SQL for a ratio of two sums, or null if the divisor is 0."""
    return f"sum({part})::double precision / nullif(sum({whole}), 0)::double precision as {name}"


def sum_column(column: str, name: str | None = None) -> str:
    """Return SQL for the sum of a column."""
    return f"sum({column})::bigint as {name or column}"


def key_column(key: str) -> str:
    """Return the column of a key."""
    return _COLUMNS.get(key, key)

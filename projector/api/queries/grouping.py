"""Builds the statements that group a view by time and keys, once at import.

Parameters are always sent separately, including the keys to group by (`by`).
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from projector.api.snapshots import Statement

FINISHED: Final = """
    (
        select finished_at, playbook, step, attempts, status, coalesce(worker_id, '') as worker_id,
               error_class, duration_s, queue_s, backoff_s, 1 as calls,
               (status = 'COMPLETED')::integer as succeeded,
               (status <> 'COMPLETED')::integer as failed, exhausted::integer as exhausted
        from   projector.calls
        where  finished_at is not null
        and    hour >= projector.hour_of(:since::timestamptz)
        and    hour < :until::timestamptz
    ) as finished
"""
"""Finished calls with the columns of the roll-ups, to count them by minute."""
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


def to_the_minute(
    stored: str,
    view: str,
    *,
    time: str = "finished_at",
    absent: Sequence[str] = (),
    where: str = "true",
) -> str:
    """Build a subquery over the calls in a table by `moment`, and over calls that were erased.

    Of an erased call, only the counts of its hour are left. The query counts it at the start of
    that hour, with the hour's counts minus those of the calls that are still stored. `absent` lists
    the keys that these counts don't have. If a request filters by one of these keys, erased calls
    aren't counted.
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
            values ({time}, 1), (projector.hour_of({time}), -1)
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


class Grains(msgspec.Struct, frozen=True, kw_only=True):
    """The statements of one endpoint: one that counts by hour, and one by minute.

    With `slow_minutes`, the statement by minute reads single calls, so it's only used for short
    windows, or if `at` is a minute.
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
    """Build a statement over a view, or over a subquery.

    Rows are ordered by `at`, newest first, then by the first measure, greatest first. `having`
    removes groups whose partial sums add up to 0.
    """
    return Statement(
        f"""
        select   {columns(keys, time)},
                 {", ".join(measures)}
        from     {source}
        where    {conditions(keys, time)}
        and      {where}
        group by {ordinals(keys)}
        having   {having}
        order by 1 desc nulls last, {len(keys) + 2} desc nulls last, {ordinals(keys)}
        limit    :limit::integer
        """  # noqa: S608 - constants of this package
    )


def columns(keys: Sequence[str], time: str) -> str:
    """Return `at` and the keys as columns, each null unless it's in `by`."""
    return ",\n                 ".join(
        [
            f"case when 'at' = any(:by::text[]) then {time_bin(time)} end as at",
            *(
                f"case when '{key}' = any(:by::text[]) then {column} end as {column}"
                for key, column in zip(keys, map(key_column, keys), strict=True)
            ),
        ]
    )


def time_bin(time: str) -> str:
    """Return SQL for the start of the minute, hour, or day of a time."""
    return f"date_bin(make_interval(secs => :every_s::integer), {time}, '2000-01-01 00:00:00+00')"


def conditions(keys: Sequence[str], time: str) -> str:
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


def ordinals(keys: Sequence[str]) -> str:
    """Return the column numbers of `at` and the keys."""
    return ", ".join(str(number) for number in range(1, len(keys) + 2))


def ratio(part: str, whole: str, name: str) -> str:
    """Return SQL for a ratio of two sums, or null if the divisor is 0."""
    return f"sum({part})::double precision / nullif(sum({whole}), 0)::double precision as {name}"


def total(column: str, name: str | None = None) -> str:
    """Return SQL for the sum of a column."""
    return f"sum({column})::bigint as {name or column}"


def key_column(key: str) -> str:
    """Return the column of a key."""
    return _COLUMNS.get(key, key)

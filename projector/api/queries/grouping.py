"""A view, what to group it by and what to add up in, one fixed statement out.

Values never become part of a statement; which of its keys an answer is grouped by is a value too.
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
"""Tries one by one, with the columns that roll-ups count them by: to add them up to the minute."""

_TYPES: Final = {"attempts": "integer"}
_COLUMNS: Final = {"worker": "worker_id"}


class Grains(msgspec.Struct, frozen=True, kw_only=True):
    """One question, answered by the hour or by the minute.

    dear: minutes are read row by row, for short windows or where they are asked for.
    """

    hours: Statement
    minutes: Statement
    dear: bool = False


def grouped(
    source: str,
    *,
    keys: Sequence[str],
    measures: Sequence[str],
    time: str = "hour",
    where: str = "true",
    having: str = "true",
) -> Statement:
    """A statement over a view, or a query in brackets.

    Of the newest `at` first, then of the greatest first measure; the others are named `as`.

    `having` is for views of parts: those that take each other back are no group.
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
        """  # noqa: S608 - names of ours, put together once, at import
    )


def columns(keys: Sequence[str], time: str) -> str:
    """`at` and the keys, each null where it is not grouped by."""
    return ",\n                 ".join(
        [
            f"case when 'at' = any(:by::text[]) then {bin_of(time)} end as at",
            *(
                f"case when '{key}' = any(:by::text[]) then {_column(key)} end as {_column(key)}"
                for key in keys
            ),
        ]
    )


def bin_of(time: str) -> str:
    """The begin of the minute, hour or day that a time lies in, as it is grouped by."""
    return f"date_bin(make_interval(secs => :every_s::integer), {time}, '2000-01-01 00:00:00+00')"


def conditions(keys: Sequence[str], time: str) -> str:
    """The window, which reaches an index, and every filter that was given."""
    return "\n        and      ".join(
        [
            f"{time} >= :since::timestamptz and {time} < :until::timestamptz",
            *(
                f"(:{key}::{_TYPES.get(key, 'text')}[] is null or {_column(key)} = any(:{key}))"
                for key in keys
            ),
        ]
    )


def ordinals(keys: Sequence[str]) -> str:
    """`at` and the keys by their numbers."""
    return ", ".join(str(number) for number in range(1, len(keys) + 2))


def ratio(part: str, whole: str, name: str) -> str:
    """A rate over everything in a group; null where there is nothing to divide by."""
    return f"sum({part})::double precision / nullif(sum({whole}), 0)::double precision as {name}"


def total(column: str, name: str | None = None) -> str:
    """A count over everything in a group."""
    return f"sum({column})::bigint as {name or column}"


def _column(key: str) -> str:
    return _COLUMNS.get(key, key)

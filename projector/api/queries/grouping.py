"""A view, what to group it by and what to add up in, one fixed statement out.

Values never become part of a statement; which of its keys an answer is grouped by is a value too.
"""

from collections.abc import Sequence
from typing import Final

from projector.api.database import Statement

_TYPES: Final = {"attempts": "integer"}
_COLUMNS: Final = {"worker": "worker_id"}
_AT: Final = "date_bin(make_interval(secs => :every_s::integer), {time}, '2000-01-01 00:00:00+00')"


def grouped(
    view: str,
    *,
    keys: Sequence[str],
    measures: Sequence[str],
    time: str = "hour",
    where: str = "true",
    having: str = "true",
) -> Statement:
    """Of the newest `at` first, then of the greatest first measure; the others are named `as`.

    `having` is for views of parts: those that take each other back are no group.
    """
    return Statement(
        f"""
        select   {columns(keys, time)},
                 {", ".join(measures)}
        from     projector.{view}
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
            f"case when 'at' = any(:by::text[]) then {_AT.format(time=time)} end as at",
            *(
                f"case when '{key}' = any(:by::text[]) then {_column(key)} end as {_column(key)}"
                for key in keys
            ),
        ]
    )


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

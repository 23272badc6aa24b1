"""Sums measures over a window, over the window before it, and over equal intervals (the trend).

From these the dashboard shows a figure, its change since the window before, and a small chart.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import msgspec

from projector.api.answers import ApiRow, GroupedAnswer, Timestamp
from projector.api.parameters import SECONDS_BY_GRAIN, CountsParams, Grain
from projector.api.queries.grouping import key_column, where_conditions
from projector.api.snapshots import Statement

MAX_TREND_INTERVALS: Final = 31
_WIDTHS_S: Final = (60, 300, 900, 3_600, 21_600, 86_400, 604_800, 31 * 86_400, 366 * 86_400)

_R = TypeVar("_R", bound=ApiRow)


class TrendAnswer(GroupedAnswer[_R], Generic[_R], frozen=True, kw_only=True):
    """Groups, each with a trend: a list with one value per interval, for a small chart.

    The first of the `trend_intervals` intervals begins at `trend_from`, and each is `trend_every_s`
    seconds long. If `unfinished` is true, the last interval isn't over, so its value may still
    grow. `calls` is the sum over all groups. A field whose name ends in `_before` has the figure of
    the previous window, which is equally long and ends at `since`.
    """

    trend_from: Timestamp
    trend_every_s: int
    trend_intervals: int
    unfinished: bool
    calls: int


class TrendWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A window that is widened to whole hours (or minutes), and the intervals of its trend."""

    every: Grain
    since: datetime
    until: datetime
    interval_s: int
    intervals: int
    unfinished: bool

    @property
    def previous_start(self) -> datetime:
        """Return the start of the window before it."""
        return self.since - (self.until - self.since)

    def statement_parameters(self) -> dict[str, Any]:
        """Return the parameters of `trend_statement` except those of its filters."""
        return {
            "since": self.previous_start,
            "trend_from": self.since,
            "until": self.until,
            "interval_s": self.interval_s,
        }

    def answer_fields(self) -> dict[str, Any]:
        """Return the fields of an answer that describe the window."""
        return {
            "since": self.since,
            "until": self.until,
            "every": self.every,
            "trend_from": self.since,
            "trend_every_s": self.interval_s,
            "trend_intervals": self.intervals,
            "unfinished": self.unfinished,
        }

    def interval_sums(self, record: Mapping[str, Any], measure: str) -> list[int]:
        """Return the sum of each interval, or 0 without any."""
        trend = [0] * self.intervals
        for number, added in zip(
            record["bins"] or (), record[f"{measure}_trend"] or (), strict=True
        ):
            trend[number] = added or 0
        return trend


def trend_window(params: CountsParams, now: datetime) -> TrendWindow:
    """Return the window of a request, by minutes if it's short."""
    every, since, until = params.grain_and_bounds(
        now, "minute" if params.needs_minutes(now) else "hour"
    )
    length_s = max(int((until - since).total_seconds()), 0)
    widths = (width for width in _WIDTHS_S if width >= SECONDS_BY_GRAIN[every])
    interval_s = next(
        (width for width in widths if length_s <= width * MAX_TREND_INTERVALS), _WIDTHS_S[-1]
    )
    return TrendWindow(
        every=every,
        since=since,
        until=until,
        interval_s=interval_s,
        intervals=-(-length_s // interval_s),
        unfinished=since < now < until,
    )


def trend_statement(
    source: str,
    *,
    keys: Sequence[str],
    filters: Sequence[str],
    measures: Mapping[str, str],
    time: str = "hour",
    where: str = "true",
    chosen: str = "true",
) -> Statement:
    """Build a statement that sums measures over the window, the previous one, and each interval.

    For a measure `calls`, each group gets the columns `calls`, `calls_before`, and `calls_trend`,
    which has an element for each interval in `bins`. The greatest group comes first. Without keys,
    there is a single row. Three columns have the same value in every row. `in_all` is the first
    measure of all groups together, `groups` is the number of groups that satisfy the condition
    `chosen`, and `in_groups` is the first measure of these groups.
    """
    first = next(iter(measures))
    named = [key_column(key) for key in keys]
    listed = "".join(f"{name}, " for name in named)
    return Statement(
        f"""
        with counted as (
            select   {listed}
                     case
                         when {time} >= :trend_from::timestamptz
                         then floor(
                                  extract(epoch from {time} - :trend_from) / :interval_s::integer
                              )
                         else -1
                     end::integer as bin,
                     {", ".join(f"sum({sql})::bigint as {name}" for name, sql in measures.items())}
            from     {source}
            where    {where_conditions(filters, time)}
            and      {where}
            group by {listed}bin
        ),
        summed as (
            select   {listed}
                     {_sums(measures)},
                     array_agg(bin) filter (where bin >= 0) as bins,
                     coalesce(sum(sum({first}) filter (where bin >= 0)) over (), 0)::bigint
                         as in_all
            from     counted
            {f"group by {', '.join(named)}" if named else ""}
        )
        select   *, count(*) over () as groups, (sum({first}) over ())::bigint as in_groups
        from     summed
        where    {chosen}
        {f"order by {first} desc, {', '.join(named)} limit :limit::integer" if named else ""}
        """  # noqa: S608 - constants of this package
    )


def _sums(measures: Mapping[str, str]) -> str:
    return ",\n                     ".join(
        f"coalesce(sum({name}) filter (where bin >= 0), 0)::bigint as {name}, "
        f"coalesce(sum({name}) filter (where bin < 0), 0)::bigint as {name}_before, "
        f"array_agg({name}) filter (where bin >= 0) as {name}_trend"
        for name in measures
    )

"""Finds the hours in which a table has rows, without reading all of the rows.

It looks up the first row in the index, then the first row after that row's hour, and so on, which
is called a loose index scan. So an hour costs one look-up, whether it has one row or a million.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

ONE_HOUR: Final = timedelta(hours=1)
START_OF_TIME: Final = datetime.min.replace(tzinfo=UTC)
END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)
"""asyncpg sends these two as -infinity and infinity, so they bound every time of the calendar."""


def start_of_hour(time: datetime) -> datetime:
    """Return the start of this time's hour."""
    return time.replace(minute=0, second=0, microsecond=0)


def end_of_hour(hour: datetime) -> datetime:
    """Return the end of the hour. A datetime can't hold that of the calendar's last hour."""
    return hour + ONE_HOUR if hour < END_OF_TIME - ONE_HOUR else END_OF_TIME


def with_utc_zone(time: datetime) -> datetime:
    """Return a time that asyncpg has read, with the zone UTC in place of its own.

    asyncpg reads times in UTC, but infinite ones without a zone.
    """
    return time.replace(tzinfo=UTC)


async def find_hours_with_rows(
    connection: asyncpg.Connection,
    table: str,
    time: str,
    bounds: tuple[datetime, datetime],
    at_once: int,
) -> AsyncIterator[Sequence[datetime]]:
    """Yield the hours with rows between the bounds, in ascending lists of at most `at_once` hours.

    The first bound is included, and the second isn't. `time` is the name of a timestamptz column of
    `table`. An index must begin with this column.
    """
    statement = _NEXT_HOURS.format(table=table, time=time)
    since, until = bounds
    while True:
        rows = await connection.fetch(statement, since, until, at_once)
        hours = [with_utc_zone(hour) for (hour,) in rows]
        if hours:
            yield hours
        if len(hours) < at_once:
            return
        since = end_of_hour(hours[-1])


_NEXT_HOURS: Final = """
    with recursive known (hour) as (
        (
            select   to_hour({time})
            from     {table}
            where    {time} >= $1::timestamptz and {time} < $2::timestamptz
            order by {time}
            limit    1
        )
        union all
        select (
                   select   to_hour({time})
                   from     {table}
                   where    {time} >= known.hour + interval '1 hour' and {time} < $2::timestamptz
                   order by {time}
                   limit    1
               )
        from   known
        where  known.hour is not null
    )
    -- The limit also ends the recursion, so no further hour is looked up in the index.
    select hour
    from   known
    where  hour is not null
    limit  $3::integer
"""

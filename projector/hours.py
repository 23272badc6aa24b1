"""The begin of an hour, and the hours in which a table has rows.

They are found by a loose index scan from one hour to the next: an hour costs one index lookup,
however many rows it has.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

HOUR: Final = timedelta(hours=1)
BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)
AFTER_ALL: Final = datetime.max.replace(tzinfo=UTC)
"""asyncpg sends these two as -infinity and infinity, so they bound every time of the calendar."""


def hour_of(time: datetime) -> datetime:
    """The begin of the hour of this time."""
    return time.replace(minute=0, second=0, microsecond=0)


def end_of(hour: datetime) -> datetime:
    """The end of the hour; the last one of the calendar has none that a datetime can hold."""
    return hour + HOUR if hour < AFTER_ALL - HOUR else AFTER_ALL


def with_zone(time: datetime) -> datetime:
    """The time in UTC; asyncpg reads an infinite one, as it writes the two bounds, without zone."""
    return time.replace(tzinfo=UTC)


async def hours_of(
    connection: asyncpg.Connection,
    table: str,
    time: str,
    bounds: tuple[datetime, datetime],
    at_once: int,
) -> AsyncIterator[Sequence[datetime]]:
    """The hours from the first bound (included) to the second, ascending, `at_once` in each list.

    `time` is a timestamptz column with an index that begins with it.
    """
    statement = _NEXT_HOURS.format(table=table, time=time)
    since, until = bounds
    while True:
        rows = await connection.fetch(statement, since, until, at_once)
        hours = [with_zone(hour) for (hour,) in rows]
        if hours:
            yield hours
        if len(hours) < at_once:
            return
        since = end_of(hours[-1])


_NEXT_HOURS: Final = """
    with recursive known (hour) as (
        (
            select   hour_of({time})
            from     {table}
            where    {time} >= $1::timestamptz and {time} < $2::timestamptz
            order by {time}
            limit    1
        )
        union all
        select (
                   select   hour_of({time})
                   from     {table}
                   where    {time} >= known.hour + interval '1 hour' and {time} < $2::timestamptz
                   order by {time}
                   limit    1
               )
        from   known
        where  known.hour is not null
    )
    -- The limit stops the recursion, so no further hour is looked up.
    select hour
    from   known
    where  hour is not null
    limit  $3::integer
"""

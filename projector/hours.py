"""The begin of an hour, and the hours in which a table has rows.

They are found by a loose index scan from one hour to the next: an hour costs one index lookup,
however many rows it has.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg

HOUR: Final = timedelta(hours=1)


def hour_of(time: datetime) -> datetime:
    """The begin of the hour of this time."""
    return time.replace(minute=0, second=0, microsecond=0)


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
        hours = [hour for (hour,) in await connection.fetch(statement, since, until, at_once)]
        if hours:
            yield hours
        if len(hours) < at_once:
            return
        since = hours[-1] + HOUR


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

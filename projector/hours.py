"""Finds the hours that a table has rows of, skipping along its key from one hour to the next.

An hour costs one look at the index, however many rows it has: nothing is summed up, and no
statement reads more than the hours it is asked for.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg

HOUR: Final = timedelta(hours=1)


async def hours_of(
    connection: asyncpg.Connection,
    table: str,
    time: str,
    bounds: tuple[datetime, datetime],
    at_once: int,
) -> AsyncIterator[Sequence[datetime]]:
    """The hours from the first bound to before the second, ascending, so many at once.

    `time` is the column of timestamps that leads an index of the table.
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
    -- No hour is looked for beyond the limit.
    select hour
    from   known
    where  hour is not null
    limit  $3::integer
"""

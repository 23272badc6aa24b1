"""Stores verdicts and divergences, and reads the divergences that are still open.

A divergence is one execution or one hour in which a projection differs from the events. It stays
open until a comparison of exactly that location agrees; the result of another range cannot close
it.
"""

from typing import Final

import asyncpg

from projector.hours import with_zone
from projector.verify.queries import Comparison
from projector.verify.ranges import DivergentLocation
from projector.verify.verdict import Verdict

MOST_LOCATIONS: Final = 100_000
"""If more locations differ, they are stored as one divergence without a location."""


async def record(connection: asyncpg.Connection, verdict: Verdict) -> bool:
    """Store the verdict and its divergences, for the view `agreement`.

    Returns False if the user may not write, or the session is read-only.
    """
    try:
        async with connection.transaction():
            await connection.execute(
                _RECORD,
                verdict.projection,
                verdict.scope,
                verdict.verdict,
                verdict.compared,
                verdict.divergent,
                verdict.archived,
                "\n".join(verdict.examples),
                verdict.took_s,
            )
            await connection.execute(_END_NOTES, verdict.agreed)
            if len(verdict.locations) > MOST_LOCATIONS:
                await connection.execute(_NOTE_ANYWHERE, verdict.projection)
                return True
            ids = [at for at in verdict.locations if isinstance(at, int)]
            hours = [at for at in verdict.locations if not isinstance(at, int)]
            await connection.execute(_NOTE, verdict.projection, ids, hours)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError):
        return False
    return True


async def open_divergences(
    connection: asyncpg.Connection, comparison: Comparison
) -> list[DivergentLocation]:
    """The open divergences of one projection, in the order in which they were found."""
    return [
        DivergentLocation(
            row["divergence_id"],
            row["execution_id"] if row["hour"] is None else with_zone(row["hour"]),
        )
        for row in await connection.fetch(_OPEN_DIVERGENCES, comparison.name)
    ]


_RECORD: Final = """
    insert into verifications (
        projection, scope, verdict, compared, divergent, archived, detail, took_s
    )
    values ($1::text, $2::text, $3::text, $4::bigint, $5::bigint, $6::bigint, $7::text,
            $8::double precision)
"""

_OPEN_DIVERGENCES: Final = """
    select   divergence_id, execution_id, hour
    from     divergences
    where    projection = $1::text
    and      ended_at is null
    order by divergence_id
"""

_END_NOTES: Final = """
    update divergences
    set    ended_at = now()
    where  divergence_id = any($1::bigint[])
    and    ended_at is null
"""

# A known difference gets a new note in place of its old one: a comparison that was finished before
# this may end the old one.
_NOTE: Final = """
    with location as (
        select $1::text as projection, execution_id, null::timestamptz as hour
        from   unnest($2::bigint[]) as execution_id
        union all
        select $1::text, null, hour
        from   unnest($3::timestamptz[]) as hour
    ),
    replaced as (
        update divergences as known
        set    ended_at = now()
        from   location
        where  known.projection = location.projection
        and    known.execution_id is not distinct from location.execution_id
        and    known.hour is not distinct from location.hour
        and    known.ended_at is null
        returning known.execution_id, known.hour, known.noted_at
    )
    insert into divergences (projection, execution_id, hour, noted_by, noted_at)
    select   location.projection, location.execution_id, location.hour, 'verify',
             coalesce(min(replaced.noted_at), clock_timestamp())
    from     location
    left join replaced
             on  replaced.execution_id is not distinct from location.execution_id
             and replaced.hour is not distinct from location.hour
    group by location.projection, location.execution_id, location.hour
"""

_NOTE_ANYWHERE: Final = """
    insert into divergences (projection, noted_by) values ($1::text, 'verify')
"""

"""Stores verdicts and divergences, and reads the divergences that are still open.

A divergence is one execution or one hour for which a projection differs from the events. It stays
open until that same execution or hour is compared again and agrees. A comparison of other
executions or hours doesn't close it, even if its verdict is a match. A divergence without a
location may be anywhere, so only a comparison of everything closes it.
"""

from typing import Final

import asyncpg

from projector.hours import with_utc_zone
from projector.verify.queries import Comparison
from projector.verify.ranges import OpenDivergence
from projector.verify.verdict import MAX_STORED_LOCATIONS, ProjectionVerdict


async def store_verdict(connection: asyncpg.Connection, verdict: ProjectionVerdict) -> bool:
    """Store the verdict and its divergences, for the view `agreement`.

    Opens one divergence for each location that differs. If there are more than
    MAX_STORED_LOCATIONS, it opens a single one without a location, which means anywhere. Of the
    divergences that were open before, it ends those that the verdict resolves.

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
                "\n".join([*verdict.examples, *verdict.unproven_parts]),
                verdict.took_s,
                verdict.since,
                verdict.until,
            )
            await connection.execute(_END_DIVERGENCES, verdict.resolved_divergence_ids)
            if len(verdict.divergent_locations) > MAX_STORED_LOCATIONS:
                await connection.execute(_ADD_ANYWHERE, verdict.projection)
                return True
            ids = [at for at in verdict.divergent_locations if isinstance(at, int)]
            hours = [at for at in verdict.divergent_locations if not isinstance(at, int)]
            await connection.execute(_ADD_EXECUTIONS, verdict.projection, ids)
            await connection.execute(_ADD_HOURS, verdict.projection, hours)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError):
        return False
    return True


async def read_open_divergences(
    connection: asyncpg.Connection, comparison: Comparison
) -> list[OpenDivergence]:
    """Return the open divergences of one projection, in the order in which they were found."""
    return [
        OpenDivergence(
            row["divergence_id"],
            row["execution_id"] if row["hour"] is None else with_utc_zone(row["hour"]),
        )
        for row in await connection.fetch(_OPEN_DIVERGENCES, comparison.name)
    ]


_RECORD: Final = """
    insert into verifications (
        projection, scope, verdict, compared, divergent, archived, detail, took_s, since,
        until
    )
    values ($1::text, $2::text, $3::text, $4::bigint, $5::bigint, $6::bigint, $7::text,
            $8::double precision, $9::timestamptz, $10::timestamptz)
"""

_OPEN_DIVERGENCES: Final = """
    select   divergence_id, execution_id, hour
    from     divergences
    where    projection = $1::text
    and      ended_at is null
    order by divergence_id
"""

_END_DIVERGENCES: Final = """
    update divergences
    set    ended_at = now()
    where  divergence_id = any($1::bigint[])
    and    ended_at is null
"""

# Opens a divergence at each location. If one is already open there, it's ended and replaced by a
# new one with the same start time. It can't simply stay open, because an earlier comparison that's
# still running may end it without knowing about the new finding.
_ADD: Final = """
    with replaced as (
        update divergences
        set    ended_at = now()
        where  projection = $1::text
        and    {at} = any($2::{type}[])
        and    ended_at is null
        returning {at}, noted_at
    )
    insert into divergences (projection, {at}, noted_by, noted_at)
    select   $1::text, {at}, 'verify', coalesce(min(noted_at), clock_timestamp())
    from     (
                 select {at}, null::timestamptz as noted_at
                 from   unnest($2::{type}[]) as location ({at})
                 union all
                 select {at}, noted_at
                 from   replaced
             ) as divergence
    group by {at}
"""

_ADD_EXECUTIONS: Final = _ADD.format(at="execution_id", type="bigint")
_ADD_HOURS: Final = _ADD.format(at="hour", type="timestamptz")

# Opens one divergence without a location, and ends the others without one, for the same reason.
_ADD_ANYWHERE: Final = """
    with replaced as (
        update divergences
        set    ended_at = now()
        where  projection = $1::text
        and    execution_id is null
        and    hour is null
        and    ended_at is null
        returning noted_at
    )
    insert into divergences (projection, noted_by, noted_at)
    select $1::text, 'verify', coalesce(min(noted_at), clock_timestamp())
    from   replaced
"""

"""Open divergences hold retention up: a repair needs the events."""

from typing import Final

import asyncpg


async def difference_anywhere(connection: asyncpg.Connection) -> str | None:
    """Why nothing of any execution may be deleted; None if it may."""
    projections = await connection.fetchval(_DIFFERING_ANYWHERE)
    return projections and (
        f"{projections} may differ from the events, and where is not known; "
        "projector repair compares all of it"
    )


_DIFFERING_ANYWHERE: Final = """
    select string_agg(distinct projection, ' and ')
    from   projector.divergences
    where  projection in ('execution_facts', 'call_facts')
    and    execution_id is null
    and    ended_at is null
"""

# Nothing of an execution with an open divergence is deleted: a repair needs its events.
AGREES: Final = """
    not exists (
        select
        from   projector.divergences as known
        where  known.execution_id = {0}.execution_id
        and    known.ended_at is null
    )
    and not exists (
        select
        from   projector.divergences as known
        where  known.projection in ('execution_facts', 'call_facts')
        and    known.execution_id is null
        and    known.ended_at is null
    )
"""

"""Finds open divergences, which block retention because their repair still needs the events.

An open divergence is an execution or an hour for which a projection is known to differ from its
events.
"""

from typing import Final

import asyncpg


async def find_retention_blocker(connection: asyncpg.Connection) -> str | None:
    """Return why no execution may be deleted, or None."""
    projections = await connection.fetchval(_DIFFERING_ANYWHERE)
    return projections and (
        f"{projections} may differ from the events at an unknown place; `projector repair` "
        "compares all of it"
    )


_DIFFERING_ANYWHERE: Final = """
    select string_agg(distinct projection, ' and ')
    from   projector.divergences
    where  projection in ('execution_facts', 'call_facts')
    and    execution_id is null
    and    ended_at is null
"""

# Excludes executions with an open divergence, because a repair needs their events.
NO_OPEN_DIVERGENCE: Final = """
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

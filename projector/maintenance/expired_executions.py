"""Finds the executions that retention may delete, and groups those that must be deleted together.

An execution may be deleted if all of its events reached Kafka's log before a given time. It must
stay if a projection is known to differ from its events (an open divergence), because a repair needs
the events. If two executions have an event with the same id, they're deleted together or not at
all. If only one of them were deleted, a later report of the other could find the id free, and be
stored as a new event.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Final

import asyncpg
import msgspec

from projector.database_session import ONE_DAY_TIMEOUT_S

_CANDIDATE_ROWS: Final = 50_000
_LONGEST_MS: Final = 600_000
"""The time limit of a search. It must read all events of an execution, which may be millions, to
know that none is recent."""
EXECUTIONS_PER_LOOKUP: Final = 1_000


class TiedExecutions(msgspec.Struct, frozen=True):
    """Executions that are deleted together or not at all.

    `events` is the number of their events. `blocker` is the id of an execution that can't be
    deleted yet, or None if all of them can be deleted.
    """

    execution_ids: list[int]
    events: int
    blocker: int | None = None


async def find_retention_blocker(connection: asyncpg.Connection) -> str | None:
    """Return why no execution may be deleted, or None."""
    projections = await connection.fetchval(_DIFFERING_ANYWHERE)
    return projections and (
        f"{projections} may differ from the events at an unknown place; `projector repair` "
        "compares all of it"
    )


async def find_candidates_by_arrival(
    connection: asyncpg.Connection, since: datetime, until: datetime, known: Collection[int]
) -> list[int]:
    """Find some executions with an event that arrived between these times, except `known` ones."""
    async with connection.transaction():
        await connection.execute(_BY_ARRIVAL)
        rows = await connection.fetch(_CANDIDATES, since, until, list(known), _CANDIDATE_ROWS)
    return [row["execution_id"] for row in rows]


async def group_tied_executions(
    connection: asyncpg.Connection, before: datetime, candidates: Collection[int]
) -> list[TiedExecutions]:
    """Group the candidates with all executions that must be deleted together with them."""
    events: dict[int, int] = {}
    ties: dict[int, set[int]] = {}
    known: set[int] = set()
    wanted = set(candidates)
    while wanted:
        events |= await _silent_among(connection, before, wanted)
        known |= wanted
        tied = await _fetch_patiently(
            connection, EXECUTIONS_SHARING_EVENT_IDS_SQL, list(wanted & events.keys())
        )
        for one, other in tied:
            ties.setdefault(one, set()).add(other)
            ties.setdefault(other, set()).add(one)
        wanted = ties.keys() - known
    groups = []
    for members in _components(candidates, ties):
        loud = min((one for one in members if one not in events), default=None)
        count = sum(events.get(one, 0) for one in members)
        groups.append(TiedExecutions(sorted(members), count, loud))
    return groups


async def count_expired_executions_and_events(
    connection: asyncpg.Connection, before: datetime
) -> tuple[int, int]:
    """Count the executions that may be deleted, and their events, page by page."""
    executions = events = 0
    last = -(1 << 63)
    while page := await connection.fetch(_PAGE, last, EXECUTIONS_PER_LOOKUP):
        last = page[-1]["execution_id"]
        silent = await _silent_among(connection, before, [row["execution_id"] for row in page])
        executions += len(silent)
        events += sum(silent.values())
    return executions, events


async def _silent_among(
    connection: asyncpg.Connection, before: datetime, execution_ids: Collection[int]
) -> dict[int, int]:
    """Return those of these executions that may be deleted, with the number of their events."""
    rows = await _fetch_patiently(connection, _SILENT, list(execution_ids), before)
    return {row["execution_id"]: row["events"] for row in rows}


async def _fetch_patiently(
    connection: asyncpg.Connection, query: str, *parameters: object
) -> list[asyncpg.Record]:
    async with connection.transaction():
        await connection.execute(f"set local statement_timeout = {_LONGEST_MS}")
        rows: list[asyncpg.Record] = await connection.fetch(
            query, *parameters, timeout=ONE_DAY_TIMEOUT_S
        )
    return rows


def _components(candidates: Collection[int], ties: dict[int, set[int]]) -> list[set[int]]:
    left = set(candidates)
    components = []
    while left:
        members: set[int] = set()
        wanted = {left.pop()}
        while wanted:
            one = wanted.pop()
            members.add(one)
            wanted |= ties.get(one, set()) - members
        left -= members
        components.append(members)
    return components


_DIFFERING_ANYWHERE: Final = """
    select string_agg(distinct projection, ' and ')
    from   projector.divergences
    where  projection in ('execution_facts', 'call_facts')
    and    execution_id is null
    and    ended_at is null
"""

# Excludes executions with an open divergence, because a repair needs their events.
NO_OPEN_DIVERGENCE_SQL: Final = """
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

# Ids don't show which rows are old, because a replay stores old ids today.
_BY_ARRIVAL: Final = "set local enable_seqscan = off"

_CANDIDATES: Final = """
    select distinct execution_id
    from   (
               select execution_id
               from   normalizer.events
               where  coalesce(recorded_at, created_at) >= $1::timestamptz
               and    coalesce(recorded_at, created_at) < $2::timestamptz
               and    execution_id <> all($3::bigint[])
               limit  $4::integer
           ) as old
"""

# Finds which of these executions are silent. The search begins at the newest event ids of each
# execution, because one that isn't silent has a recent event there.
_SILENT: Final = f"""
    select known.execution_id, known.events
    from   unnest($1::bigint[]) as wanted (execution_id)
    join   execution_facts as known using (execution_id)
    where  {NO_OPEN_DIVERGENCE_SQL.format("known")}
    and    (
               select   true
               from     normalizer.events as event
               where    event.execution_id = known.execution_id
               and      coalesce(event.recorded_at, event.created_at) >= $2::timestamptz
               order by event.event_id desc
               limit    1
           ) is null
"""  # noqa: S608 - constants of this package

EXECUTIONS_SHARING_EVENT_IDS_SQL: Final = (
    "select execution_id, tied_to from executions_sharing_event_ids($1::bigint[])"
)

_PAGE: Final = """
    select   execution_id
    from     execution_facts
    where    execution_id > $1::bigint
    order by execution_id
    limit    $2::integer
"""

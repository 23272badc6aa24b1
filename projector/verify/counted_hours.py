"""The hours that counters have rows of: how many events each stands for, and hours drawn from them.

Nearly all hours that are drawn hold something to compare: rows of retention (shard -1) count events
that are deleted, and rows of deleted events hold 0 once they are compacted. One is drawn without a
look at what its rows count, for that may be what is wrong.
"""

import random
from datetime import datetime
from typing import Final

import asyncpg

from projector.hours import end_of, hours_of, with_zone
from projector.verify.queries import Bounds, Comparison

_HOURS_AT_ONCE: Final = 1_000
_DRAWN_AT_ONCE: Final = 10


async def draw_hours(
    connection: asyncpg.Connection,
    comparison: Comparison,
    bounds: Bounds,
    within: tuple[datetime, datetime],
    most: int,
    seed: int,
) -> list[datetime]:
    """Hours that these bounds have rows of, ascending: any one, and `most` that are not empty."""
    since, until = within
    if comparison.keys.startswith("minute"):
        since = max(since, with_zone(await connection.fetchval(_KEPT_FROM)))
    # Found by index lookups; the rows of an hour are read only if it is drawn.
    known: set[datetime] = set()
    for table, time, *_ in COUNTED[bounds]:
        async for hours in hours_of(connection, table, time, (since, until), _HOURS_AT_ONCE):
            known.update(hours)
    not_empty = _not_empty(bounds, of_executions=comparison.bounds == "executions")
    chance = random.Random(seed)  # noqa: S311 - a drawn sample, nothing secret
    shuffled = chance.sample(sorted(known), len(known))
    drawn = shuffled[:1]
    for first in range(1, len(shuffled), _DRAWN_AT_ONCE):
        hours = shuffled[first : first + _DRAWN_AT_ONCE]
        rows = await connection.fetch(not_empty, hours, [end_of(hour) for hour in hours])
        found = {with_zone(hour) for (hour,) in rows}
        drawn += [hour for hour in hours if hour in found]
        if len(drawn) > most:
            break
    return sorted(drawn[: most + 1])


def weights_of(bounds: Bounds) -> str:
    """A statement for the hours and their weights, over all tables with these bounds."""
    selects = "\nunion all\n".join(
        f"select hour_of({time}) as hour, {weight} * sum({measure}) as weight from {table} "  # noqa: S608 - constants of this package
        f"where {time} >= $1::timestamptz and {time} < $2::timestamptz group by 1"
        for table, time, measure, weight in COUNTED[bounds]
    )
    summed = "select hour, sum(weight)::bigint from ({}) as known group by 1 order by 1"
    return summed.format(selects)


def _not_empty(bounds: Bounds, *, of_executions: bool) -> str:
    """A statement for those hours, from $1 to $2, in which there is something to compare."""
    any_of = " or ".join(
        f"exists (select from {table} where shard >= 0 and {measure} <> 0 "
        f"and {time} >= low and {time} < high)"
        for table, time, measure, _ in COUNTED[bounds]
    )
    if of_executions:
        any_of += f" or {_SOME_BEGUN}"
    hours = "unnest($1::timestamptz[], $2::timestamptz[]) as drawn (low, high)"
    return f"select low from {hours} where {any_of}"  # noqa: S608 - constants of this package


# Table, time column, what it counts, and the weight of one in events: a call has four events or
# more, and is counted in several rows; the same is true of an execution.
COUNTED: Final[dict[Bounds, tuple[tuple[str, str, str, int], ...]]] = {
    "created": (("event_hours", "hour", "events", 1),),
    "arrived": (("arrival_hours", "hour", "events", 1),),
    "refused": (("quarantine_hours", "hour", "refused", 1),),
    "begun": (("execution_hours", "hour", "executions", 4),),
    "finished": (
        ("call_hours", "hour", "calls", 4),
        ("retry_minutes", "minute", "first_tries + retries", 1),
    ),
}

_SOME_BEGUN: Final = """
    exists (select from execution_facts where hour_of(first_at) = low)
"""

_NOWHERE: Final = "select now() as hour, 0::bigint where false"

SOURCES: Final[dict[Bounds, str]] = {
    "created": _NOWHERE,
    "arrived": _NOWHERE,
    "refused": """
        select hour_of(quarantined_at), count(*) from normalizer.quarantine group by 1
    """,
    "begun": """
        select hour_of(first_at), 4 * count(*) from execution_facts where events > 0 group by 1
    """,
    "finished": """
        select hour_of(finished_at), 4 * count(*)
        from   call_facts
        where  finished_at is not null
        group by 1
    """,
}
"""Weights by hour for roll-ups, which are computed from other tables and not from the log."""

_KEPT_FROM: Final = "select kept_from from maintenance_state where subject = 'minutes'"

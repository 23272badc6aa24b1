"""Everything, a range of time or a sample in; stretches that fit one short snapshot out.

Every hour lies in exactly one stretch, also those that show nothing: what a projection has lost
altogether must be missed too. The same holds for the ids of executions.
"""

import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import asyncpg
import msgspec

from projector.comparisons import Bounds

EVENTS_A_STRETCH: Final = 200_000
EXECUTIONS_A_HOUR: Final = 20
_LEAST_ID: Final = -(1 << 63)
_GREATEST_ID: Final = (1 << 63) - 1
_BEFORE_ALL: Final = datetime(1, 1, 1, tzinfo=UTC)
_AFTER_ALL: Final = datetime(9999, 12, 31, 23, tzinfo=UTC)
_HOUR: Final = timedelta(hours=1)


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared: everything, the hours from `since` to before `until`, or some hours.

    A sample is of `hours` hours, drawn with `seed`, and of some executions that began in each.
    """

    kind: Literal["everything", "range", "sample"] = "everything"
    since: datetime = _BEFORE_ALL
    until: datetime = _AFTER_ALL
    hours: int = 3
    seed: int = 0


class Stretch(msgspec.Struct, frozen=True):
    """Bounds of one comparison, and of executions which, if not all in between."""

    low: Any
    high: Any
    execution_ids: Sequence[int] | None = None

    def __str__(self) -> str:
        if self.execution_ids is not None:
            return f"{len(self.execution_ids)} executions"
        return f"{self.low} to {self.high}"


async def stretches(
    connection: asyncpg.Connection, bounds: Bounds, scope: Scope
) -> AsyncIterator[Stretch]:
    """Ascending; each read from the database when its turn comes."""
    if bounds != "executions":
        for stretch in await _hours(connection, bounds, scope):
            yield stretch
    elif scope.kind == "everything":
        async for stretch in _all_executions(connection):
            yield stretch
    else:
        for hours in await _hours(connection, "created", scope):
            async for stretch in _executions_of(connection, hours, scope):
                yield stretch


async def _hours(connection: asyncpg.Connection, bounds: Bounds, scope: Scope) -> list[Stretch]:
    rows = await connection.fetch(_WEIGHTS[bounds], scope.since, scope.until)
    if scope.kind == "sample":
        chance = random.Random(scope.seed)  # noqa: S311 - a drawn sample, nothing secret
        chosen = chance.sample(rows, min(scope.hours, len(rows)))
        return [Stretch(hour, hour + _HOUR) for hour, _ in sorted(chosen)]
    found: list[Stretch] = []
    low, weight = scope.since, 0
    for hour, events in rows:
        if weight and weight + events > EVENTS_A_STRETCH:
            found.append(Stretch(low, hour))
            low, weight = hour, 0
        weight += events
    return [*found, Stretch(low, scope.until)]


async def _all_executions(connection: asyncpg.Connection) -> AsyncIterator[Stretch]:
    low = _LEAST_ID
    while low <= _GREATEST_ID:
        high: int | None = await connection.fetchval(_NEXT_EXECUTIONS, low, EVENTS_A_STRETCH // 4)
        yield Stretch(low, _GREATEST_ID if high is None else high)
        if high is None:
            return
        low = high + 1


async def _executions_of(
    connection: asyncpg.Connection, hours: Stretch, scope: Scope
) -> AsyncIterator[Stretch]:
    """Those that began in these hours, and those that no projection knows."""
    rows = await connection.fetch(_EXECUTIONS_BEGUN, hours.low, hours.high)
    if scope.kind == "sample":
        chance = random.Random(f"{scope.seed}/{hours.low}")  # noqa: S311 - a drawn sample, nothing secret
        rows = chance.sample(rows, min(EXECUTIONS_A_HOUR, len(rows)))
    rows += await connection.fetch(_EXECUTIONS_UNKNOWN, hours.low, hours.high)
    ids: list[int] = []
    weight = 0
    for execution_id, events in sorted(rows):
        if weight and weight + events > EVENTS_A_STRETCH // 4:
            yield Stretch(ids[0], ids[-1], tuple(ids))
            ids, weight = [], 0
        ids.append(execution_id)
        weight += events
    if ids:
        yield Stretch(ids[0], ids[-1], tuple(ids))


def _weights(*sources: tuple[str, str, str]) -> str:
    """Hours and how much is in each: (table, hour, sum) of every source."""
    selects = "\nunion all\n".join(
        f"select {hour} as hour, {weight} as weight from {table} "  # noqa: S608 - our own names
        f"where {hour} >= $1::timestamptz and {hour} < $2::timestamptz group by 1"
        for table, hour, weight in sources
    )
    summed = "select hour, sum(weight)::bigint from ({}) as known group by 1 order by 1"
    return summed.format(selects)


# A call is told by four events or more, and counted in several rows; an execution likewise.
_WEIGHTS: Final[dict[Bounds, str]] = {
    "created": _weights(("event_hours", "hour", "sum(events)")),
    "arrived": _weights(("arrival_hours", "hour", "sum(events)")),
    "refused": _weights(("quarantine_hours", "hour", "sum(refused)")),
    "begun": _weights(
        ("execution_hours", "hour", "4 * sum(executions)"),
        ("retry_minutes", "hour_of(minute)", "4 * sum(retries)"),
    ),
    "finished": _weights(("call_hours", "hour", "4 * sum(calls)")),
}

_NEXT_EXECUTIONS: Final = """
    select min(execution_id)
    from   (
               select execution_id, sum(events) over (order by execution_id) as up_to
               from   (
                          select   execution_id, events
                          from     execution_facts
                          where    execution_id >= $1::bigint
                          order by execution_id
                          limit    20000
                      ) as following
           ) as summed
    where  up_to >= $2::bigint
    or     up_to = (
               select sum(events)
               from   (
                          select   events
                          from     execution_facts
                          where    execution_id >= $1::bigint
                          order by execution_id
                          limit    20000
                      ) as following
               having count(*) = 20000
           )
"""

_EXECUTIONS_BEGUN: Final = """
    select   execution_id, events
    from     execution_facts
    where    hour_of(first_at) >= $1::timestamptz and hour_of(first_at) < $2::timestamptz
    order by execution_id
"""

_EXECUTIONS_UNKNOWN: Final = """
    select   execution_id, count(*) as events
    from     normalizer.events
    where    created_at >= $1::timestamptz and created_at < $2::timestamptz
    and      not exists (
                 select
                 from   execution_facts as known
                 where  known.execution_id = events.execution_id
             )
    group by execution_id
    order by execution_id
"""

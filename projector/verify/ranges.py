"""Splits a scope (everything, a time range, or a sample) into ranges that fit one short snapshot.

Every hour of the scope lies in exactly one range, also an hour without rows: a projection that lost
all rows of an hour must be detected as well. The same holds for execution ids. A sample has only
the hours that were drawn.
"""

import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg
import msgspec

from projector.hours import AFTER_ALL, BEFORE_ALL, end_of, with_zone
from projector.verify.counted_hours import SOURCES, draw_hours, weights_of
from projector.verify.queries import Bounds, Comparison

EVENTS_A_RANGE: Final = 200_000
EXECUTIONS_A_HOUR: Final = 20
EXECUTIONS_A_RANGE: Final = 200
_LEAST_ID: Final = -(1 << 63)
_GREATEST_ID: Final = (1 << 63) - 1


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared: everything, the hours from `since` (included) to `until`, or a sample.

    A sample has `hours` hours, drawn with `seed`, and some executions that began in each of them. A
    range can be limited to `execution_ids`, or to the open divergences (`noted`).
    """

    kind: Literal["all", "range", "sample"] = "all"
    since: datetime = BEFORE_ALL
    until: datetime = AFTER_ALL
    hours: int = 3
    seed: int = 0
    execution_ids: tuple[int, ...] = ()
    noted: bool = False


class DivergentLocation(msgspec.Struct, frozen=True):
    """The location of an open divergence: an hour, an execution id, or None if it is unknown."""

    divergence_id: int
    at: datetime | int | None


class VerifyRange(msgspec.Struct, frozen=True):
    """Bounds of one comparison; `execution_ids` are compared only, or all in the bounds if None."""

    low: Any
    high: Any
    execution_ids: Sequence[int] | None = None

    def __str__(self) -> str:
        if self.execution_ids is not None:
            return f"{len(self.execution_ids)} executions"
        return f"{self.low} to {self.high}"

    def holds(self, at: datetime | int) -> bool:
        """Whether the range covers this hour or execution id."""
        if isinstance(at, datetime):
            return bool(self.low <= at < self.high)
        if self.execution_ids is not None:
            return at in self.execution_ids
        return bool(self.low <= at <= self.high)


async def ranges(
    connection: asyncpg.Connection,
    comparison: Comparison,
    scope: Scope,
    noted: Sequence[DivergentLocation] = (),
    log_hours: Counter[tuple[Bounds, datetime]] | None = None,
) -> AsyncIterator[VerifyRange]:
    """The ranges, ascending. Each is read from the database only when the caller needs it.

    `log_hours` are the events of the log by hour, for a projection that may have lost all its rows.
    """
    named = _named(scope, noted)
    if named is not None:
        for verify_range in _ranges_of(named):
            yield verify_range
    elif comparison.bounds != "executions":
        for verify_range in await _hours(connection, comparison, scope, log_hours or Counter()):
            yield verify_range
    elif scope.kind == "all" or scope.noted:
        async for verify_range in _all_executions(connection):
            yield verify_range
    else:
        compared: set[int] = set()
        for hours in await _hours(connection, comparison, scope, Counter()):
            async for verify_range in _executions_of(connection, hours, scope, compared):
                yield verify_range


def _named(scope: Scope, noted: Sequence[DivergentLocation]) -> Sequence[Any] | None:
    """The hours or execution ids that the scope names one by one; None if it names none."""
    if scope.execution_ids:
        return sorted(scope.execution_ids)
    if scope.noted and all(location.at is not None for location in noted):
        return sorted({location.at for location in noted})
    return None


def _ranges_of(locations: Sequence[Any]) -> list[VerifyRange]:
    """One range for each hour, or for EXECUTIONS_A_RANGE executions."""
    if locations and isinstance(locations[0], datetime):
        return [VerifyRange(hour, end_of(hour)) for hour in locations]
    firsts = range(0, len(locations), EXECUTIONS_A_RANGE)
    cut = [locations[first : first + EXECUTIONS_A_RANGE] for first in firsts]
    return [VerifyRange(ids[0], ids[-1], tuple(ids)) for ids in cut]


async def _hours(
    connection: asyncpg.Connection,
    comparison: Comparison,
    scope: Scope,
    log_hours: Counter[tuple[Bounds, datetime]],
) -> list[VerifyRange]:
    """Hours of the projection; of one of executions, hours in which their events happened."""
    bounds = "created" if comparison.bounds == "executions" else comparison.bounds
    if scope.kind == "sample":
        within = (scope.since, scope.until)
        drawn = await draw_hours(connection, comparison, bounds, within, scope.hours, scope.seed)
        return [VerifyRange(hour, end_of(hour)) for hour in drawn]
    rows = await connection.fetch(weights_of(bounds), scope.since, scope.until)
    weights: Counter[datetime] = Counter()
    if scope.kind == "all":
        # A roll-up that lost its rows has no weights of its own.
        weights |= Counter({hour: n for (of, hour), n in log_hours.items() if of == bounds})
        with contextlib.suppress(asyncpg.QueryCanceledError):
            rows += await connection.fetch(SOURCES[bounds])
    for hour, events in rows:
        weights[with_zone(hour)] = max(weights[with_zone(hour)], events)
    found: list[VerifyRange] = []
    low, weight = scope.since, 0
    for hour in sorted(weights):
        if weight and weight + weights[hour] > EVENTS_A_RANGE:
            found.append(VerifyRange(low, hour))
            low, weight = hour, 0
        weight += weights[hour]
    return [*found, VerifyRange(low, scope.until)]


async def _all_executions(connection: asyncpg.Connection) -> AsyncIterator[VerifyRange]:
    low = _LEAST_ID
    while low <= _GREATEST_ID:
        high: int | None = await connection.fetchval(_NEXT_EXECUTIONS, low, EVENTS_A_RANGE // 4)
        yield VerifyRange(low, _GREATEST_ID if high is None else high)
        if high is None:
            return
        low = high + 1


async def _executions_of(
    connection: asyncpg.Connection, hours: VerifyRange, scope: Scope, compared: set[int]
) -> AsyncIterator[VerifyRange]:
    """Executions with an event in these hours, and those that began in them by the projection.

    Executions in `compared` are left out; the others are added to it. A sample draws some of them,
    and always includes those that the projection does not have.
    """
    rows = [
        row
        for row in await connection.fetch(_EXECUTIONS_OF, hours.low, hours.high)
        if row["execution_id"] not in compared
    ]
    if scope.kind == "sample":
        chance = random.Random(f"{scope.seed}/{hours.low}")  # noqa: S311 - a drawn sample, nothing secret
        known = [row for row in rows if row["is_known"]]
        drawn = chance.sample(known, min(EXECUTIONS_A_HOUR, len(known)))
        rows = drawn + [row for row in rows if not row["is_known"]]
    ids: list[int] = []
    weight = 0
    for execution_id, events, _ in sorted(rows):
        if weight and weight + events > EVENTS_A_RANGE // 4:
            yield VerifyRange(ids[0], ids[-1], tuple(ids))
            ids, weight = [], 0
        ids.append(execution_id)
        weight += events
        compared.add(execution_id)
    if ids:
        yield VerifyRange(ids[0], ids[-1], tuple(ids))


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

# An execution is always compared as a whole, so its events in other hours count as well.
_EXECUTIONS_OF: Final = """
    with reported as (
        select   execution_id, count(*) as events
        from     normalizer.events
        where    created_at >= $1::timestamptz and created_at < $2::timestamptz
        group by execution_id
        union all
        select execution_id, 0
        from   execution_facts
        where  hour_of(first_at) >= $1::timestamptz and hour_of(first_at) < $2::timestamptz
    )
    select   execution_id, greatest(events, known)::bigint as events,
             known is not null as is_known
    from     (
                 select   execution_id, max(events) as events,
                          -- Not a join: without nested loops it would read all executions.
                          (
                              select events
                              from   execution_facts as known
                              where  known.execution_id = reported.execution_id
                          ) as known
                 from     reported
                 group by execution_id
             ) as weighed
    order by execution_id
"""

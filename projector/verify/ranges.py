"""Splits a scope (everything, a time range, or a sample) into ranges that fit one short snapshot.

A range is either 24 hours with rows and the empty hours between them, or 200 executions. Every hour
of the scope lies in exactly one range, because each range ends where the next one begins, and
excludes its end. That includes hours without rows, because the comparison must also detect that a
projection lost all rows of an hour. For the same reason, executions are listed from
both the events and the projections. A range that takes too long is cut in half, down to one hour or
one execution. In a sample, only the drawn hours are compared.
"""

import random
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final, Literal

import asyncpg
import msgspec

from projector.hours import (
    END_OF_TIME,
    START_OF_TIME,
    end_of_hour,
    find_hours_with_rows,
    start_of_hour,
    with_utc_zone,
)
from projector.verify.queries import Comparison

HOURS_PER_RANGE: Final = 24
_SAMPLED_EXECUTIONS_PER_HOUR: Final = 20
EXECUTIONS_PER_RANGE: Final = 200
_HOURS_AT_ONCE: Final = 1_000
_LEAST_ID: Final = -(1 << 63)

Location = datetime | int
"""Where a projection can differ from the events: an hour or an execution id, often called `at`. A
divergence is one location, however many of its rows differ. `divergent` counts rows."""


class VerifyScope(msgspec.Struct, frozen=True, kw_only=True):
    """What to compare: everything, the hours from `since` (included) to `until`, or a sample.

    `since` and `until` must be whole hours, because counters by hour can't be compared for a part
    of one. `cli.scope_options` rounds them.

    A sample has `sampled_hours` hours, drawn at random with `seed`, and some executions that began
    in each of them. A scope can also be limited to open divergences (`only_open_divergences`), or
    to `execution_ids`, but not to both, and neither of these can be a sample. Open divergences
    can't be limited to hours, because one without a location may be anywhere, and neither can
    `execution_ids`, because their hours are looked up. With `execution_ids`, only executions and
    calls can be compared, because counters have no rows by execution.
    """

    since: datetime = START_OF_TIME
    until: datetime = END_OF_TIME
    sampled_hours: int = 0
    seed: int = 0
    execution_ids: tuple[int, ...] = ()
    only_open_divergences: bool = False

    def __post_init__(self) -> None:
        limits = (self.sampled_hours > 0, bool(self.execution_ids), self.only_open_divergences)
        if sum(limits) > 1:
            message = "a scope is a sample, some executions, or open divergences, but only one"
            raise ValueError(message)
        has_bounds = (self.since, self.until) != (START_OF_TIME, END_OF_TIME)
        if has_bounds and (self.execution_ids or self.only_open_divergences):
            message = "a scope of executions or open divergences has no bounds"
            raise ValueError(message)

    @property
    def kind(self) -> Literal["all", "range", "sample"]:
        """Return `range` for a scope that anything but a sample limits."""
        if self.sampled_hours:
            return "sample"
        return "all" if self == VerifyScope() else "range"

    @property
    def covers_everything(self) -> bool:
        """Return whether a comparison of this scope leaves nothing out.

        A divergence whose location is unknown may be anywhere, so only such a comparison can
        resolve it. A scope of only open divergences leaves nothing out either, because every row is
        compared as soon as the location of one of them is unknown.
        """
        return self.only_open_divergences or self.kind == "all"


class OpenDivergence(msgspec.Struct, frozen=True):
    """A divergence that is still open. `location` is None if it is unknown."""

    divergence_id: int
    location: Location | None


class HourRange(msgspec.Struct, frozen=True):
    """The hours from `low` (included) to `high`."""

    low: datetime
    high: datetime

    def __str__(self) -> str:
        return f"{self.low} to {self.high}"

    def locations_inside(self, locations: Collection[Location]) -> list[Location]:
        """Return those of the locations that are hours in this range."""
        return [at for at in locations if isinstance(at, datetime) and self.low <= at < self.high]

    @property
    def query_arguments(self) -> tuple[datetime, datetime]:
        """The first arguments of the queries."""
        return self.low, self.high

    def halves(self) -> tuple["HourRange", ...]:
        """Return two smaller ranges, or none if this is one hour."""
        middle = start_of_hour(self.low + (self.high - self.low) / 2)
        if middle <= self.low:
            return ()
        return HourRange(self.low, middle), HourRange(middle, self.high)


class ExecutionRange(msgspec.Struct, frozen=True):
    """These executions."""

    execution_ids: tuple[int, ...]

    def __str__(self) -> str:
        return f"{len(self.execution_ids)} executions from {self.execution_ids[0]} on"

    def locations_inside(self, locations: Collection[Location]) -> list[Location]:
        """Return those of the locations that are executions in this range.

        `locations` should be a dictionary or a set, because it may be long.
        """
        return [at for at in self.execution_ids if at in locations]

    @property
    def query_arguments(self) -> tuple[tuple[int, ...]]:
        """The first argument of the queries."""
        return (self.execution_ids,)

    def halves(self) -> tuple["ExecutionRange", ...]:
        """Return two smaller ranges, or none if this is one execution."""
        middle = len(self.execution_ids) // 2
        if not middle:
            return ()
        return (
            ExecutionRange(self.execution_ids[:middle]),
            ExecutionRange(self.execution_ids[middle:]),
        )


VerifyRange = HourRange | ExecutionRange


async def ranges_in_scope(
    connection: asyncpg.Connection,
    comparison: Comparison,
    scope: VerifyScope,
    divergences: Sequence[OpenDivergence] = (),
) -> AsyncIterator[VerifyRange]:
    """Yield the ranges, ascending. Each is read from the database only when needed.

    Raises ValueError for `execution_ids` of a counter.
    """
    if scope.execution_ids and comparison.bounded_by != "executions":
        message = f"{comparison.name} can't be compared for single executions"
        raise ValueError(message)
    if (named := _named_locations(scope, divergences)) is not None:
        for found in _ranges_around(named):
            yield found
    elif comparison.bounded_by != "executions":
        for hours in await _hour_ranges(connection, comparison, scope, HOURS_PER_RANGE):
            yield hours
    elif scope.covers_everything:
        async for executions in _all_executions(connection):
            yield executions
    else:
        async for executions in _find_executions(connection, comparison, scope):
            yield executions


def _named_locations(
    scope: VerifyScope, divergences: Sequence[OpenDivergence]
) -> Sequence[Location] | None:
    """Return the hours or execution ids that the scope names one by one, or None."""
    if scope.execution_ids:
        return scope.execution_ids
    known = [one.location for one in divergences if one.location is not None]
    return known if scope.only_open_divergences and len(known) == len(divergences) else None


def _ranges_around(locations: Sequence[Location]) -> list[VerifyRange]:
    """Return one range per hour, or ranges of some executions each.

    The locations are of one projection, so they're either all hours or all executions.
    """
    hours = sorted({at for at in locations if isinstance(at, datetime)})
    return [
        *(HourRange(hour, end_of_hour(hour)) for hour in hours),
        *_cut([at for at in locations if isinstance(at, int)]),
    ]


def _cut(ids: Collection[int]) -> list[ExecutionRange]:
    unique = sorted(set(ids))
    firsts = range(0, len(unique), EXECUTIONS_PER_RANGE)
    return [ExecutionRange(tuple(unique[n : n + EXECUTIONS_PER_RANGE])) for n in firsts]


async def _hour_ranges(
    connection: asyncpg.Connection, comparison: Comparison, scope: VerifyScope, hours_a_range: int
) -> list[HourRange]:
    """Return ranges that each have `hours_a_range` hours with rows, and the empty hours between.

    The hours with rows are those of the counter's own table, and for executions those of the
    counter event_hours. So a sample can't draw an hour of which that table has lost all rows. A
    sample is drawn from the hours that retention hasn't reached. Older hours can't be compared,
    because their events are deleted and only the archived part of the counters is left.
    """
    table, time = comparison.name, comparison.keys[0]
    if comparison.bounded_by == "executions":
        table, time = "event_hours", "hour"
    since = scope.since
    if scope.sampled_hours:
        since = max(since, with_utc_zone(await connection.fetchval(_KEPT_FROM)))
    known: list[datetime] = []
    async for hours in find_hours_with_rows(
        connection, table, time, (since, scope.until), _HOURS_AT_ONCE
    ):
        known += hours
    if scope.sampled_hours:
        chance = random.Random(scope.seed)  # noqa: S311 - a drawn sample, nothing secret
        drawn = chance.sample(known, min(scope.sampled_hours, len(known)))
        return [HourRange(hour, end_of_hour(hour)) for hour in sorted(drawn)]
    bounds = [since, *known[hours_a_range::hours_a_range], scope.until]
    return [HourRange(low, high) for low, high in pairwise(bounds)]


async def _all_executions(connection: asyncpg.Connection) -> AsyncIterator[ExecutionRange]:
    last = _LEAST_ID
    while rows := await connection.fetch(_NEXT_EXECUTIONS, last, EXECUTIONS_PER_RANGE):
        found = ExecutionRange(tuple(row["execution_id"] for row in rows))
        yield found
        last = found.execution_ids[-1]


async def _find_executions(
    connection: asyncpg.Connection, comparison: Comparison, scope: VerifyScope
) -> AsyncIterator[ExecutionRange]:
    """Yield executions with an event in the scope's hours, or that began there.

    A call whose execution has neither has no time to be found by, so only a comparison of
    everything finds it.

    For a sample, some executions of each hour are drawn at random. An execution that's missing from
    the projection is always included, so that a sample can't miss it by chance.

    An execution with events in several hours is compared once. For that, this remembers the ids of
    the scope, which takes about 100 bytes each.
    """
    compared: set[int] = set()
    for hours in await _hour_ranges(connection, comparison, scope, 1):
        rows = await connection.fetch(_FIND_EXECUTIONS, hours.low, hours.high)
        ids = {row["execution_id"] for row in rows}
        if scope.sampled_hours:
            chance = random.Random(f"{scope.seed}/{hours.low}")  # noqa: S311 - a drawn sample, nothing secret
            known = [row["execution_id"] for row in rows if row["is_known"]]
            drawn = chance.sample(known, min(_SAMPLED_EXECUTIONS_PER_HOUR, len(known)))
            ids.difference_update(set(known).difference(drawn))
        for found in _cut(ids - compared):
            yield found
        compared |= ids


_KEPT_FROM: Final = "select expired_before from normalizer.retention_horizon"

# Each id costs three index lookups, however many events it has.
_NEXT_EXECUTIONS: Final = """
    with recursive following (execution_id) as (
        values ($1::bigint)
        union all
        select least(
                   (
                       select min(execution_id)
                       from   normalizer.events
                       where  execution_id > following.execution_id
                   ),
                   (
                       select min(execution_id)
                       from   execution_facts
                       where  execution_id > following.execution_id
                   ),
                   (
                       select min(execution_id)
                       from   call_facts
                       where  execution_id > following.execution_id
                   )
               )
        from   following
        where  following.execution_id is not null
    )
    -- The limit stops the recursion.
    select execution_id
    from   following
    where  execution_id > $1::bigint
    limit  $2::integer
"""

# Finds the executions that have events in a range of hours. Each of them is compared as a whole,
# including its events in other hours.
_FIND_EXECUTIONS: Final = """
    select   execution_id,
             -- Use a subquery here, because without nested loops a join would read all executions.
             exists (
                 select
                 from   execution_facts as known
                 where  known.execution_id = reported.execution_id
             ) as is_known
    from     (
                 select execution_id
                 from   normalizer.events
                 where  created_at >= $1::timestamptz and created_at < $2::timestamptz
                 union
                 select execution_id
                 from   execution_facts
                 where  to_hour(first_at) >= $1::timestamptz and to_hour(first_at) < $2::timestamptz
             ) as reported
    order by execution_id
"""

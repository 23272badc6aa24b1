"""A scope in, a verdict on each projection out: does it agree with the log?

Every range is compared in one statement, so under one snapshot, and projections are exact at
every snapshot: the ranges together prove the whole, beside any traffic. Before it says match, a
comparison must have seen three rows that were tampered with, on every run.

What differs is noted in `divergences`, place by place, and stands there until a comparison of just
that place finds that it agrees: nothing that was compared elsewhere takes it back.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg
import msgspec

from normalizer.errors import FatalError
from projector.verify.queries import COMPARISONS, Bounds, Comparison
from projector.verify.ranges import DivergentLocation, Scope, VerifyRange, ranges

MOST_SHARES: Final = 64
EXAMPLES: Final = 10
MOST_LOCATIONS: Final = 100_000
"""When more differ, they are noted as one: anywhere."""

_SELF_TESTS: Final[dict[str, tuple[str, int, int]]] = {
    "lost": ("select row from expected order by row offset 1", 0, 1),
    "invented": (
        """
        select row from expected
        union all
        (select jsonb_set(row, $6::text[], '"invented"') from expected order by row limit 1)
        """,
        1,
        0,
    ),
    "changed": (
        """
        select case
                   when row_number() over (order by row) = 1
                   then jsonb_set(row, $6::text[], '"changed"')
                   else row
               end
        from   expected
        """,
        1,
        1,
    ),
}
"""Shown instead of what is shown: the fold itself with one row tampered with. With it, how many
rows only the one side and only the other side must then have."""

_ACTUAL: Final = "select row from actual"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison of one projection came to. `examples` are sentences, each about a row.

    `locations` are the executions or hours that differ, `agreed` the notes of such places that were
    compared and do not, any more. `repaired` rows differed before they were repaired.
    """

    projection: str
    verdict: Literal["match", "divergent", "inconclusive"]
    scope: str
    compared: int
    divergent: int
    archived: int
    self_tests: int
    examples: tuple[str, ...]
    took_s: float
    locations: tuple[int | datetime, ...] = ()
    agreed: tuple[int, ...] = ()
    repaired: int = 0

    def __str__(self) -> str:
        text = f"{self.projection:18}{self.verdict}: {self.compared:,} rows compared"
        if self.repaired:
            text += f", {self.repaired:,} repaired"
        if self.divergent:
            text += f", {self.divergent:,} differ"
        if self.archived:
            text += f", {self.archived:,} left alone: their events are dropped"
        if not self.self_tests:
            text += ", no row to run the self-tests on"
        return "\n".join([f"{text} ({self.took_s:.1f} s)", *(f"    {e}" for e in self.examples)])


class RowDifferences(msgspec.Struct, frozen=True):
    """What one statement found: how many rows there are, and those that only one side has.

    It looked at share `share` of `shares`.
    """

    shares: int
    share: int
    expected: int
    compared: int
    actual_only: int
    expected_only: int
    examples: tuple[str, ...]
    locations: frozenset[int | datetime]

    @property
    def differing(self) -> int:
        """Rows that one side has and the other has not, or not so."""
        return max(self.actual_only, self.expected_only)


RepairRange = Callable[[Comparison, VerifyRange, Sequence[RowDifferences]], Awaitable[None]]
"""What is done about a range where rows differ, before it is compared again."""


async def _leave_as_is(
    comparison: Comparison, verify_range: VerifyRange, found: Sequence[RowDifferences]
) -> None:
    """To find out is enough."""


async def verify(
    connection: asyncpg.Connection,
    scope: Scope,
    *,
    comparisons: Sequence[Comparison] = COMPARISONS,
    repair_range: RepairRange = _leave_as_is,
    log_hours: Counter[tuple[Bounds, datetime]] | None = None,
) -> AsyncIterator[Verdict]:
    """A verdict on each, as it is reached. Changes nothing but by `repair_range`.

    Where only what is noted is compared, a projection without a note has no verdict.
    """
    for comparison in comparisons:
        noted = await _open_divergences(connection, comparison)
        if scope.noted and not noted:
            continue
        # Folds join what they have just made, of which no statistics know.
        await connection.execute(
            "set plan_cache_mode = force_custom_plan; set enable_nestloop = off; set jit = off"
        )
        try:
            verdict = await _verify(connection, comparison, scope, noted, repair_range, log_hours)
        finally:
            await connection.execute("reset plan_cache_mode; reset enable_nestloop; reset jit")
        # Nothing is left to reset: whoever stops listening may use the connection at once.
        yield verdict


async def record(connection: asyncpg.Connection, verdict: Verdict) -> bool:
    """Keep the verdict and what it notes, for the view `agreement`; False if we may not write."""
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


async def _open_divergences(
    connection: asyncpg.Connection, comparison: Comparison
) -> list[DivergentLocation]:
    """What stands as divergent, as it is before anything is compared."""
    return [
        DivergentLocation(
            row["divergence_id"],
            row["hour"] if row["execution_id"] is None else row["execution_id"],
        )
        for row in await connection.fetch(_OPEN_DIVERGENCES, comparison.name)
    ]


async def _verify(
    connection: asyncpg.Connection,
    comparison: Comparison,
    scope: Scope,
    noted: Sequence[DivergentLocation],
    repair_range: RepairRange,
    log_hours: Counter[tuple[Bounds, datetime]] | None,
) -> Verdict:
    began = time.monotonic()
    compared = divergent = archived = self_tests = repaired = 0
    examples: list[str] = []
    inconclusive: list[str] = []
    locations: set[int | datetime] = set()
    agreed: set[int] = set()
    shares = 1
    async for verify_range in ranges(connection, comparison, scope, noted, log_hours):
        if comparison.archived is not None:
            ids = [verify_range.execution_ids] if comparison.bounds == "executions" else []
            archived += await connection.fetchval(
                comparison.archived, verify_range.low, verify_range.high, *ids
            )
        try:
            differences = await _compare(connection, comparison, verify_range, shares)
            if repair_range is not _leave_as_is and (
                differing := sum(one.differing for one in differences)
            ):
                await repair_range(
                    comparison, verify_range, [one for one in differences if one.differing]
                )
                differences = await _compare(connection, comparison, verify_range, shares)
                repaired += max(differing - sum(one.differing for one in differences), 0)
            for found in differences:
                # What was too much for one range is for the next.
                shares = found.shares
                compared += found.compared
                divergent += found.differing
                examples += found.examples
                locations |= found.locations
                if found.expected and not self_tests:
                    self_tests = await _run_self_tests(connection, comparison, verify_range, found)
        except asyncpg.QueryCanceledError:
            inconclusive.append(
                f"{verify_range}: too much for one snapshot, even in {MOST_SHARES} shares"
            )
            continue
        agreed.update(
            location.divergence_id
            for location in noted
            if location.at is not None
            and location.at not in locations
            and verify_range.holds(location.at)
        )
    if not divergent and not inconclusive and (scope.kind == "all" or scope.noted):
        agreed.update(location.divergence_id for location in noted)
    verdict: Literal["match", "divergent", "inconclusive"] = (
        "divergent" if divergent else "inconclusive" if inconclusive else "match"
    )
    return Verdict(
        projection=comparison.name,
        verdict=verdict,
        scope=scope.kind,
        compared=compared,
        divergent=divergent,
        archived=archived,
        self_tests=self_tests,
        examples=(*examples[:EXAMPLES], *inconclusive[:EXAMPLES]),
        took_s=time.monotonic() - began,
        locations=tuple(sorted(locations)),
        agreed=tuple(sorted(agreed)),
        repaired=repaired,
    )


async def _compare(
    connection: asyncpg.Connection, comparison: Comparison, verify_range: VerifyRange, shares: int
) -> list[RowDifferences]:
    """The range in so many shares, each in one statement; in more where one takes too long.

    Raises QueryCanceledError when the smallest shares do.
    """
    while True:
        try:
            return [
                await _difference(connection, comparison, verify_range, _ACTUAL, shares, share)
                for share in range(shares)
            ]
        except asyncpg.QueryCanceledError:
            if shares == MOST_SHARES:
                raise
            shares *= 4


async def _run_self_tests(
    connection: asyncpg.Connection,
    comparison: Comparison,
    verify_range: VerifyRange,
    where: RowDifferences,
) -> int:
    """How many tampered rows were noticed: all of them. Raises FatalError otherwise."""
    for name, (tampered, invented, lost) in _SELF_TESTS.items():
        column = comparison.keys.split()[0] if name == "invented" else comparison.measure
        found = await _difference(
            connection, comparison, verify_range, tampered, where.shares, where.share, [column]
        )
        if (found.actual_only, found.expected_only) != (invented, lost):
            message = f"{comparison.name}: a {name} row went unnoticed: no verdict can be trusted"
            raise FatalError(message)
    return len(_SELF_TESTS)


async def _difference(
    connection: asyncpg.Connection,
    comparison: Comparison,
    verify_range: VerifyRange,
    actual: str,
    shares: int,
    share: int,
    column: Sequence[str] | None = None,
) -> RowDifferences:
    """One statement, one snapshot."""
    key = comparison.keys.split()[0]
    location_type = "bigint" if comparison.bounds == "executions" else "timestamptz"
    statement = _COMPARE.format(
        actual=comparison.actual,
        expected=comparison.expected,
        observed=actual,
        key=key,
        location_type=location_type,
    )
    row = await connection.fetchrow(
        statement,
        verify_range.low,
        verify_range.high,
        shares,
        share,
        verify_range.execution_ids,
        column,
    )
    return RowDifferences(
        shares=shares,
        share=share,
        expected=row["expected"],
        compared=row["compared"],
        actual_only=row["actual_count"],
        expected_only=row["expected_count"],
        examples=tuple(_sentences(comparison, row["actual_only"], row["expected_only"])),
        locations=frozenset(_location(at) for at in row["locations"] or ()),
    )


def _location(at: int | datetime) -> int | datetime:
    return at if isinstance(at, int) else at.replace(minute=0)


def _sentences(
    comparison: Comparison, actual: Sequence[str] | None, expected: Sequence[str] | None
) -> Iterator[str]:
    """Each differing row named by its key, with what is shown and what should be."""
    keys = comparison.keys.split()
    sides: dict[tuple[Any, ...], list[dict[str, Any] | None]] = {}
    for side, rows in enumerate((actual or (), expected or ())):
        for text in rows:
            row = msgspec.json.decode(text, type=dict[str, Any])
            sides.setdefault(tuple(row.get(key) for key in keys), [None, None])[side] = row
    for values, (is_actual, should_be) in sides.items():
        name = ", ".join(f"{key} {value}" for key, value in zip(keys, values, strict=True))
        if is_actual is None:
            yield f"{name}: missing, should be {_rest(should_be, keys)}"
        elif should_be is None:
            yield f"{name}: shows {_rest(is_actual, keys)}, no event says so"
        else:
            differing = [
                f"{column} shows {value}, should be {should_be.get(column)}"
                for column, value in is_actual.items()
                if value != should_be.get(column)
            ]
            yield f"{name}: {'; '.join(differing)}"


def _rest(row: dict[str, Any] | None, keys: Sequence[str]) -> str:
    fields = {column: value for column, value in (row or {}).items() if value is not None}
    return ", ".join(f"{column} {value}" for column, value in fields.items() if column not in keys)


_COMPARE: Final = """
    with actual as materialized (
        select to_jsonb(t) as row from ({actual}) as t
    ),
    expected as materialized (
        select to_jsonb(t) as row from ({expected}) as t
    ),
    observed (row) as materialized (
        {observed}
    ),
    actual_only as (
        select row from observed except all select row from expected
    ),
    expected_only as (
        select row from expected except all select row from observed
    )
    select (select count(*) from expected) as expected,
           greatest((select count(*) from observed), (select count(*) from expected)) as compared,
           (select count(*) from actual_only) as actual_count,
           (select count(*) from expected_only) as expected_count,
           (
               select array_agg(row::text)
               from   (select row from actual_only order by row limit 20) as first_ones
           ) as actual_only,
           (
               select array_agg(row::text)
               from   (select row from expected_only order by row limit 20) as first_ones
           ) as expected_only,
           (
               select array_agg(distinct (row ->> '{key}')::{location_type})
               from   (
                          select row from actual_only
                          union all
                          select row from expected_only
                      ) as differing
               -- A control has a key that is none.
               where  $6::text[] is null
           ) as locations
    from   (select $5::bigint[], $6::text[]) as named_in_every_form
"""

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
    set    ended_at = now(), ended_by = 'verified'
    where  divergence_id = any($1::bigint[])
    and    ended_at is null
"""

_NOTE: Final = """
    insert into divergences (projection, execution_id, hour, noted_by)
    select location.projection, location.execution_id, location.hour, 'verify'
    from   (
               select $1::text, execution_id, null
               from   unnest($2::bigint[]) as execution_id
               union all
               select $1::text, null, hour
               from   unnest($3::timestamptz[]) as hour
           ) as location (projection, execution_id, hour)
    where  not exists (
               select
               from   divergences as known
               where  known.projection = location.projection
               and    known.execution_id is not distinct from location.execution_id
               and    known.hour is not distinct from location.hour
               and    known.ended_at is null
           )
"""

_NOTE_ANYWHERE: Final = """
    insert into divergences (projection, noted_by) values ($1::text, 'verify')
"""

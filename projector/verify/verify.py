"""Compares projections with the events, range by range, and gives a verdict on each projection.

Each range is compared in one statement and one snapshot, and projections are exact in every
snapshot. So the ranges together cover the whole scope, even while others write. For a verdict of
`match`, the comparison must detect three tampered rows on every run, unless there is no row to
compare.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final

import asyncpg

from projector.hours import AFTER_ALL, BEFORE_ALL
from projector.verify.divergences import open_divergences
from projector.verify.queries import COMPARISONS, Comparison
from projector.verify.ranges import DivergentLocation, Scope, VerifyRange, ranges
from projector.verify.row_comparison import RowDifferences, compare, run_self_tests
from projector.verify.verdict import Verdict

EXAMPLES: Final = 10

MOST_TIMEOUTS: Final = 40
"""After this many timeouts in a row, the database seems too slow for any range. It takes 27 to
halve the whole calendar down to one hour."""

RepairRange = Callable[[Comparison, VerifyRange, RowDifferences], Awaitable[None]]
"""Repairs a range in which rows differ. The range is compared again afterwards."""


async def verify(
    connection: asyncpg.Connection,
    scope: Scope,
    *,
    comparisons: Sequence[Comparison] = COMPARISONS,
    repair_range: RepairRange | None = None,
) -> AsyncIterator[Verdict]:
    """Yield one verdict for each comparison, as soon as it's known. Writes only in `repair_range`.

    If the scope covers only open divergences, a projection without one has no verdict.
    Raises FatalError if a self-test fails, and the errors of asyncpg.
    """
    for comparison in comparisons:
        noted = await open_divergences(connection, comparison)
        if scope.noted and not noted:
            continue
        run = _ComparisonRun(connection, comparison, scope, noted, repair_range)
        yield await run.verdict()


class _ComparisonRun:
    """The comparison of one projection, and the sums over its ranges."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        comparison: Comparison,
        scope: Scope,
        noted: Sequence[DivergentLocation],
        repair_range: RepairRange | None,
    ) -> None:
        self._connection = connection
        self._comparison = comparison
        self._scope = scope
        self._noted = noted
        self._repair_range = repair_range
        self._compared = self._divergent = self._archived = self._repaired = self._self_tests = 0
        self._timeouts = 0
        """The number of ranges in a row that took too long."""
        self._untested = False
        self._examples: list[str] = []
        self._inconclusive: list[str] = []
        self._locations: set[int | datetime] = set()
        self._agreed: set[int] = set()

    async def verdict(self) -> Verdict:
        """Compare every range of the scope."""
        began = time.monotonic()
        try:
            async for verify_range in ranges(
                self._connection, self._comparison, self._scope, self._noted
            ):
                await self._add_range(verify_range)
        except asyncpg.QueryCanceledError:
            self._inconclusive.append("its ranges: too much for one snapshot")
        if self._untested and not self._self_tests:
            self._inconclusive.append("its self-tests: too much for one snapshot")
        covers_all = self._scope.kind == "all" or self._scope.noted
        if covers_all and not self._divergent and not self._inconclusive:
            self._agreed.update(location.divergence_id for location in self._noted)
        return Verdict(
            projection=self._comparison.name,
            verdict="divergent"
            if self._divergent
            else "inconclusive"
            if self._inconclusive
            else "match",
            scope=self._scope.kind,
            since=None if self._scope.since == BEFORE_ALL else self._scope.since,
            until=None if self._scope.until == AFTER_ALL else self._scope.until,
            compared=self._compared,
            divergent=self._divergent,
            archived=self._archived,
            self_tests=self._self_tests,
            examples=(*self._examples[:EXAMPLES], *self._inconclusive[:EXAMPLES]),
            took_s=time.monotonic() - began,
            locations=tuple(sorted(self._locations)),
            agreed=tuple(sorted(self._agreed)),
            repaired=self._repaired,
        )

    async def _add_range(self, verify_range: VerifyRange) -> None:
        """Compare the range, or its halves if that takes too long."""
        try:
            found = await self._compare(verify_range)
            archived = await self._count_archived(verify_range)
        except asyncpg.QueryCanceledError:
            self._timeouts += 1
            if self._timeouts == MOST_TIMEOUTS:
                raise
            halves = verify_range.halves()
            for half in halves:
                await self._add_range(half)
            if not halves:
                self._inconclusive.append(f"{verify_range}: too much for one snapshot")
            return
        self._timeouts = 0
        self._archived += archived
        self._compared += found.compared
        self._divergent += found.differing
        self._examples += found.examples
        self._locations |= found.locations
        self._agreed.update(
            location.divergence_id
            for location in self._noted
            if location.at in verify_range and location.at not in found.locations
        )
        if found.expected:
            await self._run_self_tests(verify_range)

    async def _compare(self, verify_range: VerifyRange) -> RowDifferences:
        """Compare the range, and repair and compare it again if rows differ."""
        found = await compare(self._connection, self._comparison, verify_range)
        if self._repair_range is not None and found.differing:
            differing = found.differing
            await self._repair_range(self._comparison, verify_range, found)
            found = await compare(self._connection, self._comparison, verify_range)
            self._repaired += max(differing - found.differing, 0)
        return found

    async def _count_archived(self, verify_range: VerifyRange) -> int:
        if self._comparison.archived is None:
            return 0
        archived: int = await self._connection.fetchval(
            self._comparison.archived, *verify_range.bounds
        )
        return archived

    async def _run_self_tests(self, verify_range: VerifyRange) -> None:
        """Run them once, on the range or a part of it. They take longer than a comparison."""
        if self._self_tests:
            return
        try:
            self._self_tests = await run_self_tests(
                self._connection, self._comparison, verify_range
            )
        except asyncpg.QueryCanceledError:
            self._untested = True
            for half in verify_range.halves():
                await self._run_self_tests(half)

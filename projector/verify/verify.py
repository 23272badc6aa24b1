"""Compares projections with the events, range by range, and gives a verdict on each projection.

Each range is compared in one statement, under one snapshot, and projections are exact at every
snapshot. The ranges together therefore cover the whole scope, also while others write. A verdict
of `match` requires that the comparison detected three rows that were tampered with, on every run;
or there was no row to compare.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final

import asyncpg

from projector.hours import AFTER_ALL, BEFORE_ALL
from projector.verify.divergences import open_divergences
from projector.verify.queries import COMPARISONS, Bounds, Comparison
from projector.verify.ranges import DivergentLocation, Scope, VerifyRange, ranges
from projector.verify.row_comparison import (
    MOST_SHARES,
    RowDifferences,
    compare,
    run_self_tests,
)
from projector.verify.verdict import Verdict

EXAMPLES: Final = 10

RepairRange = Callable[[Comparison, VerifyRange, Sequence[RowDifferences]], Awaitable[None]]
"""Repairs a range in which rows differ; the range is compared again afterwards."""


async def verify(
    connection: asyncpg.Connection,
    scope: Scope,
    *,
    comparisons: Sequence[Comparison] = COMPARISONS,
    repair_range: RepairRange | None = None,
    log_hours: Counter[tuple[Bounds, datetime]] | None = None,
) -> AsyncIterator[Verdict]:
    """One verdict for each comparison, as soon as it is reached. Writes only in `repair_range`.

    If the scope covers only open divergences, a projection without one has no verdict.
    `log_hours` are the events of the log by hour, for a projection that may have lost all its rows.
    Raises FatalError if a self-test fails, and the errors of asyncpg.
    """
    for comparison in comparisons:
        noted = await open_divergences(connection, comparison)
        if scope.noted and not noted:
            continue
        run = _ComparisonRun(connection, comparison, scope, noted, repair_range)
        yield await run.verdict(log_hours)


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
        self._shares = 1
        self._examples: list[str] = []
        self._inconclusive: list[str] = []
        self._locations: set[int | datetime] = set()
        self._agreed: set[int] = set()

    async def verdict(self, log_hours: Counter[tuple[Bounds, datetime]] | None) -> Verdict:
        """Compares every range of the scope."""
        began = time.monotonic()
        try:
            async for verify_range in ranges(
                self._connection, self._comparison, self._scope, self._noted, log_hours
            ):
                await self._add_range(verify_range)
        except asyncpg.QueryCanceledError:
            self._inconclusive.append("its ranges: too much for one snapshot")
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
        try:
            await self._add_archived(verify_range)
            await self._compare(verify_range)
        except asyncpg.QueryCanceledError:
            self._inconclusive.append(
                f"{verify_range}: too much for one snapshot, even in {MOST_SHARES} shares"
            )
        else:
            self._add_agreed(verify_range)

    async def _add_archived(self, verify_range: VerifyRange) -> None:
        if self._comparison.archived is None:
            return
        of_executions = self._comparison.bounds == "executions"
        self._archived += await self._connection.fetchval(
            self._comparison.archived,
            *(verify_range.low, verify_range.high),
            *([verify_range.execution_ids] if of_executions else []),
        )

    async def _compare(self, verify_range: VerifyRange) -> None:
        """Compares one range, and repairs and compares it again if rows differ."""
        differences = await self._differences(verify_range)
        differing = sum(one.differing for one in differences)
        if self._repair_range is not None and differing:
            await self._repair_range(
                self._comparison, verify_range, [one for one in differences if one.differing]
            )
            differences = await self._differences(verify_range)
            self._repaired += max(differing - sum(one.differing for one in differences), 0)
        for found in differences:
            # A range that needed more shares predicts that the next one needs them too.
            self._shares = found.shares
            self._compared += found.compared
            self._divergent += found.differing
            self._examples += found.examples
            self._locations |= found.locations
            if found.expected and not self._self_tests:
                self._self_tests = await run_self_tests(
                    self._connection, self._comparison, verify_range, found
                )

    async def _differences(self, verify_range: VerifyRange) -> list[RowDifferences]:
        return await compare(self._connection, self._comparison, verify_range, self._shares)

    def _add_agreed(self, verify_range: VerifyRange) -> None:
        """Adds the open divergences whose location is in this range and agrees now."""
        self._agreed.update(
            location.divergence_id
            for location in self._noted
            if location.at is not None
            and location.at not in self._locations
            and verify_range.holds(location.at)
        )

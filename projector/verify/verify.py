"""Compares projections with the events, range by range, and gives a verdict on each projection.

Projections are exact in every snapshot, and each range is compared in one statement and therefore
in one snapshot. So others can keep writing while a scope is compared range by range. To prove that
a comparison can fail, every run tampers with copies of three rows. A verdict of `match` requires
that the comparison detects all three, unless there's no row to compare.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, Literal

import asyncpg

from projector.hours import END_OF_TIME, START_OF_TIME
from projector.verify.divergences import read_open_divergences
from projector.verify.queries import COMPARISONS, Comparison
from projector.verify.ranges import OpenDivergence, VerifyRange, VerifyScope, ranges_in_scope
from projector.verify.row_comparison import RowDifferences, compare_range, run_self_tests
from projector.verify.verdict import Verdict

_MAX_EXAMPLES: Final = 10

MAX_TIMEOUTS_IN_A_ROW: Final = 40
"""After this many timeouts in a row, the database seems too slow for any range, and the rest isn't
compared. After as many self-tests that timed out, it seems too slow for those. While the whole
calendar is halved, up to 27 ranges in a row may time out until one hour that's too slow is skipped,
and up to 39 for eight adjacent ones. With nine, the wait is some 15 minutes already, so the verdict
is given without the rest."""

RangeRepairer = Callable[[Comparison, VerifyRange, RowDifferences], Awaitable[None]]
"""Repairs a range in which rows differ. The range is compared again afterwards. If this raises
QueryCanceledError, the halves of the range are compared and repaired instead."""


async def verify(
    connection: asyncpg.Connection,
    scope: VerifyScope,
    *,
    comparisons: Sequence[Comparison] = COMPARISONS,
    repair_range: RangeRepairer | None = None,
) -> AsyncIterator[Verdict]:
    """Yield one verdict for each comparison, as soon as it's known.

    If the scope covers only open divergences, this yields nothing for a projection that has none.
    `verify` itself only reads. Pass `repair_range` to correct each range in which a difference is
    found. Raises FatalError if a self-test fails, and asyncpg's errors.
    """
    for comparison in comparisons:
        divergences = await read_open_divergences(connection, comparison)
        if scope.only_open_divergences and not divergences:
            continue
        run = _ComparisonRun(connection, comparison, scope, divergences, repair_range)
        yield await run.compare_scope()


class _ComparisonRun:
    """The comparison of one projection, and the sums over its ranges."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        comparison: Comparison,
        scope: VerifyScope,
        divergences: Sequence[OpenDivergence],
        repair_range: RangeRepairer | None,
    ) -> None:
        self._connection = connection
        self._comparison = comparison
        self._scope = scope
        self._divergences = divergences
        self._open_by_location: dict[int | datetime, list[int]] = {}
        """The ids of the open divergences whose location is known, to find those of a range."""
        for one in divergences:
            if one.at is not None:
                self._open_by_location.setdefault(one.at, []).append(one.divergence_id)
        self._repair_range = repair_range
        # Numbers of rows, as in Verdict.
        self._compared = 0
        self._divergent = 0
        self._archived = 0
        self._repaired = 0
        self._self_tests = 0
        """The number of self-tests that passed. They run once, on the first range with rows."""
        self._self_test_timeouts = 0
        self._timeouts_in_a_row = 0
        self._examples: list[str] = []
        self._unproven_parts: list[str] = []
        """Things that couldn't be compared or proven, so that the verdict is inconclusive."""
        self._divergent_locations: set[int | datetime] = set()
        self._resolved_divergence_ids: set[int] = set()

    async def compare_scope(self) -> Verdict:
        """Compare every range of the scope, and return the verdict."""
        began = time.monotonic()
        try:
            async for verify_range in ranges_in_scope(
                self._connection, self._comparison, self._scope, self._divergences
            ):
                await self._add_range(verify_range)
        except asyncpg.QueryCanceledError:
            self._unproven_parts.append(
                f"everything else: not compared, because {MAX_TIMEOUTS_IN_A_ROW} statements in a "
                "row took longer than a statement may"
                if self._timeouts_in_a_row >= MAX_TIMEOUTS_IN_A_ROW
                else "its ranges: finding them took longer than a statement may"
            )
        if self._compared and not self._self_tests:
            self._unproven_parts.append(
                "its self-tests: took longer than a statement may"
                if self._self_test_timeouts
                else "its self-tests: no event was there to run them on"
            )
        # If a divergence has no location, the difference may be anywhere. Only a comparison that
        # covers everything can resolve it.
        covers_all = self._scope.covers_everything
        if covers_all and not self._divergent and not self._unproven_parts:
            self._resolved_divergence_ids.update(one.divergence_id for one in self._divergences)
        return Verdict(
            projection=self._comparison.name,
            verdict=self._judge(),
            scope=self._scope.kind,
            since=None if self._scope.since == START_OF_TIME else self._scope.since,
            until=None if self._scope.until == END_OF_TIME else self._scope.until,
            compared=self._compared,
            divergent=self._divergent,
            archived=self._archived,
            self_tests=self._self_tests,
            examples=(*self._examples[:_MAX_EXAMPLES], *self._unproven_parts[:_MAX_EXAMPLES]),
            took_s=time.monotonic() - began,
            divergent_locations=tuple(sorted(self._divergent_locations)),
            resolved_divergence_ids=tuple(sorted(self._resolved_divergence_ids)),
            repaired=self._repaired,
        )

    def _judge(self) -> Literal["match", "divergent", "inconclusive"]:
        if self._divergent:
            return "divergent"
        return "inconclusive" if self._unproven_parts else "match"

    async def _add_range(self, verify_range: VerifyRange) -> None:
        """Compare and repair the range, or its halves if any statement for it takes too long.

        That may be a statement of the comparison or of the repair, or one that somebody cancelled,
        because PostgreSQL reports the same error for it.
        """
        try:
            found = await self._compare_and_repair(verify_range)
            archived = await self._count_archived(verify_range)
        except asyncpg.QueryCanceledError:
            self._timeouts_in_a_row += 1
            if self._timeouts_in_a_row == MAX_TIMEOUTS_IN_A_ROW:
                raise
            halves = verify_range.halves()
            for half in halves:
                await self._add_range(half)
            if not halves:
                self._unproven_parts.append(f"{verify_range}: took longer than a statement may")
            return
        self._timeouts_in_a_row = 0
        self._archived += archived
        self._compared += found.compared
        self._divergent += found.differing
        self._examples += found.examples
        self._divergent_locations |= found.divergent_locations
        for at in verify_range.select_locations(self._open_by_location):
            if at not in found.divergent_locations:
                self._resolved_divergence_ids.update(self._open_by_location[at])
        if found.expected:
            await self._run_self_tests(verify_range)

    async def _compare_and_repair(self, verify_range: VerifyRange) -> RowDifferences:
        """Compare the range, and repair and compare it again if rows differ."""
        found = await compare_range(self._connection, self._comparison, verify_range)
        if self._repair_range is not None and found.differing:
            differing = found.differing
            await self._repair_range(self._comparison, verify_range, found)
            # Count the repair already. If the second comparison times out, it's made in halves,
            # which see rows that agree and count nothing.
            self._repaired += differing
            found = await compare_range(self._connection, self._comparison, verify_range)
            self._repaired -= min(found.differing, differing)
        return found

    async def _count_archived(self, verify_range: VerifyRange) -> int:
        if self._comparison.archived is None:
            return 0
        archived: int = await self._connection.fetchval(
            self._comparison.archived, *verify_range.query_parameters
        )
        return archived

    async def _run_self_tests(self, verify_range: VerifyRange) -> None:
        """Run the self-tests once, on the range or, if they time out, on a part of it.

        After too many timeouts in all, no further range is tried.
        """
        if self._self_tests or self._self_test_timeouts >= MAX_TIMEOUTS_IN_A_ROW:
            return
        try:
            self._self_tests = await run_self_tests(
                self._connection, self._comparison, verify_range
            )
        except asyncpg.QueryCanceledError:
            self._self_test_timeouts += 1
            for half in verify_range.halves():
                await self._run_self_tests(half)

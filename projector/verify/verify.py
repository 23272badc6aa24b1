"""Compares projections with the events, range by range, and gives a verdict on each projection.

Projections are exact in every snapshot, and each range is compared in one statement and therefore
in one snapshot. So others can keep writing while a scope is compared range by range. To prove that
a comparison can fail, every run compares the expected rows with copies of them, one of which was
tampered with. A verdict of `match` requires that each of the three tests finds its row, unless
there's no row to compare. The tests replace the projection's rows, so they don't prove that
`Comparison.actual` reads these correctly.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import asyncpg

from projector.hours import END_OF_TIME, START_OF_TIME
from projector.verify.divergences import read_open_divergences
from projector.verify.queries import COMPARISONS, Comparison
from projector.verify.ranges import (
    Location,
    OpenDivergence,
    VerifyRange,
    VerifyScope,
    ranges_in_scope,
)
from projector.verify.row_comparison import RowDifferences, compare_range, run_self_tests
from projector.verify.verdict import ProjectionVerdict

MAX_TIMEOUTS_IN_A_ROW: Final = 40
"""After this many timeouts in a row, the database seems too slow for any range, and the rest isn't
compared. After as many self-tests that timed out, it seems too slow for those. The calendar has
fewer than 2^27 hours, so halving it down to one hour that's too slow takes at most 28 timeouts."""

RangeRepairer = Callable[[Comparison, VerifyRange, RowDifferences], Awaitable[None]]
"""Repairs a range in which rows differ. The range is compared again afterwards. If this raises
QueryCanceledError, the halves of the range are compared and repaired instead."""


async def verify(
    connection: asyncpg.Connection,
    scope: VerifyScope,
    *,
    comparisons: Sequence[Comparison] = COMPARISONS,
    repair_range: RangeRepairer | None = None,
) -> AsyncIterator[ProjectionVerdict]:
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
    """The comparison of one projection. It adds each range to the verdict."""

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
        self._open_by_location: dict[Location, list[int]] = {}
        """The ids of the open divergences whose location is known, to find those of a range."""
        for one in divergences:
            if one.location is not None:
                self._open_by_location.setdefault(one.location, []).append(one.divergence_id)
        self._repair_range = repair_range
        self._rows_to_confirm: dict[Location, int] = {}
        """How many rows differed at each location before its repair, until it's compared again."""
        self._self_test_timeouts = 0
        self._verdict = ProjectionVerdict(
            projection=comparison.name,
            scope=scope.kind,
            since=None if scope.since == START_OF_TIME else scope.since,
            until=None if scope.until == END_OF_TIME else scope.until,
        )

    async def compare_scope(self) -> ProjectionVerdict:
        """Compare every range of the scope, and return the verdict."""
        began = time.monotonic()
        verdict = self._verdict
        verify_ranges = ranges_in_scope(
            self._connection, self._comparison, self._scope, self._divergences
        )
        async for unproven_part in _compare_each(verify_ranges, self._add_range):
            verdict.add_unproven(unproven_part)
        if verdict.compared and not verdict.self_tests:
            verdict.add_unproven(
                "its self-tests: took longer than a statement may"
                if self._self_test_timeouts
                else "its self-tests: no event was there to run them on"
            )
        # If a divergence has no location, the difference may be anywhere. Only a comparison that
        # covers everything can resolve it. That leaves open what was noted since this run began.
        covers_all = self._scope.covers_everything
        if covers_all and verdict.verdict == "match":
            verdict.resolved_divergence_ids.update(one.divergence_id for one in self._divergences)
        verdict.took_s = time.monotonic() - began
        return verdict

    async def _add_range(self, verify_range: VerifyRange) -> None:
        """Compare the range, and add it to the verdict. Repair and compare it again if it differs.

        Raises QueryCanceledError if one of these statements takes too long.
        """
        verdict = self._verdict
        found = await compare_range(self._connection, self._comparison, verify_range)
        # This may be half of a range that was repaired, but then took too long to compare again. If
        # so, only now is it known which of its rows the repair has corrected.
        self._count_repaired(verify_range, found)
        if self._repair_range is not None and found.differing_count:
            self._rows_to_confirm.update(found.differing_by_location)
            await self._repair_range(self._comparison, verify_range, found)
            found = await compare_range(self._connection, self._comparison, verify_range)
            self._count_repaired(verify_range, found)
        archived = 0  # only printed, so events that are deleted meanwhile may count too
        if self._comparison.archived is not None:
            archived = await self._connection.fetchval(
                self._comparison.archived, *verify_range.query_arguments
            )
        verdict.add_range(found, archived)
        for at in verify_range.locations_inside(self._open_by_location):
            if at not in found.differing_by_location:
                verdict.resolved_divergence_ids.update(self._open_by_location[at])
        if found.expected_count:
            await self._run_self_tests(verify_range)

    def _count_repaired(self, verify_range: VerifyRange, found: RowDifferences) -> None:
        """Count the rows of the range that differed before a repair and agree now.

        If a range can't be compared again after its repair, its rows count as not repaired.
        """
        for at in verify_range.locations_inside(self._rows_to_confirm):
            still_differing = found.differing_by_location.get(at, 0)
            self._verdict.repaired += max(self._rows_to_confirm.pop(at) - still_differing, 0)

    async def _run_self_tests(self, verify_range: VerifyRange) -> None:
        """Run the self-tests once, on the range or, if they time out, on a part of it.

        After too many timeouts in all, no further range is tried.
        """
        if self._verdict.self_tests or self._self_test_timeouts >= MAX_TIMEOUTS_IN_A_ROW:
            return
        try:
            self._verdict.self_tests = await run_self_tests(
                self._connection, self._comparison, verify_range
            )
        except asyncpg.QueryCanceledError:
            self._self_test_timeouts += 1
            for half in verify_range.halves():
                await self._run_self_tests(half)


async def _compare_each(
    verify_ranges: AsyncIterator[VerifyRange], compare: Callable[[VerifyRange], Awaitable[None]]
) -> AsyncIterator[str]:
    """Compare each range, or its halves if that takes too long. Yield what couldn't be compared.

    A statement that somebody cancelled counts as one that took too long, because PostgreSQL reports
    the same error for both.
    """
    timeouts_in_a_row = 0
    try:
        async for verify_range in verify_ranges:
            waiting = [verify_range]
            while waiting:
                part = waiting.pop()
                try:
                    await compare(part)
                    timeouts_in_a_row = 0
                except asyncpg.QueryCanceledError:
                    timeouts_in_a_row += 1
                    if timeouts_in_a_row == MAX_TIMEOUTS_IN_A_ROW:
                        yield (
                            f"everything else: not compared, because {MAX_TIMEOUTS_IN_A_ROW} "
                            "statements in a row took longer than a statement may"
                        )
                        return
                    halves = part.halves()
                    waiting += reversed(halves)
                    if not halves:
                        yield f"{part}: took longer than a statement may"
    except asyncpg.QueryCanceledError:
        yield "its ranges: finding them took longer than a statement may"

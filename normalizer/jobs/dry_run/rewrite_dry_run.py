"""Finds out what renormalizing or redacting would change in stored rows, without writing.

It reads the same pages as the job and rewrites them with the same function, but collects the
differences instead of storing them.
"""

from collections.abc import Sequence

import asyncpg

from normalizer.envelope import Envelope
from normalizer.jobs.dry_run.diff import DryRunDiff, find_changed_fields
from normalizer.jobs.engine.id_ranges import BELOW_ALL_IDS, IdRangeWalk, read_pages
from normalizer.jobs.renormalize import ROWS_PER_CHUNK
from normalizer.jobs.rewritten_page import RewritePlan, compute_rewritten_page
from normalizer.runtime.progress import JobProgress
from normalizer.store.retrying_session import RetryingSession
from normalizer.store.session import READ_ONLY_TRANSACTION_SETTINGS


class RewriteDryRun:
    """Fills a diff with the changes that a run would make. It only reads."""

    def __init__(self, database_url: str, plan: RewritePlan, diff: DryRunDiff) -> None:
        self._plan = plan
        self._diff = diff
        self._session = RetryingSession(
            database_url,
            application_name="normalizer dry run",
            settings=READ_ONLY_TRANSACTION_SETTINGS,
        )
        self._id_ranges = IdRangeWalk(self._session.fetch, ROWS_PER_CHUNK)
        self._rows_read = 0

    def work_progress(self) -> JobProgress:
        """Return how far the comparison is."""
        return JobProgress("rows", self._rows_read, self._id_ranges.progress_ratio())

    async def run(self) -> None:
        """Rewrite every row in memory, and compare. Raises StoreUnavailableError and FatalError."""
        try:
            await self._compare_all()
        finally:
            self._session.terminate()

    async def _compare_all(self) -> None:
        async for ids in self._id_ranges.ranges_above(BELOW_ALL_IDS):
            async for records in read_pages(
                self._session, self._plan.find, ids, self._plan.parameters
            ):
                await self._compare(records)

    async def _compare(self, records: Sequence[asyncpg.Record]) -> None:
        what = self._plan
        before = {record["event_id"]: Envelope(**record) for record in records}
        rows = [row for row in before.values() if not what.may_change or what.may_change(row)]
        found = await compute_rewritten_page(rows, what.rewrite, {})
        found.rows = len(records)
        self._rows_read += len(records)
        for event_id, why in found.unreadable:
            self._diff.add_rejection(f"event {event_id}", why.reason, event_id)
        for row in found.changed:
            assert row.event_id is not None
            self._diff.add_changed_row(
                "changed", row.event_id, find_changed_fields(before[row.event_id], row)
            )
        for _ in range(found.unchanged_count):
            self._diff.add_row("unchanged")

"""Brings rows that older rules stored up to date with today's rules.

Run it after an upgrade that changed the rules. From each row it rebuilds the event as the producer
sent it, and normalizes that again. Three results are possible. If the new row is equal, nothing is
written. If it's different, the row is updated and the projections' triggers fire as for any update.
If today's rules would reject the event, the row stays as it is, and the run lists it. Ids and
coordinates never change.

`redact` uses the class `RewriteJob` too, but with a function that redacts each row.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final

import asyncpg
import msgspec

from normalizer.envelope import RULES_VERSION, Envelope
from normalizer.errors import (
    FatalError,
    FencedError,
    ProjectionFailedError,
    RetryableError,
    StoreUnavailableError,
)
from normalizer.jobs.engine.id_ranges import (
    BELOW_ALL_IDS,
    IdRange,
    IdRangeWalk,
    fetch_fitting_rows_and_end,
)
from normalizer.jobs.engine.job_positions import LOCK_JOB_POSITIONS_SQL, move_positions
from normalizer.jobs.engine.job_run import JobRun
from normalizer.jobs.engine.run_progress import RunResult
from normalizer.jobs.engine.runner import JobRunner
from normalizer.jobs.renormalize_row import renormalize_row
from normalizer.jobs.rewritten_page import RewritePlan, RewrittenPage, compute_rewritten_page
from normalizer.jobs.sources.job_source import PartKey, ReadPosition, SourcePart
from normalizer.runtime.backoff import backoff_delay_s, wait_at_most
from normalizer.runtime.logging_setup import OutageLogger, get_logger
from normalizer.runtime.slices import Normalize
from normalizer.store.event_rows import RowRejectedError, update_rows
from normalizer.store.rejected_row_finder import find_rejected_rows
from normalizer.store.session import RetryTransactionError, Session
from normalizer.store.sqlstate import QUERY_CANCELED
from normalizer.store.stored_rows import PostgresStoredEvents
from normalizer.store.write_retry import TRIES_BEFORE_HALVING

ROWS_PER_CHUNK: Final = 1_000
"""How many rows to lock while they're renormalized, which takes some tens of milliseconds."""
_PART: Final[PartKey] = ("events", 0, 0)
_ROUNDS: Final = 5

_log: Final = get_logger()


class RenormalizeSelection(msgspec.Struct, frozen=True, kw_only=True):
    """Which outdated rows to update. None everywhere means all.

    Times are compared with created_at.
    """

    shape: str | None = None
    rule: str | None = None
    from_time: datetime | None = None
    to_time: datetime | None = None


def renormalize_plan(
    selection: RenormalizeSelection,
    normalize: Normalize,
    *,
    find: str,
    rules_version: int = RULES_VERSION,
) -> RewritePlan:
    """Return the plan for a run or a dry run over outdated rows, which `find` selects.

    `rules_version` is the version of `normalize`.
    """
    rule = None if selection.rule is None else msgspec.json.encode([{"rule": selection.rule}])
    times = (selection.from_time, selection.to_time)
    return RewritePlan(
        find=find,
        parameters=(rules_version, selection.shape, rule, *times),
        rewrite=partial(renormalize_row, normalize=normalize),
    )


_ADD_ROW_REJECTIONS: Final = """
    insert into normalizer.job_rejections (job_id, run, event_id, reason, detail)
    select $1::text, $2::integer, rejected.event_id, rejected.reason, rejected.detail
    from   unnest($3::bigint[], $4::text[], $5::text[]) as rejected (event_id, reason, detail)
    on conflict on constraint job_rejections_pkey do nothing
"""


class RewriteJob:
    """One run that rewrites rows of events."""

    def __init__(self, runner: JobRunner, plan: RewritePlan) -> None:
        self._runner = runner
        self._stopping = runner.stopping
        self._plan = plan
        self._session = Session(
            runner.database_url,
            application_name=f"normalizer {runner.spec.kind}",
        )
        self._id_ranges = IdRangeWalk(
            self._session.fetch, runner.throttle.max_batch_rows(ROWS_PER_CHUNK)
        )
        self._outage = OutageLogger(_log)
        self._page_rows = ROWS_PER_CHUNK
        self._changing: list[int] = []
        """The ids of the rows that the current page changes."""
        self._failures_of_one = 0
        self._rejected: dict[int, str | None] = {}
        """The rows of the current page that the database rejected, each with its SQLSTATE."""

    async def run(self) -> RunResult:
        """Rewrite every row that today's rules change."""
        try:
            return await self._runner.run(self._work, self._id_ranges.progress_ratio)
        finally:
            self._session.terminate()

    async def _work(self, run: JobRun, _tasks: asyncio.TaskGroup) -> None:
        """Rewrite pages from the position on.

        After a failure, repeat from the last committed page.
        """
        at = (await run.read_or_create_positions([SourcePart(key=_PART, start=0)]))[_PART]
        while not self._stopping.is_set():
            finishing = False
            try:
                walk = self._id_ranges.ranges_above(_last_id(at), rows_walked=at.next_offset)
                async for ids in walk:
                    while _last_id(at) < ids.high:
                        at = await self._rewrite(run, ids, at)
                        self._outage.count_success()
                        if self._stopping.is_set():
                            return
                finishing = True
                await self._finish()
            except RetryableError as error:
                if finishing or not self._give_way(error):
                    await wait_at_most(
                        self._stopping, backoff_delay_s(self._outage.count_failure(error))
                    )
                # A commit may have succeeded although its response was lost.
                at = await self._stored_position(run, at)
            else:
                return

    def _give_way(self, error: RetryableError) -> bool:
        """React to a failed page: make the next page smaller, or give up on the row at fault.

        A page may fail because it takes too long or because a projection rejects it. It's made
        smaller until it has one row. If a projection still fails for that row after several tries,
        the row counts as rejected. Returns True if the caller should try again at once. Otherwise
        the caller waits first, because the rows may not be the cause, and the failure may go away
        by itself.
        """
        if not isinstance(error, StoreUnavailableError):
            return False
        in_projection = isinstance(error, ProjectionFailedError)
        if not in_projection and error.sqlstate != QUERY_CANCELED:
            return False
        if self._page_rows > 1:
            self._page_rows = max(self._page_rows // 4, 1)
            return True
        self._failures_of_one += 1
        if not in_projection or self._failures_of_one < TRIES_BEFORE_HALVING:
            return False
        self._rejected |= dict.fromkeys(self._changing, error.sqlstate)
        return True

    async def _finish(self) -> None:
        """Do the work that comes after the last row. It's repeated after an outage."""

    async def _stored_position(self, run: JobRun, at: ReadPosition) -> ReadPosition:
        try:
            return (await run.read_or_create_positions([]))[_PART]
        except RetryableError:
            return at

    async def _rewrite(self, run: JobRun, ids: IdRange, at: ReadPosition) -> ReadPosition:
        """Write the next page of a range in one transaction. Returns the position after it."""
        throttle = self._runner.throttle
        most = throttle.max_batch_rows(ROWS_PER_CHUNK)
        await throttle.acquire(most, self._stopping)
        if self._stopping.is_set():
            return at
        rest = ids._replace(low=max(ids.low, _last_id(at) + 1))
        for _ in range(_ROUNDS):
            with contextlib.suppress(RetryTransactionError):
                try:
                    write = partial(self._write, run, rest, at)
                    after = await self._session.run_in_transaction(write)
                except RowRejectedError:
                    find = partial(self._find_rejected, rest)
                    self._rejected |= await self._session.run_in_transaction(find, rolled_back=True)
                else:
                    self._page_rows = min(2 * self._page_rows, ROWS_PER_CHUNK)
                    self._failures_of_one = 0
                    self._rejected.clear()
                    throttle.refund(most - (after.next_offset - at.next_offset))
                    return after
        raise FatalError(
            f"events {rest.low} to {rest.high} can't be updated, because the database rejected "
            f"different rows in each of {_ROUNDS} tries. Run the same command again to resume"
        )

    async def _write(
        self,
        run: JobRun,
        rest: IdRange,
        at: ReadPosition,
        connection: asyncpg.Connection,
    ) -> ReadPosition:
        job = (run.spec.job_id, run.number)
        locked = await connection.fetch(LOCK_JOB_POSITIONS_SQL, *job, *([value] for value in _PART))
        if not locked or locked[0]["epoch"] != run.epoch:
            raise FencedError("another process took over this run", topic=_PART[0], partition=0)
        found, last_id = await self._rewrite_page(connection, rest)
        await update_rows(connection, found.changed)
        if found.unreadable:
            listed = [(event_id, why.reason, why.detail) for event_id, why in found.unreadable]
            await connection.execute(
                _ADD_ROW_REJECTIONS, *job, *map(list, zip(*listed, strict=True))
            )
        after = ReadPosition(next_offset=at.next_offset + found.rows, cursor=str(last_id))
        outcome_counts = (
            0,
            0,
            0,
            0,
            0,
            len(found.changed),
            found.unchanged_count,
            len(found.unreadable),
        )
        moved = (
            *_PART,
            after.next_offset,
            after.cursor,
            0,
            found.rows,
            0,
            found.rows,
            *outcome_counts,
        )
        await move_positions(connection, run, [moved])
        return after

    async def _find_rejected(
        self, rest: IdRange, connection: asyncpg.Connection
    ) -> dict[int, str | None]:
        """Find the rows whose new form the database rejects. The caller rolls everything back."""
        found, _ = await self._rewrite_page(connection, rest)

        async def change(some: Sequence[Envelope]) -> None:
            await update_rows(connection, some)

        return await find_rejected_rows(connection, found.changed, change)

    async def _rewrite_page(
        self, connection: asyncpg.Connection, rest: IdRange
    ) -> tuple[RewrittenPage, int]:
        """Read and rewrite the next page of a range. Returns it with the page's last id."""
        what = self._plan
        records, last_id = await fetch_fitting_rows_and_end(
            what.find, rest, what.parameters, connection
        )
        if len(records) > self._page_rows:
            records = records[: self._page_rows]
            last_id = records[-1]["event_id"]
        rows = [Envelope(**record) for record in records]
        if what.may_change:
            # The rows were read without a lock. Lock those that may change, and read them again.
            ids = [row.event_id or 0 for row in rows if what.may_change(row)]
            rows = list((await PostgresStoredEvents(connection).select_for_update(ids)).values())
        found = await compute_rewritten_page(rows, what.rewrite, self._rejected)
        found.rows = len(records)
        self._changing = [row.event_id or 0 for row in found.changed]
        return found, last_id


def _last_id(at: ReadPosition) -> int:
    """Return the id up to which rows were renormalized."""
    return int(at.cursor or BELOW_ALL_IDS)

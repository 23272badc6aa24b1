"""A source of history in, the rows the service would make of it out, until its end or a stop.

The next batch is read and normalised while the last one is written. A batch moves the job's own
positions in its transaction, so that a kill at any moment loses and doubles nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from normalizer.batch import Batch, Item
from normalizer.delivery import deliver
from normalizer.envelope import Outcome
from normalizer.errors import FatalError, Fenced, NormalizerError, PositionError, RetryableError
from normalizer.jobs.asked import Asked
from normalizer.jobs.filling import Filling
from normalizer.jobs.pace import Pace
from normalizer.jobs.positions import JobPositions
from normalizer.jobs.reporting import Progress, Verdict
from normalizer.jobs.runs import Beat, Run, State
from normalizer.jobs.source import At, Page, PartKey, Source
from normalizer.quarantine import RefusalLines
from normalizer.record import RawRecord
from normalizer.settings import Settings
from normalizer.store import Store
from normalizer.telemetry import Outage, get_logger

RECORDS_A_SLICE: Final = 100
"""Normalised without a pause: a few milliseconds, so that a COPY beside it keeps streaming."""
BEAT_EVERY_S: Final = 1.0
LONGEST_WAIT_S: Final = 10.0
SESSION: Final = {"projector.shard_base": "8"}
"""A job counts in shards of its own, so that it never waits for the service on a counter."""

Normalize = Callable[[RawRecord], tuple[Outcome, ...]]

_log: Final = get_logger()


class Backfill:
    """One run of a backfill. `run` ends at the source's end, after `stop`, or with a failure."""

    def __init__(
        self,
        settings: Settings,
        asked: Asked,
        source: Source,
        *,
        normalize: Normalize,
        pace: Pace,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert settings.database_url
        self._settings = settings
        self._database_url = settings.database_url
        self._asked = asked
        self._source = source
        self._normalize = normalize
        self._pace = pace
        self._progress = progress
        self._clock = clock
        self._stopping = asyncio.Event()
        self._over = asyncio.Event()
        self._deadline = asyncio.timeout(None)
        self._outage = Outage(_log, clock)
        self._refusals = RefusalLines(_log, clock)
        self._batch_rows = pace.rows_at_once(settings.batch_rows)

    def stop(self) -> None:
        """Write what is in hand, then end `run`; the same command goes on from there."""
        self._stopping.set()
        self._over.set()
        now_s = asyncio.get_running_loop().time()
        self._deadline.reschedule(now_s + self._settings.stop_timeout_s)

    async def run(self) -> Verdict:
        """Read, normalise and store. Raises what keeps it from beginning, or from its verdict."""
        began_s = self._clock()
        async with contextlib.AsyncExitStack() as opened:
            run = await opened.enter_async_context(
                await Run.begin(self._database_url, self._asked, owner=self._settings.owner)
            )
            self._pace.held_before(run.held_before_s)
            _log.info("started", job=self._asked.job_id, run=run.number, resumed=run.resumed)
            await opened.enter_async_context(self._source)
            positions = JobPositions(run, keyed=self._source.keyed)
            store = await opened.enter_async_context(
                Store(
                    self._database_url,
                    owner=self._settings.owner,
                    application_name=f"normalizer {self._asked.kind}",
                    positions=positions,
                    session=SESSION,
                )
            )
            state, reason = await self._played(run, store, positions)
            totals = await run.totals()
            if state == "complete" and (totals.expired or self._source.truncated):
                state = "truncated"
                reason = self._source.truncated or (
                    f"retention took {totals.expired:,} offsets before they were read"
                )
            await run.end(state, reason)
            self._refusals.say()
            return Verdict(
                job_id=self._asked.job_id,
                run=run.number,
                state=state,
                reason=reason,
                totals=totals,
                took_s=self._clock() - began_s,
                held_s=dict(self._pace.held_s),
            )

    async def _played(self, run: Run, store: Store, positions: JobPositions) -> tuple[State, str]:
        """The state it came to, and why where that is no success."""
        try:
            async with self._deadline, asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pace.watch(self._over), name="live traffic")
                tasks.create_task(self._keep_beating(run), name="beat")
                await self._transfer(run, store, positions, tasks)
                self._over.set()
        except TimeoutError:
            _log.warning("deadline_passed", why="what was in flight is rolled back")
        except BaseExceptionGroup as errors:
            worst = _worst(errors)
            if isinstance(worst, Fenced):
                raise FatalError(
                    f"job {self._asked.job_id}: another runner took it over"
                ) from errors
            if not isinstance(worst, NormalizerError):
                raise worst from errors
            return "failed", str(worst)
        return ("stopped", "") if self._stopping.is_set() else ("complete", "")

    async def _transfer(
        self, run: Run, store: Store, positions: JobPositions, tasks: asyncio.TaskGroup
    ) -> None:
        """From the positions to the end; each batch fills while the one before it is written."""
        writing: asyncio.Task[None] | None = None
        filling = Filling(run.epoch)
        parts = await self._source.parts()
        try:
            async for page in self._pages(await run.positions(parts)):
                if page.expired:
                    positions.note_expired(page.part, page.expired)
                filling.add(page, await self._items(page))
                if (
                    filling.rows >= self._batch_rows
                    or filling.value_bytes >= self._settings.batch_bytes
                ):
                    writing = await self._hand_over(store, filling, writing, tasks)
                    filling = Filling(run.epoch)
                if self._stopping.is_set():
                    break
        except FatalError:
            # What was read before the source broke is kept.
            writing = await self._hand_over(store, filling, writing, tasks)
            if writing:
                await asyncio.wait([writing])
            raise
        if not self._stopping.is_set():
            writing = await self._hand_over(store, filling, writing, tasks)
        if writing:
            await asyncio.wait([writing])

    async def _hand_over(
        self,
        store: Store,
        filling: Filling,
        writing: asyncio.Task[None] | None,
        tasks: asyncio.TaskGroup,
    ) -> asyncio.Task[None] | None:
        """Let the filled batch be written once the one before it is."""
        if writing:
            await asyncio.wait([writing])
            writing.result()
        if not filling:
            return None
        return tasks.create_task(
            self._write(store, filling.sealed(), filling.records), name="write"
        )

    async def _pages(self, positions: dict[PartKey, At]) -> AsyncIterator[Page]:
        """The source's pages; where it is away, it is read on when it is back."""
        tries = 0
        while True:
            try:
                async for page in self._source.read(positions):
                    if self._outage.over():
                        tries = 0
                    yield page
                    positions[page.part] = _after(page, positions[page.part], self._source.keyed)
            except RetryableError as error:
                self._outage.failed(error)
                tries += 1
                await _pause(self._stopping, min(LONGEST_WAIT_S, 0.2 * 2**tries))
                if self._stopping.is_set():
                    return
            else:
                return

    async def _items(self, page: Page) -> list[Item]:
        """The records with their outcomes, normalised slice by slice."""
        items: list[Item] = []
        for start in range(0, len(page.records), RECORDS_A_SLICE):
            records = page.records[start : start + RECORDS_A_SLICE]
            items += [(record, self._normalize(record)) for record in records]
            await asyncio.sleep(0)
        return items

    async def _write(self, store: Store, batch: Batch, records: int) -> None:
        await self._pace.turn(records, self._stopping)
        if self._stopping.is_set():
            return
        try:
            totals = await deliver(store, batch, stop=self._stopping)
        except RetryableError as error:
            _log.info("batch_rolled_back", why=str(error))
            return
        self._refusals.add(batch, totals)

    async def _keep_beating(self, run: Run) -> None:
        """Say how it is getting on, on the screen and in the table."""
        while not self._over.is_set():
            await _pause(self._over, BEAT_EVERY_S)
            with contextlib.suppress(RetryableError):
                totals = await run.totals()
                self._progress.see(totals.records, self._source.share())
                self._progress.say(totals, self._pace.held_by)
                await run.beat(
                    Beat(
                        share=self._source.share(),
                        records_per_s=self._progress.records_per_s,
                        held_by_lag_s=self._pace.held_s["live_lag"],
                        held_by_rate_s=self._pace.held_s["max_rate"],
                    )
                )


def _after(page: Page, at: At, keyed: bool) -> At:  # noqa: FBT001
    key = page.records[-1].key if keyed and page.records else None
    return At(
        next_offset=page.next_offset, end=at.end, cursor=at.cursor if key is None else key.decode()
    )


def _worst(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that stands for a group: a lost job first, then a fatal one, else the first."""
    leaves = [
        _worst(error) if isinstance(error, BaseExceptionGroup) else error
        for error in errors.exceptions
    ]
    for kind in (Fenced, PositionError, FatalError):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


async def _pause(event: asyncio.Event, wait_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await event.wait()

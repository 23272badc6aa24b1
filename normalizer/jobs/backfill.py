"""Reads a source of history, normalizes its records, and stores the events as the service does.

While one batch is written, the next ones are already read and normalized. Batches are written one
at a time and in order, and each transaction also advances the job's position. So no event is lost
or stored twice, no matter when the job is killed. `Backfill` needs a source (`jobs/sources`) and a
JobRunner, which is the same for all jobs. `redrive` runs a `Backfill` with the quarantine as its
source.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Final

import msgspec

from normalizer.core.batch import (
    Batch,
    BatchBuilder,
    PartitionBatch,
    RecordWithOutcomes,
    offset_after_records_and_holes,
)
from normalizer.errors import FatalError, RetryableError
from normalizer.jobs.engine.job_positions import JobPositions
from normalizer.jobs.engine.job_run import JobRun
from normalizer.jobs.engine.run_progress import RunResult
from normalizer.jobs.engine.runner import JobRunner
from normalizer.jobs.sources.job_source import (
    JobSource,
    PartKey,
    ReadPosition,
    SourcePage,
    SourcePart,
)
from normalizer.runtime.backoff import backoff_delay_s, wait_at_most
from normalizer.runtime.logging_setup import OutageLogger, get_logger
from normalizer.runtime.slices import Normalize, normalize_in_slices
from normalizer.store.quarantine_reader import RejectionLogger
from normalizer.store.store import Store
from normalizer.store.write_retry import write_with_retry

_BATCHES_WAITING: Final = 1
"""How many full batches may wait in memory, besides the one that's being written and the one that's
being filled. With one waiting, neither reading nor writing has to stop if one batch takes longer
than the next."""

_Filled = tuple[BatchBuilder, float | None]
"""A full batch, and the share of the source that's read when the batch ends."""

_log: Final = get_logger()


class Backfill:
    """One run of a backfill. `run` returns at the end of the source, or after a stop.

    Pass `build_positions` to record more than the position in each transaction. For example,
    `redrive` uses it to record the outcome of each quarantine entry. Without `accept_expired`, the
    run fails at the first event that's older than the retention of events.
    """

    def __init__(
        self,
        runner: JobRunner,
        source: JobSource,
        normalize: Normalize,
        *,
        build_positions: Callable[[JobRun], JobPositions] | None = None,
        accept_expired: bool = False,
    ) -> None:
        self.runner = runner
        self._build_positions = build_positions
        self._source = source
        self._normalize = normalize
        self._accept_expired = accept_expired
        self._stopping = runner.stopping
        self._batch_rows = runner.throttle.max_batch_rows(runner.settings.batch_rows)
        self._outage = OutageLogger(_log)
        self._parts: list[SourcePart] = []
        self._share_read: float | None = None
        self._share_written: float | None = None
        """The share of the source that's written. Reading may be far ahead of it."""
        self._rejections = RejectionLogger(_log)

    async def run(self) -> RunResult:
        """Read, normalize, and store. If the source fails at once, no run begins."""
        async with self._source:
            self._parts = await self._source.list_parts()
            result = await self.runner.run(self._work, lambda: self._share_written)
        self._rejections.flush()
        return result

    async def _work(self, run: JobRun, tasks: asyncio.TaskGroup) -> str | None:
        positions = (
            self._build_positions(run)
            if self._build_positions
            else JobPositions(
                run,
                needs_cursor=self._source.positions_need_cursor,
                cluster_id=self._source.cluster_id,
            )
        )
        async with Store(
            self.runner.database_url,
            owner=self.runner.settings.process_name,
            application_name=f"normalizer {run.spec.kind}",
            positions=positions,
            on_commit=self._rejections.count_rejections,
            accept_expired=self._accept_expired,
        ) as store:
            await self._transfer(run, store, positions, tasks)
        return self._source.truncation_reason

    async def _transfer(
        self, run: JobRun, store: Store, positions: JobPositions, tasks: asyncio.TaskGroup
    ) -> None:
        """Read the source from the positions to its end, and write what was read.

        Two tasks share the work. This one reads the source and fills batches, and the other one
        writes them at the same time. If the source fails, the records that were read before are
        still written, and then its error is raised.
        """
        queue: asyncio.Queue[_Filled | None] = asyncio.Queue(_BATCHES_WAITING)
        writing = tasks.create_task(self._write_batches(store, queue), name="write")
        broken: FatalError | None = None
        try:
            async with contextlib.aclosing(self._full_batches(run, positions)) as batches:
                async for filled in batches:
                    await queue.put(filled)
        except FatalError as error:
            broken = error
        await queue.put(None)
        await asyncio.wait([writing])
        if broken:
            raise broken

    async def _full_batches(
        self, run: JobRun, positions: JobPositions
    ) -> AsyncGenerator[_Filled, None]:
        """Yield full batches, and then the rest, even if the source has failed."""
        builder = BatchBuilder()
        try:
            positions_now = await run.read_or_create_positions(self._parts)
            async with contextlib.aclosing(self._pages(positions_now)) as pages:
                async for page in pages:
                    if page.expired:
                        positions.add_expired_ranges(page.part, page.expired)
                    async for piece, items in normalize_page(
                        page, self._normalize, room=self._batch_rows
                    ):
                        builder.add_part(to_batch_part(piece, items, epoch=run.epoch))
                        if builder.is_full(self._batch_rows):
                            yield builder, self._share_read
                            builder = BatchBuilder()
                    if self._stopping.is_set():
                        break
        except FatalError:
            yield builder, self._share_read
            raise
        yield builder, self._share_read

    async def _write_batches(self, store: Store, queue: asyncio.Queue[_Filled | None]) -> None:
        """Write batches from the queue until None comes.

        After a stop, take them without writing.
        """
        while (filled := await queue.get()) is not None:
            builder, share = filled
            if builder and await self._write(store, builder.build(), builder.records):
                self._share_written = share

    async def _pages(
        self, positions: dict[PartKey, ReadPosition]
    ) -> AsyncGenerator[SourcePage, None]:
        """Yield the source's pages. If the source has an outage, wait and then continue."""
        while True:
            try:
                async with contextlib.aclosing(self._source.read(positions)) as read:
                    async for whole in read:
                        self._outage.count_success()
                        before, after = self._share_read or 0.0, self._source.progress_ratio()
                        for page in split_page(whole, self._batch_rows):
                            yield page
                            positions[page.part] = _after(
                                page,
                                positions[page.part],
                                needs_cursor=self._source.positions_need_cursor,
                            )
                            if after is not None:
                                self._share_read = before + (after - before) * _passed(whole, page)
            except RetryableError as error:
                await wait_at_most(
                    self._stopping, backoff_delay_s(self._outage.count_failure(error))
                )
                if self._stopping.is_set():
                    return
            else:
                return

    async def _write(self, store: Store, batch: Batch, records: int) -> bool:
        """Write the batch. Returns False if a stop came before that."""
        await self.runner.throttle.acquire(records, self._stopping)
        if self._stopping.is_set():
            return False
        try:
            await write_with_retry(store, batch, stop=self._stopping)
        except RetryableError as error:
            _log.info("batch.rolled_back", why=str(error))
            return False
        return True


async def normalize_page(
    page: SourcePage, normalize: Normalize, *, room: int | None = None
) -> AsyncGenerator[tuple[SourcePage, list[RecordWithOutcomes]], None]:
    """Yield the page in pieces, each with the outcomes of its records.

    Other tasks can run between two pieces.
    """
    async for items in normalize_in_slices(page.records, normalize, room=room):
        left = len(page.records) - len(items)
        piece, page = split_page_at(page, len(items)) if left else (page, page)
        yield piece, items
        await asyncio.sleep(0)
        if not left:
            return
    yield page, []


def _after(page: SourcePage, at: ReadPosition, *, needs_cursor: bool) -> ReadPosition:
    key = page.records[-1].key if needs_cursor and page.records else None
    cursor = at.cursor if key is None else key.decode()
    return msgspec.structs.replace(at, next_offset=page.next_offset, cursor=cursor)


def _passed(whole: SourcePage, page: SourcePage) -> float:
    """Return which share of the whole page has been read at the end of this piece."""
    return (page.next_offset - whole.from_offset) / (whole.next_offset - whole.from_offset)


def split_page(page: SourcePage, max_records: int) -> Iterator[SourcePage]:
    """Split the page into pages of at most this many records."""
    while len(page.records) > max_records:
        piece, page = split_page_at(page, max_records)
        yield piece
    yield page


def split_page_at(page: SourcePage, record_count: int) -> tuple[SourcePage, SourcePage]:
    """Return a page with this many records and the holes that follow them, and the rest."""
    boundary = offset_after_records_and_holes(record_count, page.from_offset, page.holes)
    piece = msgspec.structs.replace(
        page,
        next_offset=boundary,
        records=page.records[:record_count],
        holes=tuple(hole for hole in page.holes if hole[0] < boundary),
    )
    rest = msgspec.structs.replace(
        page,
        from_offset=boundary,
        records=page.records[record_count:],
        holes=tuple(hole for hole in page.holes if hole[0] >= boundary),
    )
    return piece, rest


def to_batch_part(
    page: SourcePage, outcomes: list[RecordWithOutcomes], *, epoch: int = 0
) -> PartitionBatch:
    """Return the page as a part of a batch, with the outcomes of its records."""
    topic, incarnation, partition = page.part
    return PartitionBatch(
        topic=topic,
        incarnation=incarnation,
        partition=partition,
        epoch=epoch,
        from_offset=page.from_offset,
        next_offset=page.next_offset,
        items=outcomes,
        holes=page.holes,
    )

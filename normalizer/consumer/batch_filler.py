"""Fills a batch until it's full, or until it's due and the previous batch has been written."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from normalizer.config.settings import Settings
from normalizer.consumer.chunk_normalizer import ChunkNormalizer
from normalizer.consumer.fetch_scheduler import ClaimedChunk, FetchScheduler
from normalizer.core.batch import Batch, BatchBuilder
from normalizer.runtime.backoff import wait_at_most

_MAX_FETCH_RECORDS: Final = 500
"""The most records that one fetch returns."""
_IDLE_WAIT_S: Final = 0.5
"""The longest wait for records, after which the service looks again whether it must stop."""
_DUE_AFTER_WRITES: Final = 2.0
"""A batch is due when it's this many times as old as the last write took, or when it reaches the
maximum age (NORMALIZER_BATCH_AGE_MS) if that's sooner. So a process with little to do spends about
half of its time writing."""
_FEW_RECORDS: Final = 100
"""A fetch with fewer records than this counts as small. After two small fetches in a row, wait
until the batch is due, or for _IDLE_WAIT_S, because a fetch costs as much as normalizing ten
records. A single small fetch doesn't count, because it may be the rest of a large response."""
_PAUSE_S: Final = 0.01
"""How long a fetch waits for records while they keep coming, and how long a batch that is due waits
for the previous write at a time."""
_FRESH_RECORDS_WAIT_S: Final = 0.003
"""How long a batch that is due waits for records that have just reached the broker. aiokafka
requests them only after we have taken its previous response."""

CloseReason = Literal["rows", "bytes", "age", "suspect", "fetch_failed", "stop"]
"""Why a batch was closed: it's full of rows or bytes, or due. Or a partition is a suspect, a fetch
has failed, or the service stops."""


class FilledBatch(NamedTuple):
    """A batch to write, with the reason why nothing more is added to it."""

    batch: Batch
    closed_by: CloseReason


class BatchFiller:
    """Fills one batch after the other.

    Records for which a batch had no room go into the next one.
    """

    def __init__(
        self,
        settings: Settings,
        scheduler: FetchScheduler,
        chunk_normalizer: ChunkNormalizer,
        stopping: asyncio.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._scheduler = scheduler
        self._chunk_normalizer = chunk_normalizer
        self._stopping = stopping
        self._clock = clock
        self._left: list[ClaimedChunk] = []
        """The records for which the last batch had no room. Their claim may have ended since.

        That's safe. They're added before anything is fetched, so records of a newer claim replace
        them (`BatchBuilder.add_part`). If there are none, `only_current_claims` drops them before
        the write."""
        self._last_write_s = 0.0

    def note_write_duration(self, took_s: float) -> None:
        """Note how long the last batch took to write. The age at which the next is due follows."""
        self._last_write_s = took_s

    async def fill_batch(self, writing: asyncio.Task[None] | None) -> FilledBatch | None:
        """Return the next batch, or None if there was no record before a stop or a new suspect.

        Normally the batch is filled while the task `writing` still writes the previous one. If a
        partition is a suspect, i.e. if its last owner was killed, the previous batch is written
        first instead. The process then works on the records of only one batch, so if it's killed
        too, one of them is to blame.
        """
        if not self._scheduler.has_suspects:
            builder = BatchBuilder()
            closed_by = await self._fill(builder, writing, for_suspects=False)
        else:
            if writing:
                await asyncio.wait([writing])
            builder = BatchBuilder()
            if alone := await self._scheduler.fetch_one_suspect_record():
                await self._add(builder, alone)
                closed_by = "suspect"
            else:
                closed_by = await self._fill(builder, None, for_suspects=True)
        return FilledBatch(builder.build(), closed_by) if builder else None

    async def _fill(
        self, builder: BatchBuilder, writing: asyncio.Task[None] | None, *, for_suspects: bool
    ) -> CloseReason:
        """Fetch into the batch until it's full, or until it's due and `writing` has ended.

        Returns why it ended.

        The batch is due at `due_s`, which is set by its first records.
        """
        # Don't wait for a batch of suspects to fill up. A suspect is a partition whose last owner
        # was killed, perhaps by one of its records. If this process is killed too, a small batch
        # leaves only a few records that may be to blame.
        due_s = self._clock() if for_suspects else None
        fetched = small_fetches = 0
        while not (closed_by := self._why_close(builder, for_suspects=for_suspects)):
            left_s = _IDLE_WAIT_S if due_s is None else due_s - self._clock()
            is_due = left_s <= 0 and (writing is None or writing.done())
            room = min(self._settings.batch_rows - builder.rows, _MAX_FETCH_RECORDS)
            if self._left:
                # The records left over from the last batch say nothing about how many there are to
                # fetch. So act as if the last fetch had returned as many as there was room for.
                chunks, fetched = self._left, room
            else:
                wait_s = _IDLE_WAIT_S
                if due_s is not None:
                    wait_s = _wait_s(left_s, fetched, small_fetches, is_due=is_due)
                if not wait_s:
                    # Records trickle in. Let some arrive, and fetch them without waiting.
                    longest_s = _IDLE_WAIT_S if small_fetches > 1 else _PAUSE_S
                    await self._pause(writing, min(left_s, longest_s))
                fetch = await self._scheduler.fetch(room, wait_s)
                if fetch is None:
                    if builder:
                        # Write the batch now, because rejoining or stopping ends its claims.
                        return "fetch_failed"
                    await wait_at_most(self._stopping, _IDLE_WAIT_S)
                    continue
                chunks, fetched = fetch, sum([len(one.records) for _, one in fetch])
                if fetched:
                    is_small = fetched < min(room, _FEW_RECORDS)
                    small_fetches = small_fetches + 1 if is_small else 0
            self._left = await self._add(builder, chunks)
            # A fetch that returned all that there was room for has probably left more. So continue,
            # even if the batch is due.
            if is_due and fetched < room and not self._left:
                return "suspect" if for_suspects else "age"
            if builder and due_s is None:
                due_s = self._clock() + self._age_s()
        return closed_by

    def _why_close(self, builder: BatchBuilder, *, for_suspects: bool) -> CloseReason | None:
        """Return why the batch must be written now, without fetching more records into it.

        When a partition becomes a suspect, its records must go into a new batch.
        """
        if limit := builder.why_full(self._settings.batch_rows):
            return limit
        if self._stopping.is_set():
            return "stop"
        return "suspect" if self._scheduler.has_suspects and not for_suspects else None

    async def _add(self, builder: BatchBuilder, chunks: list[ClaimedChunk]) -> list[ClaimedChunk]:
        """Add the chunks to the batch.

        Returns the chunks, or parts of them, for which it has no room.
        """
        for at, (claim, chunk) in enumerate(chunks, 1):
            rest = await self._chunk_normalizer.normalize_chunk(builder, claim, chunk)
            if rest or builder.is_full(self._settings.batch_rows):
                return ([(claim, rest)] if rest else []) + chunks[at:]
        return []

    def _age_s(self) -> float:
        """Return how old a batch may become before it's written."""
        return min(self._settings.batch_age_ms / 1000, _DUE_AFTER_WRITES * self._last_write_s)

    async def _pause(self, writing: asyncio.Task[None] | None, left_s: float) -> None:
        """Wait until the batch is due.

        If it already is, wait up to _PAUSE_S for the previous write.
        """
        if left_s > 0:
            await wait_at_most(self._stopping, left_s)
        elif writing:
            await asyncio.wait([writing], timeout=_PAUSE_S)


def _wait_s(left_s: float, fetched: int, small_fetches: int, *, is_due: bool) -> float:
    """Return how long the next fetch waits for a first record. 0.0 means to pause before it."""
    if is_due:
        return _FRESH_RECORDS_WAIT_S
    if not fetched and left_s > 0:
        # Nothing came, so wait for a record until the batch is due.
        return min(left_s, _IDLE_WAIT_S)
    return 0.0 if small_fetches else _PAUSE_S

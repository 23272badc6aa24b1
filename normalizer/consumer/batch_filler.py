"""Fills a batch until it's full, or until it's due and the previous batch has been written."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from normalizer.config.settings import Settings
from normalizer.consumer.intake import Intake
from normalizer.consumer.turns import ClaimedChunk, Turns
from normalizer.core.batch_builder import BatchBuilder
from normalizer.runtime.pause import wait_at_most

RECORDS_A_FETCH: Final = 500
IDLE_S: Final = 0.5
WRITES_OF_AGE: Final = 2.0
"""A batch is due when it's this many times as old as the last write took, or when it reaches the
maximum age (NORMALIZER_BATCH_AGE_MS) if that's sooner. So a process with little to do spends about
half of its time writing."""
FEW_RECORDS: Final = 100
"""A fetch with fewer records than this counts as small. After two small fetches in a row, wait
until the batch is due, or for IDLE_S, because a fetch costs as much as normalizing ten records. A
single small fetch doesn't count, because it may be the rest of a large response."""
PAUSE_S: Final = 0.01
FRESH_S: Final = 0.003
"""How long a batch that is due waits for records that have just reached the broker. aiokafka
requests them only after we have taken its previous response."""


class BatchFiller:
    """Fills one batch after the other.

    Records for which a batch had no room go into the next one.
    """

    def __init__(
        self,
        settings: Settings,
        turns: Turns,
        intake: Intake,
        stopping: asyncio.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._turns = turns
        self._intake = intake
        self._stopping = stopping
        self._clock = clock
        self._left: list[ClaimedChunk] = []
        self.last_write_s = 0.0
        """How long the last batch took to write."""

    async def fill(self, writing: asyncio.Task[None] | None) -> BatchBuilder:
        """Return the next batch.

        It's empty if the service stops, or if a suspect has no record yet.

        A suspect is a partition whose last owner was killed. Without suspects, the batch is filled
        while the previous one is being written (`writing`), until it's full. With suspects, the
        previous batch is written first, so that the process works on the records of a single batch.
        """
        if not self._turns.has_suspects:
            return await self._fill(BatchBuilder(), writing, None)
        if writing:
            await asyncio.wait([writing])
        builder = BatchBuilder()
        if alone := await self._turns.fetch_alone():
            await self._add(builder, alone)
            return builder
        return await self._fill(builder, None, self._clock())

    async def _fill(
        self, builder: BatchBuilder, writing: asyncio.Task[None] | None, due_s: float | None
    ) -> BatchBuilder:
        fetched = few = 0
        while not (self._ends(due_s) or self._intake.is_full(builder)):
            left_s = IDLE_S if due_s is None else due_s - self._clock()
            is_due = left_s <= 0 and (writing is None or writing.done())
            wait_s = FRESH_S if is_due else PAUSE_S
            if due_s is None:
                wait_s = IDLE_S
            elif left_s > 0 and not fetched:
                wait_s = min(left_s, IDLE_S)
            elif few and not is_due:
                await self._pause(writing, min(left_s, IDLE_S if few > 1 else PAUSE_S))
                wait_s = 0.0
            room = min(self._settings.batch_rows - builder.rows, RECORDS_A_FETCH)
            chunks = self._left or await self._turns.fetch(room, wait_s)
            if chunks is None:
                if builder:
                    break  # write the batch now, because rejoining or stopping ends its claims
                await wait_at_most(self._stopping, IDLE_S)
                continue
            # Records left over from the last batch don't tell how many there are to fetch.
            fetched = room if self._left else sum([len(one.records) for _, one in chunks])
            if fetched:
                few = few + 1 if fetched < min(room, FEW_RECORDS) else 0
            self._left = await self._add(builder, chunks)
            if self._left or (is_due and fetched < room):
                break
            if builder and due_s is None:
                due_s = self._clock() + self._age_s()
        return builder

    def _ends(self, due_s: float | None) -> bool:
        """Return whether to stop fetching.

        That's so if the service stops, or if a partition became a suspect while the batch was
        empty. The next batch is then begun for suspects. A batch with records isn't ended. It also
        takes slices of a partition that has become a suspect meanwhile.
        """
        return self._stopping.is_set() or (due_s is None and self._turns.has_suspects)

    async def _add(self, builder: BatchBuilder, chunks: list[ClaimedChunk]) -> list[ClaimedChunk]:
        """Add the chunks to the batch.

        Returns the chunks, or parts of them, for which it has no room.
        """
        for at, (claim, chunk) in enumerate(chunks, 1):
            rest = await self._intake.add_chunk(builder, claim, chunk)
            if rest or self._intake.is_full(builder):
                return ([(claim, rest)] if rest else []) + chunks[at:]
        return []

    def _age_s(self) -> float:
        """Return how old a batch may become before it's written."""
        return min(self._settings.batch_age_ms / 1000, WRITES_OF_AGE * self.last_write_s)

    async def _pause(self, writing: asyncio.Task[None] | None, left_s: float) -> None:
        """Wait until the batch is due.

        If it already is, wait up to PAUSE_S for the previous write.
        """
        if left_s > 0:
            await wait_at_most(self._stopping, left_s)
        elif writing:
            await asyncio.wait([writing], timeout=PAUSE_S)

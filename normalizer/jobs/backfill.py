"""A source of history in, the rows the service would make of it out, until its end or a stop.

Batches are read and normalised while those before them are written, one at a time and in order. A
batch moves the job's own positions in its transaction, so that a kill at any moment loses and
doubles nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Final

from normalizer.core.batch import Batch, Item
from normalizer.errors import FatalError, RetryableError
from normalizer.jobs.filling import Filling, cut, pieces
from normalizer.jobs.playing import Player, pause
from normalizer.jobs.positions import JobPositions
from normalizer.jobs.reporting import Verdict
from normalizer.jobs.runs import Run
from normalizer.jobs.source import At, Page, PartKey, Source
from normalizer.process.slices import Normalize, slices
from normalizer.store.delivery import deliver
from normalizer.store.quarantine import RefusalLines
from normalizer.store.store import Store
from normalizer.telemetry import Outage, get_logger

BATCHES_WAITING: Final = 1
"""Filled, beside the one that is written and the one that fills: neither waits for the other where
one batch takes longer than the next. All of them are in memory."""
LONGEST_WAIT_S: Final = 10.0
SESSION: Final = {"projector.shard_base": "8"}
"""A job counts in shards of its own, so that it never waits for the service on a counter."""

_log: Final = get_logger()


class Backfill:
    """One run of a backfill; `run` ends at the source's end, after the player's stop, or broken.

    `positions_of` gives what its batches move, where that is more than the run's positions.
    Without `accept_expired` it fails at the first events that lie before the horizon of retention.
    """

    def __init__(
        self,
        player: Player,
        source: Source,
        normalize: Normalize,
        *,
        positions_of: Callable[[Run], JobPositions] | None = None,
        accept_expired: bool = False,
    ) -> None:
        self.player = player
        self._positions_of = positions_of or partial(JobPositions, keyed=source.keyed)
        self._source = source
        self._normalize = normalize
        self._accept_expired = accept_expired
        self._stopping = player.stopping
        self._batch_rows = player.pace.rows_at_once(player.settings.batch_rows)
        self._batch_bytes = player.settings.batch_bytes
        self._outage = Outage(_log, player.clock)
        self._refusals = RefusalLines(_log, player.clock)

    async def run(self) -> Verdict:
        """Read, normalise and store."""
        async with self._source:
            verdict = await self.player.play(self._work, self._source.share)
        self._refusals.say()
        return verdict

    async def _work(self, run: Run, tasks: asyncio.TaskGroup) -> str | None:
        positions = self._positions_of(run)
        async with Store(
            self.player.database_url,
            owner=self.player.settings.owner,
            application_name=f"normalizer {run.asked.kind}",
            positions=positions,
            session=SESSION,
            accept_expired=self._accept_expired,
        ) as store:
            await self._transfer(run, store, positions, tasks)
        return self._source.truncated

    async def _transfer(
        self, run: Run, store: Store, positions: JobPositions, tasks: asyncio.TaskGroup
    ) -> None:
        """From the positions to the end; batches fill while those before them are written."""
        filled: asyncio.Queue[Filling | None] = asyncio.Queue(BATCHES_WAITING)
        writing = tasks.create_task(self._write_each(store, filled), name="write")
        broken: FatalError | None = None
        try:
            async with contextlib.aclosing(self._filled(run, positions)) as fillings:
                async for filling in fillings:
                    await filled.put(filling)
        except FatalError as error:
            broken = error
        await filled.put(None)
        await asyncio.wait([writing])
        if broken:
            raise broken

    async def _filled(self, run: Run, positions: JobPositions) -> AsyncGenerator[Filling, None]:
        """Full batches, and at last what is left, also where the source broke."""
        parts = await self._source.parts()
        filling = Filling(run.epoch)
        try:
            async with contextlib.aclosing(self._pages(await run.positions(parts))) as pages:
                async for page in pages:
                    if page.expired:
                        positions.note_expired(page.part, page.expired)
                    async for piece, items in normalized(
                        page, self._normalize, room=self._batch_rows
                    ):
                        filling.add(piece, items)
                        if self._is_full(filling):
                            yield filling
                            filling = Filling(run.epoch)
                    if self._stopping.is_set():
                        break
        except FatalError:
            yield filling
            raise
        yield filling

    def _is_full(self, filling: Filling) -> bool:
        return filling.rows >= self._batch_rows or filling.value_bytes >= self._batch_bytes

    async def _write_each(self, store: Store, filled: asyncio.Queue[Filling | None]) -> None:
        """Write batch after batch up to None; after the stop they are only taken."""
        while (filling := await filled.get()) is not None:
            if filling:
                await self._write(store, filling.sealed(), filling.records)

    async def _pages(self, positions: dict[PartKey, At]) -> AsyncGenerator[Page, None]:
        """The source's pages; where it is away, it is read on when it is back."""
        tries = 0
        while True:
            try:
                async with contextlib.aclosing(self._source.read(positions)) as read:
                    async for whole in read:
                        if self._outage.over():
                            tries = 0
                        for page in pieces(whole, self._batch_rows):
                            yield page
                            positions[page.part] = _after(
                                page, positions[page.part], keyed=self._source.keyed
                            )
            except RetryableError as error:
                self._outage.failed(error)
                tries += 1
                await pause(self._stopping, min(LONGEST_WAIT_S, 0.2 * 2**tries))
                if self._stopping.is_set():
                    return
            else:
                return

    async def _write(self, store: Store, batch: Batch, records: int) -> None:
        await self.player.pace.turn(records, self._stopping)
        if self._stopping.is_set():
            return
        try:
            totals = await deliver(store, batch, stop=self._stopping)
        except RetryableError as error:
            _log.info("batch_rolled_back", why=str(error))
            return
        self._refusals.add(batch, totals)


async def normalized(
    page: Page, normalize: Normalize, *, room: int | None = None
) -> AsyncGenerator[tuple[Page, list[Item]], None]:
    """The page slice by slice with the outcomes of its records, so that others run in between."""
    async for items in slices(page.records, normalize, room=room):
        left = len(page.records) - len(items)
        piece, page = cut(page, len(items)) if left else (page, page)
        yield piece, items
        await asyncio.sleep(0)
        if not left:
            return
    yield page, []


def _after(page: Page, at: At, *, keyed: bool) -> At:
    key = page.records[-1].key if keyed and page.records else None
    return At(
        next_offset=page.next_offset, end=at.end, cursor=at.cursor if key is None else key.decode()
    )

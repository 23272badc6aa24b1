"""A source of history in, what a backfill of it would change out; nothing is written.

Each batch is settled against what is stored, by reads of its own, and against what the batches
before it would have stored. So the diff is what the run then does, unless others write meanwhile.
"""

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from types import TracebackType
from typing import Final, Self

import asyncpg

from normalizer.core.batch import Batch
from normalizer.core.digests import Digest
from normalizer.core.record import RawRecord
from normalizer.core.settle import EVERYTHING, Place, Settled, place_of, settle, source_of
from normalizer.envelope import RULES_VERSION, Envelope, Ignored, Rejected
from normalizer.jobs import statements
from normalizer.jobs.backfill import normalized
from normalizer.jobs.diff import Diff, changes_between, refused_place
from normalizer.jobs.filling import Filling
from normalizer.jobs.overlay import Overlay
from normalizer.jobs.reread import Unreadable, reread
from normalizer.jobs.source import At, Source
from normalizer.process.slices import Normalize
from normalizer.store.grid import Grid
from normalizer.store.refusals import Refusal
from normalizer.store.rows import StoredRows
from normalizer.store.session import ANSWER_S, Session
from normalizer.store.store import is_expired

READ_ONLY: Final = {"default_transaction_read_only": "on"}


class DryRun:
    """One reading of a source from its beginning. `stop` ends it; the diff is of what was read."""

    def __init__(
        self,
        database_url: str,
        source: Source,
        normalize: Normalize,
        diff: Diff,
        *,
        batch_rows: int,
        rules_version: int = RULES_VERSION,
    ) -> None:
        self._source = source
        self._normalize = normalize
        self._diff = diff
        self._batch_rows = batch_rows
        self._rules_version = rules_version
        self._grid = Grid()
        self._session = Session(
            database_url,
            application_name="normalizer dry run",
            grid=self._grid,
            answer_s=ANSWER_S,
            settings=READ_ONLY,
        )
        self._stopping = asyncio.Event()
        self._horizon: datetime | None = None
        self._forgotten: frozenset[int] = frozenset()
        self.stale = Diff()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session.hang_up()

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()

    async def run(self) -> None:
        """Read the source and fill the diff. Raises what reading raises.

        `stale` then says what renormalise would make of the rows that this history stored and an
        older version of the rules made: a backfill leaves them as they are.
        """
        with Overlay() as overlay:
            try:
                async with self._source:
                    await self._read(overlay)
            finally:
                self._say_changes(overlay)

    async def _read(self, overlay: Overlay) -> None:
        self._horizon, self._forgotten = await self._session.at_once(_let_go)
        parts = await self._source.parts()
        positions = {part.key: At(next_offset=part.start, end=part.end) for part in parts}
        filling = Filling(0)
        async for page in self._source.read(positions):
            async for piece, items in normalized(page, self._normalize):
                filling.add(piece, items)
            if filling.rows >= self._batch_rows:
                await self._compare(filling.sealed(), overlay)
                filling = Filling(0)
            if self._stopping.is_set():
                break
        await self._compare(filling.sealed(), overlay)

    async def _compare(self, batch: Batch, overlay: Overlay) -> None:
        events, refusals = self._sorted_out(batch)
        settled, stored = await self._settle(events, overlay)
        overlay.keep(settled.new, ((stored.before[_id_of(row)], row) for row in settled.changed))
        for fate, _ in settled.fates:
            if fate == "duplicate":
                self._diff.add("unchanged")
        for row in stored.same:
            if 0 < row.normalizer_version < self._rules_version:
                self._note_stale(row)
        await self._note_refusals(refusals, overlay)

    def _sorted_out(self, batch: Batch) -> tuple[list[Envelope], list[Refusal]]:
        """Events to settle, and refusals; what would be ignored is counted, and no more."""
        events: list[Envelope] = []
        refusals: list[Refusal] = []
        for record, outcomes in batch.items():
            for outcome in outcomes:
                if self._horizon is not None and is_expired(record, outcome, self._horizon):
                    self._diff.add("expired")
                    continue
                match outcome:
                    case Envelope() if outcome.execution_id in self._forgotten:
                        self._diff.add("forgotten")
                    case Envelope():
                        events.append(outcome)
                    case Rejected():
                        refusals.append(Refusal(record, outcome))
                    case Ignored():
                        pass
        return events, refusals

    async def _note_refusals(self, refusals: Sequence[Refusal], overlay: Overlay) -> None:
        known = await self._refused_before([refusal.record for refusal in refusals])
        known |= await self._stored_before({refusal.place for refusal in refusals} - known)
        for refusal in refusals:
            if refusal.place not in known and overlay.refuse(refusal.place):
                self._diff.refuse(refused_place(*refusal), refusal.rejected.reason)
            else:
                self._diff.add("unchanged")

    async def _settle(
        self, events: Sequence[Envelope], overlay: Overlay
    ) -> tuple[Settled, "_Reading"]:
        async def settle_in(connection: asyncpg.Connection) -> tuple[Settled, _Reading]:
            reading = _Reading(StoredRows(connection, self._grid), connection, self._grid, overlay)
            # Whoever wrote them: a dry run takes part in no agreement about that.
            everything = {source_of(event): EVERYTHING for event in events}
            settled = await settle(events, reading, everything)
            await reading.read_same(events, settled)
            return settled, reading

        return await self._session.at_once(settle_in)

    def _say_changes(self, overlay: Overlay) -> None:
        for row in overlay.new():
            self._diff.add("new", row)
        for stored, row in overlay.changed():
            self._diff.change("joined", _id_of(row), changes_between(stored, row))

    def _note_stale(self, row: Envelope) -> None:
        match reread(row, self._normalize):
            case Unreadable() as unreadable:
                self.stale.refuse(f"event {row.event_id}", unreadable.reason, _id_of(row))
            case Envelope() as today:
                if fields := changes_between(row, today):
                    self.stale.change("changed", _id_of(row), fields)

    async def _stored_before(self, places: AbstractSet[Place]) -> set[Place]:
        async def find(connection: asyncpg.Connection) -> set[Place]:
            return set(await StoredRows(connection, self._grid).at(places))

        return await self._session.at_once(find)

    async def _refused_before(self, records: Sequence[RawRecord]) -> set[Place]:
        if not records:
            return set()

        async def find(connection: asyncpg.Connection) -> set[Place]:
            rows = await connection.fetch(
                statements.FIND_REFUSED,
                [record.topic for record in records],
                [record.generation for record in records],
                [record.partition for record in records],
                [record.offset for record in records],
            )
            return {tuple(row) for row in rows}

        return await self._session.at_once(find)


class _Reading:
    """What is stored and what would be: reads only, and remembers the rows before a change."""

    def __init__(
        self, stored: StoredRows, connection: asyncpg.Connection, grid: Grid, overlay: Overlay
    ) -> None:
        self._stored = stored
        self._connection = connection
        self._grid = grid
        self._overlay = overlay
        self._known: dict[int, Place] = {}
        self.before: dict[int, Envelope] = {}
        self.same: list[Envelope] = []

    async def places(self, event_ids: Sequence[int]) -> dict[int, Place]:
        self._known |= await self._stored.places(event_ids)
        return self._known | self._overlay.places(event_ids)

    async def rows(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        rows = await self._read(event_ids) | self._overlay.rows(event_ids)
        self.before |= rows
        return rows

    async def at(self, places: AbstractSet[Place]) -> dict[Place, int]:
        found = await self._stored.at(places)
        await self.places(sorted(set(found.values())))
        return found

    async def digests(self, values: Sequence[bytes]) -> list[Digest]:
        return await self._stored.digests(values)

    async def assigned(self, place: Place) -> int | None:
        return self._overlay.assigned(place) or await self._stored.assigned(place)

    async def assign(self, place: Place) -> int:
        return self._overlay.assign(place)

    async def read_same(self, events: Sequence[Envelope], settled: Settled) -> None:
        """Fetch the stored rows that were stored from the very records of this batch."""
        same = sorted(
            row
            for event, (fate, row) in zip(events, settled.fates, strict=True)
            if fate == "duplicate" and self._known.get(row) == place_of(event)
        )
        self.same = list((await self._read(same)).values())

    async def _read(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        return {
            row["event_id"]: Envelope(**row)
            for low, high, ids in self._grid.grouped(event_ids)
            for row in await self._connection.fetch(statements.READ_EVENTS, low, high, ids)
        }


async def _let_go(connection: asyncpg.Connection) -> tuple[datetime | None, frozenset[int]]:
    """Before which time in the log events are ignored (None: retention is off), and whose."""
    horizon, forgotten = await connection.fetchrow(statements.LET_GO)
    return horizon, frozenset(forgotten)


def _id_of(row: Envelope) -> int:
    assert row.event_id is not None
    return row.event_id

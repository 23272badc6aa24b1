"""Settled rows in, the table `events` changed; or which of the rows it refuses."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby, pairwise, product
from operator import itemgetter
from typing import Final

import asyncpg
import msgspec

from normalizer.core.coordinates import Coordinates
from normalizer.core.digests import Digest
from normalizer.envelope import Envelope
from normalizer.store import store_statements
from normalizer.store.grid import Grid, adjacent_ranges
from normalizer.store.sqlstate import FOREIGN_ERRORS, Fault, fault_of, line_of

RUNS_A_SOURCE: Final = 8
ROWS_AT_ONCE: Final = 5_000
"""Encoded for COPY without giving way, 40 milliseconds; a record may make twice as many."""
MAX_GAP_OFFSETS: Final = 5_000
"""Offsets less far apart than this are looked for together."""
DIGESTED_BYTES: Final = 4 * 1024 * 1024
"""So many bytes of values are sent together to be hashed; a larger value goes alone."""


class RowRefused(Exception):  # noqa: N818 - never leaves the store
    """The database refused a row: in COPY, the one of this line (from 1) if it could tell."""

    def __init__(self, sqlstate: str | None = None, line: int | None = None) -> None:
        super().__init__(sqlstate, line)
        self.sqlstate = sqlstate
        self.line = line


class StoredRows:
    """The stored rows, as `reconcile` asks for them."""

    def __init__(self, connection: asyncpg.Connection, grid: Grid) -> None:
        self._connection = connection
        self._grid = grid

    async def find_coordinates(self, event_ids: Sequence[int]) -> dict[int, Coordinates]:
        """The coordinates of those of the ids that are stored, one query a partition."""
        return {
            row[0]: tuple(row)[1:]
            for low, high, ids in self._grid.grouped(event_ids)
            for row in await self._connection.fetch(
                store_statements.FIND_COORDINATES, low, high, ids
            )
        }

    async def rows(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        """The rows of those of the ids that are stored, locked in ascending order."""
        return {
            row["event_id"]: Envelope(**row)
            for low, high, ids in self._grid.grouped(event_ids)
            for row in await self._connection.fetch(store_statements.LOCK_EVENTS, low, high, ids)
        }

    async def find_rows_at(
        self, coordinates_set: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        """The rows that these records made or told again of, those that are still there."""
        if not coordinates_set:
            return {}
        found = await self._find_merged(coordinates_set)
        filled = adjacent_ranges(await self._connection.fetch(store_statements.FILLED_PARTITIONS))
        for run, bounds in product(_runs(coordinates_set - found.keys()), filled):
            rows = await self._connection.fetch(store_statements.FIND_BY_COORDINATES, *run, *bounds)
            for event_id, *coordinates in rows:
                found[tuple(coordinates)] = event_id
        return found

    async def _find_merged(
        self, coordinates_set: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        """The rows that these records told again of, unless they were deleted since."""
        columns = [list(column) for column in zip(*coordinates_set, strict=True)]
        merged_from = [
            (merge_id, event_id, coordinates)
            for merge_id, event_id, *key in await self._connection.fetch(
                store_statements.FIND_MERGED_RECORDS, *columns[:4]
            )
            if (coordinates := tuple(key)) in coordinates_set
        ]
        batches = {
            event_id: batch_id
            for low, high, ids in self._grid.grouped(sorted({one for _, one, _ in merged_from}))
            for event_id, batch_id in await self._connection.fetch(
                store_statements.FIND_BATCHES, low, high, ids
            )
        }
        return {
            coordinates: event_id
            for merge_id, event_id, coordinates in merged_from
            if batches.get(event_id, merge_id) < merge_id
        }

    async def digests(self, values: Sequence[bytes]) -> list[Digest]:
        """The length and the sha256 of each value's jsonb as text, made by the database."""
        return [
            digest
            for some in _chunked_by_bytes(values)
            for digest in await self._digests_of(list(some))
        ]

    async def _digests_of(self, values: Sequence[bytes]) -> list[Digest]:
        """A value that cannot be jsonb equals itself alone: the row that takes it is refused."""
        try:
            async with self._connection.transaction():
                found = await self._connection.fetch(store_statements.DIGESTS, values)
        except FOREIGN_ERRORS as error:
            if fault_of(error, copying=False) is not Fault.RECORD:
                raise
            if len(values) == 1:
                return [(len(values[0]), b"\0" + hashlib.sha256(values[0]).digest())]
            return [digest for one in values for digest in await self._digests_of([one])]
        return [(row[0], row[1]) for row in found]

    async def find_assigned(self, coordinates: Coordinates) -> int | None:
        """The id that gen_snowflake() once gave to the event of these coordinates."""
        found: int | None = await self._connection.fetchval(
            store_statements.FIND_ASSIGNED, *coordinates
        )
        return found

    async def assign(self, coordinates: Coordinates) -> int:
        """A new id from gen_snowflake(), kept under the coordinates."""
        event_id: int = await self._connection.fetchval(store_statements.ASSIGN_ID, *coordinates)
        return event_id


def _chunked_by_bytes(values: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The values in runs of so many bytes."""
    first, size = 0, 0
    for at, value in enumerate(values):
        if size and size + len(value) > DIGESTED_BYTES:
            yield values[first:at]
            first, size = at, 0
        size += len(value)
    yield values[first:]


def _runs(
    coordinates_set: AbstractSet[Coordinates],
) -> Iterator[tuple[str | None, int, int, int, int]]:
    """Source by source, the stretches of offsets that hold these places; few, if need be wide.

    Each costs a look through the index, and each offset in it that is not asked for a row.
    """
    ordered = sorted({(coordinates[:3], coordinates[3]) for coordinates in coordinates_set})
    for source, offsets in groupby(ordered, key=itemgetter(0)):
        run = [offset for _, offset in offsets]
        gaps = sorted(range(1, len(run)), key=lambda at: run[at - 1] - run[at])
        cuts = sorted(
            at for at in gaps[: RUNS_A_SOURCE - 1] if run[at] - run[at - 1] > MAX_GAP_OFFSETS
        )
        for first, after in pairwise((0, *cuts, len(run))):
            yield (*source, run[first], run[after - 1])


async def add_merged_records(
    connection: asyncpg.Connection, merged_records: Sequence[tuple[Coordinates, int]]
) -> None:
    """Note to which row each record went that told its event again."""
    if not merged_records:
        return
    columns = zip(
        *((*coordinates, event_id) for coordinates, event_id in merged_records), strict=True
    )
    await connection.execute(store_statements.ADD_MERGED_RECORDS, *map(list, columns))


async def copy_rows(
    connection: asyncpg.Connection, rows: Sequence[Envelope], batch_id: int
) -> None:
    """Insert new rows, ascending by event_id: every writer touches projections in one order."""
    if not rows:
        return
    last_column = (batch_id,)
    tuples = (msgspec.structs.astuple(row) + last_column for row in rows)
    try:
        await connection.copy_records_to_table(
            "events",
            schema_name="normalizer",
            columns=store_statements.EVENT_COLUMNS,
            records=tuples if len(rows) <= ROWS_AT_ONCE else _yielding(tuples),
        )
    except FOREIGN_ERRORS as error:
        if fault_of(error, copying=True) is Fault.RECORD:
            raise RowRefused(getattr(error, "sqlstate", None), line_of(error)) from error
        raise


async def _yielding(tuples: Iterable[tuple[object, ...]]) -> AsyncIterator[tuple[object, ...]]:
    for number, one in enumerate(tuples, 1):
        yield one
        if number % 1_000 == 0:
            await asyncio.sleep(0)


async def update_rows(connection: asyncpg.Connection, rows: Sequence[Envelope], grid: Grid) -> None:
    """Write joined rows, ascending by event_id, over those they were read from (and locked)."""
    if not rows:
        return
    ids = [row.event_id or 0 for row in rows]
    columns = [[getattr(row, name) for row in rows] for name, _ in store_statements.MERGED_COLUMNS]
    bounds = [bound for low, high, _ in grid.grouped(ids) for bound in (low, high)]
    await connection.execute(
        store_statements.update_events(len(bounds) // 2), ids, *columns, *bounds
    )


async def find_refused_rows(
    connection: asyncpg.Connection,
    rows: Sequence[Envelope],
    write: Callable[[Sequence[Envelope]], Awaitable[None]],
) -> dict[int, str | None]:
    """Which of the rows (by event_id) are refused, and with which SQLSTATE; none stays written.

    COPY names the line, so the rows before it are good; otherwise halves are tried. What comes
    after a refused row is tried in halves too: many refused rows cost little more than a few.
    """
    refused: dict[int, str | None] = {}
    suspects = [rows]
    while suspects:
        some = suspects.pop()
        refusal = await _try_write(connection, some, write)
        if refusal is None:
            continue
        line = 1 if len(some) == 1 else refusal.line
        if line is not None and line <= len(some):
            refused[some[line - 1].event_id or 0] = refusal.sqlstate
            some = some[line:]
        suspects += [some[len(some) // 2 :], some[: len(some) // 2]]
    return refused


async def _try_write(
    connection: asyncpg.Connection,
    rows: Sequence[Envelope],
    write: Callable[[Sequence[Envelope]], Awaitable[None]],
) -> RowRefused | None:
    """Write the rows, take them back, and say what was refused."""
    if not rows:
        return None
    savepoint = connection.transaction()
    await savepoint.start()
    refusal: RowRefused | None = None
    try:
        await write(rows)
    except RowRefused as found:
        # Its traceback holds this frame, which holds the rows: kept here, it would be a cycle.
        refusal = RowRefused(found.sqlstate, found.line)
    except FOREIGN_ERRORS as error:
        if fault_of(error, copying=False) is not Fault.RECORD:
            raise
        refusal = RowRefused(getattr(error, "sqlstate", None))
    await savepoint.rollback()
    return refusal

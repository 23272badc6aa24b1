"""One batch in, one transaction out: the only place that writes events.

locked positions: still mine, and where I think they are?
-> events settled against the stored rows -> new rows by COPY, told-again rows by UPDATE
-> refused records to quarantine -> positions and running totals moved -> commit
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from types import TracebackType
from typing import Final, Self, TypeVar

import asyncpg
import msgspec

from normalizer import statements
from normalizer.batch import Batch, PartitionBatch, Totals, record_crc
from normalizer.envelope import Envelope, Ignored, Rejected
from normalizer.errors import Fenced, PositionMoved, StoreUnavailable
from normalizer.record import RawRecord
from normalizer.refusals import Refusal, quarantine
from normalizer.settle import Place, place_of, settle
from normalizer.sqlstate import FOREIGN_ERRORS, Fault, fault_of, line_of, translated

Key = tuple[str, int, int]
"""(topic, generation, partition)."""

_T = TypeVar("_T")
_Work = Callable[[asyncpg.Connection], Awaitable[_T]]

_HASHED_FROM: Final = 1 << 62 | 1 << 61
_INT64_MAX: Final = (1 << 63) - 1
_ROUNDS: Final = 10

_SESSION: Final = {
    # A frozen process must not hold its positions for ever, nor a statement wait for ever.
    "statement_timeout": "120s",
    "idle_in_transaction_session_timeout": "60s",
    "lock_timeout": "60s",
    "search_path": "normalizer, public",
    "TimeZone": "UTC",
}


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A partition that is ours: where to read on, and what the last record there looked like."""

    topic: str
    generation: int
    partition: int
    epoch: int
    next_offset: int
    cluster_id: str
    last_offset: int | None
    last_recorded_ms: int | None
    last_crc: int | None


class Store:
    """One connection that writes batches; it reconnects by itself after an outage.

    `async with Store(url, owner=...) as store`; not for two tasks at once.
    Every method raises StoreUnavailable (nothing was written: do it again) or FatalError.
    """

    def __init__(
        self, database_url: str, *, owner: str, application_name: str = "normalizer"
    ) -> None:
        self._database_url = database_url
        self._owner = owner
        self._session = _SESSION | {"application_name": application_name}
        self._connection: asyncpg.Connection | None = None
        self._buckets = _Buckets()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hang_up()

    async def claim(self, topic: str, partition: int, *, cluster_id: str, log_start: int) -> Claim:
        """Make the partition ours: epoch + 1. Waits for a batch in flight, so the answer is final.

        A partition never read before begins generation 0 at `log_start`.
        """

        async def claim(connection: asyncpg.Connection) -> asyncpg.Record:
            row = await connection.fetchrow(statements.CLAIM, topic, partition, self._owner)
            return row or await connection.fetchrow(
                statements.BEGIN_GENERATION, topic, partition, cluster_id, self._owner, log_start
            )

        row = await self._at_once(claim)
        return Claim(topic=topic, partition=partition, **row)

    async def new_generation(
        self, topic: str, partition: int, *, cluster_id: str, log_start: int
    ) -> Claim:
        """Begin a new generation at `log_start`: the topic was made anew (--accept-reset)."""

        async def begin(connection: asyncpg.Connection) -> asyncpg.Record:
            return await connection.fetchrow(
                statements.BEGIN_GENERATION, topic, partition, cluster_id, self._owner, log_start
            )

        row = await self._at_once(begin)
        return Claim(topic=topic, partition=partition, **row)

    async def record_gap(self, claim: Claim, next_offset: int, reason: str) -> Claim:
        """Move the position over offsets that can no longer be read; the gap becomes a row.

        `reason` is expired or skipped. Raises Fenced and PositionMoved as `write` does.
        """
        part = PartitionBatch(
            topic=claim.topic,
            generation=claim.generation,
            partition=claim.partition,
            epoch=claim.epoch,
            from_offset=claim.next_offset,
            next_offset=next_offset,
            items=[],
            holes=((claim.next_offset, next_offset),),
        )

        async def record(connection: asyncpg.Connection) -> None:
            if await _lock_positions(connection, (part,)):
                return
            await _add_gaps(connection, (part,), reason)
            await _move_positions(connection, [(part, _Counts().totals(part))])

        await self._at_once(record)
        return msgspec.structs.replace(claim, next_offset=next_offset)

    async def write(self, batch: Batch) -> Totals:
        """Write the batch in one transaction; rows that the database refuses go to quarantine.

        A batch whose commit took effect although its answer was lost is recognised, and not
        written again: its totals are then empty.
        Raises Fenced (a younger epoch owns a partition) and PositionMoved (an operator's hand).
        """
        refused: dict[Place, Rejected] = {}
        fault: BaseException | None = None
        for _ in range(_ROUNDS):
            try:
                await self._make_buckets(batch)
                return await self._transaction(partial(self._write, batch, refused))
            except _RowRefused as refusal:
                fault = refusal
                find = partial(self._find_refused, batch, refused)
                refused = refused | await self._transaction(find, rolled_back=True)
            except _OnceMore as race:
                fault = race
        message = f"database: a batch did not get through in {_ROUNDS} rounds"
        raise StoreUnavailable(message) from fault

    async def probe(self) -> bool:
        """Whether a row goes in now; it is rolled back. Tells an outage from a bad batch."""

        async def insert(connection: asyncpg.Connection) -> None:
            await connection.execute(statements.PROBE)

        try:
            await self._at_once(insert, rolled_back=True)
        except StoreUnavailable:
            return False
        return True

    async def _write(
        self, batch: Batch, refused: dict[Place, Rejected], connection: asyncpg.Connection
    ) -> Totals:
        if await _lock_positions(connection, batch.parts):
            return Totals()
        batch_id = await connection.fetchval(statements.NEXT_BATCH_ID)
        sorted_out = _sort_out(batch, refused)
        settled = await settle(sorted_out.events, _Database(connection, self._buckets))
        await _copy(connection, settled.new, batch_id)
        await _change(connection, settled.changed, self._buckets)
        kept = await quarantine(connection, sorted_out.refusals, batch_id)
        counts = sorted_out.counts
        for event, (fate, _) in zip(sorted_out.events, settled.fates, strict=True):
            counts[_key_of(event)].add(fate)
        for refusal, is_new in zip(sorted_out.refusals, kept, strict=True):
            counts[_key_of_record(refusal.record)].add("quarantined" if is_new else "duplicate")
        totals = [(part, counts[part.key].totals(part)) for part in batch.parts]
        await _add_gaps(connection, batch.parts, "hole")
        await _move_positions(connection, totals)
        return sum((total for _, total in totals), Totals())

    async def _find_refused(
        self, batch: Batch, refused: dict[Place, Rejected], connection: asyncpg.Connection
    ) -> dict[Place, Rejected]:
        """Which events' rows the database refuses, by writing and rolling back."""
        await _lock_positions(connection, batch.parts)
        events = _sort_out(batch, refused).events
        settled = await settle(events, _Database(connection, self._buckets))

        async def copy(rows: Sequence[Envelope]) -> None:
            await _copy(connection, rows, 0)

        async def change(rows: Sequence[Envelope]) -> None:
            await _change(connection, rows, self._buckets)

        codes = await _refused_rows(connection, settled.new, copy)
        codes |= await _refused_rows(connection, settled.changed, change)
        return {
            place_of(event): Rejected(
                reason="rejected_by_database",
                detail="the database refused the row: " + (codes[row] or "it cannot be encoded"),
                shape=event.shape,
                index=event.source_index,
                sqlstate=codes[row],
            )
            for event, (fate, row) in zip(events, settled.fates, strict=True)
            if row in codes and fate != "duplicate"
        }

    async def _make_buckets(self, batch: Batch) -> None:
        """Make the buckets the batch needs, in a transaction of its own."""
        ids = {
            outcome.event_id or 0
            for part in batch.parts
            for _, outcomes in part.items
            for outcome in outcomes
            if isinstance(outcome, Envelope)
        }
        missing = self._buckets.missing(ids)
        if not missing:
            return

        async def make(connection: asyncpg.Connection) -> None:
            for event_id in missing:
                await connection.execute(statements.ENSURE_BUCKET, event_id)

        await self._at_once(make)
        self._buckets.made(missing)

    async def _at_once(self, work: _Work[_T], *, rolled_back: bool = False) -> _T:
        """Work that has no rows of a batch: what a batch would do again, the caller does."""
        try:
            return await self._transaction(work, rolled_back=rolled_back)
        except (_RowRefused, _OnceMore) as error:
            message = "database: another writer was first"
            raise StoreUnavailable(message) from error

    async def _transaction(self, work: _Work[_T], *, rolled_back: bool = False) -> _T:
        """Do the work in a READ COMMITTED transaction; foreign errors die here."""
        try:
            connection = await self._connected()
            transaction = connection.transaction()
            await transaction.start()
            try:
                answer = await work(connection)
            except BaseException:
                await self._roll_back(transaction)
                raise
            await (transaction.rollback() if rolled_back else transaction.commit())
        except FOREIGN_ERRORS as error:
            match fault_of(error, copying=False):
                case Fault.RECORD:
                    raise _RowRefused from error
                case Fault.RACE:
                    raise _OnceMore from error
                case Fault.BUCKET:
                    self._buckets.forget()
                    raise _OnceMore from error
                case Fault.MOMENT | Fault.OURS:
                    raise translated(error) from error
        else:
            return answer

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            connection = await asyncpg.connect(
                self._database_url, server_settings=self._session, timeout=10
            )
            self._connection = connection
            await connection.set_type_codec(
                "jsonb",
                schema="pg_catalog",
                encoder=_encode_jsonb,
                decoder=_decode_jsonb,
                format="binary",
            )
            self._buckets.shift = await connection.fetchval(statements.BUCKET_SHIFT)
        return self._connection

    async def _roll_back(self, transaction: asyncpg.transaction.Transaction) -> None:
        """Roll back if that can still be done; a connection in doubt is given up."""
        try:
            await transaction.rollback()
        except FOREIGN_ERRORS:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


class _RowRefused(Exception):  # noqa: N818 - never leaves this module
    """The database refused a row: in COPY, the one of this line (from 1) if it could tell."""

    def __init__(self, sqlstate: str | None = None, line: int | None = None) -> None:
        super().__init__(sqlstate, line)
        self.sqlstate = sqlstate
        self.line = line


class _OnceMore(Exception):  # noqa: N818 - never leaves this module
    """Another writer was first, or a bucket was missing: the batch is done again at once."""


class _Buckets:
    """Which buckets are known to be there, and the bounds of each."""

    def __init__(self) -> None:
        self.shift = 51
        self._known: set[int] = set()

    def bounds(self, event_id: int) -> tuple[int, int]:
        """The least and greatest id of the bucket that the id falls into."""
        if event_id >= _HASHED_FROM:
            return _HASHED_FROM, _INT64_MAX
        low = event_id >> self.shift << self.shift
        return low, low + (1 << self.shift) - 1

    def grouped(self, event_ids: Iterable[int]) -> list[tuple[int, int, list[int]]]:
        """Ascending ids by bucket: (least, greatest, ids)."""
        return [(*bounds, list(ids)) for bounds, ids in groupby(event_ids, key=self.bounds)]

    def missing(self, event_ids: set[int]) -> list[int]:
        """One id of each bucket that is not known to be there, the hashed one among them."""
        wanted = {event_id >> self.shift for event_id in event_ids if event_id < _HASHED_FROM}
        lows = {bucket << self.shift for bucket in wanted} | {_HASHED_FROM}
        return sorted(lows - self._known)

    def made(self, lows: Iterable[int]) -> None:
        """These are there now."""
        self._known.update(lows)

    def forget(self) -> None:
        """One was not there after all."""
        self._known.clear()


class _Database:
    """The stored rows, as `settle` asks for them."""

    def __init__(self, connection: asyncpg.Connection, buckets: _Buckets) -> None:
        self._connection = connection
        self._buckets = buckets

    async def places(self, event_ids: Sequence[int]) -> dict[int, Place]:
        return {
            row[0]: tuple(row)[1:]
            for low, high, ids in self._buckets.grouped(event_ids)
            for row in await self._connection.fetch(statements.FIND_PLACES, low, high, ids)
        }

    async def rows(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        return {
            row["event_id"]: Envelope(**row)
            for low, high, ids in self._buckets.grouped(event_ids)
            for row in await self._connection.fetch(statements.LOCK_EVENTS, low, high, ids)
        }

    async def assigned(self, place: Place) -> int | None:
        found: int | None = await self._connection.fetchval(statements.FIND_ASSIGNED, *place)
        return found

    async def assign(self, place: Place) -> int:
        event_id: int = await self._connection.fetchval(statements.ASSIGN_ID, *place)
        return event_id


class _Counts:
    """What became of the outcomes of one partition's stretch."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(("stored", "duplicate", "joined", "quarantined", "ignored"), 0)

    def add(self, fate: str) -> None:
        self._counts[fate] += 1

    def totals(self, part: PartitionBatch) -> Totals:
        return Totals(
            records=len(part.items),
            holes=sum(after - first for first, after in part.holes),
            outcomes=sum(self._counts.values()),
            **self._counts,
        )


class _SortedOut(msgspec.Struct, frozen=True):
    """A batch's outcomes by kind; those that were ignored are only counted."""

    events: list[Envelope]
    refusals: list[Refusal]
    counts: dict[Key, _Counts]


def _sort_out(batch: Batch, refused: dict[Place, Rejected]) -> _SortedOut:
    sorted_out = _SortedOut([], [], {part.key: _Counts() for part in batch.parts})
    for part in batch.parts:
        for record, outcomes in part.items:
            for outcome in outcomes:
                match outcome:
                    case Envelope():
                        rejected = refused.get(place_of(outcome)) if refused else None
                        if rejected is None:
                            sorted_out.events.append(outcome)
                        else:
                            sorted_out.refusals.append(Refusal(record, rejected))
                    case Rejected():
                        sorted_out.refusals.append(Refusal(record, outcome))
                    case Ignored():
                        sorted_out.counts[part.key].add("ignored")
    return sorted_out


async def _lock_positions(connection: asyncpg.Connection, parts: Sequence[PartitionBatch]) -> bool:
    """Lock the positions in key order. True: this batch's commit had taken effect already."""
    rows = await connection.fetch(
        statements.LOCK_POSITIONS,
        [part.topic for part in parts],
        [part.generation for part in parts],
        [part.partition for part in parts],
    )
    positions = {(row["topic"], row["generation"], row["partition"]): row for row in rows}
    for part in parts:
        position = positions.get(part.key)
        if position is None or position["epoch"] != part.epoch:
            message = f"{part.topic}[{part.partition}]: another process claimed it"
            raise Fenced(message, topic=part.topic, partition=part.partition)
    if all(positions[part.key]["next_offset"] == part.next_offset for part in parts):
        return True
    for part in parts:
        stored = positions[part.key]["next_offset"]
        if stored != part.from_offset:
            message = (
                f"{part.topic}[{part.partition}]: the stored position is {stored}, "
                f"this batch begins at {part.from_offset}"
            )
            raise PositionMoved(message, topic=part.topic, partition=part.partition)
    return False


async def _copy(connection: asyncpg.Connection, rows: Sequence[Envelope], batch_id: int) -> None:
    """Insert new rows, ascending by event_id: every writer touches projections in one order."""
    if not rows:
        return
    try:
        await connection.copy_records_to_table(
            "events",
            schema_name="normalizer",
            columns=statements.EVENT_COLUMNS,
            records=[(*msgspec.structs.astuple(row), batch_id) for row in rows],
        )
    except FOREIGN_ERRORS as error:
        if fault_of(error, copying=True) is Fault.RECORD:
            raise _RowRefused(getattr(error, "sqlstate", None), line_of(error)) from error
        raise


async def _change(
    connection: asyncpg.Connection, rows: Sequence[Envelope], buckets: _Buckets
) -> None:
    """Write joined rows, ascending by event_id, over those they were read from (and locked)."""
    by_id = {row.event_id or 0: row for row in rows}
    for low, high, ids in buckets.grouped(by_id):
        columns = (
            [getattr(by_id[event_id], name) for event_id in ids]
            for name, _ in statements.JOINED_COLUMNS
        )
        await connection.execute(statements.CHANGE_EVENTS, low, high, ids, *columns)


async def _refused_rows(
    connection: asyncpg.Connection,
    rows: Sequence[Envelope],
    write: Callable[[Sequence[Envelope]], Awaitable[None]],
) -> dict[int, str | None]:
    """Which of the rows (by event_id) are refused, and with which SQLSTATE; none stays written.

    COPY names the line, so the rows before it are good; otherwise halves are tried.
    """
    refused: dict[int, str | None] = {}
    suspects = [rows]
    while suspects:
        some = suspects.pop()
        refusal = await _tried(connection, some, write)
        if refusal is None:
            continue
        if refusal.line is not None and refusal.line <= len(some):
            bad = some[refusal.line - 1]
            suspects.append(some[refusal.line :])
        elif len(some) == 1:
            bad = some[0]
        else:
            suspects += [some[len(some) // 2 :], some[: len(some) // 2]]
            continue
        refused[bad.event_id or 0] = refusal.sqlstate
    return refused


async def _tried(
    connection: asyncpg.Connection,
    rows: Sequence[Envelope],
    write: Callable[[Sequence[Envelope]], Awaitable[None]],
) -> _RowRefused | None:
    """Write the rows, take them back, and say what was refused."""
    if not rows:
        return None
    savepoint = connection.transaction()
    await savepoint.start()
    refusal: _RowRefused | None = None
    try:
        await write(rows)
    except _RowRefused as found:
        refusal = found
    except FOREIGN_ERRORS as error:
        if fault_of(error, copying=False) is not Fault.RECORD:
            raise
        refusal = _RowRefused(getattr(error, "sqlstate", None))
    await savepoint.rollback()
    return refusal


async def _add_gaps(
    connection: asyncpg.Connection, parts: Sequence[PartitionBatch], reason: str
) -> None:
    gaps = [(*part.key, first, after, reason) for part in parts for first, after in part.holes]
    if gaps:
        await connection.execute(statements.ADD_GAPS, *map(list, zip(*gaps, strict=True)))


async def _move_positions(
    connection: asyncpg.Connection, moves: Sequence[tuple[PartitionBatch, Totals]]
) -> None:
    rows = [
        (
            *part.key,
            part.next_offset,
            *msgspec.structs.astuple(totals),
            *_last_record(part),
        )
        for part, totals in moves
    ]
    await connection.execute(statements.MOVE_POSITIONS, *map(list, zip(*rows, strict=True)))


def _last_record(part: PartitionBatch) -> tuple[int | None, int | None, int | None]:
    """Offset, time in milliseconds and CRC by which the last record is known again."""
    if not part.items:
        return None, None, None
    record, _ = part.items[-1]
    return record.offset, record.recorded_ms, record_crc(record)


def _key_of(event: Envelope) -> Key:
    return (event.source_topic or "", event.source_generation, event.source_partition)


def _key_of_record(record: RawRecord) -> Key:
    return (record.topic or "", record.generation, record.partition)


def _encode_jsonb(value: bytes) -> bytes:
    """JSON text as jsonb's binary form takes it: a version byte, then the bytes as they are."""
    return b"\x01" + value


def _decode_jsonb(value: bytes) -> bytes:
    return bytes(value[1:])

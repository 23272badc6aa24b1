"""One batch in, one transaction out: the only place that writes events.

locked positions: still mine, and where I think they are?
-> events settled against the stored rows -> new rows by COPY, told-again rows by UPDATE
-> refused records to quarantine -> positions and running totals moved -> commit
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise
from types import MappingProxyType, TracebackType
from typing import Final, Self, TypeVar

import asyncpg
import msgspec

from normalizer.core.batch import Batch, LastRecord, PartitionBatch, Totals
from normalizer.core.record import RawRecord
from normalizer.core.rules.times import recorded_at
from normalizer.core.settle import (
    EVERYTHING,
    NOTHING_REACHED,
    Fate,
    Place,
    Reached,
    Settled,
    place_of,
    settle,
    source_of,
)
from normalizer.envelope import Envelope, Ignored, Outcome, Rejected
from normalizer.errors import FatalError, PositionError, StoreUnavailable
from normalizer.store import statements
from normalizer.store.grid import Grid
from normalizer.store.migrate import refuse_edited
from normalizer.store.positions import (
    Counts,
    Positions,
    SourcePositions,
    add_gaps,
    lock_positions,
    move_positions,
    why_lost,
)
from normalizer.store.protocol import check_protocol
from normalizer.store.refusals import Refusal, quarantine
from normalizer.store.rows import (
    RowRefused,
    StoredRows,
    add_tellings,
    change_rows,
    copy_rows,
    refused_rows,
)
from normalizer.store.session import ANSWER_S, OnceMore, Session

_T = TypeVar("_T")

_ROUNDS: Final = 10
_APART_FOR: Final = 1_000
"""So many batches are written in two steps once rows of other partitions were told again."""


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
    moved_epoch: int = 0

    @property
    def last(self) -> LastRecord | None:
        """The last record that was read; None before the first."""
        if self.last_offset is None or self.last_crc is None:
            return None
        return LastRecord(self.last_offset, self.last_recorded_ms, self.last_crc)


class _LetGo(msgspec.Struct, frozen=True, kw_only=True):
    """What is not taken in any more: what lies before the horizon, and forgotten executions."""

    horizon: datetime | None
    forgotten: frozenset[int]


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the batch does to the log. `reached` and `let_go` are what it was made from."""

    reached: Reached
    let_go: _LetGo
    sorted_out: "_SortedOut"
    settled: Settled

    def holds(self, reached: Reached, let_go: _LetGo) -> bool:
        """Whether it still holds in a later transaction: where nobody else writes these records.

        A new row whose id was taken meanwhile is refused, and the batch is planned anew.
        """
        return not (self.reached or reached) and self.let_go == let_go


class _Joined(msgspec.Struct, frozen=True, kw_only=True):
    """Rows were changed by these records; what the batch has to do besides is in the plan."""

    places: frozenset[Place]
    ambiguous: int
    plan: _Plan


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What one committed transaction did, for whoever counts.

    `fates` is parallel to `events`, `kept` (is it new?) to `refusals`; `new` are the rows.
    `expired_unread` are those that were ignored as expired though nobody had read them before.
    `ambiguous`: so many other rows hold from now on a report that may be another event's.
    """

    events: Sequence[Envelope]
    new: Sequence[Envelope]
    fates: Sequence[tuple[Fate, int]]
    refusals: Sequence[Refusal]
    kept: Sequence[bool]
    totals: Totals
    expired_unread: int
    ambiguous: int = 0
    commit_s: float = 0.0


class Store:
    """One connection that writes batches; it reconnects by itself after an outage.

    `async with Store(url, owner=...) as store`; not for two tasks at once.
    Every method raises StoreUnavailable (nothing was written: do it again) or FatalError.
    A job gives `positions` of its own, and `session`: server settings for its connection. Without
    `accept_expired` it is fatal that records lie before the horizon of retention, not the rule.
    `on_written` is called after each commit, but not where only its answer was lost.
    """

    def __init__(
        self,
        database_url: str,
        *,
        owner: str,
        application_name: str = "normalizer",
        answer_s: float = ANSWER_S,
        positions: Positions | None = None,
        session: Mapping[str, str] = MappingProxyType({}),
        on_written: Callable[[Written], None] | None = None,
        accept_expired: bool = True,
    ) -> None:
        self._owner = owner
        self._accept_expired = accept_expired
        self._on_written = on_written
        self._positions = positions or SourcePositions()
        self._grid = Grid()
        self._apart = 0
        self._session = Session(
            database_url,
            application_name=application_name,
            grid=self._grid,
            answer_s=answer_s,
            settings=session,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session.hang_up()

    @property
    def server_pid(self) -> int | None:
        """The server process that writes for it; None while there is none. From any thread."""
        return self._session.server_pid

    async def claim(
        self,
        topic: str,
        partition: int,
        *,
        cluster_id: str,
        log_start: int,
        log_end: int | None = None,
    ) -> Claim:
        """Make the partition ours: epoch + 1. Waits for a batch in flight, so the answer is final.

        A partition never read before begins generation 0 at `log_start`. One that was read up to
        `log_end` cannot move: its claim does not count as one without a move. Raises FatalError
        where the database is not one that this code may write to.
        """

        async def claim(connection: asyncpg.Connection) -> asyncpg.Record:
            await refuse_edited(connection)
            row = await take(connection)
            await check_protocol(connection)
            return row

        async def take(connection: asyncpg.Connection) -> asyncpg.Record:
            mine = (statements.CLAIM, topic, partition, self._owner, log_end)
            if row := await connection.fetchrow(*mine):
                return row
            first = ([topic], [0], [partition])
            await connection.execute(statements.ADD_REACHED, *first)
            await connection.fetch(statements.LOCK_REACHED, *first)
            return await connection.fetchrow(
                statements.BEGIN_FIRST_GENERATION,
                topic,
                partition,
                cluster_id,
                self._owner,
                log_start,
            ) or await connection.fetchrow(*mine)

        row = await self._session.at_once(claim)
        return Claim(topic=topic, partition=partition, **row)

    async def lost(self, claims: Sequence[Claim]) -> list[tuple[Claim, PositionError]]:
        """Which of the claims are none any more: Fenced, or PositionMoved by an operator."""

        async def find(connection: asyncpg.Connection) -> list[asyncpg.Record]:
            keys = [(claim.topic, claim.generation, claim.partition) for claim in claims]
            rows: list[asyncpg.Record] = await connection.fetch(
                statements.FIND_POSITIONS, *map(list, zip(*keys, strict=True))
            )
            return rows

        if not claims:
            return []
        found = {tuple(row)[:3]: row for row in await self._session.at_once(find)}
        whys = [
            (
                claim,
                why_lost(
                    claim.topic,
                    claim.partition,
                    claim.epoch,
                    found.get((claim.topic, claim.generation, claim.partition)),
                ),
            )
            for claim in claims
        ]
        return [(claim, why) for claim, why in whys if why]

    async def new_generation(self, claim: Claim, *, cluster_id: str, log_start: int) -> Claim:
        """Begin the next generation at `log_start`: the topic was made anew (--accept-reset).

        Raises Fenced and PositionMoved as `write` does: of two that see a reset, one begins.
        """

        async def begin(connection: asyncpg.Connection) -> asyncpg.Record:
            await lock_positions(connection, (_stretch(claim, claim.next_offset),))
            return await connection.fetchrow(
                statements.BEGIN_NEXT_GENERATION,
                claim.topic,
                claim.generation,
                claim.partition,
                cluster_id,
                self._owner,
                log_start,
            )

        row = await self._session.at_once(begin)
        return Claim(topic=claim.topic, partition=claim.partition, **row)

    async def record_gap(self, claim: Claim, next_offset: int, reason: str) -> Claim:
        """Move the position over offsets that can no longer be read; the gap becomes a row.

        `reason` is expired or skipped. Raises Fenced and PositionMoved as `write` does.
        """
        part = _stretch(claim, next_offset)

        async def record(connection: asyncpg.Connection) -> None:
            if await lock_positions(connection, (part,)) is None:
                return
            await add_gaps(connection, (part,), reason)
            await move_positions(connection, [(part, Counts().totals(part))])

        await self._session.at_once(record)
        return msgspec.structs.replace(claim, next_offset=next_offset)

    async def write(self, batch: Batch, *, projections: bool = True) -> Totals:
        """Write the batch in one transaction; rows that the database refuses go to quarantine.

        Where partitions share executions, rows that were told again are changed in a transaction
        before it: a writer goes through the projections once a transaction, in their order, or
        two writers wait for each other. A kill between the two leaves tellings to be told again.

        A batch whose commit took effect although its answer was lost is recognised, and not
        written again: its totals are then empty.

        Without `projections` no view follows: the database notes the executions and hours of the
        batch as divergent, and `projector repair` sees to them. For one record that makes a
        projection fail.
        Raises Fenced (a younger epoch owns a partition) and PositionMoved (an operator's hand).
        """
        refused: dict[Place, Rejected] = {}
        joined: frozenset[Place] = frozenset()
        plan: _Plan | None = None
        ambiguous = 0
        fault: BaseException | None = None
        rounds = 0
        while rounds < _ROUNDS:
            try:
                if isinstance(fault, RowRefused):
                    refused = refused | await self._find_refused(
                        batch, refused, fault, projections=projections
                    )
                write = partial(self._write, batch, refused, joined, plan)
                if not projections:
                    write = partial(_without_projections, write)
                written = await self._session.transaction(write)
            except (RowRefused, OnceMore) as again:
                # With its traceback it would hold this frame, and so the batch, for the collector.
                fault, plan = again.with_traceback(None), None
                rounds += 1
            else:
                if not isinstance(written, _Joined):
                    return self._told(written, ambiguous)
                joined, plan, fault = joined | written.places, written.plan, None
                ambiguous += written.ambiguous
        message = f"database: a batch did not get through in {_ROUNDS} rounds"
        raise StoreUnavailable(message) from fault

    def _told(self, written: Written | None, ambiguous: int) -> Totals:
        """`ambiguous`: of the rows that were changed before the batch."""
        if written is None:
            return Totals()
        if self._on_written:
            self._on_written(
                msgspec.structs.replace(
                    written,
                    ambiguous=written.ambiguous + ambiguous,
                    commit_s=self._session.commit_s,
                )
            )
        return written.totals

    async def _write(
        self,
        batch: Batch,
        refused: dict[Place, Rejected],
        joined: frozenset[Place],
        plan: _Plan | None,
        connection: asyncpg.Connection,
    ) -> Written | _Joined | None:
        """None: this batch's commit had taken effect already. `joined` are joined by now.

        `plan` was made when they were.
        """
        reached = await self._positions.lock(connection, batch.parts)
        if reached is None:
            return None
        batch_id, let_go = await _begun(connection, batch)
        if plan is None or not plan.holds(reached, let_go):
            plan = await self._plan(connection, batch, refused, let_go, reached)
        sorted_out, settled = plan.sorted_out, plan.settled
        if self._go_apart(sorted_out.events, settled, reached):
            changing = _changing(sorted_out.events, settled)
            if not changing <= joined:
                return await self._join(connection, plan, changing)
        fates = settled.fates
        if joined:
            fates = [
                ("joined", row)
                if fate == "duplicate" and place_of(event) in joined
                else (fate, row)
                for event, (fate, row) in zip(sorted_out.events, fates, strict=True)
            ]
        await copy_rows(connection, settled.new, batch_id)
        await change_rows(connection, settled.changed, self._grid)
        await add_tellings(connection, [one for one in settled.tellings if one[0] not in joined])
        kept = await self._quarantine(connection, sorted_out.refusals, batch_id, reached)
        for counts, (first, after) in zip(
            sorted_out.counts, pairwise((0, *sorted_out.ends)), strict=True
        ):
            counts.add_fates(fates[first:after])
        for counts, is_new in zip(sorted_out.counts_of_refusals, kept, strict=True):
            counts.add("quarantined" if is_new else "duplicate")
        moves = [
            (part, counts.totals(part))
            for part, counts in zip(batch.parts, sorted_out.counts, strict=True)
        ]
        await self._positions.move(connection, moves, batch_id, sorted_out.refusals)
        return Written(
            events=sorted_out.events,
            new=settled.new,
            fates=fates,
            refusals=sorted_out.refusals,
            kept=kept,
            totals=sum((totals for _, totals in moves), Totals()),
            expired_unread=sorted_out.expired_unread,
            ambiguous=settled.ambiguous,
        )

    async def _plan(
        self,
        connection: asyncpg.Connection,
        batch: Batch,
        refused: dict[Place, Rejected],
        let_go: _LetGo,
        reached: Reached,
    ) -> _Plan:
        sorted_out = _sort_out(batch, refused, let_go, reached)
        if sorted_out.expired and not self._accept_expired:
            raise FatalError(
                f"{sorted_out.expired:,} of the next events lie before the horizon of retention, "
                f"{let_go.horizon:%Y-%m-%dT%H:%M:%SZ}, and would be ignored: --accept-expired goes "
                "on without them"
            )
        settled = await settle(sorted_out.events, StoredRows(connection, self._grid), reached)
        return _Plan(reached=reached, let_go=let_go, sorted_out=sorted_out, settled=settled)

    def _go_apart(self, events: Sequence[Envelope], settled: Settled, reached: Reached) -> bool:
        """Whether the rows to change are changed in a transaction of their own.

        They are where others may write the same executions at this moment.
        """
        if settled.changed:
            sources = {source_of(event) for event in events}
            alone = {one for one in sources if reached.get(one, 0) < EVERYTHING}
            if any(source_of(row) not in alone for row in settled.changed):
                self._apart = _APART_FOR
        self._apart = max(self._apart - 1, 0)
        return bool(self._apart and settled.new and settled.changed)

    async def _join(
        self, connection: asyncpg.Connection, plan: _Plan, changing: frozenset[Place]
    ) -> _Joined:
        """Change the rows that were told again, and nothing else: the batch follows."""
        settled = plan.settled
        await change_rows(connection, settled.changed, self._grid)
        await add_tellings(connection, [one for one in settled.tellings if one[0] in changing])
        left = msgspec.structs.replace(settled, changed=[], ambiguous=0)
        return _Joined(
            places=changing,
            ambiguous=settled.ambiguous,
            plan=msgspec.structs.replace(plan, settled=left),
        )

    async def _quarantine(
        self,
        connection: asyncpg.Connection,
        refusals: Sequence[Refusal],
        batch_id: int,
        reached: Reached,
    ) -> list[bool]:
        """Whether each refusal is new; what was stored before is no refusal, whatever the rules."""
        below = {
            refusal.place
            for refusal in refusals
            if refusal.record.offset < reached.get(refusal.place[:3], 0)
        }
        seen = await StoredRows(connection, self._grid).at(below) if below else {}
        kept = iter(
            await quarantine(
                connection, [one for one in refusals if one.place not in seen], batch_id
            )
        )
        return [refusal.place not in seen and next(kept) for refusal in refusals]

    async def _find_refused(
        self,
        batch: Batch,
        refused: dict[Place, Rejected],
        fault: RowRefused,
        *,
        projections: bool,
    ) -> dict[Place, Rejected]:
        """Which events' rows the database refuses, by writing and rolling back."""
        find = partial(self._try_rows, batch, refused)
        if not projections:
            find = partial(_without_projections, find)
        found = await self._session.transaction(find, rolled_back=True)
        if not found:
            raise StoreUnavailable(
                f"database: SQLSTATE {fault.sqlstate} for a row, and for none when asked for which",
                sqlstate=fault.sqlstate,
            )
        return found

    async def _try_rows(
        self, batch: Batch, refused: dict[Place, Rejected], connection: asyncpg.Connection
    ) -> dict[Place, Rejected]:
        reached = await self._positions.lock(connection, batch.parts) or NOTHING_REACHED
        _, let_go = await _begun(connection, batch)
        events = _sort_out(batch, refused, let_go, reached).events
        # What would be refused at the commit only is refused with its row.
        await connection.execute(statements.CHECK_AT_ONCE)
        codes, settled = await self._refusals(connection, events, reached)
        tellings: dict[int, list[Envelope]] = {}
        for event, (fate, row) in zip(events, settled.fates, strict=True):
            if row in codes and fate != "duplicate":
                tellings.setdefault(row, []).append(event)
        return {
            place_of(event): Rejected(
                reason="rejected_by_database",
                detail="the database refused the row: " + (codes[row] or "it cannot be encoded"),
                shape=event.shape,
                index=event.source_index,
                sqlstate=codes[row],
            )
            for row, told in tellings.items()
            for event in await self._to_blame(connection, told, reached)
        }

    async def _refusals(
        self, connection: asyncpg.Connection, events: Sequence[Envelope], reached: Reached
    ) -> tuple[dict[int, str | None], Settled]:
        """The SQLSTATE of each row (by id) that is refused; nothing stays written."""
        settled = await settle(events, StoredRows(connection, self._grid), reached)

        async def copy(rows: Sequence[Envelope]) -> None:
            await copy_rows(connection, rows, 0)

        async def change(rows: Sequence[Envelope]) -> None:
            await change_rows(connection, rows, self._grid)

        codes = await refused_rows(connection, settled.new, copy)
        return codes | await refused_rows(connection, settled.changed, change), settled

    async def _to_blame(
        self, connection: asyncpg.Connection, tellings: Sequence[Envelope], reached: Reached
    ) -> Sequence[Envelope]:
        """Of the tellings of one refused row those that are refused alone, else the last."""
        if len(tellings) == 1:
            return tellings
        alone = [
            event for event in tellings if (await self._refusals(connection, [event], reached))[0]
        ]
        return alone or tellings[-1:]


async def _without_projections(
    work: Callable[[asyncpg.Connection], Awaitable[_T]], connection: asyncpg.Connection
) -> _T:
    await connection.execute(statements.PROJECTIONS_OFF)
    return await work(connection)


async def _begun(connection: asyncpg.Connection, batch: Batch) -> tuple[int, _LetGo]:
    """The id of the transaction, and what it must not take in."""
    told = {
        outcome.execution_id
        for _, outcomes in batch.items()
        for outcome in outcomes
        # An id that no row can hold was never forgotten: its row is refused, not the batch.
        if isinstance(outcome, Envelope) and -(1 << 63) <= outcome.execution_id < 1 << 63
    }
    batch_id, horizon, forgotten = await connection.fetchrow(statements.BEGIN_BATCH, list(told))
    return batch_id, _LetGo(horizon=horizon, forgotten=frozenset(forgotten))


def _changing(events: Sequence[Envelope], settled: Settled) -> frozenset[Place]:
    """The records that change stored rows: by joining, or as another event of their id."""
    changed = {row.event_id for row in settled.changed}
    return frozenset(
        place_of(event)
        for event, (fate, row) in zip(events, settled.fates, strict=True)
        if (fate == "joined" and row in changed)
        or (fate == "stored" and event.event_id != row and event.event_id in changed)
    )


def is_expired(record: RawRecord, outcome: Outcome, horizon: datetime) -> bool:
    """Whether it lies before the horizon of retention: by the log's time, or what stands for it.

    As retention tells the age of a row. What has no time at all is never expired.
    """
    time = recorded_at(record.recorded_ms)
    if time is None and isinstance(outcome, Envelope):
        time = outcome.created_at
    return time is not None and time < horizon and not isinstance(outcome, Ignored)


def _stretch(claim: Claim, next_offset: int) -> PartitionBatch:
    """From the claim's position up to next_offset, without a record."""
    return PartitionBatch(
        topic=claim.topic,
        generation=claim.generation,
        partition=claim.partition,
        epoch=claim.epoch,
        from_offset=claim.next_offset,
        next_offset=next_offset,
        items=[],
        holes=((claim.next_offset, next_offset),),
    )


class _SortedOut(msgspec.Struct, kw_only=True):
    """A batch's outcomes by kind; those that were ignored, expired or forgotten are only counted.

    `counts` are parallel to the batch's parts, and `ends` say where in `events` those of a part
    end; `counts_of_refusals` say whose a refusal is. `expired` are the ignored ones that lie before
    the horizon, `expired_unread` those of them that nobody has read before.
    """

    counts: list[Counts]
    events: list[Envelope] = []
    ends: list[int] = []
    refusals: list[Refusal] = []
    counts_of_refusals: list[Counts] = []
    expired: int = 0
    expired_unread: int = 0

    def add_refusal(self, refusal: Refusal, counts: Counts) -> None:
        self.refusals.append(refusal)
        self.counts_of_refusals.append(counts)


def _sort_out(
    batch: Batch, refused: dict[Place, Rejected], let_go: _LetGo, reached: Reached
) -> _SortedOut:
    sorted_out = _SortedOut(counts=[Counts() for _ in batch.parts])
    events, horizon, forgotten = sorted_out.events, let_go.horizon, let_go.forgotten
    for part, counts in zip(batch.parts, sorted_out.counts, strict=True):
        for record, outcomes in part.items:
            for outcome in outcomes:
                if horizon is not None and is_expired(record, outcome, horizon):
                    counts.add("ignored")
                    sorted_out.expired += 1
                    source = (record.topic, record.generation, record.partition)
                    sorted_out.expired_unread += record.offset >= reached.get(source, 0)
                    continue
                match outcome:
                    case Envelope() if forgotten and outcome.execution_id in forgotten:
                        counts.add("ignored")
                    case Envelope():
                        if refused and (rejected := refused.get(place_of(outcome))):
                            sorted_out.add_refusal(Refusal(record, rejected), counts)
                        else:
                            events.append(outcome)
                    case Rejected():
                        sorted_out.add_refusal(Refusal(record, outcome), counts)
                    case Ignored():
                        counts.add("ignored")
        sorted_out.ends.append(len(events))
    return sorted_out

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

from normalizer.core.batch import Batch, LastRecord, OutcomeTotals, PartitionBatch
from normalizer.core.raw_record import RawRecord
from normalizer.core.reconcile import (
    DEDUP_ALWAYS,
    NO_DEDUP_HORIZON,
    Coordinates,
    DedupHorizon,
    Outcome,
    WritePlan,
    coordinates_of,
    reconcile,
    source_key,
)
from normalizer.core.rules.timestamps import recorded_at
from normalizer.envelope import Envelope, Ignored, Normalized, Rejected
from normalizer.errors import FatalError, PositionError, StoreUnavailable
from normalizer.store import store_statements
from normalizer.store.grid import Grid
from normalizer.store.migrate import refuse_edited
from normalizer.store.protocol import check_protocol
from normalizer.store.quarantine_writer import RejectedRecord, write_quarantine
from normalizer.store.rows import (
    RowRefused,
    StoredRows,
    add_merged_records,
    copy_rows,
    find_refused_rows,
    update_rows,
)
from normalizer.store.session import COMMAND_TIMEOUT_S, RetryTransaction, Session
from normalizer.store.source_positions import (
    OutcomeCounts,
    Positions,
    SourcePositions,
    add_gaps,
    lock_positions,
    move_positions,
    why_claim_lost,
)

_T = TypeVar("_T")

_MAX_ROUNDS: Final = 10
_MERGE_FIRST_BATCHES: Final = 1_000
"""So many batches are written in two steps once rows of other partitions were told again."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A partition that is ours: where to read on, and what the last record there looked like."""

    topic: str
    incarnation: int
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


class _Exclusions(msgspec.Struct, frozen=True, kw_only=True):
    """What is not taken in any more: what lies before the horizon, and forgotten executions."""

    horizon: datetime | None
    forgotten: frozenset[int]


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the batch writes. `dedup_horizon` and `exclusions` are what it was made from."""

    dedup_horizon: DedupHorizon
    exclusions: _Exclusions
    sorted_outcomes: "_SortedOutcomes"
    write_plan: WritePlan

    def holds(self, dedup_horizon: DedupHorizon, exclusions: _Exclusions) -> bool:
        """Whether it still holds in a later transaction: where nobody else writes these records.

        A new row whose id was taken meanwhile is refused, and the batch is planned anew.
        """
        return not (self.dedup_horizon or dedup_horizon) and self.exclusions == exclusions


class _MergedFirst(msgspec.Struct, frozen=True, kw_only=True):
    """Rows were changed by these records; what the batch has to do besides is in the plan."""

    coordinates_set: frozenset[Coordinates]
    ambiguous: int
    plan: _Plan


class CommittedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What one committed transaction did, for whoever counts.

    `outcomes` is parallel to `events`, `kept` (is it new?) to `refusals`; `new` are the rows.
    `expired_unread` are those that were ignored as expired though nobody had read them before.
    `ambiguous`: so many other rows hold from now on a report that may be another event's.
    """

    events: Sequence[Envelope]
    new: Sequence[Envelope]
    outcomes: Sequence[tuple[Outcome, int]]
    refusals: Sequence[RejectedRecord]
    kept: Sequence[bool]
    totals: OutcomeTotals
    expired_unread: int
    ambiguous: int = 0
    commit_s: float = 0.0


class Store:
    """One connection that writes batches; it reconnects by itself after an outage.

    `async with Store(url, owner=...) as store`; not for two tasks at once.
    Every method raises StoreUnavailable (nothing was written: do it again) or FatalError.
    A job gives `positions` of its own, and `session`: server settings for its connection. Without
    `accept_expired` it is fatal that records lie before the horizon of retention, not the rule.
    `on_commit` is called after each commit, but not where only its answer was lost.
    """

    def __init__(
        self,
        database_url: str,
        *,
        owner: str,
        application_name: str = "normalizer",
        command_timeout_s: float = COMMAND_TIMEOUT_S,
        positions: Positions | None = None,
        session: Mapping[str, str] = MappingProxyType({}),
        on_commit: Callable[[CommittedBatch], None] | None = None,
        accept_expired: bool = True,
    ) -> None:
        self._owner = owner
        self._accept_expired = accept_expired
        self._on_commit = on_commit
        self._positions = positions or SourcePositions()
        self._grid = Grid()
        self._merge_first_batches = 0
        self._session = Session(
            database_url,
            application_name=application_name,
            grid=self._grid,
            command_timeout_s=command_timeout_s,
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
        self._session.terminate()

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

        A partition never read before begins incarnation 0 at `log_start`. One that was read up to
        `log_end` cannot move: its claim does not count as one without a move. Raises FatalError
        where the database is not one that this code may write to.
        """

        async def claim(connection: asyncpg.Connection) -> asyncpg.Record:
            await refuse_edited(connection)
            row = await claim_row(connection)
            await check_protocol(connection)
            return row

        async def claim_row(connection: asyncpg.Connection) -> asyncpg.Record:
            mine = (store_statements.CLAIM, topic, partition, self._owner, log_end)
            if row := await connection.fetchrow(*mine):
                return row
            first = ([topic], [0], [partition])
            await connection.execute(store_statements.ADD_DEDUP_HORIZON, *first)
            await connection.fetch(store_statements.LOCK_DEDUP_HORIZON, *first)
            return await connection.fetchrow(
                store_statements.BEGIN_FIRST_INCARNATION,
                topic,
                partition,
                cluster_id,
                self._owner,
                log_start,
            ) or await connection.fetchrow(*mine)

        row = await self._session.run_once(claim)
        return Claim(topic=topic, partition=partition, **row)

    async def lost_claims(self, claims: Sequence[Claim]) -> list[tuple[Claim, PositionError]]:
        """Which of the claims are none any more: Fenced, or PositionMoved by an operator."""

        async def find(connection: asyncpg.Connection) -> list[asyncpg.Record]:
            keys = [(claim.topic, claim.incarnation, claim.partition) for claim in claims]
            rows: list[asyncpg.Record] = await connection.fetch(
                store_statements.FIND_POSITIONS, *map(list, zip(*keys, strict=True))
            )
            return rows

        if not claims:
            return []
        found = {tuple(row)[:3]: row for row in await self._session.run_once(find)}
        reasons = [
            (
                claim,
                why_claim_lost(
                    claim.topic,
                    claim.partition,
                    claim.epoch,
                    found.get((claim.topic, claim.incarnation, claim.partition)),
                ),
            )
            for claim in claims
        ]
        return [(claim, why) for claim, why in reasons if why]

    async def begin_incarnation(self, claim: Claim, *, cluster_id: str, log_start: int) -> Claim:
        """Begin the next incarnation at `log_start`: the topic was made anew (--accept-reset).

        Raises Fenced and PositionMoved as `write` does: of two that see a reset, one begins.
        """

        async def begin(connection: asyncpg.Connection) -> asyncpg.Record:
            await lock_positions(connection, (_gap_part(claim, claim.next_offset),))
            return await connection.fetchrow(
                store_statements.BEGIN_NEXT_INCARNATION,
                claim.topic,
                claim.incarnation,
                claim.partition,
                cluster_id,
                self._owner,
                log_start,
            )

        row = await self._session.run_once(begin)
        return Claim(topic=claim.topic, partition=claim.partition, **row)

    async def record_gap(self, claim: Claim, next_offset: int, reason: str) -> Claim:
        """Move the position over offsets that can no longer be read; the gap becomes a row.

        `reason` is expired or skipped. Raises Fenced and PositionMoved as `write` does.
        """
        part = _gap_part(claim, next_offset)

        async def record(connection: asyncpg.Connection) -> None:
            if await lock_positions(connection, (part,)) is None:
                return
            await add_gaps(connection, (part,), reason)
            await move_positions(connection, [(part, OutcomeCounts().totals(part))])

        await self._session.run_once(record)
        return msgspec.structs.replace(claim, next_offset=next_offset)

    async def write(self, batch: Batch, *, projections: bool = True) -> OutcomeTotals:
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
        refused: dict[Coordinates, Rejected] = {}
        merged: frozenset[Coordinates] = frozenset()
        plan: _Plan | None = None
        ambiguous = 0
        fault: BaseException | None = None
        rounds = 0
        while rounds < _MAX_ROUNDS:
            try:
                if isinstance(fault, RowRefused):
                    refused = refused | await self._find_refused(
                        batch, refused, fault, projections=projections
                    )
                write = partial(self._write, batch, refused, merged, plan)
                if not projections:
                    write = partial(_without_projections, write)
                written = await self._session.transaction(write)
            except (RowRefused, RetryTransaction) as failure:
                # With its traceback it would hold this frame, and so the batch, for the collector.
                fault, plan = failure.with_traceback(None), None
                rounds += 1
            else:
                if not isinstance(written, _MergedFirst):
                    return self._report_commit(written, ambiguous)
                merged, plan, fault = merged | written.coordinates_set, written.plan, None
                ambiguous += written.ambiguous
        message = f"database: a batch did not get through in {_MAX_ROUNDS} rounds"
        raise StoreUnavailable(message) from fault

    def _report_commit(self, written: CommittedBatch | None, ambiguous: int) -> OutcomeTotals:
        """`ambiguous`: of the rows that were changed before the batch."""
        if written is None:
            return OutcomeTotals()
        if self._on_commit:
            self._on_commit(
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
        refused: dict[Coordinates, Rejected],
        merged: frozenset[Coordinates],
        plan: _Plan | None,
        connection: asyncpg.Connection,
    ) -> CommittedBatch | _MergedFirst | None:
        """None: this batch's commit had taken effect already. `merged` are joined by now.

        `plan` was made when they were.
        """
        dedup_horizon = await self._positions.lock(connection, batch.parts)
        if dedup_horizon is None:
            return None
        batch_id, exclusions = await _begin_batch(connection, batch)
        if plan is None or not plan.holds(dedup_horizon, exclusions):
            plan = await self._plan(connection, batch, refused, exclusions, dedup_horizon)
        sorted_outcomes, write_plan = plan.sorted_outcomes, plan.write_plan
        if self._needs_merge_first(sorted_outcomes.events, write_plan, dedup_horizon):
            updating = _updating_records(sorted_outcomes.events, write_plan)
            if not updating <= merged:
                return await self._merge_first(connection, plan, updating)
        outcomes = write_plan.outcomes
        if merged:
            outcomes = [
                ("merged", row)
                if outcome == "duplicate" and coordinates_of(event) in merged
                else (outcome, row)
                for event, (outcome, row) in zip(sorted_outcomes.events, outcomes, strict=True)
            ]
        await copy_rows(connection, write_plan.inserts, batch_id)
        await update_rows(connection, write_plan.updates, self._grid)
        await add_merged_records(
            connection, [one for one in write_plan.merged_records if one[0] not in merged]
        )
        kept = await self._quarantine(connection, sorted_outcomes.refusals, batch_id, dedup_horizon)
        for counts, (first, after) in zip(
            sorted_outcomes.counts, pairwise((0, *sorted_outcomes.ends)), strict=True
        ):
            counts.add_outcomes(outcomes[first:after])
        for counts, is_new in zip(sorted_outcomes.counts_of_refusals, kept, strict=True):
            counts.add("quarantined" if is_new else "duplicate")
        moves = [
            (part, counts.totals(part))
            for part, counts in zip(batch.parts, sorted_outcomes.counts, strict=True)
        ]
        await self._positions.move(connection, moves, batch_id, sorted_outcomes.refusals)
        return CommittedBatch(
            events=sorted_outcomes.events,
            new=write_plan.inserts,
            outcomes=outcomes,
            refusals=sorted_outcomes.refusals,
            kept=kept,
            totals=sum((totals for _, totals in moves), OutcomeTotals()),
            expired_unread=sorted_outcomes.expired_unread,
            ambiguous=write_plan.ambiguous,
        )

    async def _plan(
        self,
        connection: asyncpg.Connection,
        batch: Batch,
        refused: dict[Coordinates, Rejected],
        exclusions: _Exclusions,
        dedup_horizon: DedupHorizon,
    ) -> _Plan:
        sorted_outcomes = _sort_outcomes(batch, refused, exclusions, dedup_horizon)
        if sorted_outcomes.expired and not self._accept_expired:
            raise FatalError(
                f"{sorted_outcomes.expired:,} of the next events lie before the horizon of "
                f"retention, {exclusions.horizon:%Y-%m-%dT%H:%M:%SZ}, and would be ignored: "
                "--accept-expired goes on without them"
            )
        write_plan = await reconcile(
            sorted_outcomes.events, StoredRows(connection, self._grid), dedup_horizon
        )
        return _Plan(
            dedup_horizon=dedup_horizon,
            exclusions=exclusions,
            sorted_outcomes=sorted_outcomes,
            write_plan=write_plan,
        )

    def _needs_merge_first(
        self, events: Sequence[Envelope], write_plan: WritePlan, dedup_horizon: DedupHorizon
    ) -> bool:
        """Whether the rows to change are changed in a transaction of their own.

        They are where others may write the same executions at this moment.
        """
        if write_plan.updates:
            sources = {source_key(event) for event in events}
            alone = {one for one in sources if dedup_horizon.get(one, 0) < DEDUP_ALWAYS}
            if any(source_key(row) not in alone for row in write_plan.updates):
                self._merge_first_batches = _MERGE_FIRST_BATCHES
        self._merge_first_batches = max(self._merge_first_batches - 1, 0)
        return bool(self._merge_first_batches and write_plan.inserts and write_plan.updates)

    async def _merge_first(
        self, connection: asyncpg.Connection, plan: _Plan, updating: frozenset[Coordinates]
    ) -> _MergedFirst:
        """Change the rows that were told again, and nothing else: the batch follows."""
        write_plan = plan.write_plan
        await update_rows(connection, write_plan.updates, self._grid)
        await add_merged_records(
            connection, [one for one in write_plan.merged_records if one[0] in updating]
        )
        left = msgspec.structs.replace(write_plan, updates=[], ambiguous=0)
        return _MergedFirst(
            coordinates_set=updating,
            ambiguous=write_plan.ambiguous,
            plan=msgspec.structs.replace(plan, write_plan=left),
        )

    async def _quarantine(
        self,
        connection: asyncpg.Connection,
        refusals: Sequence[RejectedRecord],
        batch_id: int,
        dedup_horizon: DedupHorizon,
    ) -> list[bool]:
        """Whether each refusal is new; what was stored before is no refusal, whatever the rules."""
        below = {
            refusal.coordinates
            for refusal in refusals
            if refusal.record.offset < dedup_horizon.get(refusal.coordinates[:3], 0)
        }
        stored_before = (
            await StoredRows(connection, self._grid).find_rows_at(below) if below else {}
        )
        kept = iter(
            await write_quarantine(
                connection,
                [one for one in refusals if one.coordinates not in stored_before],
                batch_id,
            )
        )
        return [refusal.coordinates not in stored_before and next(kept) for refusal in refusals]

    async def _find_refused(
        self,
        batch: Batch,
        refused: dict[Coordinates, Rejected],
        fault: RowRefused,
        *,
        projections: bool,
    ) -> dict[Coordinates, Rejected]:
        """Which events' rows the database refuses, by writing and rolling back."""
        find = partial(self._find_refused_coordinates, batch, refused)
        if not projections:
            find = partial(_without_projections, find)
        found = await self._session.transaction(find, rolled_back=True)
        if not found:
            raise StoreUnavailable(
                f"database: SQLSTATE {fault.sqlstate} for a row, and for none when asked for which",
                sqlstate=fault.sqlstate,
            )
        return found

    async def _find_refused_coordinates(
        self, batch: Batch, refused: dict[Coordinates, Rejected], connection: asyncpg.Connection
    ) -> dict[Coordinates, Rejected]:
        dedup_horizon = await self._positions.lock(connection, batch.parts) or NO_DEDUP_HORIZON
        _, exclusions = await _begin_batch(connection, batch)
        events = _sort_outcomes(batch, refused, exclusions, dedup_horizon).events
        # What would be refused at the commit only is refused with its row.
        await connection.execute(store_statements.CHECK_CONSTRAINTS_NOW)
        codes, write_plan = await self._refusals(connection, events, dedup_horizon)
        reports: dict[int, list[Envelope]] = {}
        for event, (outcome, row) in zip(events, write_plan.outcomes, strict=True):
            if row in codes and outcome != "duplicate":
                reports.setdefault(row, []).append(event)
        return {
            coordinates_of(event): Rejected(
                reason="rejected_by_database",
                detail="the database refused the row: " + (codes[row] or "it cannot be encoded"),
                shape=event.shape,
                index=event.source_index,
                sqlstate=codes[row],
            )
            for row, row_reports in reports.items()
            for event in await self._isolate_rows(connection, row_reports, dedup_horizon)
        }

    async def _refusals(
        self,
        connection: asyncpg.Connection,
        events: Sequence[Envelope],
        dedup_horizon: DedupHorizon,
    ) -> tuple[dict[int, str | None], WritePlan]:
        """The SQLSTATE of each row (by id) that is refused; nothing stays written."""
        write_plan = await reconcile(events, StoredRows(connection, self._grid), dedup_horizon)

        async def copy(rows: Sequence[Envelope]) -> None:
            await copy_rows(connection, rows, 0)

        async def change(rows: Sequence[Envelope]) -> None:
            await update_rows(connection, rows, self._grid)

        codes = await find_refused_rows(connection, write_plan.inserts, copy)
        return codes | await find_refused_rows(connection, write_plan.updates, change), write_plan

    async def _isolate_rows(
        self,
        connection: asyncpg.Connection,
        reports: Sequence[Envelope],
        dedup_horizon: DedupHorizon,
    ) -> Sequence[Envelope]:
        """Of the tellings of one refused row those that are refused alone, else the last."""
        if len(reports) == 1:
            return reports
        alone = [
            event
            for event in reports
            if (await self._refusals(connection, [event], dedup_horizon))[0]
        ]
        return alone or reports[-1:]


async def _without_projections(
    work: Callable[[asyncpg.Connection], Awaitable[_T]], connection: asyncpg.Connection
) -> _T:
    await connection.execute(store_statements.PROJECTIONS_OFF)
    return await work(connection)


async def _begin_batch(connection: asyncpg.Connection, batch: Batch) -> tuple[int, _Exclusions]:
    """The id of the transaction, and what it must not take in."""
    execution_ids = {
        outcome.execution_id
        for _, outcomes in batch.items()
        for outcome in outcomes
        # An id that no row can hold was never forgotten: its row is refused, not the batch.
        if isinstance(outcome, Envelope) and -(1 << 63) <= outcome.execution_id < 1 << 63
    }
    batch_id, horizon, forgotten = await connection.fetchrow(
        store_statements.BEGIN_BATCH, list(execution_ids)
    )
    return batch_id, _Exclusions(horizon=horizon, forgotten=frozenset(forgotten))


def _updating_records(events: Sequence[Envelope], write_plan: WritePlan) -> frozenset[Coordinates]:
    """The records that change stored rows: by joining, or as another event of their id."""
    changed = {row.event_id for row in write_plan.updates}
    return frozenset(
        coordinates_of(event)
        for event, (outcome, row) in zip(events, write_plan.outcomes, strict=True)
        if (outcome == "merged" and row in changed)
        or (outcome == "stored" and event.event_id != row and event.event_id in changed)
    )


def is_expired(record: RawRecord, outcome: Normalized, horizon: datetime) -> bool:
    """Whether it lies before the horizon of retention: by the log's time, or what stands for it.

    As retention tells the age of a row. What has no time at all is never expired.
    """
    time = recorded_at(record.recorded_ms)
    if time is None and isinstance(outcome, Envelope):
        time = outcome.created_at
    return time is not None and time < horizon and not isinstance(outcome, Ignored)


def _gap_part(claim: Claim, next_offset: int) -> PartitionBatch:
    """From the claim's position up to next_offset, without a record."""
    return PartitionBatch(
        topic=claim.topic,
        incarnation=claim.incarnation,
        partition=claim.partition,
        epoch=claim.epoch,
        from_offset=claim.next_offset,
        next_offset=next_offset,
        items=[],
        holes=((claim.next_offset, next_offset),),
    )


class _SortedOutcomes(msgspec.Struct, kw_only=True):
    """A batch's outcomes by kind; those that were ignored, expired or forgotten are only counted.

    `counts` are parallel to the batch's parts, and `ends` say where in `events` those of a part
    end; `counts_of_refusals` say whose a refusal is. `expired` are the ignored ones that lie before
    the horizon, `expired_unread` those of them that nobody has read before.
    """

    counts: list[OutcomeCounts]
    events: list[Envelope] = []
    ends: list[int] = []
    refusals: list[RejectedRecord] = []
    counts_of_refusals: list[OutcomeCounts] = []
    expired: int = 0
    expired_unread: int = 0

    def add_refusal(self, refusal: RejectedRecord, counts: OutcomeCounts) -> None:
        self.refusals.append(refusal)
        self.counts_of_refusals.append(counts)


def _sort_outcomes(
    batch: Batch,
    refused: dict[Coordinates, Rejected],
    exclusions: _Exclusions,
    dedup_horizon: DedupHorizon,
) -> _SortedOutcomes:
    sorted_outcomes = _SortedOutcomes(counts=[OutcomeCounts() for _ in batch.parts])
    events, horizon, forgotten = sorted_outcomes.events, exclusions.horizon, exclusions.forgotten
    for part, counts in zip(batch.parts, sorted_outcomes.counts, strict=True):
        for record, outcomes in part.items:
            for outcome in outcomes:
                if horizon is not None and is_expired(record, outcome, horizon):
                    counts.add("ignored")
                    sorted_outcomes.expired += 1
                    source = (record.topic, record.incarnation, record.partition)
                    sorted_outcomes.expired_unread += record.offset >= dedup_horizon.get(source, 0)
                    continue
                match outcome:
                    case Envelope() if forgotten and outcome.execution_id in forgotten:
                        counts.add("ignored")
                    case Envelope():
                        if refused and (rejected := refused.get(coordinates_of(outcome))):
                            sorted_outcomes.add_refusal(RejectedRecord(record, rejected), counts)
                        else:
                            events.append(outcome)
                    case Rejected():
                        sorted_outcomes.add_refusal(RejectedRecord(record, outcome), counts)
                    case Ignored():
                        counts.add("ignored")
        sorted_outcomes.ends.append(len(events))
    return sorted_outcomes

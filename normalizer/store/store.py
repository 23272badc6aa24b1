"""The store: claims partitions and writes batches of events in transactions.

After a crash, the server rolls back the transaction in flight, and the next owner of a partition
reads again from its stored position. In an outage each method raises StoreUnavailableError, and the
caller retries (see `write_retry` and `consumer.membership`).
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final, Self, TypeVar

import asyncpg
import msgspec

from normalizer.core.batch import Batch, OutcomeTotals
from normalizer.core.identity.coordinates import Coordinates
from normalizer.envelope import Rejected
from normalizer.errors import OtherGroupError, PositionError, StoreUnavailableError
from normalizer.postgres.database import COMMAND_TIMEOUT_S
from normalizer.store.batch_plan import BatchPlanner, BatchWriteState
from normalizer.store.claim import Claim, PartitionOwner
from normalizer.store.claim_checks import (
    NO_SHAPES_FINGERPRINT,
    ShapesFingerprint,
    check_or_set_topic_cluster,
    find_other_group_errors,
)
from normalizer.store.claims import (
    begin_next_incarnation,
    claim_partition,
    mark_owner_idle,
    mark_working_on_one_record,
)
from normalizer.store.committed_batch import CommittedBatch
from normalizer.store.event_rows import RowRejectedError
from normalizer.store.rejected_row_finder import RejectedRowFinder
from normalizer.store.session import LOCK_HOLDERS_SQL, RetryTransactionError, Session
from normalizer.store.source_positions import (
    AlreadyCommitted,
    BatchPositions,
    SourcePositions,
    advance_past_gap,
    find_lost_claims,
)
from normalizer.store.write_transaction import WriteTransaction

_T = TypeVar("_T")

_MAX_ROUNDS: Final = 20
"""How many rounds to run for a batch without a pause. A round is one transaction that writes, and
before it one that finds the rejected rows, if the last round had any. A batch takes one or two
rounds, and more after a race or a rejected row. After this many, `write` raises
StoreUnavailableError, so that its caller backs off."""


class Store:
    """Writes batches over one connection, which reconnects after an outage.

    Use it as `async with Store(url, owner=...) as store`. Only one task may write. Other tasks may
    call the other methods, and their transactions take turns on the connection. Every method may
    raise StoreUnavailableError, after which the call can be repeated, or FatalError. After either,
    nothing was written, unless the connection broke during COMMIT. In that case nobody knows, and a
    repeated call finds out.

    - `owner` names this process for operators. Each Store adds a random name of its own, which
      tells it from an earlier process with the same name.
    - `positions` replaces the positions of the service. A job passes its own.
    - `session` holds server settings for the connection.
    - `on_commit` is called after every acknowledged commit.
    - `accept_expired` decides about records that are older than the retention of events allows. If
      it's True, they're ignored. Otherwise they raise FatalError.
    """

    positions_are_group_offsets = False  # the positions are rows of `source_positions`

    def __init__(
        self,
        database_url: str,
        *,
        owner: str,
        application_name: str = "normalizer",
        command_timeout_s: float = COMMAND_TIMEOUT_S,
        positions: BatchPositions | None = None,
        session: Mapping[str, str] = MappingProxyType({}),
        on_commit: Callable[[CommittedBatch], None] | None = None,
        accept_expired: bool = True,
    ) -> None:
        self._owner = PartitionOwner(owner, secrets.token_hex(8))
        self._on_commit = on_commit
        positions = positions or SourcePositions()
        self._planner = BatchPlanner(accept_expired=accept_expired)
        self.normalizing_gate = asyncio.Event()
        self.normalizing_gate.set()
        self._transaction = WriteTransaction(positions, self._planner, self.normalizing_gate)
        self._rejected_row_finder = RejectedRowFinder(positions)
        self._session = Session(
            database_url,
            application_name=application_name,
            command_timeout_s=command_timeout_s,
            settings=session,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._session.terminate()

    @property
    def server_pid(self) -> int | None:
        """Return the process id of the server's session, or None. Safe to call from any thread."""
        return self._session.server_pid

    @property
    def why_transaction_not_begun(self) -> str:
        """Return why the transaction hasn't begun yet.

        It's empty if it has begun, or if there's no transaction.
        """
        return self._session.why_transaction_not_begun

    async def find_lock_holders(self, pid: int) -> str:
        """Return who holds the lock that this server process waits for, or an empty string."""
        rows = await self._session.fetch(LOCK_HOLDERS_SQL, [pid])
        return "".join(row["holders"] for row in rows)

    async def claim_partition(
        self,
        topic: str,
        partition: int,
        *,
        cluster_id: str,
        log_start: int,
        log_end: int | None = None,
        group_id: str = "",
        shapes: ShapesFingerprint = NO_SHAPES_FINGERPRINT,
        accept_reset: bool = False,
    ) -> Claim:
        """Claim the partition by raising its epoch, which fences every earlier owner.

        If the earlier owner has a transaction in flight, the claim waits until that has ended, so
        the position that it returns is final. A partition that was never read begins with
        incarnation 0 at `log_start`. If its position was deleted, it keeps its incarnation. The
        partition becomes a suspect (see `PreviousOwner`) if its last owner didn't release it
        although there were records left before `log_end`.

        Raises FatalError if this version must not write to the database, AnotherClusterError if the
        topic belongs to another cluster and `accept_reset` isn't set, OtherGroupError if another
        consumer group reads the partition, and ShapesChangedError if the table of shapes has
        changed.
        """
        claim = partial(
            claim_partition,
            topic=topic,
            partition=partition,
            owner=self._owner._replace(group_id=group_id),
            cluster_id=cluster_id,
            log_start=log_start,
            log_end=log_end,
            shapes=shapes,
        )

        async def claim_in_cluster(connection: asyncpg.Connection) -> Claim:
            await check_or_set_topic_cluster(
                connection, topic, partition, cluster_id, accept_reset=accept_reset
            )
            return await claim(connection)

        return await self._session.run(claim_in_cluster)

    async def find_other_group_errors(
        self, partitions: Collection[tuple[str, int]], group_id: str, cluster_id: str
    ) -> Sequence[OtherGroupError]:
        """Return an error for each of these partitions that another consumer group reads."""
        find = partial(
            find_other_group_errors, partitions=partitions, group_id=group_id, cluster_id=cluster_id
        )
        return await self._session.run(find)

    async def mark_owner_idle(self) -> None:
        """Record that this process works on no record.

        If it's killed now, no record is to blame.
        """
        await self._session.run(partial(mark_owner_idle, holder=self._owner.holder))

    async def mark_working_on_one_record(self, claim: Claim) -> None:
        """Record that this process works on the partition's next record, and on nothing else."""
        await self._session.run(partial(mark_working_on_one_record, claim=claim))

    async def find_lost_claims(self, claims: Sequence[Claim]) -> list[tuple[Claim, PositionError]]:
        """Return the claims that are no longer valid, each with the reason.

        This finds the lost claims of partitions without new records. If a partition has any,
        `write` would report the lost claim anyway. A FencedError means that another process has
        claimed the partition, and a PositionMovedError means that an operator has moved its
        position.
        """
        if not claims:
            return []
        return await self._session.run(partial(find_lost_claims, claims=claims))

    async def begin_next_incarnation(
        self, claim: Claim, *, cluster_id: str, log_start: int
    ) -> Claim:
        """Begin to read a recreated topic from the beginning of its new log (--accept-reset).

        Its offsets start again at `log_start`, so the incarnation is raised to tell new records
        from old ones with the same offset. If several processes notice that the topic was
        recreated, only one of them raises it. Raises FencedError and PositionMovedError, as `write`
        does.
        """
        return await self._session.run(
            partial(
                begin_next_incarnation,
                claim=claim,
                owner=self._owner,
                cluster_id=cluster_id,
                log_start=log_start,
            )
        )

    async def advance_past_gap(self, claim: Claim, next_offset: int, reason: str) -> Claim:
        """Advance the position past offsets that can no longer be read, and store them in `gaps`.

        `reason` is expired if Kafka deleted the records, or skipped if an operator skipped them.
        Raises FencedError and PositionMovedError, as `write` does.
        """
        return await self._session.run(
            partial(advance_past_gap, claim=claim, next_offset=next_offset, reason=reason)
        )

    async def write(self, batch: Batch, *, projections: bool = True) -> OutcomeTotals:
        """Write the batch. Rows that the database rejects go to quarantine.

        This takes one transaction, or two if other writers may share its rows (see `batch_plan`).
        If the process dies between them, the whole batch is written again. Its merges then change
        nothing. They still count as merged, but below a dedup horizon as duplicates. If an earlier
        commit of this batch succeeded although its response was lost, nothing is written, the
        totals are empty, and `on_commit` isn't called. So metrics miss this batch, just as they
        miss what a killed process committed last. The running totals of its positions have it.

        Pass `projections=False` for a record that makes a projection fail. The projections aren't
        updated then. Instead, the database marks the batch's executions and hours as divergent, so
        that `projector repair` rebuilds them.

        Raises FencedError if another process has claimed a partition, and PositionMovedError if a
        position has changed. While short statements run, `normalizing_gate` is cleared.
        """
        try:
            return await self._write(batch, projections=projections)
        finally:
            self.normalizing_gate.set()

    async def _write(self, batch: Batch, *, projections: bool) -> OutcomeTotals:
        """Run transactions until the batch is committed.

        A transaction that has only updated stored rows is followed by one that writes the rest. A
        transaction that lost a race is repeated. After one with a rejected row, another one first
        finds all such rows, so that the next try puts them into quarantine.
        """
        state = BatchWriteState()
        failure: BaseException | None = None
        for _ in range(_MAX_ROUNDS):
            self.normalizing_gate.clear()
            try:
                if isinstance(failure, RowRejectedError):
                    state = await self._find_rejected_rows(
                        batch, state, failure, projections=projections
                    )
                result = await self._session.run_in_transaction(
                    _set_projections(
                        partial(self._transaction.write_batch, batch=batch, state=state),
                        projections=projections,
                    )
                )
            except (RowRejectedError, RetryTransactionError) as error:
                # Drop the traceback. It would keep the whole batch in memory until the next garbage
                # collection.
                failure = error.with_traceback(None)
                # The plan was made from rows that have changed since, or it has a rejected row.
                state = msgspec.structs.replace(state, plan=None)
            else:
                match result:
                    case AlreadyCommitted():
                        return OutcomeTotals()
                    case CommittedBatch():
                        return self._report_commit(result)
                    case BatchWriteState():
                        state, failure = result, None
        message = (
            f"database: a batch was not written in {_MAX_ROUNDS} rounds, because again and again a "
            "row was rejected, or another transaction changed the same rows first"
        )
        raise StoreUnavailableError(message) from failure

    async def _find_rejected_rows(
        self, batch: Batch, state: BatchWriteState, failure: RowRejectedError, *, projections: bool
    ) -> BatchWriteState:
        """Return the state, and in it the events whose rows the database rejects.

        They're found in a transaction that is always rolled back. Raises StoreUnavailableError if
        there are none.
        """
        found: dict[Coordinates, Rejected] = await self._session.run_in_transaction(
            _set_projections(
                partial(
                    self._rejected_row_finder.find_rejected_events,
                    batch=batch,
                    row_rejections=state.row_rejections,
                ),
                projections=projections,
            ),
            rolled_back=True,
        )
        if not found:
            raise StoreUnavailableError(
                f"database: PostgreSQL rejected a batch with SQLSTATE {failure.sqlstate}, but "
                "accepts each of its rows alone, so the batch is tried again",
                sqlstate=failure.sqlstate,
            )
        return msgspec.structs.replace(state, row_rejections=state.row_rejections | found)

    def _report_commit(self, committed: CommittedBatch) -> OutcomeTotals:
        """Call `on_commit`, and return the batch's totals."""
        if self._on_commit:
            self._on_commit(msgspec.structs.replace(committed, commit_s=self._session.commit_s))
        return committed.totals


def _set_projections(
    work: Callable[[asyncpg.Connection], Awaitable[_T]], *, projections: bool
) -> Callable[[asyncpg.Connection], Awaitable[_T]]:
    """Return work that first switches projections off for its transaction, unless they're on."""
    return work if projections else partial(_without_projections, work)


# Switches projections off for this transaction. The database marks them as divergent.
_PROJECTIONS_OFF: Final = "select set_config('projector.off', 'on', true)"


async def _without_projections(
    work: Callable[[asyncpg.Connection], Awaitable[_T]], connection: asyncpg.Connection
) -> _T:
    await connection.execute(_PROJECTIONS_OFF)
    return await work(connection)

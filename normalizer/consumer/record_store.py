"""The interface of a store. The service writes to PostgreSQL, and the relay to Kafka."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from normalizer.config.settings import Settings
from normalizer.core.batch import Batch, OutcomeTotals
from normalizer.errors import OtherGroupError, PositionError
from normalizer.store.claim import Claim
from normalizer.store.claim_checks import NO_SHAPES_FINGERPRINT, ShapesFingerprint
from normalizer.store.committed_batch import CommittedBatch
from normalizer.store.store import Store


class RecordStore(Protocol):
    """Keeps the positions of partitions and writes batches.

    `Store` says which errors each method raises, and what each argument means. Entering a store
    opens nothing, because it connects when it's used. Leaving it closes its connections.
    """

    @property
    def normalizing_gate(self) -> asyncio.Event:
        """Return an event that's cleared while `write` runs short SQL statements.

        While it's cleared, the service waits before it normalizes the next slice of records, but at
        most `_SHORT_STATEMENTS_WAIT_S`. Otherwise the slice would keep the event loop busy, and
        each statement's response would have to wait until the slice is done.
        """

    @property
    def server_pid(self) -> int | None:
        """Return the process id of the database session that writes, or None."""

    @property
    def positions_are_group_offsets(self) -> bool:
        """Return whether the group's offsets are the positions.

        Then nothing else may commit them.
        """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

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
        """Claim a partition."""

    async def find_other_group_errors(
        self, partitions: Collection[tuple[str, int]], group_id: str, cluster_id: str
    ) -> Sequence[OtherGroupError]:
        """Return an error for each of these partitions that another consumer group reads."""

    async def mark_owner_idle(self) -> None:
        """Record that no record of any claimed partition is being processed any more.

        The service calls this when it stops normally, and after a rebalance.
        """

    async def mark_working_on_one_record(self, claim: Claim) -> None:
        """Record that the process works on the partition's next record, and on nothing else."""

    async def find_lost_claims(self, claims: Sequence[Claim]) -> list[tuple[Claim, PositionError]]:
        """Return the claims that are no longer valid, each with the reason."""

    async def begin_next_incarnation(
        self, claim: Claim, *, cluster_id: str, log_start: int
    ) -> Claim:
        """Begin the next incarnation of a recreated topic, i.e. a new position in the new log.

        Returns the claim of that position.
        """

    async def advance_past_gap(self, claim: Claim, next_offset: int, reason: str) -> Claim:
        """Move the position past offsets that can no longer be read, and return the moved claim."""

    @property
    def why_transaction_not_begun(self) -> str:
        """Return why the transaction hasn't begun yet.

        It's empty if it has begun, or if there's no transaction.
        """

    async def find_lock_holders(self, pid: int) -> str:
        """Return who holds the lock that this database session waits for, or an empty string."""

    async def write(self, batch: Batch, *, projections: bool = True) -> OutcomeTotals:
        """Write the batch.

        `Store` writes the whole batch or nothing, and raises RetryableError if it's worth another
        try. `KafkaStore` writes each part in a transaction of its own, and raises
        PartsNotWrittenError if some of them failed. It never raises RetryableError, so its batches
        are neither halved nor set aside.
        """


class ServiceStores(NamedTuple):
    """The stores of a service: for claims, for batches, and for parts that are set aside.

    The first two may be one store. `set_aside` must be a store of its own, because the service
    closes its connection whenever no part is left. It's None if `batches` never raises
    RetryableError, because then no part is ever set aside.
    """

    claims: RecordStore
    batches: RecordStore
    set_aside: RecordStore | None


OnCommit = Callable[[CommittedBatch], None]
StoreFactory = Callable[[Settings, OnCommit], ServiceStores]


def postgres_stores(settings: Settings, on_commit: OnCommit) -> ServiceStores:
    """Return three stores, each with its own connection."""
    open_store = partial(
        Store, settings.required_database_url, owner=settings.process_name, on_commit=on_commit
    )
    return ServiceStores(
        claims=open_store(application_name="normalizer claims"),
        batches=open_store(application_name="normalizer writer"),
        set_aside=open_store(application_name="normalizer set aside"),
    )

"""The interface of a store: PostgreSQL, or Kafka itself for the relay."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from normalizer.config.settings import Settings
from normalizer.core.batch import Batch, OutcomeTotals
from normalizer.errors import PositionError
from normalizer.store.claims import NO_TABLE
from normalizer.store.store import Claim, CommittedBatch, ShapesOfProcess, Store


class RecordStore(Protocol):
    """Keeps the positions of partitions and writes batches.

    `Store` says what each method raises.
    """

    @property
    def loop_is_free(self) -> asyncio.Event:
        """Return what is cleared while `write` runs short statements.

        A slice of the next batch waits until it's set, at most SHORT_STATEMENTS_S.
        """

    @property
    def server_pid(self) -> int | None:
        """Return the database's process that writes, or None."""

    @property
    def keeps_group_offsets(self) -> bool:
        """Return whether the group's offsets are the positions, so nobody else commits them."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def claim(
        self,
        topic: str,
        partition: int,
        *,
        cluster_id: str,
        log_start: int,
        log_end: int | None = None,
        shapes: ShapesOfProcess = NO_TABLE,
        accept_reset: bool = False,
    ) -> Claim:
        """Claim a partition."""

    async def release_claims(self) -> None:
        """Note that no record of any claimed partition is being processed any more."""

    async def take_alone(self, claim: Claim) -> None:
        """Note that only the next record of the partition is being processed."""

    async def lost_claims(self, claims: Sequence[Claim]) -> list[tuple[Claim, PositionError]]:
        """Return the claims that are no longer valid, each with its reason."""

    async def begin_incarnation(self, claim: Claim, *, cluster_id: str, log_start: int) -> Claim:
        """Begin the next incarnation of a recreated topic."""

    async def record_gap(self, claim: Claim, next_offset: int, reason: str) -> Claim:
        """Move the position past offsets that can no longer be read."""

    @property
    def not_begun(self) -> str:
        """Return what keeps the transaction from beginning.

        Empty if it has begun, or there's none.
        """

    async def lock_holders(self, pid: int) -> str:
        """Return who holds the lock that this database process waits for, or an empty string."""

    async def write(self, batch: Batch, *, projections: bool = True) -> OutcomeTotals:
        """Write the batch. Raises PartsLostError if the store writes parts one by one."""


OnCommit = Callable[[CommittedBatch], None]
StoresOf = Callable[[Settings, OnCommit], tuple[RecordStore, RecordStore, RecordStore]]
"""Returns the stores for claims, for batches, and for parts that are set aside.

They may be the same store.
"""


def postgres_stores(settings: Settings, on_commit: OnCommit) -> tuple[Store, Store, Store]:
    """Return three connections: for claims, for batches, and for parts that are set aside."""
    open_store = partial(
        Store, settings.required_database_url, owner=settings.owner, on_commit=on_commit
    )
    return (
        open_store(application_name="normalizer claims"),
        open_store(application_name="normalizer writer"),
        open_store(application_name="normalizer set aside"),
    )

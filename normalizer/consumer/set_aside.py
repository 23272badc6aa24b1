"""Writes a blocked part of a batch separately, so that the other partitions don't wait for it.

A part has the records of one partition. It may be blocked, for example, by a row lock that somebody
holds in psql. The partition isn't read until the part is written, so there's at most one such part
per partition.

The part keeps the epoch and the offset of its claim. If another process claims the partition or an
operator moves its position, the part therefore can't be written any more, and its next try ends it.
It has no other partition's records, so no other is held up by that. A stop or a rebalance ends its
retries, as those of any batch, and the next owner reads its records again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from normalizer.consumer.membership import GroupMembership
from normalizer.consumer.record_store import RecordStore
from normalizer.core.batch import MAX_BATCH_BYTES, Batch, OutcomeTotals, PartitionBatch
from normalizer.core.decode.record_limits import record_size
from normalizer.errors import PositionError, RetryableError, StoreUnavailableError
from normalizer.kafka import KafkaPartition
from normalizer.runtime.logging_setup import get_logger
from normalizer.store.write_retry import InFlightBatch, write_with_retry

_MAX_BYTES_TOGETHER: Final = MAX_BATCH_BYTES
"""If there's more than one part, their records may have at most this many bytes together."""

_log: Final = get_logger()


class PartsSetAside:
    """The parts that are set aside. They share one connection, so only one is tried at a time.

    `store` writes them. It's None in the relay, which never sets a part aside: see `ServiceStores`.
    """

    def __init__(
        self,
        store: RecordStore | None,
        membership: GroupMembership,
        on_written: Callable[[Batch], None],
        on_failure: Callable[[RetryableError], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._membership = membership
        self._ownership = membership.ownership
        self._on_written = on_written
        self._on_failure = on_failure
        self._clock = clock
        self._turn = asyncio.Lock()
        self._bytes: dict[InFlightBatch, int] = {}
        """The parts, and how many bytes the records of each have."""
        self._trying: InFlightBatch | None = None
        """The part whose turn it is."""

    @property
    def all_parts(self) -> tuple[InFlightBatch, ...]:
        """Return the parts. Safe to call from any thread."""
        return tuple(self._bytes)

    def part_being_tried(self) -> Sequence[tuple[InFlightBatch, RecordStore]]:
        """Return the part that's being written now, if any, with the store that writes it."""
        if self._trying is None or self._store is None:
            return ()
        return ((self._trying, self._store),)

    def set_aside_and_get_writer(
        self, part: PartitionBatch, in_flight: InFlightBatch
    ) -> Coroutine[Any, Any, None] | None:
        """Set this part of a batch aside, and return the coroutine that writes it.

        The caller must run the coroutine in a task of its own, because it ends only when the part
        is written, or when the process stops or loses the claim. `in_flight` is the batch from
        which the part is taken, with how long it has waited and why.

        Returns None if there's no store for such parts, if there's no room for this one, or if the
        claim on its partition was lost.
        """
        if self._store is None:
            return None
        partition = KafkaPartition(part.topic, part.partition)
        claim = self._ownership.current_claims.get(partition)
        part_bytes = sum(record_size(record) for record, _ in part.items)
        is_full = bool(self._bytes) and sum(self._bytes.values()) + part_bytes > _MAX_BYTES_TOGETHER
        if is_full or claim is None or claim.epoch != part.epoch:
            return None
        waited = InFlightBatch(self._clock, since_s=in_flight.since_s)
        self._bytes[waited] = part_bytes
        self._ownership.set_partition_aside(partition, part.epoch)
        _log.warning(
            "partition.set_aside",
            partition=str(partition),
            why=in_flight.describe_wait_and_error(),
            piece=in_flight.describe_piece(),
        )
        # Take `abort_writes` once. A rebalance sets it, and makes a new one for later writes.
        return self._write(part, self._store, waited, self._membership.abort_writes)

    async def _write(
        self,
        part: PartitionBatch,
        store: RecordStore,
        in_flight: InFlightBatch,
        stop: asyncio.Event,
    ) -> None:
        """Write the part, and then let its partition be claimed again."""
        batch = Batch(parts=(part,))
        try:
            await write_with_retry(
                _WriterInTurn(self, store, in_flight, stop),
                batch,
                stop=stop,
                in_flight=in_flight,
                on_failure=self._on_failure,
            )
        except (PositionError, RetryableError) as error:
            self._membership.on_rollback(batch, error)
        else:
            self._on_written(batch)
            self._ownership.release_for_new_claim(
                KafkaPartition(part.topic, part.partition), part.epoch
            )
        finally:
            del self._bytes[in_flight]
            if not self._bytes:
                async with store:
                    pass  # leaving the block closes the connection, and the next part opens one

    @asynccontextmanager
    async def hold_turn(self, in_flight: InFlightBatch, stop: asyncio.Event) -> AsyncIterator[None]:
        """Wait until no other part is being written, and keep other parts waiting during the block.

        Make one try to write this part within the block. Raises StoreUnavailableError if `stop` was
        set during the wait.
        """
        async with self._turn:
            if stop.is_set():
                message = "its process stops, or the group rebalances"
                raise StoreUnavailableError(message)
            self._trying = in_flight
            try:
                yield
            finally:
                self._trying = None


class _WriterInTurn(NamedTuple):
    """Writes one part, and waits before each try until no other part is being tried."""

    parts: PartsSetAside
    store: RecordStore
    in_flight: InFlightBatch
    stop: asyncio.Event

    async def write(self, batch: Batch, *, projections: bool = True) -> OutcomeTotals:
        """Write the batch as Store.write does."""
        async with self.parts.hold_turn(self.in_flight, self.stop):
            return await self.store.write(batch, projections=projections)

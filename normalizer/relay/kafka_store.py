"""The relay's store: claims partitions, and writes batches to the output topics.

To claim a partition, the relay starts a transactional producer for it, which makes Kafka fence the
producer of the previous owner. It then reads the committed offset, and commits it again with itself
as the owner. From then on, it writes each part of a batch and the part's next offset in one
transaction, so each event appears on the output topic exactly once.

If a commit fails, nobody knows whether it was applied, so the relay can't just retry the part. It
claims the partition again instead, and the committed offset then shows whether the part was
written.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Self

import msgspec

from normalizer.config.settings import Settings
from normalizer.consumer.record_store import ServiceStores
from normalizer.core.batch import Batch, OutcomeTotals, PartitionBatch, last_record_from_raw
from normalizer.core.previous_owner import SLICE_CODE_ALONE, PreviousOwner
from normalizer.errors import (
    AnotherClusterError,
    BrokerUnavailableError,
    PartsNotWrittenError,
    PositionError,
    PositionMovedError,
)
from normalizer.kafka import (
    CommittedOffset,
    GrouplessClient,
    KafkaPartition,
    OutputRecord,
    TransactionalProducer,
)
from normalizer.relay.output_records import PartitionOutput, read_topic_size_limits
from normalizer.relay.relay_positions import (
    UNKNOWN_POSITION,
    RelayPosition,
    make_claim,
    parse_relay_position,
)
from normalizer.store.claim import Claim
from normalizer.store.claim_checks import (
    NO_SHAPES_FINGERPRINT,
    ShapesFingerprint,
    check_same_shapes,
)
from normalizer.store.committed_batch import CommittedBatch


class KafkaStore:
    """Stores batches in Kafka instead of PostgreSQL. The consumer uses it like `Store`.

    It writes to the two output topics in the settings, and commits offsets for the group
    KAFKA_GROUP_ID.relay, which no other program may use. `on_commit` is called after each committed
    part.
    """

    server_pid = None
    why_transaction_not_begun = ""
    positions_are_group_offsets = True

    def __init__(
        self, settings: Settings, *, on_commit: Callable[[CommittedBatch], None] = lambda _: None
    ) -> None:
        self._settings = settings
        self._on_commit = on_commit
        self._topics = GrouplessClient(settings)
        self._holder = secrets.token_hex(8)
        self.normalizing_gate = asyncio.Event()
        self.normalizing_gate.set()
        self._owned: dict[KafkaPartition, _OwnedPartition] = {}
        self._limits: Mapping[str, int] = MappingProxyType({})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        # Close all producers at the same time. While the brokers are unreachable, closing one takes
        # its full timeout, so closing them one after another would take the sum of all timeouts.
        async with asyncio.TaskGroup() as tasks:
            for partition in self._owned:
                tasks.create_task(self._disown(partition), name=f"disown {partition}")
        await self._topics.close()

    async def claim_partition(
        self,
        topic: str,
        partition: int,
        *,
        cluster_id: str,
        log_start: int,
        log_end: int | None = None,
        group_id: str = "",  # noqa: ARG002 - a store's signature
        shapes: ShapesFingerprint = NO_SHAPES_FINGERPRINT,
        accept_reset: bool = False,
    ) -> Claim:
        """Claim the partition: fence every earlier owner, and abort its open transaction.

        A partition without a committed offset begins at `log_start`. If the last owner didn't
        release the partition, it was probably killed, perhaps by one of the next records. The
        partition is then a suspect, and its records are read in small slices (see `PreviousOwner`).

        Raises BrokerUnavailableError, FencedError, FatalError, AnotherClusterError (unless
        `accept_reset` is set), and ShapesChangedError if the operator's table of shapes has
        changed.
        """
        where = KafkaPartition(topic, partition)
        if not accept_reset:
            for known in await _read_committed_clusters(self._topics, self._settings, topic):
                if known != cluster_id:
                    raise AnotherClusterError(known, cluster_id, topic=topic, partition=partition)
        self._limits = await read_topic_size_limits(self._topics, self._settings)
        await self._disown(where)
        producer = TransactionalProducer(
            self._settings,
            self._settings.kafka_group_id,
            where,
            max_batch_bytes=min(self._limits.values()),
        )
        epoch = await producer.start()
        try:
            committed = await producer.committed_offset()
            position = RelayPosition(cluster_id=cluster_id, shapes=shapes.fingerprint)
            if committed is None:
                committed = CommittedOffset(log_start)
            else:
                position = parse_relay_position(committed, position)
            if not shapes.accepted:
                check_same_shapes(topic, partition, position.shapes, shapes.fingerprint)
            slice_records = position.last_try.slice_records_for(
                self._holder, next_offset=committed.next_offset, log_end=log_end
            )
            claim = make_claim(where, epoch, committed.next_offset, position, slice_records)
            position = msgspec.structs.replace(
                position,
                shapes=shapes.fingerprint,
                last_try=PreviousOwner(holder=self._holder, slice_records=slice_records),
            )
            await producer.write_and_commit((), position.to_offset_and_metadata(claim.next_offset))
        except BaseException:
            await producer.stop()
            raise
        self._owned[where] = _OwnedPartition(producer, epoch, position, claim.next_offset)
        return claim

    async def find_other_group_errors(
        self,
        partitions: Collection[tuple[str, int]],  # noqa: ARG002 - a store's signature
        group_id: str,  # noqa: ARG002 - a store's signature
        cluster_id: str,  # noqa: ARG002 - a store's signature
    ) -> tuple[()]:
        """Return none, because each group has its own positions. RecordStore needs the method."""
        return ()

    async def mark_owner_idle(self) -> None:
        """Record that this process has stopped working on its partitions.

        The next owners then know that no record has killed this process. A partition whose commit
        is in flight or has failed isn't released.
        """
        async with asyncio.TaskGroup() as tasks:
            for where, owned in self._owned.items():
                tasks.create_task(self._release(where, owned), name=f"release {where}")

    async def mark_working_on_one_record(self, claim: Claim) -> None:
        """Record that the process works on the partition's next record, and on nothing else."""
        where = KafkaPartition(claim.topic, claim.partition)
        owned = self._owned_under(where, claim.epoch)
        await self._commit(where, owned, owned.position.with_records_at_risk(SLICE_CODE_ALONE))

    async def find_lost_claims(self, claims: Sequence[Claim]) -> list[tuple[Claim, PositionError]]:  # noqa: ARG002 - a store's signature
        """Return none, because the next transaction shows whether a claim was lost."""
        return []

    async def begin_next_incarnation(
        self, claim: Claim, *, cluster_id: str, log_start: int
    ) -> Claim:
        """Begin the next incarnation at `log_start`. Raises FencedError and PositionMovedError."""
        began = msgspec.structs.replace(
            claim,
            incarnation=claim.incarnation + 1,
            next_offset=log_start,
            cluster_id=cluster_id,
            last_offset=None,
            last_recorded_ms=None,
            last_crc=None,
            slice_records=None,
        )
        return await self._move(claim, began)

    async def advance_past_gap(self, claim: Claim, next_offset: int, reason: str) -> Claim:  # noqa: ARG002 - a store's signature
        """Skip offsets that can't be read any more. Raises FencedError and PositionMovedError."""
        moved = msgspec.structs.replace(claim, next_offset=next_offset, slice_records=None)
        return await self._move(claim, moved)

    async def find_lock_holders(self, pid: int) -> str:  # noqa: ARG002 - a store's signature
        """Return nobody, because Kafka has no locks."""
        return ""

    async def write(self, batch: Batch, *, projections: bool = True) -> OutcomeTotals:  # noqa: ARG002 - there are none
        """Write all parts of a batch at the same time, each in its own transaction.

        If some parts weren't written, this raises PartsNotWrittenError with a reason for each of
        them. It never raises RetryableError, because a part can't be retried under its old claim.
        The reason is a FencedError if another process has claimed the partition, or a
        PositionMovedError if the partition has to be claimed again.
        """
        async with asyncio.TaskGroup() as tasks:
            parts = [
                tasks.create_task(self._write_part(part), name=f"relay {part.key}")
                for part in batch.parts
            ]
        results = [part.result() for part in parts]
        if failures := [result for result in results if isinstance(result, PositionError)]:
            raise PartsNotWrittenError(failures)
        written = (result for result in results if isinstance(result, OutcomeTotals))
        return sum(written, OutcomeTotals())

    async def _write_part(self, part: PartitionBatch) -> OutcomeTotals | PositionError:
        """Write one part.

        It returns an error, because raising it would cancel the other parts' tasks.
        """
        output = PartitionOutput(self._settings, self._limits, part)
        records = await output.make_records()
        where = KafkaPartition(part.topic, part.partition)
        begun_s = time.monotonic()
        try:
            owned = self._owned_under(where, part.epoch)
            position = owned.position.with_records_at_risk(part.slice_records)
            if part.items:
                last = last_record_from_raw(part.items[-1][0])
                position = msgspec.structs.replace(position, last=last)
            await self._commit(where, owned, position, records, part.next_offset)
        except PositionError as error:
            return error
        committed = output.to_committed_batch(commit_s=time.monotonic() - begun_s)
        self._on_commit(committed)
        return committed.totals

    async def _move(self, claim: Claim, moved: Claim) -> Claim:
        """Commit the position of `moved`, without any record."""
        where = KafkaPartition(claim.topic, claim.partition)
        owned = self._owned_under(where, claim.epoch)
        position = msgspec.structs.replace(
            owned.position.with_records_at_risk(None),
            cluster_id=moved.cluster_id,
            incarnation=moved.incarnation,
            last=moved.last_record,
        )
        await self._commit(where, owned, position, next_offset=moved.next_offset)
        return moved

    async def _release(self, where: KafkaPartition, owned: "_OwnedPartition") -> None:
        position = msgspec.structs.replace(
            owned.position,
            last_try=msgspec.structs.replace(owned.position.last_try, holder=None),
        )
        with contextlib.suppress(PositionError):
            await self._commit(where, owned, position)

    async def _commit(
        self,
        where: KafkaPartition,
        owned: "_OwnedPartition",
        position: RelayPosition,
        records: Sequence[OutputRecord] = (),
        next_offset: int | None = None,
    ) -> None:
        """Commit the position with these records, at `next_offset` or where it is."""
        if next_offset is None:
            next_offset = owned.next_offset
        if next_offset is None:
            raise _claimed_again(where)
        self._owned[where] = owned._replace(next_offset=None)
        try:
            await owned.producer.write_and_commit(
                records, position.to_offset_and_metadata(next_offset)
            )
        except BrokerUnavailableError as error:
            raise PositionMovedError(
                f"{error}. It's unknown whether the commit succeeded, so the relay claims the "
                "partition again and reads the committed position",
                topic=where.topic,
                partition=where.partition,
            ) from error
        if (now := self._owned.get(where)) and now.epoch == owned.epoch:
            self._owned[where] = owned._replace(position=position, next_offset=next_offset)

    def _owned_under(self, where: KafkaPartition, epoch: int) -> "_OwnedPartition":
        """Return the partition as this claim owns it.

        Raises PositionMovedError if the claim is no longer in force.
        """
        owned = self._owned.get(where)
        if owned is None or owned.epoch != epoch:
            raise _claimed_again(where)
        return owned

    async def _disown(self, partition: KafkaPartition) -> None:
        if owned := self._owned.pop(partition, None):
            await owned.producer.stop()


async def _read_committed_clusters(
    topics: GrouplessClient, settings: Settings, topic: str
) -> set[str]:
    """Return the ids of the Kafka clusters whose offsets the relay has committed for this topic.

    Normally that's only the cluster to which we're connected. If there's another one, a mirror has
    copied that cluster's committed offsets, and they don't fit the log of this cluster.
    """
    partitions = await topics.partitions(topic)
    offsets = await topics.committed_offsets(settings.kafka_group_id, partitions)
    positions = (parse_relay_position(one, UNKNOWN_POSITION) for one in offsets.values())
    return {position.cluster_id for position in positions if position is not UNKNOWN_POSITION}


def relay_stores(settings: Settings, on_commit: Callable[[CommittedBatch], None]) -> ServiceStores:
    """Return one store for claims and batches, because a partition has only one producer.

    `KafkaStore.write` never raises RetryableError, so no store is needed for parts set aside.
    """
    store = KafkaStore(settings, on_commit=on_commit)
    return ServiceStores(claims=store, batches=store, set_aside=None)


class _OwnedPartition(NamedTuple):
    """A claimed partition: its producer, and the last position that was committed.

    `next_offset` is None while a commit is in flight, and after one has failed. Nobody knows then
    whether that commit was applied, until the partition is claimed again. Committing the earlier
    offset could set the position back.
    """

    producer: TransactionalProducer
    epoch: int
    position: RelayPosition
    next_offset: int | None


def _claimed_again(where: KafkaPartition) -> PositionMovedError:
    message = f"{where}: the partition was claimed again"
    return PositionMovedError(message, topic=where.topic, partition=where.partition)

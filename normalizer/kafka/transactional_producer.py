"""Writes records and a committed offset in one transaction of Kafka."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from aiokafka.errors import IllegalOperation, InvalidProducerEpoch, ProducerFenced
from aiokafka.partitioner import murmur2
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from normalizer.errors import BrokerUnavailable, Fenced
from normalizer.kafka.committed_offsets import CommittedOffset, read_committed
from normalizer.kafka.connection import (
    KafkaPartition,
    connection_options,
    ended,
    start_client,
    translated,
)
from normalizer.settings import Settings

BATCH_BYTES: Final = 1 << 18
"""Records of one partition in one request, before they are compressed."""
TRANSACTION_TIMEOUT_MS: Final = 60_000
"""After this long without its end a transaction is aborted by the broker."""
START_S: Final = 30.0
STOP_S: Final = 5.0


class OutputRecord(NamedTuple):
    """A record to be written. Its key decides the partition, as in the Java client."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]

    @property
    def batch_bytes(self) -> int:
        """At most this many bytes as a record batch of its own: compare with max.message.bytes."""
        found: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(
            self.key, self.value, self.headers
        )
        return found


class TransactionalProducer:
    """The one live producer for an input partition of a group.

    Group and partition make its transactional id. So `start` aborts what an earlier producer of
    the partition has left open and fences it, and the offset is read after that: nobody else can
    commit records of the partition from then on. The offsets need no other fence: they are
    committed in this producer's transactions alone.
    """

    def __init__(
        self,
        settings: Settings,
        group_id: str,
        partition: KafkaPartition,
        *,
        max_batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self._settings = settings
        self._group_id = group_id
        self._partition = partition
        self._max_batch_bytes = min(max_batch_bytes, BATCH_BYTES)
        self._producer: Any = None
        self._committing: asyncio.Timeout | None = None

    async def start(self) -> int:
        """Fence all earlier producers; return the number of this start.

        It is the producer's id and, in the last 16 bits, its epoch, which rises with each start.
        Raises BrokerUnavailable, and FatalError where a right is missing.
        """
        self._producer = AIOKafkaProducer(
            **connection_options(self._settings),
            transactional_id=f"{self._group_id}.{self._partition.topic}.{self._partition.partition}",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            compression_type="lz4",
            max_batch_size=self._max_batch_bytes,
        )
        try:
            doing = f"starting the producer for {self._partition}"
            with translated(doing):
                async with asyncio.timeout(START_S):
                    await start_client(self._producer, self._settings, doing)
        except BaseException:
            await self.stop()
            raise
        identity = self._producer._txn_manager  # noqa: SLF001 - the public API has no access to it
        return int(identity.producer_id << 16 | identity.producer_epoch)

    async def committed(self) -> CommittedOffset | None:
        """What the group has committed for the partition. Raises BrokerUnavailable."""
        with translated(f"reading the committed offset of {self._partition}"):
            async with asyncio.timeout(START_S):
                found = await read_committed(
                    self._producer.client, self._group_id, [self._partition], stable=True
                )
        return found.get(self._partition)

    async def commit(self, records: Sequence[OutputRecord], committed: CommittedOffset) -> None:
        """Write the records and commit the offset, all or nothing.

        Raises Fenced where a later producer was started for the partition. After BrokerUnavailable
        it is unknown whether the transaction took effect. After either, only another producer can
        go on.
        """
        producer = self._producer  # stop takes it away
        try:
            doing = f"committing {self._partition}@{committed.next_offset}"
            with translated(doing, topic=self._partition.topic):
                async with asyncio.timeout(TRANSACTION_TIMEOUT_MS / 1000) as self._committing:
                    with self._first_failure(producer):
                        await producer.begin_transaction()
                        with translated(doing, writes=True), self._first_failure(producer):
                            await _write(producer, records)
                        await self._commit_offset(producer, committed)
        except BrokerUnavailable as error:
            if not isinstance(error.__cause__, (ProducerFenced, InvalidProducerEpoch)):
                raise
            raise Fenced(
                f"{self._partition}: another producer was started for it",
                topic=self._partition.topic,
                partition=self._partition.partition,
            ) from error
        finally:
            self._committing = None

    async def stop(self) -> None:
        """Close the connections; an open transaction is left to the next producer, or aborted.

        A commit in flight fails at once: a closed client may leave it without any answer.
        """
        if self._committing and not self._committing.expired():
            self._committing.reschedule(asyncio.get_running_loop().time())
        producer, self._producer = self._producer, None
        if producer is not None:
            if not await ended(producer, timeout_s=STOP_S):
                # Its own stop closes nothing before all was sent, and would go on sending.
                sending = producer._sender.sender_task  # noqa: SLF001 - nobody else ends it
                if sending is not None:
                    sending.cancel()
                await ended(producer.client, timeout_s=STOP_S)
                if sending is not None:
                    # It may wait for a request that a closed client never answers.
                    sending.cancel()
            _read_errors(producer)

    @contextmanager
    def _first_failure(self, producer: Any) -> Iterator[None]:
        """Raise what the transaction has failed of, where the client says only that it did."""
        try:
            yield
        except (AssertionError, IllegalOperation) as error:
            transaction = producer._txn_manager.wait_for_transaction_end()  # noqa: SLF001 - as in start
            if failure := _failure_of(transaction):
                raise failure from error
            raise BrokerUnavailable(f"{self._partition}: its producer has failed") from error

    async def _commit_offset(self, producer: Any, committed: CommittedOffset) -> None:
        offsets = {TopicPartition(*self._partition): OffsetAndMetadata(*committed)}
        await producer.send_offsets_to_transaction(offsets, self._group_id)
        await producer.commit_transaction()


async def _write(producer: Any, records: Sequence[OutputRecord]) -> None:
    sent = await _send(producer, records)
    if sent:
        await asyncio.wait(sent)
    # The client commits a transaction of which a batch has failed, without that batch.
    errors = [error for one in sent if (error := one.exception())]
    if errors:
        raise errors[0]


async def _send(producer: Any, records: Sequence[OutputRecord]) -> list[asyncio.Future[Any]]:
    """Hand the records over in batches; return a future for each batch."""
    counts: dict[str, int] = {}
    by_partition: defaultdict[tuple[str, int], list[OutputRecord]] = defaultdict(list)
    for record in records:
        if record.topic not in counts:
            counts[record.topic] = len(await producer.partitions_for(record.topic))
        by_partition[record.topic, partition_of(record.key, counts[record.topic])].append(record)
    sent: list[asyncio.Future[Any]] = []
    for (topic, partition), of_partition in by_partition.items():
        sent += await _send_batches(producer, topic, partition, of_partition)
    return sent


async def _send_batches(
    producer: Any, topic: str, partition: int, records: Sequence[OutputRecord]
) -> list[asyncio.Future[Any]]:
    sent: list[asyncio.Future[Any]] = []

    async def send() -> None:
        one = await producer.send_batch(batch, topic, partition=partition)
        one.add_done_callback(_failure_of)  # nobody waits for it once a later batch is refused
        sent.append(one)

    batch = producer.create_batch()
    for record in records:
        fields: Mapping[str, Any] = {
            "timestamp": None,
            "key": record.key,
            "value": record.value,
            "headers": record.headers,
        }
        if batch.append(**fields) is None:
            await send()
            batch = producer.create_batch()
            batch.append(**fields)
    await send()
    return sent


def _read_errors(producer: Any) -> None:
    """Read what the client has left of a failed transaction."""
    batches = producer._message_accumulator._batches.values()  # noqa: SLF001 - nobody else reads them
    waiting = [batch._drain_waiter for of_partition in batches for batch in of_partition]  # noqa: SLF001 - as above
    for future in (producer._txn_manager._transaction_waiter, *waiting):  # noqa: SLF001 - as above
        _failure_of(future)


def _failure_of(future: asyncio.Future[Any] | None) -> BaseException | None:
    """Read what a future has failed of: an error that nobody reads is logged as a mistake."""
    if future is None or not future.done() or future.cancelled():
        return None
    return future.exception()


@lru_cache(maxsize=1 << 16)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among this number of them, as the Java client has it."""
    found: int = (murmur2(key) & 0x7FFFFFFF) % partitions
    return found

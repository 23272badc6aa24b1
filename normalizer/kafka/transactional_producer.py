"""Writes records and a committed offset in one Kafka transaction, for the relay.

The records and the offset become visible together. So each record of the input topic is published
exactly once, even if the process is killed at any point.
"""

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

from normalizer.config.settings import Settings
from normalizer.errors import BrokerUnavailableError, FencedError
from normalizer.kafka.client_setup import (
    KafkaPartition,
    connection_options,
    start_client,
    stop_client,
    translate_kafka_errors,
)
from normalizer.kafka.committed_offsets import CommittedOffset, read_committed_offsets

MAX_PRODUCER_BATCH_BYTES: Final = 1 << 18
"""The most bytes of one partition's records in one request, before compression."""
TRANSACTION_TIMEOUT_MS: Final = 60_000
"""The broker aborts a transaction that hasn't ended after this long."""
_START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 5.0


class OutputRecord(NamedTuple):
    """A record to write. A hash of its key decides the partition, as in the Java client."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]

    @property
    def single_record_batch_bytes(self) -> int:
        """Return the most bytes of a batch with only this record, as max.message.bytes counts."""
        found: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(
            self.key, self.value, self.headers
        )
        return found


class TransactionalProducer:
    """Writes to Kafka in transactions, as the only live producer for one input partition.

    Its transactional id consists of the group and the partition. So when a process calls `start`,
    Kafka fences every earlier producer of this partition and aborts its open transaction. From then
    on, only this producer can commit.

    The committed offset changes only in these transactions, so it needs no other protection. But it
    must be read after `start`, because an earlier producer may change it until then.
    """

    def __init__(
        self,
        settings: Settings,
        group_id: str,
        partition: KafkaPartition,
        *,
        max_batch_bytes: int = MAX_PRODUCER_BATCH_BYTES,
    ) -> None:
        self._settings = settings
        self._group_id = group_id
        self._partition = partition
        self._max_batch_bytes = min(max_batch_bytes, MAX_PRODUCER_BATCH_BYTES)
        self._producer: Any = None
        self._committing: asyncio.Timeout | None = None

    async def start(self) -> int:
        """Fence all earlier producers of the partition, so that only this one can commit.

        Returns a number that's higher than that of every earlier start. It consists of the
        producer's id and, in the last 16 bits, the producer's epoch. Raises BrokerUnavailableError,
        and FatalError if a right is missing.
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
            with translate_kafka_errors(doing):
                async with asyncio.timeout(_START_TIMEOUT_S):
                    await start_client(self._producer, self._settings, doing)
        except BaseException:
            await self.stop()
            raise
        identity = self._producer._txn_manager  # noqa: SLF001 - the public API has no access to it
        return int(identity.producer_id << 16 | identity.producer_epoch)

    async def committed_offset(self) -> CommittedOffset | None:
        """Return the group's committed offset of the partition. Raises BrokerUnavailableError."""
        with translate_kafka_errors(f"reading the committed offset of {self._partition}"):
            async with asyncio.timeout(_START_TIMEOUT_S):
                found = await read_committed_offsets(
                    self._producer.client, self._group_id, [self._partition], stable=True
                )
        return found.get(self._partition)

    async def write_and_commit(
        self, records: Sequence[OutputRecord], committed: CommittedOffset
    ) -> None:
        """Write the records and commit the offset in one transaction.

        Raises FencedError if another producer was started for the partition in the meantime. After
        a BrokerUnavailableError nobody knows whether the transaction was committed. After either
        error this producer can't be used any more. Start a new one and read the committed offset to
        find out.
        """
        producer = self._producer  # `stop` sets self._producer to None
        try:
            doing = f"committing {self._partition}@{committed.next_offset}"
            with translate_kafka_errors(doing, topic=self._partition.topic):
                async with asyncio.timeout(TRANSACTION_TIMEOUT_MS / 1000) as self._committing:
                    with self._first_failure(producer):
                        await producer.begin_transaction()
                        with (
                            translate_kafka_errors(doing, writes=True),
                            self._first_failure(producer),
                        ):
                            await _write(producer, records)
                        offsets = {TopicPartition(*self._partition): OffsetAndMetadata(*committed)}
                        await producer.send_offsets_to_transaction(offsets, self._group_id)
                        await producer.commit_transaction()
        except BrokerUnavailableError as error:
            if not isinstance(error.__cause__, (ProducerFenced, InvalidProducerEpoch)):
                raise
            raise FencedError(
                f"{self._partition}: another process has started a producer for this partition, "
                "so this process can no longer write to it",
                topic=self._partition.topic,
                partition=self._partition.partition,
            ) from error
        finally:
            self._committing = None

    async def stop(self) -> None:
        """Close the connections.

        An open transaction is aborted later, by the broker or by the next producer. If a commit is
        still waiting for its response, it fails at once, because the response might never arrive
        over a closed connection.
        """
        if self._committing and not self._committing.expired():
            self._committing.reschedule(asyncio.get_running_loop().time())
        producer, self._producer = self._producer, None
        if producer is not None:
            if not await stop_client(producer, timeout_s=_STOP_TIMEOUT_S):
                # The producer's stop() didn't end, because it closes nothing before everything is
                # sent. Cancel the sender, and close the client directly.
                sending = producer._sender.sender_task  # noqa: SLF001 - nothing else ends it
                if sending is not None:
                    sending.cancel()
                await stop_client(producer.client, timeout_s=_STOP_TIMEOUT_S)
                if sending is not None:
                    # Cancel the sender again. It may be waiting for a response that a closed client
                    # never gets.
                    sending.cancel()
            _read_errors(producer)

    @contextmanager
    def _first_failure(self, producer: Any) -> Iterator[None]:
        """Raise the cause of a failed transaction, because aiokafka says only that it failed."""
        try:
            yield
        except (AssertionError, IllegalOperation) as error:
            transaction = producer._txn_manager.wait_for_transaction_end()  # noqa: SLF001 - as in start
            if failure := _failure_in(transaction):
                raise failure from error
            raise BrokerUnavailableError(
                f"{self._partition}: its transactional producer has failed and can't be used "
                "again, so the relay starts a new one"
            ) from error


async def _write(producer: Any, records: Sequence[OutputRecord]) -> None:
    sent = await _send(producer, records)
    if sent:
        await asyncio.wait(sent)
    # Raise the error of a failed batch. aiokafka would commit the transaction without that batch.
    errors = [error for one in sent if (error := one.exception())]
    if errors:
        raise errors[0]


async def _send(producer: Any, records: Sequence[OutputRecord]) -> list[asyncio.Future[Any]]:
    """Pass the records to the client in batches. Returns a future for each batch."""
    counts: dict[str, int] = {}
    by_partition: defaultdict[tuple[str, int], list[OutputRecord]] = defaultdict(list)
    for record in records:
        if record.topic not in counts:
            counts[record.topic] = len(await producer.partitions_for(record.topic))
        by_partition[record.topic, _choose_partition(record.key, counts[record.topic])].append(
            record
        )
    sent: list[asyncio.Future[Any]] = []
    for (topic, partition), to_send in by_partition.items():
        sent += await _send_batches(producer, topic, partition, to_send)
    return sent


async def _send_batches(
    producer: Any, topic: str, partition: int, records: Sequence[OutputRecord]
) -> list[asyncio.Future[Any]]:
    sent: list[asyncio.Future[Any]] = []

    async def send() -> None:
        one = await producer.send_batch(batch, topic, partition=partition)
        # If a later batch fails, nobody awaits this one any more, and asyncio would log that its
        # error was never read. So a callback reads the error.
        one.add_done_callback(_failure_in)
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
    """Read the errors that a failed transaction leaves, so that asyncio doesn't log them."""
    batches = producer._message_accumulator._batches.values()  # noqa: SLF001 - nobody else reads them
    waiting = [batch._drain_waiter for partition_batches in batches for batch in partition_batches]  # noqa: SLF001 - as above
    for future in (producer._txn_manager._transaction_waiter, *waiting):  # noqa: SLF001 - as above
        _failure_in(future)


def _failure_in(future: asyncio.Future[Any] | None) -> BaseException | None:
    """Read a future's error, because asyncio logs an error that nobody reads."""
    if future is None or not future.done() or future.cancelled():
        return None
    return future.exception()


@lru_cache(maxsize=1 << 16)
def _choose_partition(key: bytes, partitions: int) -> int:
    """Return the partition of a key among this many partitions, the same as the Java client."""
    found: int = (murmur2(key) & 0x7FFFFFFF) % partitions
    return found

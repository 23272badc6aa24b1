"""Sends records to Kafka, and reports at which partition and offset each one was stored.

This is the only module of the simulator that imports the Kafka client. It builds the batches
itself, because the broker returns only the offset of a batch's first record. The offsets of the
others follow from that one only if we know the batch. The producer is idempotent and waits for all
replicas, so a retry doesn't send a record twice.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from simulator.sent_record import SentRecord

OnDelivery = Callable[[SentRecord, str, int, int], None]
"""Called with (record, topic, partition, offset) when the broker has answered."""

_BATCH_BYTES = 512 * 1024
_BATCHES_UNDER_WAY = 64
_TURN_RECORDS = 4_000
_TURN_US = 50_000


class Producer:
    """Sends records a few thousand at a time (a turn), with a limit on the batches in flight."""

    def __init__(self, client: AIOKafkaProducer, topic: str, placed: OnDelivery | None) -> None:
        self._client = client
        self._topic = topic
        self._placed = placed
        self._under_way: set[asyncio.Task[None]] = set()

    async def partitions(self) -> int:
        """How many partitions the topic has."""
        return len(await self._client.partitions_for(self._topic))

    async def send(self, records: list[SentRecord]) -> None:
        """Send one turn. Returns when there's room for the next, not when it's acknowledged."""
        open_batches: dict[int, tuple[BatchBuilder, list[SentRecord]]] = {}
        for record in records:
            partition = record.partition
            if partition not in open_batches:
                open_batches[partition] = (self._client.create_batch(), [])
            builder, sent = open_batches[partition]
            if not _append(builder, record):
                await self._submit(partition, builder, sent)
                builder, sent = open_batches[partition] = (self._client.create_batch(), [])
                _append(builder, record)
            sent.append(record)
        for partition, (builder, sent) in open_batches.items():
            await self._submit(partition, builder, sent)

    async def drain(self) -> None:
        """Wait until everything is acknowledged. Raises the first error."""
        while self._under_way:
            await self._one_done()

    async def _submit(self, partition: int, builder: BatchBuilder, sent: list[SentRecord]) -> None:
        while len(self._under_way) >= _BATCHES_UNDER_WAY:
            await self._one_done()
        answer = await self._client.send_batch(builder, self._topic, partition=partition)
        self._under_way.add(asyncio.ensure_future(self._acknowledged(answer, partition, sent)))

    async def _acknowledged(
        self,
        answer: "asyncio.Future[object]",
        partition: int,
        sent: list[SentRecord],
    ) -> None:
        metadata = await answer
        if self._placed is None:
            return
        offset: int = metadata.offset  # type: ignore[attr-defined]
        for index, record in enumerate(sent):
            self._placed(record, self._topic, partition, offset + index)

    async def _one_done(self) -> None:
        done, self._under_way = await asyncio.wait(
            self._under_way, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()


def _append(builder: BatchBuilder, record: SentRecord) -> bool:
    added = builder.append(
        timestamp=record.timestamp_ms,
        key=record.key,
        value=record.value,
        headers=record.headers,
    )
    return added is not None


@asynccontextmanager
async def producer(
    bootstrap_servers: str, topic: str, placed: OnDelivery | None = None
) -> AsyncIterator[Producer]:
    """Yield a producer for one topic. At the end it waits for batches in flight."""
    client = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        max_batch_size=_BATCH_BYTES,
        max_request_size=16 * 1024 * 1024,
    )
    await client.start()
    try:
        sender = Producer(client, topic, placed)
        yield sender
        await sender.drain()
    finally:
        await client.stop()


async def send_all(
    records: Iterator[SentRecord],
    sender: Producer,
    *,
    now_us: Callable[[], int] | None,
    stop: asyncio.Event,
) -> int:
    """Send the records, and return how many were sent when they ran out or `stop` was set.

    If a clock `now_us` is given, each record is sent when that clock reaches the record's time.
    Otherwise records are sent as fast as the broker accepts them.
    """
    sent = 0
    begins_us = 0 if now_us is None else now_us()
    turn: list[SentRecord] = []
    first_ms: int | None = None
    for record in records:
        if now_us is not None:
            first_ms = record.timestamp_ms if first_ms is None else first_ms
            wait_us = (record.timestamp_ms - first_ms) * 1000 + begins_us - now_us()
            if wait_us > _TURN_US:
                await sender.send(turn)
                turn = []
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), wait_us / 1e6)
        if stop.is_set():
            break
        turn.append(record)
        sent += 1
        if len(turn) >= _TURN_RECORDS:
            await sender.send(turn)
            turn = []
            await asyncio.sleep(0)
    await sender.send(turn)
    return sent

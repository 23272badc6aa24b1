"""Reads records from an offset on, also of batches that the client cannot decode.

Header names are bytes on the wire, and Kafka itself accepts any. The client rejects a whole batch
for one name that is not UTF-8, and would never get past it.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy
from aiokafka.record.util import decode_varint

from normalizer.core.raw_record import RawRecord
from normalizer.errors import NormalizerError
from normalizer.kafka.connection import (
    FetchedChunk,
    KafkaPartition,
    UnreadableBatch,
    raw_record,
    translated,
)
from normalizer.kafka.unpacking import UnpacksTooFar

BROKEN_BATCH: Final = (CorruptRecordException, UnsupportedCodecError)
"""The errors of a client whose cause is a batch, and not the broker."""
ANSWER_S: Final = 10.0
"""A broker that is silent for this long is away; the client itself would wait for minutes."""
_WAIT_MS: Final = 500
MOST_BYTES: Final = 1 << 20
ONE_BATCH: Final = 1
"""Bytes to request for one record: a broker answers with at least one whole batch."""


async def read_each_leniently(
    client: Any, starts: Mapping[KafkaPartition, tuple[int, int]]
) -> dict[KafkaPartition, FetchedChunk | NormalizerError]:
    """What `read_leniently` returns or raises for each (incarnation, offset), read at once."""

    async def read(partition: KafkaPartition) -> FetchedChunk | NormalizerError:
        incarnation, offset = starts[partition]
        try:
            return await read_leniently(client, partition, incarnation=incarnation, offset=offset)
        except NormalizerError as error:
            return error

    async with asyncio.TaskGroup() as tasks:
        reads = {one: tasks.create_task(read(one), name=f"read {one}") for one in starts}
    return {one: task.result() for one, task in reads.items()}


async def read_leniently(
    client: Any,
    partition: KafkaPartition,
    *,
    incarnation: int,
    offset: int,
    most_bytes: int = MOST_BYTES,
) -> FetchedChunk:
    """Return committed records from `offset` on, of one answer of the broker, with names repaired.

    Raises BrokerUnavailable, and UnreadableBatch where even this reader cannot decode the first
    batch; another one ends the answer. `client` is an open one.
    """
    with translated(f"reading {partition}"):
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await _fetch(client, partition, offset, most_bytes)
        except CorruptRecordException as error:
            raise UnreadableBatch.at(partition, offset, "the broker says so itself") from error
    with contextlib.suppress(Exception):  # the client's own decoder is compiled
        records = _records(MemoryRecords, answer, partition, offset)
        return _chunk(partition, offset, records, [raw_record(one, incarnation) for one in records])
    records = _records(_LenientRecords, answer, partition, offset)
    found: list[RawRecord] = []
    try:
        found.extend(raw_record(one, incarnation) for one in records)
    except UnpacksTooFar as error:
        if records.next_fetch_offset == offset:
            remedy = "nothing is wrong with it: raise that setting and start again"
            raise UnreadableBatch.at(partition, offset, str(error), remedy=remedy) from error
    except Exception as error:
        # What lies before the damage is good, and is read first.
        if records.next_fetch_offset == offset:
            raise UnreadableBatch.at(partition, offset, type(error).__name__) from error
    return _chunk(partition, offset, records, found)


async def _fetch(
    client: Any, partition: KafkaPartition, offset: int, most_bytes: int
) -> tuple[Any, ...]:
    """Fetch from the leader; return its offset bounds and the record batches of its answer."""
    await client.add_topic(partition.topic)
    request = FetchRequest(
        _WAIT_MS,
        1,
        most_bytes,
        READ_COMMITTED,
        [(partition.topic, [(partition.partition, offset, most_bytes)])],
    )
    leader = client.cluster.leader_for_partition(TopicPartition(*partition))
    answer = await client.send(leader, request)
    ((_, ((_, code, _, *fields),)),) = answer.topics
    if code:
        raise for_code(code)(partition.topic)
    return tuple(fields)


def _records(
    decoder: Any, answer: tuple[Any, ...], partition: KafkaPartition, offset: int
) -> PartitionRecords:
    return PartitionRecords(
        TopicPartition(*partition),
        decoder(bytes(answer[-1])),
        answer[-2] if len(answer) < 5 else answer[2],
        offset,
        None,
        None,
        True,
        READ_COMMITTED,
    )


def _chunk(
    partition: KafkaPartition, offset: int, records: PartitionRecords, found: list[RawRecord]
) -> FetchedChunk:
    return FetchedChunk(
        partition=partition,
        from_offset=offset,
        next_offset=records.next_fetch_offset,
        records=found,
    )


class _LenientRecords(_MemoryRecordsPy):  # type: ignore[misc]
    """Record batches of a broker's answer."""

    def next_batch(self) -> Any:
        """Return the next batch; one of the format since Kafka 0.11 is decoded leniently."""
        one = self._next_slice
        if one is None or one[self.MAGIC_OFFSET] < 2:
            return super().next_batch()
        self._cache_next()
        return _LenientBatch(one)


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """A batch whose headers may have any bytes as names.

    Source: Kafka's record format, version 2.
    """

    _pos: int

    def _read_msg(self) -> _DefaultRecordPy:
        buffer, start = self._buffer, self._pos
        length, pos = decode_varint(buffer, start)
        end = pos + length
        _attributes, pos = decode_varint(buffer, pos)
        passed_ms, pos = decode_varint(buffer, pos)
        further, pos = decode_varint(buffer, pos)
        key, pos = _bytes(buffer, pos)
        value, pos = _bytes(buffer, pos)
        count, pos = decode_varint(buffer, pos)
        headers = []
        for _ in range(count):
            name, pos = _bytes(buffer, pos)
            text, pos = _bytes(buffer, pos)
            headers.append(((name or b"").decode(errors="replace"), text))
        if pos != end:
            raise CorruptRecordException(f"a record of {length} bytes ends after {pos - start}")
        self._pos = pos
        appended = self.timestamp_type == self.LOG_APPEND_TIME
        recorded_ms = self.max_timestamp if appended else self.first_timestamp + passed_ms
        return _DefaultRecordPy(
            self.base_offset + further, recorded_ms, self.timestamp_type, key, value, headers
        )


def _bytes(buffer: bytearray, pos: int) -> tuple[bytes | None, int]:
    """Return as many bytes as the length before them says; a negative length is null."""
    length, pos = decode_varint(buffer, pos)
    if length < 0:
        return None, pos
    return bytes(buffer[pos : pos + length]), pos + length

"""Reads records from an offset on, even from batches that aiokafka can't decode.

There are two kinds of such batches. Kafka accepts any bytes in the name of a header, but aiokafka
rejects the whole batch if one name isn't UTF-8. It also can't decompress a batch that doesn't fit
in memory. `read_next_leniently` reads both record by record, so that one odd record doesn't stop a
whole partition.
"""

import asyncio
import contextlib
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

import msgspec
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

from normalizer.core.decode.record_limits import MAX_RECORD_BYTES, OVERSIZED_KEPT_BYTES, record_size
from normalizer.core.raw_record import OversizedRecordFacts, RawRecord
from normalizer.errors import NormalizerError, PositionError
from normalizer.kafka.client_setup import (
    FetchedChunk,
    KafkaPartition,
    to_raw_record,
    translate_kafka_errors,
)
from normalizer.kafka.decompression import (
    MAX_CHUNK_BYTES,
    DecompressedTooLargeError,
    decompress_in_pieces,
)
from normalizer.kafka.record_field_reader import RecordFieldReader

UNDECODABLE_BATCH_ERRORS: Final = (CorruptRecordException, UnsupportedCodecError)
"""aiokafka's errors that the content of a batch causes, rather than the broker."""
_RESPONSE_TIMEOUT_S: Final = 10.0
"""A broker that sends no response for this long counts as unreachable. aiokafka itself waits
minutes."""
_WAIT_MS: Final = 500
_CODECS: Final = ("", "gzip", "snappy", "lz4", "zstd")
"""The codecs, by their number in a batch's attributes. Source: Kafka's record format, version 2."""
MAX_RESPONSE_BYTES: Final = 1 << 20
ONE_BATCH_FETCH_BYTES: Final = 1
"""The bytes to request for a single record. A broker returns at least one whole batch anyway."""

_IF_DAMAGED: Final = "check the broker's log for damage; `normalizer position skip` skips the batch"
_IF_TOO_LARGE: Final = (
    "its producer packed far more than a batch may hold; `normalizer position skip` with `--to "
    "{}` skips it"
)


class UnreadableBatchError(PositionError):
    """A record batch from the broker can't be decoded, so the partition can't be read any further.

    Most likely the broker's log is damaged, or the batch decompresses to more bytes than the limit.
    In the latter case, `next_offset` is the first offset after the batch, where reading can
    continue.
    """

    def __init__(
        self, partition: KafkaPartition, offset: int, why: str, *, next_offset: int | None = None
    ) -> None:
        remedy = _IF_DAMAGED if next_offset is None else _IF_TOO_LARGE.format(next_offset)
        super().__init__(
            f"{partition}@{offset}: the batch there cannot be read ({why}): {remedy}",
            topic=partition.topic,
            partition=partition.partition,
        )
        self.next_offset = next_offset


async def read_partitions_leniently(
    client: Any, starts: Mapping[KafkaPartition, tuple[int, int]]
) -> dict[KafkaPartition, FetchedChunk | NormalizerError]:
    """Read several partitions at the same time, each from its own offset.

    `starts` has the incarnation and the offset of each partition. The result has, for each
    partition, the chunk that `read_next_leniently` returned or the error that it raised. So one
    unreadable partition doesn't keep the others from being read.
    """

    async def read(partition: KafkaPartition) -> FetchedChunk | NormalizerError:
        incarnation, offset = starts[partition]
        try:
            return await read_next_leniently(
                client, partition, incarnation=incarnation, offset=offset
            )
        except NormalizerError as error:
            return error

    async with asyncio.TaskGroup() as tasks:
        reads = {one: tasks.create_task(read(one), name=f"read {one}") for one in starts}
    return {one: task.result() for one, task in reads.items()}


async def read_next_leniently(
    client: Any,
    partition: KafkaPartition,
    *,
    incarnation: int,
    offset: int,
    most_bytes: int = MAX_RESPONSE_BYTES,
) -> FetchedChunk:
    """Return the committed records that one fetch request finds from `offset` on.

    The result has at most about MAX_CHUNK_BYTES of records. A larger batch takes several calls,
    each of which fetches the batch again and decompresses it from its beginning. Bytes in a
    header's name that aren't UTF-8 are replaced. `client` must be started.

    Raises BrokerUnavailableError, and UnreadableBatchError if even this reader can't decode the
    first batch. If a later batch can't be decoded, the result ends before it.
    """
    with translate_kafka_errors(f"reading {partition}"):
        try:
            async with asyncio.timeout(_RESPONSE_TIMEOUT_S):
                answer = await _fetch(client, partition, offset, most_bytes)
        except CorruptRecordException as error:
            raise UnreadableBatchError(partition, offset, "the broker itself says so") from error
    with contextlib.suppress(Exception):  # aiokafka's own decoder is compiled, so try it first
        return _decode(_records(MemoryRecords, answer, partition, offset), partition, incarnation)
    # Decode in a thread, because decompressing may take seconds. Decompression releases Python's
    # interpreter lock, so the event loop keeps running in the meantime.
    records = _records(_LenientRecords, answer, partition, offset)
    return await asyncio.to_thread(_decode, records, partition, incarnation)


async def _fetch(
    client: Any, partition: KafkaPartition, offset: int, most_bytes: int
) -> tuple[Any, ...]:
    """Send one fetch request to the partition's leader.

    Returns those fields of the response that follow the error code. They're mostly offsets, such as
    the first and the last one of the log, and the last field has the record batches.
    """
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


def _decode(records: PartitionRecords, partition: KafkaPartition, incarnation: int) -> FetchedChunk:
    """Decode records until they have MAX_CHUNK_BYTES, or until one is damaged.

    If there are good records before a damaged one, this call returns them, and the next call raises
    UnreadableBatchError.
    """
    offset = records.next_fetch_offset
    found: list[RawRecord] = []
    chunk_bytes = 0
    try:
        for one in records:
            record = to_raw_record(one, incarnation)
            if isinstance(one.value, _CutBytes):
                record = msgspec.structs.replace(record, value=bytes(one.value), cut=one.value.cut)
            found.append(record)
            chunk_bytes += record_size(record)
            if chunk_bytes >= MAX_CHUNK_BYTES:
                break
    except DecompressedTooLargeError as error:
        if records.next_fetch_offset == offset:
            raise UnreadableBatchError(
                partition, offset, str(error), next_offset=error.next_offset
            ) from error
    except Exception as error:
        if records.next_fetch_offset == offset:
            raise UnreadableBatchError(partition, offset, type(error).__name__) from error
    return FetchedChunk(
        partition=partition,
        from_offset=offset,
        next_offset=records.next_fetch_offset,
        records=found,
    )


class _LenientRecords(_MemoryRecordsPy):  # type: ignore[misc]
    """The record batches of a fetch response."""

    def next_batch(self) -> Any:
        """Return the next batch.

        Since Kafka 0.11 batches have a format that's decoded leniently.
        """
        one = self._next_slice
        if one is None or one[self.MAGIC_OFFSET] < 2:
            return super().next_batch()
        self._cache_next()
        return _LenientBatch(one)


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """A batch that's decompressed record by record, and whose header names may be any bytes.

    Source: Kafka's record format, version 2.
    """

    _buffer: bytearray
    _pos: int

    def __init__(self, buffer: memoryview) -> None:
        super().__init__(buffer)
        self._records = self._read_records()

    def __iter__(self) -> Iterator[_DefaultRecordPy]:
        return self._records

    def __next__(self) -> _DefaultRecordPy:
        return next(self._records)

    def _read_records(self) -> Iterator[_DefaultRecordPy]:
        packed = bytes(self._buffer[self._pos :])
        self._buffer = bytearray()
        codec = _CODECS[self.compression_type]
        fields = RecordFieldReader(
            decompress_in_pieces(codec, packed) if codec else iter((packed,))
        )
        try:
            for _ in range(self._num_records):
                yield self._read_record(fields)
            if fields.has_more():
                raise CorruptRecordException("the batch has bytes after the end of its last record")
        except DecompressedTooLargeError as error:
            error.next_offset = self.next_offset
            raise

    def _read_record(self, fields: RecordFieldReader) -> _DefaultRecordPy:
        length = fields.read_varint()
        end = fields.position + length
        fields.read_varint()  # attributes, for which Kafka has no use yet
        passed_ms = fields.read_varint()
        further = fields.read_varint()
        value: bytes | None
        if length > MAX_RECORD_BYTES:
            key, value = _read_cut(fields, length)
            headers = []
            fields.skip_bytes(end - fields.position)
        else:
            field = partial(fields.read_bytes_or_null, end=end)
            key, value = field(), field()
            headers = [
                ((field() or b"").decode(errors="replace"), field())
                for _ in range(fields.read_varint())
            ]
        if fields.position != end:
            passed = fields.position - end + length
            raise CorruptRecordException(
                f"a record claims to have {length} bytes, but its fields take {passed}"
            )
        appended = self.timestamp_type == self.LOG_APPEND_TIME
        recorded_ms = self.max_timestamp if appended else self.first_timestamp + passed_ms
        return _DefaultRecordPy(
            self.base_offset + further, recorded_ms, self.timestamp_type, key, value, headers
        )


class _CutBytes(bytes):
    """The first bytes of a value, with the checksum and size of its record."""

    cut: OversizedRecordFacts


def _read_cut(fields: RecordFieldReader, length: int) -> tuple[bytes | None, _CutBytes]:
    """Read only the first bytes of the key and value of a record that's too large for memory.

    The value that's returned also carries the size and the checksums of the complete record, so
    that the record can be identified later.
    """
    crc, key = 0, b""
    key_bytes = fields.read_varint()
    for part in fields.read_chunks(key_bytes):
        crc = zlib.crc32(part, crc)
        key += part[: OVERSIZED_KEPT_BYTES - len(key)]
    crc = zlib.crc32(b"\0", crc)
    sha256, head = hashlib.sha256(), b""
    value_bytes = fields.read_varint()
    for part in fields.read_chunks(value_bytes):
        crc = zlib.crc32(part, crc)
        sha256.update(part)
        head += part[: OVERSIZED_KEPT_BYTES - len(head)]
    value = _CutBytes(head)
    value.cut = OversizedRecordFacts(
        value_bytes=max(0, value_bytes), record_bytes=length, sha256=sha256.digest(), crc=crc
    )
    return None if key_bytes < 0 else key, value

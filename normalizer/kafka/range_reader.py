"""Reads ranges of offsets, one per partition, without a consumer group and without commits.

A backfill of a topic uses it. Since it joins no group, it doesn't disturb the service. It reads
each range only once, up to an end that's fixed when it starts.
"""

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any, Final, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from normalizer.config.settings import Settings
from normalizer.errors import FatalError
from normalizer.kafka.client_setup import (
    MAX_FETCH_BYTES,
    MAX_PARTITION_FETCH_BYTES,
    FetchedChunk,
    KafkaPartition,
    OffsetBounds,
    connection_options,
    read_offset_bounds,
    start_client,
    stop_client,
    to_raw_record,
    translate_kafka_errors,
)
from normalizer.kafka.fetch_sizes import limit_fetch_sizes
from normalizer.kafka.lazy_clients import CLOSE_TIMEOUT_S
from normalizer.kafka.lenient_reader import (
    UNDECODABLE_BATCH_ERRORS,
    UnreadableBatchError,
    read_next_leniently,
)

_MAX_FETCH_RECORDS: Final = 1_000
_POLL_S: Final = 0.5
_SILENT_FETCHES: Final = 10
"""After this many fetches without a record, check that the log still exists and can be read."""


class OffsetRange(NamedTuple):
    """The offsets to read from one partition: `first` up to, but not including, `after`.

    `incarnation` is how often the topic has been recreated. It's stored with each record, so that
    equal offsets in the old and the new log can't be confused.
    """

    incarnation: int
    first: int
    after: int


class ExpiredRange(NamedTuple):
    """Offsets from `first` up to `after` that Kafka's retention deleted before they were read."""

    partition: KafkaPartition
    first: int
    after: int


class OffsetRangeReader:
    """Reads the committed records of given ranges. Every method raises BrokerUnavailableError.

    Each chunk has records of one partition, in the order of their offsets:

        async with OffsetRangeReader(settings) as reader:
            async for chunk in reader.read({KafkaPartition("noetl.events", 3): offset_range}):
                ...
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: Any = None
        self._left: dict[KafkaPartition, OffsetRange] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. The next call opens a new one."""
        consumer, self._consumer = self._consumer, None
        if consumer:
            await stop_client(consumer, timeout_s=CLOSE_TIMEOUT_S)

    async def offset_bounds(
        self, partitions: Collection[KafkaPartition]
    ) -> dict[KafkaPartition, OffsetBounds]:
        """Return the first offset and the committed end of each partition. All must exist."""
        with translate_kafka_errors("reading the bounds of the log"):
            consumer = await self._connected()
            return await read_offset_bounds(consumer, partitions)

    async def offsets_at_time(
        self, partitions: Collection[KafkaPartition], time_ms: int
    ) -> dict[KafkaPartition, int | None]:
        """Return each partition's first offset with a record at this time or later, or None."""
        with translate_kafka_errors("looking up offsets by time"):
            consumer = await self._connected()
            found = await consumer.offsets_for_times(
                {TopicPartition(*one): time_ms for one in partitions}
            )
        return {
            KafkaPartition(*one): None if at is None else at.offset for one, at in found.items()
        }

    async def read_ranges(
        self, offset_ranges: Mapping[KafkaPartition, OffsetRange]
    ) -> AsyncIterator[FetchedChunk | ExpiredRange]:
        """Yield chunks of records until every range is read to its end.

        If Kafka's retention deletes records of a range before they're read, this yields their
        offsets as an ExpiredRange and continues after them. If no reader can decode a batch, it
        yields all records before that batch and raises UnreadableBatchError. Raises FatalError if
        the topic was recreated.
        """
        self._left = {one: at for one, at in offset_ranges.items() if at.first < at.after}
        if not self._left:
            return
        with translate_kafka_errors("reading"):
            consumer = await self._connected()
            consumer.assign([TopicPartition(*one) for one in self._left])
        self._seek()
        silent_fetches = 0
        while self._left:
            found = await self._fetch()
            for one in found:
                yield one
            silent_fetches = 0 if found else silent_fetches + 1
            if silent_fetches == _SILENT_FETCHES:
                await self._check_topic()
                for one in await self._read_past_silence():
                    yield one
                silent_fetches = 0

    async def _fetch(self) -> list[FetchedChunk | ExpiredRange]:
        try:
            drained = await self._consumer.getmany(
                timeout_ms=round(_POLL_S * 1000), max_records=_MAX_FETCH_RECORDS
            )
        except OffsetOutOfRangeError as error:
            self._seek()
            return [await self._skip_expired(KafkaPartition(*one)) for one in error.args[0]]
        except (KafkaError, OSError) as error:
            self._seek()
            if not isinstance(error, UNDECODABLE_BATCH_ERRORS):
                with translate_kafka_errors("reading"):
                    raise
            return await self._read_leniently()
        except Exception:  # noqa: BLE001 - aiokafka may raise anything on a damaged batch
            self._seek()
            return await self._read_leniently()
        found: list[FetchedChunk | ExpiredRange] = []
        for one, offset_range in list(self._left.items()):
            where = TopicPartition(*one)
            position = await self._consumer.position(where)
            if position > offset_range.first:
                records = [
                    to_raw_record(each, offset_range.incarnation) for each in drained.get(where, ())
                ]
                found.append(self._chunk(one, position, records))
        return found

    async def _read_leniently(self) -> list[FetchedChunk | ExpiredRange]:
        """Read one fetch response for each partition with the lenient reader."""
        found: list[FetchedChunk | ExpiredRange] = []
        for one, offset_range in list(self._left.items()):
            chunk = await read_next_leniently(
                self._consumer._client,  # noqa: SLF001 - the consumer can't decode the response
                one,
                incarnation=offset_range.incarnation,
                offset=offset_range.first,
            )
            if chunk.next_offset > offset_range.first:
                found.append(self._chunk(one, chunk.next_offset, chunk.records))
        self._seek()
        return found

    async def _read_past_silence(self) -> list[FetchedChunk | ExpiredRange]:
        """Use the lenient reader if aiokafka returns nothing although the log continues.

        If a damaged log has no batch at an offset, the broker returns an empty response, and
        aiokafka would repeat the request endlessly. Raises UnreadableBatchError if the lenient
        reader gets nothing either.
        """
        found = await self._read_leniently()
        if not found:
            one, offset_range = next(iter(self._left.items()))
            raise UnreadableBatchError(
                one, offset_range.first, "the broker returns no records from it"
            )
        return found

    def _chunk(self, one: KafkaPartition, position: int, records: list[Any]) -> FetchedChunk:
        offset_range = self._left[one]
        position = min(position, offset_range.after)
        self._advance(one, position)
        return FetchedChunk(
            partition=one,
            from_offset=offset_range.first,
            next_offset=position,
            records=[record for record in records if record.offset < position],
        )

    async def _skip_expired(self, one: KafkaPartition) -> ExpiredRange:
        """Continue at the first offset that the log still has."""
        bounds = (await self.offset_bounds([one]))[one]
        offset_range = self._left[one]
        if bounds.start <= offset_range.first:
            raise FatalError(
                f"{one}: offset {offset_range.first} can't be read, because the topic was "
                f"recreated and its log ends at {bounds.end}"
            )
        after = min(bounds.start, offset_range.after)
        self._advance(one, after)
        self._seek()
        return ExpiredRange(one, offset_range.first, after)

    async def _check_topic(self) -> None:
        """Check that the topic exists and its log is long enough, because no records arrive."""
        with translate_kafka_errors("looking for the topic"):
            known = await self._consumer.topics()
        for one, offset_range in self._left.items():
            if one.topic not in known:
                raise FatalError(
                    f"{one}: the rest can't be read, because the topic no longer exists"
                )
            end = (await self.offset_bounds([one]))[one].end
            if end < offset_range.after:
                raise FatalError(
                    f"{one}: the log can't be read to offset {offset_range.after}, because the "
                    f"topic was recreated and its log ends at {end}"
                )

    def _advance(self, one: KafkaPartition, position: int) -> None:
        if position < self._left[one].after:
            self._left[one] = self._left[one]._replace(first=position)
            return
        del self._left[one]
        self._consumer.pause(TopicPartition(*one))

    def _seek(self) -> None:
        """Seek aiokafka to every position, because after an error it has lost what it took."""
        for one, offset_range in self._left.items():
            self._consumer.seek(TopicPartition(*one), offset_range.first)

    async def _connected(self) -> Any:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **connection_options(self._settings),
                isolation_level="read_committed",
                auto_offset_reset="none",
                enable_auto_commit=False,
                fetch_max_bytes=MAX_FETCH_BYTES,
                max_partition_fetch_bytes=MAX_PARTITION_FETCH_BYTES,
                client_rack=self._settings.kafka_client_rack,
            )
            client = consumer._client  # noqa: SLF001 - the public API has no access to it
            limit_fetch_sizes(client, MAX_FETCH_BYTES)
            try:
                await start_client(consumer, self._settings, "connecting")
            except BaseException:
                await consumer.stop()
                raise
            self._consumer = consumer
        return self._consumer

"""Stretches of partitions in, their records out: no group, no commits, each to its own end."""

from collections.abc import AsyncIterator, Collection, Mapping
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError, OffsetOutOfRangeError

from normalizer.errors import FatalError
from normalizer.kafka.connection import (
    Bounds,
    Chunk,
    Partition,
    connection_options,
    ended,
    raw_record,
    translated,
)
from normalizer.kafka.log import ENDING_S
from normalizer.kafka.mending import read_mending
from normalizer.settings import Settings

RECORDS_A_FETCH: Final = 1_000
POLL_S: Final = 0.5
SILENT_FETCHES: Final = 10
"""After so many fetches without a record the log is asked whether it is still there."""


class Stretch(NamedTuple):
    """Offsets `first` up to `after` of a partition, read under this generation."""

    generation: int
    first: int
    after: int


class Lost(NamedTuple):
    """Offsets `first` up to `after` of a partition that retention took before they were read."""

    partition: Partition
    first: int
    after: int


class StretchReader:
    """Reads committed records of given stretches. Every method raises BrokerUnavailable."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: Any = None
        self._left: dict[Partition, Stretch] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop the connection; the next call makes a new one."""
        consumer, self._consumer = self._consumer, None
        if consumer:
            await ended(consumer, timeout_s=ENDING_S)

    async def bounds(self, partitions: Collection[Partition]) -> dict[Partition, Bounds]:
        """First offset and committed end of each of these partitions, which must exist."""
        wanted = [TopicPartition(*one) for one in partitions]
        with translated("asking for the ends of the log"):
            consumer = await self._connected()
            starts = await consumer.beginning_offsets(wanted)
            ends = await consumer.end_offsets(wanted)
        return {Partition(*one): Bounds(starts[one], ends[one]) for one in wanted}

    async def offsets_at(
        self, partitions: Collection[Partition], time_ms: int
    ) -> dict[Partition, int | None]:
        """The first offset of each whose record is of this time or later; None: there is none."""
        with translated("asking for offsets of a time"):
            consumer = await self._connected()
            found = await consumer.offsets_for_times(
                {TopicPartition(*one): time_ms for one in partitions}
            )
        return {Partition(*one): None if at is None else at.offset for one, at in found.items()}

    async def read(self, stretches: Mapping[Partition, Stretch]) -> AsyncIterator[Chunk | Lost]:
        """Every stretch to its end, as records come in. Raises FatalError for a log made anew.

        What retention took meanwhile is a Lost, and reading goes on after it.
        """
        self._left = {one: at for one, at in stretches.items() if at.first < at.after}
        if not self._left:
            return
        with translated("reading"):
            consumer = await self._connected()
            consumer.assign([TopicPartition(*one) for one in self._left])
        self._seek()
        silent = 0
        while self._left:
            found = await self._fetch()
            for one in found:
                yield one
            silent = 0 if found else silent + 1
            if silent == SILENT_FETCHES:
                await self._look_for()
                silent = 0

    async def _fetch(self) -> list[Chunk | Lost]:
        try:
            drained = await self._consumer.getmany(
                timeout_ms=round(POLL_S * 1000), max_records=RECORDS_A_FETCH
            )
        except OffsetOutOfRangeError as error:
            self._seek()
            return [await self._skip(Partition(*one)) for one in error.args[0]]
        except (KafkaError, OSError) as error:
            self._seek()
            if not isinstance(error, CorruptRecordException):
                with translated("reading"):
                    raise
            return await self._mended()
        except Exception:  # noqa: BLE001 - whatever the client stumbles over in a batch
            self._seek()
            return await self._mended()
        found: list[Chunk | Lost] = []
        for one, stretch in list(self._left.items()):
            where = TopicPartition(*one)
            position = await self._consumer.position(where)
            if position > stretch.first:
                records = [raw_record(each, stretch.generation) for each in drained.get(where, ())]
                found.append(self._chunk(one, position, records))
        return found

    async def _mended(self) -> list[Chunk | Lost]:
        """One answer of the broker for each partition, read by another way."""
        found: list[Chunk | Lost] = []
        for one, stretch in list(self._left.items()):
            chunk = await read_mending(
                self._settings, one, generation=stretch.generation, offset=stretch.first
            )
            if chunk.next_offset > stretch.first:
                found.append(self._chunk(one, chunk.next_offset, chunk.records))
        self._seek()
        return found

    def _chunk(self, one: Partition, position: int, records: list[Any]) -> Chunk:
        stretch = self._left[one]
        position = min(position, stretch.after)
        self._advance(one, position)
        return Chunk(
            partition=one,
            from_offset=stretch.first,
            next_offset=position,
            records=[record for record in records if record.offset < position],
        )

    async def _skip(self, one: Partition) -> Lost:
        """Go on at the beginning of the log, which has moved beyond the position."""
        bounds = (await self.bounds([one]))[one]
        stretch = self._left[one]
        if bounds.start <= stretch.first:
            raise FatalError(
                f"{one}: offset {stretch.first} was to be read, the log ends at {bounds.end}: "
                "the topic was made anew"
            )
        after = min(bounds.start, stretch.after)
        self._advance(one, after)
        self._seek()
        return Lost(one, stretch.first, after)

    async def _look_for(self) -> None:
        """Nothing comes: is the log still the one that was to be read?"""
        with translated("looking for the topic"):
            known = await self._consumer.topics()
        for one, stretch in self._left.items():
            if one.topic not in known:
                raise FatalError(f"{one}: there is no such topic any more")
            end = (await self.bounds([one]))[one].end
            if end < stretch.after:
                raise FatalError(
                    f"{one}: it was to be read to offset {stretch.after}, the log ends at {end}: "
                    "the topic was made anew"
                )

    def _advance(self, one: Partition, position: int) -> None:
        if position < self._left[one].after:
            self._left[one] = self._left[one]._replace(first=position)
            return
        del self._left[one]
        self._consumer.pause(TopicPartition(*one))

    def _seek(self) -> None:
        """Put the client where every stretch stands: an error makes it forget what it drained."""
        for one, stretch in self._left.items():
            self._consumer.seek(TopicPartition(*one), stretch.first)

    async def _connected(self) -> Any:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **connection_options(self._settings),
                isolation_level="read_committed",
                auto_offset_reset="none",
                enable_auto_commit=False,
                fetch_max_bytes=self._settings.kafka_fetch_max_bytes,
                max_partition_fetch_bytes=self._settings.kafka_max_partition_fetch_bytes,
            )
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            self._consumer = consumer
        return self._consumer

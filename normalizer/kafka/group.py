"""Partitions that the consumer group gives this process in, chunks of their records out."""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    ConsumerStoppedError,
    CorruptRecordException,
    IllegalStateError,
    KafkaError,
    OffsetOutOfRangeError,
    UnsupportedCodecError,
)

from normalizer.core.batch import LastRecord, last_record
from normalizer.errors import BrokerUnavailable, FatalError
from normalizer.kafka.connection import (
    Chunk,
    Partition,
    connection_options,
    ended,
    raw_record,
    translated,
)
from normalizer.kafka.mending import read_mending
from normalizer.kafka.readings import Doubt, Reading, Readings, wall_ms
from normalizer.settings import Settings

NEVER_MS: Final = 2**31 - 1
"""aiokafka's own idle watch is off: it stops joining while nobody polls; the service watches."""

METADATA_AGE_MS: Final = 30_000
"""Partitions that are added are seen so soon; the client's own default is five minutes."""

STOP_S: Final = 5.0

GETMANY_GRACE_S: Final = 5.0
"""getmany blocks without limit while the group rebalances: it is left after so much longer."""

_BROKEN: Final = (CorruptRecordException, UnsupportedCodecError)

NOWHERE: Final = TopicPartition("", 0)
"""getmany of no partition at all: asked so that errors of the group come out."""


class GroupReader:
    """The partitions of a consumer group that are this process's, read from given offsets.

    A partition that the group assigns stays paused until `begin`. `on_revoked` and `on_assigned`
    are called inside the rebalance: they must not wait. `assignments` counts both, so that who
    waited for something can see whether the group changed meanwhile.

    A fetch that failed, or a silence, puts the log of its partitions in doubt: nothing of those is
    given out until somebody has compared them and says `trust`. `on_doubt` is called then.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_assigned: Callable[[], None] = lambda: None,
        on_revoked: Callable[[], None] = lambda: None,
        on_doubt: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._listener = _Listener(self._assigned, self._revoked)
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._consumer: Any = None
        self._joined = False
        self._readings = Readings(on_doubt)
        self.assigned: frozenset[Partition] = frozenset()
        self.assignments = 0
        self.rebalancing = True

    async def start(self) -> None:
        """Connect and join the group. Raises BrokerUnavailable; may be called again then."""
        settings = self._settings
        self._consumer = AIOKafkaConsumer(
            **connection_options(settings),
            group_id=settings.kafka_group_id,
            enable_auto_commit=False,
            isolation_level="read_committed",
            # Positions live in Postgres: an offset that the log has not must come out as an error,
            # for a silent jump to the earliest or latest would look like a hole.
            auto_offset_reset="none",
            fetch_max_bytes=settings.kafka_fetch_max_bytes,
            max_partition_fetch_bytes=settings.kafka_max_partition_fetch_bytes,
            session_timeout_ms=settings.kafka_session_timeout_ms,
            # Kafka's default at most: a rebalance is learnt of by the next heartbeat.
            heartbeat_interval_ms=min(3_000, settings.kafka_session_timeout_ms // 4),
            rebalance_timeout_ms=settings.kafka_rebalance_timeout_ms,
            max_poll_interval_ms=NEVER_MS,
            metadata_max_age_ms=METADATA_AGE_MS,
        )
        self._consumer.subscribe(list(settings.kafka_topics), listener=self._listener)
        self._readings.listen(self._consumer._client)  # noqa: SLF001 - nothing public tells
        try:
            with translated(f"joining group {settings.kafka_group_id}"):
                async with asyncio.timeout(settings.progress_timeout_s):
                    await self._consumer.start()
        except BaseException as error:
            if not await self.stop(timeout_s=STOP_S) and isinstance(error, BrokerUnavailable):
                raise FatalError(f"{error}; and the Kafka client does not stop") from error
            raise
        self._joined = True

    async def stop(self, *, timeout_s: float) -> bool:
        """Leave the group; False where that took too long and the process had better end.

        A consumer that was left behind half stopped goes on with its heartbeats: the group would
        believe that its partitions are read.
        """
        consumer, self._consumer = self._consumer, None
        self._joined = False
        self._revoked()
        if consumer is None:
            return True
        return await ended(consumer, timeout_s=timeout_s)

    def begin(
        self,
        partition: Partition,
        *,
        generation: int,
        offset: int,
        last: LastRecord | None = None,
        compared_ms: int | None = None,
    ) -> None:
        """Read an assigned partition from this offset on, in the log that `last` was read from.

        compared_ms: when that was seen to be so, by wall_ms(); by default now.
        """
        heard_ms = wall_ms() if compared_ms is None else compared_ms
        self._readings[partition] = Reading(generation, offset, last, heard_ms)
        self._seek(partition, offset)
        self._consumer.resume(TopicPartition(*partition))

    def leave(self, partition: Partition) -> None:
        """Stop reading a partition; it stays assigned and paused."""
        if self._readings.pop(partition, None) and partition in self.assigned:
            self._consumer.pause(TopicPartition(*partition))

    def reads(self, partition: Partition) -> bool:
        """Whether `begin` was called for it, and the log had what it asked for."""
        return partition in self._readings

    def next_offset(self, partition: Partition) -> int:
        """How far a partition was read; -1 before `begin`."""
        reading = self._readings.get(partition)
        return -1 if reading is None else reading.next_offset

    def doubts(self) -> list[Doubt]:
        """Partitions whose log is to be compared before anything more of it is given out."""
        return self._readings.in_doubt()

    def trust(self, doubt: Doubt, *, compared_ms: int) -> None:
        """The log was the same one at that moment; a doubt that came since stays."""
        self._readings.trust(doubt, compared_ms=compared_ms)

    async def fetch(
        self, partitions: Collection[Partition], *, max_records: int, timeout_s: float
    ) -> list[Chunk]:
        """What has come in for these partitions, max_records at most; waits for the first.

        Raises BrokerUnavailable where the group is in trouble (join anew), FatalError where rights
        are missing, UnreadableBatch for a broken log. A partition whose offset the log no longer
        has is left: claim it again.
        """
        if not self._joined:
            await asyncio.sleep(timeout_s)
            return []
        consumer = self._consumer
        wanted = [TopicPartition(*one) for one in partitions if self._readings.is_trusted(one)]
        try:
            async with asyncio.timeout(timeout_s + GETMANY_GRACE_S):
                drained = await consumer.getmany(
                    *wanted or [NOWHERE],
                    timeout_ms=round(timeout_s * 1000),
                    max_records=max_records,
                )
        except (TimeoutError, ConsumerStoppedError):
            return []
        except OffsetOutOfRangeError as error:
            self._rewind()
            for topic, partition in error.args[0]:
                self.leave(Partition(topic, partition))
            return []
        except (KafkaError, OSError) as error:
            self._rewind()
            if not isinstance(error, _BROKEN):
                with translated("fetching"):
                    raise
            return await self._mended(partitions, error)
        except Exception as error:  # noqa: BLE001 - whatever the client stumbles over in a batch
            self._rewind()
            return await self._mended(partitions, error)
        # From here on nothing waits: positions and readings move in one step.
        return await self._chunks({Partition(*one) for one in wanted}, drained)

    async def commit(self, offsets: dict[Partition, int], *, timeout_s: float) -> None:
        """Tell the group how far we are: for lag tools only. Raises BrokerUnavailable."""
        mine = {TopicPartition(*one): at for one, at in offsets.items() if one in self.assigned}
        if not mine or self._consumer is None:
            return
        with translated("committing"):
            async with asyncio.timeout(timeout_s):
                await self._consumer.commit(mine)

    async def _chunks(self, wanted: set[Partition], drained: dict[Any, list[Any]]) -> list[Chunk]:
        """The drained records with the holes around them; readings move to their end."""
        for one in drained:
            partition = Partition(*one)
            if partition not in wanted and partition in self._readings:
                # Begun by another caller while this call hung in a rebalance: theirs to read.
                self._seek(partition, self._readings[partition].next_offset)
        chunks = []
        for partition in wanted & self._readings.keys():
            reading = self._readings[partition]
            next_offset = await self._consumer.position(TopicPartition(*partition))
            if not self._readings.is_trusted(partition):
                self._seek(partition, reading.next_offset)
                continue
            if next_offset == reading.next_offset:
                continue
            records = [
                raw_record(record, reading.generation)
                for record in drained.get(TopicPartition(*partition), ())
            ]
            if next_offset < reading.next_offset or (
                records and not reading.next_offset <= records[0].offset <= next_offset
            ):
                raise FatalError(
                    f"{partition}: asked for offset {reading.next_offset}, "
                    f"came to {next_offset}: the client lost its place"
                )
            chunks.append(
                Chunk(
                    partition=partition,
                    from_offset=reading.next_offset,
                    next_offset=next_offset,
                    records=records,
                )
            )
            self._advance(reading, chunks[-1])
        return chunks

    async def _mended(self, partitions: Collection[Partition], stumble: Exception) -> list[Chunk]:
        """One answer of the broker for each partition, read past what the client cannot.

        Where there is nothing new to read so, no record was to blame: BrokerUnavailable. A
        partition whose leader is away stops no other.
        """
        read: list[tuple[Reading, Chunk]] = []
        for partition in partitions:
            reading = self._readings.get(partition)
            if reading is None or not self._readings.is_trusted(partition):
                continue
            offset = reading.next_offset
            try:
                chunk = await read_mending(
                    self._settings, partition, generation=reading.generation, offset=offset
                )
            except BrokerUnavailable as error:
                self._readings.doubt([partition])
                stumble = error
                continue
            self._readings.hear(partition, wall_ms())
            if (
                self._readings.get(partition) is reading
                and not reading.doubts
                and chunk.next_offset > offset
            ):
                self._advance(reading, chunk)
                self._seek(partition, chunk.next_offset)
                read.append((reading, chunk))
        if not read:
            raise BrokerUnavailable(f"fetching: {type(stumble).__name__}") from stumble
        # What was begun anew while another partition was asked for will be read again.
        return [chunk for reading, chunk in read if self._readings.get(chunk.partition) is reading]

    @staticmethod
    def _advance(reading: Reading, chunk: Chunk) -> None:
        reading.next_offset = chunk.next_offset
        if chunk.records:
            reading.last = last_record(chunk.records[-1])

    def _seek(self, partition: Partition, offset: int) -> None:
        self._consumer.seek(TopicPartition(*partition), offset)

    def _rewind(self) -> None:
        """Put the consumer back to where every reading stands.

        For when getmany fails: it forgets what it had drained before, also of other partitions.
        """
        for partition, reading in self._readings.items():
            with contextlib.suppress(IllegalStateError):
                self._seek(partition, reading.next_offset)

    def _assigned(self, partitions: frozenset[Partition]) -> None:
        for partition in partitions:
            self._consumer.pause(TopicPartition(*partition))
            # Any valid position will do while paused: without one the client asks for a committed.
            self._seek(partition, 0)
        self.assigned = partitions
        self.assignments += 1
        self.rebalancing = False
        self._on_assigned()

    def _revoked(self) -> None:
        self.assigned = frozenset()
        self.assignments += 1
        self.rebalancing = True
        self._readings.clear()
        self._on_revoked()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Hands rebalances on, as sets of our own kind."""

    def __init__(
        self, assigned: Callable[[frozenset[Partition]], None], revoked: Callable[[], None]
    ) -> None:
        self._assigned = assigned
        self._revoked = revoked

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002 - theirs
        """Every rebalance of this protocol takes all partitions first."""
        self._revoked()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Pause what is new before anything of it can be fetched."""
        self._assigned(frozenset(Partition(*one) for one in assigned))

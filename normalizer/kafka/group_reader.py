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
    FetchedChunk,
    KafkaPartition,
    connection_options,
    ended,
    raw_record,
    translated,
)
from normalizer.kafka.fetch_positions import FetchPosition, FetchPositions, UnverifiedLog, wall_ms
from normalizer.kafka.lenient_reader import read_leniently
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
    given out until somebody has compared them and says `trust`. `on_unverified` is called then.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_assigned: Callable[[], None] = lambda: None,
        on_revoked: Callable[[], None] = lambda: None,
        on_unverified: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._listener = _Listener(self._assigned, self._revoked)
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._consumer: Any = None
        self._joined = False
        self._fetch_positions = FetchPositions(on_unverified)
        self.assigned: frozenset[KafkaPartition] = frozenset()
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
        self._fetch_positions.listen(self._consumer._client)  # noqa: SLF001 - nothing public tells
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

    def start_reading(
        self,
        partition: KafkaPartition,
        *,
        incarnation: int,
        offset: int,
        last: LastRecord | None = None,
        compared_ms: int | None = None,
    ) -> None:
        """Read an assigned partition from this offset on, in the log that `last` was read from.

        compared_ms: when that was seen to be so, by wall_ms(); by default now.
        """
        last_answer_ms = wall_ms() if compared_ms is None else compared_ms
        self._fetch_positions[partition] = FetchPosition(incarnation, offset, last, last_answer_ms)
        self._seek(partition, offset)
        self._consumer.resume(TopicPartition(*partition))

    def stop_reading(self, partition: KafkaPartition) -> None:
        """Stop reading a partition; it stays assigned and paused."""
        if self._fetch_positions.pop(partition, None) and partition in self.assigned:
            self._consumer.pause(TopicPartition(*partition))

    def is_reading(self, partition: KafkaPartition) -> bool:
        """Whether `begin` was called for it, and the log had what it asked for."""
        return partition in self._fetch_positions

    def next_offset(self, partition: KafkaPartition) -> int:
        """How far a partition was read; -1 before `begin`."""
        position = self._fetch_positions.get(partition)
        return -1 if position is None else position.next_offset

    def unverified_logs(self) -> list[UnverifiedLog]:
        """Partitions whose log is to be compared before anything more of it is given out."""
        return self._fetch_positions.unverified()

    def mark_verified(self, unverified_log: UnverifiedLog, *, compared_ms: int) -> None:
        """The log was the same one at that moment; a doubt that came since stays."""
        self._fetch_positions.mark_verified(unverified_log, compared_ms=compared_ms)

    async def fetch(
        self, partitions: Collection[KafkaPartition], *, max_records: int, timeout_s: float
    ) -> list[FetchedChunk]:
        """What has come in for these partitions, max_records at most; waits for the first.

        Raises BrokerUnavailable where the group is in trouble (join anew), FatalError where rights
        are missing, UnreadableBatch for a broken log. A partition whose offset the log no longer
        has is left: claim it again.
        """
        if not self._joined:
            await asyncio.sleep(timeout_s)
            return []
        consumer = self._consumer
        wanted = [
            TopicPartition(*one) for one in partitions if self._fetch_positions.is_trusted(one)
        ]
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
                self.stop_reading(KafkaPartition(topic, partition))
            return []
        except (KafkaError, OSError) as error:
            self._rewind()
            if not isinstance(error, _BROKEN):
                with translated("fetching"):
                    raise
            return await self._read_leniently(partitions, error)
        except Exception as error:  # noqa: BLE001 - whatever the client stumbles over in a batch
            self._rewind()
            return await self._read_leniently(partitions, error)
        # From here on nothing waits: positions and readings move in one step.
        return await self._chunks({KafkaPartition(*one) for one in wanted}, drained)

    async def commit(self, offsets: dict[KafkaPartition, int], *, timeout_s: float) -> None:
        """Tell the group how far we are: for lag tools only. Raises BrokerUnavailable."""
        owned = {TopicPartition(*one): at for one, at in offsets.items() if one in self.assigned}
        if not owned or self._consumer is None:
            return
        with translated("committing"):
            async with asyncio.timeout(timeout_s):
                await self._consumer.commit(owned)

    async def _chunks(
        self, wanted: set[KafkaPartition], drained: dict[Any, list[Any]]
    ) -> list[FetchedChunk]:
        """The drained records with the holes around them; readings move to their end."""
        for one in drained:
            partition = KafkaPartition(*one)
            if partition not in wanted and partition in self._fetch_positions:
                # Begun by another caller while this call hung in a rebalance: theirs to read.
                self._seek(partition, self._fetch_positions[partition].next_offset)
        chunks = []
        for partition in wanted & self._fetch_positions.keys():
            position = self._fetch_positions[partition]
            next_offset = await self._consumer.position(TopicPartition(*partition))
            if not self._fetch_positions.is_trusted(partition):
                self._seek(partition, position.next_offset)
                continue
            if next_offset == position.next_offset:
                continue
            records = [
                raw_record(record, position.incarnation)
                for record in drained.get(TopicPartition(*partition), ())
            ]
            if next_offset < position.next_offset or (
                records and not position.next_offset <= records[0].offset <= next_offset
            ):
                raise FatalError(
                    f"{partition}: asked for offset {position.next_offset}, "
                    f"came to {next_offset}: the client lost its place"
                )
            chunks.append(
                FetchedChunk(
                    partition=partition,
                    from_offset=position.next_offset,
                    next_offset=next_offset,
                    records=records,
                )
            )
            self._advance(position, chunks[-1])
        return chunks

    async def _read_leniently(
        self, partitions: Collection[KafkaPartition], failure: Exception
    ) -> list[FetchedChunk]:
        """One answer of the broker for each partition, read past what the client cannot.

        Where there is nothing new to read so, no record was to blame: BrokerUnavailable. A
        partition whose leader is away stops no other.
        """
        read: list[tuple[FetchPosition, FetchedChunk]] = []
        for partition in partitions:
            position = self._fetch_positions.get(partition)
            if position is None or not self._fetch_positions.is_trusted(partition):
                continue
            offset = position.next_offset
            try:
                chunk = await read_leniently(
                    self._settings, partition, incarnation=position.incarnation, offset=offset
                )
            except BrokerUnavailable as error:
                self._fetch_positions.mark_unverified([partition])
                failure = error
                continue
            self._fetch_positions.note_answer(partition, wall_ms())
            if (
                self._fetch_positions.get(partition) is position
                and not position.unverified_count
                and chunk.next_offset > offset
            ):
                self._advance(position, chunk)
                self._seek(partition, chunk.next_offset)
                read.append((position, chunk))
        if not read:
            raise BrokerUnavailable(f"fetching: {type(failure).__name__}") from failure
        # What was begun anew while another partition was asked for will be read again.
        return [
            chunk
            for position, chunk in read
            if self._fetch_positions.get(chunk.partition) is position
        ]

    @staticmethod
    def _advance(position: FetchPosition, chunk: FetchedChunk) -> None:
        position.next_offset = chunk.next_offset
        if chunk.records:
            position.last = last_record(chunk.records[-1])

    def _seek(self, partition: KafkaPartition, offset: int) -> None:
        self._consumer.seek(TopicPartition(*partition), offset)

    def _rewind(self) -> None:
        """Put the consumer back to where every reading stands.

        For when getmany fails: it forgets what it had drained before, also of other partitions.
        """
        for partition, position in self._fetch_positions.items():
            with contextlib.suppress(IllegalStateError):
                self._seek(partition, position.next_offset)

    def _assigned(self, partitions: frozenset[KafkaPartition]) -> None:
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
        self._fetch_positions.clear()
        self._on_revoked()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Hands rebalances on, as sets of our own kind."""

    def __init__(
        self, assigned: Callable[[frozenset[KafkaPartition]], None], revoked: Callable[[], None]
    ) -> None:
        self._assigned = assigned
        self._revoked = revoked

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002 - theirs
        """Every rebalance of this protocol takes all partitions first."""
        self._revoked()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Pause what is new before anything of it can be fetched."""
        self._assigned(frozenset(KafkaPartition(*one) for one in assigned))

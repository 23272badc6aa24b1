"""Reads the partitions that a consumer group assigns to this process, as chunks of records.

The service and the relay read Kafka through it. It differs from a plain aiokafka consumer in two
ways. First, the caller chooses the offset at which a partition begins, because positions are in
PostgreSQL. Second, it returns no record of a log that may have been replaced by another one.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Any, Final

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    OffsetOutOfRangeError,
)

from normalizer.config.settings import Settings
from normalizer.core.batch import LastRecord
from normalizer.errors import BrokerUnavailableError, NormalizerError, RestartNeededError
from normalizer.kafka.client_setup import (
    FetchedChunk,
    KafkaPartition,
    start_client,
    stop_client,
    to_raw_record,
    translate_kafka_errors,
)
from normalizer.kafka.consumer_factory import new_group_consumer
from normalizer.kafka.fetch_positions import (
    FetchPosition,
    FetchPositions,
    UnverifiedPartition,
    wall_clock_ms,
)
from normalizer.kafka.lenient_reader import UNDECODABLE_BATCH_ERRORS, read_partitions_leniently
from normalizer.kafka.static_member import StaticMember, leave_when_stopped

_STOP_TIMEOUT_S: Final = 5.0
_GETMANY_GRACE_S: Final = 5.0
"""Cancel getmany this long after its own timeout, because during a rebalance it blocks without
limit."""

_NO_PARTITION: Final = TopicPartition("", 0)
"""A partition that never exists. Calling getmany for it only raises the errors of the group."""


class GroupReader(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads this process's partitions of a consumer group from offsets that the caller chooses.

    An assigned partition stays paused until the caller calls `start_reading` with an offset.
    aiokafka calls `on_assigned` and `on_revoked` in the middle of a rebalance, so they must return
    without waiting. `group_changes` counts these calls. If it's the same after an `await` as
    before, the process still has the same partitions.

    A topic may have been recreated during a failed fetch or a silence of the broker. The reader
    then calls `on_unverified`, and `fetch` returns no records of the affected partitions until the
    caller has compared their logs (see `unverified_partitions`) and called `mark_verified`.
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
        self._member = StaticMember(settings)
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._consumer: Any = None
        self._joined = False
        self._fetch_positions = FetchPositions(on_unverified)
        self.assigned: frozenset[KafkaPartition] = frozenset()
        self.group_changes = 0
        self.rebalancing = True

    async def join_group(self) -> None:
        """Connect to the brokers and join the group.

        Raises BrokerUnavailableError if that fails, after which it may be called again. Raises
        RestartNeededError if the failed client can't even be stopped. Starting a new client would
        then make this process a second member of the group.
        """
        settings = self._settings
        self._consumer = new_group_consumer(settings, listener=self)
        self._member.add_instance_name_to_requests(self._consumer)
        self._fetch_positions.watch_responses(self._consumer._client)  # noqa: SLF001 - the public API has no access to it
        try:
            with translate_kafka_errors(doing := f"joining group {settings.kafka_group_id}"):
                async with asyncio.timeout(settings.progress_timeout_s):
                    await start_client(self._consumer, settings, doing)
        except BaseException as error:
            if not await self.leave_group(timeout_s=_STOP_TIMEOUT_S) and isinstance(
                error, BrokerUnavailableError
            ):
                raise RestartNeededError(
                    f"{error}. The Kafka client did not stop within {_STOP_TIMEOUT_S:.0f} s "
                    "either, so this process exits. Once restarted, it continues from the last "
                    "committed position"
                ) from error
            raise
        self._joined = True

    async def leave_group(self, *, timeout_s: float) -> bool:
        """Leave the group. Returns False if that took too long.

        The process should then exit. A consumer that hasn't stopped completely continues to send
        heartbeats, so the group would never give its partitions to another process.
        """
        consumer, self._consumer = self._consumer, None
        self._joined = False
        self.on_partitions_revoked(())
        if consumer is None:
            return True
        leave_when_stopped(consumer)
        return await stop_client(consumer, timeout_s=timeout_s)

    def start_reading(
        self,
        partition: KafkaPartition,
        *,
        incarnation: int,
        offset: int,
        last: LastRecord | None = None,
        compared_ms: int | None = None,
    ) -> None:
        """Read an assigned partition from this offset on.

        `last` is the record before that offset, or the last one before a hole. The reader needs it
        to find out later whether the topic was recreated. `compared_ms` is when the caller last
        compared the log with it, as returned by `wall_clock_ms()`. The default is now.
        """
        last_response_at_ms = wall_clock_ms() if compared_ms is None else compared_ms
        self._fetch_positions[partition] = FetchPosition(
            incarnation, offset, last, last_response_at_ms
        )
        self._seek(partition, offset)
        self._consumer.resume(TopicPartition(*partition))

    def stop_reading(self, partition: KafkaPartition) -> None:
        """Stop reading a partition. It stays assigned to this process, and paused."""
        if self._fetch_positions.pop(partition, None) and partition in self.assigned:
            self._consumer.pause(TopicPartition(*partition))

    def is_reading(self, partition: KafkaPartition) -> bool:
        """Return whether `fetch` reads the partition.

        This is False until `start_reading` is called. It becomes False again if the log no longer
        has the next offset, because the partition must then be claimed again.
        """
        return partition in self._fetch_positions

    def next_offset(self, partition: KafkaPartition) -> int:
        """Return the next offset to read of a partition, or -1 before `start_reading`."""
        position = self._fetch_positions.get(partition)
        return -1 if position is None else position.next_offset

    def unverified_partitions(self) -> list[UnverifiedPartition]:
        """Return the partitions that return no more records until their log has been compared."""
        return self._fetch_positions.unverified_partitions()

    def mark_verified(self, unverified: UnverifiedPartition, *, compared_ms: int) -> None:
        """Mark a partition as verified, so that `fetch` returns its records again.

        Call this after a comparison, begun at `compared_ms`, has found the log unchanged. If
        another failure has marked the partition in the meantime, it stays unverified.
        """
        self._fetch_positions.mark_verified(unverified, compared_ms=compared_ms)

    async def fetch(
        self, partitions: Collection[KafkaPartition], *, max_records: int, timeout_s: float
    ) -> list[FetchedChunk]:
        """Return up to max_records new records of these partitions. Waits timeout_s for the first.

        If aiokafka can't decode a batch, the lenient reader reads it instead. `fetch` may then
        return more than max_records, because the lenient reader doesn't split the broker's
        response. If the log no longer has the next offset of a partition, `fetch` stops reading
        that partition, and the caller has to claim it again.

        Raises BrokerUnavailableError if the client fails, for example because the group has
        expelled it. The caller should then rejoin the group. Raises FatalError if a right is
        missing, or if another process took over our instance name. Raises UnreadableBatchError if
        the log is damaged.
        """
        if not self._joined:
            await asyncio.sleep(timeout_s)
            return []
        consumer = self._consumer
        wanted = {
            one: position
            for one in partitions
            if (position := self._fetch_positions.position_if_verified(one))
        }
        try:
            async with asyncio.timeout(timeout_s + _GETMANY_GRACE_S):
                drained = await consumer.getmany(
                    *[TopicPartition(*one) for one in wanted] or [_NO_PARTITION],
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
            self._member.raise_if_name_taken()
            if not isinstance(error, UNDECODABLE_BATCH_ERRORS):
                with translate_kafka_errors("fetching"):
                    raise
            return await self._read_leniently(consumer, wanted, error)
        except Exception as error:  # noqa: BLE001 - aiokafka may raise anything on a damaged batch
            self._rewind()
            return await self._read_leniently(consumer, wanted, error)
        # While a partition is being read, `position()` doesn't yield to the event loop, so no other
        # task can run during `_chunks`. That way aiokafka's positions and ours always change
        # together.
        return await self._chunks(wanted, drained)

    async def commit(self, offsets: dict[KafkaPartition, int], *, timeout_s: float) -> None:
        """Commit offsets to the group, for lag tools only. Raises BrokerUnavailableError."""
        owned = {TopicPartition(*one): at for one, at in offsets.items() if one in self.assigned}
        if not owned or self._consumer is None:
            return
        with translate_kafka_errors("committing"):
            async with asyncio.timeout(timeout_s):
                await self._consumer.commit(owned)

    async def _chunks(
        self, wanted: dict[KafkaPartition, FetchPosition], drained: dict[Any, list[Any]]
    ) -> list[FetchedChunk]:
        """Build chunks from the records that the consumer returned, and advance the positions.

        While the consumer was fetching, a rebalance may have ended, and the caller may have started
        a partition again at another offset. The fetched records of such a partition are dropped,
        and the consumer continues at the new offset with the next call.
        """
        positions = self._fetch_positions
        for one in map(KafkaPartition._make, drained):
            if one in positions and positions[one] is not wanted.get(one):
                self._seek(one, positions[one].next_offset)
        chunks = []
        for partition, position in wanted.items():
            if positions.get(partition) is not position:
                continue
            next_offset = await self._consumer.position(TopicPartition(*partition))
            if position.unverified_count:
                self._seek(partition, position.next_offset)
                continue
            if next_offset == position.next_offset:
                continue
            records = [
                to_raw_record(record, position.incarnation)
                for record in drained.get(TopicPartition(*partition), ())
            ]
            if next_offset < position.next_offset or (
                records and not position.next_offset <= records[0].offset <= next_offset
            ):
                raise RestartNeededError(
                    f"{partition}: the Kafka client continued at offset {next_offset}, but the "
                    f"next offset to read is {position.next_offset}. So this process exits. Once "
                    "restarted, it continues from the last committed position"
                )
            chunks.append(
                FetchedChunk(
                    partition=partition,
                    from_offset=position.next_offset,
                    next_offset=next_offset,
                    records=records,
                )
            )
            position.advance(chunks[-1])
        return chunks

    async def _read_leniently(
        self, consumer: Any, wanted: dict[KafkaPartition, FetchPosition], failure: Exception
    ) -> list[FetchedChunk]:
        """Read one fetch response for each partition with the lenient reader.

        All partitions are read at the same time, so that one without new records or with an
        unreachable leader doesn't delay the others. Raises BrokerUnavailableError if no partition
        returns anything new, because the failure then wasn't caused by a record.
        """
        positions = self._fetch_positions
        starts = {
            one: (position.incarnation, position.next_offset)
            for one, position in wanted.items()
            if positions.position_if_verified(one) is position
            and consumer.highwater(TopicPartition(*one)) != position.next_offset
        }
        client = consumer._client  # noqa: SLF001 - the public API has no access to it
        read: list[FetchedChunk] = []
        for partition, answer in (await read_partitions_leniently(client, starts)).items():
            if isinstance(answer, BrokerUnavailableError):
                positions.mark_unverified([partition])
                failure = answer
            elif isinstance(answer, NormalizerError):
                raise answer
            elif answer.next_offset > answer.from_offset:
                read.append(answer)
        if not read:
            raise BrokerUnavailableError(f"fetching: {type(failure).__name__}") from failure
        # Advance the positions only after every partition was read. Otherwise an error in one
        # partition would lose the records that were already read from the others.
        #
        # A partition's position may have changed in the meantime. Either the partition was marked
        # as unverified, because its topic may have been recreated, or reading was started again at
        # another offset. Drop the records of such a partition, because the next `fetch` reads them
        # again.
        taken = [
            one
            for one in read
            if positions.position_if_verified(one.partition) is wanted[one.partition]
        ]
        for chunk in taken:
            wanted[chunk.partition].advance(chunk)
            self._seek(chunk.partition, chunk.next_offset)
        return taken

    def _seek(self, partition: KafkaPartition, offset: int) -> None:
        self._consumer.seek(TopicPartition(*partition), offset)

    def _rewind(self) -> None:
        """Seek back to every fetch position. A failed getmany loses the records that it took."""
        for partition, position in self._fetch_positions.items():
            with contextlib.suppress(IllegalStateError):
                self._seek(partition, position.next_offset)

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Pause the new partitions before the consumer can fetch them. Called by aiokafka."""
        if self._consumer is None:
            return  # The rebalance ended while we were leaving the group.
        self.assigned = frozenset(KafkaPartition(*one) for one in assigned)
        for partition in self.assigned:
            self._consumer.pause(TopicPartition(*partition))
            # Seek to some offset, because without one the client would ask the group for its
            # committed offset. Any offset will do as long as the partition is paused.
            # `start_reading` seeks to the right one before it resumes the partition.
            self._seek(partition, 0)
        self.group_changes += 1
        self.rebalancing = False
        self._on_assigned()

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002 - aiokafka's signature
        """Forget all partitions, because each rebalance of our protocol first revokes all of them.

        Called by aiokafka.
        """
        self.assigned = frozenset()
        self.group_changes += 1
        self.rebalancing = True
        self._fetch_positions.clear()
        self._on_revoked()

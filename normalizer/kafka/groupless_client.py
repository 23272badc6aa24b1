"""Looks things up in Kafka without a consumer group: offsets, settings, and single records."""

import asyncio
import contextlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from typing import Final

from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from normalizer.config.settings import Settings
from normalizer.core.raw_record import RawRecord
from normalizer.errors import BrokerUnavailableError, FatalError
from normalizer.kafka.client_setup import (
    FetchedChunk,
    KafkaPartition,
    OffsetBounds,
    connection_options,
    read_offset_bounds,
    translate_kafka_errors,
)
from normalizer.kafka.committed_offsets import (
    CommittedOffset,
    read_committed_offsets,
    retry_until_coordinator_ready,
)
from normalizer.kafka.connection_diagnosis import diagnose_connection
from normalizer.kafka.lazy_clients import LazyKafkaClients
from normalizer.kafka.lenient_reader import (
    MAX_RESPONSE_BYTES,
    ONE_BATCH_FETCH_BYTES,
    UnreadableBatchError,
    read_next_leniently,
)

_LEADER_TIMEOUT_S: Final = 5.0
_NO_LEADER: Final = -1


class GrouplessClient(LazyKafkaClients):
    """Looks things up in Kafka, such as the offsets of a log, settings of a topic, single records.

    Commands and monitoring use it. It joins no consumer group, so it never causes a rebalance.
    Every method raises BrokerUnavailableError if no broker answers within the request timeout.

        async with GrouplessClient(settings) as log:
            bounds = await log.offset_bounds(await log.partitions("noetl.events"))
    """

    async def check_sign_in(self) -> None:
        """Raise BrokerUnavailableError if every broker rejects our sign-in.

        The error comes within seconds, where a normal client would retry until its timeout.
        """
        if error := await diagnose_connection(connection_options(self._settings)):
            raise error

    async def cluster_id(self) -> str:
        """Return the id of the cluster, or '' if the brokers don't report one."""
        async with self._connected("reading the cluster id"):
            return getattr(await self._metadata(()), "cluster_id", None) or ""

    async def partitions(self, topic: str) -> frozenset[KafkaPartition]:
        """Return the partitions of a topic, or an empty set if it doesn't exist.

        Unlike most requests of Kafka clients, this one never creates the topic. Raises FatalError
        if we have no right to describe the topic, whether it exists or not.
        """
        async with self._connected(f"looking up topic {topic}"):
            answer = await self._metadata([topic])
            ((code, _topic, _internal, partitions),) = answer.topics
            if code == TopicAuthorizationFailedError.errno:
                raise TopicAuthorizationFailedError(topic)
        return frozenset(KafkaPartition(topic, number) for _code, number, *_ in partitions)

    async def create_topic(self, topic: str, *, partitions: int) -> None:
        """Create the topic with one replica, unless it exists.

        Only `normalizer up` and tests use it, on brokers that they started themselves.
        """
        if await self.partitions(topic):
            return
        async with self._connected(f"creating topic {topic}"):
            await self._admin.create_topics([NewTopic(topic, partitions, 1)])
        for _ in range(100):
            if await self.partitions(topic):
                return
            await asyncio.sleep(0.1)
        raise BrokerUnavailableError(
            f"topic {topic} was created, but the brokers do not list it after 10 s"
        )

    async def read_topic_config(self, topic: str) -> dict[str, str]:
        """Return the settings of a topic, such as retention.ms, by their names in Kafka.

        Returns {} if the topic doesn't exist. Raises FatalError if we have no right to describe the
        topic's settings, whether it exists or not.
        """
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        async with self._connected(f"reading the settings of topic {topic}"):
            (response,) = await self._admin.describe_configs([resource])
            (code, _message, _kind, _name, entries), *_ = response.resources
            if code == UnknownTopicOrPartitionError.errno:
                return {}
            if code:
                raise for_code(code)(topic)
        return {entry[0]: entry[1] for entry in entries}

    async def group_state_and_size(self, group_id: str) -> tuple[str, int]:
        """Return the state of a consumer group, for example "Stable", and its number of members.

        After the cluster's first request for a group, or after it has started, the group's
        coordinator may need a moment to get ready. The request is repeated until then. Raises
        FatalError if we have no right to describe the group.
        """
        async with self._connected(f"looking up group {group_id}"):
            return await retry_until_coordinator_ready(partial(self._group_members, group_id))

    async def committed_offsets(
        self, group_id: str, partitions: Iterable[KafkaPartition]
    ) -> dict[KafkaPartition, CommittedOffset]:
        """Return the offsets that a group has committed for these partitions.

        Partitions without a committed offset are missing from the result. This doesn't wait for
        open transactions, because in a busy group some partition always has one.
        """
        async with self._connected(f"reading the offsets of group {group_id}"):
            client = self._admin._client  # noqa: SLF001 - its public request fails while the coordinator loads
            return await read_committed_offsets(client, group_id, partitions, stable=False)

    async def offset_bounds(
        self, partitions: Iterable[KafkaPartition]
    ) -> dict[KafkaPartition, OffsetBounds]:
        """Return each partition's first offset, and where the committed records end.

        All partitions must exist. If a leader sends no response, this raises
        BrokerUnavailableError, which names the partitions of that leader.
        """
        wanted = set(partitions)
        found = await self.reachable_offset_bounds(wanted)
        if away := wanted - found.keys():
            raise no_leader_error(away)
        return found

    async def reachable_offset_bounds(
        self, partitions: Iterable[KafkaPartition], *, within_s: float = _LEADER_TIMEOUT_S
    ) -> dict[KafkaPartition, OffsetBounds]:
        """Return the first and last offsets of those partitions whose leader answers in time.

        One request is sent to each leader, all at the same time, and each has `within_s` seconds to
        answer. Partitions whose leader doesn't answer in time are missing from the result. Raises
        FatalError if a right is missing.
        """
        wanted = list(partitions)
        if not wanted:
            return {}
        by_leader: defaultdict[int, list[KafkaPartition]] = defaultdict(list)
        async with self._connected("reading the bounds of the log"):
            leaders = await self._leaders({one.topic for one in wanted})
            for one in wanted:
                if (leader := leaders.get(one, _NO_LEADER)) != _NO_LEADER:
                    by_leader[leader].append(one)
            async with asyncio.TaskGroup() as tasks:
                requests = [
                    tasks.create_task(self._ask_leader(led, within_s), name=f"ask leader {leader}")
                    for leader, led in by_leader.items()
                ]
            answers = [one.result() for one in requests if not one.cancelled()]
        found: dict[KafkaPartition, OffsetBounds] = {}
        for answer in answers:
            if isinstance(answer, FatalError):
                raise answer
            found |= answer
        return found

    async def record_at(self, partition: KafkaPartition, offset: int) -> RawRecord | None:
        """Return the record at this offset, or None if the log doesn't have it (any more)."""
        return await self.first_record_in_range(partition, offset, offset + 1)

    async def first_record_in_range(
        self, partition: KafkaPartition, offset: int, next_offset: int
    ) -> RawRecord | None:
        """Return the first committed record from `offset` on and below `next_offset`, or None.

        None also means that the log no longer has `offset`, or that even the lenient reader can't
        decode the batch. Usually one batch is enough. If there's no record at `offset`, the search
        continues in the batches after it.
        """
        most_bytes = ONE_BATCH_FETCH_BYTES
        while offset < next_offset:
            try:
                chunk = await self.fetch_chunk(partition, offset, most_bytes=most_bytes)
            except UnreadableBatchError:
                return None
            if chunk is None or chunk.next_offset == offset:
                return None
            if chunk.records:
                first = chunk.records[0]
                return first if first.offset < next_offset else None
            offset, most_bytes = chunk.next_offset, MAX_RESPONSE_BYTES
        return None

    async def fetch_chunk(
        self,
        partition: KafkaPartition,
        offset: int,
        *,
        incarnation: int = 0,
        most_bytes: int = MAX_RESPONSE_BYTES,
    ) -> FetchedChunk | None:
        """Return the records of a single fetch response, from `offset` on.

        They're read by the lenient reader, so a batch that aiokafka can't decode is returned too.
        Returns None if the log doesn't have this offset. Raises UnreadableBatchError if even the
        lenient reader can't decode the batch there.
        """
        try:
            async with self._connected(f"reading {partition}"):
                client = self._consumer._client  # noqa: SLF001 - the consumer would also prefetch other records
                return await read_next_leniently(
                    client, partition, incarnation=incarnation, offset=offset, most_bytes=most_bytes
                )
        except BrokerUnavailableError as error:
            if isinstance(error.__cause__, OffsetOutOfRangeError):
                return None
            raise

    async def offsets_with_records(
        self, topic: str, partition: int, ranges: Sequence[tuple[int, int]]
    ) -> list[int]:
        """Return which offsets in these ranges have a committed record, in ascending order.

        This checks whether offsets that were counted as empty really have no record. Each range is
        (first, after), where `after` isn't part of the range. Offsets that the log no longer has
        are missing from the result. Raises UnreadableBatchError if even the lenient reader can't
        decode a batch.
        """
        where = KafkaPartition(topic, partition)
        bounds = (await self.offset_bounds([where]))[where]
        left = [
            (max(first, bounds.start), min(after, bounds.end))
            for first, after in ranges
            if first < bounds.end and after > bounds.start
        ]
        found: list[int] = []
        while left:
            chunk = await self.fetch_chunk(where, left[0][0])
            if chunk is None or chunk.next_offset == left[0][0]:
                # Kafka's retention has deleted the beginning of this range after the bounds were
                # read. Skip the range, because its records can't be checked any more.
                del left[0]
                continue
            at = [record.offset for record in chunk.records]
            while left:
                first, after = left[0]
                found += at[bisect_left(at, first) : bisect_left(at, after)]
                if after > chunk.next_offset:
                    left[0] = (max(first, chunk.next_offset), after)
                    break
                del left[0]
        return found

    async def _group_members(self, group_id: str) -> tuple[str, int]:
        (response,) = await self._admin.describe_consumer_groups([group_id])
        (code, _group, state, _kind, _protocol, members, *_), *_ = response.groups
        if code:
            raise for_code(code)(group_id)
        return state, len(members)

    async def _leaders(self, topics: Iterable[str]) -> dict[KafkaPartition, int]:
        """Return the node id of the broker that leads each existing partition of the topics."""
        return {
            KafkaPartition(topic, number): leader
            for _code, topic, _internal, partitions in (await self._metadata(topics)).topics
            for _code, number, leader, *_ in partitions
        }

    async def _ask_leader(
        self, partitions: Sequence[KafkaPartition], within_s: float
    ) -> dict[KafkaPartition, OffsetBounds] | FatalError:
        """Read the first and last offsets of partitions from their leader.

        Returns {} if the leader is unreachable. If a right is missing, the FatalError is returned
        rather than raised, because an exception in a TaskGroup would cancel the requests to the
        other brokers.
        """
        try:
            with translate_kafka_errors("reading the bounds of the log"):
                async with asyncio.timeout(within_s):
                    return await read_offset_bounds(self._consumer, partitions)
        except BrokerUnavailableError:
            return {}
        except FatalError as error:
            return error


def no_leader_error(partitions: Iterable[KafkaPartition]) -> BrokerUnavailableError:
    """Build the error that names these partitions."""
    return BrokerUnavailableError(
        f"no leader answers for {', '.join(map(str, sorted(partitions)))}"
    )


@contextlib.asynccontextmanager
async def optional_groupless_client(settings: Settings) -> AsyncIterator[GrouplessClient | None]:
    """Yield a GrouplessClient, or None if no brokers are configured."""
    if not settings.kafka_bootstrap_servers:
        yield None
        return
    async with GrouplessClient(settings) as log:
        yield log

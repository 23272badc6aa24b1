"""Settings in, records of a Kafka log out; the only importer of aiokafka.

`GroupReader` reads the partitions that the consumer group gives this process. `LogReader` belongs
to no group and looks at a log from outside: where it begins and ends, and what an offset holds.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
)

from normalizer.errors import BrokerUnavailable, FatalError
from normalizer.record import RawRecord
from normalizer.settings import Settings

NEVER_MS: Final = 2**31 - 1
"""aiokafka's own idle watch is off: it stops joining while nobody polls; `service` watches."""

REQUEST_TIMEOUT_MS: Final = 15_000
GETMANY_GRACE_S: Final = 5.0
"""getmany blocks without limit while the group rebalances: it is left after so much longer."""

NOWHERE: Final = TopicPartition("", 0)
"""getmany of no partition at all: asked so that errors of the group come out."""


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


class Bounds(NamedTuple):
    """Where a log begins, and where it ends for a reader of committed records."""

    start: int
    end: int


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Offsets from_offset up to next_offset of one partition; `records` may leave holes."""

    partition: Partition
    from_offset: int
    next_offset: int
    records: list[RawRecord]


class Reading(msgspec.Struct):
    """How far one partition was read: moves together with the consumer's own position."""

    generation: int
    next_offset: int


class GroupReader:
    """The partitions of a consumer group that are this process's, read from given offsets.

    A partition that the group assigns stays paused until `begin`. `on_revoked` and `on_assigned`
    are called inside the rebalance: they must not wait. `assignments` counts both, so that who
    waited for something can see whether the group changed meanwhile.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_assigned: Callable[[], None] = lambda: None,
        on_revoked: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._listener = _Listener(self._assigned, self._revoked)
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._consumer: Any = None
        self._readings: dict[Partition, Reading] = {}
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
            heartbeat_interval_ms=settings.kafka_session_timeout_ms // 4,
            rebalance_timeout_ms=settings.kafka_rebalance_timeout_ms,
            max_poll_interval_ms=NEVER_MS,
        )
        self._consumer.subscribe(list(settings.kafka_topics), listener=self._listener)
        try:
            with _translated(f"joining group {settings.kafka_group_id}"):
                async with asyncio.timeout(settings.progress_timeout_s):
                    await self._consumer.start()
        except BaseException:
            await self.stop(timeout_s=5.0)
            raise

    async def stop(self, *, timeout_s: float) -> bool:
        """Leave the group; False where that took too long and the process had better end.

        A consumer that was left behind half stopped goes on with its heartbeats: the group would
        believe that its partitions are read.
        """
        consumer, self._consumer = self._consumer, None
        self._revoked()
        if consumer is None:
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await consumer.stop()
        except (TimeoutError, KafkaError, OSError):
            return False
        return True

    def begin(self, partition: Partition, *, generation: int, offset: int) -> None:
        """Read an assigned partition from this offset on."""
        self._readings[partition] = Reading(generation, offset)
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

    async def fetch(
        self, partitions: Collection[Partition], *, max_records: int, timeout_s: float
    ) -> list[Chunk]:
        """What has come in for these partitions, max_records at most; waits for the first.

        Raises BrokerUnavailable where the group is in trouble (join anew), FatalError where rights
        are missing. A partition whose offset the log no longer has is left: claim it again.
        """
        consumer = self._consumer
        if consumer is None:
            await asyncio.sleep(timeout_s)
            return []
        wanted = [TopicPartition(*one) for one in partitions if one in self._readings]
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
        except Exception:
            # getmany forgets what it had drained from other partitions before the one that failed.
            self._rewind()
            with _translated("fetching"):
                raise
        # From here on nothing waits: positions and readings move in one step.
        return await self._chunks({Partition(*one) for one in wanted}, drained)

    def lag(self, partition: Partition) -> int | None:
        """Committed records beyond the reading, as of the last answer; None before the first."""
        reading = self._readings.get(partition)
        if reading is None or partition not in self.assigned:
            return None
        end = self._consumer.last_stable_offset(TopicPartition(*partition))
        return None if end is None else max(0, end - reading.next_offset)

    async def commit(self, offsets: dict[Partition, int], *, timeout_s: float) -> None:
        """Tell the group how far we are: for lag tools only. Raises BrokerUnavailable."""
        mine = {TopicPartition(*one): at for one, at in offsets.items() if one in self.assigned}
        if not mine or self._consumer is None:
            return
        with _translated("committing"):
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
            if next_offset == reading.next_offset:
                continue
            records = [
                _raw_record(record, reading.generation)
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
            reading.next_offset = next_offset
        return chunks

    def _seek(self, partition: Partition, offset: int) -> None:
        self._consumer.seek(TopicPartition(*partition), offset)

    def _rewind(self) -> None:
        """Put the consumer back to where every reading stands."""
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


class LogReader:
    """A log seen from outside any group: its bounds, and the record at an offset.

    Every method raises BrokerUnavailable where no broker answers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: Any = None
        self._admin: Any = None
        self._turn = asyncio.Lock()

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
        """Drop the connections; the next call makes new ones."""
        consumer, self._consumer = self._consumer, None
        admin, self._admin = self._admin, None
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(5.0):
                if consumer:
                    await consumer.stop()
                if admin:
                    await admin.close()

    async def cluster_id(self) -> str:
        """The id that the cluster got when it was formed; '' where brokers tell none."""
        async with self._connected("asking for the cluster id"):
            return (await self._admin.describe_cluster()).get("cluster_id") or ""

    async def partitions(self, topic: str) -> frozenset[Partition]:
        """The partitions of a topic; empty where there is none. Never makes the topic."""
        async with self._connected(f"asking for topic {topic}"):
            for found in await self._admin.describe_topics():
                if found["topic"] == topic:
                    return frozenset(
                        Partition(topic, one["partition"]) for one in found["partitions"]
                    )
        return frozenset()

    async def create_topic(self, topic: str, *, partitions: int) -> None:
        """Make the topic, with one replica, unless it is there; for stacks of our own."""
        if await self.partitions(topic):
            return
        async with self._connected(f"making topic {topic}"):
            await self._admin.create_topics([NewTopic(topic, partitions, 1)])
        for _ in range(100):
            if await self.partitions(topic):
                return
            await asyncio.sleep(0.1)
        raise BrokerUnavailable(f"topic {topic} was made but is not there")

    async def topic_configs(self, topic: str) -> dict[str, str]:
        """The settings of a topic, by Kafka's names."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        async with self._connected(f"asking for settings of topic {topic}"):
            (response,) = await self._admin.describe_configs([resource])
            (code, _message, _kind, _name, entries), *_ = response.resources
        if code:
            raise FatalError(f"{topic}: no right to see its settings (describe configs)")
        return {entry[0]: entry[1] for entry in entries}

    async def group_members(self, group_id: str) -> tuple[str, int]:
        """State of a consumer group, in Kafka's word, and its number of members."""
        async with self._connected(f"asking for group {group_id}"):
            (response,) = await self._admin.describe_consumer_groups([group_id])
            (code, _group, state, _kind, _protocol, members, *_), *_ = response.groups
        if code:
            raise FatalError(f"{group_id}: no right to see the group (describe, read)")
        return state, len(members)

    async def bounds(self, partitions: Iterable[Partition]) -> dict[Partition, Bounds]:
        """First offset and committed end of each of these partitions, which must exist."""
        wanted = [TopicPartition(*one) for one in partitions]
        if not wanted:
            return {}
        async with self._connected("asking for the ends of the log"):
            starts = await self._consumer.beginning_offsets(wanted)
            ends = await self._consumer.end_offsets(wanted)
        return {Partition(*one): Bounds(starts[one], ends[one]) for one in wanted}

    async def record_at(self, partition: Partition, offset: int) -> RawRecord | None:
        """The record at this offset; None where the log has none there (any more)."""
        records, _ = await self.records(partition, offset, offset + 1, max_records=1)
        return records[0] if records else None

    async def records(
        self, partition: Partition, offset: int, next_offset: int, *, max_records: int = 500
    ) -> tuple[list[RawRecord], int]:
        """Committed records from `offset` on, up to `next_offset`, and where to read on.

        The stretch must lie below the committed end. The page is empty and ends at `next_offset`
        where the log no longer goes back to `offset`, or holds nothing but holes.
        """
        where = TopicPartition(*partition)
        async with self._connected(f"reading {partition}"):
            consumer = self._consumer
            consumer.assign([where])
            consumer.seek(where, offset)
            while (position := await consumer.position(where)) < next_offset:
                try:
                    drained = await consumer.getmany(where, timeout_ms=100, max_records=max_records)
                except OffsetOutOfRangeError:
                    return [], next_offset
                records = [
                    _raw_record(record, 0)
                    for record in drained.get(where, ())
                    if record.offset < next_offset
                ]
                if records:
                    return records, min(await consumer.position(where), next_offset)
                if position == await consumer.position(where):
                    await asyncio.sleep(0.1)
        return [], next_offset

    async def log_start(self, topic: str, partition: int) -> int | None:
        """The least offset that can still be read; None where there is no such partition."""
        where = Partition(topic, partition)
        if where not in await self.partitions(topic):
            return None
        return (await self.bounds([where]))[where].start

    async def data_offsets(self, topic: str, partition: int, first: int, after: int) -> list[int]:
        """The offsets in first <= offset < after that hold a committed record."""
        where = Partition(topic, partition)
        bounds = (await self.bounds([where]))[where]
        offset, after = max(first, bounds.start), min(after, bounds.end)
        found: list[int] = []
        while offset < after:
            records, offset = await self.records(where, offset, after)
            found += [record.offset for record in records]
        return found

    @contextlib.asynccontextmanager
    async def _connected(self, doing: str) -> AsyncIterator[None]:
        """One caller at a time, over connections that are made at first need."""
        async with self._turn:
            try:
                with _translated(doing):
                    await self._connect()
                    yield
            except BrokerUnavailable:
                await self.close()
                raise

    async def _connect(self) -> None:
        if self._consumer is None:
            options = connection_options(self._settings)
            self._consumer = AIOKafkaConsumer(
                **options, isolation_level="read_committed", auto_offset_reset="none"
            )
            self._admin = AIOKafkaAdminClient(**options)
            await self._consumer.start()
            await self._admin.start()


def connection_options(settings: Settings) -> dict[str, Any]:
    """What every aiokafka client of ours is made with: where, as whom, how secured.

    Raises FatalError where a certificate or key cannot be read.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.kafka_bootstrap_servers),
        "client_id": settings.kafka_client_id,
        "security_protocol": settings.kafka_security_protocol,
        "request_timeout_ms": max(REQUEST_TIMEOUT_MS, settings.kafka_rebalance_timeout_ms + 5_000),
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = settings.kafka_sasl_password
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    return options


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_file)
        context.check_hostname = settings.kafka_ssl_check_hostname
        if settings.kafka_ssl_cert_file:
            context.load_cert_chain(
                settings.kafka_ssl_cert_file,
                settings.kafka_ssl_key_file,
                lambda: settings.kafka_ssl_key_password or "",
            )
    except (OSError, ssl.SSLError) as error:
        raise FatalError(f"TLS files: {type(error).__name__}: see KAFKA_SSL_*_FILE") from error
    return context


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Hands rebalances on, as sets of our own kind."""

    def __init__(
        self, assigned: Callable[[frozenset[Partition]], None], revoked: Callable[[], None]
    ) -> None:
        self._assigned = assigned
        self._revoked = revoked

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002
        """Every rebalance of this protocol takes all partitions first."""
        self._revoked()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Pause what is new before anything of it can be fetched."""
        self._assigned(frozenset(Partition(*one) for one in assigned))


_MISSING_RIGHTS: Final = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)


@contextlib.contextmanager
def _translated(doing: str) -> Iterator[None]:
    """The client's errors as ours, by what the caller must do."""
    try:
        yield
    except _MISSING_RIGHTS as error:
        raise FatalError(
            f"{doing}: {type(error).__name__}: grant the right; see `normalizer check`"
        ) from error
    except RecordTooLargeError as error:
        raise FatalError(
            f"{doing}: a record is larger than KAFKA_MAX_PARTITION_FETCH_BYTES: raise it"
        ) from error
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokerUnavailable(f"{doing}: {type(error).__name__}") from error


def _raw_record(record: Any, generation: int) -> RawRecord:
    return RawRecord(
        value=record.value,
        topic=record.topic,
        generation=generation,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        headers=record.headers,
        recorded_ms=record.timestamp if record.timestamp >= 0 else None,
    )

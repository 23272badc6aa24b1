"""Runs the relay, and reads what it wrote as a read_committed reader sees it."""

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from normalizer.config.settings import Settings
from normalizer.core.evidence import Evidence
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Rejected, to_canonical
from normalizer.kafka import GrouplessClient, KafkaPartition, transactional_producer
from normalizer.kafka.client_setup import to_raw_record as of_client
from tests.support.service_runs import until
from tests.support.stack import Topic

GROUP: Final = "relay"
PARTITIONS: Final = 4


def relay_settings(topic: Topic, bootstrap_servers: str, **fields: Any) -> Settings:
    """Settings of a relay of this topic alone, as the command makes them of the environment's."""
    values: dict[str, Any] = {
        "kafka_bootstrap_servers": (bootstrap_servers,),
        "kafka_topics": (topic.name,),
        "kafka_canonical_topic": f"{topic.name}.canonical",
        "kafka_rejected_topic": f"{topic.name}.rejected",
        "kafka_group_id": f"group.{topic.name}.{GROUP}",
        "kafka_session_timeout_ms": 3_000,
        "batch_age_ms": 20,
        "http_port": 0,
    }
    return Settings(**(values | fields))


def settings_of_command(settings: Settings, **fields: Any) -> Settings:
    """The same for a process: the command adds the suffix of the group itself."""
    group = settings.kafka_group_id.removesuffix(f".{GROUP}")
    return msgspec.structs.replace(settings, kafka_group_id=group, **fields)


async def assert_relayed_once(bootstrap_servers: str, topic: Topic, settings: Settings) -> int:
    """Assert that the output is what the rules give. Returns how many lines the filter gives."""
    expected = await expected_lines(bootstrap_servers, topic)
    as_filtered, expected.as_filtered = expected.as_filtered, 0
    assert await relayed_lines(bootstrap_servers, settings) == expected
    return as_filtered


@contextlib.asynccontextmanager
async def output_topics(
    admin: AIOKafkaAdminClient, settings: Settings, **configs: str
) -> AsyncIterator[None]:
    """Both output topics, there inside the block; `configs` are those of the canonical one."""
    names = (settings.kafka_canonical_topic, settings.kafka_rejected_topic)
    canonical, rejected = (
        NewTopic(name, PARTITIONS, 1, topic_configs=of_topic)
        for name, of_topic in zip(names, (configs, {}), strict=True)
    )
    answer = await admin.create_topics([canonical, rejected])
    assert [code for _, code, *_ in answer.topic_errors] == [0, 0], answer
    try:
        yield
    finally:
        await admin.delete_topics([*names])


async def read_topic(bootstrap_servers: str, name: str) -> list[Any]:
    """Every committed record of a topic, in the order of each partition."""
    return [record async for record in each_record(bootstrap_servers, name)]


async def each_record(bootstrap_servers: str, name: str) -> AsyncIterator[Any]:
    """The same, one by one."""
    async with GrouplessClient(Settings(kafka_bootstrap_servers=(bootstrap_servers,))) as reader:
        partitions = [TopicPartition(*one) for one in await reader.partitions(name)]
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=32 << 20,
    ) as consumer:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(one) < ends[one] for one in partitions]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    yield record


async def until_relayed(settings: Settings, ends: Mapping[int, int]) -> None:
    """Wait until the relay has committed these offsets of its one topic."""

    async with GrouplessClient(settings) as reader:

        async def relayed() -> bool:
            at = await _relayed_so_far(reader, settings, ends)
            return all(at.get(partition, 0) >= end for partition, end in ends.items())

        await until(relayed, lambda: _relayed_so_far(reader, settings, ends))


async def relayed_so_far(settings: Settings, partitions: Iterable[int]) -> dict[int, int]:
    """The committed offset of each of these partitions."""
    async with GrouplessClient(settings) as reader:
        return await _relayed_so_far(reader, settings, partitions)


async def _relayed_so_far(
    reader: GrouplessClient, settings: Settings, partitions: Iterable[int]
) -> dict[int, int]:
    (topic,) = settings.kafka_topics
    found = await reader.committed_offsets(
        settings.kafka_group_id, [KafkaPartition(topic, one) for one in partitions]
    )
    return {one.partition: committed.next_offset for one, committed in found.items()}


async def until_members(settings: Settings, count: int) -> None:
    """Wait until this many relays share the partitions."""
    async with GrouplessClient(settings) as reader:

        async def joined() -> bool:
            return await reader.group_state_and_size(settings.kafka_group_id) == ("Stable", count)

        await until(joined, lambda: reader.group_state_and_size(settings.kafka_group_id))


class SilentProducer(AIOKafkaProducer):  # type: ignore[misc]
    """Its output does not answer: records are sent, and the answer is waited for."""

    asking: ClassVar[set["SilentProducer"]] = set()
    ended_at_s: ClassVar[list[float]] = []

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self._answering, self.client.send = self.client.send, self._send

    async def _send(self, node_id: int, request: object, **options: object) -> object:
        if type(request).__name__.startswith("ProduceRequest"):
            self.asking.add(self)
            await asyncio.Event().wait()
        return await self._answering(node_id, request, **options)

    async def stop(self) -> None:
        """Note when one that waits for an answer has ended."""
        try:
            await super().stop()
        finally:
            if self in self.asking:
                self.ended_at_s.append(asyncio.get_running_loop().time())


@contextlib.contextmanager
def silent_output(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[SilentProducer]]:
    """No output topic answers a relay inside the block, which gives its clients a second to end."""
    SilentProducer.asking.clear()
    SilentProducer.ended_at_s.clear()
    with monkeypatch.context() as patch:
        patch.setattr(transactional_producer, "AIOKafkaProducer", SilentProducer)
        patch.setattr(transactional_producer, "_STOP_TIMEOUT_S", 1.0)
        yield SilentProducer


class RelayedLines(msgspec.Struct, kw_only=True):
    """The expected output: how often each canonical line (by its digest) and each rejection occurs.

    `as_filtered` counts the lines that `normalizer normalize` prints too. It doesn't know the place
    of a record in Kafka, so only events with an id and a time of their own are counted.
    """

    lines: Counter[bytes] = msgspec.field(default_factory=Counter)
    reasons: Counter[str] = msgspec.field(default_factory=Counter)
    as_filtered: int = 0


async def expected_lines(bootstrap_servers: str, topic: Topic) -> RelayedLines:
    """What the rules give for the records of the topic."""
    expected = RelayedLines()
    normalize = Normalizer().normalize
    async for record in each_record(bootstrap_servers, topic.name):
        outcomes = normalize(of_client(record, 0))
        filtered = outcomes if record.headers else normalize(RawRecord(value=record.value))
        for outcome, alone in zip(outcomes, filtered, strict=True):
            if isinstance(outcome, Rejected):
                expected.reasons[outcome.reason] += 1
            elif isinstance(outcome, Envelope):
                line = to_canonical(outcome)
                expected.lines[_digest(line)] += 1
                if isinstance(alone, Envelope) and alone.event_id and _has_time(outcome, alone):
                    assert to_canonical(alone) == line
                    expected.as_filtered += not record.headers
    return expected


async def relayed_lines(bootstrap_servers: str, settings: Settings) -> RelayedLines:
    """What a read_committed reader sees in both output topics."""
    found = RelayedLines()
    async for record in each_record(bootstrap_servers, settings.kafka_canonical_topic):
        found.lines[_digest(record.value)] += 1
    async for record in each_record(bootstrap_servers, settings.kafka_rejected_topic):
        found.reasons[msgspec.json.decode(record.value)["quarantine"]["reason"]] += 1
    return found


def _has_time(*events: Envelope) -> bool:
    """Whether the producer gave the time: one that is read from the id depends on Kafka's."""
    return all(Evidence.unpack(event.evidence).is_time_declared for event in events)


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()

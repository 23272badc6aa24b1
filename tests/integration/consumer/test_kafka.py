"""Reading a real log: nothing is lost between the client's position and ours."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import CorruptRecordException, KafkaError, UnsupportedCodecError
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from normalizer.config.settings import Settings
from normalizer.core.raw_record import RawRecord
from normalizer.errors import BrokerUnavailableError, RestartNeededError
from normalizer.kafka import (
    FetchedChunk,
    GrouplessClient,
    GroupReader,
    KafkaPartition,
    UnreadableBatchError,
    lenient_reader,
)
from normalizer.kafka.client_setup import stop_client
from normalizer.kafka.lenient_reader import read_next_leniently
from normalizer.kafka.range_reader import OffsetRange, OffsetRangeReader
from tests.support.service_runs import until
from tests.support.stack import Topic

ONE_PARTITION = pytest.mark.parametrize("topic", [1], indirect=True)


class AnyBytes(str):
    """A header's name that is sent as Latin-1, as some producers do."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return super().encode("latin-1")


@pytest.fixture
def settings(topic: Topic, bootstrap_servers: str) -> Settings:
    return Settings(
        kafka_bootstrap_servers=(bootstrap_servers,),
        kafka_topics=(topic.name,),
        kafka_group_id=f"group.{topic.name}",
        kafka_session_timeout_ms=3_000,
    )


@pytest.fixture
async def reader(settings: Settings) -> Any:
    started = GroupReader(settings)
    await started.join_group()
    yield started
    assert await started.leave_group(timeout_s=10)


async def fetch(reader: GroupReader, *partitions: KafkaPartition, count: int) -> list[bytes | None]:
    values: list[bytes | None] = []
    async with asyncio.timeout(30):
        while len(values) < count:
            for chunk in await reader.fetch(partitions, max_records=100, timeout_s=0.5):
                values += [record.value for record in chunk.records]
    return values


async def test_an_assigned_partition_is_not_read_before_it_is_begun(
    topic: Topic, reader: GroupReader, producer: Any
) -> None:
    await producer.send_and_wait(topic.name, b"1", partition=0)

    assert reader.assigned == {KafkaPartition(topic.name, number) for number in range(3)}
    assert await reader.fetch(reader.assigned, max_records=9, timeout_s=1.0) == []


async def test_another_writer_does_not_get_a_partitions_records(
    topic: Topic, reader: GroupReader, producer: Any
) -> None:
    zero, one = KafkaPartition(topic.name, 0), KafkaPartition(topic.name, 1)
    for partition in (zero, one):
        await producer.send_and_wait(topic.name, str(partition).encode(), partition=partition[1])
        reader.start_reading(partition, incarnation=0, offset=0)

    assert await fetch(reader, one, count=1) == [str(one).encode()]
    assert await fetch(reader, zero, count=1) == [str(zero).encode()]


async def test_records_drained_before_getmany_failed_are_read_again(
    topic: Topic, reader: GroupReader, producer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = KafkaPartition(topic.name, 0)
    for value in (b"0", b"1"):
        await producer.send_and_wait(topic.name, value, partition=0)
    reader.start_reading(partition, incarnation=0, offset=0)
    getmany = reader._consumer.getmany

    async def fail_with_records_in_hand(*arguments: Any, **options: Any) -> Any:
        if await getmany(*arguments, **options):
            raise KafkaError
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(reader._consumer, "getmany", fail_with_records_in_hand)
        with pytest.raises(BrokerUnavailableError):
            await fetch(reader, partition, count=1)

    assert await fetch(reader, partition, count=2) == [b"0", b"1"]


async def test_a_damaged_batch_at_the_moment_in_which_the_group_is_left_ends_nothing(
    topic: Topic, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = KafkaPartition(topic.name, 0)
    reader = GroupReader(settings)
    await reader.join_group()
    reader.start_reading(partition, incarnation=0, offset=0)

    async def fail_when_left(*_: Any, **__: Any) -> Any:
        assert await reader.leave_group(timeout_s=10)
        raise CorruptRecordException

    monkeypatch.setattr(reader._consumer, "getmany", fail_when_left)
    with pytest.raises(BrokerUnavailableError, match="CorruptRecord"):
        await reader.fetch([partition], max_records=9, timeout_s=0.5)


@pytest.mark.parametrize("had_it", [False, True])
async def test_records_drained_by_an_earlier_call_go_to_the_present_reader(
    topic: Topic,
    reader: GroupReader,
    producer: Any,
    monkeypatch: pytest.MonkeyPatch,
    *,
    had_it: bool,
) -> None:
    """A call that hung in a rebalance comes back with what another writer has begun meanwhile."""
    partition = KafkaPartition(topic.name, 0)
    await producer.send_and_wait(topic.name, b"0", partition=0)
    getmany = reader._consumer.getmany
    if had_it:
        reader.start_reading(partition, incarnation=0, offset=0)

    async def come_back_late(*_: Any, **options: Any) -> Any:
        reader.start_reading(partition, incarnation=0, offset=0)
        return await getmany(**options)

    with monkeypatch.context() as patch:
        patch.setattr(reader._consumer, "getmany", come_back_late)
        assert await reader.fetch([partition] * had_it, max_records=9, timeout_s=5) == []

    assert await fetch(reader, partition, count=1) == [b"0"]


async def test_an_earlier_call_that_fails_reads_nothing_of_the_present_reader(
    topic: Topic, reader: GroupReader, producer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = KafkaPartition(topic.name, 0)
    await producer.send_and_wait(topic.name, b"0", partition=0)
    reader.start_reading(partition, incarnation=0, offset=0)

    async def fail_late(*_: Any, **__: Any) -> Any:
        reader.start_reading(partition, incarnation=0, offset=0)
        raise CorruptRecordException

    with monkeypatch.context() as patch:
        patch.setattr(reader._consumer, "getmany", fail_late)
        with pytest.raises(BrokerUnavailableError, match="CorruptRecord"):
            await reader.fetch([partition], max_records=9, timeout_s=5)

    assert await fetch(reader, partition, count=1) == [b"0"]


async def test_an_offset_that_the_log_has_not_is_left(topic: Topic, reader: GroupReader) -> None:
    partition = KafkaPartition(topic.name, 0)
    reader.start_reading(partition, incarnation=0, offset=500)

    async def left() -> bool:
        await reader.fetch([partition], max_records=9, timeout_s=0.5)
        return not reader.is_reading(partition)

    await until(left)


async def test_a_rebalance_takes_every_partition(
    topic: Topic, settings: Settings, reader: GroupReader
) -> None:
    partition = KafkaPartition(topic.name, 0)
    reader.start_reading(partition, incarnation=0, offset=0)
    before = reader.group_changes

    second = GroupReader(settings)
    await second.join_group()
    await until(lambda: len(reader.assigned) + len(second.assigned) == topic.partitions)

    assert reader.group_changes > before
    assert not reader.is_reading(partition)
    assert not reader.assigned & second.assigned
    await second.leave_group(timeout_s=10)


@pytest.fixture
def any_header_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own producer in Python: the compiled one encodes names by itself."""
    for module in ("message_accumulator", "producer"):
        monkeypatch.setattr(
            f"aiokafka.producer.{module}.DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy
        )


@ONE_PARTITION
@pytest.mark.usefixtures("any_header_names")
async def test_a_header_named_by_any_bytes_costs_no_record(
    topic: Topic, reader: GroupReader, producer: Any
) -> None:
    partition = KafkaPartition(topic.name, 0)
    names = ["fine", AnyBytes("\xff\xfe"), "fine too"]
    sent = [
        await producer.send(topic.name, str(number).encode(), headers=[(name, b"v")])
        for number, name in enumerate(names)
    ]
    await asyncio.gather(*sent)
    await producer.send_and_wait(topic.name, b"3")

    reader.start_reading(partition, incarnation=0, offset=1)
    async with asyncio.timeout(30):
        records: list[RawRecord] = []
        while len(records) < 3:
            for chunk in await reader.fetch([partition], max_records=9, timeout_s=0.5):
                records += chunk.records

    assert [record.value for record in records] == [b"1", b"2", b"3"]
    assert records[0].headers == (("\N{REPLACEMENT CHARACTER}" * 2, b"v"),)
    assert records[1].headers == (("fine too", b"v"),)


@pytest.mark.usefixtures("any_header_names")
async def test_a_batch_that_the_client_cannot_decode_does_not_wait_for_quiet_partitions(
    topic: Topic, reader: GroupReader, producer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them would take half a second, for every such batch."""
    partitions = [KafkaPartition(topic.name, number) for number in range(topic.partitions)]
    read: list[KafkaPartition] = []

    async def noted(client: Any, partition: KafkaPartition, **options: Any) -> FetchedChunk:
        read.append(partition)
        return await read_next_leniently(client, partition, **options)

    monkeypatch.setattr(lenient_reader, "read_next_leniently", noted)
    for one in partitions:
        await producer.send_and_wait(topic.name, b"known", partition=one.partition)
        reader.start_reading(one, incarnation=0, offset=0)
    await fetch(reader, *partitions, count=topic.partitions)
    bad = [(AnyBytes("\xff\xfe"), b"v")]
    await producer.send_and_wait(topic.name, b"bad", partition=1, headers=bad)

    values = await fetch(reader, *partitions, count=1)

    assert values == [b"bad"]
    assert read == [partitions[1]]


@ONE_PARTITION
@pytest.mark.usefixtures("any_header_names")
async def test_a_record_is_known_again_whatever_bytes_name_its_headers(
    topic: Topic, producer: Any, settings: Settings
) -> None:
    partition = KafkaPartition(topic.name, 0)
    names = ["fine", AnyBytes("\xff\xfe")]
    for number, name in enumerate(names):
        await producer.send_and_wait(topic.name, b"%d" % number, headers=[(name, b"v")])

    async with GrouplessClient(settings) as log:
        found = [await log.record_at(partition, offset) for offset in range(3)]
        # As where a position was moved over it by mistake: `normalizer check` has to find it.
        in_gaps = await log.offsets_with_records(topic.name, 0, [(0, 1), (1, 2), (2, 9)])

    assert [record and record.value for record in found] == [b"0", b"1", None]
    assert in_gaps == [0, 1]


@ONE_PARTITION
async def test_the_client_decodes_what_it_can(
    topic: Topic, producer: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await producer.send_and_wait(topic.name, b"0", headers=[("name", b"v")])
    monkeypatch.setattr(lenient_reader, "_LenientRecords", None)

    async with GrouplessClient(settings) as log:
        record = await log.record_at(KafkaPartition(topic.name, 0), 0)

    assert record
    assert (record.value, record.headers) == (b"0", (("name", b"v"),))


@ONE_PARTITION
async def test_the_first_record_is_found_beyond_rolled_back_ones(
    topic: Topic, bootstrap_servers: str, settings: Settings
) -> None:
    partition = KafkaPartition(topic.name, 0)
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, transactional_id=topic.name
    ) as producer:
        for _ in range(2):
            await producer.begin_transaction()
            await producer.send_and_wait(topic.name, b"rolled back")
            await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(topic.name, b"4")

    async with GrouplessClient(settings) as log:
        end = (await log.offset_bounds([partition]))[partition].end
        found = [await log.first_record_in_range(partition, offset, end) for offset in range(end)]
        before_it = await log.first_record_in_range(partition, 0, 4)

    assert [record and (record.offset, record.value) for record in found] == [
        *[(4, b"4")] * 5,
        None,
    ]
    assert before_it is None


async def test_a_consumer_whose_stop_ends_as_if_cancelled_is_stopped_all_the_same() -> None:
    """As the client's does while brokers refuse connections, after it cancelled its own fetch."""

    class Client:
        closed = False

        async def close(self) -> None:
            self.closed = True

    class Consumer:
        def __init__(self) -> None:
            self._client = Client()

        async def stop(self) -> None:
            raise asyncio.CancelledError

    consumer = Consumer()

    assert await stop_client(consumer, timeout_s=1.0)
    assert consumer._client.closed


def test_a_rebalance_that_ends_while_the_group_is_left_assigns_nothing() -> None:
    """The client would log what the listener raises as a fault of the user's."""
    assigned: list[None] = []
    reader = GroupReader(Settings(), on_assigned=lambda: assigned.append(None))

    reader.on_partitions_assigned({TopicPartition("t", 0)})

    assert (reader.assigned, assigned) == (frozenset(), [])


@pytest.mark.usefixtures("any_header_names")
async def test_a_batch_that_nobody_can_read_is_named_and_records_fetched_with_it_are_read_again(
    topic: Topic, reader: GroupReader, producer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, broken = KafkaPartition(topic.name, 0), KafkaPartition(topic.name, 1)
    await producer.send_and_wait(topic.name, b"0", partition=0)
    await producer.send_and_wait(topic.name, b"1", partition=1, headers=[(AnyBytes("\xff"), b"v")])
    for partition in (good, broken):
        reader.start_reading(partition, incarnation=0, offset=0)

    async def break_down(*_: Any, **__: Any) -> Any:
        raise ValueError

    with monkeypatch.context() as patch:
        patch.setattr(reader._consumer, "getmany", break_down)
        patch.setattr(lenient_reader._LenientBatch, "validate_crc", lambda _: False)
        with pytest.raises(UnreadableBatchError, match=r"\[1\]@0: the batch there cannot be read"):
            await reader.fetch([good, broken], max_records=9, timeout_s=0.5)

    assert await fetch(reader, good, count=1) == [b"0"]


async def test_of_a_large_cluster_only_the_topics_concerned_are_looked_up(
    topic: Topic, admin: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"{topic.name}.other"
    await admin.create_topics([NewTopic(other, 1, 1)])
    listed: set[str] = set()
    async with GrouplessClient(settings) as log:

        async def is_there() -> bool:
            return bool(await log.partitions(other))

        await until(is_there)
        send = log._admin._client.send

        async def send_and_hear(*arguments: Any) -> Any:
            answer = await send(*arguments)
            listed.update(name for _, name, *_ in answer.topics)
            return answer

        monkeypatch.setattr(log._admin._client, "send", send_and_hear)
        await log.cluster_id()
        await log.reachable_offset_bounds([KafkaPartition(topic.name, 0)])
    await admin.delete_topics([other])

    assert listed == {topic.name}


async def test_a_connection_that_has_fallen_silent_is_replaced(
    topic: Topic, settings: Settings
) -> None:
    """As if a firewall had forgotten it: nothing tells, and a new connection is answered."""
    async with GrouplessClient(settings) as log:
        partitions = await log.partitions(topic.name)
        bounds = await log.reachable_offset_bounds(partitions)
        for connection in log._consumer._client._conns.values():
            connection._writer.transport.pause_reading()

        in_silence = await log.reachable_offset_bounds(partitions, within_s=0.2)
        afterwards = await log.reachable_offset_bounds(partitions)

    assert bounds.keys() == partitions
    assert (in_silence, afterwards) == ({}, bounds)


async def test_a_reader_that_lost_its_place_says_so(
    topic: Topic, reader: GroupReader, producer: Any
) -> None:
    partition = KafkaPartition(topic.name, 0)
    await producer.send_and_wait(topic.name, b"0", partition=0)
    reader.start_reading(partition, incarnation=0, offset=0)
    reader._fetch_positions[partition].next_offset = 5

    with pytest.raises(RestartNeededError, match="the Kafka client continued at offset"):
        await fetch(reader, partition, count=1)


@ONE_PARTITION
async def test_a_range_with_a_batch_of_an_unknown_codec_names_its_offset(
    topic: Topic, producer: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = KafkaPartition(topic.name, 0)
    await producer.send_and_wait(topic.name, b"0")

    def refuse(*_: Any) -> Any:
        raise UnsupportedCodecError("codec 5")

    async with OffsetRangeReader(settings) as ranges:
        await ranges.offset_bounds(
            [partition]
        )  # now the client knows the leader, as after any fetch

        async def break_down(*_: Any, **__: Any) -> Any:
            raise UnsupportedCodecError("codec 5")

        monkeypatch.setattr(ranges._consumer, "getmany", break_down)
        monkeypatch.setattr(lenient_reader._LenientBatch, "validate_crc", refuse)
        monkeypatch.setattr(lenient_reader, "MemoryRecords", None)
        with pytest.raises(UnreadableBatchError, match=r"@0: .*UnsupportedCodecError"):
            async for _ in ranges.read_ranges({partition: OffsetRange(0, 0, 1)}):
                pass


@ONE_PARTITION
@pytest.mark.parametrize("is_damaged", [False, True])
async def test_a_range_that_the_client_gives_nothing_of_is_read_or_named(
    topic: Topic,
    producer: Any,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_damaged: bool,
) -> None:
    """A broker answers with nothing from a damaged log, and a job would ask it endlessly."""
    partition = KafkaPartition(topic.name, 0)
    await producer.send_and_wait(topic.name, b"0")
    fetch_answer = lenient_reader._fetch

    async def answered(*arguments: Any) -> tuple[Any, ...]:
        *fields, batches = await fetch_answer(*arguments)
        return (*fields, b"" if is_damaged else batches)

    async def give_nothing(**_: Any) -> dict[Any, Any]:
        return {}

    monkeypatch.setattr(lenient_reader, "_fetch", answered)
    async with asyncio.timeout(10), OffsetRangeReader(settings) as ranges:
        await ranges.offset_bounds([partition])
        monkeypatch.setattr(ranges._consumer, "getmany", give_nothing)
        monkeypatch.setattr(ranges._consumer, "position", lambda _: asyncio.sleep(0, result=0))
        reading = ranges.read_ranges({partition: OffsetRange(0, 0, 1)})
        if is_damaged:
            with pytest.raises(
                UnreadableBatchError, match=r"@0: .*the broker returns no records from it"
            ):
                await anext(reading)
            return
        chunk = await anext(reading)

    assert isinstance(chunk, FetchedChunk)
    assert [record.value for record in chunk.records] == [b"0"]


@ONE_PARTITION
async def test_a_batch_of_which_the_broker_itself_says_that_it_is_broken_is_named(
    topic: Topic, producer: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = KafkaPartition(topic.name, 0)
    await producer.send_and_wait(topic.name, b"0")

    async with GrouplessClient(settings) as log:
        await log.offset_bounds([partition])
        send = log._consumer._client.send

        async def answer_corrupt(node: Any, request: Any) -> Any:
            answer = await send(node, request)
            ((name, (fields,)),) = answer.topics
            answer.topics = [(name, [(fields[0], CorruptRecordException.errno, *fields[2:])])]
            return answer

        monkeypatch.setattr(log._consumer._client, "send", answer_corrupt)
        with pytest.raises(UnreadableBatchError, match=r"@0: .*the broker itself says so"):
            await log.fetch_chunk(partition, 0)


@ONE_PARTITION
async def test_records_before_a_damaged_batch_are_read_and_its_offset_is_named(
    topic: Topic, producer: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = KafkaPartition(topic.name, 0)
    for value in (b"0", b"1", b"2"):
        await producer.send_and_wait(topic.name, value)
    fetch_answer = lenient_reader._fetch

    async def damaged(*arguments: Any) -> tuple[Any, ...]:
        *fields, batches = await fetch_answer(*arguments)
        return (*fields, batches[:-1] + bytes([batches[-1] ^ 0xFF]))

    monkeypatch.setattr(lenient_reader, "_fetch", damaged)

    async with GrouplessClient(settings) as log:
        chunk = await log.fetch_chunk(partition, 0)
        with pytest.raises(UnreadableBatchError, match="@2: the batch there cannot be read"):
            await log.fetch_chunk(partition, 2)

    assert chunk
    assert [record.value for record in chunk.records] == [b"0", b"1"]
    assert chunk.next_offset == 2


async def test_a_batch_that_the_client_cannot_decode_does_not_wait_for_a_silent_leader(
    topic: Topic, reader: GroupReader, producer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, good = KafkaPartition(topic.name, 0), KafkaPartition(topic.name, 1)
    for partition in (silent, good):
        await producer.send_and_wait(topic.name, b"0", partition=partition.partition)
        reader.start_reading(partition, incarnation=0, offset=0)
    fetch_answer = lenient_reader._fetch

    async def answered(client: Any, partition: KafkaPartition, *rest: Any) -> tuple[Any, ...]:
        await asyncio.sleep(60 if partition == silent else 0)
        return await fetch_answer(client, partition, *rest)

    async def break_down(*_: Any, **__: Any) -> Any:
        raise ValueError

    monkeypatch.setattr(reader._consumer, "getmany", break_down)
    monkeypatch.setattr(lenient_reader, "_fetch", answered)
    monkeypatch.setattr(lenient_reader, "_RESPONSE_TIMEOUT_S", 3.0)

    async with asyncio.timeout(30):
        chunks = await reader.fetch([silent, good], max_records=9, timeout_s=0.5)

    assert [chunk.partition for chunk in chunks] == [good]
    assert [log.partition for log in reader.unverified_partitions()] == [silent]

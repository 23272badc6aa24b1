"""The relay on a real broker: canonical events to a topic, exactly once, without a database."""

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import ProducerFenced

from normalizer.config.settings import Settings
from normalizer.core.normalize import Normalizer
from normalizer.embedded import KafkaBroker
from normalizer.envelope import Envelope, to_canonical
from normalizer.errors import BrokerUnavailableError, FencedError
from normalizer.kafka import (
    CommittedOffset,
    KafkaPartition,
    OutputRecord,
    TransactionalProducer,
    transactional_producer,
)
from normalizer.relay.kafka_store import relay_stores
from tests.support.factories import raw_event, raw_record
from tests.support.relay_runs import (
    assert_relayed_once,
    output_topics,
    read_topic,
    relay_settings,
    settings_of_command,
    until_members,
    until_relayed,
)
from tests.support.service_runs import process, running, until
from tests.support.simulator_runs import load_topic, traffic_mix
from tests.support.stack import Topic
from tests.support.waiting import DEADLINE_S

ONE_PARTITION = pytest.mark.parametrize("topic", [1], indirect=True)


@ONE_PARTITION
async def test_each_event_becomes_one_record_and_each_rejection_one(
    topic: Topic, bootstrap_servers: str, producer: AIOKafkaProducer, settings: Settings
) -> None:
    trace = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    event = msgspec.json.encode(raw_event(1, max_attempts=3))
    await producer.send_and_wait(topic.name, event, key=b"1000", headers=[trace])
    await producer.send_and_wait(topic.name, None, key=b"1000")
    await producer.send_and_wait(topic.name, b'{"password":"hunter2"', key=b"1000")
    await producer.send_and_wait(
        topic.name,
        b'{"execution_id":7,"events":[{"event_type":"a","event_id":5,"created_at":"2026-07-10T09:00:00Z"},{}]}',
    )

    async with running(settings, open_stores=relay_stores):
        await until_relayed(settings, {0: 4})

    first, second = sorted(
        await read_topic(bootstrap_servers, settings.kafka_canonical_topic), key=lambda one: one.key
    )
    (line,) = Normalizer().normalize(raw_record(value=event))
    assert isinstance(line, Envelope)
    assert (first.key, first.value) == (b"1000", to_canonical(line))
    # The record came long after its event, so its place tells nothing.
    assert dict(first.headers) == {
        "event_id": str(line.event_id).encode(),
        "shape": b"executor",
        "rules_version": str(line.normalizer_version).encode(),
        "evidence": f"{line.evidence:03}".encode(),
        "max_attempts": b"3",
        "trace_id": b"0af7651916cd43dd8448eb211c80319c",
        "traceparent": trace[1],
    }
    assert (second.key, msgspec.json.decode(second.value)["event_id"]) == (b"7", 5)
    rejected = await read_topic(bootstrap_servers, settings.kafka_rejected_topic)
    assert b"hunter2" not in b"".join(one.value for one in rejected)
    bodies = [msgspec.json.decode(one.value)["quarantine"] for one in rejected]
    assert sorted((one["offset"], one["index"], one["reason"]) for one in bodies) == [
        (2, 0, "invalid_json"),
        (3, 1, "not_an_event"),
    ]
    assert {(one["topic"], one["partition"]) for one in bodies} == {(topic.name, 0)}


@ONE_PARTITION
async def test_an_event_too_large_for_its_topic_is_rejected_in_words(
    topic: Topic, bootstrap_servers: str, producer: AIOKafkaProducer, admin: AIOKafkaAdminClient
) -> None:
    settings = relay_settings(topic, bootstrap_servers)
    for number, letters in enumerate((10, 4_000, 20)):
        event = raw_event(number, context={"text": "x" * letters})
        await producer.send_and_wait(topic.name, msgspec.json.encode(event))

    async with output_topics(admin, settings, **{"max.message.bytes": "2000"}):
        async with running(settings, open_stores=relay_stores) as service:
            await until_relayed(settings, {0: 3})
        lines = await read_topic(bootstrap_servers, settings.kafka_canonical_topic)
        (rejected,) = await read_topic(bootstrap_servers, settings.kafka_rejected_topic)

    assert len(lines) == 2
    assert (service.counters.stored, service.counters.quarantined) == (2, 1)
    rejection = msgspec.json.decode(rejected.value)["quarantine"]
    assert (rejection["offset"], rejection["reason"]) == (1, "too_large")
    assert f"max.message.bytes of {settings.kafka_canonical_topic} is 2000" in rejection["detail"]


@ONE_PARTITION
async def test_a_zombie_is_fenced_and_its_open_transaction_is_not_seen(
    topic: Topic, bootstrap_servers: str, settings: Settings
) -> None:
    """The offsets are committed without metadata of the group: the transactional id is enough."""
    where = KafkaPartition(topic.name, 0)
    output = settings.kafka_canonical_topic

    def record(value: bytes) -> list[OutputRecord]:
        return [OutputRecord(output, b"7", value, [])]

    idle, busy, owner = (
        TransactionalProducer(settings, settings.kafka_group_id, where) for _ in range(3)
    )
    try:
        epoch = await idle.start()
        await idle.write_and_commit(record(b"first"), CommittedOffset(1, "of the idle one"))
        await busy.start()
        await busy._producer.begin_transaction()
        await busy._producer.send_and_wait(output, b"left open", key=b"7")

        assert await owner.start() > epoch
        assert await owner.committed_offset() == (1, "of the idle one")
        await owner.write_and_commit(record(b"second"), CommittedOffset(2))
        with pytest.raises(FencedError):
            await idle.write_and_commit(record(b"third"), CommittedOffset(3))
        with pytest.raises(ProducerFenced):
            await busy._producer.commit_transaction()

        assert await owner.committed_offset() == (2, "")
    finally:
        for one in (idle, busy, owner):
            await one.stop()
    lines = [one.value for one in await read_topic(bootstrap_servers, output)]
    assert lines == [b"first", b"second"]


@ONE_PARTITION
async def test_a_commit_that_hangs_ends_with_its_producer(topic: Topic, settings: Settings) -> None:
    """The next claim of the partition stops it. Nothing else is written until the commit ends."""
    where = KafkaPartition(topic.name, 0)
    one = TransactionalProducer(settings, settings.kafka_group_id, where)
    await one.start()
    send, is_requested = one._producer.client.send, asyncio.Event()

    async def be_silent(node_id: int, request: object, **options: object) -> object:
        if type(request).__name__.startswith("ProduceRequest"):
            is_requested.set()
            await asyncio.Event().wait()
        return await send(node_id, request, **options)

    one._producer.client.send = be_silent
    record = OutputRecord(settings.kafka_canonical_topic, b"7", b"{}", [])
    committing = asyncio.create_task(one.write_and_commit([record], CommittedOffset(1)))
    await is_requested.wait()

    await one.stop()

    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(BrokerUnavailableError):
            await committing


async def test_a_producer_that_is_stopped_without_an_answer_leaves_no_connection(
    kafka_broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each claim during an outage would leave one, and a task that goes on sending."""
    monkeypatch.setattr(transactional_producer, "_STOP_TIMEOUT_S", 1.0)
    settings = relay_settings(Topic(name="raw", partitions=1), kafka_broker.bootstrap_servers)
    output = settings.kafka_canonical_topic
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1) for name in ("raw", output)])
    await admin.close()
    one = TransactionalProducer(settings, settings.kafka_group_id, KafkaPartition("raw", 0))
    await one.start()
    await one.write_and_commit([OutputRecord(output, b"7", b"{}", [])], CommittedOffset(1))
    client, sending = one._producer.client, one._producer._sender.sender_task

    os.kill(kafka_broker.pid, signal.SIGSTOP)
    try:
        commit = one.write_and_commit([OutputRecord(output, b"7", b"{}", [])], CommittedOffset(2))
        committing = asyncio.create_task(commit)
        await until(lambda: bool(one._producer._message_accumulator._batches))
        await one.stop()
        with pytest.raises(BrokerUnavailableError):
            await committing

        assert not any(connection.connected() for connection in client._conns.values())
        await until(sending.done)
    finally:
        os.kill(kafka_broker.pid, signal.SIGCONT)


@pytest.mark.timeout(120)
async def test_two_relays_a_kill_and_a_frozen_one_lose_and_double_nothing(
    topic: Topic, bootstrap_servers: str, settings: Settings, tmp_path: Path
) -> None:
    ends = await load_topic(traffic_mix(), 1_500, topic, bootstrap_servers, tmp_path / "ledger")
    command = settings_of_command(settings, batch_rows=200)
    half = {0: ends[0] // 2}

    async with process(command, command="relay") as killed:
        await until_relayed(settings, {0: 1})
        async with process(command, command="relay") as frozen:
            killed.send_signal(signal.SIGKILL)
            await killed.wait()
            await until_relayed(settings, half)
            frozen.send_signal(signal.SIGSTOP)
            async with process(command, command="relay"):
                await until_relayed(settings, ends)
                frozen.send_signal(signal.SIGCONT)
                await until_members(settings, 2)

    assert await assert_relayed_once(bootstrap_servers, topic, settings) > 500

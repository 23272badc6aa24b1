"""Faults of a relay's topics, on a real broker."""

import random
import time
from typing import Any, cast

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError

from normalizer.config.settings import Settings
from normalizer.errors import BrokerUnavailableError
from normalizer.kafka import KafkaPartition, TransactionalProducer
from normalizer.relay.kafka_store import KafkaStore, relay_stores
from normalizer.runtime.backoff import MAX_BACKOFF_S
from tests.support.factories import raw_event
from tests.support.relay_runs import (
    PARTITIONS,
    read_topic,
    relayed_so_far,
    silent_output,
    until_relayed,
)
from tests.support.service_runs import recreate_topic, running, send, until
from tests.support.stack import Topic

ONE_PARTITION = pytest.mark.parametrize("topic", [1], indirect=True)


@ONE_PARTITION
async def test_a_topic_that_is_deleted_and_created_again_is_read_from_its_start(
    topic: Topic, settings: Settings, producer: AIOKafkaProducer, admin: AIOKafkaAdminClient
) -> None:
    """Kafka deletes committed offsets with their topic: nothing is left to compare."""
    (servers,) = settings.kafka_bootstrap_servers
    await send(producer, topic, range(10))
    async with running(settings, open_stores=relay_stores):
        await until_relayed(settings, {0: 10})
    await recreate_topic(admin, topic)

    async def is_forgotten() -> bool:
        return not await relayed_so_far(settings, [0])

    await until(is_forgotten)
    async with AIOKafkaProducer(bootstrap_servers=servers) as again:
        await send(again, topic, range(100, 112))

    async with running(settings, open_stores=relay_stores):
        await until_relayed(settings, {0: 12})

    assert len(await read_topic(servers, settings.kafka_canonical_topic)) == 22


@ONE_PARTITION
async def test_a_limit_that_is_lowered_while_a_relay_runs_is_obeyed(
    topic: Topic, settings: Settings, producer: AIOKafkaProducer, admin: AIOKafkaAdminClient
) -> None:
    (servers,) = settings.kafka_bootstrap_servers
    letters = random.Random(1).randbytes(2_000).hex()  # lz4 cannot make them small
    large = msgspec.json.encode(raw_event(11, context={"text": letters}))
    output, limit = settings.kafka_canonical_topic, {"max.message.bytes": "500"}
    async with running(settings, open_stores=relay_stores) as service:
        await send(producer, topic, range(10))
        await until_relayed(settings, {0: 10})
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, output, limit)])
        await _until_limited(servers, output)
        await producer.send_and_wait(topic.name, large)
        await until_relayed(settings, {0: 11})

    (rejected,) = await read_topic(servers, settings.kafka_rejected_topic)
    assert msgspec.json.decode(rejected.value)["quarantine"]["reason"] == "too_large"
    assert service.counters.stored == 10


async def _until_limited(bootstrap_servers: str, name: str) -> None:
    """The controller answers before the logs of the topic have the new limit."""
    record = random.Random(2).randbytes(1_000)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as probing:

        async def are_limited() -> bool:
            for partition in range(PARTITIONS):
                try:
                    await probing.send_and_wait(name, record, partition=partition)
                except MessageSizeTooLargeError:
                    continue
                return False
            return True

        await until(are_limited)


async def test_a_part_that_is_not_written_ends_its_own_claim_alone(
    topic: Topic, settings: Settings, producer: AIOKafkaProducer
) -> None:
    settings = msgspec.structs.replace(settings, batch_age_ms=1_000)

    async def fail(*_: object) -> None:
        message = "the broker is unreachable"
        raise BrokerUnavailableError(message)

    async with running(settings, open_stores=relay_stores) as service:
        await until(lambda: len(service.ownership.current_claims) == topic.partitions)
        claims = {**service.ownership.current_claims}
        store = cast("KafkaStore", service._stores.batches)
        store._owned[KafkaPartition(topic.name, 0)].producer.write_and_commit = fail  # type: ignore[assignment, method-assign]
        service._filler.note_write_duration(60.0)  # so that the batch waits for all partitions

        await send(producer, topic, range(topic.partitions))
        await until_relayed(settings, dict.fromkeys(range(topic.partitions), 1))

        held = service.ownership.current_claims
        again = [one.partition for one in sorted(claims) if held.get(one) is not claims[one]]
        assert again == [0]
        assert service.counters.stored == topic.partitions
    (servers,) = settings.kafka_bootstrap_servers
    assert len(await read_topic(servers, settings.kafka_canonical_topic)) == topic.partitions


async def test_a_stop_waits_for_silent_output_once_and_not_for_each_partition(
    topic: Topic,
    settings: Settings,
    producer: AIOKafkaProducer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = msgspec.structs.replace(settings, stop_timeout_s=1)
    await send(producer, topic, range(topic.partitions))
    with silent_output(monkeypatch) as silent:
        async with running(settings, open_stores=relay_stores):
            # The first batch may be without a partition whose position was known last.
            await until(lambda: len(silent.asking) >= 2)

    assert len(silent.ended_at_s) == len(silent.asking)
    assert max(silent.ended_at_s) - min(silent.ended_at_s) < 1.0


@ONE_PARTITION
async def test_a_partition_whose_output_refuses_at_once_is_claimed_less_and_less_often(
    topic: Topic,
    settings: Settings,
    producer: AIOKafkaProducer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    committed, refused_at_s = TransactionalProducer.write_and_commit, list[float]()

    async def refuse(self: TransactionalProducer, records: Any, *others: Any) -> None:
        if records and len(refused_at_s) < 6:
            refused_at_s.append(time.monotonic())
            message = "not enough replicas"
            raise BrokerUnavailableError(message)
        await committed(self, records, *others)

    monkeypatch.setattr(TransactionalProducer, "write_and_commit", refuse)
    async with running(settings, open_stores=relay_stores):
        await send(producer, topic, range(1))
        await until_relayed(settings, {0: 1})

    assert refused_at_s[5] - refused_at_s[4] > MAX_BACKOFF_S / 2


@ONE_PARTITION
async def test_offsets_that_retention_took_unread_are_passed_and_said(
    topic: Topic, settings: Settings, producer: AIOKafkaProducer, admin: AIOKafkaAdminClient
) -> None:
    await send(producer, topic, range(10))
    async with running(settings, open_stores=relay_stores):
        await until_relayed(settings, {0: 10})
    await send(producer, topic, range(10, 30))
    await admin.delete_records({TopicPartition(topic.name, 0): RecordsToDelete(20)})

    async with running(settings, open_stores=relay_stores) as service:
        await until_relayed(settings, {0: 30})

    assert service.counters.gaps == 1
    (servers,) = settings.kafka_bootstrap_servers
    assert len(await read_topic(servers, settings.kafka_canonical_topic)) == 20

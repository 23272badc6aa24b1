"""A record that takes long in the helper process holds up its partition, and no other."""

import os
import signal

import msgspec
import pytest
import structlog
from aiokafka import AIOKafkaProducer

from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Normalized
from normalizer.runtime.normalizer_process import NormalizerProcess
from tests.support.factories import raw_event
from tests.support.service_runs import running, settings_for, until, watching
from tests.support.stack import Database, Topic
from tests.support.table_rows import assert_ledger_holds, connected, count


@pytest.mark.parametrize("topic", [2], indirect=True)
async def test_a_slow_record_holds_up_its_partition_and_no_other(
    database: Database,
    topic: Topic,
    bootstrap_servers: str,
    producer: AIOKafkaProducer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[str] = []
    normalize = NormalizerProcess.normalize

    async def counted(helper: NormalizerProcess, record: RawRecord) -> tuple[Normalized, ...]:
        begun.append(record.coordinates)
        return await normalize(helper, record)

    monkeypatch.setattr(NormalizerProcess, "normalize", counted)
    with structlog.testing.capture_logs() as lines:
        async with (
            running(settings_for(database, topic, bootstrap_servers, core="python")) as service,
            watching(database.url) as watcher,
        ):
            await _send(producer, topic, 0, [_heavy(0)])
            await watcher.until_read(topic, {0: 1})
            helper = service.intake.normalizer_process.process
            assert helper
            os.kill(helper.pid, signal.SIGSTOP)  # whatever it gets now takes long

            await _send(producer, topic, 0, [_light(1), _heavy(2), _light(3)])
            await until(lambda: any(line["event"] == "partition.set_aside" for line in lines))
            await _send(producer, topic, 1, [_light(number) for number in range(10, 30)])
            await watcher.until_read(topic, {1: 20})
            waiting = (await watcher.positions(topic))[0]["next_offset"]
            os.kill(helper.pid, signal.SIGCONT)
            await watcher.until_read(topic, {0: 4})

        assert service.counters.rebalances == 1
    assert waiting < 3
    assert begun == [
        f"{topic.name}[0]@{offset}" for offset in (0, 2)
    ]  # what is done isn't repeated
    async with connected(database) as connection:
        await assert_ledger_holds(connection)
        assert await count(connection, "events") == 24


async def _send(
    producer: AIOKafkaProducer, topic: Topic, partition: int, values: list[bytes]
) -> None:
    for value in values:
        await producer.send(topic.name, value, partition=partition)
    await producer.flush()


def _light(number: int) -> bytes:
    return msgspec.json.encode(raw_event(number))


def _heavy(number: int) -> bytes:
    return msgspec.json.encode(raw_event(number, context={"v": [0] * 5_000}))

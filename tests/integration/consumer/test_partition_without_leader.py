"""Two brokers, and one is killed: its partitions wait, those of the other go on."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from normalizer.cli.check import run_checks
from normalizer.cli.ledger_check import verify_ledger
from normalizer.cli.partition_positions import read_positions
from normalizer.config.settings import Settings
from normalizer.consumer.service import Service
from normalizer.embedded import KafkaBroker
from normalizer.errors import BrokerUnavailableError
from normalizer.jobs.engine.throttle import LiveLagMeter
from normalizer.jobs.sources.topic_source import TopicRange, TopicSource
from normalizer.kafka import GrouplessClient, KafkaPartition
from normalizer.monitoring.monitoring_server import MonitoringServer
from tests.support.probe_client import http_get
from tests.support.service_runs import running, send, settings_for, until, watching
from tests.support.stack import Database, Topic

READ_S = 60
"""To read what was sent, also where a broker has just started or been killed."""
LOOK_UP_S = 20
"""The limit of a look-up beside a frozen broker, which takes about a second."""


class JoiningBroker(KafkaBroker):
    """A second broker of a cluster whose first one runs, and is its only controller."""

    def __init__(self, first: KafkaBroker, folder: Path) -> None:
        maintenance_lock = {"process.roles": "broker", "node.id": "2"}
        super().__init__(folder, first.jars, properties=maintenance_lock, heap_mb=256)
        self._first = first

    def _write_properties(self) -> None:
        super()._write_properties()
        with (self.folder / "server.properties").open("a") as file:
            file.write(f"controller.quorum.voters=1@{self._first.listener_address('CONTROLLER')}\n")
            file.write(f"listeners=PLAINTEXT://{self.bootstrap_servers}\n")

    def _cluster_id(self) -> str:
        lines = (self._first.folder / "log" / "meta.properties").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)["cluster.id"]


@pytest.fixture
async def second(kafka_broker: KafkaBroker) -> AsyncIterator[KafkaBroker]:
    """Joined after the topics of groups were made: those are on the first broker."""
    settings = Settings(kafka_bootstrap_servers=(kafka_broker.bootstrap_servers,))
    async with GrouplessClient(settings) as log:
        await log.group_state_and_size("any")
    async with JoiningBroker(kafka_broker, kafka_broker.folder / "second") as broker:
        yield broker


@pytest.fixture
async def spread(second: KafkaBroker) -> Topic:
    """Partition 0 is on the first broker alone, partition 1 on the second."""
    topic = Topic(name="spread", partitions=2)
    admin = AIOKafkaAdminClient(bootstrap_servers=second.bootstrap_servers)
    await admin.start()
    made = NewTopic(topic.name, -1, -1, replica_assignments={0: [1], 1: [2]})
    await until(lambda: led(admin, made))
    await admin.close()
    return topic


async def led(admin: AIOKafkaAdminClient, topic: NewTopic) -> bool:
    """Make it, and ask whether every partition has its leader."""
    await admin.create_topics([topic])
    (found,) = await admin.describe_topics([topic.name])
    return {one["partition"]: one["leader"] for one in found["partitions"]} == {0: 1, 1: 2}


@pytest.mark.timeout(300)
async def test_a_partition_without_a_leader_stops_no_other(
    database: Database, kafka_broker: KafkaBroker, second: KafkaBroker, spread: Topic
) -> None:
    """A frozen broker holds up no look-up that another can answer. Then it's killed."""
    settings = settings_for(database, spread, kafka_broker.bootstrap_servers)
    await look_past_a_frozen_broker(settings, second, spread)
    async with watching(database.url) as watcher:

        async def stored(numbers: range, at: dict[int, int], *, partition: int) -> None:
            async with AIOKafkaProducer(
                bootstrap_servers=kafka_broker.bootstrap_servers
            ) as producer:
                await send(producer, spread, numbers, partition=partition)
            async with asyncio.timeout(READ_S):
                await watcher.until_read(spread, at)

        async with running(settings) as service:
            await stored(range(10), {0: 10}, partition=0)
            await stored(range(10, 20), {0: 10, 1: 10}, partition=1)
            await second.kill()
            await stored(range(20, 30), {0: 20}, partition=0)
            await until_away(service, spread)
            await stored(range(30, 40), {0: 30}, partition=0)
        async with running(settings) as service:
            with MonitoringServer(settings, service) as monitor:
                await stored(range(40, 50), {0: 40}, partition=0)
                await until_away(service, spread)
                await until(lambda: monitor.lag_monitor.broker_up)
                await until_ends_are_known(settings, {0: 40})
                await say_what_is_known_and_name_the_other(settings, spread)
                await until_degraded_and_ready(
                    monitor, f"partition {spread.name}[1] is unreachable: "
                )
                await second.start()
                await stored(range(50, 60), {0: 40, 1: 20}, partition=1)
            assert service.ownership.unreachable_reasons_by_partition == {}
            assert (service.counters.rejoins, service.counters.stopped) == (0, 0)
        positions = await watcher.positions(spread)
        assert await watcher.events() == 60

    for position in positions.values():
        assert position["records"] == position["stored"] == position["next_offset"]


async def until_degraded_and_ready(monitor: MonitoringServer, why: str) -> None:
    """A rollout that waits for a pod to be ready must not wait for a leader."""

    async def is_so() -> bool:
        status, body = await http_get(f"{monitor.url}/readyz")
        return status == 200 and [one.startswith(why) for one in body["degraded"]] == [True]

    await until(is_so, lambda: http_get(f"{monitor.url}/readyz"))


async def look_past_a_frozen_broker(settings: Settings, second: KafkaBroker, spread: Topic) -> None:
    async with GrouplessClient(settings) as log:
        assert len(await log.partitions(spread.name)) == 2
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(log._admin._client, "get_random_node", lambda: 2)
            os.kill(second.pid, signal.SIGSTOP)
            try:
                async with asyncio.timeout(LOOK_UP_S):
                    assert await log.cluster_id()
                async with asyncio.timeout(2 * LOOK_UP_S):
                    while not await log.reachable_offset_bounds([KafkaPartition(spread.name, 0)]):
                        pass
            finally:
                os.kill(second.pid, signal.SIGCONT)


async def until_ends_are_known(settings: Settings, ends: dict[int, int]) -> None:
    """Those of partitions with a leader: to `position show`, and to a job that yields to them."""
    async with (
        GrouplessClient(settings) as log,
        LiveLagMeter(settings.required_database_url, log) as live,
    ):

        async def known() -> bool:
            await live.read_lag()
            shown = await read_positions(settings, log, None, None)
            found = {one.partition: one.log_end for one in shown if one.log_end is not None}
            return found == ends and {at.partition for at in live._history._samples} == set(ends)

        await until(known)


async def say_what_is_known_and_name_the_other(settings: Settings, topic: Topic) -> None:
    """`ledger verify`, `check` and a job, while one of two partitions has no leader."""
    findings: list[str] = []
    missing = re.escape(f"no leader answers for {topic.name}[1]")

    async def hear(log: GrouplessClient) -> None:
        async for finding in verify_ledger(settings.required_database_url, log):
            findings.append(str(finding))  # noqa: PERF401 - it raises in the end

    async with GrouplessClient(settings) as log:
        with pytest.raises(BrokerUnavailableError, match=missing):
            await hear(log)
        found = [one async for one in run_checks(settings, log)]
    async with TopicSource(settings, topic.name, TopicRange()) as source:
        with pytest.raises(BrokerUnavailableError, match=missing):
            await source.list_parts()

    assert [one.split(": offsets")[0] for one in findings] == [
        f"{topic.name}[{number}] incarnation 0" for number in (0, 1)
    ]
    topics = [str(one) for one in found if one.about.startswith("topic")]
    assert sum(bool(re.search(missing, one)) for one in topics) == 1
    assert any("may be read" in one for one in topics)
    assert [str(one) for one in found if one.about.startswith("position")] == [
        (
            "ok    positions: 1 partitions were read before, and all match their logs; "
            "1 without a leader"
        )
    ]


async def until_away(service: Service, topic: Topic) -> None:
    await until(
        lambda: KafkaPartition(topic.name, 1) in service.ownership.unreachable_reasons_by_partition
    )

"""The probes and all alerts beside a running stack: what they watch makes them red, its end green.

A real Prometheus scrapes the real /metrics and evaluates the very expressions of
deploy/prometheus/alerts.yml, a minute made a second so that nobody waits. At their full length, on
series written by hand, tests/rules/test_alerts.py has them.
"""

import asyncio
import contextlib
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import pytest
import yaml
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition

from normalizer.config.settings import Settings
from normalizer.embedded import KafkaBroker, PostgresServer
from normalizer.embedded.free_ports import find_free_port
from normalizer.kafka import GroupReader
from normalizer.monitoring import monitoring_server as monitor_module
from normalizer.store.migrate import migrate
from tests.support.factories import raw_event
from tests.support.live_alerts import (
    HEARTBEAT_LIMIT_S,
    RULES,
    Alerts,
    ThreadedService,
    probes,
    prometheus,
    until_ready,
    until_reason,
)
from tests.support.python_lane import PythonLane, install
from tests.support.service_runs import process, send, settings_for, until, watching
from tests.support.stack import Database, Topic, replace_database

TOPIC: Final = Topic(name="own", partitions=2)
KEPT_MS: Final = 3_600_000
"""Less than the four hours before expiry at which NormalizerRecordsExpire fires."""
NUMBERS: Final = iter(range(1_000_000))
PANIC: Final = "the lane panics"
"""A record with this text makes the native lane panic."""


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """A stack of this test's own, a Prometheus beside it, and the hands to trouble them."""

    server: PostgresServer
    broker: KafkaBroker
    settings: Settings
    alerts: Alerts
    admin: AIOKafkaAdminClient
    producer: AIOKafkaProducer

    async def execute(self, *store_statements: str) -> None:
        """As one who may do all."""
        async with watching(replace_database(self.server.superuser_url, "noetl")) as watcher:
            for statement in store_statements:
                await watcher.connection.execute(statement)

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Somebody holds partition 0's position, and a snapshot with it."""
        async with (
            watching(self.server.database_url("noetl")) as watcher,
            watcher.connection.transaction(isolation="repeatable_read"),
        ):
            await watcher.connection.execute(
                "select from normalizer.source_positions where partition = 0 for update"
            )
            yield

    async def one_more(self, *, partition: int = 0) -> None:
        number = next(NUMBERS)
        await send(self.producer, TOPIC, range(number, number + 1), partition=partition)


@pytest.fixture
async def scene(
    postgres_server: PostgresServer,
    kafka_broker: KafkaBroker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Scene]:
    monkeypatch.setattr(monitor_module, "MAX_HEARTBEAT_AGE_S", HEARTBEAT_LIMIT_S)
    install(monkeypatch, partial(PythonLane, panics_at=[PANIC.encode()]))
    url = await postgres_server.create_database("noetl")
    await migrate(url, report=lambda _: None)
    database = Database(name="noetl", url=url, admin_url=postgres_server.database_url("noetl"))
    servers, port = kafka_broker.bootstrap_servers, find_free_port(set())
    dashboard = find_free_port({port})
    targets = {"normalizer": f"127.0.0.1:{port}", "projector": f"127.0.0.1:{dashboard}"}
    settings = settings_for(database, TOPIC, servers, http_port=port)
    async with (
        contextlib.AsyncExitStack() as started,
        AIOKafkaProducer(bootstrap_servers=servers) as producer,
        process(
            settings, "--port", str(dashboard), program="projector", command="serve", log=DEVNULL
        ),
        prometheus(tmp_path, targets) as alerts,
    ):
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        started.push_async_callback(admin.close)
        yield Scene(
            server=postgres_server,
            broker=kafka_broker,
            settings=settings,
            alerts=alerts,
            admin=admin,
            producer=producer,
        )


@pytest.mark.soak
@pytest.mark.timeout(400)
async def test_probes_and_alerts_go_red_and_green_with_what_they_watch(scene: Scene) -> None:
    await scene.alerts.until_red("NormalizerDown")
    with ThreadedService(scene.settings) as service:
        await _no_topic_yet(scene, service)
        await _a_migration_missing(scene, service)
        await _database_stopped(scene, service)
        await _broker_stopped(scene, service)
        await _database_read_only(scene, service)
        await _poison_and_news(scene)
        await _a_table_broken_and_a_horizon_in_the_way(scene)
        await _a_lock_and_a_snapshot_held(scene)
        await _a_job_killed_and_a_projection_changed_by_hand(scene)
        await _members_that_come_and_go(scene)
        await _loop_hanging(scene, service)
    await _read_by_another_group(scene)
    await _stopped_for_longer_than_records_are_kept(scene)

    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} - scene.alerts.seen == set()


async def _no_topic_yet(scene: Scene, service: ThreadedService) -> None:
    await scene.alerts.until_green("NormalizerDown")
    reasons = (
        f"topic {TOPIC.name} does not exist: `normalizer check` says how to create it; "
        "group: partitions are not assigned yet"
    )
    await until_reason(service.url, reasons)
    assert await probes(service.url) == (200, 503, reasons)
    await scene.admin.create_topics(
        [NewTopic(TOPIC.name, TOPIC.partitions, 1, topic_configs={"retention.ms": str(KEPT_MS)})]
    )
    await until_ready(service.url)
    await scene.alerts.until_green()


async def _a_migration_missing(scene: Scene, service: ThreadedService) -> None:
    await scene.execute(
        "create table public.kept as select * from migrations.applied where version = '0009'",
        "delete from migrations.applied where version = '0009'",
    )
    await until_reason(service.url, "migrations missing: 0009: run `normalizer migrate`")
    await scene.execute("insert into migrations.applied select * from public.kept")
    await until_ready(service.url)


async def _database_stopped(scene: Scene, service: ThreadedService) -> None:
    await scene.server.stop()
    await scene.alerts.until_red("NormalizerDatabaseAway")
    assert (await probes(service.url)) == (200, 503, "database: no answer")
    await scene.server.start()
    await scene.alerts.until_green("NormalizerDatabaseAway")
    await until_ready(service.url)


async def _broker_stopped(scene: Scene, service: ThreadedService) -> None:
    await scene.broker.stop()
    await scene.alerts.until_red("NormalizerBrokerAway")
    await until_reason(service.url, "broker: no answer")
    await scene.broker.start()
    await scene.alerts.until_green("NormalizerBrokerAway")
    await until_ready(service.url)


async def _database_read_only(scene: Scene, service: ThreadedService) -> None:
    alerts = (
        *("NormalizerDatabaseReadOnly", "NormalizerBatchBlocked", "NormalizerNotReady"),
        *("NormalizerLagging", "NormalizerRecordsExpire"),
    )
    await scene.execute(
        "alter system set default_transaction_read_only = on", "select pg_reload_conf()"
    )
    await scene.one_more()
    await scene.alerts.until_red(*alerts)
    await until_reason(service.url, "database: read-only")
    await until_reason(service.url, "batch open for")
    await scene.execute(
        "alter system reset default_transaction_read_only", "select pg_reload_conf()"
    )
    await scene.alerts.until_green(*alerts)
    await until_ready(service.url)


async def _poison_and_news(scene: Scene) -> None:
    alerts = (
        *("NormalizerPoisonFlood", "NormalizerQuarantined"),
        *("NormalizerDrift", "NormalizerLanePanicked"),
    )
    news = msgspec.json.encode(raw_event(next(NUMBERS), brand_new=PANIC))
    await scene.producer.send_and_wait(TOPIC.name, news, partition=0)
    await scene.alerts.until_red(*alerts[2:])

    async def is_flooded() -> bool:
        for _ in range(10):
            await scene.producer.send_and_wait(TOPIC.name, b"{broken", partition=0)
        return set(alerts[:2]) <= await scene.alerts.firing()

    await until(is_flooded, scene.alerts.firing)
    await scene.alerts.until_green(*alerts)


async def _a_table_broken_and_a_horizon_in_the_way(scene: Scene) -> None:
    alerts = ("NormalizerDataCorrupted", "NormalizerExpiredUnread")
    await scene.execute(
        """
        create function public.broken() returns trigger language plpgsql as $$
        begin
            raise exception 'broken' using errcode = 'XX001';
        end
        $$
        """,
        "create trigger broken before insert on normalizer.events "
        "for each statement execute function public.broken()",
    )
    await scene.one_more()
    await scene.alerts.until_red(alerts[0])
    horizon = "update normalizer.retention_horizon set expired_before = "
    await scene.execute(
        "drop trigger broken on normalizer.events", f"{horizon} now() + interval '1 hour'"
    )
    await scene.one_more()
    await scene.alerts.until_red(alerts[1])
    await scene.execute(f"{horizon} '-infinity'")
    await scene.alerts.until_green(*alerts)


async def _a_lock_and_a_snapshot_held(scene: Scene) -> None:
    expected = ("NormalizerPartitionStuck", "NormalizerSnapshotHeld")
    async with scene.locked():
        await scene.one_more()
        await scene.alerts.until_red(*expected)
    await scene.alerts.until_green(*expected)


async def _a_job_killed_and_a_projection_changed_by_hand(scene: Scene) -> None:
    expected = ("NormalizerJobInterrupted", "NormalizerViewsDiverge")
    history = ("topic", TOPIC.name)
    await scene.execute("update projector.event_hours set events = events + 1")
    assert await _done(scene, "verify") == 1
    async with process(scene.settings, *history, "--max-rate", "1", command="backfill"):

        async def runs() -> bool:
            async with watching(scene.server.database_url("noetl")) as watcher:
                return bool(
                    await watcher.connection.fetchval(
                        "select exists (select from projector.jobs where state = 'running')"
                    )
                )

        await until(runs)
    await scene.alerts.until_red(*expected)

    async with process(scene.settings, *history, command="backfill") as again:
        await again.communicate()
    assert again.returncode == 0
    assert await _done(scene, "repair") == 0
    assert await _done(scene, "verify") == 0
    await scene.alerts.until_green(*expected)


async def _done(scene: Scene, command: str) -> int:
    async with process(scene.settings, program="projector", command=command) as child:
        await child.communicate()
    assert child.returncode is not None
    return child.returncode


async def _members_that_come_and_go(scene: Scene) -> None:
    async def is_restless() -> bool:
        joined = asyncio.Event()
        member = GroupReader(scene.settings, on_assigned=joined.set)
        await member.join_group()
        await joined.wait()
        await member.leave_group(timeout_s=5.0)
        return "NormalizerRebalances" in await scene.alerts.firing()

    await until(is_restless, scene.alerts.firing)


async def _loop_hanging(scene: Scene, service: ThreadedService) -> None:
    """Until all is green, the rebalances before it too."""
    with service.hang():
        await scene.alerts.until_red("NormalizerLoopDead")
        alive, ready, reasons = await probes(service.url)
        assert (alive, ready) == (503, 503)
        assert "loop: no heartbeat" in reasons
    await scene.alerts.until_green("NormalizerLoopDead")
    await until_ready(service.url)
    await scene.alerts.until_green()


async def _read_by_another_group(scene: Scene) -> None:
    """Which leaves nothing to this one, until it ends."""
    other = msgspec.structs.replace(
        scene.settings, kafka_group_id="another", instance="another", http_port=0
    )
    with contextlib.ExitStack() as started:
        async with process(other, log=DEVNULL):

            async def claims() -> bool:
                async with watching(scene.server.database_url("noetl")) as watcher:
                    return bool(
                        await watcher.connection.fetchval(
                            "select bool_and(owner = 'another') from normalizer.source_positions"
                        )
                    )

            await until(claims)
            service = started.enter_context(ThreadedService(scene.settings))
            await scene.alerts.until_red("NormalizerDegraded")
            assert await probes(service.url) == (200, 200, "")
        await scene.alerts.until_green()


async def _stopped_for_longer_than_records_are_kept(scene: Scene) -> None:
    """And partition 1, meanwhile, is another cluster's."""
    await scene.alerts.until_red("NormalizerDown", "ProjectorLogNotRead")
    await scene.one_more()
    end = (await scene.producer.send_and_wait(TOPIC.name, b"{}", partition=0)).offset
    await scene.admin.delete_records({TopicPartition(TOPIC.name, 0): RecordsToDelete(end)})
    await scene.execute(
        "update normalizer.source_positions set cluster_id = 'another' where partition = 1"
    )
    expected = ("NormalizerRecordsLost", "NormalizerPartitionStopped")
    with contextlib.ExitStack() as started:
        async with scene.locked():
            service = started.enter_context(ThreadedService(scene.settings))
            await until_reason(service.url, "partitions assigned but not claimed: own[0]")
        await scene.alerts.until_red(*expected)
        await until_reason(service.url, "partition own[1] is stopped: KAFKA_BOOTSTRAP_SERVERS ")
        await scene.alerts.until_green("NormalizerDown", expected[0])

    with ThreadedService(scene.settings, accept_reset=True) as service:
        await until_ready(service.url)
        await scene.alerts.until_green()
        assert await probes(service.url) == (200, 200, "")

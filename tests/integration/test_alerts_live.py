"""The probes and the alerts beside a running stack: each outage makes them red, its end green.

A real Prometheus evaluates the very expressions of deploy/prometheus/alerts.yml, a minute made a
second so that nobody waits.
"""

import asyncio
import contextlib
import os
import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final, Self

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from normalizer import monitor as monitor_module
from normalizer.embedded import KafkaBroker, PostgresServer
from normalizer.embedded.ports import free_port
from normalizer.kafka import LogReader
from normalizer.migrate import migrate
from normalizer.monitor import Monitor
from normalizer.service import Service
from normalizer.settings import Settings
from tests.factories import raw_event
from tests.monitored import asked
from tests.running import settings_for, until, watching
from tests.stack import Database, Topic

RULES: Final = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
BEAT_LIMIT_S: Final = 3


class Apart:
    """The service on a thread and loop of its own, so that the loop can be made to hang."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._started = threading.Event()
        self._hanging = threading.Event()
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._hanging.set()
        self._loop.call_soon_threadsafe(self._service.stop)
        self._thread.join()

    @contextlib.contextmanager
    def hang(self) -> Iterator[None]:
        self._hanging.clear()
        self._loop.call_soon_threadsafe(self._hanging.wait, 60)
        try:
            yield
        finally:
            self._hanging.set()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._service = Service(self._settings)
        with Monitor(self._settings, self._service) as monitor:
            self.url = monitor.url
            self._started.set()
            await self._service.run()


class Alerts:
    """What a Prometheus says is firing."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def firing(self) -> set[str]:
        status, body = await asked(f"{self._url}/api/v1/alerts")
        assert status == 200
        alerts = body["data"]["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    async def until(self, name: str, *, red: bool) -> None:
        async def is_so() -> bool:
            return (name in await self.firing()) == red

        await until(is_so, self.firing)


@contextlib.asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[Alerts]:
    program = shutil.which("prometheus")
    if program is None:
        missing = "no prometheus: type `apt-get install prometheus`"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    rules = re.sub(r"(?<=for: )(\d+)m", r"\1s", RULES.read_text())
    rules = re.sub(r"\[(\d+)[mh]\]", r"[\g<1>s]", rules).replace("[1s]", "[5s]")
    rules = rules.replace("seconds > 30\n", f"seconds > {BEAT_LIMIT_S}\n")
    (folder / "alerts.yml").write_text(rules)
    (folder / "prometheus.yml").write_text(
        msgspec.yaml.encode(
            {
                "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms",
                           "scrape_timeout": "500ms"},
                "rule_files": ["alerts.yml"],
                "scrape_configs": [
                    {"job_name": "normalizer", "scrape_interval": "1s", "scrape_timeout": "1s",
                     "static_configs": [{"targets": [target]}]}
                ],
            }
        ).decode()
    )  # fmt: skip
    port = free_port(set())
    child = await asyncio.create_subprocess_exec(
        program,
        *("--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=error"),
        f"--web.listen-address=127.0.0.1:{port}",
        cwd=folder,
    )
    url = f"http://127.0.0.1:{port}"
    try:

        async def answers() -> bool:
            with contextlib.suppress(OSError, msgspec.DecodeError):
                await asked(f"{url}/api/v1/alerts")
                return True
            return False

        await until(answers)
        yield Alerts(url)
    finally:
        child.terminate()
        await child.wait()


async def probes(url: str) -> tuple[int, int, str]:
    """Status of /livez and of /readyz, and the reasons as one text."""
    alive, _ = await asked(f"{url}/livez")
    ready, body = await asked(f"{url}/readyz")
    return alive, ready, "; ".join(body["reasons"])


async def until_ready(url: str) -> None:
    async def ready() -> bool:
        return (await probes(url))[1] == 200

    await until(ready, lambda: probes(url))


@pytest.mark.timeout(300)
async def test_probes_and_alerts_go_red_and_green_with_what_they_watch(
    postgres_server: PostgresServer,
    kafka_broker: KafkaBroker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor_module, "BEAT_LIMIT_S", BEAT_LIMIT_S)
    url = await postgres_server.create_database("noetl")
    await migrate(url, say=lambda _: None)
    database = Database(name="noetl", url=url, admin_url=postgres_server.url)
    topic = Topic(name="own", partitions=2)
    settings = settings_for(database, topic, kafka_broker.bootstrap_servers)
    async with LogReader(settings) as log:
        await log.create_topic(topic.name, partitions=topic.partitions)

    with Apart(settings) as service:
        async with prometheus(tmp_path, service.url.removeprefix("http://")) as alerts:
            await until_ready(service.url)
            await alerts.until("NormalizerDown", red=False)

            await postgres_server.stop()
            await alerts.until("NormalizerDatabaseAway", red=True)
            assert (await probes(service.url)) == (200, 503, "database: no answer")
            await postgres_server.start()
            await alerts.until("NormalizerDatabaseAway", red=False)
            await until_ready(service.url)

            await kafka_broker.stop()
            await alerts.until("NormalizerBrokerAway", red=True)
            alive, ready, reasons = await probes(service.url)
            assert (alive, ready) == (200, 503)
            assert "broker: no answer" in reasons
            await kafka_broker.start()
            await alerts.until("NormalizerBrokerAway", red=False)
            await until_ready(service.url)

            async with AIOKafkaProducer(
                bootstrap_servers=kafka_broker.bootstrap_servers
            ) as producer:
                await _flood(producer, topic, alerts)
                assert (await probes(service.url)) == (200, 200, "")
                await alerts.until("NormalizerPoisonFlood", red=False)

                async with watching(url) as watcher, watcher.connection.transaction():
                    await watcher.connection.execute(
                        "select from normalizer.source_position where partition = 0 for update"
                    )
                    event = msgspec.json.encode(raw_event(1))
                    await producer.send_and_wait(topic.name, event, partition=0)
                    await alerts.until("NormalizerPartitionStuck", red=True)
                await alerts.until("NormalizerPartitionStuck", red=False)

            with service.hang():
                await alerts.until("NormalizerLoopDead", red=True)
                alive, ready, reasons = await probes(service.url)
                assert (alive, ready) == (503, 503)
                assert "loop: no beat" in reasons
            await alerts.until("NormalizerLoopDead", red=False)
            await until_ready(service.url)
            assert (await probes(service.url)) == (200, 200, "")


async def _flood(producer: AIOKafkaProducer, topic: Topic, alerts: Alerts) -> None:
    """Broken records until the alert fires."""

    async def is_red() -> bool:
        await producer.send_and_wait(topic.name, b"{broken", partition=1)
        return "NormalizerPoisonFlood" in await alerts.firing()

    await until(is_red, alerts.firing)

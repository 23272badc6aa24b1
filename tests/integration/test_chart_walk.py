"""docs/kubernetes.md by hand: the chart's pods as processes, with their variables and probes."""

import contextlib
import json
import re
from typing import Final

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from normalizer.embedded import PostgresServer
from tests import chart
from tests.support.doc_pages import DOCS
from tests.support.pods import (
    Cluster,
    RunningPod,
    fetch,
    get,
    prepared,
    run_job,
    running,
    until_ready,
)
from tests.support.service_runs import send, watching
from tests.support.stack import Topic

PAGE: Final = (DOCS / "kubernetes.md").read_text()
ROWS: Final = re.findall(
    r"^\| (?:Job|Deployment|CronJob) `(\w+)` \| `([^`]+)` \|", PAGE, re.MULTILINE
)
OF_THE_CHART: Final = dict(chart.pods())
EVENTS: Final = 300


@pytest.fixture
async def cluster(postgres_server: PostgresServer, topic: Topic, bootstrap_servers: str) -> Cluster:
    """After the steps 1 to 3 of the page."""
    return await prepared(postgres_server, topic, bootstrap_servers)


def test_the_page_lists_the_pods_with_their_commands() -> None:
    commands = {
        name: " ".join(chart.container(pod)["command"]) for name, pod in OF_THE_CHART.items()
    }

    assert dict(ROWS) == commands


@pytest.mark.soak
async def test_the_chart_s_pods_take_events_to_the_page(
    cluster: Cluster, topic: Topic, producer: AIOKafkaProducer, admin: AIOKafkaAdminClient
) -> None:
    written = [cluster.settings[f"KAFKA_{kind}_TOPIC"] for kind in ("CANONICAL", "REFUSED")]
    await admin.create_topics([NewTopic(name, topic.partitions, 1) for name in written])
    jobs: dict[str, str] = {}
    async with contextlib.AsyncExitStack() as started:
        pods: dict[str, list[RunningPod]] = {}
        for name, _ in ROWS:
            if "readinessProbe" in chart.container(OF_THE_CHART[name]):
                count = 2 if name == "normalizer" else 1
                pods[name] = [
                    await started.enter_async_context(running(name, cluster)) for _ in range(count)
                ]
                await until_ready(*pods[name])
            else:
                code, jobs[name] = await run_job(name, cluster)
                assert code == 0, jobs[name]
            if name == "normalizer":
                await _store_events(cluster, topic, producer)
        checked = await run_job("normalizer", cluster, "normalizer check")
        listed = await run_job("backfill", cluster, "normalizer quarantine list")
        answers = await _ask(pods["projector"][0], cluster)
        scraped = [
            await _metrics(pod, cluster) for pod in (*pods["normalizer"], *pods["projector"])
        ]
        wrong = [
            await get(f"http://127.0.0.1:{pods[name][0].port_of('http')}/healthz", 5)
            for name in ("normalizer", "projector")
        ]
        codes = [await pod.stop() for several in pods.values() for pod in several]

    assert "applied now" in jobs["migrate"]
    assert checked[0] == 0, checked[1]
    assert listed == (0, "no records are quarantined\n")
    assert "divergent" not in jobs["verify"]
    assert f"{EVENTS} duplicate" in jobs["backfill"]
    assert answers == (401, 200, EVENTS)
    assert ["normalizer_ready 1.0" in text for text in scraped] == [True, True, False]
    assert "projector_recent_step_calls" in scraped[-1]
    assert wrong == [404, 401], "a probe of a path that is not there would pass"
    assert codes == [0, 0, 0, 0]


async def _store_events(cluster: Cluster, topic: Topic, producer: AIOKafkaProducer) -> None:
    await send(producer, topic, range(EVENTS))
    each = EVENTS // topic.partitions
    async with watching(cluster.secret["OWNER_URL"]) as watcher:
        await watcher.until_read(topic, dict.fromkeys(range(topic.partitions), each))
        assert await watcher.events() == EVENTS


async def _ask(pod: RunningPod, cluster: Cluster) -> tuple[int, int, int]:
    """Statuses without and with the token, and the number of events that the API knows."""
    address = f"http://127.0.0.1:{pod.port_of('http')}/api/v1/freshness"
    bearer = {"Authorization": f"Bearer {cluster.secret['PROJECTOR_TOKEN']}"}
    refused, _ = await fetch(address, 5)
    status, body = await fetch(address, 5, **bearer)
    return refused, status, sum(row["stored"] for row in json.loads(body)["rows"])


async def _metrics(pod: RunningPod, cluster: Cluster) -> str:
    bearer = {"Authorization": f"Bearer {cluster.secret['PROJECTOR_TOKEN']}"}
    address = f"http://127.0.0.1:{pod.port_of('http')}/metrics"
    status, body = await fetch(address, 10, **bearer)
    assert status == 200
    return body

"""Acts out under traffic what a cluster does to the chart's normalizers.

Processes stand for pods: they get the pod's command, variables, probes and grace period. The
chart's objects say what a Deployment and a drain may do at once.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaProducer

from normalizer.embedded import PostgresServer
from tests import chart
from tests.support.pods import Cluster, RunningPod, prepared, run_job, running, until_ready
from tests.support.results import PrintLine, write_results
from tests.support.service_runs import send, watching
from tests.support.stack import Topic

CHUNK: Final = 60
"""Events that are sent at once, twenty times a second."""


class Deployment:
    """A Deployment of normalizers: no pod goes before another is ready in its place."""

    def __init__(self, cluster: Cluster, exits: contextlib.AsyncExitStack) -> None:
        self.pods: list[RunningPod] = []
        self.exit_codes: list[int] = []
        self._cluster = cluster
        self._exits = exits

    async def scale(self, replicas: int) -> None:
        """Start or stop pods until there are this many."""
        while len(self.pods) < replicas:
            await self._start()
        while len(self.pods) > replicas:
            await self._stop(self.pods[-1])

    async def roll_out(self) -> None:
        """Replace each pod, as maxSurge 1 and maxUnavailable 0 ask for: a new one comes first.

        Where there are as many pods as partitions, it has to be ready without one.
        """
        for old in list(self.pods):
            await self._start()
            await self._stop(old)

    async def drain(self) -> None:
        """Evict each pod, as a budget of maxUnavailable 1 allows: first it goes, then one comes."""
        for evicted in list(self.pods):
            await self._stop(evicted)
            await self._start()

    async def _start(self) -> None:
        pod = await self._exits.enter_async_context(running("normalizer", self._cluster))
        await until_ready(pod)
        self.pods.append(pod)

    async def _stop(self, pod: RunningPod) -> None:
        self.pods.remove(pod)
        self.exit_codes.append(await pod.stop())


class Traffic:
    """Sends events to all partitions until it is stopped, and measures how long one stands."""

    def __init__(self, cluster: Cluster, topic: Topic, producer: AIOKafkaProducer) -> None:
        self.sent = 0
        self._url = cluster.secret["OWNER_URL"]
        self._topic = topic
        self._producer = producer
        self._pauses: dict[str, float] = {}
        self._phase = ""

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Send and watch inside."""
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send(ended), name="send")
            tasks.create_task(self._watch(ended), name="watch")
            try:
                yield
            finally:
                ended.set()

    @contextlib.asynccontextmanager
    async def phase(self, name: str) -> AsyncIterator[None]:
        """Measure inside under this name."""
        self._pauses[name], self._phase = 0.0, name
        yield
        self._phase = ""

    def pauses_s(self) -> dict[str, float]:
        """The longest time that one partition had no commit, by phase."""
        return dict(self._pauses)

    async def _send(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            await send(self._producer, self._topic, range(self.sent, self.sent + CHUNK))
            self.sent += CHUNK
            await _wait(ended, 0.05)

    async def _watch(self, ended: asyncio.Event) -> None:
        moved_at: dict[tuple[int, int], float] = {}
        async with watching(self._url) as watcher:
            while not ended.is_set():
                now = time.monotonic()
                at = await watcher.positions(self._topic)
                moved_at = {
                    (partition, one["next_offset"]): moved_at.get(
                        (partition, one["next_offset"]), now
                    )
                    for partition, one in at.items()
                }
                if self._phase:
                    pause_s = now - min(moved_at.values(), default=now)
                    self._pauses[self._phase] = max(self._pauses[self._phase], pause_s)
                await _wait(ended, 0.02)


async def _wait(ended: asyncio.Event, for_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(for_s):
            await ended.wait()


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("topic", [3], indirect=True)
async def test_a_rollout_scaling_and_a_drain_lose_and_double_nothing(
    postgres_server: PostgresServer,
    topic: Topic,
    bootstrap_servers: str,
    producer: AIOKafkaProducer,
    say: PrintLine,
) -> None:
    cluster = await prepared(postgres_server, topic, bootstrap_servers)
    assert (await run_job("migrate", cluster))[0] == 0
    traffic = Traffic(cluster, topic, producer)

    async with contextlib.AsyncExitStack() as exits:
        deployment = Deployment(cluster, exits)
        await deployment.scale(1)
        async with traffic.flowing():
            for name, done in (
                ("scale to three", deployment.scale(3)),
                ("a rollout of three", deployment.roll_out()),
                ("a drain of three nodes", deployment.drain()),
                ("scale back to one", deployment.scale(1)),
            ):
                async with traffic.phase(name):
                    await done
                say(f"{name}: {traffic.pauses_s()[name]:.1f} s that a partition stood, at most")
        async with watching(cluster.secret["OWNER_URL"]) as watcher:
            each = {
                p: len(range(p, traffic.sent, topic.partitions)) for p in range(topic.partitions)
            }
            await watcher.until_read(topic, each)
            stored = await watcher.events()
            positions = await watcher.positions(topic)
        await deployment.scale(0)
    verified, printed = await run_job("verify", cluster)

    assert (stored, sum(one["records"] for one in positions.values())) == (traffic.sent,) * 2
    assert set(deployment.exit_codes) == {0}
    assert verified == 0, printed
    write_results(
        "rollout",
        "make soak ARGS='-k rollout'",
        {
            "events sent, stored once": f"{traffic.sent:,}",
            "pods that were stopped, all with exit code 0": len(deployment.exit_codes),
            **{
                f"{name}: longest time that a partition stood": f"{pause_s:.1f} s"
                for name, pause_s in traffic.pauses_s().items()
            },
        },
    )


def test_the_chart_asks_for_what_is_acted_out() -> None:
    def spec(kind: str) -> dict[str, Any]:
        (one,) = (one for one in chart.objects() if chart.is_called(one, kind, "normalizer"))
        found: dict[str, Any] = one["spec"]
        return found

    assert spec("Deployment")["strategy"] == {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert spec("PodDisruptionBudget")["maxUnavailable"] == 1

"""Runs pods of deploy/helm/everything.yaml as processes: their command, variables and probes."""

import asyncio
import contextlib
import http.client
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import msgspec

from normalizer.embedded import PostgresServer
from normalizer.embedded.free_ports import find_free_port
from tests import chart
from tests.support.doc_pages import DOCS, blocks
from tests.support.stack import Topic
from tests.support.waiting import until

PORTS: Final = {"normalizer": "NORMALIZER_HTTP_PORT", "projector": "PROJECTOR_PORT"}
"""A pod has its own address. Here all share one, and each program gets another port."""


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The Secret, and the settings in which this cluster differs.

    KAFKA_TOPICS replaces the topic's name in commands too.
    """

    secret: Mapping[str, str]
    settings: Mapping[str, str]

    def command(self, pod: Mapping[str, Any]) -> list[str]:
        """The command of a pod."""
        given = {"noetl.events": self.settings.get("KAFKA_TOPICS", "noetl.events")}
        return [given.get(word, word) for word in chart.container(dict(pod))["command"]]

    def environment(self, pod: Mapping[str, Any], port: int | None) -> dict[str, str]:
        """The variables of a pod as its container sees them. Raises KeyError as a kubelet would."""
        texts = {"PATH": os.environ["PATH"]}
        for one in chart.variables(dict(pod)):
            if "value" in one:
                texts[one["name"]] = self.settings.get(one["name"], one["value"])
                continue
            reference = one["valueFrom"]["secretKeyRef"]
            if reference["key"] in self.secret or not reference.get("optional"):
                texts[one["name"]] = self.secret[reference["key"]]
        if port is not None:
            texts[PORTS[chart.container(dict(pod))["command"][0]]] = str(port)
        return texts


class RunningPod:
    """A pod's container as a process."""

    def __init__(self, pod: dict[str, Any], process: asyncio.subprocess.Process, port: int) -> None:
        self.process: Final = process
        self._pod: Final = pod
        self._port: Final = port

    async def answers(self, probe: str) -> bool:
        """Whether a probe succeeds, as a kubelet asks: its path, its port, its timeout."""
        wanted = chart.container(self._pod)[probe]
        path, port = wanted["httpGet"]["path"], self.service_port(wanted["httpGet"]["port"])
        return 200 <= await get(f"http://127.0.0.1:{port}{path}", wanted["timeoutSeconds"]) < 400

    def service_port(self, name: str) -> int:
        """Where a named port of the container is. Raises KeyError."""
        return {one["name"]: self._port for one in chart.container(self._pod)["ports"]}[name]

    async def stop(self) -> int:
        """End it like a kubelet, with a kill after the grace period. Returns its exit code."""
        grace_s = self._pod.get("terminationGracePeriodSeconds", 30)
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(grace_s):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            return await self.process.wait()


async def prepared(server: PostgresServer, topic: Topic, bootstrap_servers: str) -> Cluster:
    """Do steps 1 to 3 of docs/kubernetes.md: the logins, the topic's name, the Secret's keys."""
    typed = "".join(block.text for block in blocks("kubernetes.md"))
    (roles,) = re.findall(r"psql .* --file (\S+)", typed)
    passwords = {"WRITER_PASSWORD": secrets.token_hex(8), "READER_PASSWORD": secrets.token_hex(8)}
    owner = await server.create_database("noetl")
    child = await asyncio.create_subprocess_exec(
        *(server.bin_dir / "psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"),
        *("--dbname", owner, "--file", DOCS.parent / roles),
        env=os.environ | passwords,
    )
    assert await child.wait() == 0
    # The owner may not grant this: an administrator types what the page says of it.
    administrator = await asyncpg.connect(server.superuser_url)
    await administrator.execute("grant pg_read_all_stats to normalizer_writer")
    await administrator.close()
    place = f"127.0.0.1:{server.port}/noetl"
    made = {
        "OWNER_URL": owner,
        "WRITER_URL": f"postgresql://writer:{passwords['WRITER_PASSWORD']}@{place}",
        "READER_URL": f"postgresql://reader:{passwords['READER_PASSWORD']}@{place}",
        "PROJECTOR_TOKEN": secrets.token_hex(16),
    }
    return Cluster(
        secret={key: made[key] for key in re.findall(r"--from-literal=(\w+)=", typed)},
        settings={
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "KAFKA_TOPICS": topic.name,
            "KAFKA_CANONICAL_TOPIC": f"{topic.name}.canonical",
            "KAFKA_REJECTED_TOPIC": f"{topic.name}.rejected",
        },
    )


@contextlib.asynccontextmanager
async def running(component: str, cluster: Cluster) -> AsyncIterator[RunningPod]:
    """Start a pod that serves. At the end it's killed if it's still running."""
    pod = dict(chart.pods())[component]
    port = find_free_port(set())
    process = await _start(cluster, pod, port)
    try:
        yield RunningPod(pod, process, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_ready(*pods: RunningPod) -> None:
    """Wait until each is ready and alive. Fails if one ends."""
    for pod in pods:

        async def ready(pod: RunningPod = pod) -> bool:
            assert pod.process.returncode is None, "the pod has ended"
            return await pod.answers("readinessProbe")

        await until(ready, deadline_s=60.0)
        assert await pod.answers("livenessProbe")


async def run_job(component: str, cluster: Cluster, typed: str = "") -> tuple[int, str]:
    """Run a pod to its end, or a command in it: the exit code and what it printed."""
    pod = dict(chart.pods())[component]
    process = await _start(cluster, pod, None, typed, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()


async def get(url: str, timeout_s: float, **headers: str) -> int:
    """Return the status of a page, or 0 without an answer in time."""
    status, _ = await fetch(url, timeout_s, **headers)
    return status


async def fetch(url: str, timeout_s: float, **headers: str) -> tuple[int, str]:
    """Return the status and body of a page, with status 0 without an answer in time."""

    def ask() -> tuple[int, str]:
        parts = urlsplit(url)
        client = http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
        try:
            client.request("GET", url.removeprefix(f"http://{parts.netloc}"), headers=headers)
            answer = client.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            client.close()

    return await asyncio.to_thread(ask)


async def _start(
    cluster: Cluster,
    pod: dict[str, Any],
    port: int | None,
    typed: str = "",
    *,
    stdout: int = asyncio.subprocess.DEVNULL,
) -> asyncio.subprocess.Process:
    program, *arguments = typed.split() or cluster.command(pod)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", program, *arguments),
        env=cluster.environment(pod, port),
        stdout=stdout,
        stderr=asyncio.subprocess.STDOUT,
    )

"""Runs several service processes on one machine, restarts them, and serves their probes.

A Python process uses about one CPU core, so `normalizer run --processes 4` starts four of them.
Each is a separate `normalizer run`, and the consumer group shares the partitions among them, as it
would among processes on different machines.

The probes of all processes share one address. /metrics has the metrics of all processes, with a
label for each. /readyz fails if any process isn't ready. /livez fails if any running process fails
it.
"""

import asyncio
import contextlib
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import msgspec
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from normalizer.config.settings import Settings
from normalizer.embedded.free_ports import find_free_port
from normalizer.monitoring.probes import HttpResponse, ProbeServer, Routes
from normalizer.runtime.backoff import wait_at_most
from normalizer.runtime.child import ChildProcess, module_search_environment
from normalizer.runtime.exit_codes import FAILED, MISUSED
from normalizer.runtime.logging_setup import get_logger

_HOST: Final = "127.0.0.1"
RESTART_DELAY_S: Final = 1.0
_MAX_RESTART_DELAY_S: Final = 30.0
RESTART_DELAY_RESETS_AFTER_S: Final = 60.0
"""A process that lived this long is restarted after RESTART_DELAY_S. If it died sooner, it's
restarted later each time."""
_PROBE_TIMEOUT_S: Final = 6.0
"""Longer than a process takes to respond to a probe while its servers are unreachable."""
_GRACE_S: Final = 5.0
_FINAL_CODES: Final = frozenset((MISUSED, FAILED))
"""Exit codes that a restart doesn't fix: wrong settings, and errors that retries can't fix."""

_log: Final = get_logger()


class ServiceProcesses:
    """Several processes of the service. `run` ends after `stop`, or with a final exit code."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], arguments: Sequence[str], count: int
    ) -> None:
        """Raises ConfigurationError if it can't listen at the address of the probes."""
        self._settings = settings
        self._environ = environ
        self._name = settings.instance or f"{socket.gethostname()}-{secrets.token_hex(4)}"
        """Each process keeps its name, and so its partitions in the group, through restarts."""
        self._command = [sys.executable, "-m", "normalizer", "run", *arguments]
        self._ports = [0] * count
        """Chosen at each start, because another program may take the port of a process that ended.
        """
        self._all = range(count)
        self._children: dict[int, ChildProcess] = {}
        self._stopping = asyncio.Event()
        self._code = 0
        routes: Routes = {
            "/metrics": self._metrics,
            "/livez": lambda: self._ask_all("/livez", self._running()),
            "/readyz": lambda: self._ask_all("/readyz", self._all),
        }
        self._probes = ProbeServer(settings.http_host, settings.http_port, routes)
        self.url = self._probes.url

    async def run(self) -> int:
        """Keep all processes running until `stop` is called. Returns the exit code of the group."""
        with self._probes:
            _log.info("processes.listening", url=self.url, processes=len(self._all))
            async with asyncio.TaskGroup() as tasks:
                for number in self._all:
                    tasks.create_task(self._keep(number), name=f"process {number}")
                tasks.create_task(self._stop_all(), name="stop")
        return self._code

    def stop(self) -> None:
        """Stop every process. Returns at once."""
        self._stopping.set()

    def _running(self) -> list[int]:
        """Return the numbers of the running processes.

        Those that aren't running are being restarted.
        """
        children = [(number, self._children.get(number)) for number in self._all]
        return [number for number, child in children if child and child.returncode is None]

    async def _keep(self, number: int) -> None:
        """Run one process until the stop, and restart it whenever it dies.

        The wait before each restart grows. Without that, a process that dies right after its start
        would make the consumer group rebalance endlessly, and use up a CPU core.
        """
        wait_s = RESTART_DELAY_S
        while not self._stopping.is_set():
            begun_s = time.monotonic()
            await self._run_once(number)
            if time.monotonic() - begun_s >= RESTART_DELAY_RESETS_AFTER_S:
                wait_s = RESTART_DELAY_S
            await wait_at_most(self._stopping, wait_s)
            wait_s = min(2 * wait_s, _MAX_RESTART_DELAY_S)

    async def _run_once(self, number: int) -> None:
        """Run one process until it ends. A final exit code stops all of them."""
        try:
            child = await self._start(number)
        except OSError as error:
            # The operating system can't start another process at the moment, for example because
            # memory is short. The other processes continue, and this one is started again later.
            _log.warning("process.not_started", process=number, why=str(error))
            return
        self._children[number] = child
        if self._stopping.is_set():
            await self._stop_child(child)  # it started too late for `_stop_all`
        code = await child.wait()
        if self._stopping.is_set():
            return
        _log.warning("process.died", process=number, exit_code=code)
        if code in _FINAL_CODES:
            self._code = code
            self.stop()

    async def _start(self, number: int) -> ChildProcess:
        self._ports[number] = find_free_port({self._settings.http_port, *self._ports})
        return await ChildProcess.start(
            f"process {number}",
            self._command,
            env=self._environment(number),
            death_signal=signal.SIGTERM,
            cwd=Path.cwd(),
        )

    async def _stop_all(self) -> None:
        """Wait for the stop, then stop all processes at the same time."""
        await self._stopping.wait()
        async with asyncio.TaskGroup() as tasks:
            for number, child in self._children.items():
                tasks.create_task(self._stop_child(child), name=f"stop {number}")

    async def _stop_child(self, child: ChildProcess) -> None:
        """Stop a process, and kill it if that takes too long."""
        await child.stop(deadline_s=self._settings.stop_timeout_s + _GRACE_S)

    def _environment(self, number: int) -> dict[str, str]:
        own = {
            "NORMALIZER_HTTP_HOST": _HOST,
            "NORMALIZER_HTTP_PORT": str(self._ports[number]),
            "NORMALIZER_INSTANCE": f"{self._name}-{number}",
        }
        return {**self._environ, **module_search_environment(), **own}

    def _answers(self, path: str, numbers: Sequence[int]) -> list[tuple[int, int, bytes]]:
        """Request a path from these processes at the same time.

        Returns number, status, and body.
        """
        with ThreadPoolExecutor(len(self._all)) as pool:
            ports = [self._ports[number] for number in numbers]
            return list(pool.map(partial(_answer, path), numbers, ports))

    def _ask_all(self, path: str, numbers: Sequence[int]) -> HttpResponse:
        answers = self._answers(path, numbers)
        bodies: list[Any] = [
            msgspec.json.decode(body) if body else {"reasons": ["it does not answer"]}
            for _, _, body in answers
        ]
        good = all(status == HTTPStatus.OK for _, status, _ in answers)
        status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
        body = msgspec.json.encode({"processes": bodies}) + b"\n"
        return HttpResponse(status, "application/json", body)

    def _metrics(self) -> Collector:
        return _Merged(self._answers("/metrics", self._all))


def _answer(path: str, number: int, port: int) -> tuple[int, int, bytes]:
    connection = HTTPConnection(_HOST, port, timeout=_PROBE_TIMEOUT_S)
    try:
        with contextlib.closing(connection):
            # This format of metrics supports exemplars.
            connection.request("GET", path, headers={"Accept": "application/openmetrics-text"})
            response = connection.getresponse()
            return number, response.status, response.read()
    except (OSError, HTTPException):
        return number, HTTPStatus.SERVICE_UNAVAILABLE, b""


class _Merged(Collector):
    """The metrics of several processes together. Their label `process` is 0, 1, and so on."""

    def __init__(self, answers: Sequence[tuple[int, int, bytes]]) -> None:
        self._answers = answers

    def collect(self) -> Iterator[Family]:
        merged: dict[str, Family] = {}
        for number, _, body in filter(itemgetter(2), self._answers):
            text = body.decode()
            for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
                made = Family(family.name, family.documentation, family.type)
                into = merged.setdefault(family.name, made)
                for sample in family.samples:
                    labels = {**sample.labels, "process": str(number)}
                    into.add_sample(sample.name, labels, sample.value, exemplar=sample.exemplar)
        yield from merged.values()

"""Runs a service that can be made to hang, and a real Prometheus that evaluates the alerts."""

import asyncio
import contextlib
import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Final, Self

import msgspec

from normalizer.config.settings import Settings
from normalizer.consumer.service import Service
from normalizer.embedded.free_ports import find_free_port
from normalizer.monitoring.monitoring_server import MonitoringServer
from tests.support.probe_client import http_get
from tests.support.service_runs import until
from tests.support.stack import skip_or_fail

RULES: Final = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
HEARTBEAT_LIMIT_S: Final = 3
"""Six heartbeats: half a second would be one."""
WINDOW_S: Final = 5
"""The shortest window that holds a few scrapes, one per second."""


class ThreadedService:
    """Runs the service on its own thread and loop, so that it can hang."""

    def __init__(self, settings: Settings, *, accept_reset: bool = False) -> None:
        self._settings = settings
        self._accept_reset = accept_reset
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
        self._service = Service(self._settings, accept_reset=self._accept_reset)
        with MonitoringServer(self._settings, self._service) as monitor:
            self.url = monitor.url
            self._started.set()
            await self._service.run()


class Alerts:
    """The alerts that a Prometheus fires now, and all that it ever fired."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.seen: set[str] = set()

    async def firing(self) -> set[str]:
        status, body = await http_get(f"{self._url}/api/v1/alerts")
        assert status == 200
        alerts = body["data"]["alerts"]
        found = {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}
        self.seen |= found
        return found

    async def until_red(self, *names: str) -> None:
        """Wait until all of these fire at one time."""

        async def are_red() -> bool:
            return set(names) <= await self.firing()

        await until(are_red, self.firing)

    async def until_green(self, *names: str) -> None:
        """Wait until none of these fires, or no alert at all without names."""

        async def are_green() -> bool:
            firing = await self.firing()
            return firing.isdisjoint(names) if names else not firing

        await until(are_green, self.firing)


@contextlib.asynccontextmanager
async def prometheus(folder: Path, targets: Mapping[str, str]) -> AsyncIterator[Alerts]:
    """Run a Prometheus that scrapes `targets` (host and port by job) and evaluates alerts.yml.

    The expressions are unchanged, except that each minute in them lasts a second.
    """
    program = shutil.which("prometheus")
    if program is None:
        skip_or_fail("no prometheus: type `apt-get install prometheus`")
    (folder / "alerts.yml").write_text(_shortened(RULES.read_text()))
    (folder / "prometheus.yml").write_text(
        msgspec.yaml.encode(
            {
                "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms",
                           "scrape_timeout": "500ms"},
                "rule_files": ["alerts.yml"],
                "scrape_configs": [
                    {"job_name": job, "scrape_interval": "1s", "scrape_timeout": "1s",
                     "static_configs": [{"targets": [target]}]}
                    for job, target in targets.items()
                ],
            }
        ).decode()
    )  # fmt: skip
    port = find_free_port(set())
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
                await http_get(f"{url}/api/v1/alerts")
                return True
            return False

        await until(answers)
        yield Alerts(url)
    finally:
        child.terminate()
        await child.wait()


def _shortened(rules: str) -> str:
    """Shorten each time of a minute or longer, in `for`, windows and limits, to a sixtieth."""

    def window(written: re.Match[str]) -> str:
        return f"{written[1]}{max(int(written[2]), WINDOW_S)}s"

    def limit(written: re.Match[str]) -> str:
        # Only the heartbeat has a limit below a minute.
        return f"{written[1]} > {int(written[2]) // 60 or HEARTBEAT_LIMIT_S}"

    rules = re.sub(r"(for: \d+)m", r"\1s", rules)
    rules = re.sub(r"(\[|offset )(\d+)[mh]", window, rules)
    return re.sub(r"(seconds(?:\{[^}]*\})?\)?) > (\d+)", limit, rules)


async def probes(url: str) -> tuple[int, int, str]:
    """The status of /livez and of /readyz, and the reasons as one text."""
    alive, _ = await http_get(f"{url}/livez")
    ready, body = await http_get(f"{url}/readyz")
    return alive, ready, "; ".join(body["reasons"])


async def until_ready(url: str) -> None:
    async def ready() -> bool:
        return (await probes(url))[1] == 200

    await until(ready, lambda: probes(url))


async def until_reason(url: str, reason: str) -> None:
    """Wait until /readyz fails with this reason among others, while /livez succeeds."""

    async def given() -> bool:
        alive, ready, reasons = await probes(url)
        return (alive, ready) == (200, 503) and reason in reasons

    await until(given, lambda: probes(url))

"""Several service processes as one: they share the partitions, one that dies is started again."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import structlog

from normalizer.config.settings import Settings
from normalizer.runtime.child import ChildProcess
from normalizer.up import service_processes
from normalizer.up.service_processes import ServiceProcesses
from tests.support.feed import Feed
from tests.support.probe_client import http_get, metric_value, scrape_metrics
from tests.support.service_runs import environment, until


async def _each_claims_one(group: ServiceProcesses) -> bool:
    claimed = {
        dict(labels)["process"]: number
        for (name, labels), number in (await scrape_metrics(group.url)).items()
        if name == "normalizer_partitions" and ("state", "claimed") in labels
    }
    return claimed == {"0": 1, "1": 1}


def group_pids(group: ServiceProcesses) -> list[int]:
    """The process ids of those that run."""
    return [group._children[number].pid for number in group._running()]


@pytest.mark.parametrize("topic", [2], indirect=True)
async def test_processes_share_the_partitions_and_one_that_dies_is_started_again(
    feed: Feed,
) -> None:
    settings = feed.settings(instance="pair")
    group = ServiceProcesses(settings, environment(settings), [], 2)
    running = asyncio.create_task(group.run())
    await feed.send(range(20))
    await feed.until_owned({"pair-0", "pair-1"})
    await feed.until_read({0: 10, 1: 10})

    first, second = group_pids(group)
    os.kill(first, signal.SIGKILL)
    await until(lambda: len(group_pids(group)) == 2 and first not in group_pids(group))
    await feed.send(range(20, 40))
    await feed.until_read({0: 20, 1: 20})

    assert await feed.events() == 40
    assert second in group_pids(group)
    await until(lambda: _each_claims_one(group))
    values = await scrape_metrics(group.url)
    for number in ("0", "1"):
        assert metric_value(values, "normalizer_heartbeat_age_seconds", process=number) < 30
    status, alive = await http_get(f"{group.url}/livez")
    assert (status, len(alive["processes"])) == (200, 2)

    pids = group_pids(group)
    group.stop()

    assert await running == 0
    assert [pid for pid in pids if _is_there(pid)] == []


def test_each_process_keeps_its_name_and_no_other_group_has_it() -> None:
    names = []
    for _ in range(2):
        group = ServiceProcesses(Settings(http_port=0), {}, [], 2)
        with group._probes:
            names += [group._environment(n)["NORMALIZER_INSTANCE"] for n in (0, 1, 0, 1)]

    assert names[:2] == names[2:4]
    assert len({*names}) == 4


@pytest.mark.parametrize(("code", "is_final"), [(2, True), (3, True), (4, False), (1, False)])
async def test_an_exit_code_says_whether_a_process_is_started_again(
    code: int, *, is_final: bool
) -> None:
    group = ServiceProcesses(Settings(http_port=0), {}, [], 1)
    group._command = [sys.executable, "-c", f"raise SystemExit({code})"]
    with structlog.testing.capture_logs() as lines:
        running = asyncio.create_task(group.run())
        await until(lambda: running.done() or len(deaths(lines)) == 2)
        group.stop()
        ended = await running

    assert (ended, len(deaths(lines))) == ((code, 1) if is_final else (0, 2))


async def test_a_process_that_cannot_be_started_now_ends_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As at the limit of processes of a container: one that died is started again later."""
    monkeypatch.setattr(service_processes, "RESTART_DELAY_S", 0.1)
    group = ServiceProcesses(Settings(http_port=0), {}, [], 2)
    group._command = [sys.executable, "-c", "import time; time.sleep(60)"]
    running = asyncio.create_task(group.run())
    await until(lambda: running.done() or len(group_pids(group)) == 2)
    start, rejected = ChildProcess.start, list[str]()

    async def refuse_twice(name: str, *arguments: Any, **options: Any) -> ChildProcess:
        if len(rejected) < 2:
            rejected.append(name)
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return await start(name, *arguments, **options)

    monkeypatch.setattr(ChildProcess, "start", refuse_twice)
    first, second = group_pids(group)
    os.kill(first, signal.SIGKILL)
    await until(lambda: running.done() or (len(rejected) == 2 and len(group_pids(group)) == 2))

    assert not running.done()
    assert second in group_pids(group)
    group.stop()
    assert await running == 0


@pytest.mark.parametrize(
    ("steady_s", "waited_s"), [(60, [1, 2, 4, 8, 16, 30, 30]), (0, [1, 1, 1, 1, 1, 1, 1])]
)
async def test_a_process_that_dies_at_once_is_started_again_later_each_time(
    monkeypatch: pytest.MonkeyPatch, steady_s: int, waited_s: list[int]
) -> None:
    group = ServiceProcesses(Settings(http_port=0), {}, [], 1)
    group._command = [sys.executable, "-I", "-S", "-c", "raise SystemExit(1)"]
    waits: list[float] = []

    async def wait_at_most(_: asyncio.Event, wait_s: float) -> bool:
        waits.append(wait_s)
        if len(waits) == 7:
            group.stop()
        return False

    monkeypatch.setattr(service_processes, "wait_at_most", wait_at_most)
    monkeypatch.setattr(service_processes, "RESTART_DELAY_RESETS_AFTER_S", steady_s)

    assert await group.run() == 0
    assert waits == waited_s


def deaths(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [line for line in lines if line["event"] == "process.died"]


STAND_IN = """
import http.server, os
if os.environ["NORMALIZER_INSTANCE"] == "dies-1":
    raise SystemExit(1)
class Answer(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
try:
    server = http.server.HTTPServer(("127.0.0.1", int(os.environ["NORMALIZER_HTTP_PORT"])), Answer)
except OSError:
    raise SystemExit(2)
server.serve_forever()
"""


async def test_while_a_process_waits_for_its_next_start_the_others_are_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An orchestrator would kill them, and restart what is started again anyhow."""
    monkeypatch.setattr(service_processes, "RESTART_DELAY_S", 60)
    group = ServiceProcesses(Settings(http_port=0, instance="dies"), {}, [], 2)
    group._command = [sys.executable, "-c", STAND_IN]
    running = asyncio.create_task(group.run())

    async def the_other_answers() -> bool:
        _, body = await http_get(f"{group.url}/readyz")
        return bool(body["processes"][0] == {})

    await until(lambda: len(group._children) == 2 and len(group_pids(group)) == 1)
    await until(the_other_answers)

    assert await http_get(f"{group.url}/livez") == (200, {"processes": [{}]})
    reasons = {"reasons": ["it does not answer"]}
    assert await http_get(f"{group.url}/readyz") == (503, {"processes": [{}, reasons]})
    group.stop()
    assert await running == 0


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

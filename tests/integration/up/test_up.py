"""`normalizer up`: traffic runs, nothing of the shell is followed, nothing is left behind."""

import asyncio
import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest

from normalizer.core.rules_hash import rules_sha256
from normalizer.embedded import remove_server_folder
from normalizer.runtime.child import wait_until_pid_ended
from normalizer.runtime.native_lane import NATIVE_MODULE_NAME
from normalizer.runtime.screen import Screen
from normalizer.up.call_summary import print_call_summary
from normalizer.up.stack_files import RunningStack as StackFile
from tests.support.api_client import insert_events
from tests.support.probe_client import http_get
from tests.support.stack import Database, Stack
from tests.support.table_rows import fetch_value
from tests.support.waiting import moment, until

_STARTED = re.compile(r"Ctrl-C stops it")
_BASE = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}


class Running:
    """A `normalizer up` in a folder of its own, and what it said so far."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.said = ""

    @property
    def stack(self) -> StackFile:
        return msgspec.json.decode((self.folder / "stack.json").read_bytes(), type=StackFile)

    async def until(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """The first line from here on that matches."""
        assert self.process.stdout is not None
        async with asyncio.timeout(90):
            async for line in self.process.stdout:
                self.said += line.decode()
                if found := pattern.search(line.decode()):
                    return found
        raise AssertionError(f"it ended and said:\n{self.said}")

    async def until_events(self, at_least: int = 1) -> int:
        """The number of stored events, once there are this many."""

        async def stored() -> int:
            url = self.stack.database_url
            return int(await fetch_value(url, "select count(*) from normalizer.events"))

        return await until(stored, is_so=lambda events: events >= at_least, deadline_s=60)

    async def end(self, *signals: signal.Signals) -> int:
        """Return the exit code after these signals, and keep its last output."""
        for number in signals:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            self.said += (await self.process.stdout.read()).decode()
            return await self.process.wait()


@contextlib.asynccontextmanager
async def _up(
    folder: Path, *arguments: str, env: dict[str, str] | None = None
) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "normalizer", "up", "--folder", str(folder)),
        *arguments,
        env=_BASE | (env or {}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    running = Running(process, folder)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        assert process.stdout is not None
        await process.stdout.read()
        await process.wait()


@pytest.fixture
async def folder(stack: Stack, request: pytest.FixtureRequest) -> Path:
    """Where the database's user may go, so that nothing lies outside."""
    await stack.new_broker("unused")  # leaves the test out where there is no Kafka
    # A test that CI runs once more gets a folder of its own.
    tries = getattr(request.node, "execution_count", 1)
    return stack.folder / f"up-{abs(hash(request.node.name))}-{tries}"


async def _until_all_ended(pids: dict[str, int]) -> None:
    async with asyncio.timeout(30):
        for pid in pids.values():
            await wait_until_pid_ended(pid)


async def test_it_runs_until_sigterm_starts_a_killed_normalizer_again_and_keeps_its_rows(
    folder: Path, empty_database: Database
) -> None:
    """It doesn't use the shell's database or brokers either, and leaves nothing behind."""
    shell = {
        "DATABASE_URL": empty_database.url,
        "KAFKA_BOOTSTRAP_SERVERS": "production.invalid:9092",
        "KAFKA_TOPICS": "production.topic",
        "NORMALIZER_INSTANCE": "production-instance",
        "PGHOST": "production.invalid",
    }
    async with _up(folder, env=shell) as running:
        await running.until(_STARTED)
        rows = await running.until_events(100)
        first = running.stack
        mode = (folder / "stack.json").stat().st_mode
        environments = {
            name: Path(f"/proc/{pid}/environ").read_bytes().decode()
            for name, pid in first.pids.items()
            if name != "up"
        }
        async with httpx.AsyncClient(base_url=first.api_url or "", timeout=60) as client:
            page = await client.get("/")
            freshness = await client.get("/api/v1/freshness")
        ready, health = await http_get(f"{first.normalizer_url}/readyz")
        view = await fetch_value(
            first.database_url, "select sum(events) from projector.attempts_by_status"
        )
        os.kill(first.pids["normalizer"], signal.SIGKILL)
        await running.until(re.compile("normalizer ended .by SIGKILL., restarting it"))
        await running.until_events(rows + 200)
        async with asyncio.timeout(30):
            while running.stack.pids["normalizer"] == first.pids["normalizer"]:
                await moment()
        again = running.stack
        assert await running.end(signal.SIGTERM) == 0

    assert "finished calls" in running.said
    assert set(first.pids) == {"up", "postgres", "kafka", "projector", "normalizer", "traffic"}
    assert {name for name in first.pids if first.pids[name] != again.pids[name]} == {"normalizer"}
    assert mode & 0o077 == 0
    assert (ready, health["reasons"]) == (200, [])
    assert view > 0
    assert f"dashboard: {first.api_url}/?last=15m" in running.said
    assert page.headers["content-type"].startswith("text/html")
    assert sum(row["stored"] for row in freshness.json()["rows"]) > 0
    assert not (folder / "stack.json").exists()
    tables = await fetch_value(
        empty_database.url, "select count(*) from pg_tables where schemaname !~ '^(pg_|info)'"
    )
    assert tables == 0
    assert [
        name
        for name, environment in environments.items()
        if "production" in environment or empty_database.name in environment
    ] == []
    await _until_all_ended(again.pids)

    async with _up(folder, "--no-traffic") as running:
        await running.until(_STARTED)
        second = running.stack
        assert await running.until_events(1) >= rows + 200
        # A second signal ends everything at once, though stopping in order would take long.
        os.kill(second.pids["postgres"], signal.SIGSTOP)
        running.process.send_signal(signal.SIGINT)
        await running.until(re.compile("stopping"))
        assert await running.end(signal.SIGINT) == 130
        os.kill(second.pids["postgres"], signal.SIGCONT)

    assert second.database_url == first.database_url
    assert second.bootstrap_servers == first.bootstrap_servers
    assert not (folder / "stack.json").exists()
    await _until_all_ended(second.pids)


async def test_a_folder_of_any_name_keeps_its_rights_and_has_one_run_and_commands_that_work(
    folder: Path,
) -> None:
    odd = folder / "my wörk; $(x)"
    odd.mkdir(parents=True)
    odd.chmod(0o1777)
    async with _up(odd, "--no-kafka") as running:
        await running.until(re.compile("To query it"))
        query = (await running.until(re.compile("PGPASSFILE=.*")))[0]
        await running.until(re.compile("dashboard: "))
        has_variables = (odd / "env").exists()
        variables = (await running.until(re.compile(r"another shell: (.*)")))[1]
        await running.until(_STARTED)
        shell = await asyncio.create_subprocess_exec(
            *("/bin/bash", "-c", f"{variables} && {query} -Atc 'select 1' && echo $KAFKA_TOPICS"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        answer, _ = await shell.communicate()
        async with _up(odd) as other:
            code = await other.end()
        assert await running.end(signal.SIGTERM) == 0

    assert has_variables, "a reader of the dashboard needs them next"
    assert answer == b"1\nnoetl.events.file\n"
    assert code == 1
    assert f"(pid {running.process.pid})" in other.said
    assert odd.stat().st_mode & 0o7777 == 0o1777


async def test_it_stops_when_nobody_reads_its_lines_any_more(folder: Path) -> None:
    command = f"{sys.executable} -m normalizer up --no-kafka --folder {folder} | head -n 3"
    shell = await asyncio.create_subprocess_exec(
        *("/bin/bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"),
        env=_BASE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )

    async with asyncio.timeout(60):
        said, _ = await shell.communicate()

    assert len(said.splitlines()) == 4
    assert said.splitlines()[-1] == b"1"
    assert not (folder / "stack.json").exists()


async def test_without_java_and_out_of_the_database_users_reach_it_plays_a_file(
    folder: Path, tmp_path: Path
) -> None:
    hidden = folder / "hidden"
    hidden.mkdir(parents=True)
    hidden.chmod(0o700)
    async with _up(hidden / "state", env={"PATH": str(tmp_path)}) as running:
        await running.until(_STARTED)
        await running.until_events(1000)
        stack = running.stack
        data = Path(stack.folders["postgres"])
        code = await running.end(signal.SIGTERM)
    remove_server_folder(hidden / "state" / "postgres")

    assert code == 0
    assert stack.bootstrap_servers is None
    assert "kafka" not in stack.pids
    assert re.search(r"Java is missing.*run `apt-get install", running.said)
    assert data.is_relative_to(hidden) == (os.geteuid() != 0)
    assert not data.exists()


async def test_printed_table_counts_calls_as_the_dashboard_does(stack: Stack) -> None:
    cluster, printed = await stack.cluster("current"), io.StringIO()
    async with cluster.database() as database:
        await insert_events(database, 1_000)
        connection = await asyncpg.connect(database.admin_url)
        rows = await connection.fetch(
            "select attempts, sum(calls) from projector.call_outcomes_by_attempt group by 1"
        )
        await connection.close()

        await print_call_summary(database.admin_url, Screen(printed))

    lines = [list(map(int, line.split())) for line in printed.getvalue().splitlines()[2:]]
    assert {attempts: sum(calls) for attempts, *calls in lines} == dict(map(tuple, rows))


_LANE = """
RULES_SHA256 = {rules!r}

class Lane:
    panics = 0

    def __init__(self, *_): ...

    def read(self, records):
        return [None] * len(records)
"""


async def test_lane_that_is_built_meanwhile_is_taken_up(folder: Path, tmp_path: Path) -> None:
    lane, log = tmp_path / f"{NATIVE_MODULE_NAME}.py", folder / "normalizer.log"
    lane.write_text(_LANE.format(rules="others"))

    async def is_native() -> bool:
        return '"core":"native"' in log.read_text().replace(": ", ":")

    async with _up(folder, "--rate", "100", env={"PYTHONPATH": str(tmp_path)}) as running:
        await running.until(_STARTED)
        assert not await is_native()
        lane.write_text(_LANE.format(rules=rules_sha256()))
        await running.until(re.compile("core: native. The normalizer restarts"))
        await until(is_native)
        assert await running.end(signal.SIGTERM) == 0

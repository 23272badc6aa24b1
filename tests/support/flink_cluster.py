"""A real Flink cluster: one JobManager, and TaskManagers that a test can kill."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import yaml

from normalizer.embedded.free_ports import find_free_port
from tests.support.engines import ROOT, download_jars, python_with

FLINK: Final = ROOT / "deploy" / "flink"
_STARTS_WITHIN_S: Final = 120


class FlinkCluster:
    """Its processes; `flink` runs its client to the end."""

    def __init__(self, python: Path, home: Path, folder: Path, environ: dict[str, str]) -> None:
        self._home = home
        self._folder = folder
        self.environ = environ
        self.processes: list[subprocess.Popen[bytes]] = []
        self.python = python

    @property
    def rest(self) -> str:
        """Address of the REST API."""
        return self.environ["REST"]

    def start(self, what: str) -> subprocess.Popen[bytes]:
        """Start a `jobmanager` or a `taskmanager`."""
        with (self._folder / f"{what}-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [self._home / "bin" / f"{what}.sh", "start-foreground"],
                env=dict(self.environ), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def wait_for_slots(self, slots: int) -> None:
        """Wait until this number of slots is there, free or taken."""
        end = time.monotonic() + _STARTS_WITHIN_S
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.rest}/overview").json().get("slots-total", 0) >= slots:
                    return
            assert time.monotonic() < end, f"no {slots} slots: see {self._folder}"
            time.sleep(0.5)

    def checkpoints(self) -> dict[str, Any]:
        """What the REST API says of the checkpoints of its only job."""
        [job] = httpx.get(f"{self.rest}/jobs/overview").json()["jobs"]
        found: dict[str, Any] = httpx.get(f"{self.rest}/jobs/{job['jid']}/checkpoints").json()
        return found

    def flink(self, *arguments: str | Path, timeout_s: float) -> str:
        """Run `flink ...`; give what it printed."""
        done = subprocess.run(
            [self._home / "bin" / "flink", *arguments],
            env=dict(self.environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, timeout=timeout_s,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4_000:]
        return done.stdout

    def stop(self) -> None:
        """Kill everything that was started."""
        for process in self.processes:
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 a process with its Python workers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


@contextlib.contextmanager
def flink_cluster(
    folder: Path, *, taskmanagers: int, settings: Mapping[str, object] | None = None
) -> Iterator[FlinkCluster]:
    """A cluster with the jars of deploy/flink, and this project in its Python."""
    requirements = (FLINK / "requirements.txt").read_text().split()
    python = python_with("flink", *requirements, "--editable", str(ROOT))
    home = next(python.parents[1].glob("lib/python*/site-packages/pyflink"))
    rest = find_free_port(set())
    rpc = find_free_port({rest})
    environ = os.environ | {
        "FLINK_HOME": str(home),
        "FLINK_CONF_DIR": str(folder / "conf"),
        "FLINK_LIB_DIR": str(folder / "lib"),
        "FLINK_LOG_DIR": str(folder / "log"),
        "REST": f"http://127.0.0.1:{rest}",
    }
    for name in ("conf", "lib", "log"):
        (folder / name).mkdir(parents=True)
    for jar in (*home.glob("lib/*.jar"), *home.glob("opt/flink-python-*.jar"),
                *download_jars(FLINK / "pom.xml").glob("*.jar")):  # fmt: skip
        (folder / "lib" / jar.name).symlink_to(jar)
    for file in home.glob("conf/*.properties"):
        shutil.copy(file, folder / "conf")
    java = yaml.safe_load((home / "conf" / "config.yaml").read_text())["env"]["java"]["opts"]["all"]
    config = {
        "env.java.opts.all": java,
        "jobmanager.rpc.address": "localhost",
        "jobmanager.rpc.port": rpc,
        "jobmanager.memory.process.size": "1024m",
        "taskmanager.memory.process.size": "2560m",
        "taskmanager.memory.managed.fraction": 0.5,
        "rest.port": rest,
        "rest.address": "localhost",
        # A machine that does other things answers late.
        "pekko.ask.timeout": "120 s",
        "client.timeout": "600 s",
        "heartbeat.timeout": "180 s",
        "python.executable": str(python),
        "python.client.executable": str(python),
        **(settings or {}),
    }
    lines = [f"{name}: {msgspec.json.encode(value).decode()}\n" for name, value in config.items()]
    (folder / "conf" / "config.yaml").write_text("".join(lines))
    cluster = FlinkCluster(python, home, folder, environ)
    try:
        cluster.start("jobmanager")
        for _ in range(taskmanagers):
            cluster.start("taskmanager")
        cluster.wait_for_slots(taskmanagers)
        yield cluster
    finally:
        cluster.stop()

"""Runs the service as a process that measures its memory and the delay of its event loop.

`python -m tests.support.measured_service FILE` reads the same settings as `normalizer run`, runs
until SIGTERM, and writes its measurements to FILE every second.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from normalizer.config.environment import load_settings
from normalizer.config.settings import Settings
from normalizer.consumer.service import Service
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Normalized
from normalizer.runtime import logging_setup
from normalizer.runtime.garbage_collection import collect_garbage_rarely
from normalizer.runtime.signals import stop_on_signals
from tests.support.service_runs import environment

TICK_S: Final = 0.01
WRITTEN_EVERY_S: Final = 0.5


class Measures(msgspec.Struct, kw_only=True):
    """The greatest values so far. `lag_s` is how late a timer of the event loop ran.

    `normalize_s` is the most processor time that a record took on the loop, which a busy machine
    doesn't increase. `helper_mb` is 0 if no normalizer process was started.
    """

    lag_s: float = 0.0
    normalize_s: float = 0.0
    start_mb: float = 0.0
    peak_mb: float = 0.0
    helper_mb: float = 0.0
    rebalances: int = 0

    @property
    def added_mb(self) -> float:
        """The memory that records added to both processes."""
        return self.peak_mb - self.start_mb + self.helper_mb


@contextlib.asynccontextmanager
async def measured(settings: Settings, file: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the service as its own process, which writes its measurements to the file."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.measured_service", str(file)),
        env=environment(settings)
        | {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "NORMALIZER_CORE": "python",
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
            await child.wait()


def read(file: Path) -> Measures:
    """Read what a process has measured so far."""
    return msgspec.json.decode(file.read_bytes(), type=Measures)


async def _serve(file: Path) -> None:
    settings = load_settings(os.environ, needs=("database_url", "kafka_bootstrap_servers"))
    logging_setup.configure_logging(level="warning", log_format="json", secrets=settings.secrets())
    service = Service(settings)
    measures = Measures(start_mb=_peak_mb(os.getpid()))
    normalize = Normalizer.normalize

    def timed(self: Normalizer, record: RawRecord) -> tuple[Normalized, ...]:
        began_s = time.thread_time()
        outcomes = normalize(self, record)
        measures.normalize_s = max(measures.normalize_s, time.thread_time() - began_s)
        return outcomes

    assert settings.core == "python"
    Normalizer.normalize = timed  # type: ignore[method-assign]
    watch = asyncio.create_task(_watch(service, measures, file))
    with stop_on_signals(service.stop):
        await service.run()
    watch.cancel()


async def _watch(service: Service, measures: Measures, file: Path) -> None:
    written_at_s = 0.0
    while True:
        due_s = time.perf_counter() + TICK_S
        await asyncio.sleep(TICK_S)
        now_s = time.perf_counter()
        if service.counters.records:  # its start is not measured
            measures.lag_s = max(measures.lag_s, now_s - due_s)
        measures.rebalances = service.counters.rebalances
        if now_s - written_at_s >= WRITTEN_EVERY_S:
            written_at_s = now_s
            measures.peak_mb = _peak_mb(os.getpid())
            if not service.counters.records:
                measures.start_mb = measures.peak_mb
            if process := service.chunk_normalizer.normalizing_helper.process:
                with contextlib.suppress(OSError, StopIteration):
                    measures.helper_mb = max(measures.helper_mb, _peak_mb(process.pid))
            new = file.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(measures))
            new.replace(file)


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    collect_garbage_rarely()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(Path(sys.argv[1])))

"""Starts normalizer, projector, and traffic as child processes, each with its own environment.

The children don't inherit DATABASE_URL, KAFKA_*, and NORMALIZER_* from the shell, because the shell
may be set up for production, and the demo's traffic must never end up there.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from normalizer.embedded.embedded_errors import EmbeddedError, last_log_lines
from normalizer.embedded.free_ports import choose_and_store_ports, is_port_free
from normalizer.postgres.database import open_connection
from normalizer.runtime.child import module_search_environment
from normalizer.up.stack_files import RunningStack
from normalizer.up.supervisor import SupervisedProgram, Supervisor

FILE_REPLAY_TOPIC: Final = "noetl.events.file"
_FILE_EVENTS: Final = 50_000

_PROJECTOR: Final = "projector"
_STOP_S: Final = 8.0
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TZ")
_EPOCHS: Final = """
    select coalesce(sum(epoch), 0)
    from   normalizer.source_positions
    where  topic = $1
"""


def has_simulator() -> bool:
    """Return whether this installation can make traffic. A wheel lacks the simulator."""
    return importlib.util.find_spec("simulator") is not None


class StackProgramStarter:
    """Starts the programs with logs in `folder` and only the variables that they need."""

    def __init__(
        self,
        folder: Path,
        stack: RunningStack,
        supervisor: Supervisor,
        environ: Mapping[str, str],
    ) -> None:
        self._folder = folder
        self._stack = stack
        self._supervisor = supervisor
        passed_on = {name: environ[name] for name in _PASSED_ON if name in environ}
        self._base = {**passed_on, **module_search_environment()}
        self._service = {
            "DATABASE_URL": stack.database_url,
            "KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers or "",
            "KAFKA_TOPICS": stack.topic,
            "KAFKA_GROUP_ID": stack.group,
            "KAFKA_SESSION_TIMEOUT_MS": "6000",  # the least that a broker allows by default
            "NORMALIZER_LOG_FORMAT": "json",
            "NORMALIZER_STOP_TIMEOUT_S": "5",
        }

    async def start_normalizer(self, partitions: int) -> None:
        """Start the normalizer, and return when it has claimed every partition of the topic."""
        port = choose_and_store_ports(self._folder / "normalizer-port.json", ["normalizer"])[
            "normalizer"
        ]
        self._stack.normalizer_url = f"http://127.0.0.1:{port}"
        http = {"NORMALIZER_HTTP_PORT": str(port)}
        async with open_connection(
            self._stack.database_url, application_name="normalizer up"
        ) as connection:
            wanted = await connection.fetchval(_EPOCHS, self._stack.topic) + partitions
            program = self._program("normalizer", "run", env={**self._service, **http})
            await self._supervisor.start("normalizer", program)

            async def has_claimed() -> bool:
                return bool(await connection.fetchval(_EPOCHS, self._stack.topic) >= wanted)

            await program.wait_until_ready(has_claimed)

    async def start_projector(self) -> str:
        """Start the projector. Returns the dashboard's address once it responds."""
        port = choose_and_store_ports(self._folder / "ports.json", [_PROJECTOR])[_PROJECTOR]
        program = self._program(
            _PROJECTOR,
            *("serve", f"--port={port}"),
            env={"DATABASE_URL": self._stack.database_url},
        )
        await self._supervisor.start(_PROJECTOR, program)

        async def is_served() -> bool:
            return not is_port_free(port)

        await program.wait_until_ready(is_served)
        return f"http://127.0.0.1:{port}"

    async def start_traffic(self, *, rate: float, seed: int) -> None:
        """Start live traffic, whose event times follow the wall clock."""
        program = self._program(
            "simulator",
            *("play", "--live"),
            f"--bootstrap-servers={self._stack.bootstrap_servers}",
            f"--topic={self._stack.topic}",
            f"--rate={rate}",
            f"--seed={seed}",
        )
        await self._supervisor.start("traffic", program, may_end=True)

    async def backfill_traffic_file(self, *, seed: int, report: Callable[[str], None]) -> None:
        """Backfill the records from a file, which is written once and then reused."""
        file = self._folder / f"traffic-{seed}.ndjson"
        if not file.exists():
            report(f"writing {_FILE_EVENTS:,} events to {file}")
            await self._write(file, seed)
        program = self._program("normalizer", "backfill", "file", str(file), env=self._service)
        await self._supervisor.start("normalizer", program, may_end=True)

    async def _write(self, file: Path, seed: int) -> None:
        unfinished = file.with_suffix(".unfinished")
        writer = self._program(
            "simulator",
            *("write", str(unfinished)),
            f"--events={_FILE_EVENTS}",
            f"--topic={FILE_REPLAY_TOPIC}",
            f"--seed={seed}",
        )
        try:
            await writer.start()
            if await writer.wait() != 0:
                raise EmbeddedError(
                    "the simulator could not write the file of events:\n"
                    f"{last_log_lines(writer.log)}"
                )
        finally:
            await writer.stop()
        unfinished.rename(file)

    def _program(
        self, module: str, *arguments: str, env: Mapping[str, str] | None = None
    ) -> SupervisedProgram:
        return SupervisedProgram(
            module,
            [sys.executable, "-m", module, *arguments],
            env={**self._base, **(env or {})},
            log=self._folder / f"{module}.log",
            stop_s=_STOP_S,
        )

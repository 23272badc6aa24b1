"""Starts processes in order, restarts those that end unexpectedly, and stops them all.

If a process ends ten times within a minute, more restarts are unlikely to help. So the whole stack
stops, and prints the last lines of that process's log.
"""

import asyncio
import collections
import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from normalizer.embedded.embedded_errors import EmbeddedError, last_log_lines
from normalizer.embedded.stack_process import StackProcess
from normalizer.runtime.child import ChildProcess

_ENDS_AT_MOST: Final = 10
_WITHIN_S: Final = 60.0


class SupervisedProgram(StackProcess):
    """A program of the stack. `start` returns at once, and the caller checks when it's ready."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        log: Path,
        stop_s: float,
    ) -> None:
        super().__init__(name, log)
        self.stop_s = stop_s
        self._command = command
        self._env = env

    async def start(self) -> None:
        """Start, and return at once."""
        self._child = await ChildProcess.start(
            self.name, self._command, env=self._env, log=self.log
        )


class Supervisor:
    """The running processes. Leaving the `async with` block stops them in reverse order.

    A process that ends unexpectedly is restarted after `pause_s`.
    """

    def __init__(self, *, pause_s: float = 1.0) -> None:
        self._pause_s = pause_s
        self._processes: dict[str, StackProcess] = {}
        self._may_end: set[str] = set()
        self._stops = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stops.aclose()

    @property
    def pids_by_name(self) -> dict[str, int]:
        """Return the process ids of running processes, by name."""
        return {name: part.pid for name, part in self._processes.items()}

    async def start(self, name: str, process: StackProcess, *, may_end: bool = False) -> None:
        """Start a process, and return when it runs.

        It's stopped later even if it never gets ready.
        """
        self._processes[name] = process
        self._stops.push_async_callback(process.stop)
        if may_end:
            self._may_end.add(name)
        await process.start()

    def restart(self, name: str) -> None:
        """Make a process end. `restart_ended_processes` starts it again."""
        self._processes[name].send_signal(signal.SIGTERM)

    async def restart_ended_processes(
        self, *, report: Callable[[str], None], started_again: Callable[[], None]
    ) -> None:
        """Restart processes that end unexpectedly. Raises EmbeddedError after too many restarts."""
        async with asyncio.TaskGroup() as tasks:
            for name, part in self._processes.items():
                keeping = self._keep(part, report, started_again, may_end=name in self._may_end)
                tasks.create_task(keeping, name=f"keep {name}")

    def abort(self) -> None:
        """End everything at once, in any order and without waiting."""
        for part in reversed(self._processes.values()):
            part.abort()

    async def _keep(
        self,
        part: StackProcess,
        report: Callable[[str], None],
        started_again: Callable[[], None],
        *,
        may_end: bool,
    ) -> None:
        """Restart one process. With `may_end`, exit code 0 isn't an error.

        Ten ends within a minute are too many.
        """
        ends: collections.deque[float] = collections.deque(maxlen=_ENDS_AT_MOST)
        while True:
            code = await part.wait()
            if code == 0 and may_end:
                return
            ends.append(time.monotonic())
            if len(ends) == _ENDS_AT_MOST and ends[-1] - ends[0] < _WITHIN_S:
                raise EmbeddedError(
                    f"{part.name} ended {_ENDS_AT_MOST} times within {_WITHIN_S:.0f} s, so it is "
                    f"not restarted again. See {part.log}:\n{last_log_lines(part.log)}"
                )
            report(f"{part.name} ended ({_in_words(code)}), restarting it")
            await asyncio.sleep(self._pause_s)
            await part.start()
            started_again()


def _in_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"by {signal.Signals(-code).name}"

"""A server or program that runs as a child process and can restart."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Self

from normalizer.embedded.embedded_errors import EmbeddedError, last_log_lines
from normalizer.runtime.child import ChildProcess

READY_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.02


class StackProcess:
    """The base class of the servers and programs that run as child processes.

    A subclass implements `start`. The child runs from `start` (or `async with`) until `stop`, or
    until this process ends. `stop` sends `stop_signals` one after the other, waits `stop_s` after
    each for the child to end, and finally sends SIGKILL. `abort` sends `abort_signal` and doesn't
    wait.
    """

    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    stop_s: float = 10.0
    abort_signal: signal.Signals = signal.SIGKILL

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._child: ChildProcess | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._running().pid

    async def start(self) -> None:
        """Start it, and return when it runs. Raises EmbeddedError."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Stop it with its stop signals. Does nothing if it isn't running."""
        if self._child is not None:
            await self._child.stop(*self.stop_signals, deadline_s=self.stop_s)
            self._child = None

    async def kill(self) -> None:
        """Send SIGKILL and wait until it has ended. It can be started again."""
        await self._running().kill()
        self._child = None

    async def wait(self) -> int:
        """Wait until it ends. Returns its exit code."""
        return await self._running().wait()

    async def wait_until_ready(self, is_ready: Callable[[], Awaitable[bool]]) -> None:
        """Return when it's ready, or raise EmbeddedError with the last lines of its log."""
        child = self._running()
        state = "ended"
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while child.returncode is None:
                    if await is_ready():
                        return
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            state = f"not ready in {READY_TIMEOUT_S:.0f} s"
        await child.kill()
        self._child = None
        raise EmbeddedError(
            f"{self.name} {state}. Its log {self.log} ends with:\n{last_log_lines(self.log)}"
        )

    def abort(self) -> None:
        """End it at once without waiting. Does nothing if it isn't running."""
        if self._child is not None:
            self._child.send_signal(self.abort_signal)

    def send_signal(self, signal_number: signal.Signals) -> None:
        """Send a signal to this process only, such as SIGSTOP or SIGCONT in a test."""
        self._running().send_signal(signal_number)

    def _running(self) -> ChildProcess:
        if self._child is None:
            raise EmbeddedError(f"{self.name} is not running")
        return self._child

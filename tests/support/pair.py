"""Two concurrent normalizers, or relays, whose processes a test ends."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Self

from normalizer.config.settings import Settings
from tests.support.service_runs import process


class Pair:
    """Two processes of one group. One that ends is replaced by another."""

    def __init__(self, settings: Settings, command: str = "run") -> None:
        self._settings = settings
        self._command = command
        self._running: list[asyncio.subprocess.Process] = []
        self._exits = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        for _ in range(2):
            await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def end_one(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the signal to the older one, and wait until it has ended."""
        victim = self._running.pop(0)
        victim.send_signal(number)
        await victim.communicate()  # its pipe may be full, and then it never ends
        assert victim.returncode == (-number if number == signal.SIGKILL else 0)
        await self._start()

    @contextlib.contextmanager
    def one_frozen(self) -> Iterator[None]:
        """The older one stands still meanwhile, and is the younger one afterwards."""
        victim = self._running.pop(0)
        self._running.append(victim)
        victim.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            victim.send_signal(signal.SIGCONT)

    def all_live(self) -> bool:
        """Whether neither has ended by itself."""
        return all(one.returncode is None for one in self._running)

    async def _start(self) -> None:
        child = process(self._settings, command=self._command)
        self._running.append(await self._exits.enter_async_context(child))

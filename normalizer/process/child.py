"""A command line in, a child process out that dies with its parent, even on kill -9.

The step between is `become`: it drops root's rights, asks the kernel for a signal when the parent
dies, and becomes the command. The signal comes when the *thread* dies that started the child, so
children are started from the main thread.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

_BECOME = Path(__file__).with_name("become.py")


class Child:
    """One child process; `stop` or `kill` it, or leave the `async with` block."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        log: Path | None = None,
        owner: tuple[int, int] | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        cwd: Path = Path("/"),
    ) -> Self:
        """A started child in a session of its own: a terminal's Ctrl-C does not reach it.

        The command has its full path; `env` is its whole environment. Its output is appended to
        `log` (None: inherited); `owner` is the (uid, gid) to run as.
        """
        uid, gid = owner if owner is not None else (-1, -1)
        step = [sys.executable, "-I", "-S", _BECOME, os.getpid(), int(death_signal), uid, gid]
        with contextlib.ExitStack() as files:
            output = None if log is None else files.enter_context(log.open("ab"))
            process = await asyncio.create_subprocess_exec(
                *map(str, step),
                *map(str, command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=None if output is None else asyncio.subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        return cls(name, process)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        """Its process id, also of its session."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Its exit code, when it has ended by itself."""
        return await self._process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing happens to a child that has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, *signals: signal.Signals, deadline_s: float = 10.0) -> int:
        """Its exit code: each signal in turn (default SIGTERM) with `deadline_s`, then SIGKILL."""
        for number in signals or (signal.SIGTERM,):
            self.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline_s):
                    return await self._process.wait()
        return await self.kill()

    async def kill(self) -> int:
        """SIGKILL; its exit code."""
        self.send_signal(signal.SIGKILL)
        return await self._process.wait()


async def until_ended(pid: int) -> None:
    """Returns when that process has ended, whosever child it is; at once if it is unknown."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)

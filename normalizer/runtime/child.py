"""Starts a child process that dies with its parent, even on kill -9.

Servers and service processes that `normalizer up` and the tests start must not outlive them. So the
script `child_exec` runs first in each child. It asks the kernel to send the child a signal when its
parent dies, and then becomes the command. The kernel sends that signal as soon as the *thread* that
started the child ends, so start children from the main thread.

    async with await ChildProcess.start("sleeper", ["/bin/sleep", "60"], env={}) as child:
        ...  # the block's end stops it
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

_CHILD_EXEC = Path(__file__).with_name("child_exec.py")


class ChildProcess:
    """One child process. Call `stop` or `kill`, or leave the `async with` block."""

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
        """Start a child in a session of its own, so that Ctrl-C in a terminal doesn't reach it.

        `command` begins with the full path of the program, and `env` is the whole environment. The
        output is appended to the file `log`, or goes where our own output goes if `log` is None.
        `owner` is the (uid, gid) to run as.
        """
        uid, gid = owner if owner is not None else (-1, -1)
        step = [sys.executable, "-I", "-S", _CHILD_EXEC, os.getpid(), int(death_signal), uid, gid]
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
        """Return its process id, which is also the id of its session."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for the process to end. Returns its exit code."""
        return await self._process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal. Does nothing if the child has ended."""
        send_signal(self._process, number)

    async def stop(self, *signals: signal.Signals, deadline_s: float = 10.0) -> int:
        """Send each signal in turn (default SIGTERM), wait `deadline_s` after each, then SIGKILL.

        Returns the exit code.
        """
        for number in signals or (signal.SIGTERM,):
            self.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline_s):
                    return await self._process.wait()
        return await self.kill()

    async def kill(self) -> int:
        """Send SIGKILL. Returns the exit code."""
        self.send_signal(signal.SIGKILL)
        return await self._process.wait()


def send_signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Send a signal to a child, unless it has already ended.

    asyncio's own method first polls whether the child has ended. This poll may collect the exit
    code before the event loop does, and the event loop then reports 255 instead. So this calls
    os.kill directly.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def module_search_environment() -> dict[str, str]:
    """Return environment variables with which `python -m` imports the same modules as this process.

    Without them, it looks in the current folder first, which may have another version of a module.
    """
    return {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}


async def wait_until_pid_ended(pid: int) -> None:
    """Return when that process has ended, whether it's a child or not.

    It returns at once if there's no such process.
    """
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

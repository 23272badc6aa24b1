"""Parts of the stack: kept running, given up, stopped in the reverse order."""

import asyncio
import os
from pathlib import Path

import pytest

from normalizer.embedded import EmbeddedError
from normalizer.up.supervisor import SupervisedProgram, Supervisor

_ENV = {"PATH": os.defpath}


def _program(log: Path, script: str, name: str = "program") -> SupervisedProgram:
    return SupervisedProgram(name, ["/bin/sh", "-c", script], env=_ENV, log=log, stop_s=5.0)


async def _keep(parts: Supervisor, said: list[str], started: asyncio.Event) -> None:
    await parts.restart_ended_processes(report=said.append, started_again=started.set)


async def test_a_program_that_cannot_run_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    said: list[str] = []
    async with Supervisor(pause_s=0.0) as parts:
        await parts.start("program", _program(tmp_path / "log", "echo no such thing; exit 3"))
        with pytest.RaisesGroup(pytest.RaisesExc(EmbeddedError, match="no such thing")):
            await _keep(parts, said, asyncio.Event())

    assert said == ["program ended (exit code 3), restarting it"] * 9


async def test_a_program_deaf_to_sigterm_is_killed_after_its_deadline(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = SupervisedProgram(
        "deaf",
        ["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do :; done"],
        env=_ENV,
        log=log,
        stop_s=0.2,
    )
    async with Supervisor() as parts:
        await parts.start("deaf", program)
        pid = parts.pids_by_name["deaf"]
        async with asyncio.timeout(10):
            while not log.exists() or "ready" not in log.read_text():
                await asyncio.to_thread(os.sched_yield)

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

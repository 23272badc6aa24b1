"""Both programs end by one table of exit codes."""

import asyncio
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Never, cast

import click
import pytest
from click.testing import CliRunner

from normalizer.cli.exit_on_error import run_or_exit
from normalizer.cli.job_execution import exit_with_dry_run_result, open_diff, run_dry_run
from normalizer.cli.program import main as normalizer
from normalizer.errors import (
    BrokerUnavailableError,
    ConfigurationError,
    FatalError,
    FencedError,
    NormalizerError,
    RestartNeededError,
    StoreUnavailableError,
)
from normalizer.runtime.command_line import RootCommandGroup
from normalizer.runtime.exit_codes import (
    FAILED,
    INTERRUPTED,
    MISUSED,
    PROBLEM_FOUND,
    RESTART_NEEDED,
)
from normalizer.runtime.progress import JobProgress
from normalizer.runtime.screen import Screen
from projector.cli.command_runner import run_command
from projector.cli.commands import main as projector
from projector.maintenance.maintain import MaintainerBusyError

CODES = [
    (ConfigurationError("x"), MISUSED),
    (FatalError("x"), FAILED),
    (StoreUnavailableError("x"), FAILED),
    (BrokerUnavailableError("x"), FAILED),
    (FencedError("x", topic="t", partition=0), FAILED),
    (MaintainerBusyError("x"), FAILED),
    (RestartNeededError("x"), RESTART_NEEDED),
]


@pytest.mark.parametrize(("error", "code"), CODES, ids=[type(error).__name__ for error, _ in CODES])
def test_an_error_ends_either_program_by_the_same_code(error: NormalizerError, code: int) -> None:
    async def fail() -> Never:
        raise error

    with pytest.raises(SystemExit) as ours:
        run_or_exit(fail())
    with pytest.raises(Exception, match="x") as theirs:
        run_command(fail())

    assert ours.value.code == code
    assert getattr(theirs.value, "exit_code", None) == code


@pytest.mark.parametrize("program", ["normalizer", "projector"])
def test_a_full_disk_ends_either_program_in_words(program: str) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", program, "--help"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
        )

    assert ended.returncode == FAILED
    assert ended.stderr == b"error: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_a_stream_that_the_caller_closed_is_not_given_to_a_socket(closed: str) -> None:
    """The event loop aborts the process where a socket has the number of a standard stream."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"postgresql://127.0.0.1:{nobody.getsockname()[1]}/x"
    ended = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m normalizer jobs {closed}"],
        check=False,
        env={"PATH": os.defpath, "DATABASE_URL": url},
        capture_output=True,
    )

    assert ended.returncode == FAILED


@pytest.mark.parametrize("program", [normalizer, projector], ids=["normalizer", "projector"])
def test_an_argument_that_is_no_text_is_wrong_usage(program: click.Group) -> None:
    ended = CliRunner().invoke(program, ["wait", os.fsdecode(b"\xff:0:1")])

    assert ended.exit_code == MISUSED
    assert "'\\udcff:0:1' is not UTF-8" in ended.output


@pytest.mark.parametrize("where", ["normalizer", "projector", "docs/operate/commands.md"])
def test_help_and_the_operators_page_say_what_each_code_means(where: str) -> None:
    programs = {"normalizer": normalizer, "projector": projector}
    text = (
        CliRunner().invoke(programs[where], ["--help"]).output
        if where in programs
        else (Path(__file__).parents[3] / where).read_text()
    )
    said = " ".join(text.split())

    for code, meaning in {
        0: "done, or stopped by a signal",
        PROBLEM_FOUND: "a problem was found",
        MISUSED: "wrong usage or settings",
        FAILED: "no answer, a refused sign-in, or an error that a retry can't fix",
        RESTART_NEEDED: "the service can't continue, but a restart helps",
        INTERRUPTED: "ended at once by a signal",
    }.items():
        assert f"{code} {meaning}" in said


@pytest.mark.parametrize("signalled", [False, True])
async def test_a_dry_run_that_was_stopped_says_so(
    capsys: pytest.CaptureFixture[str], *, signalled: bool
) -> None:
    class Trial:
        async def run(self) -> None:
            if signalled:
                signal.raise_signal(signal.SIGINT)
                await asyncio.Event().wait()

        def work_progress(self) -> JobProgress:
            return JobProgress("rows", 0)

    stopped = await run_dry_run(cast("Any", Trial()), Screen(io.StringIO()))
    with pytest.raises(SystemExit) as ended:
        exit_with_dry_run_result(["3 new"], partial=stopped)

    said = capsys.readouterr()
    assert said.out == "dry run: nothing was written. It would be:\n3 new\n"
    assert ("this covers only the part that was read" in said.err) is signalled
    assert ended.value.code == (PROBLEM_FOUND if signalled else 0)


def test_a_dry_run_that_shows_nothing_leaves_no_file_of_changes(tmp_path: Path) -> None:
    changes = tmp_path / "changes.ndjson"

    with pytest.raises(SystemExit), open_diff(changes):
        raise SystemExit(MISUSED)
    assert not changes.exists()

    with open_diff(changes) as diff:
        diff.add_rejection("a record", "invalid_json")
    assert b"invalid_json" in changes.read_bytes()


@pytest.mark.parametrize("run", [run_or_exit, run_command])
def test_sigterm_is_not_lost_in_code_that_catches_everything(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    """It ends the work where that waits, as Ctrl-C does."""

    async def work() -> None:
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)

    program = RootCommandGroup(commands=[click.Command("work", callback=lambda: run(work()))])
    before = signal.getsignal(signal.SIGTERM)
    try:
        ended = CliRunner().invoke(program, ["work"])
    finally:
        signal.signal(signal.SIGTERM, before)

    assert ended.exit_code == INTERRUPTED

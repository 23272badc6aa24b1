"""Builds the image, and runs it as compose.yaml does: as nobody, with a read-only root.

It needs root, buildah, podman, and runc. If there is no base image, `make base` makes one from
Debian's packages. TEST_IMAGE_ARGS adds arguments for buildah, like `make image ARGS="..."`.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.stack import skip_or_fail

ROOT: Final = Path(__file__).parents[2]
BASE: Final = "localhost/python:3.13-slim"
ARGUMENTS: Final = os.environ.get("TEST_IMAGE_ARGS", "").split()
# The limits of open files and processes: a container's defaults may be above those of this shell.
_LOCKED_DOWN: Final = (
    *("--read-only", "--tmpfs", "/tmp", "--user", "10001", "--cap-drop", "ALL"),  # noqa: S108 - the container has its own
    *("--security-opt", "no-new-privileges", "--pids-limit", "256", "--memory", "512m"),
    *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=512:512"),
)
_PODMAN: Final = ("podman", "--runtime", "runc")


class Ended(NamedTuple):
    """The output of a container, both streams, and its exit code."""

    code: int
    said: str


class Container(NamedTuple):
    """A container that runs. This machine's servers are on its network too."""

    name: str
    child: asyncio.subprocess.Process

    async def execute(self, *command: str) -> Ended:
        """Run one more command in it."""
        return await _ended(*_PODMAN, "exec", self.name, *command)

    async def terminate(self) -> Ended:
        """Send SIGTERM to its first process, as an orchestrator does, and wait for its end."""
        await _ended(*_PODMAN, "kill", "--signal", "TERM", self.name)
        said, _ = await self.child.communicate()
        assert self.child.returncode is not None
        return Ended(self.child.returncode, said.decode())


async def build_image(name: str) -> None:
    """Build the image as `make image` does, under this name; the test is left out without tools."""
    needed = ("buildah", "podman", "runc", "debootstrap")
    if missing := [program for program in needed if shutil.which(program) is None]:
        skip_or_fail(f"type `apt-get install {' '.join(missing)}`")
    if (await _ended("buildah", "inspect", "--type", "image", BASE)).code != 0:
        made = await _ended(str(ROOT / "deploy" / "image" / "base"), BASE)
        assert made.code == 0, made.said
    built = await _ended(
        *(sys.executable, "-m", "release", "image", "--tag", name),
        *("--pull-never", "--build-arg", f"PYTHON={BASE}", *ARGUMENTS),
    )
    assert built.code == 0, built.said[-2000:]


async def image_property(name: str, template: str) -> str:
    """What `podman image inspect` says of an image."""
    inspected = await _ended(*_PODMAN, "image", "inspect", "--format", template, name)
    assert inspected.code == 0, inspected.said
    return inspected.said.strip()


async def run_to_its_end(image: str, *command: str, **variables: str) -> Ended:
    """Run one command of the image."""
    async with container(image, *command, **variables) as running:
        said, _ = await running.child.communicate()
    assert running.child.returncode is not None
    return Ended(running.child.returncode, said.decode())


@contextlib.asynccontextmanager
async def container(image: str, *command: str, **variables: str) -> AsyncIterator[Container]:
    """Start a command of the image with these variables. At the end it's killed and removed."""
    name = f"test-{secrets.token_hex(6)}"
    child = await asyncio.create_subprocess_exec(
        *(*_PODMAN, "run", "--rm", "--name", name, "--network", "host", *_LOCKED_DOWN),
        # The values come from the environment: a process list shows no password.
        *(word for variable in variables for word in ("--env", variable)),
        *(image, *command),
        env=os.environ | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Container(name, child)
    finally:
        if child.returncode is None:
            await _ended(*_PODMAN, "rm", "--force", "--time", "0", name)
            await child.communicate()


async def _ended(*command: str) -> Ended:
    child = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await child.communicate()
    assert child.returncode is not None
    return Ended(child.returncode, said.decode(errors="replace"))

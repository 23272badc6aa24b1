"""Runs the commands that a release is made with."""

import os
import subprocess
from pathlib import Path


class ReleaseError(Exception):
    """A release can't be made. The message says why."""


def run(*command: str | Path, folder: Path, given: bytes = b"", **variables: str) -> bytes:
    """Return what a command prints, run in a folder. Raises ReleaseError with its last lines."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | variables,
            input=given,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise ReleaseError(f"no {error.filename}: docs/releasing.md says what is needed") from error
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()
        said = "\n".join(lines[-20:])
        raise ReleaseError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{said}")
    return done.stdout

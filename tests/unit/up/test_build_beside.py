"""`make run` builds the native lane beside the stack, and says in one line what came of it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def _says(folder: Path, missing: str, **programs: str) -> str:
    """Return the script's message if the lane lacks this, with these programs in PATH."""
    (folder / "native").mkdir()
    shutil.copy(ROOT / "native" / "build-beside", folder / "native")
    _program(folder / ".venv" / "bin" / "python", f"echo {missing!r}")
    for name in ("dirname", "mktemp", "nice", "tail", "rm"):
        path = shutil.which(name)
        assert path is not None
        _program(folder / "bin" / name, f'exec {path} "$@"')
    for name, script in programs.items():
        _program(folder / "bin" / name, script)
    done = subprocess.run(
        [folder / "native" / "build-beside"],
        env=os.environ | {"PATH": str(folder / "bin")},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout + done.stderr


def _program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("missing", "programs", "line"),
    [
        ("", {}, ""),
        ("not installed", {}, "core: python. It reads every record."),
        ("not installed", {"cargo": "", "make": ""}, "core: the native lane is built,"),
        ("old", {"cargo": "", "make": "echo a; echo no crates; exit 1"}, "built: no crates"),
    ],
    ids=["installed", "without cargo", "built", "failed"],
)
def test_building_beside_the_stack_says_one_line(
    tmp_path: Path, missing: str, programs: dict[str, str], line: str
) -> None:
    said = _says(tmp_path, missing, **programs)

    assert line in said
    assert said.count("\n") == bool(line)

"""`make run` builds the native lane beside the stack, or says in one line why it can't."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def _says(folder: Path, python: str, **programs: str) -> str:
    """Return the script's message with this script as Python, and these programs in PATH."""
    (folder / "native").mkdir()
    shutil.copy(ROOT / "native" / "build-beside", folder / "native")
    _program(folder / ".venv" / "bin" / "python", python)
    for name in ("dirname", "mktemp", "nice", "grep", "tail", "rm"):
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


FAILING_MAKE = """
echo "error: Failed to build event-normalizer-native"
echo "  cause: The build backend returned an error"
echo "         [stderr]"
echo "         error: no matching package named pyo3 found"
echo "         Traceback (most recent call last):"
echo
echo "hint: Build failures usually indicate a problem"
echo "make: *** [Makefile:22: native] Error 1"
exit 1
"""


@pytest.mark.parametrize(
    ("python", "programs", "line"),
    [
        ("echo", {}, ""),
        ("echo not installed", {}, "core: python. It reads every record."),
        ("echo not installed", {"cargo": "", "make": ""}, ""),
        (
            "echo old",
            {"cargo": "", "make": FAILING_MAKE},
            "can't be built: error: no matching package named pyo3 found\n",
        ),
        (
            "echo old",
            {"cargo": "", "make": "echo a; echo no uv; echo make: Error 127; exit 2"},
            "can't be built: no uv\n",
        ),
        (
            "echo Traceback >&2; echo ModuleNotFoundError: msgspec >&2; exit 1",
            {"cargo": "", "make": ""},
            "core: unknown, because Python can't look: ModuleNotFoundError: msgspec\n",
        ),
    ],
    ids=["installed", "without cargo", "built", "cargo failed", "make failed", "python failed"],
)
def test_building_beside_the_stack_says_only_why_there_is_no_lane(
    tmp_path: Path, python: str, programs: dict[str, str], line: str
) -> None:
    said = _says(tmp_path, python, **programs)

    assert line in said
    assert said.count("\n") == bool(line)

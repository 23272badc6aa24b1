"""Installs engines such as ClickHouse and Flink, which the project doesn't depend on.

Each is installed once, in a separate environment that later runs use again. Only soak tests use
them.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
_KEPT: Final = Path.home() / ".cache" / "noetl-engines"
_LONGEST_S: Final = 900


def python_with(name: str, *requirements: str) -> Path:
    """A Python that has what `uv pip install` installs by these arguments."""
    place = _KEPT / name
    python, done = place / "bin" / "python", place / "installed"
    if not done.exists() or done.read_text() != "\n".join(requirements):
        uv = Path(sys.executable).with_name("uv")
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, place])
        _run([uv, "pip", "install", "--quiet", "--python", python, *requirements])
        done.write_text("\n".join(requirements))
    return python


def download_jars(pom: Path) -> Path:
    """A folder with the jars that a pom names."""
    maven = shutil.which("mvn")
    if maven is None:
        pytest.skip("needs Maven: type apt-get install maven")
    folder = _KEPT / f"{pom.parent.name}-jars"
    copy, done = folder / "pom.xml", folder / "done"
    if not done.exists() or copy.read_text() != pom.read_text():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copyfile(pom, copy)
        options = (
            f"-DoutputDirectory={folder}",
            "-DincludeScope=runtime",
            "-DexcludeTransitive=true",
        )
        _run([maven, "--quiet", "--batch-mode", "--file", pom, "dependency:copy-dependencies",
              *options])  # fmt: skip
        done.touch()
    return folder


def _run(command: Sequence[str | Path]) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        timeout=_LONGEST_S, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2_000:]

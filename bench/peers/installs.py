"""Prepares an environment of its own for each contestant, once, in a folder that is kept.

Only ordinary clients are used: uv, go and mvn. A contestant whose tools are missing, or whose
packages do not come, is left out and counted.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent
_FILES: Final = {"plain": "plain", "copying": "copying", "faststream": "faststream_app"}
_FILES_ALL: Final = _FILES | {"quix": "quix_app"}
_MAVEN: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_LONGEST_S: Final = 1_800


class LeftOut(Exception):  # noqa: N818 - it says what becomes of the contestant
    """A contestant cannot take part; the message says why."""


def prepare(program: str, folder: Path) -> list[str | Path]:
    """Give the command of a program, installed in a folder below this one. Raises LeftOut."""
    place = folder / program
    place.mkdir(parents=True, exist_ok=True)
    if program == "service":
        return [sys.executable, "-m", "normalizer", "run"]
    if program in _FILES_ALL:
        return [_python(program, place), SOURCES / "programs" / f"{_FILES_ALL[program]}.py"]
    if program == "connect":
        return _connect(place)
    binary = _go(program, place)
    return [binary, "-c", SOURCES / "bento" / "bento.yaml"] if program == "bento" else [binary]


def _python(program: str, place: Path) -> Path:
    python, done = place / "bin" / "python", place / "installed"
    requirements = SOURCES / "programs" / f"requirements-{program}.txt"
    if not done.exists() or done.read_text() != requirements.read_text():
        uv = Path(sys.executable).with_name("uv")
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, place])
        _run([uv, "pip", "install", "--quiet", "--python", python, "--requirement", requirements])
        done.write_text(requirements.read_text())
    return python


def _go(program: str, place: Path) -> Path:
    go = _tool("go")
    binary = place / "program"
    for name in ("main.go", "go.mod"):
        source, copy = SOURCES / program / name, place / name
        if not copy.exists() or (name == "main.go" and copy.read_text() != source.read_text()):
            shutil.copyfile(source, copy)
            binary.unlink(missing_ok=True)
    if not binary.exists():
        _run([go, "mod", "tidy"], place)
        _run([go, "build", "-p", "1", "-o", binary, "."], place)
    return binary


def _connect(place: Path) -> list[str | Path]:
    java, javac, maven = _tool("java"), _tool("javac"), _tool("mvn")
    jars, stub = place / "jars", place / "stub"
    if not stub.exists():
        pom = SOURCES / "connect" / "pom.xml"
        options = (f"-DoutputDirectory={jars}", "-DincludeScope=runtime")
        _run([maven, "--quiet", "--batch-mode", "--file", pom, _MAVEN, *options])
        source = SOURCES / "connect" / "AgroalConnectionProvider.java"
        _run([javac, "--release", "17", "-d", stub, source])
    log = f"-Dlog4j2.configurationFile={SOURCES / 'connect' / 'log4j2.properties'}"
    memory = ("-Xms256M", "-Xmx2G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")
    return [
        *(java, *memory, log, "-cp", f"{stub}:{jars}/*"),
        "org.apache.kafka.connect.cli.ConnectStandalone",
    ]


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise LeftOut(f"there is no {name} here")
    return found


def _run(command: Sequence[str | Path], cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_LONGEST_S,
        )
    except subprocess.TimeoutExpired as error:
        raise LeftOut(f"{Path(command[0]).name}: not ready in {_LONGEST_S} s") from error
    if done.returncode != 0:
        last = [line for line in done.stdout.splitlines() if line.strip()][-1:]
        raise LeftOut(f"{Path(command[0]).name}: {' '.join(last)[:160]}")

"""Prepares a separate environment for each program, once, in a folder that later runs use again.

It runs only ordinary clients: uv, go, and mvn. A program whose tools are missing, or whose packages
can't be downloaded, is left out and counted.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent
_FILES: Final = {"plain": "plain", "copying": "copying", "faststream": "faststream_app"}
_FILES_ALL: Final = _FILES | {"quix": "quix_app"}
_COPIED: Final = {
    "go": ("go.mod", "main.go"),
    "bento": ("go.mod", "main.go"),
    "connect": ("pom.xml", "AgroalConnectionProvider.java"),
}
_PINNED: Final = (
    re.compile(r"^([\w-]+)==([\w.]+)$", re.MULTILINE),
    re.compile(r"^\s+([\w./-]+?)(?:/v\d+)? v([\d.]+)$", re.MULTILINE),
    re.compile(r"<artifactId>([\w-]+)</artifactId><version>([\w.]+)<"),
)
"""Lines of requirements, go.mod and pom.xml."""
_MAVEN: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_LONGEST_S: Final = 1_800


class LeftOutError(Exception):
    """A contestant can't take part. The message says why."""


def prepare(program: str, folder: Path) -> list[str | Path]:
    """Return the command of a program, installed in a folder below this one.

    Raises LeftOutError.
    """
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


def versions(program: str) -> str:
    """The pinned versions that a program is installed from."""
    text = "".join(one.read_text() for one in _sources(program))
    found = [
        f"{name.rpartition('/')[2]} {number}"
        for pattern in _PINNED
        for name, number in pattern.findall(text)
    ]
    return ", ".join(found)


def _sources(program: str) -> list[Path]:
    if program in _FILES_ALL:
        return [SOURCES / "programs" / f"requirements-{program}.txt"]
    return [SOURCES / program / name for name in _COPIED[program]]


def _install(program: str, place: Path, commands: Callable[[], None]) -> None:
    """Run the commands unless this place was installed from the same sources."""
    done = place / "installed"
    wanted = "".join(source.read_text() for source in _sources(program))
    if not done.exists() or done.read_text() != wanted:
        done.unlink(missing_ok=True)
        commands()
        done.write_text(wanted)


def _python(program: str, place: Path) -> Path:
    python = place / "bin" / "python"
    (requirements,) = _sources(program)

    def commands() -> None:
        uv = Path(sys.executable).with_name("uv")
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, place])
        _run([uv, "pip", "install", "--quiet", "--python", python, "--requirement", requirements])

    _install(program, place, commands)
    return python


def _go(program: str, place: Path) -> Path:
    go = _tool("go")
    binary = place / "program"

    def commands() -> None:
        for source in _sources(program):
            shutil.copyfile(source, place / source.name)
        _run([go, "mod", "tidy"], place)
        _run([go, "build", "-p", "1", "-o", binary, "."], place)

    _install(program, place, commands)
    return binary


def _connect(place: Path) -> list[str | Path]:
    java, javac, maven = _tool("java"), _tool("javac"), _tool("mvn")
    jars, stub = place / "jars", place / "stub"

    def commands() -> None:
        shutil.rmtree(jars, ignore_errors=True)
        pom, source = _sources("connect")
        options = (f"-DoutputDirectory={jars}", "-DincludeScope=runtime")
        _run([maven, "--quiet", "--batch-mode", "--file", pom, _MAVEN, *options])
        _run([javac, "--release", "17", "-d", stub, source])

    _install("connect", place, commands)
    log = f"-Dlog4j2.configurationFile={SOURCES / 'connect' / 'log4j2.properties'}"
    memory = ("-Xms256M", "-Xmx2G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")
    return [
        *(java, *memory, log, "-cp", f"{stub}:{jars}/*"),
        "org.apache.kafka.connect.cli.ConnectStandalone",
    ]


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise LeftOutError(f"there is no {name} here")
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
        raise LeftOutError(f"{Path(command[0]).name}: not ready in {_LONGEST_S} s") from error
    if done.returncode != 0:
        last = [line for line in done.stdout.splitlines() if line.strip()][-1:]
        raise LeftOutError(f"{Path(command[0]).name}: {' '.join(last)[:160]}")

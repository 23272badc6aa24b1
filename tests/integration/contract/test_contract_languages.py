"""contract/languages: each program gives the contract's lines back, byte for byte.

A missing toolchain fails in CI and is skipped elsewhere: `.ci/run` installs all of them.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.doc_pages import blocks
from tests.support.stack import skip_or_fail

LANGUAGES: Final = Path(__file__).parents[3] / "contract" / "languages"

_PLUGIN: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def _need(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        skip_or_fail(f"no {program}: type `apt-get install {package}`")
    return found


def _run(*command: str | Path, folder: Path, **variables: str) -> None:
    subprocess.run(command, cwd=folder, check=True, timeout=300, env={**os.environ, **variables})


def _javascript(_: Path) -> tuple[str, ...]:
    return (_need("node", "nodejs"), str(LANGUAGES / "javascript" / "filter.mjs"))


def _go(folder: Path) -> tuple[str, ...]:
    go = _need("go", "golang-go")
    program = folder / "envelope"
    variables = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    _run(go, "build", "-o", program, "./filter", folder=LANGUAGES / "go", **variables)
    return (str(program),)


def _java(folder: Path) -> tuple[str, ...]:
    maven, compiler = _need("mvn", "maven"), _need("javac", "openjdk-17-jdk-headless")
    copy = (_PLUGIN, f"-DoutputDirectory={folder}")
    _run(maven, "--batch-mode", "--quiet", *copy, folder=LANGUAGES / "java")
    path = f"{folder}:{folder}/*"
    _run(compiler, "-Werror", "-cp", path, "-d", folder, "Envelope.java", folder=LANGUAGES / "java")
    return (_need("java", "openjdk-17-jre-headless"), "-cp", path, "Envelope")


@pytest.mark.parametrize("built", [_javascript, _go, _java], ids=["javascript", "go", "java"])
def test_a_program_gives_every_line_of_the_contract_back(
    built: Callable[[Path], tuple[str, ...]], tmp_path: Path
) -> None:
    command = built(tmp_path)

    done = subprocess.run(
        [sys.executable, "-m", "normalizer", "conform", "--", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    same, _, every = done.stdout.split()[:3]
    assert same == every
    assert int(same) > 1_000


def _javascript_example(folder: Path) -> tuple[str, ...]:
    shutil.copy(LANGUAGES / "javascript" / "envelope.mjs", folder)
    (folder / "main.mjs").write_text(blocks("../contract/languages/javascript.md", "js")[0].text)
    return (_need("node", "nodejs"), "main.mjs")


def _go_example(folder: Path) -> tuple[str, ...]:
    (folder / "envelope").mkdir()
    shutil.copy(LANGUAGES / "go" / "envelope.go", folder / "envelope")
    (folder / "go.mod").write_text("module example.com/noetl\n\ngo 1.19\n")
    (folder / "main.go").write_text(blocks("../contract/languages/go.md", "go")[0].text)
    return (_need("go", "golang-go"), "run", ".")


@pytest.mark.parametrize("example", [_javascript_example, _go_example], ids=["javascript", "go"])
def test_example_of_a_language_writes_a_canonical_call(
    example: Callable[[Path], tuple[str, ...]], tmp_path: Path
) -> None:
    command = example(tmp_path)

    line = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    ).stdout

    assert '"command_id":"' in line, "without one, it's no call on the dashboard"
    assert _normalized(line) == line


def _normalized(line: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "normalizer", "normalize"],
        input=line,
        capture_output=True,
        text=True,
        check=False,
    ).stdout


_WRITES: Final = """
import { Num, write } from "ENVELOPE";
const values = [1.5e-7, 0.1, -0, new Num("1.50"), "\\u2028<&>\\u001f"];
const event = {
    execution_id: 333895119839481857n, event_type: "call.done", step: "", status: "ERROR",
    context: { "\\u{1F600}": 1e21, "\\uFF5E": values },
    worker_id: null, meta: { attempts: 1 }, duration: 2,
};
console.log(write(event));
try { write({ ...event, execution_id: 7 }); } catch (error) { console.log(error.message); }
"""


def test_javascript_writes_an_event_of_its_own_as_the_library_does(tmp_path: Path) -> None:
    program = LANGUAGES / "javascript"
    script = tmp_path / "writes.mjs"
    script.write_text(_WRITES.replace("ENVELOPE", (program / "envelope.mjs").as_uri()))

    done = subprocess.run(
        [_need("node", "nodejs"), script], capture_output=True, text=True, check=True
    )

    line, rejection = done.stdout.strip("\n").split("\n")
    assert line == (
        '{"execution_id":333895119839481857,"event_type":"call.done","step":"","status":"ERROR",'
        '"context":{"\uff5e":[0.00000015,0.1,0,1.50,"\u2028<&>\\u001f"],'
        '"\U0001f600":1000000000000000000000},"worker_id":null,"meta":{"attempts":1},'
        '"duration":2.0}'
    )
    assert rejection == "execution_id: expected a BigInt, got number"
    assert _normalized(line + "\n") == line + "\n"

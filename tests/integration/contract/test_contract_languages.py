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
    java = _need("java", "openjdk-17-jre-headless")
    return (java, "-XX:TieredStopAtLevel=1", "-cp", path, "Envelope")


@pytest.fixture(scope="module", params=[_javascript, _go, _java], ids=["javascript", "go", "java"])
def command(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, ...]:
    """The program of a language, which reads lines and writes them again."""
    build: Callable[[Path], tuple[str, ...]] = request.param
    return build(tmp_path_factory.mktemp("program"))


def test_a_program_gives_every_line_of_the_contract_back(command: tuple[str, ...]) -> None:
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


_START: Final = '{"execution_id":7,"event_type":"call.done",'
_END: Final = '"step":"","status":"ERROR","context":null,"worker_id":null,"meta":{"attempts":0}'

_OK: Final = '"status":"ERROR","meta":{"attempts":0}'

_WRITTEN: Final = {
    _OK: _END,
    f'{_OK},"duration":2': f'{_END},"duration":2.0',
    f'{_OK},"duration":2e6': f'{_END},"duration":2000000.0',
    f'{_OK},"duration":1.0E-5': f'{_END},"duration":0.00001',
    f'{_OK},"duration":0.30000000000000004': f'{_END},"duration":0.30000000000000004',
    f'{_OK},"step":"unknown","worker_id":"","command_id":"","catalog_id":0': _END,
    f'{_OK},"node_type":"","parent_event_id":-1,"error":"","result":null': _END,
    f'{_OK},"error":"\\u0000\\ud800"': f'{_END},"error":"\ufffd\ufffd"',
    f'{_OK},"result":{{"\\udc00":"\\ud83d\\ude00"}}': f'{_END},"result":{{"\ufffd":"\U0001f600"}}',
    f'{_OK},"result":[1e2,1.50e1,15e-1,-0.0,1e-7]': f'{_END},"result":[100,15.0,1.5,0.0,0.0000001]',
    f'{_OK},"result":{"[" * 126}{"]" * 126}': f'{_END},"result":{"[" * 126}{"]" * 126}',
}
"""The inputs behind _START, and what is written. So the values of a program pass its writer."""


_REJECTED: Final = {
    "no execution": '{"event_type":"call.done",' + _OK,
    "execution 0": '{"execution_id":0,"event_type":"call.done",' + _OK,
    "id too large": '{"execution_id":9223372036854775808,"event_type":"call.done",' + _OK,
    "id as text": '{"execution_id":"7","event_type":"call.done",' + _OK,
    "no event_type": '{"execution_id":7,' + _OK,
    "empty event_type": '{"execution_id":7,"event_type":"",' + _OK,
    "empty status": _START + '"status":"","meta":{"attempts":0}',
    "another status of a call": _START + '"status":"DONE","meta":{"attempts":0}',
    "no meta": _START + '"status":"ERROR"',
    "meta is a list": _START + '"status":"ERROR","meta":[]',
    "no attempts": _START + '"status":"ERROR","meta":{}',
    "attempts as text": _START + '"status":"ERROR","meta":{"attempts":"0"}',
    "attempts below 0": _START + '"status":"ERROR","meta":{"attempts":-1}',
    "too many attempts": _START + '"status":"ERROR","meta":{"attempts":32768}',
    "duration below 0": f'{_START}{_OK},"duration":-0.5',
    "milliseconds": f'{_START}{_OK},"created_at":"2026-07-10T09:00:00.041Z"',
    "year 10000": f'{_START}{_OK},"created_at":"10000-07-10T09:00:00.041482Z"',
    "too deep": f'{_START}{_OK},"result":{"[" * 127}{"]" * 127}',
    "number too large": f'{_START}{_OK},"result":1e308',
    "too many digits": f'{_START}{_OK},"result":0.{"1" * 400}',
}
"""C11 of the envelope."""


def test_writer_completes_values_and_rejects_what_no_line_may_hold(
    command: tuple[str, ...],
) -> None:
    def filtered(lines: str) -> tuple[int, str]:
        done = subprocess.run(
            command, input=lines, capture_output=True, encoding="utf-8", check=False, timeout=120
        )
        return done.returncode, done.stdout

    code, written = filtered("".join(f"{_START}{raw}}}\n" for raw in _WRITTEN))
    rejected = {name: filtered(f"{raw}}}\n") for name, raw in _REJECTED.items()}

    assert (code, written.splitlines()) == (0, [f"{_START}{line}}}" for line in _WRITTEN.values()])
    assert {name: line for name, (code, line) in rejected.items() if code == 0 or line} == {}
    assert _normalized(written) == written


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


def _java_example(folder: Path) -> tuple[str, ...]:
    java, flag, *path, _ = _java(folder)
    (folder / "Main.java").write_text(blocks("../contract/languages/java.md", "java")[0].text)
    _run(_need("javac", "openjdk-17-jdk-headless"), *path, "Main.java", folder=folder)
    return (java, flag, *path, "Main")


@pytest.mark.parametrize(
    "example", [_javascript_example, _go_example, _java_example], ids=["javascript", "go", "java"]
)
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
    meta: { attempts: 1, nothing: undefined, list: [undefined] }, duration: 2,
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
        '"\U0001f600":1000000000000000000000},"worker_id":null,'
        '"meta":{"attempts":1,"list":[null]},"duration":2.0}'
    )
    assert rejection == "execution_id: expected a BigInt, got number"
    assert _normalized(line + "\n") == line + "\n"

"""contract/rust: the crate's own tests, and the crate beside the filter.

The crate is built in contract/rust/target, where the next run finds it. Without cargo these tests
are left out, and counted as such; CI has one.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from normalizer.cli.conform import described, read_cases, run_program
from normalizer.core.normalize import Normalizer
from normalizer.core.record import RawRecord
from normalizer.envelope import Envelope, to_canonical
from tests.contract import FOLDER

_normalize: Final = Normalizer().normalize
CRATE: Final = FOLDER / "rust"
CARGO: Final = shutil.which("cargo")
BUILD_S: Final = 600
"""A first build fetches and compiles seventeen crates, on a machine that others use too."""

pytestmark = [
    pytest.mark.timeout(BUILD_S),
    pytest.mark.skipif(
        CARGO is None and "CI" not in os.environ,
        reason="cargo is not here: apt-get install cargo-web rust-web-clippy",
    ),
]


def _cargo(*arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [CARGO or "cargo", *arguments],
        cwd=CRATE,
        env={name: text for name, text in os.environ.items() if name != "RUSTFLAGS"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def examples() -> Path:
    """The folder of the crate's example programs, built."""
    built = _cargo("build", "--locked", "--quiet", "--examples", "--message-format", "json")
    made = [json.loads(line).get("executable") for line in built.splitlines()]
    return Path(next(path for path in made if path)).parent


def test_the_crates_own_tests_pass() -> None:
    said = _cargo("test", "--locked", "--quiet")

    assert "test result: ok. 10 passed" in said


def test_clippy_and_rustdoc_have_nothing_to_say() -> None:
    _cargo("clippy", "--locked", "--quiet", "--all-targets", "--", "--deny", "warnings")
    _cargo("doc", "--locked", "--quiet", "--no-deps", RUSTDOCFLAGS="--deny warnings")


def test_the_crate_can_be_packaged() -> None:
    listed = _cargo("package", "--locked", "--list", "--allow-dirty").split()

    assert {"Cargo.lock", "Cargo.toml", "README.md", "src/lib.rs"} <= {*listed}
    assert [name for name in listed if name.startswith(("tests/", "target/"))] == []


def test_the_crate_conforms(examples: Path) -> None:
    differences = run_program([str(examples / "canonical")], read_cases("shapes"))

    assert ["\n".join(described(difference)) for difference in differences] == []


def test_what_each_shape_of_an_event_becomes_the_filter_says_too(examples: Path) -> None:
    lines = (FOLDER / "vectors/lines.ndjson").read_bytes()
    done = subprocess.run([examples / "reports"], input=lines, capture_output=True, check=True)
    reports = [json.loads(line) for line in done.stdout.split(b"\n") if line]

    differing = [report for report in reports if _filtered(report["report"]) != report["line"]]

    assert {report["shape"] for report in reports} == {
        *("python_server", "rust_server", "rust_worker", "executor")
    }
    assert differing == []


def _filtered(report: str) -> str:
    (told,) = _normalize(RawRecord(value=report.encode()))
    assert isinstance(told, Envelope), told
    return to_canonical(told).decode()

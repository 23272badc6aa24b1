"""contract/rust: the crate beside the filter. In the soak also the crate's own tests.

The crate is built in contract/rust/target, where the next run finds it. Without cargo these tests
are left out, and counted as such; CI has one.
"""

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from normalizer.cli.conformance import (
    ConformanceCase,
    ExpectedRejection,
    format_mismatch,
    read_cases,
    run_program,
)
from normalizer.core.decode.record_limits import MAX_RECORD_DEPTH
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, to_canonical
from normalizer.producer_models import EventEmitRequest, EventRequest, ProducerModel
from simulator.mix import Mix
from tests.contract import FOLDER, filtered, lines, vector_level
from tests.support.cargo import why_no_cargo
from tests.support.hostile_records import hostile_values
from tests.support.results import write_results
from tests.support.simulator_pipeline import simulated_log

_normalize: Final = Normalizer().normalize
CRATE: Final = FOLDER / "rust"
MILLION: Final = 1_000_000
OLDEST_MINOR: Final = 71
BUILD_S: Final = 600
"""A first build fetches and compiles seventeen crates, on a machine that others use too."""


pytestmark = [
    pytest.mark.timeout(BUILD_S),
    pytest.mark.skipif((_WHY := why_no_cargo(OLDEST_MINOR)) is not None, reason=str(_WHY)),
]

_LEAST_WORK: Final = {"CARGO_PROFILE_DEV_DEBUG": "0", "CARGO_INCREMENTAL": "0"}
"""Nobody steps through what is built here."""


def _cargo(*arguments: str, folder: Path = CRATE, **variables: str) -> str:
    done = subprocess.run(
        ["cargo", *arguments],
        cwd=folder,
        env=os.environ | _LEAST_WORK | variables,
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


@pytest.fixture(scope="module")
def reports(examples: Path) -> list[dict[str, str]]:
    """Every line of the vectors in the four shapes, and what the crate makes of each.

    Without those whose parent in the context is no number: the crate hashes no ids.
    """
    sent = "".join(f"{line}\n" for line in lines()).encode()
    done = subprocess.run([examples / "reports"], input=sent, capture_output=True, check=True)
    made = [json.loads(line) for line in done.stdout.split(b"\n") if line]
    return [one for one in made if not _has_opaque_parent(one["report"])]


@pytest.mark.soak
def test_the_crates_own_tests_pass() -> None:
    said = _cargo("test", "--locked", "--quiet")

    assert "test result: ok. 13 passed" in said


@pytest.mark.soak
def test_the_crate_is_built_by_the_oldest_compiler_that_it_names(tmp_path: Path) -> None:
    oldest = f"1.{OLDEST_MINOR}"
    if shutil.which("rustup") is None:
        pytest.skip("no rustup, which has compilers of every version")
    subprocess.run(
        ["rustup", "toolchain", "install", oldest, "--profile", "minimal"],
        capture_output=True,
        check=True,
    )

    _cargo(
        *("build", "--locked", "--quiet", "--examples"),
        RUSTUP_TOOLCHAIN=oldest,
        CARGO_TARGET_DIR=str(tmp_path),
    )


@pytest.mark.soak
@pytest.mark.skipif(
    "CI" not in os.environ and shutil.which("cargo-clippy") is None,
    reason="no clippy: apt-get install rust-web-clippy",
)
def test_clippy_and_rustdoc_have_nothing_to_say() -> None:
    _cargo("clippy", "--locked", "--quiet", "--all-targets", "--", "--deny", "warnings")
    _cargo("doc", "--locked", "--quiet", "--no-deps", RUSTDOCFLAGS="--deny warnings")


def test_the_crate_conforms(examples: Path) -> None:
    differences, _ = run_program([str(examples / "canonical")], read_cases("shapes"))

    assert ["\n".join(format_mismatch(difference)) for difference in differences] == []


def test_the_crate_reads_unjudged_events_as_the_rules_do(examples: Path) -> None:
    """Without what is far too deep, where the rules look no further, and escapes of surrogates."""
    cases = []
    for number, raw in enumerate(hostile_values(19, 3_000)):
        brackets = raw.count(b"[") + raw.count(b"{")
        if not raw.strip() or b"\n" in raw or b"\\u" in raw or brackets > MAX_RECORD_DEPTH:
            continue
        gives = filtered(raw)
        if vector_level(raw, gives) == "shapes":
            cases.append(ConformanceCase(str(number), "", raw, (_expected(gives[0]),)))

    differences, _ = run_program([str(examples / "canonical")], cases)

    assert len(cases) > 600
    assert ["\n".join(format_mismatch(difference)) for difference in differences] == []


def _expected(outcome: str | dict[str, str]) -> str | ExpectedRejection:
    return outcome if isinstance(outcome, str) else ExpectedRejection(outcome["rejected"])


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_the_lines_of_a_simulated_platform_come_back_byte_for_byte(
    examples: Path, tmp_path: Path
) -> None:
    rich = Mix(in_flight=40, mutated=0.5, odd_text=0.2, secrets=0.3, poison=0.1, colliding=0.05)
    log, _ = simulated_log(rich, 19, MILLION)
    hostile = (RawRecord(value=value) for value in hostile_values(19, 50_000))
    lines, answers = tmp_path / "lines.ndjson", tmp_path / "answers.ndjson"

    with lines.open("wb") as sink:
        for record in itertools.chain(log, hostile):
            sink.writelines(to_canonical(event) + b"\n" for event in _envelopes_in(record))
    with lines.open("rb") as given, answers.open("wb") as sink:
        subprocess.run([examples / "canonical"], stdin=given, stdout=sink, check=True)

    with lines.open("rb") as given, answers.open("rb") as back:
        differing = [pair for pair in itertools.zip_longest(given, back) if pair[0] != pair[1]]
    assert lines.stat().st_size > MILLION * 100
    assert differing[:3] == []
    with lines.open("rb") as given:
        other_lines = [each for each in map(_by_python, given) if len(set(each)) > 1]
    assert other_lines[:3] == []
    with lines.open("rb") as given:
        count = sum(1 for _ in given)
    write_results(
        "contract",
        'make soak ARGS="-k byte_for_byte"',
        {
            "lines, bytes": f"{count:,}, {lines.stat().st_size:,}",
            "other bytes by the Rust crate": len(differing),
            "other bytes by the Python library or the pydantic models": len(other_lines),
        },
    )


def test_the_filter_agrees_on_every_shape_of_an_event(
    reports: list[dict[str, str]],
) -> None:
    differing = [report for report in reports if _filtered(report["report"]) != report["line"]]

    assert {report["shape"] for report in reports} == {
        *("python_server", "rust_server", "rust_worker", "executor")
    }
    assert differing == []


@pytest.mark.soak
@pytest.mark.parametrize("model", [EventEmitRequest, EventRequest])
def test_the_python_models_agree_on_every_shape_of_an_event(
    model: type[ProducerModel], reports: list[dict[str, str]]
) -> None:
    differing = [
        report
        for report in reports
        if model.model_validate_json(report["report"]).to_canonical().decode() != report["line"]
    ]

    assert differing == []


def _has_opaque_parent(report: str) -> bool:
    (event,) = _envelopes_in(RawRecord(value=report.encode()))
    return b'"opaque_id"' in (event.coercions or b"")


def _envelopes_in(record: RawRecord) -> list[Envelope]:
    return [event for event in _normalize(record) if isinstance(event, Envelope)]


def _by_python(line: bytes) -> tuple[bytes, bytes, bytes]:
    """A line, what the library makes of it, and what a model of the Python server does."""
    (event,) = _envelopes_in(RawRecord(value=line))
    model = EventEmitRequest.model_validate_json(line)
    return line.rstrip(b"\n"), to_canonical(event), model.to_canonical()


def _filtered(report: str) -> str:
    (event,) = _normalize(RawRecord(value=report.encode()))
    assert isinstance(event, Envelope), event
    return to_canonical(event).decode()

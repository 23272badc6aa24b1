"""The records that compare the lane with Python notice small changes of its source."""

import os
import random
import re
import shutil
import subprocess
import tomllib
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from normalizer.core.raw_record import RawRecord
from simulator.mix import Mix
from tests.native.test_lane import EXTREME, ODD, simulated
from tests.support.cut_bytes import with_changed_bytes
from tests.support.hostile_records import hostile_values
from tests.support.lane_answers import write_answers
from tests.support.native_lane import NATIVE, native_module, raw_records
from tests.support.results import PrintLine, write_results
from tests.vectors.corpus import SINGLE, raw_record, read_vectors

SURVIVORS: Final = Path(__file__).parent / "survivors.toml"
"""The mutants that these records don't notice, each with the reason."""
_PLACE: Final = re.compile(r"^lane/src/(\S+?):\d+:\d+: ")


@pytest.mark.soak
@pytest.mark.timeout(24 * 3600)
def test_mutants_of_the_lane_are_noticed_or_listed_with_a_reason(
    tmp_path: Path, say: PrintLine
) -> None:
    """`LANE_MUTANTS=rules/status.rs` takes those of one file."""
    assert shutil.which("cargo-mutants"), "type: cargo install --locked cargo-mutants"
    file = os.environ.get("LANE_MUTANTS", "")
    answers = tmp_path / "answers"
    write_answers(answers, native_module(), _records())

    subprocess.run(
        [
            *("cargo", "mutants", "--package", "event-normalizer-lane", "--features", "answers"),
            *("--jobs", str(os.cpu_count()), "--timeout", "60", "--output", tmp_path),
            *("--no-shuffle", "--colors", "never", "--file", f"lane/src/{file or '**/*.rs'}"),
            *("--exclude", "lane/src/tables.rs"),
        ],
        cwd=NATIVE,
        env=os.environ | {"LANE_ANSWERS": str(answers), "CARGO_PROFILE_TEST_OPT_LEVEL": "1"},
        check=False,
    )

    found = {kind: _mutants(tmp_path, kind) for kind in ("caught", "timeout", "unviable", "missed")}
    figures = {kind: len(mutants) for kind, mutants in found.items()}
    say(str(figures))
    listed = {
        mutant: int(entry.get("times", 1))
        for mutant, entry in tomllib.loads(SURVIVORS.read_text()).items()
        if mutant.startswith(file)
    }
    assert figures["caught"] > 0
    assert Counter(found["missed"]) == Counter(listed)
    if not file:
        write_results("lane-mutants", 'make soak ARGS="-k mutants_of_the_lane"', figures)


def _mutants(output: Path, kind: str) -> list[str]:
    """The mutants that ended in this way, without lines and columns, which change often."""
    listed = (output / "mutants.out" / f"{kind}.txt").read_text()
    return [_PLACE.sub(r"\1: ", line) for line in listed.splitlines()]


def _records() -> list[RawRecord]:
    """The vectors, and records of a fixed seed."""
    rng = random.Random(7)
    vectors = [
        raw_record(vector)
        for name in SINGLE
        for vector in read_vectors(name)
        if "filter" not in vector and "redact_keys" not in vector
    ]
    sent = [*simulated(Mix(), 3_000, 7), *simulated(Mix(mutated=1.0), 2_000, 8)]
    values = [with_changed_bytes(rng.choice(sent).value or b"", rng) for _ in range(6_000)]
    return [*vectors, *sent, *raw_records([*ODD, *EXTREME, *values, *hostile_values(7, 3_000)])]

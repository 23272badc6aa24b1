"""No record makes the lane panic, or write a row without all its columns."""

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from normalizer.core.decode import wire_fields
from simulator.mix import Mix
from tests.native.test_lane import ODD, simulated
from tests.support.native_lane import NATIVE
from tests.support.results import PrintLine, write_results
from tests.vectors.corpus import SINGLE, raw_record, read_vectors

FUZZ_S: Final = int(os.environ.get("FUZZ_S", "3600"))
_COVERAGE: Final = (
    "-Cpasses=sancov-module -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks "
    "-Cllvm-args=-sanitizer-coverage-level=4 "
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters "
    "-Cllvm-args=-sanitizer-coverage-pc-table "
    "-Cllvm-args=-sanitizer-coverage-trace-compares"
)
"""What `cargo fuzz` passes too, which itself needs a compiler that is no release."""


@pytest.mark.soak
@pytest.mark.timeout(FUZZ_S + 900)
def test_fuzzed_records_make_no_panic_and_no_broken_row(tmp_path: Path, say: PrintLine) -> None:
    """An hour, or FUZZ_S seconds. Needs a C++ compiler."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, value in enumerate(_values()):
        (corpus / str(number)).write_bytes(value)
    words = {*wire_fields.READ_FIELDS, *wire_fields.NestedFields.__struct_fields__}
    dictionary = tmp_path / "words"
    dictionary.write_text("".join(f'"\\"{word}\\":"\n' for word in sorted(words)))

    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--quiet", "--target", _host()],
        cwd=NATIVE / "fuzz",
        env=os.environ | {"RUSTFLAGS": _COVERAGE},
        check=True,
    )
    done = subprocess.run(
        [
            NATIVE / "fuzz" / "target" / _host() / "release" / "read",
            *(f"-max_total_time={FUZZ_S}", "-max_len=60000", "-timeout=10", "-print_final_stats=1"),
            *(f"-dict={dictionary}", f"-artifact_prefix={tmp_path}/", corpus),
        ],
        capture_output=True,
        check=False,
    )
    said = done.stderr.decode(errors="replace")
    say(said[-2_000:])

    assert done.returncode == 0, said[-4_000:]
    write_results(
        "lane-fuzz",
        'make soak ARGS="-k fuzzed_records"',
        {"seconds": FUZZ_S, "records": said.rpartition("number_of_executed_units:")[2].split()[0]},
    )


def _values() -> list[bytes]:
    vectors = [raw_record(one).value for name in SINGLE for one in read_vectors(name)]
    sent = [record.value for record in simulated(Mix(mutated=0.2), 1_000, seed=7)]
    return [value for value in (*vectors, *sent, *ODD) if value]


def _host() -> str:
    """With a target of its own, cargo passes the flags to no build script."""
    said = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    return said.partition("host: ")[2].split()[0]

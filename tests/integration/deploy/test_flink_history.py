"""deploy/flink/history.py makes of history what the filter makes, faster with more workers.

It runs alone: `make soak ARGS="-k flink_history"`, and adds rows to docs/results.csv. With
fewer records, to try it out (SOAK_EVENTS=40000), nothing is written.
"""

import io
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import pytest

from normalizer.cli.offline_commands import normalize_lines
from normalizer.core.normalize import Normalizer
from simulator.mix import Mix
from tests.support.flink_cluster import FLINK, flink_cluster
from tests.support.results import PrintLine, write_results
from tests.support.simulator_pipeline import simulated_log

MILLION: Final = 1_000_000
EVENTS: Final = int(os.environ.get("SOAK_EVENTS", MILLION))
FILES: Final = 8


@pytest.mark.soak
@pytest.mark.timeout(5_400)
def test_flink_history_gives_the_lines_of_the_filter(tmp_path: Path, say: PrintLine) -> None:
    log, _ = simulated_log(Mix(in_flight=min(2_000, EVENTS // 100)), 1, EVENTS)
    values = [record.value for record in log if record.value and b"\n" not in record.value]
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(FILES):
        (raw / f"{number}.ndjson").write_bytes(b"\n".join(values[number::FILES]) + b"\n")
    accepted, rejected = _filtered(values)
    took_s: dict[str, float] = {}

    with flink_cluster(tmp_path / "flink", taskmanagers=2) as cluster:
        for name, workers, source, options in (
            ("warm-up", 2, raw / "0.ndjson", ()),
            ("one", 1, raw, ()),
            ("two", 2, raw, ()),
            ("parquet", 2, raw, ("--format", "parquet")),
            ("again", 2, tmp_path / "parquet" / "events", ("--input-format", "parquet")),
        ):
            began = time.monotonic()
            cluster.flink(
                "run", "--parallelism", str(workers), "--python", FLINK / "history.py",
                "--input", source, "--output", tmp_path / name, *options, timeout_s=1_800,
            )  # fmt: skip
            took_s[name] = time.monotonic() - began
            say(f"{name}: {took_s[name]:.1f} s")

    for name in ("one", "two"):
        assert _lines(tmp_path / name / "events") == accepted
        assert len(_lines(tmp_path / name / "rejected")) == rejected
    # A canonical event is its own canonical event: so Parquet lost nothing on the way out and in.
    assert _lines(tmp_path / "again" / "events") == accepted
    speed_up = took_s["one"] / took_s["two"]
    say(f"{len(values):,} records, speed-up by a second worker {speed_up:.2f}")
    if EVENTS >= MILLION:
        write_results(
            "flink-history",
            'make soak ARGS="-k flink_history"',
            {
                "lines that are not the filter's": 0,
                "one worker": f"{len(values) / took_s['one']:,.0f} records/s",
                "two workers": f"{len(values) / took_s['two']:,.0f} records/s",
                "two workers, Parquet": f"{len(values) / took_s['parquet']:,.0f} records/s",
                "speed-up by the second worker": f"{speed_up:.2f}",
            },
        )


def _filtered(values: Sequence[bytes]) -> tuple[list[bytes], int]:
    written = io.BytesIO()
    rejected = normalize_lines(io.BytesIO(b"\n".join(values) + b"\n"), written, Normalizer())
    lines = [
        line for line in written.getvalue().splitlines()
        if "quarantine" not in msgspec.json.decode(line)
    ]  # fmt: skip
    return sorted(lines), rejected


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name[0] not in "._"]


def _lines(folder: Path) -> list[bytes]:
    return sorted(line for file in _files(folder) for line in file.read_bytes().splitlines())
